"""Judges a broker with pika's BlockingConnection: pika_blocking.py amqp://guest:guest@host:port"""

import decimal
import functools
import re
import sys

import pika
import pika.exceptions
from pika import spec

from report import BrokerError, Report, Skip, finish
from situations import run_all
from situations_filters import FILTERS
from situations_groups import GROUPS
from situations_once import ONCE

CLOSED = {"channel": pika.exceptions.ChannelClosedByBroker, "connection": pika.exceptions.ConnectionClosedByBroker}
PROPERTIES = "content_type content_encoding headers delivery_mode priority correlation_id reply_to expiration"
PROPERTIES = (PROPERTIES + " message_id timestamp type user_id app_id").split()


def broker_error(error):
    """pika's exceptions in the common shape; None when the broker didn't cause them. pika hides class and method."""
    for scope, kind in CLOSED.items():
        if isinstance(error, kind):
            return BrokerError(scope, error.reply_code, error.reply_text)
    probable = (pika.exceptions.ProbableAuthenticationError, pika.exceptions.ProbableAccessDeniedError)
    if isinstance(error, probable) and (found := re.search(r"\((\d+)\) ['\"](.*)['\"]", str(error))):
        return BrokerError("connection", int(found[1]), found[2])
    return None


def translated(cls):
    """Class decorator: every public method raises BrokerError where pika raises its own exceptions."""

    def wrap(method):
        @functools.wraps(method)
        def call(*args, **kwargs):
            try:
                return method(*args, **kwargs)
            except pika.exceptions.AMQPError as error:
                raise broker_error(error) or error

        return call

    for name, method in list(vars(cls).items()):
        if callable(method) and not name.startswith("_"):
            setattr(cls, name, wrap(method))
    return cls


class Message:
    def __init__(self, method, properties, body):
        self.exchange, self.routing_key = method.exchange, method.routing_key
        self.redelivered, self.delivery_tag = method.redelivered, method.delivery_tag
        self.consumer_tag = getattr(method, "consumer_tag", None)
        self.remaining = getattr(method, "message_count", None)
        values = {name: getattr(properties, name) for name in PROPERTIES}
        self.properties = {name: value for name, value in values.items() if value is not None}
        self.body = body


