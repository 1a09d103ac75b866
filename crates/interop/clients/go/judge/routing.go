package main

import (
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

func (c *testCase) bind(queue, key, exchange string, arguments amqp.Table) {
	check(c.ch.QueueBind(queue, key, exchange, false, arguments))
}

// gone is true when a passive declare on a throwaway channel answers 404.
func (c *testCase) gone(declare func(*amqp.Channel) error) bool {
	var closed *amqp.Error
	if err := declare(must(c.connections[0].Channel())); !errors.As(err, &closed) {
		check(err)
		return false
	}
	equal(closed.Code, 404)
	return true
}

func (c *testCase) queueGone() bool {
	return c.gone(func(ch *amqp.Channel) error {
		return onlyError(ch.QueueDeclarePassive(c.n, false, false, false, false, nil))
	})
}

func (c *testCase) exchangeGone() bool {
	return c.gone(func(ch *amqp.Channel) error {
		return ch.ExchangeDeclarePassive(c.n, "fanout", false, false, false, false, nil)
	})
}

var routing = []situation{
	{"bind", func(c *testCase) {
		exchange, queue := c.exchange("direct", "", nil), c.queue("", nil)
		c.bind(queue, "here", exchange, nil)
		c.publish(exchange, "here", "1")
		c.publish(exchange, "elsewhere", "2")
		equal(c.bodies(queue), "1")
		check(c.ch.QueueUnbind(queue, "here", exchange, nil))
		c.publish(exchange, "here", "3")
		equal(c.bodies(queue), "")
		check(c.ch.ExchangeDelete(exchange, false, false))
	}},
	{"last-declared-per-channel", func(c *testCase) {
		exchange, other := c.exchange("direct", "", nil), c.channel()
		c.queue(".a", nil)
		must(other.QueueDeclare(c.n+".b", false, false, true, false, nil))
		c.bind("", "", exchange, nil) // With an empty key too, the queue's name is the key.
		c.publish(exchange, c.n+".a", "for a")
		eventually(func() bool { return count(c.ch, c.n+".a") == 1 })
		equal(count(c.ch, c.n+".b"), 0)
		check(c.ch.ExchangeDelete(exchange, false, false))
	}},
	{"exclusive-gone", func(c *testCase) {
		owner := c.connect(amqp.Config{})
		must(must(owner.Channel()).QueueDeclare(c.n, false, false, true, false, nil))
		check(owner.Close())
		equal(c.queueGone(), true)
	}},
	{"auto-delete-queue", func(c *testCase) {
		must(c.ch.QueueDeclare(c.n, false, true, false, false, nil))
		c.publish("", c.n, "1")
		equal(c.bodies(c.n), "1")
		equal(c.queueGone(), false)
		check(consume(c.ch, c.n, "last"))
		check(c.ch.Cancel("last", false))
		eventually(c.queueGone)
	}},
	{"auto-delete-exchange", func(c *testCase) {
		check(c.ch.ExchangeDeclare(c.n, "fanout", false, true, false, false, nil))
		queue := c.queue("", nil)
		c.bind(queue, "", c.n, nil)
		equal(c.exchangeGone(), false)
		check(c.ch.QueueUnbind(queue, "", c.n, nil))
		eventually(c.exchangeGone)
	}},
	{"alternate-exchange", func(c *testCase) {
		alternate := c.exchange("fanout", ".alternate", nil)
		exchange := c.exchange("direct", "", amqp.Table{"alternate-exchange": alternate})
		queue, rest := c.queue("", nil), c.queue(".rest", nil)
		c.bind(queue, "k", exchange, nil)
		c.bind(rest, "", alternate, nil)
		returns := c.ch.NotifyReturn(make(chan amqp.Return, 1))
		c.publish(exchange, "k", "routed")
		check(c.ch.Publish(exchange, "other", true, false, text("unrouted")))
		c.barrier()
		equal([]any{c.bodies(queue), c.bodies(rest), len(returns)}, []any{"routed", "unrouted", 0})
		check(c.ch.ExchangeDelete(exchange, false, false))
		check(c.ch.ExchangeDelete(alternate, false, false))
	}},
	{"exchange-to-exchange", func(c *testCase) {
		source, target, queue := c.exchange("topic", ".source", nil), c.exchange("fanout", ".target", nil), c.queue("", nil)
		c.bind(queue, "", target, nil)
		check(c.ch.ExchangeBind(target, "a.#", source, false, nil))
		c.publish(source, "a.b", "1")
		c.publish(source, "b.a", "2")
		check(c.ch.ExchangeUnbind(target, "a.#", source, false, nil))
		c.publish(source, "a.b", "3")
		equal(c.bodies(queue), "1")
		check(c.ch.ExchangeDelete(source, false, false))
		check(c.ch.ExchangeDelete(target, false, false))
	}},
	{"headers-exchange", headersExchange},
	{"topic-patterns", topicPatterns},
	{"cc-bcc", func(c *testCase) {
		to, cc, bcc := c.queue(".to", nil), c.queue(".cc", nil), c.queue(".bcc", nil)
		headers := amqp.Table{"CC": []any{cc}, "BCC": []any{bcc}, "kept": int32(1)}
		check(c.ch.Publish("", to, false, false, amqp.Publishing{Headers: headers}))
		for _, queue := range []string{to, cc, bcc} {
			equal(describe(c.get(queue).Headers), describe(amqp.Table{"CC": []any{cc}, "kept": int32(1)}))
		}
	}},
}

func headersExchange(c *testCase) {
	exchange, got := c.exchange("headers", "", nil), []string{}
	matches := []string{"all", "any", "all-with-x", "any-with-x"}
	for _, match := range matches {
		wanted := amqp.Table{"x-match": match, "a": int32(1), "b": "x"}
		if strings.HasSuffix(match, "with-x") {
			wanted = amqp.Table{"x-match": match, "x-a": int32(1)}
		}
		c.bind(c.queue("."+match, nil), "", exchange, wanted)
	}
	published := []amqp.Table{{"a": int32(1), "b": "x"}, {"a": int32(1)}, {"b": "x", "c": true}, {"x-a": int32(1)}, {}}
	for number, headers := range published {
		message := amqp.Publishing{Headers: headers, Body: []byte(fmt.Sprint(number))}
		check(c.ch.Publish(exchange, "", false, false, message))
	}
	for _, match := range matches {
		got = append(got, match+": "+c.bodies(c.n+"."+match))
	}
	c.observe("%s", strings.Join(got, ", "))
	equal(strings.Join(got, ", "), "all: 0, any: 0 1 2, all-with-x: 3, any-with-x: 3")
	check(c.ch.ExchangeDelete(exchange, false, false))
}

func topicPatterns(c *testCase) {
	exchange, matched := c.exchange("topic", "", nil), map[string][]string{}
	patterns := []string{"#", "*", "a.*", "a.#", "*.b", "#.b", "a.*.c", "a.#.c", "#.#", "*.#.*", "", "a..b"}
	keys := []string{"", "a", "a.b", "a.b.c", "a.c", "b", "a.x.y.c", "a..b", "A.b"}
	for number, pattern := range patterns {
		c.bind(c.queue(fmt.Sprintf(".%d", number), nil), pattern, exchange, nil)
	}
	for number, key := range keys {
		c.publish(exchange, key, fmt.Sprint(number))
	}
	for number, pattern := range patterns {
		for _, body := range strings.Fields(c.bodies(fmt.Sprintf("%s.%d", c.n, number))) {
			matched[body] = append(matched[body], fmt.Sprintf("%q", pattern))
		}
	}
	for number, key := range keys {
		c.observe("%q matches %s", key, strings.Join(matched[fmt.Sprint(number)], " "))
	}
	equal(strings.Join(matched["3"], " "), `"#" "a.#" "a.*.c" "a.#.c" "#.#" "*.#.*"`)
	equal(strings.Join(matched["2"], " "), `"#" "a.*" "a.#" "*.b" "#.b" "#.#" "*.#.*"`)
	equal(strings.Join(matched["0"], " "), `"#" "#.#" ""`)
	check(c.ch.ExchangeDelete(exchange, false, false))
}
