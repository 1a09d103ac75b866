"""Every named situation of the Python clients, written once against the adapters' common shape."""

import hashlib
import os
import time

from report import IDLE_SECONDS, BrokerError, equal, eventually, in_background, into
from situations_errors import ERRORS

SITUATIONS = {}
situation = into(SITUATIONS)
QUIET = 0.2  # Seconds without a delivery after which we believe that none comes.
BODY_SIZE = 10 * 1024 * 1024
# While working on situations: only those whose names begin so.
ONLY = os.environ.get("INTEROP_ONLY", "")


class Case:
    """One situation's connections and names. Queues are exclusive where possible, so that they end with it."""

    def __init__(self, adapter, report, situation):
        self.adapter, self.report, self.situation = adapter, report, situation
        self.n = report.name(situation)
        self.connections = []

    def connect(self, **options):
        connection = self.adapter.connect(**options)
        self.connections.append(connection)
        return connection

    @property
    def ch(self):
        """The channel most situations need just one of."""
        if not self.connections:
            self.connect()
            self.first = self.connections[0].channel()
        return self.first

    def channel(self):
        self.ch  # The first connection exists from here on.
        return self.connections[0].channel()

    def queue(self, suffix="", **options):
        name = self.n + suffix
        self.ch.queue_declare(name, **({"exclusive": True} | options))
        return name

    def exchange(self, kind, suffix="", **options):
        name = self.n + suffix
        self.ch.exchange_delete(name)
        self.ch.exchange_declare(name, kind, **options)
        return name

    def observe(self, text):
        self.report.observe(self.situation, text)

    def count(self, queue):
        return self.ch.queue_declare(queue, passive=True)[1]

    def bodies(self, queue):
        """Takes all that is ready in the queue."""
        found = []
        while (message := self.ch.get(queue, no_ack=True)) is not None:
            found.append(message.body.decode())
        return found

    def collect(self, channel, into, count):
        """Waits for `count` deliveries, then a little longer: one too many must be seen as well."""
        eventually(lambda: channel.pump(0.02) or len(into) >= count)
        channel.pump(QUIET)
        equal(len(into), count)

    def close(self):
        for connection in self.connections:
            try:
                connection.close()
            except Exception:  # Most error situations have ended the connection already.
                pass


def run_all(adapter, report, more=None):
    """The idle minute first, in the background; then every other situation in order, `more` being a client's own."""
    idle = in_background(report, "heartbeat-idle-minute", lambda: idle_minute(adapter, report))
    for name, check in (SITUATIONS | (more or {}) | ERRORS).items():
        if not name.startswith(ONLY):
            continue
        case = Case(adapter, report, name)

        def attempt():
            if name not in ERRORS:
                return check(case)
            try:
                check(case)
            except BrokerError as error:
                return report.check_error(name, error)
            raise AssertionError("the broker accepted it")

        report.run(name, attempt)
        case.close()
    report.waiting()
    idle()


def idle_minute(adapter, report):
    """An idle connection lives through many heartbeat intervals: the broker sends them and accepts ours."""
    case = Case(adapter, report, "heartbeat-idle-minute")
    connection = case.connect(heartbeat=5)
    channel = connection.channel()
    deadline = time.monotonic() + IDLE_SECONDS
    while time.monotonic() < deadline:
        channel.pump(1.0)
    channel.queue_declare(case.n, exclusive=True)
    connection.close()


@situation("tune")
def tune(case):
    case.ch
    case.observe(f"negotiated {case.connections[0].tuned()}")
    equal(case.connections[0].tuned(), "channel_max=2047 frame_max=131072")


@situation("capabilities")
def capabilities(case):
    case.ch
    table = case.connections[0].server_capabilities()
    case.observe(" ".join(f"{name}={value}" for name, value in sorted(table.items())))
    wanted = "publisher_confirms exchange_exchange_bindings basic.nack consumer_cancel_notify connection.blocked"
    wanted += " consumer_priorities authentication_failure_close per_consumer_qos direct_reply_to"
    equal([name for name in wanted.split() if table.get(name) is not True], [])


