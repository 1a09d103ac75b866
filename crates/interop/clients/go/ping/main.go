// The reference program: what a Go service written against RabbitMQ years ago looks like, unmodified.
//
// One goroutine publishes a number with a timestamp to amq.topic each second; another reads them
// from a queue bound with "#". Without arguments it runs until interrupted; `ping URL 3` ends after
// three messages, which is how it is used as a test.
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/streadway/amqp"
)

func main() {
	url, limit := "amqp://localhost", 0
	if len(os.Args) > 1 {
		url = os.Args[1]
	}
	if len(os.Args) > 2 {
		limit, _ = strconv.Atoi(os.Args[2])
	}
	connection, err := amqp.Dial(url)
	if err != nil {
		log.Fatalf("dial %s: %v", url, err)
	}
	defer connection.Close()
	ready := make(chan struct{})
	go publish(connection, ready)
	subscribe(connection, ready, limit)
}

func publish(connection *amqp.Connection, ready <-chan struct{}) {
	channel, err := connection.Channel()
	if err != nil {
		log.Fatalf("channel: %v", err)
	}
	<-ready
	for number := 1; ; number++ {
		message := amqp.Publishing{
			ContentType: "text/plain",
			Timestamp:   time.Now(),
			Body:        []byte(strconv.Itoa(number)),
		}
		if err := channel.Publish("amq.topic", "ping", false, false, message); err != nil {
			log.Fatalf("publish: %v", err)
		}
		time.Sleep(time.Second)
	}
}

func subscribe(connection *amqp.Connection, ready chan<- struct{}, limit int) {
	channel, err := connection.Channel()
	if err != nil {
		log.Fatalf("channel: %v", err)
	}
	queue, err := channel.QueueDeclare("test", false, true, false, false, nil)
	if err != nil {
		log.Fatalf("declare: %v", err)
	}
	if err := channel.QueueBind(queue.Name, "#", "amq.topic", false, nil); err != nil {
		log.Fatalf("bind: %v", err)
	}
	deliveries, err := channel.Consume(queue.Name, "", false, false, false, false, nil)
	if err != nil {
		log.Fatalf("consume: %v", err)
	}
	close(ready)
	count := 0
	for delivery := range deliveries {
		fmt.Println(string(delivery.Body), delivery.Timestamp.Format(time.RFC3339))
		if err := delivery.Ack(false); err != nil {
			log.Fatalf("ack: %v", err)
		}
		if count++; count == limit {
			return
		}
	}
	log.Fatal("the broker ended the subscription")
}
