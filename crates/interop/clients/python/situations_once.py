"""Messages that were published before: by key in a window, and by their producers' numbers (docs/deduplication.md)."""

from report import BrokerError, equal, eventually
from situations_own import headers, own, refused, sent
from victim import Victim

ONCE = {}
situation = own(ONCE)
KEYED = {"x-message-deduplication": True}
DEFAULT = "x-deduplication-header"
# Milliseconds: long enough for a slow machine to publish a few messages meanwhile.
WINDOW = 1500


def ids(text):
    """Bodies, each with its first letter as its message-id."""
    return [(body, {"message_id": body[0]}) for body in text.split()]


def keys(header, *values):
    return [(str(number), {"headers": {header: value}}) for number, value in enumerate(values)]


@situation("dedup-message-id")
def message_id(case):
    """A queue takes a message-id once; what it leaves out is confirmed, and isn't returned."""
    queue = case.queue(arguments=KEYED)
    case.ch.confirm_select()
    sent(case, "", queue, ids("a b a2 b2 c"))
    sent(case, "", queue, [("none", {}), ("none", {})])
    case.ch.publish("", queue, b"a3", {"message_id": "a"}, mandatory=True)
    equal((case.ch.wait_confirms(), case.ch.returns), ((8, 0), []))
    equal(case.bodies(queue), ["a", "b", "c", "none", "none"])
    sent(case, "", queue, ids("a4 d"))
    equal(case.bodies(queue), ["d"])


@situation("dedup-header")
def header(case):
    """The header goes before the message-id, and may be named; its values may be of any type."""
    queue, named = case.queue(arguments=KEYED), case.queue(".named", arguments=KEYED | {DEFAULT: "order"})
    case.ch.confirm_select()
    values = [7, "7", True, "é", [1, 2], {"a": 1}, 2**40, -7]
    sent(case, "", queue, keys(DEFAULT, *values, *values))
    equal(case.bodies(queue), [str(number) for number in range(len(values))])
    sent(case, "", queue, keys(DEFAULT, None, None))  # A value that is none is as no header.
    equal(case.bodies(queue), ["0", "1"])
    sent(case, "", queue, [("new", {"headers": {DEFAULT: "k"}, "message_id": "1"}),
                           ("again", {"headers": {DEFAULT: "k"}, "message_id": "2"}), ("other", {"message_id": "1"})])
    equal(case.bodies(queue), ["new", "other"])
    sent(case, "", named, keys("order", 1, 1, 2) + [("id", {"headers": {DEFAULT: 1}, "message_id": "m"})])
    sent(case, "", named, [("id again", {"headers": {DEFAULT: 2}, "message_id": "m"})])
    equal(case.bodies(named), ["0", "2", "id"])


@situation("dedup-lavinmq")
def lavinmq(case):
    """LavinMQ's arguments, on queues and on exchanges of any type."""
    arguments = KEYED | {"x-cache-size": 128, "x-cache-ttl": 60000, DEFAULT: "x-deduplication-header"}
    queue, exchange = case.queue(arguments=arguments), case.exchange("topic", arguments=arguments)
    plain = case.queue(".plain")
    case.ch.queue_bind(plain, exchange, "#")
    case.ch.confirm_select()
    sent(case, "", queue, keys(DEFAULT, "k", "k"))
    equal(case.bodies(queue), ["0"])
    sent(case, exchange, "one", keys(DEFAULT, "k", "l", "k"))
    sent(case, exchange, "two", keys(DEFAULT, "l", "m"))
    equal(case.bodies(plain), ["0", "1", "1"])
    sent(case, "", plain, keys(DEFAULT, "k"))
    equal(case.bodies(plain), ["0"])
    case.ch.exchange_delete(exchange)