@translated
class Channel:
    def __init__(self, connection, channel):
        self.connection, self.channel = connection, channel
        self.returns, self.order, self.cancelled = [], [], []
        self.confirms, self.acked, self.nacked = False, 0, 0
        channel.add_on_return_callback(self._returned)
        channel.add_on_cancel_callback(lambda frame: self.cancelled.append(frame.method.consumer_tag))

    def _returned(self, _channel, method, _properties, body):
        text = f"{method.reply_code} {method.reply_text} {method.exchange} {method.routing_key} {body.decode()}"
        self.returns.append(text)

    def exchange_declare(self, name, kind, passive=False, durable=False, auto_delete=False, internal=False,
                         arguments=None):
        self.channel.exchange_declare(name, kind, passive, durable, auto_delete, internal, arguments)

    def exchange_delete(self, name, if_unused=False):
        self.channel.exchange_delete(name, if_unused)

    def exchange_bind(self, destination, source, key, arguments=None):
        self.channel.exchange_bind(destination, source, key, arguments)

    def exchange_unbind(self, destination, source, key, arguments=None):
        self.channel.exchange_unbind(destination, source, key, arguments)

    def queue_declare(self, name, **options):
        ok = self.channel.queue_declare(name, **options).method
        return ok.queue, ok.message_count, ok.consumer_count

    def queue_bind(self, queue, exchange, key, arguments=None):
        self.channel.queue_bind(queue, exchange, key, arguments)

    def queue_unbind(self, queue, exchange, key, arguments=None):
        self.channel.queue_unbind(queue, exchange, key, arguments)

    def queue_purge(self, queue):
        return self.channel.queue_purge(queue).method.message_count

    def queue_delete(self, queue, if_unused=False, if_empty=False):
        return self.channel.queue_delete(queue, if_unused, if_empty).method.message_count

    def publish(self, exchange, key, body, properties=None, mandatory=False, immediate=False):
        properties = pika.BasicProperties(**(properties or {}))
        if immediate:  # pika has no argument for it any more, its generated methods still do.
            publish = spec.Basic.Publish(exchange=exchange, routing_key=key, immediate=True)
            return self.channel._impl._send_method(publish, (properties, body))
        try:
            self.channel.basic_publish(exchange, key, body, properties, mandatory)
            self.acked += self.confirms
        except pika.exceptions.UnroutableError:
            # pika raises this when the ack arrives and a return was there before it.
            self.order += ["return", "ack"]
            self.acked += 1
        except pika.exceptions.NackError:
            self.nacked += 1

    def get(self, queue, no_ack=False):
        method, properties, body = self.channel.basic_get(queue, no_ack)
        return Message(method, properties, body) if method else None

    def consume(self, queue, callback, tag, no_ack=False, exclusive=False, arguments=None):
        def deliver(_channel, method, properties, body):
            callback(Message(method, properties, body))

        try:
            self.channel.basic_consume(queue, deliver, no_ack, exclusive, tag, arguments)
        except pika.exceptions.DuplicateConsumerTag:
            raise Skip("pika refuses a tag that is in use without asking the broker") from None

    def cancel(self, tag):
        if tag not in self.channel.consumer_tags:
            raise Skip("pika ignores an unknown tag without asking the broker")
        self.channel.basic_cancel(tag)

    def ack(self, tag, multiple=False):
        self.channel.basic_ack(tag, multiple)

    def nack(self, tag, multiple=False, requeue=True):
        self.channel.basic_nack(tag, multiple, requeue)

    def reject(self, tag, requeue):
        self.channel.basic_reject(tag, requeue)

    def recover(self, requeue):
        self.channel.basic_recover(requeue)

    def qos(self, count, size=0, shared=False):
        self.channel.basic_qos(size, count, shared)

    def flow(self, active):
        self.channel.flow(active)

    def confirm_select(self):
        self.channel.confirm_delivery()
        self.confirms = True

    def wait_confirms(self):
        return self.acked, self.nacked  # publish() waited for each.

    def tx_select(self):
        self.channel.tx_select()

    def tx_commit(self):
        self.channel.tx_commit()

    def tx_rollback(self):
        self.channel.tx_rollback()

    def barrier(self):
        """Any synchronous method: what the broker had to say about earlier ones has arrived after it."""
        self.channel.basic_qos(prefetch_count=0)

    def pump(self, seconds):
        self.connection.process_data_events(seconds)


@translated
class Connection:
    def __init__(self, connection):
        self.connection = connection

    def channel(self):
        return Channel(self.connection, self.connection.channel())

    def tuned(self):
        params = self.connection._impl.params
        return f"channel_max={params.channel_max} frame_max={params.frame_max}"

    def server_capabilities(self):
        return self.connection._impl.server_capabilities

    def close(self):
        self.connection.close()

    def drop(self):
        raise Skip("pika can't lose a connection without a word")


@translated
class Adapter:
    def __init__(self, url):
        self.url = url

    def parameters(self, password=None, vhost=None, heartbeat=None):
        parameters = pika.URLParameters(self.url)
        parameters.socket_timeout = parameters.blocked_connection_timeout = 10
        if password:
            parameters.credentials = pika.PlainCredentials("guest", password)
        if vhost:
            parameters.virtual_host = vhost
        if heartbeat:
            parameters.heartbeat = heartbeat
        return parameters

    def connect(self, **options):
        return Connection(pika.BlockingConnection(self.parameters(**options)))

    def prefetch_after_change(self):
        return 1

    def sample_table(self):
        """One value of each type that pika can write (it has no floats)."""
        table = {"true": True, "int": 7, "negative": -7, "long": 2**40, "string": "é", "bytes": b"\x00\xff"}
        table |= {"decimal": decimal.Decimal("12.34"), "none": None, "list": [1, "two", [3]]}
        return table | {"table": {"inner": {"deep": 1}}, "empty": {}}


if __name__ == "__main__":
    report = Report("pika-blocking")
    run_all(Adapter(sys.argv[1]), report, GROUPS | ONCE | FILTERS)
    finish(report)
