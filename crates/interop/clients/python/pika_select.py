"""Judges a broker with pika's asynchronous SelectConnection: pika_select.py amqp://guest:guest@host:port

The connection's loop runs in a thread of its own; every call is handed to it and awaited, so that the
situations stay the same as those of the other clients.
"""

import concurrent.futures
import sys
import threading
import time

import pika
import pika.exceptions

from pika_blocking import Message, broker_error
from pika_blocking import Adapter as BlockingAdapter
from report import Report, Skip, finish
from situations import run_all

ANSWER_SECONDS = 10


class Loop:
    """One connection with the thread that drives it."""

    def __init__(self, parameters):
        self.opened = concurrent.futures.Future()
        self.ended = concurrent.futures.Future()
        self.connection = pika.SelectConnection(
            parameters,
            on_open_callback=lambda connection: self.opened.set_result(None),
            on_open_error_callback=lambda connection, error: self._end(error),
            on_close_callback=lambda connection, error: self._end(error),
        )
        threading.Thread(target=self.connection.ioloop.start, daemon=True).start()
        self.opened.result(ANSWER_SECONDS)

    def _end(self, error):
        if not self.opened.done():
            self.opened.set_exception(broker_error(error) or error)
        self.ended.set_result(error)
        self.connection.ioloop.stop()

    def call(self, start):
        """Runs start(future) in the loop's thread and waits until the future has its result."""
        future = concurrent.futures.Future()

        def begin():
            try:
                start(future)
            except Exception as error:  # It belongs to the caller, in the other thread.
                if not future.done():
                    future.set_exception(error)

        self.connection.ioloop.add_callback_threadsafe(begin)
        return future.result(ANSWER_SECONDS)


