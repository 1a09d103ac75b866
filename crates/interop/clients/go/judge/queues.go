package main

import (
	"fmt"
	"sort"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// typed shows a header's value with the type that this client reads, which programs assert on.
func (c *testCase) typed(value any) string {
	switch value := value.(type) {
	case amqp.Table:
		names := []string{}
		for name := range value {
			names = append(names, name+"="+c.typed(value[name]))
		}
		sort.Strings(names)
		return "{" + strings.Join(names, ", ") + "}"
	case []any:
		items := []string{}
		for _, item := range value {
			items = append(items, c.typed(item))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case time.Time:
		return fmt.Sprintf("time.Time(now: %t)", time.Since(value).Abs() < time.Minute)
	}
	return strings.ReplaceAll(fmt.Sprintf("%T(%v)", value, value), c.n, "{n}")
}

// pair declares a queue and the one that its dead letters go to.
func (c *testCase) pair(arguments amqp.Table) (work, dead string) {
	dead = c.queue(".dead", nil)
	arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"] = "", dead
	return c.queue(".work", arguments), dead
}

// letter waits for one, and observes all of it but the headers that only RabbitMQ 4 has.
func (c *testCase) letter(queue string) amqp.Delivery {
	var found amqp.Delivery
	eventually(func() bool {
		message, ok, err := c.ch.Get(queue, true)
		check(err)
		found = message
		return ok
	})
	for name := range found.Headers {
		if strings.HasPrefix(name, "x-last-death-") {
			delete(found.Headers, name)
		}
	}
	c.observe("%s mode %d expiration %q", c.typed(found.Headers), found.DeliveryMode, found.Expiration)
	return found
}

// deaths is a letter's history in short.
func deaths(letter amqp.Delivery) string {
	found := []string{}
	for _, entry := range letter.Headers["x-death"].([]any) {
		death := entry.(amqp.Table)
		found = append(found, fmt.Sprintf("%s:%d", death["reason"].(string), death["count"].(int64)))
	}
	return strings.Join(found, " ")
}

var queues = []situation{
	{"dead-letter-rejected", func(c *testCase) {
		work, dead := c.pair(amqp.Table{})
		message := text("1")
		message.DeliveryMode, message.Headers = amqp.Persistent, amqp.Table{"a": int32(1)}
		check(c.ch.Publish("", work, false, false, message))
		check(c.get(work).Reject(false))
		letter := c.letter(dead)
		equal([]any{string(letter.Body), deaths(letter)}, []any{"1", "rejected:1"})
	}},
	{"dead-letter-message-ttl", func(c *testCase) {
		work, dead := c.pair(amqp.Table{})
		message := text("1")
		message.Expiration = "50"
		check(c.ch.Publish("", work, false, false, message))
		letter := c.letter(dead)
		equal([]any{deaths(letter), letter.Expiration}, []any{"expired:1", ""})
	}},
	{"dead-letter-again", func(c *testCase) {
		work := c.n + ".work"
		wait := c.queue(".wait", amqp.Table{
			"x-message-ttl": int32(50), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work,
		})
		c.queue(".work", amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait})
		c.publish("", work, "1")
		deliveries := c.subscribe(work, "worker", false, nil)
		check((<-deliveries).Reject(false))
		for attempt := 1; attempt <= 3; attempt++ {
			letter := <-deliveries
			c.observe("%s", deaths(letter))
			equal(deaths(letter), fmt.Sprintf("expired:%d rejected:%d", attempt, attempt))
			check(letter.Reject(false))
		}
	}},
	{"max-length-reject-publish", func(c *testCase) {
		queue := c.queue("", amqp.Table{"x-max-length": int32(2), "x-overflow": "reject-publish"})
		check(c.ch.Confirm(false))
		outcome := ""
		for _, body := range []string{"1", "2", "3", "4"} {
			confirmation := must(c.ch.PublishWithDeferredConfirm("", queue, false, false, text(body)))
			outcome += map[bool]string{true: "a", false: "n"}[confirmation.Wait()]
		}
		equal([]string{outcome, c.bodies(queue)}, []string{"aann", "1 2"})
	}},
	{"single-active", func(c *testCase) {
		queue := c.queue("", amqp.Table{"x-single-active-consumer": true})
		first, second := c.subscribe(queue, "first", true, nil), c.subscribe(queue, "second", true, nil)
		c.publish("", queue, "1", "2", "3")
		collect(first, 3)
		equal(len(second), 0)
		check(c.ch.Cancel("first", false))
		c.publish("", queue, "4")
		equal(string(collect(second, 1)[0].Body), "4")
	}},
	{"quorum-delivery-limit", func(c *testCase) {
		work, dead := c.n+".work", c.queue(".dead", nil)
		must(c.ch.QueueDelete(work, false, false, false))
		must(c.ch.QueueDeclare(work, true, false, false, false, amqp.Table{
			"x-queue-type": "quorum", "x-delivery-limit": int32(2), "x-dead-letter-exchange": "",
			"x-dead-letter-routing-key": dead,
		}))
		c.publish("", work, "1")
		deliveries := c.subscribe(work, "worker", false, nil)
		for attempt := 0; attempt < 3; attempt++ {
			message := <-deliveries
			if attempt > 0 {
				c.observe("%s redelivered %t", c.typed(message.Headers), message.Redelivered)
				equal(message.Headers["x-delivery-count"].(int64), attempt)
			}
			check(message.Reject(true))
		}
		equal(deaths(c.letter(dead)), "delivery_limit:1")
		must(c.ch.QueueDelete(work, false, false, false))
	}},
}
