package main

import (
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const keyHeader = "x-deduplication-header"

func keyed(more amqp.Table) amqp.Table {
	arguments := amqp.Table{"x-message-deduplication": true}
	for name, value := range more {
		arguments[name] = value
	}
	return arguments
}

// confirmed publishes and waits; true for an ack.
func confirmed(ch *amqp.Channel, exchange, key string, message amqp.Publishing) bool {
	return must(ch.PublishWithDeferredConfirm(exchange, key, false, false, message)).Wait()
}

// sendIDs publishes bodies, each with its first letter as its message-id, of which each must be acked.
func (c *testCase) sendIDs(exchange, key, words string) {
	for _, word := range strings.Fields(words) {
		equal(confirmed(c.ch, exchange, key, amqp.Publishing{MessageId: word[:1], Body: []byte(word)}), true)
	}
}

// sendKeys publishes numbered messages with these values of the header.
func (c *testCase) sendKeys(exchange, key string, values ...any) {
	for number, value := range values {
		message := text(fmt.Sprint(number))
		message.Headers = amqp.Table{keyHeader: value}
		equal(confirmed(c.ch, exchange, key, message), true)
	}
}

// numbered is a message of a producer; its name is of this situation and run, as brokers remember producers.
func (c *testCase) numbered(body string, sequence any, epoch any) amqp.Publishing {
	message := text(body)
	message.Headers = amqp.Table{"x-producer": fmt.Sprintf("%s.%p", c.n, c), "x-producer-sequence": sequence}
	if epoch != nil {
		message.Headers["x-producer-epoch"] = epoch
	}
	return message
}

// comesAgain publishes until a message comes; true if the first didn't.
func (c *testCase) comesAgain(queue string, message amqp.Publishing) bool {
	equal(confirmed(c.ch, "", queue, message), true)
	first := c.bodies(queue)
	eventually(func() bool { confirmed(c.ch, "", queue, message); return c.bodies(queue) != "" })
	return first == ""
}

var once = own([]situation{
	{"dedup-message-id", func(c *testCase) {
		queue := c.queue("", keyed(nil))
		check(c.ch.Confirm(false))
		returns := c.ch.NotifyReturn(make(chan amqp.Return, 1))
		c.sendIDs("", queue, "a b a2 b2 c")
		equal(confirmed(c.ch, "", queue, text("none")), true)
		equal(confirmed(c.ch, "", queue, text("none")), true)
		again := amqp.Publishing{MessageId: "a", Body: []byte("a3")}
		equal(must(c.ch.PublishWithDeferredConfirm("", queue, true, false, again)).Wait(), true)
		equal([]any{c.bodies(queue), len(returns)}, []any{"a b c none none", 0})
		c.sendIDs("", queue, "a4 d")
		equal(c.bodies(queue), "d")
	}},
	{"dedup-header", func(c *testCase) {
		queue := c.queue("", keyed(nil))
		check(c.ch.Confirm(false))
		// Integers of any width are equal by value, and so are floats; all else by type and bytes.
		c.sendKeys("", queue, 7, int8(7), byte(7), int16(7), uint16(7), int32(7), uint32(7), int64(7), "7", 7.0, float32(7),
			[]byte("7"), true, amqp.Table{"a": 7}, []any{7}, time.Unix(7, 0), amqp.Decimal{Value: 7}, "7", 7.0, true,
			amqp.Table{"a": 7}, time.Unix(7, 0))
		equal(c.bodies(queue), "0 8 9 11 12 13 14 15 16")
		named := c.queue(".named", keyed(amqp.Table{keyHeader: "order"}))
		for _, body := range []string{"1", "again"} {
			message := amqp.Publishing{Headers: amqp.Table{"order": "o"}, MessageId: body, Body: []byte(body)}
			equal(confirmed(c.ch, "", named, message), true)
		}
		equal(c.bodies(named), "1")
	}},
	{"dedup-lavinmq", func(c *testCase) {
		arguments := keyed(amqp.Table{"x-cache-size": int32(128), "x-cache-ttl": int64(60000), keyHeader: keyHeader})
		exchange, queue := c.exchange("topic", "", arguments), c.queue("", arguments)
		plain := c.queue(".plain", nil)
		c.bind(plain, "#", exchange, nil)
		check(c.ch.Confirm(false))
		c.sendKeys("", queue, "k", "k")
		c.sendKeys(exchange, "one", "k", "l", "k")
		c.sendKeys(exchange, "two", "l", "m")
		equal([]string{c.bodies(queue), c.bodies(plain)}, []string{"0", "0 1 1"})
		check(c.ch.ExchangeDelete(exchange, false, false))
	}},
	{"dedup-plugin", func(c *testCase) {
		arguments := amqp.Table{"x-cache-size": "100", "x-cache-ttl": "60000", "x-cache-persistence": "disk"}
		exchange, queue := c.exchange("x-message-deduplication", "", arguments), c.queue("", nil)
		c.bind(queue, "any", exchange, nil)
		check(c.ch.Confirm(false))
		c.sendKeys(exchange, "other", "k", "k", "l")
		equal(c.bodies(queue), "0 2")
		check(c.ch.ExchangeDelete(exchange, false, false))
	}},
	{"dedup-cache-size", func(c *testCase) {
		queue := c.queue("", keyed(amqp.Table{"x-cache-size": int16(2)}))
		check(c.ch.Confirm(false))
		c.sendIDs("", queue, "a b a2 c b2 a3 c2 b3")
		equal(c.bodies(queue), "a b c a3 b3")
	}},
	{"dedup-cache-ttl", func(c *testCase) {
		queue, long := c.queue("", keyed(amqp.Table{"x-cache-ttl": int32(1500)})), c.queue(".long", keyed(nil))
		check(c.ch.Confirm(false))
		message := amqp.Publishing{MessageId: "1", Body: []byte("1")}
		equal(confirmed(c.ch, "", queue, message), true)
		equal([]any{c.bodies(queue), c.comesAgain(queue, message)}, []any{"1", true})
		message.Headers = amqp.Table{"x-cache-ttl": int64(1500)}
		equal(confirmed(c.ch, "", long, message), true)
		equal([]any{c.bodies(long), c.comesAgain(long, message)}, []any{"1", true})
	}},
	{"dedup-full-queue", func(c *testCase) {
		queue := c.queue("", keyed(amqp.Table{"x-max-length": int32(1), "x-overflow": "reject-publish"}))
		check(c.ch.Confirm(false))
		outcome := ""
		for _, id := range []string{"a", "b", "a"} {
			message := amqp.Publishing{MessageId: id, Body: []byte(id)}
			outcome += map[bool]string{true: "a", false: "n"}[confirmed(c.ch, "", queue, message)]
		}
		equal([]string{outcome, c.bodies(queue)}, []string{"ana", "a"})
		c.sendIDs("", queue, "b2")
		equal(c.bodies(queue), "b2")
	}},
	{"dedup-producer", func(c *testCase) {
		queue := c.queue("", nil)
		check(c.ch.Confirm(false))
		// Numbers of any width.
		for _, sequence := range []any{byte(0), int32(1), int64(1), int16(5), 4, uint16(5), int64(1 << 40), uint32(6)} {
			equal(confirmed(c.ch, "", queue, c.numbered(fmt.Sprint(sequence), sequence, nil)), true)
		}
		equal(c.bodies(queue), fmt.Sprint("0 1 5 ", int64(1<<40)))
	}},
	{"dedup-producer-fenced", func(c *testCase) {
		queue := c.queue("", nil)
		check(c.ch.Confirm(false))
		equal(confirmed(c.ch, "", queue, c.numbered("old", int64(5), int32(3))), true)
		for _, body := range []string{"new", "again"} {
			equal(confirmed(c.ch, "", queue, c.numbered(body, int64(0), int64(4))), true)
		}
		name := strings.ReplaceAll(fmt.Sprintf("%s.%p", c.n, c), c.n, "{n}")
		c.refused(func(ch *amqp.Channel) error {
			return ch.Publish("", queue, false, false, c.numbered("late", int64(6), int32(3)))
		}, fmt.Sprintf("producer '%s' with epoch 3 is fenced: epoch 4 has begun", name))
		equal(confirmed(c.ch, "", queue, c.numbered("next", int64(1), int64(4))), true)
		equal(c.bodies(queue), "old new next")
	}},
	{"dedup-producer-headers", func(c *testCase) {
		queue := c.queue("", nil)
		for _, row := range []struct {
			headers amqp.Table
			text    string
		}{
			{amqp.Table{"x-producer": "a"}, "'x-producer-sequence': expected an integer of 0 or more"},
			{amqp.Table{"x-producer": "a", "x-producer-sequence": 1.0}, "'x-producer-sequence': expected an integer of 0 or more"},
			{amqp.Table{"x-producer": "a", "x-producer-sequence": int8(-1)}, "'x-producer-sequence': expected an integer of 0 or more"},
			{amqp.Table{"x-producer": "a", "x-producer-sequence": 1, "x-producer-epoch": "new"},
				"'x-producer-epoch': expected an integer of 0 or more"},
			{amqp.Table{"x-producer": []byte("a"), "x-producer-sequence": 1}, "'x-producer': expected a string of 1 to 255 bytes"},
			{amqp.Table{"x-producer-sequence": 1}, "'x-producer': expected the name of a producer beside its epoch or sequence"},
		} {
			message := text("1")
			message.Headers = row.headers
			c.refused(func(ch *amqp.Channel) error { return ch.Publish("", queue, false, false, message) }, "invalid header "+row.text)
		}
	}},
	{"dedup-arguments", func(c *testCase) {
		for _, row := range []struct {
			arguments  amqp.Table
			name, text string
		}{
			{amqp.Table{"x-message-deduplication": int64(1)}, "x-message-deduplication", "{unacceptable_type,long}"},
			{amqp.Table{"x-cache-size": int32(5)}, "x-cache-size", "it needs 'x-message-deduplication'"},
			{keyed(amqp.Table{"x-cache-size": byte(0)}), "x-cache-size", "{value_zero,0}"},
			{keyed(amqp.Table{"x-cache-ttl": int8(-5)}), "x-cache-ttl", "{value_negative,-5}"},
		} {
			c.refused(func(ch *amqp.Channel) error {
				return onlyError(ch.QueueDeclare(c.n, false, false, true, false, row.arguments))
			}, fmt.Sprintf("invalid arg '%s' for queue '{n}' in vhost '/': %s", row.name, row.text))
		}
	}},
})