@situation("dedup-plugin")
def plugin(case):
    """The plugin's exchange type, and its arguments as text."""
    arguments = {"x-cache-size": "100", "x-cache-ttl": "60000", "x-cache-persistence": "disk"}
    exchange = case.exchange("x-message-deduplication", arguments=arguments)
    queue, other = case.queue(), case.queue(".other")
    case.ch.queue_bind(queue, exchange, "a")
    case.ch.queue_bind(other, exchange, "b")
    case.ch.confirm_select()
    sent(case, exchange, "any", keys(DEFAULT, "k", "k", "l"))
    equal((case.bodies(queue), case.bodies(other)), (["0", "2"], ["0", "2"]))
    of_queue = case.queue(".queue", arguments=KEYED | arguments)
    sent(case, "", of_queue, keys(DEFAULT, "k", "k", "l"))
    equal(case.bodies(of_queue), ["0", "2"])
    case.ch.exchange_delete(exchange)


@situation("dedup-exchange-unrouted")
def unrouted(case):
    """An exchange doesn't remember what no queue took."""
    exchange = case.exchange("direct", arguments=KEYED)
    case.ch.publish(exchange, "k", b"a", {"message_id": "1"}, mandatory=True)
    case.ch.barrier()
    eventually(lambda: case.ch.pump(0.02) or case.ch.returns)
    equal(len(case.ch.returns), 1)
    queue = case.queue()
    case.ch.queue_bind(queue, exchange, "k")
    for _ in range(2):
        case.ch.publish(exchange, "k", b"a", {"message_id": "1"}, mandatory=True)
    case.ch.barrier()
    equal((case.bodies(queue), len(case.ch.returns)), (["a"], 1))
    case.ch.exchange_delete(exchange)


@situation("dedup-one-queue-of-two")
def one_of_two(case):
    """Only the queue that has seen a message leaves it out."""
    exchange, queue, plain = case.exchange("fanout"), case.queue(arguments=KEYED), case.queue(".plain")
    for name in (queue, plain):
        case.ch.queue_bind(name, exchange, "")
    case.ch.confirm_select()
    sent(case, exchange, "", ids("a a2"))
    equal((case.bodies(queue), case.bodies(plain)), (["a"], ["a", "a2"]))
    case.ch.exchange_delete(exchange)


@situation("dedup-cache-size")
def cache_size(case):
    """A key is forgotten when so many others have come."""
    queue = case.queue(arguments=KEYED | {"x-cache-size": 2})
    case.ch.confirm_select()
    sent(case, "", queue, ids("a b a2 c b2 a3 c2 b3"))
    equal(case.bodies(queue), ["a", "b", "c", "a3", "b3"])


def comes_again(case, queue, message):
    """Publishes until one comes; true if the first didn't."""
    sent(case, "", queue, [message])
    first = case.bodies(queue)
    eventually(lambda: sent(case, "", queue, [message]) or case.bodies(queue))
    return first == []


@situation("dedup-cache-ttl")
def cache_ttl(case):
    """A key is forgotten after a time, the queue's or the message's own."""
    queue, long = case.queue(arguments=KEYED | {"x-cache-ttl": WINDOW}), case.queue(".long", arguments=KEYED)
    case.ch.confirm_select()
    message = ("1", {"message_id": "1"})
    sent(case, "", queue, [message])
    equal((case.bodies(queue), comes_again(case, queue, message)), (["1"], True))
    message = ("2", {"message_id": "2", "headers": {"x-cache-ttl": WINDOW}})
    sent(case, "", long, [message, ("3", {"message_id": "3"})])
    equal((case.bodies(long), comes_again(case, long, message)), (["2", "3"], True))
    sent(case, "", long, [("3", {"message_id": "3"})])
    equal(case.bodies(long), [])


@situation("dedup-cache-ttl-header")
def cache_ttl_header(case):
    queue = case.queue(arguments=KEYED)
    for value in ("soon", -5, True):
        properties = {"message_id": "1", "headers": {"x-cache-ttl": value}}
        refused(case, lambda ch: ch.publish("", queue, b"1", properties), "60/40",
                "invalid header 'x-cache-ttl': expected milliseconds, an integer of 0 or more")