@situation("declare")
def declare(case):
    case.exchange("direct", durable=True)
    case.ch.exchange_declare(case.n, "direct", durable=True)
    case.ch.exchange_declare(case.n, "direct", passive=True)
    case.ch.queue_delete(case.n)
    equal(case.ch.queue_declare(case.n, durable=True), (case.n, 0, 0))
    equal(case.ch.queue_declare(case.n, durable=True), (case.n, 0, 0))
    equal(case.ch.queue_delete(case.n), 0)
    case.ch.exchange_delete(case.n)


@situation("bind")
def bind(case):
    exchange, queue = case.exchange("direct"), case.queue()
    case.ch.queue_bind(queue, exchange, "here")
    case.ch.publish(exchange, "here", b"1")
    case.ch.publish(exchange, "elsewhere", b"2")
    equal(case.bodies(queue), ["1"])
    case.ch.queue_unbind(queue, exchange, "here")
    case.ch.publish(exchange, "here", b"3")
    equal(case.bodies(queue), [])
    case.ch.exchange_delete(exchange)


@situation("publish-confirm")
def publish_confirm(case):
    queue = case.queue()
    case.ch.confirm_select()
    for number in range(50):
        case.ch.publish("", queue, str(number).encode())
    equal(case.ch.wait_confirms(), (50, 0))
    equal(case.bodies(queue), [str(number) for number in range(50)])


@situation("consume")
def consume(case):
    queue, messages = case.queue(), []
    properties = dict(content_type="text/plain", content_encoding="utf-8", headers={"a": 1}, delivery_mode=1)
    properties |= dict(priority=5, correlation_id="c", reply_to="r", expiration="60000", message_id="m")
    properties |= dict(timestamp=1700000000, type="t", user_id="guest", app_id="app")
    for number in range(10):
        case.ch.publish("", queue, str(number).encode(), properties)
    case.ch.consume(queue, messages.append, tag="mine", no_ack=True)
    case.collect(case.ch, messages, 10)
    equal([message.body.decode() for message in messages], [str(number) for number in range(10)])
    equal([message.delivery_tag for message in messages], list(range(1, 11)))
    first = messages[0]
    equal((first.exchange, first.routing_key, first.redelivered, first.consumer_tag), ("", queue, False, "mine"))
    equal(first.properties, properties)
    case.ch.cancel("mine")


@situation("ack")
def ack(case):
    queue = case.queue()
    for body in (b"1", b"2", b"3", b"4"):
        case.ch.publish("", queue, body)
    tags = [case.ch.get(queue).delivery_tag for _ in range(4)]
    equal(tags, [1, 2, 3, 4])
    case.ch.ack(1)
    case.ch.ack(3, multiple=True)
    case.ch.recover(requeue=True)
    equal(case.bodies(queue), ["4"])


@situation("nack-requeue")
def nack_requeue(case):
    queue = case.queue()
    for body in (b"1", b"2", b"3"):
        case.ch.publish("", queue, body)
    first = case.ch.get(queue)
    case.ch.nack(first.delivery_tag, requeue=True)
    again = case.ch.get(queue)
    equal((again.body, again.redelivered), (b"1", True))
    case.ch.nack(again.delivery_tag, requeue=False)
    case.ch.get(queue), case.ch.get(queue)
    case.ch.nack(0, multiple=True, requeue=True)
    equal(case.bodies(queue), ["2", "3"])


@situation("reject")
def reject(case):
    queue = case.queue()
    case.ch.publish("", queue, b"1")
    case.ch.reject(case.ch.get(queue).delivery_tag, requeue=True)
    again = case.ch.get(queue)
    equal((again.body, again.redelivered), (b"1", True))
    case.ch.reject(again.delivery_tag, requeue=False)
    equal(case.bodies(queue), [])


