package main

import (
	amqp "github.com/rabbitmq/amqp091-go"
)

// simple is an error that calls on one fresh channel provoke, n being the situation's own name.
func simple(name string, action func(ch *amqp.Channel, n string) error) situation {
	return situation{name, func(c *testCase) { check(action(c.open().ch, c.n)) }}
}

func onlyError[T any](_ T, err error) error { return err }

func get(ch *amqp.Channel, queue string) error {
	_, _, err := ch.Get(queue, false)
	return err
}

func consume(ch *amqp.Channel, queue, tag string) error {
	return onlyError(ch.Consume(queue, tag, false, false, false, false, nil))
}

func text(body string) amqp.Publishing { return amqp.Publishing{Body: []byte(body)} }

func publishTo(ch *amqp.Channel, exchange, key string) error {
	return ch.Publish(exchange, key, false, false, text("1"))
}

// failing are the situations that end a channel or a connection; expected.txt says how.
var failing = []situation{
	simple("err-no-queue", func(ch *amqp.Channel, n string) error {
		return onlyError(ch.QueueDeclarePassive(n, false, false, false, false, nil))
	}),
	simple("err-no-queue-bind", func(ch *amqp.Channel, n string) error {
		return ch.QueueBind(n, "k", "amq.direct", false, nil)
	}),
	simple("err-no-queue-consume", func(ch *amqp.Channel, n string) error { return consume(ch, n, "t") }),
	simple("err-no-queue-get", get),
	simple("err-no-previous-queue", func(ch *amqp.Channel, n string) error { return consume(ch, "", "t") }),
	simple("err-purge-missing", func(ch *amqp.Channel, n string) error { return onlyError(ch.QueuePurge(n, false)) }),
	simple("err-no-exchange", func(ch *amqp.Channel, n string) error {
		return ch.ExchangeDeclarePassive(n, "direct", false, false, false, false, nil)
	}),
	simple("err-publish-no-exchange", func(ch *amqp.Channel, n string) error { return publishTo(ch, n, "k") }),
	simple("err-invalid-arg", func(ch *amqp.Channel, n string) error {
		return onlyError(ch.QueueDeclare(n, false, false, true, false, amqp.Table{"x-expires": int32(-1)}))
	}),
	simple("err-unknown-tag", func(ch *amqp.Channel, n string) error { return ch.Ack(7, false) }),
	simple("err-unknown-tag-nack", func(ch *amqp.Channel, n string) error { return ch.Nack(7, false, true) }),
	simple("err-unknown-tag-reject", func(ch *amqp.Channel, n string) error { return ch.Reject(7, true) }),
	simple("err-reserved-queue", func(ch *amqp.Channel, n string) error {
		return onlyError(ch.QueueDeclare("amq."+n, false, false, false, false, nil))
	}),
	simple("err-reserved-exchange", func(ch *amqp.Channel, n string) error {
		return ch.ExchangeDeclare("amq."+n, "direct", false, false, false, false, nil)
	}),
	simple("err-predeclared-delete", func(ch *amqp.Channel, n string) error {
		return ch.ExchangeDelete("amq.direct", false, false)
	}),
	simple("err-default-exchange-declare", func(ch *amqp.Channel, n string) error {
		return ch.ExchangeDeclare("", "direct", false, false, false, false, nil)
	}),
	simple("err-default-exchange-delete", func(ch *amqp.Channel, n string) error {
		return ch.ExchangeDelete("", false, false)
	}),
	simple("err-unknown-exchange-type", func(ch *amqp.Channel, n string) error {
		return ch.ExchangeDeclare(n, "nosuch", false, false, false, false, nil)
	}),
	simple("err-immediate", func(ch *amqp.Channel, n string) error {
		return ch.Publish("amq.direct", n, false, true, text("1"))
	}),
	simple("err-recover-norequeue", func(ch *amqp.Channel, n string) error { return ch.Recover(false) }),
	simple("err-prefetch-size", func(ch *amqp.Channel, n string) error { return ch.Qos(0, 1, false) }),
	simple("err-flow-inactive", func(ch *amqp.Channel, n string) error { return ch.Flow(false) }),
	simple("err-user-id", func(ch *amqp.Channel, n string) error {
		return ch.Publish("amq.direct", n, false, false, amqp.Publishing{UserId: "mallory"})
	}),
	simple("err-invalid-expiration", func(ch *amqp.Channel, n string) error {
		return ch.Publish("amq.direct", n, false, false, amqp.Publishing{Expiration: "soon"})
	}),
	simple("err-reply-to-no-consumer", func(ch *amqp.Channel, n string) error {
		return ch.Publish("", n, false, false, amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to"})
	}),
	simple("err-commit-without-tx", func(ch *amqp.Channel, n string) error { return ch.TxCommit() }),
	{"err-bad-login", func(c *testCase) {
		c.connect(amqp.Config{SASL: []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "wrong"}}})
	}},
	{"err-vhost-missing", func(c *testCase) { c.connect(amqp.Config{Vhost: "nowhere"}) }},
	{"err-no-exchange-bind", func(c *testCase) {
		queue := c.open().queue(".queue", nil)
		check(c.ch.QueueBind(queue, "k", c.n, false, nil))
	}},
	{"err-locked", func(c *testCase) {
		c.open().queue("", nil)
		other := c.watched(c.connect(amqp.Config{}))
		must(other.QueueDeclare(c.n, false, false, true, false, nil))
	}},
	{"err-locked-consume", func(c *testCase) {
		c.open().queue("", nil)
		check(consume(c.watched(c.connect(amqp.Config{})), c.n, "t"))
	}},
	{"err-inequivalent-arg", func(c *testCase) {
		c.open().queue("", nil)
		c.queue("", amqp.Table{"x-message-ttl": int32(1000)})
	}},
	{"err-inequivalent-flag", func(c *testCase) {
		must(c.open().ch.QueueDelete(c.n, false, false, false))
		must(c.ch.QueueDeclare(c.n, false, true, false, false, nil))
		must(c.ch.QueueDeclare(c.n, true, true, false, false, nil))
	}},
	{"err-inequivalent-exchange", func(c *testCase) {
		c.open().exchange("direct", "", nil)
		check(c.ch.ExchangeDeclare(c.n, "fanout", false, false, false, false, nil))
	}},
	{"err-double-ack", func(c *testCase) {
		queue := c.open().queue("", nil)
		c.publish("", queue, "1")
		tag := c.get(queue).DeliveryTag
		check(c.ch.Ack(tag, false))
		check(c.ch.Ack(tag, false))
	}},
	{"err-default-exchange-bind", func(c *testCase) {
		queue := c.open().queue("", nil)
		check(c.ch.QueueBind(queue, "k", "", false, nil))
	}},
	{"err-internal-exchange", func(c *testCase) {
		check(c.open().ch.ExchangeDelete(c.n, false, false))
		check(c.ch.ExchangeDeclare(c.n, "fanout", false, false, true, false, nil))
		c.publish(c.n, "", "1")
	}},
	{"err-exclusive-consumer", func(c *testCase) {
		queue := c.open().queue("", nil)
		must(c.channel().Consume(queue, "first", false, true, false, false, nil))
		check(consume(c.ch, queue, "second"))
	}},
	{"err-reuse-consumer-tag", func(c *testCase) {
		queue := c.open().queue("", nil)
		check(consume(c.ch, queue, c.n))
		check(consume(c.ch, queue, c.n))
	}},
	{"err-in-use", func(c *testCase) {
		queue := c.open().queue("", nil)
		check(consume(c.ch, queue, "t"))
		must(c.ch.QueueDelete(queue, true, false, false))
	}},
	{"err-not-empty", func(c *testCase) {
		queue := c.open().queue("", nil)
		c.publish("", queue, "1")
		must(c.ch.QueueDelete(queue, false, true, false))
	}},
	{"err-exchange-in-use", func(c *testCase) {
		exchange := c.open().exchange("fanout", "", nil)
		check(c.ch.QueueBind(c.queue("", nil), "", exchange, false, nil))
		check(c.ch.ExchangeDelete(exchange, true, false))
	}},
	{"err-tx-then-confirm", func(c *testCase) {
		check(c.open().ch.Tx())
		check(c.ch.Confirm(false))
	}},
	{"err-confirm-then-tx", func(c *testCase) {
		check(c.open().ch.Confirm(false))
		check(c.ch.Tx())
	}},
}
