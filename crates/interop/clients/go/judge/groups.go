package main

import (
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// own leaves situations out that Debian's RabbitMQ can't know.
func own(situations []situation) []situation {
	guarded := []situation{}
	for _, s := range situations {
		s := s
		guarded = append(guarded, situation{s.name, func(c *testCase) {
			if c.report.broker == "rabbitmq" {
				panic(skipped("RabbitMQ 3.10 has it only as a plugin or not at all"))
			}
			s.check(c)
		}})
	}
	return guarded
}

// refused checks that the broker ends the channel with 406 and this text.
func (c *testCase) refused(action func(*amqp.Channel) error, wanted string) {
	channel := must(c.connections[0].Channel())
	ended := channel.NotifyClose(make(chan *amqp.Error, 1))
	if err := action(channel); err == nil {
		channel.Qos(0, 0, false) // What the broker had to say has arrived after it.
	}
	select {
	case err := <-ended:
		if err == nil {
			panic(fmt.Errorf("expected %q, but the broker accepted it", wanted))
		}
		said := strings.ReplaceAll(err.Reason, c.n, "{n}")
		c.observe("%d %s", err.Code, said)
		equal([]any{err.Code, said}, []any{406, "PRECONDITION_FAILED - " + wanted})
	case <-time.After(2 * time.Second):
		panic(fmt.Errorf("expected %q, but the broker accepted it", wanted))
	}
}

// send publishes a message with these headers.
func (c *testCase) send(exchange, key, body string, headers amqp.Table) {
	message := text(body)
	message.Headers = headers
	check(c.ch.Publish(exchange, key, false, false, message))
}

// tryGet returns nil if there is nothing for this channel.
func tryGet(ch *amqp.Channel, queue string) *amqp.Delivery {
	message, ok, err := ch.Get(queue, false)
	check(err)
	if !ok {
		return nil
	}
	return &message
}

func body(message *amqp.Delivery) string {
	if message == nil {
		return "nothing"
	}
	return string(message.Body)
}

// worker consumes on a connection of its own.
func (c *testCase) worker(queue, tag string, prefetch int) (*amqp.Connection, *amqp.Channel, <-chan amqp.Delivery) {
	connection := c.connect(amqp.Config{})
	channel := must(connection.Channel())
	check(channel.Qos(prefetch, 0, false))
	return connection, channel, must(channel.Consume(queue, tag, false, false, false, false, nil))
}

func bodies(deliveries []amqp.Delivery) string {
	found := []string{}
	for _, delivery := range deliveries {
		found = append(found, string(delivery.Body))
	}
	return strings.Join(found, " ")
}

// shared declares a queue with groups for workers with connections of their own.
func (c *testCase) shared() string {
	must(c.ch.QueueDelete(c.n, false, false, false))
	return must(c.ch.QueueDeclare(c.n, false, true, false, false, amqp.Table{"x-group-header": "customer"})).Name
}

func (c *testCase) sendGroup(queue, words string) {
	for _, word := range strings.Fields(words) {
		c.send("", queue, word, amqp.Table{"customer": word[:1]})
	}
	c.barrier()
}

var groups = own([]situation{
	{"group-one-consumer", func(c *testCase) {
		queue := c.shared()
		_, channel, a := c.worker(queue, "a", 2)
		c.sendGroup(queue, "x1 x2 x3 x4")
		first := collect(a, 2)
		equal(bodies(first), "x1 x2")
		_, _, b := c.worker(queue, "b", 10)
		c.sendGroup(queue, "y1")
		c.send("", queue, "free", nil)
		equal(bodies(collect(b, 2)), "y1 free")
		check(first[0].Ack(false))
		third := collect(a, 1)
		equal(bodies(third), "x3")
		check(first[1].Ack(false))
		// The client closes a cancelled consumer's channel, so the last one has to be there before.
		last := collect(a, 1)
		equal(bodies(last), "x4")
		c.sendGroup(queue, "x5")
		check(channel.Cancel("a", false))
		check(third[0].Ack(false))
		equal(len(collect(b, 0)), 0)
		check(last[0].Ack(false))
		equal(bodies(collect(b, 1)), "x5")
	}},
	{"group-order", groupOrder},
	{"group-connection-closed", func(c *testCase) {
		queue := c.shared()
		connection, _, a := c.worker(queue, "a", 3)
		c.sendGroup(queue, "x1 y1 x2 x3")
		equal(bodies(collect(a, 3)), "x1 y1 x2")
		_, _, b := c.worker(queue, "b", 10)
		equal(len(collect(b, 0)), 0)
		check(connection.Close())
		again := collect(b, 4)
		equal(bodies(again), "x1 y1 x2 x3")
		equal([]bool{again[0].Redelivered, again[2].Redelivered, again[3].Redelivered}, []bool{true, true, false})
	}},
	{"group-get", func(c *testCase) {
		queue, other, third := c.queue("", amqp.Table{"x-group-header": "customer"}), c.channel(), c.channel()
		c.sendGroup(queue, "x1 x2 y1")
		first := tryGet(c.ch, queue)
		equal([]string{body(first), body(tryGet(other, queue)), body(tryGet(third, queue))}, []string{"x1", "y1", "nothing"})
		equal(body(tryGet(c.ch, queue)), "x2")
		check(first.Ack(false))
		c.barrier()
		equal(body(tryGet(third, queue)), "nothing")
		check(c.ch.Nack(0, true, true))
		c.barrier()
		equal(body(tryGet(third, queue)), "x2")
	}},
	{"group-delayed-retry", func(c *testCase) {
		queue := c.queue("", amqp.Table{"x-group-header": "customer", "x-delayed-retry-min": int32(1500)})
		c.sendGroup(queue, "x1 x2 y1")
		check(tryGet(c.ch, queue).Nack(false, true))
		equal(body(tryGet(c.ch, queue)), "y1")
		equal(body(tryGet(c.ch, queue)), "nothing")
		var again *amqp.Delivery
		eventually(func() bool { again = tryGet(c.ch, queue); return again != nil })
		equal([]any{body(again), again.Redelivered, body(tryGet(c.ch, queue))}, []any{"x1", true, "x2"})
	}},
	{"group-key-types", func(c *testCase) {
		queue, other := c.queue("", amqp.Table{"x-group-header": "customer"}), c.channel()
		same := []any{7, int8(7), byte(7), int16(7), uint16(7), int32(7), uint32(7), int64(7), "7"}
		for _, value := range same {
			c.send("", queue, "1", amqp.Table{"customer": value})
		}
		for range same {
			held := tryGet(c.ch, queue)
			equal([]string{body(held), body(tryGet(other, queue))}, []string{"1", "nothing"})
			check(held.Ack(false))
			c.barrier()
		}
		free := []any{true, nil, 7.0, float32(7), []byte("7"), []any{7}, amqp.Table{"a": 7}, time.Unix(7, 0), amqp.Decimal{Value: 7}}
		for _, value := range free {
			c.send("", queue, "1", amqp.Table{"customer": value})
			c.send("", queue, "2", amqp.Table{"customer": value})
			equal([]string{body(tryGet(c.ch, queue)), body(tryGet(other, queue))}, []string{"1", "2"})
		}
	}},
	{"group-arguments", func(c *testCase) {
		for _, row := range []struct {
			arguments amqp.Table
			text      string
		}{
			{amqp.Table{"x-group-header": int64(5)}, "{unacceptable_type,long}"},
			{amqp.Table{"x-group-header": ""}, "the name of a header has 1 to 255 bytes, and this has 0"},
			{amqp.Table{"x-group-header": "k", "x-single-active-consumer": true},
				"it cannot be together with 'x-single-active-consumer', by which one consumer gets all messages"},
		} {
			c.refused(func(ch *amqp.Channel) error {
				return onlyError(ch.QueueDeclare(c.n, false, false, true, false, row.arguments))
			}, "invalid arg 'x-group-header' for queue '{n}' in vhost '/': "+row.text)
		}
	}},
})

// groupOrder has two workers, each with a goroutine: whatever they do, each key comes in order, and never to one while
// the other holds messages of it.
func groupOrder(c *testCase) {
	const keys, messages, prefetch = 7, 400, 6
	queue, wrong, done := c.shared(), make(chan error, messages), make(chan string, messages)
	var lock sync.Mutex
	last, holder, held := [keys]int{}, [keys]int{}, [keys]int{}
	for _, which := range []int{0, 1} {
		which := which
		_, _, deliveries := c.worker(queue, fmt.Sprint(which), prefetch)
		go func() {
			chance, open := rand.New(rand.NewSource(int64(which))), []amqp.Delivery{}
			for delivery := range deliveries {
				var key, number int
				must(fmt.Sscan(string(delivery.Body), &key, &number))
				lock.Lock()
				if held[key] > 0 && holder[key] != which {
					wrong <- fmt.Errorf("%q while the other holds its key", delivery.Body)
				}
				if number <= last[key] {
					wrong <- fmt.Errorf("%q after %d", delivery.Body, last[key])
				}
				last[key], holder[key] = number, which
				held[key]++
				lock.Unlock()
				open = append(open, delivery)
				for len(open) == prefetch || len(open) > 0 && chance.Intn(2) == 0 || len(deliveries) == 0 && len(open) > 0 {
					at := chance.Intn(len(open))
					settled := open[at]
					open = append(open[:at], open[at+1:]...)
					must(fmt.Sscan(string(settled.Body), &key, &number))
					// Before the broker can know, or it might give the key away first.
					lock.Lock()
					held[key]--
					lock.Unlock()
					if settled.Ack(false) != nil {
						return // The situation is over.
					}
					done <- string(settled.Body)
				}
			}
		}()
	}
	chance := rand.New(rand.NewSource(7))
	for number := 1; number <= messages; number++ {
		key := chance.Intn(keys)
		value := []any{int32(key), fmt.Sprint(key), int64(key)}[chance.Intn(3)]
		c.send("", queue, fmt.Sprintf("%d %d", key, number), amqp.Table{"customer": value})
	}
	seen, limit := map[string]bool{}, time.After(10*time.Second)
	for len(seen) < messages {
		select {
		case err := <-wrong:
			panic(err)
		case text := <-done:
			if seen[text] {
				panic(fmt.Errorf("%q came twice", text))
			}
			seen[text] = true
		case <-limit:
			panic(errors.New("not all came"))
		}
	}
}