@situation("return-mandatory")
def return_mandatory(case):
    case.ch.publish("amq.direct", case.n, b"lost", mandatory=True)
    case.ch.barrier()
    eventually(lambda: case.ch.pump(0.02) or case.ch.returns)
    case.observe(case.ch.returns[0])
    equal(case.ch.returns, [f"312 NO_ROUTE amq.direct {case.n} lost"])


@situation("return-before-ack")
def return_before_ack(case):
    case.ch.confirm_select()
    case.ch.publish("amq.direct", case.n, b"lost", mandatory=True)
    equal(case.ch.wait_confirms(), (1, 0))
    equal(case.ch.order, ["return", "ack"])


@situation("body-10mib")
def body_10mib(case):
    queue = case.queue()
    body = bytes(range(256)) * (BODY_SIZE // 256)
    case.ch.publish("", queue, body)
    case.ch.publish("", queue, b"")
    case.ch.barrier()
    message = case.ch.get(queue, no_ack=True)
    equal((len(message.body), hashlib.sha256(message.body).digest()), (BODY_SIZE, hashlib.sha256(body).digest()))
    equal(case.ch.get(queue, no_ack=True).body, b"")


@situation("channels-2000")
def channels_2000(case):
    queue = case.queue()
    channels = [case.channel() for _ in range(1999)]
    channels[-1].publish("", queue, b"from the last")
    channels[-1].barrier()
    equal(case.bodies(queue), ["from the last"])


@situation("get-empty")
def get_empty(case):
    queue = case.queue()
    equal(case.ch.get(queue), None)
    for body in (b"1", b"2", b"3"):
        case.ch.publish("", queue, body)
    equal(case.ch.get(queue).remaining, 2)


@situation("purge")
def purge(case):
    queue = case.queue()
    for body in (b"1", b"2", b"3"):
        case.ch.publish("", queue, body)
    case.ch.get(queue)  # Unacknowledged messages are not purged, nor counted.
    equal(case.ch.queue_purge(queue), 2)


@situation("cancel-unknown")
def cancel_unknown(case):
    case.ch.cancel("never-existed")
    case.queue()


@situation("delete-missing")
def delete_missing(case):
    equal(case.ch.queue_delete(case.n), 0)
    case.ch.exchange_delete(case.n)


@situation("server-named")
def server_named(case):
    name = case.ch.queue_declare("", exclusive=True)[0]
    case.observe(f"{name[:8]}*")
    equal(name[:8], "amq.gen-")


@situation("last-declared-per-channel")
def last_declared(case):
    exchange, other = case.exchange("direct"), case.channel()
    case.ch.queue_declare(case.n + ".a", exclusive=True)
    other.queue_declare(case.n + ".b", exclusive=True)
    case.ch.queue_bind("", exchange, "")  # With an empty key too, the queue's name is the key.
    case.ch.publish(exchange, case.n + ".a", b"for a")
    eventually(lambda: case.count(case.n + ".a") == 1)
    equal(case.count(case.n + ".b"), 0)
    case.ch.exchange_delete(exchange)


@situation("passive-declare")
def passive_declare(case):
    queue = case.queue(arguments={"x-max-length": 10})
    case.ch.publish("", queue, b"1")
    case.ch.consume(queue, lambda message: None, tag="one")
    eventually(lambda: case.ch.pump(0.02) or case.ch.queue_declare(queue, passive=True) == (queue, 0, 1))
    exchange = case.exchange("topic")
    case.ch.exchange_declare(exchange, "topic", passive=True)
    case.ch.exchange_delete(exchange)


@situation("exclusive-gone")
def exclusive_gone(case):
    owner = case.connect()
    owner.channel().queue_declare(case.n, exclusive=True)
    owner.close()
    try:
        case.connect().channel().queue_declare(case.n, passive=True)
    except BrokerError as error:
        return equal(error.code, 404)
    raise AssertionError("the queue outlived close-ok")


def gone(case, declare):
    """True when a passive declare on a throwaway channel answers 404."""
    try:
        declare(case.channel())
        return False
    except BrokerError as error:
        equal(error.code, 404)
        return True


@situation("auto-delete-queue")
def auto_delete_queue(case):
    queue = case.queue(exclusive=False, auto_delete=True)
    case.ch.publish("", queue, b"1")
    case.ch.get(queue, no_ack=True)
    equal(gone(case, lambda ch: ch.queue_declare(queue, passive=True)), False)
    case.ch.consume(queue, lambda message: None, tag="last")
    case.ch.cancel("last")
    eventually(lambda: gone(case, lambda ch: ch.queue_declare(queue, passive=True)))


@situation("auto-delete-exchange")
def auto_delete_exchange(case):
    exchange, queue = case.exchange("fanout", auto_delete=True), case.queue()
    case.ch.queue_bind(queue, exchange, "")
    equal(gone(case, lambda ch: ch.exchange_declare(exchange, "fanout", passive=True)), False)
    case.ch.queue_unbind(queue, exchange, "")
    eventually(lambda: gone(case, lambda ch: ch.exchange_declare(exchange, "fanout", passive=True)))


@situation("alternate-exchange")
def alternate_exchange(case):
    alternate = case.exchange("fanout", ".alternate")
    exchange = case.exchange("direct", arguments={"alternate-exchange": alternate})
    queue, rest = case.queue(), case.queue(".rest")
    case.ch.queue_bind(queue, exchange, "k")
    case.ch.queue_bind(rest, alternate, "")
    case.ch.publish(exchange, "k", b"routed")
    case.ch.publish(exchange, "other", b"unrouted", mandatory=True)
    case.ch.barrier()
    equal((case.bodies(queue), case.bodies(rest), case.ch.returns), (["routed"], ["unrouted"], []))
    case.ch.exchange_delete(exchange), case.ch.exchange_delete(alternate)


@situation("exchange-to-exchange")
def exchange_to_exchange(case):
    source, target = case.exchange("topic", ".source"), case.exchange("fanout", ".target")
    queue = case.queue()
    case.ch.queue_bind(queue, target, "")
    case.ch.exchange_bind(target, source, "a.#")
    case.ch.publish(source, "a.b", b"1")
    case.ch.publish(source, "b.a", b"2")
    case.ch.exchange_unbind(target, source, "a.#")
    case.ch.publish(source, "a.b", b"3")
    equal(case.bodies(queue), ["1"])
    case.ch.exchange_delete(source), case.ch.exchange_delete(target)


@situation("headers-exchange")
def headers_exchange(case):
    exchange = case.exchange("headers")
    published = [{"a": 1, "b": "x"}, {"a": 1}, {"b": "x", "c": True}, {"x-a": 1}, {}]
    for match in ("all", "any", "all-with-x", "any-with-x"):
        with_x = match.endswith("with-x")
        queue = case.queue("." + match)
        wanted = {"x-match": match} | ({"x-a": 1} if with_x else {"a": 1, "b": "x"})
        case.ch.queue_bind(queue, exchange, "", wanted)
    for number, headers in enumerate(published):
        case.ch.publish(exchange, "", str(number).encode(), {"headers": headers})
    got = {match: case.bodies(f"{case.n}.{match}") for match in ("all", "any", "all-with-x", "any-with-x")}
    case.observe(got)
    equal(got, {"all": ["0"], "any": ["0", "1", "2"], "all-with-x": ["3"], "any-with-x": ["3"]})
    case.ch.exchange_delete(exchange)


@situation("topic-patterns")
def topic_patterns(case):
    exchange = case.exchange("topic")
    patterns = ["#", "*", "a.*", "a.#", "*.b", "#.b", "a.*.c", "a.#.c", "#.#", "*.#.*", "", "a..b"]
    keys = ["", "a", "a.b", "a.b.c", "a.c", "b", "a.x.y.c", "a..b", "A.b"]
    matched = {key: [] for key in keys}
    for number, pattern in enumerate(patterns):
        case.ch.queue_bind(case.queue(f".{number}"), exchange, pattern)
    for key in keys:
        case.ch.publish(exchange, key, key.encode())
    for number, pattern in enumerate(patterns):
        for key in case.bodies(f"{case.n}.{number}"):
            matched[key].append(pattern)
    for key, found in matched.items():
        case.observe(f"{key!r} matches {found}")
    equal(matched["a.b.c"], ["#", "a.#", "a.*.c", "a.#.c", "#.#", "*.#.*"])
    equal(matched["a.b"], ["#", "a.*", "a.#", "*.b", "#.b", "#.#", "*.#.*"])
    equal(matched[""], ["#", "#.#", ""])
    case.ch.exchange_delete(exchange)


@situation("cc-bcc")
def cc_bcc(case):
    queues = [case.queue(suffix) for suffix in (".to", ".cc", ".bcc")]
    headers = {"CC": [queues[1]], "BCC": [queues[2]], "kept": 1}
    case.ch.publish("", queues[0], b"1", {"headers": headers})
    for queue in queues:
        message = case.ch.get(queue, no_ack=True)
        equal(message.properties["headers"], {"CC": [queues[1]], "kept": 1})


@situation("direct-reply-to")
def direct_reply_to(case):
    queue, answers, server = case.queue(), [], case.channel()
    case.ch.consume("amq.rabbitmq.reply-to", answers.append, tag="reply", no_ack=True)
    case.ch.publish("", queue, b"ping", {"reply_to": "amq.rabbitmq.reply-to", "correlation_id": "7"})
    case.ch.barrier()
    request = server.get(queue, no_ack=True)
    equal(request.properties["reply_to"].startswith("amq.rabbitmq.reply-to."), True)
    server.publish("", request.properties["reply_to"], b"pong", {"correlation_id": "7"})
    case.collect(case.ch, answers, 1)
    equal((answers[0].body, answers[0].properties["correlation_id"]), (b"pong", "7"))


@situation("consumer-priority")
def consumer_priority(case):
    queue, low, high = case.queue(), [], []
    case.ch.consume(queue, low.append, tag="low", no_ack=True)
    case.ch.consume(queue, high.append, tag="high", no_ack=True, arguments={"x-priority": 10})
    for _ in range(10):
        case.ch.publish("", queue, b"1")
    case.collect(case.ch, high, 10)
    equal(low, [])


@situation("prefetch-consumer")
def prefetch_consumer(case):
    queue, messages = case.queue(), []
    for body in (b"1", b"2", b"3", b"4", b"5"):
        case.ch.publish("", queue, body)
    case.ch.qos(2)
    case.ch.consume(queue, messages.append, tag="limited")
    case.collect(case.ch, messages, 2)
    case.ch.ack(2, multiple=True)
    case.collect(case.ch, messages, 4)


@situation("prefetch-global")
def prefetch_global(case):
    queue, messages = case.queue(), []
    for number in range(10):
        case.ch.publish("", queue, b"1")
    case.ch.qos(3, shared=True)
    case.ch.consume(queue, messages.append, tag="one")
    case.ch.consume(queue, messages.append, tag="two")
    case.collect(case.ch, messages, 3)


@situation("prefetch-change")
def prefetch_change(case):
    """basic.qos(global=false) is for consumers to come; py-amqp alone relies on its changing existing ones."""
    queue, messages = case.queue(), []
    for number in range(10):
        case.ch.publish("", queue, b"1")
    case.ch.qos(1)
    case.ch.consume(queue, messages.append, tag="one")
    case.collect(case.ch, messages, 1)
    case.ch.qos(5)
    time.sleep(0.1)
    case.ch.pump(QUIET)
    case.observe(f"{len(messages)} outstanding after qos(1), consume, qos(5)")
    equal(len(messages), case.adapter.prefetch_after_change())


@situation("cancel-notify")
def cancel_notify(case):
    queue = case.queue()
    case.ch.consume(queue, lambda message: None, tag="gone")
    case.channel().queue_delete(queue)
    eventually(lambda: case.ch.pump(0.02) or case.ch.cancelled)
    equal(case.ch.cancelled, ["gone"])


@situation("requeue-order")
def requeue_order(case):
    queue = case.queue()
    for number in range(1, 7):
        case.ch.publish("", queue, str(number).encode())
    tags = [case.ch.get(queue).delivery_tag for _ in range(5)]
    for tag in (tags[2], tags[0], tags[4], tags[3], tags[1]):
        case.ch.nack(tag, requeue=True)
    got = [case.ch.get(queue) for _ in range(6)]
    equal([message.body.decode() for message in got], ["1", "2", "3", "4", "5", "6"])
    equal([message.redelivered for message in got], [True] * 5 + [False])


@situation("recover-requeue")
def recover_requeue(case):
    queue = case.queue()
    case.ch.publish("", queue, b"1")
    case.ch.publish("", queue, b"2")
    case.ch.get(queue), case.ch.get(queue)
    case.ch.recover(requeue=True)
    again = [case.ch.get(queue) for _ in range(2)]
    equal([(message.body, message.redelivered) for message in again], [(b"1", True), (b"2", True)])


@situation("redelivered-after-close")
def redelivered_after_close(case):
    queue = case.queue(exclusive=False, auto_delete=False)
    holder = case.connect()
    case.ch.publish("", queue, b"1")
    case.ch.barrier()
    equal(holder.channel().get(queue).redelivered, False)
    holder.close()
    equal(eventually(lambda: case.ch.get(queue, no_ack=True)).redelivered, True)
    case.ch.queue_delete(queue)


@situation("tx-commit")
def tx_commit(case):
    queue, observer = case.queue(), case.channel()
    case.ch.publish("", queue, b"0")
    case.ch.barrier()
    case.ch.tx_select()
    held = case.ch.get(queue)
    case.ch.publish("", queue, b"1")
    case.ch.publish("", queue, b"2")
    case.ch.ack(held.delivery_tag)
    equal(observer.queue_declare(queue, passive=True)[1], 0)
    case.ch.tx_commit()
    eventually(lambda: observer.queue_declare(queue, passive=True)[1] == 2)
    case.ch.recover(requeue=True)
    equal(case.bodies(queue), ["1", "2"])


@situation("tx-rollback")
def tx_rollback(case):
    queue = case.queue()
    case.ch.publish("", queue, b"0")
    case.ch.barrier()
    case.ch.tx_select()
    held = case.ch.get(queue)
    case.ch.ack(held.delivery_tag)
    case.ch.publish("", queue, b"1")
    case.ch.tx_rollback()
    equal(case.count(queue), 0)
    case.ch.recover(requeue=True)  # The ack was rolled back as well: the message is still ours to requeue.
    equal(case.bodies(queue), ["0"])


@situation("unicode-names")
def unicode_names(case):
    exchange, queue = case.exchange("direct", ".échange-交換"), case.queue(".file-キュー-🐇")
    case.ch.queue_bind(queue, exchange, "clé-鍵")
    case.ch.publish(exchange, "clé-鍵", "Grüße".encode())
    message = case.ch.get(queue, no_ack=True)
    equal((message.exchange, message.routing_key, message.body.decode()), (exchange, "clé-鍵", "Grüße"))
    case.ch.exchange_delete(exchange)


@situation("table-roundtrip")
def table_roundtrip(case):
    queue, table = case.queue(), case.adapter.sample_table()
    case.ch.publish("", queue, b"", {"headers": table})
    got = case.ch.get(queue, no_ack=True).properties["headers"]
    case.observe(sorted(got.items(), key=str))
    equal(got, table)
