"""Judges a broker with py-amqp, the client beneath kombu and celery: py_amqp.py amqp://guest:guest@host:port"""

import datetime
import decimal
import functools
import os
import socket
import sys
import time
import urllib.parse

import amqp

from report import BrokerError, Report, Skip, finish
from situations import run_all
from situations_arguments import ARGUMENTS
from situations_filters import FILTERS
from situations_groups import GROUPS
from situations_letters import LETTERS
from situations_limits import LIMITS
from situations_once import ONCE


def translated(cls):
    """Class decorator: every public method raises BrokerError where py-amqp raises its own exceptions."""

    def wrap(method):
        @functools.wraps(method)
        def call(*args, **kwargs):
            try:
                return method(*args, **kwargs)
            except amqp.AMQPError as error:
                if not error.code or not error.method_sig:
                    raise
                # A refused login is AccessRefused, to py-amqp an error of a channel; no method failed then.
                of_channel = isinstance(error, amqp.ChannelError) and tuple(error.method_sig) != (0, 0)
                scope = "channel" if of_channel else "connection"
                raise BrokerError(scope, error.code, error.reply_text, *error.method_sig) from error

        return call

    for name, method in list(vars(cls).items()):
        if callable(method) and not name.startswith("_"):
            setattr(cls, name, wrap(method))
    return cls


class Message:
    def __init__(self, message):
        info = message.delivery_info
        self.exchange, self.routing_key = info["exchange"], info["routing_key"]
        self.redelivered, self.delivery_tag = info["redelivered"], info["delivery_tag"]
        self.consumer_tag, self.remaining = info.get("consumer_tag"), info.get("message_count")
        self.properties = dict(message.properties)
        if "application_headers" in self.properties:
            self.properties["headers"] = self.properties.pop("application_headers")
        body = message.body
        self.body = body.encode() if isinstance(body, str) else bytes(body)


@translated
class Channel:
    def __init__(self, connection, channel):
        self.connection, self.channel = connection, channel
        self.returns, self.order, self.cancelled = [], [], []
        self.published = self.acked = self.nacked = 0
        self.open = set()
        channel.events["basic_return"].add(self._returned)
        channel.events["basic_ack"].add(self._acked)
        channel.events["basic_nack"].add(self._nacked)

    def _returned(self, error, exchange, routing_key, message):
        body = message.body if isinstance(message.body, str) else message.body.decode()
        self.returns.append(f"{error.reply_code} {error.reply_text} {exchange} {routing_key} {body}")
        self.order.append("return")

    def _acked(self, tag, multiple):
        self.acked += self._settle(tag, multiple)
        self.order.append("ack")

    def _nacked(self, tag, multiple):
        self.nacked += self._settle(tag, multiple)
        self.order.append("nack")

    def _settle(self, tag, multiple):
        """How many this settles: a broker may confirm in any order, and `multiple` means what is left up to the tag."""
        settled = {open for open in self.open if open == tag or multiple and open < tag}
        self.open -= settled
        return len(settled)

    def exchange_declare(self, name, kind, passive=False, durable=False, auto_delete=False, internal=False,
                         arguments=None):
        if internal:
            raise Skip("py-amqp can't declare an internal exchange")
        self.channel.exchange_declare(name, kind, passive, durable, auto_delete, arguments=arguments)

    def exchange_delete(self, name, if_unused=False):
        self.channel.exchange_delete(name, if_unused)

    def exchange_bind(self, destination, source, key, arguments=None):
        self.channel.exchange_bind(destination, source, key, arguments=arguments)

    def exchange_unbind(self, destination, source, key, arguments=None):
        self.channel.exchange_unbind(destination, source, key, arguments=arguments)

    def queue_declare(self, name, passive=False, durable=False, exclusive=False, auto_delete=False, arguments=None):
        return tuple(self.channel.queue_declare(name, passive, durable, exclusive, auto_delete, arguments=arguments))

    def queue_bind(self, queue, exchange, key, arguments=None):
        self.channel.queue_bind(queue, exchange, key, arguments=arguments)

    def queue_unbind(self, queue, exchange, key, arguments=None):
        self.channel.queue_unbind(queue, exchange, key, arguments=arguments)

    def queue_purge(self, queue):
        return self.channel.queue_purge(queue)

    def queue_delete(self, queue, if_unused=False, if_empty=False):
        return self.channel.queue_delete(queue, if_unused, if_empty)

    def publish(self, exchange, key, body, properties=None, mandatory=False, immediate=False):
        properties = dict(properties or {})
        if "headers" in properties:
            properties["application_headers"] = properties.pop("headers")
        self.channel.basic_publish(amqp.Message(body, **properties), exchange, key, mandatory, immediate)
        self.published += 1
        self.open.add(self.published)

    def get(self, queue, no_ack=False):
        message = self.channel.basic_get(queue, no_ack)
        return Message(message) if message else None

    def consume(self, queue, callback, tag, no_ack=False, exclusive=False, arguments=None):
        if tag in self.channel.callbacks:
            # The second callback replaces the first; what the broker says to it is what we are after.
            callback = self.channel.callbacks[tag]
        self.channel.basic_consume(
            queue, tag, no_ack=no_ack, exclusive=exclusive, arguments=arguments,
            callback=lambda message: callback(Message(message)), on_cancel=self.cancelled.append,
        )

    def cancel(self, tag):
        self.channel.basic_cancel(tag)

    def ack(self, tag, multiple=False):
        self.channel.basic_ack(tag, multiple)

    def nack(self, tag, multiple=False, requeue=True):
        # py-amqp has no basic_nack; its method writer takes the ids.
        self.channel.send_method((60, 120), "Lbb", (tag, multiple, requeue))

    def reject(self, tag, requeue):
        self.channel.basic_reject(tag, requeue)

    def recover(self, requeue):
        self.channel.basic_recover(requeue)

    def qos(self, count, size=0, shared=False):
        self.channel.basic_qos(size, count, shared)

    def flow(self, active):
        self.channel.flow(active)

    def confirm_select(self):
        self.channel.confirm_select()
        self.published, self.open = 0, set()

    def wait_confirms(self):
        while self.open:
            self.connection.drain_events(timeout=5)
        return self.acked, self.nacked

    def tx_select(self):
        self.channel.tx_select()

    def tx_commit(self):
        self.channel.tx_commit()

    def tx_rollback(self):
        self.channel.tx_rollback()

    def barrier(self):
        """Any synchronous method: what the broker had to say about earlier ones has arrived after it."""
        self.channel.basic_qos(0, 0, False)

    def pump(self, seconds):
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self.connection.drain_events(timeout=left)
            except socket.timeout:
                pass
        if self.connection.heartbeat:
            self.connection.heartbeat_tick()