@situation("dedup-transaction")
def transaction(case):
    """A transaction is looked up at its commit, a rollback remembers nothing."""
    queue = case.queue(arguments=KEYED)
    case.ch.tx_select()
    for body, properties in ids("a a2 b"):
        case.ch.publish("", queue, body.encode(), properties)
    case.channel().publish("", queue, b"b1", {"message_id": "b"})
    eventually(lambda: case.count(queue) == 1)
    case.ch.tx_commit()
    equal(case.bodies(queue), ["b1", "a"])
    case.ch.publish("", queue, b"c", {"message_id": "c"})
    case.ch.tx_rollback()
    case.ch.publish("", queue, b"c2", {"message_id": "c"})
    case.ch.tx_commit()
    equal(case.bodies(queue), ["c2"])


@situation("dedup-full-queue")
def full_queue(case):
    """What a full queue refuses isn't remembered, and a duplicate of what it has is confirmed."""
    queue = case.queue(arguments=KEYED | {"x-max-length": 1, "x-overflow": "reject-publish"})
    case.ch.confirm_select()
    sent(case, "", queue, ids("a"))
    case.ch.publish("", queue, b"b", {"message_id": "b"})
    equal(case.ch.wait_confirms(), (1, 1))
    case.ch.publish("", queue, b"a2", {"message_id": "a"})
    equal((case.ch.wait_confirms(), case.bodies(queue)), ((2, 1), ["a"]))
    case.ch.publish("", queue, b"b2", {"message_id": "b"})
    equal((case.ch.wait_confirms(), case.bodies(queue)), ((3, 1), ["b2"]))


@situation("dedup-arguments")
def arguments(case):
    of_queue = "invalid arg '{}' for queue '{{n}}' in vhost '/': "
    of_exchange = of_queue.replace("queue", "exchange")
    for values, name, text in (
        ({"x-message-deduplication": "yes"}, "x-message-deduplication", "{unacceptable_type,longstr}"),
        ({"x-cache-size": 5}, "x-cache-size", "it needs 'x-message-deduplication'"),
        ({"x-message-deduplication": False, "x-cache-ttl": 7}, "x-cache-ttl", "it needs 'x-message-deduplication'"),
        (KEYED | {"x-cache-size": 0}, "x-cache-size", "{value_zero,0}"),
        (KEYED | {"x-cache-size": 10000001}, "x-cache-size", "{max_value_exceeded,10000001}"),
        (KEYED | {"x-cache-size": "many"}, "x-cache-size", '"expected integer, got longstr"'),
        (KEYED | {"x-cache-ttl": -5}, "x-cache-ttl", "{value_negative,-5}"),
        (KEYED | {"x-cache-persistence": "tape"}, "x-cache-persistence", '{value_not_in_allowed_set,<<"tape">>}'),
        (KEYED | {DEFAULT: 7}, DEFAULT, "{unacceptable_type,signedint}"),
    ):
        refused(case, lambda ch: ch.queue_declare(case.n, arguments=values), "50/10", of_queue.format(name) + text)
    kind = "x-message-deduplication"
    for of_kind, values, text in (
        (kind, {}, "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"),
        ("topic", {DEFAULT: "h"}, of_exchange.format(DEFAULT) + "it needs 'x-message-deduplication'"),
        (kind, {"x-cache-size": 5, kind: False}, of_exchange.format(kind) + "the exchange's type asks for it"),
        ("fanout", {kind: 1}, of_exchange.format(kind) + "{unacceptable_type,signedint}"),
    ):
        refused(case, lambda ch: ch.exchange_declare(case.n, of_kind, arguments=values), "40/10", text)
    exchange = case.exchange(kind, arguments={"x-cache-size": 5})
    refused(case, lambda ch: ch.exchange_declare(exchange, kind, arguments={"x-cache-size": 6}), "40/10",
            "inequivalent arg 'x-cache-size' for exchange '{n}' in vhost '/': received '6' but current is '5'")
    case.ch.exchange_delete(exchange)


def numbered(case, sequence, epoch=None, producer="p"):
    """What a producer says, whose name is of this situation and run: a broker remembers producers."""
    values = {} if epoch is None else {"x_producer_epoch": epoch}
    return headers(x_producer=f"{case.n}.{producer}.{id(case)}", x_producer_sequence=sequence, **values)