class Channel:
    def __init__(self, loop):
        self.loop, self.waiting, self.closed = loop, None, None
        self.returns, self.order, self.cancelled = [], [], []
        self.published = self.acked = self.nacked = self.settled = 0
        self.channel = loop.call(lambda future: loop.connection.channel(on_open_callback=future.set_result))
        self.channel.add_on_close_callback(self._closed)
        self.channel.add_on_return_callback(self._returned)
        # An empty get reaches another callback than GetOk, which comes with the message.
        self.channel.add_callback(lambda frame: self.waiting.set_result(None), [pika.spec.Basic.GetEmpty], False)
        self.channel.add_on_cancel_callback(lambda frame: self.cancelled.append(frame.method.consumer_tag))

    def _closed(self, _channel, error):
        self.closed = broker_error(error)
        if self.waiting and not self.waiting.done():
            self.waiting.set_exception(self.closed or error)

    def _returned(self, _channel, method, _properties, body):
        text = f"{method.reply_code} {method.reply_text} {method.exchange} {method.routing_key} {body.decode()}"
        self.returns.append(text)
        self.order.append("return")

    def _settled(self, frame):
        name = "acked" if isinstance(frame.method, pika.spec.Basic.Ack) else "nacked"
        tag = frame.method.delivery_tag
        count = tag - self.settled if frame.method.multiple else 1
        setattr(self, name, getattr(self, name) + count)
        self.settled = max(self.settled, tag)
        self.order.append("ack")

    def _ask(self, method, *args, **kwargs):
        """A method with an answer: pika calls back with its frame."""

        def start(future):
            self.waiting = future
            if self.closed:
                raise self.closed
            getattr(self.channel, method)(*args, **kwargs, callback=future.set_result)

        return self.loop.call(start).method

    def _tell(self, method, *args, **kwargs):
        """A method without an answer."""

        def start(future):
            if self.closed:
                raise self.closed
            future.set_result(getattr(self.channel, method)(*args, **kwargs))

        return self.loop.call(start)

    def exchange_declare(self, name, kind, **options):
        self._ask("exchange_declare", name, kind, **options)

    def exchange_delete(self, name, if_unused=False):
        self._ask("exchange_delete", name, if_unused)

    def exchange_bind(self, destination, source, key):
        self._ask("exchange_bind", destination, source, key)

    def exchange_unbind(self, destination, source, key):
        self._ask("exchange_unbind", destination, source, key)

    def queue_declare(self, name, **options):
        ok = self._ask("queue_declare", name, **options)
        return ok.queue, ok.message_count, ok.consumer_count

    def queue_bind(self, queue, exchange, key, arguments=None):
        self._ask("queue_bind", queue, exchange, key, arguments)

    def queue_unbind(self, queue, exchange, key):
        self._ask("queue_unbind", queue, exchange, key)

    def queue_purge(self, queue):
        return self._ask("queue_purge", queue).message_count

    def queue_delete(self, queue, if_unused=False, if_empty=False):
        return self._ask("queue_delete", queue, if_unused, if_empty).message_count

    def publish(self, exchange, key, body, properties=None, mandatory=False, immediate=False):
        if immediate:
            raise Skip("pika has no argument for immediate; pika-blocking sends it")
        properties = pika.BasicProperties(**(properties or {}))
        self._tell("basic_publish", exchange, key, body, properties, mandatory)
        self.published += 1

    def get(self, queue, no_ack=False):
        def start(future):
            self.waiting = future
            self.channel.basic_get(queue, lambda _ch, *parts: future.set_result(Message(*parts)), no_ack)

        if self.closed:
            raise self.closed
        return self.loop.call(start)

    def consume(self, queue, callback, tag, no_ack=False, exclusive=False, arguments=None):
        def deliver(_channel, *parts):
            callback(Message(*parts))

        try:
            self._ask("basic_consume", queue, deliver, no_ack, exclusive, tag, arguments)
        except pika.exceptions.DuplicateConsumerTag:
            raise Skip("pika refuses a tag that is in use without asking the broker") from None

    def cancel(self, tag):
        if tag not in self.channel.consumer_tags:
            raise Skip("pika ignores an unknown tag without asking the broker")
        self._ask("basic_cancel", tag)

    def ack(self, tag, multiple=False):
        self._tell("basic_ack", tag, multiple)

    def nack(self, tag, multiple=False, requeue=True):
        self._tell("basic_nack", tag, multiple, requeue)

    def reject(self, tag, requeue):
        self._tell("basic_reject", tag, requeue)

    def recover(self, requeue):
        self._ask("basic_recover", requeue)

    def qos(self, count, size=0, shared=False):
        self._ask("basic_qos", size, count, shared)

    def flow(self, active):
        def start(future):
            self.waiting = future
            self.channel.flow(active, future.set_result)

        self.loop.call(start)

    def confirm_select(self):
        self._ask("confirm_delivery", self._settled)
        self.published = 0

    def wait_confirms(self):
        deadline = time.monotonic() + ANSWER_SECONDS
        while self.acked + self.nacked < self.published and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.acked, self.nacked

    def tx_select(self):
        self._ask("tx_select")

    def tx_commit(self):
        self._ask("tx_commit")

    def tx_rollback(self):
        self._ask("tx_rollback")

    def barrier(self):
        """Any synchronous method: what the broker had to say about earlier ones has arrived after it."""
        self._ask("basic_qos", 0, 0)

    def pump(self, seconds):
        time.sleep(seconds)  # The loop's thread delivers meanwhile.


class Connection:
    def __init__(self, loop):
        self.loop = loop

    def channel(self):
        return Channel(self.loop)

    def tuned(self):
        params = self.loop.connection.params
        return f"channel_max={params.channel_max} frame_max={params.frame_max}"

    def server_capabilities(self):
        return self.loop.connection.server_capabilities

    def close(self):
        if not self.loop.ended.done():
            self.loop.call(lambda future: future.set_result(self.loop.connection.close()))
            self.loop.ended.result(ANSWER_SECONDS)


class Adapter(BlockingAdapter):
    def connect(self, **options):
        return Connection(Loop(self.parameters(**options)))


if __name__ == "__main__":
    report = Report("pika-select")
    run_all(Adapter(sys.argv[1]), report)
    finish(report)