@translated
class Connection:
    def __init__(self, connection):
        self.connection = connection

    def channel(self):
        return Channel(self.connection, self.connection.channel())

    def tuned(self):
        return f"channel_max={self.connection.channel_max} frame_max={self.connection.frame_max}"

    def server_capabilities(self):
        return self.connection.server_capabilities

    def close(self):
        self.connection.close()

    def drop(self):
        """Ends it without a word, as a crash does."""
        self.connection.transport.sock.shutdown(socket.SHUT_RDWR)


@translated
class Adapter:
    def __init__(self, url):
        self.url = urllib.parse.urlparse(url)

    def connect(self, password="guest", vhost="/", heartbeat=0):
        host = f"{self.url.hostname}:{self.url.port or 5672}"
        connection = amqp.Connection(host, "guest", password, virtual_host=vhost, heartbeat=heartbeat,
                                     connect_timeout=10, read_timeout=10, write_timeout=10)
        connection.connect()
        return Connection(connection)

    def prefetch_after_change(self):
        """kombu changes the prefetch of live consumers this way on brokers that aren't RabbitMQ."""
        return 1 if os.environ.get("INTEROP_BROKER") == "rabbitmq" else 5

    def sample_table(self):
        """One value of each type that py-amqp can write."""
        table = {"true": True, "int": 7, "negative": -7, "long": 2**40, "float": 2.5, "string": "é", "none": None}
        table |= {"decimal": decimal.Decimal("12.34"), "list": [1, "two", [3]]}
        table |= {"time": datetime.datetime(2023, 11, 14, 22, 13, 20)}
        return table | {"table": {"inner": {"deep": 1}}, "empty": {}}


if __name__ == "__main__":
    report = Report("py-amqp")
    run_all(Adapter(sys.argv[1]), report, LETTERS | LIMITS | ARGUMENTS | GROUPS | ONCE | FILTERS)
    finish(report)
