package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const bodySize = 10 << 20

func (c *testCase) queue(suffix string, arguments amqp.Table) string {
	return must(c.ch.QueueDeclare(c.n+suffix, false, false, true, false, arguments)).Name
}

func (c *testCase) exchange(kind, suffix string, arguments amqp.Table) string {
	check(c.ch.ExchangeDelete(c.n+suffix, false, false))
	check(c.ch.ExchangeDeclare(c.n+suffix, kind, false, false, false, false, arguments))
	return c.n + suffix
}

func (c *testCase) publish(exchange, key string, bodies ...string) {
	for _, body := range bodies {
		check(c.ch.Publish(exchange, key, false, false, text(body)))
	}
}

// barrier returns when the broker has handled what was sent before it.
func (c *testCase) barrier() { check(c.ch.Qos(0, 0, false)) }

func (c *testCase) get(queue string) amqp.Delivery {
	message, ok, err := c.ch.Get(queue, false)
	check(err)
	if !ok {
		panic(errors.New("the queue is empty"))
	}
	return message
}

// bodies takes all that is ready in the queue.
func (c *testCase) bodies(queue string) string {
	found := []string{}
	for {
		message, ok, err := c.ch.Get(queue, true)
		check(err)
		if !ok {
			return strings.Join(found, " ")
		}
		found = append(found, string(message.Body))
	}
}

func count(ch *amqp.Channel, queue string) int {
	return must(ch.QueueDeclarePassive(queue, false, false, false, false, nil)).Messages
}

// collect waits for the deliveries, then a little longer: one too many must be seen as well.
func collect(deliveries <-chan amqp.Delivery, wanted int) []amqp.Delivery {
	found, wait := []amqp.Delivery{}, 5*time.Second
	for {
		if len(found) == wanted {
			wait = 200 * time.Millisecond
		}
		select {
		case delivery := <-deliveries:
			found = append(found, delivery)
		case <-time.After(wait):
			equal(len(found), wanted)
			return found
		}
	}
}