@situation("dedup-producer")
def producer(case):
    """A number that isn't above the highest is a duplicate, to whatever queue it goes; gaps are allowed."""
    queue, other = case.queue(), case.queue(".other")
    case.ch.confirm_select()
    sent(case, "", queue, [(str(number), numbered(case, number)) for number in (0, 1, 1, 0, 5, 4, 5, 2**40, 6)])
    sent(case, "", other, [("late", numbered(case, 7)), ("next", numbered(case, 2**40 + 1))])
    sent(case, "", other, [("another's", numbered(case, 0, producer="q"))])
    equal((case.bodies(queue), case.bodies(other)), (["0", "1", "5", str(2**40)], ["next", "another's"]))


def fenced(case, old, new):
    name = f"{case.n}.p.{id(case)}".replace(case.n, "{n}")
    return f"producer '{name}' with epoch {old} is fenced: epoch {new} has begun"


@situation("dedup-producer-fenced")
def producer_fenced(case):
    """A new epoch begins its numbers anew, and an older one is refused from then on."""
    queue, old = case.queue(), case.channel()
    case.ch.confirm_select()
    old.confirm_select()
    old.publish("", queue, b"old", numbered(case, 5, 3))
    equal(old.wait_confirms(), (1, 0))
    sent(case, "", queue, [("new", numbered(case, 0, 4)), ("again", numbered(case, 0, 4))])
    try:
        old.publish("", queue, b"late", numbered(case, 6, 3))
        old.barrier()
        raise AssertionError("an older epoch wasn't refused")
    except BrokerError as error:
        said = error.text.replace(case.n, "{n}")
        equal((error.scope, error.code, said), ("channel", 406, "PRECONDITION_FAILED - " + fenced(case, 3, 4)))
    # An epoch that isn't said is 0.
    for sequence in (9, 10):
        channel = case.channel()
        try:
            channel.publish("", queue, b"late", numbered(case, sequence))
            channel.barrier()
            raise AssertionError("an older epoch wasn't refused")
        except BrokerError as error:
            equal(error.text.replace(case.n, "{n}"), "PRECONDITION_FAILED - " + fenced(case, 0, 4))
    sent(case, "", queue, [("next", numbered(case, 1, 4))])
    equal(case.bodies(queue), ["old", "new", "next"])


@situation("dedup-producer-fenced-commit")
def producer_fenced_commit(case):
    """If an epoch has ended, a transaction is refused as a whole."""
    queue, transacted = case.queue(), case.channel()
    transacted.tx_select()
    transacted.publish("", queue, b"1", numbered(case, 0, 1))
    transacted.publish("", queue, b"plain", {})
    transacted.barrier()
    case.ch.publish("", queue, b"2", numbered(case, 0, 2))
    case.ch.barrier()
    try:
        transacted.tx_commit()
        raise AssertionError("the commit was accepted")
    except BrokerError as error:
        equal((error.code, error.text.replace(case.n, "{n}")), (406, "PRECONDITION_FAILED - " + fenced(case, 1, 2)))
    equal(case.bodies(queue), ["2"])


@situation("dedup-producer-full-queue")
def producer_full_queue(case):
    """What a full queue refuses has to be sent again before what is behind it."""
    queue, other = case.queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"}), case.queue(".other")
    case.ch.confirm_select()
    outcomes = []

    def send(to, sequence):
        before = case.ch.wait_confirms()
        case.ch.publish("", to, str(sequence).encode(), numbered(case, sequence))
        outcomes.append("a" if case.ch.wait_confirms()[0] > before[0] else "n")

    for to, sequence in ((queue, 0), (queue, 1), (other, 2)):
        send(to, sequence)
    case.ch.queue_purge(queue)
    for to, sequence in ((other, 2), (queue, 1), (other, 2), (queue, 1)):
        send(to, sequence)
    equal(("".join(outcomes), case.bodies(queue), case.bodies(other)), ("annnaaa", ["1"], ["2"]))


