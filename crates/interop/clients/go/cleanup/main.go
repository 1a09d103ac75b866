// Deletes what the test suites of the two Go clients leave in a broker. They use the same names with
// other flags, so that neither would pass after the other, nor twice on the same broker.
package main

import (
	"log"
	"os"

	amqp "github.com/rabbitmq/amqp091-go"
)

var queues = []string{
	"test.tx.commit", "test.tx.rollback", "test.get-ok", "test.recover", "test.rabbitmq-message-ttl",
	"test.rabbitmq-basic-nack", "test.integration.channel.error", "test-integration-declared-passive-queue",
	"confirm", "return", "declareWithTTL", "declareArgs-deliveries-dead-letter",
}

var exchanges = []string{
	"test-get-next-pub", "test-integration-declared-passive-exchange", "declareArgs-dead-letter",
	"test-channel-still-exists",
}

func main() {
	connection, err := amqp.Dial(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil {
		log.Fatal(err)
	}
	for _, queue := range queues {
		if _, err := channel.QueueDelete(queue, false, false, false); err != nil {
			log.Fatalf("delete queue %s: %v", queue, err)
		}
	}
	for _, exchange := range exchanges {
		if err := channel.ExchangeDelete(exchange, false, false); err != nil {
			log.Fatalf("delete exchange %s: %v", exchange, err)
		}
	}
}