var basics = []situation{
	{"tune", func(c *testCase) {
		config := c.connections[0].Config
		negotiated := fmt.Sprintf("channel_max=%d frame_max=%d", config.ChannelMax, config.FrameSize)
		c.observe("negotiated %s", negotiated)
		equal(negotiated, "channel_max=2047 frame_max=131072")
	}},
	{"capabilities", capabilities},
	{"declare", func(c *testCase) {
		must(c.ch.QueueDelete(c.n, false, false, false))
		check(c.ch.ExchangeDelete(c.n, false, false))
		for range []int{1, 2} {
			check(c.ch.ExchangeDeclare(c.n, "direct", true, false, false, false, nil))
			equal(must(c.ch.QueueDeclare(c.n, true, false, false, false, nil)), amqp.Queue{Name: c.n})
		}
		check(c.ch.ExchangeDeclarePassive(c.n, "direct", true, false, false, false, nil))
		equal(must(c.ch.QueueDelete(c.n, false, false, false)), 0)
		check(c.ch.ExchangeDelete(c.n, false, false))
	}},
	{"publish-confirm", func(c *testCase) {
		queue, wanted := c.queue("", nil), ""
		check(c.ch.Confirm(false))
		confirmations := c.ch.NotifyPublish(make(chan amqp.Confirmation, 50))
		for number := 0; number < 50; number++ {
			c.publish("", queue, fmt.Sprint(number))
			wanted += fmt.Sprintf(" %d", number)
		}
		for number := 1; number <= 50; number++ {
			equal(<-confirmations, amqp.Confirmation{DeliveryTag: uint64(number), Ack: true})
		}
		equal(c.bodies(queue), wanted[1:])
	}},
	{"ack", func(c *testCase) {
		queue := c.queue("", nil)
		c.publish("", queue, "1", "2", "3", "4")
		for tag := uint64(1); tag <= 4; tag++ {
			equal(c.get(queue).DeliveryTag, tag)
		}
		check(c.ch.Ack(1, false))
		check(c.ch.Ack(3, true))
		check(c.ch.Recover(true))
		equal(c.bodies(queue), "4")
	}},
	{"nack-requeue", func(c *testCase) {
		queue := c.queue("", nil)
		c.publish("", queue, "1", "2", "3")
		check(c.get(queue).Nack(false, true))
		again := c.get(queue)
		equal([]any{string(again.Body), again.Redelivered}, []any{"1", true})
		check(again.Nack(false, false))
		c.get(queue)
		c.get(queue)
		check(c.ch.Nack(0, true, true))
		equal(c.bodies(queue), "2 3")
	}},
	{"reject", func(c *testCase) {
		queue := c.queue("", nil)
		c.publish("", queue, "1")
		check(c.get(queue).Reject(true))
		again := c.get(queue)
		equal([]any{string(again.Body), again.Redelivered}, []any{"1", true})
		check(again.Reject(false))
		equal(c.bodies(queue), "")
	}},
	{"return-mandatory", func(c *testCase) {
		returns := c.ch.NotifyReturn(make(chan amqp.Return, 1))
		check(c.ch.Publish("amq.direct", c.n, true, false, text("lost")))
		r := <-returns
		returned := fmt.Sprintf("%d %s %s %s %s", r.ReplyCode, r.ReplyText, r.Exchange, r.RoutingKey, r.Body)
		c.observe("%s", returned)
		equal(returned, "312 NO_ROUTE amq.direct "+c.n+" lost")
	}},
	{"return-before-ack", func(c *testCase) {
		// Unbuffered, so that the client's reader hands them over in the order in which they arrived.
		returns, confirms := c.ch.NotifyReturn(make(chan amqp.Return)), c.ch.NotifyPublish(make(chan amqp.Confirmation))
		check(c.ch.Confirm(false))
		check(c.ch.Publish("amq.direct", c.n, true, false, text("lost")))
		order := []string{}
		for len(order) < 2 {
			select {
			case <-returns:
				order = append(order, "return")
			case <-confirms:
				order = append(order, "ack")
			}
		}
		equal(order, []string{"return", "ack"})
	}},
	{"body-10mib", func(c *testCase) {
		queue, body := c.queue("", nil), bytes.Repeat([]byte("0123456789abcdef"), bodySize/16)
		check(c.ch.Publish("", queue, false, false, amqp.Publishing{Body: body}))
		c.publish("", queue, "")
		c.barrier()
		equal(sha256.Sum256(c.get(queue).Body), sha256.Sum256(body))
		equal(len(c.get(queue).Body), 0)
	}},
	{"channels-2000", func(c *testCase) {
		queue := c.queue("", nil)
		last := c.ch
		for number := 1; number < 2000; number++ {
			last = must(c.connections[0].Channel())
		}
		check(last.Publish("", queue, false, false, text("from the last")))
		check(last.Qos(0, 0, false))
		equal(c.bodies(queue), "from the last")
	}},
	{"get-empty", func(c *testCase) {
		queue := c.queue("", nil)
		_, ok, err := c.ch.Get(queue, false)
		check(err)
		equal(ok, false)
		c.publish("", queue, "1", "2", "3")
		equal(c.get(queue).MessageCount, 2)
	}},
	{"purge", func(c *testCase) {
		queue := c.queue("", nil)
		c.publish("", queue, "1", "2", "3")
		c.get(queue) // Unacknowledged messages are not purged, nor counted.
		equal(must(c.ch.QueuePurge(queue, false)), 2)
	}},
	{"delete-missing", func(c *testCase) {
		equal(must(c.ch.QueueDelete(c.n, false, false, false)), 0)
		check(c.ch.ExchangeDelete(c.n, false, false))
	}},
	{"server-named", func(c *testCase) {
		name := must(c.ch.QueueDeclare("", false, false, true, false, nil)).Name
		c.observe("%.8s*", name)
		equal(name[:8], "amq.gen-")
	}},
	{"passive-declare", func(c *testCase) {
		queue := c.queue("", amqp.Table{"x-max-length": int32(10)})
		c.publish("", queue, "1")
		check(consume(c.ch, queue, "one"))
		eventually(func() bool {
			ok := must(c.ch.QueueDeclarePassive(queue, false, false, false, false, nil))
			return ok.Messages == 0 && ok.Consumers == 1
		})
		exchange := c.exchange("topic", "", nil)
		check(c.ch.ExchangeDeclarePassive(exchange, "topic", false, false, false, false, nil))
		check(c.ch.ExchangeDelete(exchange, false, false))
	}},
	{"unicode-names", func(c *testCase) {
		exchange, queue := c.exchange("direct", ".échange-交換", nil), c.queue(".file-キュー-🐇", nil)
		check(c.ch.QueueBind(queue, "clé-鍵", exchange, false, nil))
		c.publish(exchange, "clé-鍵", "Grüße")
		message := c.get(queue)
		equal([]string{message.Exchange, message.RoutingKey, string(message.Body)}, []string{exchange, "clé-鍵", "Grüße"})
		check(c.ch.ExchangeDelete(exchange, false, false))
	}},
	{"table-roundtrip", func(c *testCase) {
		queue := c.queue("", nil)
		table := amqp.Table{
			"true": true, "byte": byte(200), "int8": int8(-3), "int16": int16(-300), "int32": int32(-70000),
			"int64": int64(1) << 40, "float": float32(2.5), "double": 2.25, "decimal": amqp.Decimal{Scale: 2, Value: 1234},
			"string": "é", "bytes": []byte{0, 255}, "none": nil, "time": time.Unix(1700000000, 0),
			"list": []any{int32(1), "two", []any{int32(3)}}, "table": amqp.Table{"deep": amqp.Table{"er": int32(1)}},
		}
		check(c.ch.Publish("", queue, false, false, amqp.Publishing{Headers: table}))
		headers := c.get(queue).Headers
		c.observe("%v", describe(headers))
		equal(describe(headers), describe(table))
	}},
}

// describe writes a table with the types of its values, in the order of its keys.
func describe(table amqp.Table) string {
	lines := []string{}
	for key, value := range table {
		if moment, ok := value.(time.Time); ok {
			value = moment.Unix()
		}
		lines = append(lines, fmt.Sprintf("%s=%T(%v)", key, value, value))
	}
	sort.Strings(lines)
	return strings.Join(lines, " ")
}

func capabilities(c *testCase) {
	table, _ := c.connections[0].Properties["capabilities"].(amqp.Table)
	c.observe("%s", describe(table))
	for _, name := range []string{
		"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked",
		"consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to",
	} {
		equal(fmt.Sprint(name, table[name]), name+"true")
	}
}
