// A service in Go beside one that uses the crate leveret: `sdk URL TOPIC COUNT` publishes events to its topic, as
// docs/wire-contract.md says, and waits until they are confirmed.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: sdk URL TOPIC COUNT")
	}
	url, topic := os.Args[1], os.Args[2]
	count, err := strconv.Atoi(os.Args[3])
	check(err)
	connection, err := amqp.Dial(url)
	check(err)
	defer connection.Close()
	channel, err := connection.Channel()
	check(err)
	check(channel.ExchangeDeclare(topic, "fanout", true, false, false, false, nil))
	check(channel.Confirm(false))
	for number := 0; number < count; number++ {
		event := amqp.Publishing{
			ContentType:  "application/json",
			DeliveryMode: amqp.Persistent,
			MessageId:    fmt.Sprintf("go-%d", number),
			Timestamp:    time.Now(),
			Headers:      amqp.Table{"plan": "pro", "size": int32(number)},
			Body:         []byte(fmt.Sprintf(`{"number": %d, "from": "go"}`, number)),
		}
		confirm, err := channel.PublishWithDeferredConfirmWithContext(context.Background(), topic, "", true, false, event)
		check(err)
		if !confirm.Wait() {
			log.Fatal("the broker has refused an event")
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