@situation("dedup-producer-headers")
def producer_headers(case):
    queue, integer = case.queue(), "expected an integer of 0 or more"
    name, sequence, epoch = "x-producer", "x-producer-sequence", "x-producer-epoch"
    nameless = "expected the name of a producer beside its epoch or sequence"
    for values, wrong, text in (
        ({name: "a"}, sequence, integer),
        ({name: "a", sequence: -1}, sequence, integer),
        ({name: "a", sequence: "1"}, sequence, integer),
        ({name: "a", sequence: True}, sequence, integer),
        ({name: "a", sequence: 1, epoch: "new"}, epoch, integer),
        ({name: "a", sequence: 1, epoch: -1}, epoch, integer),
        ({name: 5, sequence: 1}, name, "expected a string of 1 to 255 bytes"),
        ({name: "", sequence: 1}, name, "expected a string of 1 to 255 bytes"),
        ({name: "p" * 256, sequence: 1}, name, "expected a string of 1 to 255 bytes"),
        ({sequence: 1}, name, nameless),
        ({epoch: 1}, name, nameless),
    ):
        refused(case, lambda ch: ch.publish("", queue, b"1", {"headers": values}), "60/40",
                f"invalid header '{wrong}': {text}")
    equal(case.count(queue), 0)


def killed(case, declare, properties):
    """Publishes to a broker of our own, kills it in the middle and sends all again: each message is there once."""
    total, persistent = 400, {"delivery_mode": 2}
    with Victim(case) as victim:
        channel = victim.connect()
        route = declare(channel)
        channel.confirm_select()
        publish = [(*route, b"%d" % number, properties(number) | persistent) for number in range(total)]
        try:
            for number, message in enumerate(publish):
                channel.publish(*message)
                # Some are confirmed, some are written and not confirmed, some are nowhere.
                if number == total // 2:
                    # However long a disk takes to sync.
                    for _ in range(1000):
                        channel.pump(0.01)
                        if channel.acked:
                            break
                    victim.kill()
        except Exception:  # The connection is lost, in each client's own words.
            pass
        confirmed = channel.acked
        channel = victim.connect()
        survived = channel.queue_declare("q", passive=True)[1]
        assert survived >= confirmed > 0, f"{confirmed} were confirmed, {survived} are there"
        channel.confirm_select()
        for message in publish:
            channel.publish(*message)
        equal(channel.wait_confirms(), (total, 0))
        victim.kill()
        channel = victim.connect()
        channel.confirm_select()
        for message in publish[-100:]:
            channel.publish(*message)
        equal(channel.wait_confirms(), (100, 0))
        found = iter(lambda: channel.get("q", no_ack=True), None)
        equal([int(message.body) for message in found], list(range(total)))


def durable_queue(channel, **options):
    channel.queue_declare("q", durable=True, **options)
    return "", "q"


@situation("dedup-killed-queue")
def killed_queue(case):
    killed(case, lambda channel: durable_queue(channel, arguments=KEYED), lambda number: {"message_id": str(number)})


@situation("dedup-killed-exchange")
def killed_exchange(case):
    def declare(channel):
        durable_queue(channel)
        channel.exchange_declare("e", "x-message-deduplication", durable=True, arguments={"x-cache-size": 1000})
        channel.queue_bind("q", "e", "")
        return "e", "k"

    killed(case, declare, lambda number: {"headers": {DEFAULT: number}})


@situation("dedup-killed-producer")
def killed_producer(case):
    killed(case, durable_queue, lambda number: numbered(case, number, 1))


@situation("dedup-killed-fence")
def killed_fence(case):
    """An epoch that was ended is ended after a crash."""
    with Victim(case) as victim:
        channel = victim.connect()
        durable_queue(channel)
        channel.confirm_select()
        channel.publish("", "q", b"new", numbered(case, 0, 2) | {"delivery_mode": 2})
        equal(channel.wait_confirms(), (1, 0))
        victim.kill()
        channel = victim.connect()
        try:
            channel.publish("", "q", b"old", numbered(case, 7, 1) | {"delivery_mode": 2})
            channel.barrier()
            raise AssertionError("an older epoch wasn't refused")
        except BrokerError as error:
            equal(error.text.replace(case.n, "{n}"), "PRECONDITION_FAILED - " + fenced(case, 1, 2))
