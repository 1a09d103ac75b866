"""A service in Python beside one that uses the crate leveret: `sdk_reader.py URL QUEUE COUNT` takes messages from the queue of a
subscription, as docs/wire-contract.md says, and prints each as a line of JSON."""

import json
import sys

import pika


def main():
    url, queue, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=10)
    for method, properties, body in channel.consume(queue, inactivity_timeout=20):
        if method is None:
            sys.exit("nothing came for 20 seconds")
        line = {
            "id": properties.message_id,
            "type": properties.content_type,
            "mode": properties.delivery_mode,
            "headers": properties.headers,
            "event": json.loads(body),
        }
        print(json.dumps(line, sort_keys=True), flush=True)
        channel.basic_ack(method.delivery_tag)
        count -= 1
        if count == 0:
            break
    connection.close()


if __name__ == "__main__":
    main()
