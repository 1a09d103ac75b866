package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func filter(text any) amqp.Table { return amqp.Table{"x-filter": text} }

var eu = filter(`attributes.region = "eu"`)

// regions publishes four messages, of which the first and the last are of `eu`, and the last has `test`.
func (c *testCase) regions(exchange, key string) {
	for number, headers := range []amqp.Table{{"region": "eu"}, {"region": "us"}, {}, {"region": "eu", "test": true}} {
		c.send(exchange, key, fmt.Sprint(number+1), headers)
	}
	c.barrier()
}

// truth is a value of the header `a`, conditions that are true of it, and some that are not; `; ` is between them.
type truth struct {
	value       any
	true, false string
}

var integers = truth{nil, `attributes.a = "7"; attributes.a < 8; attributes.a <= 7; attributes.a > -1; attributes:a`,
	`attributes.a = "07"; attributes.a != "7"; attributes.a > 7; attributes.a >= 8; attributes:b`}

var others = truth{nil, `attributes:a; attributes.a != "7"; NOT attributes.a < 9`,
	`attributes.a = "7"; attributes.a > 0; attributes.a <= 9; hasPrefix(attributes.a, "")`}

func typedTruths() []truth {
	found := []truth{
		{"eu", `attributes.a = "eu"; hasPrefix(attributes.a, "e"); attributes.a != "Eu"`, `attributes.a = "e"; attributes.a < 5`},
		{"é\n", `attributes.a = "\u00e9\n"; hasPrefix(attributes.a, "é")`, `attributes.a = "e"`},
		{true, `attributes.a = "true"; attributes.a != "false"`, `attributes.a = "1"; attributes.a > 0`},
		{false, `attributes.a = "false"`, `attributes.a = "0"; attributes.a < 1`},
		{int8(-128), `attributes.a = "-128"; attributes.a < -127`, `attributes.a > 0`},
		{byte(255), `attributes.a = "255"; attributes.a > 254`, `attributes.a < 0`},
		{int16(-32768), `attributes.a = "-32768"; attributes.a < -1`, `attributes.a > 0`},
		{uint16(65535), `attributes.a = "65535"; attributes.a > 32767`, `attributes.a < 0`},
		{uint32(math.MaxUint32), `attributes.a = "4294967295"; attributes.a > 2147483647`, `attributes.a < 0`},
		{int64(math.MinInt64), `attributes.a = "-9223372036854775808"`, `attributes.a > -9223372036854775808`},
		{int64(math.MaxInt64), `attributes.a >= 9223372036854775807`, `attributes.a < 9223372036854775807`},
		{time.Unix(1700000000, 0), `attributes.a = "1700000000"; attributes.a > 1699999999`, `attributes.a > 1700000000`},
	}
	for _, value := range []any{7, int8(7), byte(7), int16(7), uint16(7), int32(7), uint32(7), int64(7)} {
		found = append(found, truth{value, integers.true, integers.false})
	}
	for _, value := range []any{7.0, float32(7), nil, []byte("7"), []any{7}, amqp.Table{"b": 7}, amqp.Decimal{Value: 7}} {
		found = append(found, truth{value, others.true, others.false})
	}
	return found
}

// truths publishes to a binding with each of the conditions.
func (c *testCase) truths(all []truth) {
	queue, wrong := c.queue("", nil), []string{}
	for _, row := range all {
		for wanted, conditions := range map[string]string{"1": row.true, "": row.false} {
			for _, condition := range strings.Split(conditions, "; ") {
				c.bind(queue, c.n, "amq.direct", filter(condition))
				c.send("amq.direct", c.n, "1", amqp.Table{"a": row.value})
				c.barrier()
				if c.bodies(queue) != wanted {
					wrong = append(wrong, fmt.Sprintf("%s of %s isn't %q", condition, c.typed(row.value), wanted))
				}
				check(c.ch.QueueUnbind(queue, c.n, "amq.direct", filter(condition)))
			}
		}
	}
	equal(wrong, []string{})
}

var filterErrors = []struct {
	filter any
	text   string
}{
	{"attributes.a foo", "expected '=', '!=', '<', '<=', '>' or '>=' at byte 13, found 'foo'"},
	{"attributes:a OR attributes:b AND attributes:c",
		"expected 'OR', or parentheses around what OR joins, at byte 29, found 'AND'"},
	{int64(5), "expected a string, received one of type 'long'"},
	{[]byte("attributes:a"), "expected a string, received one of type 'binary'"},
}

