package main

import (
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func (c *testCase) subscribe(queue, tag string, autoAck bool, arguments amqp.Table) <-chan amqp.Delivery {
	return must(c.ch.Consume(queue, tag, autoAck, false, false, false, arguments))
}

var delivery = []situation{
	{"consume", func(c *testCase) {
		queue := c.queue("", nil)
		for number := 0; number < 10; number++ {
			check(c.ch.Publish("", queue, false, false, amqp.Publishing{
				Headers: amqp.Table{"a": int32(1)}, ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: 1,
				Priority: 5, CorrelationId: "c", ReplyTo: "r", Expiration: "60000", MessageId: "m",
				Timestamp: time.Unix(1700000000, 0), Type: "t", UserId: "guest", AppId: "app",
				Body: []byte(fmt.Sprint(number)),
			}))
		}
		for number, d := range collect(c.subscribe(queue, "mine", true, nil), 10) {
			equal([]any{string(d.Body), d.DeliveryTag}, []any{number, number + 1})
			equal([]any{d.Exchange, d.RoutingKey, d.Redelivered, d.ConsumerTag}, []any{"", queue, false, "mine"})
			equal([]any{d.Headers, d.ContentType, d.ContentEncoding, d.DeliveryMode, d.Priority, d.CorrelationId,
				d.ReplyTo, d.Expiration, d.MessageId, d.Timestamp.Unix(), d.Type, d.UserId, d.AppId},
				[]any{"map[a:1]", "text/plain", "utf-8", 1, 5, "c", "r", "60000", "m", 1700000000, "t", "guest", "app"})
		}
		check(c.ch.Cancel("mine", false))
	}},
	{"cancel-unknown", func(c *testCase) {
		check(c.ch.Cancel("never-existed", false))
		c.barrier()
	}},
	{"direct-reply-to", func(c *testCase) {
		queue, server := c.queue("", nil), c.channel()
		answers := c.subscribe("amq.rabbitmq.reply-to", "reply", true, nil)
		request := amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to", CorrelationId: "7"}
		check(c.ch.Publish("", queue, false, false, request))
		c.barrier()
		received, _, err := server.Get(queue, true)
		check(err)
		equal(strings.HasPrefix(received.ReplyTo, "amq.rabbitmq.reply-to."), true)
		check(server.Publish("", received.ReplyTo, false, false, amqp.Publishing{CorrelationId: "7", Body: []byte("pong")}))
		answer := collect(answers, 1)[0]
		equal([]string{string(answer.Body), answer.CorrelationId}, []string{"pong", "7"})
	}},
	{"consumer-priority", func(c *testCase) {
		queue := c.queue("", nil)
		low := c.subscribe(queue, "low", true, nil)
		high := c.subscribe(queue, "high", true, amqp.Table{"x-priority": int32(10)})
		c.publish("", queue, strings.Split("1 2 3 4 5 6 7 8 9 10", " ")...)
		collect(high, 10)
		equal(len(low), 0)
	}},
	{"prefetch-consumer", func(c *testCase) {
		queue := c.queue("", nil)
		c.publish("", queue, "1", "2", "3", "4", "5")
		check(c.ch.Qos(2, 0, false))
		deliveries := c.subscribe(queue, "limited", false, nil)
		collect(deliveries, 2)
		check(c.ch.Ack(2, true))
		collect(deliveries, 2)
	}},
	{"prefetch-global", func(c *testCase) {
		queue, all := c.queue("", nil), make(chan amqp.Delivery)
		c.publish("", queue, "1", "2", "3", "4", "5", "6")
		check(c.ch.Qos(3, 0, true))
		for _, tag := range []string{"one", "two"} {
			deliveries := c.subscribe(queue, tag, false, nil)
			go func() {
				for delivery := range deliveries {
					all <- delivery
				}
			}()
		}
		collect(all, 3)
	}},
	{"prefetch-change", func(c *testCase) {
		queue := c.queue("", nil)
		c.publish("", queue, "1", "2", "3", "4", "5", "6")
		check(c.ch.Qos(1, 0, false))
		deliveries := c.subscribe(queue, "one", false, nil)
		collect(deliveries, 1)
		check(c.ch.Qos(5, 0, false))
		time.Sleep(100 * time.Millisecond)
		c.observe("%d outstanding after qos(1), consume, qos(5)", 1+len(deliveries))
		collect(deliveries, 0) // basic.qos(global=false) is for consumers to come.
	}},
	{"cancel-notify", func(c *testCase) {
		queue := c.queue("", nil)
		cancelled := c.ch.NotifyCancel(make(chan string, 1))
		c.subscribe(queue, "gone", false, nil)
		must(c.channel().QueueDelete(queue, false, false, false))
		equal(<-cancelled, "gone")
	}},
	{"requeue-order", func(c *testCase) {
		queue, tags := c.queue("", nil), []uint64{}
		c.publish("", queue, "1", "2", "3", "4", "5", "6")
		for range []int{1, 2, 3, 4, 5} {
			tags = append(tags, c.get(queue).DeliveryTag)
		}
		for _, index := range []int{2, 0, 4, 3, 1} {
			check(c.ch.Nack(tags[index], false, true))
		}
		for number := 1; number <= 6; number++ {
			message := c.get(queue)
			equal([]any{string(message.Body), message.Redelivered}, []any{number, number < 6})
		}
	}},
	{"recover-requeue", func(c *testCase) {
		queue := c.queue("", nil)
		c.publish("", queue, "1", "2")
		c.get(queue)
		c.get(queue)
		check(c.ch.Recover(true))
		for number := 1; number <= 2; number++ {
			message := c.get(queue)
			equal([]any{string(message.Body), message.Redelivered}, []any{number, true})
		}
	}},
	{"redelivered-after-close", func(c *testCase) {
		must(c.ch.QueueDelete(c.n, false, false, false))
		must(c.ch.QueueDeclare(c.n, true, false, false, false, nil))
		c.publish("", c.n, "1")
		c.barrier()
		holder := c.connect(amqp.Config{})
		held, _, err := must(holder.Channel()).Get(c.n, false)
		check(err)
		equal(held.Redelivered, false)
		check(holder.Close())
		eventually(func() bool {
			message, ok, err := c.ch.Get(c.n, true)
			check(err)
			return ok && message.Redelivered
		})
		must(c.ch.QueueDelete(c.n, false, false, false))
	}},
	{"tx-commit", func(c *testCase) {
		queue, observer := c.queue("", nil), c.channel()
		c.publish("", queue, "0")
		c.barrier()
		check(c.ch.Tx())
		held := c.get(queue)
		c.publish("", queue, "1", "2")
		check(held.Ack(false))
		equal(count(observer, queue), 0)
		check(c.ch.TxCommit())
		eventually(func() bool { return count(observer, queue) == 2 })
		check(c.ch.Recover(true))
		equal(c.bodies(queue), "1 2")
	}},
	{"tx-rollback", func(c *testCase) {
		queue := c.queue("", nil)
		c.publish("", queue, "0")
		c.barrier()
		check(c.ch.Tx())
		check(c.get(queue).Ack(false))
		c.publish("", queue, "1")
		check(c.ch.TxRollback())
		equal(count(c.ch, queue), 0)
		check(c.ch.Recover(true)) // The ack was rolled back as well: the message is still ours to requeue.
		equal(c.bodies(queue), "0")
	}},
}
