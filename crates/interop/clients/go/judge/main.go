// judge checks an AMQP 0-9-1 broker with github.com/rabbitmq/amqp091-go:
// judge URL path/to/expected.txt
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// situations are run in the order in which they are written down.
type situation struct {
	name  string
	check func(*testCase)
}

// testCase holds one situation's connections. Queues are exclusive where possible and end with it.
type testCase struct {
	report      *report
	situation   string
	url, n      string
	connections []*amqp.Connection
	ch          *amqp.Channel
	ended       chan *amqp.Error
}

func newCase(r *report, url, name string) *testCase {
	return &testCase{report: r, situation: name, url: url, n: objectName(name), ended: make(chan *amqp.Error, 64)}
}

func (c *testCase) connect(config amqp.Config) *amqp.Connection {
	connection, err := amqp.DialConfig(c.url, config)
	check(err)
	c.connections = append(c.connections, connection)
	return connection
}

// open makes the first connection and the channel that most situations need just one of.
func (c *testCase) open() *testCase {
	c.ch = c.watched(c.connect(amqp.Config{}))
	return c
}

// watched opens a channel whose end is remembered: the error of the call that notices it is often only "closed".
func (c *testCase) watched(connection *amqp.Connection) *amqp.Channel {
	channel := must(connection.Channel())
	ended := channel.NotifyClose(make(chan *amqp.Error, 1))
	go func() {
		if err := <-ended; err != nil {
			c.ended <- err
		}
	}()
	return channel
}

func (c *testCase) channel() *amqp.Channel { return c.watched(c.connections[0]) }

func (c *testCase) observe(format string, values ...any) {
	c.report.line("observe", c.situation, fmt.Sprintf(format, values...))
}

func (c *testCase) close() {
	for _, connection := range c.connections {
		connection.CloseDeadline(time.Now().Add(time.Second)) // Most error situations have ended it already.
	}
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: judge URL path/to/expected.txt")
		os.Exit(2)
	}
	r, url := newReport(os.Args[2]), os.Args[1]
	all := []situation{}
	for _, family := range [][]situation{basics, routing, delivery, queues, groups, once, filters} {
		all = append(all, family...)
	}
	only := os.Getenv("INTEROP_ONLY") // While working on situations: only those whose names begin so.
	var idle sync.WaitGroup
	idle.Add(1)
	go func() {
		defer idle.Done()
		idleMinute(r, url)
	}()
	for _, s := range all {
		if !strings.HasPrefix(s.name, only) {
			continue
		}
		c := newCase(r, url, s.name)
		r.run(s.name, situationTimeout, func() error { s.check(c.open()); return nil })
		c.close()
	}
	for _, s := range failing {
		if !strings.HasPrefix(s.name, only) {
			continue
		}
		c := newCase(r, url, s.name)
		r.run(s.name, situationTimeout, func() error { return provoke(c, s) })
		c.close()
	}
	r.waiting()
	idle.Wait()
	if r.failures > 0 {
		os.Exit(1)
	}
}

// provoke runs a situation that the broker must end with an error, and checks that error.
func provoke(c *testCase, s situation) (err error) {
	defer func() {
		value := recover()
		failure, isError := value.(error)
		var closed *amqp.Error
		if !isError || !errors.As(failure, &closed) {
			if value != nil {
				panic(value)
			}
			return
		}
		if closed == amqp.ErrCredentials {
			// The client doesn't announce authentication_failure_close: the broker just closes the socket.
			c.observe("the socket is closed, which the client calls ErrCredentials")
			return
		}
		if !closed.Server {
			select {
			case closed = <-c.ended:
			case <-time.After(2 * time.Second):
			}
		}
		scope := "channel"
		if len(c.connections) == 0 || c.connections[0].IsClosed() {
			scope = "connection"
		}
		err = c.report.checkError(s.name, scope, closed)
	}()
	s.check(c)
	// A synchronous method: what the broker had to say about earlier ones has arrived after it.
	check(c.ch.Qos(0, 0, false))
	return errors.New("the broker accepted it")
}

// idleMinute keeps a connection idle through many heartbeat intervals.
func idleMinute(r *report, url string) {
	seconds := 60
	if set, err := strconv.Atoi(os.Getenv("INTEROP_IDLE_SECONDS")); err == nil {
		seconds = set
	}
	idle := time.Duration(seconds) * time.Second
	r.run("heartbeat-idle-minute", idle+situationTimeout, func() error {
		c := newCase(r, url, "heartbeat-idle-minute")
		connection := c.connect(amqp.Config{Heartbeat: 5 * time.Second})
		channel := must(connection.Channel())
		time.Sleep(idle)
		must(channel.QueueDeclare(c.n, false, false, true, false, nil))
		return connection.Close()
	})
}