var filters = own([]situation{
	{"filter-direct", func(c *testCase) {
		queue := c.queue("", nil)
		c.bind(queue, c.n, "amq.direct", eu)
		c.regions("amq.direct", c.n)
		c.regions("amq.direct", c.n+"-elsewhere")
		equal(c.bodies(queue), "1 4")
	}},
	{"filter-topic", func(c *testCase) {
		exchange, queue := c.exchange("topic", "", nil), c.queue("", nil)
		c.bind(queue, "orders.#", exchange, filter(`attributes.region = "eu" AND NOT attributes:test`))
		for _, key := range []string{"orders", "orders.new.big", "other"} {
			c.regions(exchange, key)
		}
		equal(c.bodies(queue), "1 1")
		check(c.ch.ExchangeDelete(exchange, false, false))
	}},
	{"filter-fanout", func(c *testCase) {
		exchange, queue, rest := c.exchange("fanout", "", nil), c.queue("", nil), c.queue(".rest", nil)
		c.bind(queue, "", exchange, filter("attributes:test"))
		c.bind(rest, "", exchange, filter("-attributes:test"))
		c.regions(exchange, "any")
		equal([]string{c.bodies(queue), c.bodies(rest)}, []string{"4", "1 2 3"})
		check(c.ch.ExchangeDelete(exchange, false, false))
	}},
	{"filter-exchange", func(c *testCase) {
		source, target, queue := c.exchange("topic", ".source", nil), c.exchange("fanout", ".target", nil), c.queue("", nil)
		c.bind(queue, "", target, nil)
		check(c.ch.ExchangeBind(target, "#", source, false, eu))
		c.regions(source, "k")
		equal(c.bodies(queue), "1 4")
		check(c.ch.ExchangeUnbind(target, "#", source, false, eu))
		c.regions(source, "k")
		equal(c.bodies(queue), "")
		check(c.ch.ExchangeDelete(source, false, false))
		check(c.ch.ExchangeDelete(target, false, false))
	}},
	{"filter-alternate", func(c *testCase) {
		lost := c.exchange("fanout", ".lost", nil)
		exchange := c.exchange("direct", "", amqp.Table{"alternate-exchange": lost})
		queue, rest := c.queue("", nil), c.queue(".rest", nil)
		c.bind(rest, "", lost, nil)
		c.bind(queue, "k", exchange, eu)
		c.regions(exchange, "k")
		equal([]string{c.bodies(queue), c.bodies(rest)}, []string{"1 4", "2 3"})
		check(c.ch.ExchangeDelete(exchange, false, false))
		check(c.ch.ExchangeDelete(lost, false, false))
	}},
	{"filter-mandatory", func(c *testCase) {
		queue := c.queue("", nil)
		c.bind(queue, c.n, "amq.direct", eu)
		returns := c.ch.NotifyReturn(make(chan amqp.Return, 2))
		for _, region := range []string{"eu", "us"} {
			message := text(region)
			message.Headers = amqp.Table{"region": region}
			check(c.ch.Publish("amq.direct", c.n, true, false, message))
		}
		returned := <-returns
		equal([]any{returned.ReplyCode, returned.ReplyText, string(returned.Body)}, []any{312, "NO_ROUTE", "us"})
		equal([]any{c.bodies(queue), len(returns)}, []any{"eu", 0})
	}},
	{"filter-header-types", func(c *testCase) { c.truths(typedTruths()) }},
	{"filter-properties", func(c *testCase) {
		queue := c.queue("", nil)
		stamped := amqp.Publishing{ContentType: "text/plain", DeliveryMode: 2, Priority: 5, Type: "t", AppId: "app",
			MessageId: "m", CorrelationId: "c", Timestamp: time.Unix(1700000000, 0), Body: []byte("1")}
		for condition, wanted := range map[string]string{
			`properties.content_type = "text/plain"`: "1", `properties.delivery_mode = "2"`: "1", "properties.priority > 4": "1",
			`properties.type != "u"`: "1", `hasPrefix(properties.app_id, "a")`: "1", "properties.timestamp <= 1700000000": "1",
			"properties:reply_to": "", "properties.priority > 5": "", "properties.timestamp < 1700000000": "",
			`properties.message_id = "m" AND properties.correlation_id = "c"`: "1",
		} {
			c.bind(queue, c.n, "amq.direct", filter(condition))
			check(c.ch.Publish("amq.direct", c.n, false, false, stamped))
			c.barrier()
			equal(condition+": "+c.bodies(queue), condition+": "+wanted)
			check(c.ch.QueueUnbind(queue, c.n, "amq.direct", filter(condition)))
		}
	}},
	{"filter-binding-errors", func(c *testCase) {
		queue := c.queue("", nil)
		for _, row := range filterErrors {
			c.refused(func(ch *amqp.Channel) error { return ch.QueueBind(queue, "k", "amq.topic", false, filter(row.filter)) },
				"invalid arg 'x-filter': "+row.text+" (binding from exchange 'amq.topic' to queue '{n}' in vhost '/')")
		}
	}},
	{"filter-consumer", func(c *testCase) {
		queue := c.queue("", nil)
		mine, other := c.subscribe(queue, "eu", true, eu), c.channel()
		check(other.Qos(1, 0, false))
		test := must(other.Consume(queue, "test", false, false, false, false, filter("attributes:test")))
		c.send("", queue, "nobody's", nil)
		c.send("", queue, "eu 1", amqp.Table{"region": "eu"})
		c.send("", queue, "test 1", amqp.Table{"test": true})
		c.send("", queue, "test 2", amqp.Table{"test": nil})
		c.send("", queue, "eu 2", amqp.Table{"region": "eu"})
		equal(bodies(collect(mine, 2)), "eu 1 eu 2")
		first := collect(test, 1)
		check(first[0].Ack(false))
		equal(bodies(first)+" "+bodies(collect(test, 1)), "test 1 test 2")
		equal(body(tryGet(c.ch, queue)), "nobody's")
	}},
	{"filter-consumer-errors", func(c *testCase) {
		queue := c.queue("", nil)
		for _, row := range filterErrors {
			c.refused(func(ch *amqp.Channel) error {
				return onlyError(ch.Consume(queue, "t", false, false, false, false, filter(row.filter)))
			}, "invalid arg 'x-filter': "+row.text+" (consumer 't' of queue '{n}')")
		}
	}},
})
