"""Queues with an end: expiry, length limits, a single active consumer, delivery limits, delays."""

import contextlib
import os
import time

from report import BrokerError, Skip, equal, eventually, into
from situations_letters import QUIET, dead_end, deaths, lose, pair, plain, show, take, to

LIMITS = {}
situation = into(LIMITS)


def answer(case, action):
    """What the broker says to an action on a channel of its own: `ok`, or its error in one line."""
    channel = case.channel()
    try:
        action(channel)
        channel.barrier()
        return "ok"
    except BrokerError as error:
        if error.scope == "connection":
            case.connections.insert(0, case.adapter.connect())
            case.first = case.connections[0].channel()
        return f"{error.scope} {error.code} {error.failed} {error.text}".replace(case.n, "{n}")


@contextlib.contextmanager
def durable(case, suffix="", **arguments):
    """A durable queue that is gone afterwards, as quorum queues can't be exclusive."""
    name = case.n + suffix
    case.ch.queue_delete(name)
    arguments = {"x-" + key.replace("_", "-"): value for key, value in arguments.items()}
    case.ch.queue_declare(name, durable=True, arguments=arguments)
    try:
        yield name
    finally:
        case.connect().channel().queue_delete(name)


def is_gone(case, queue):
    """Asks by publishing, because a passive declaration counts as use."""
    before = len(case.ch.returns)
    case.ch.publish("", queue, b"are you there?", mandatory=True)
    case.ch.barrier()
    case.ch.pump(0.02)
    return len(case.ch.returns) > before


@situation("ttl-zero")
def ttl_zero(case):
    """Only a consumer that is there already gets it."""
    of_queue = case.queue(".queue", arguments=to(case, ".dead", message_ttl=0))
    of_message, dead = case.queue(".message", arguments=to(case, ".dead")), case.queue(".dead")
    for queue, properties in ((of_queue, {}), (of_message, {"expiration": "0"})):
        case.ch.publish("", queue, b"nobody", properties)
        case.observe(deaths(case, take(case, dead)))
        messages = []
        case.ch.consume(queue, messages.append, tag=queue, no_ack=True)
        case.ch.publish("", queue, b"somebody", properties)
        case.collect(case.ch, messages, 1)
        case.observe(plain(case, messages[0].properties))
        case.ch.cancel(queue)
    equal(case.count(dead), 0)


@situation("ttl-zero-prefetch")
def ttl_zero_prefetch(case):
    """A consumer without credit is none, and what it gives back is late."""
    queue, messages = case.queue(arguments=to(case, ".dead", message_ttl=0)), []
    dead = case.queue(".dead")
    case.ch.qos(1)
    case.ch.consume(queue, messages.append, tag="one")
    for body in (b"1", b"2"):
        case.ch.publish("", queue, body)
    equal(take(case, dead).body, b"2")
    case.collect(case.ch, messages, 1)
    case.ch.reject(messages[0].delivery_tag, requeue=True)
    case.ch.pump(QUIET)
    case.observe(f"delivered {[message.body for message in messages]}, dead {case.count(dead)}")


@situation("ttl-lesser")
def ttl_lesser(case):
    """Of the queue's and the message's the lesser counts."""
    dead = case.queue(".dead")
    quick = case.queue(".quick", arguments=to(case, ".dead", message_ttl=50))
    slow = case.queue(".slow", arguments=to(case, ".dead", message_ttl=60000))
    case.ch.publish("", quick, b"1", {"expiration": "60000"})
    show(case, take(case, dead))
    case.ch.publish("", slow, b"2", {"expiration": "50"})
    show(case, take(case, dead))
    case.ch.publish("", slow, b"3", {"expiration": "60000"})
    time.sleep(QUIET)
    message = case.ch.get(slow, no_ack=True)
    equal((message.body, message.properties["expiration"]), (b"3", "60000"))


@situation("ttl-not-got")
def ttl_not_got(case):
    """What has expired is gone for basic.get, for consumers and for counts."""
    queue = case.queue(arguments={"x-message-ttl": 200})
    case.ch.publish("", queue, b"1")
    eventually(lambda: case.count(queue) == 1)
    eventually(lambda: case.count(queue) == 0)
    equal(case.ch.get(queue), None)
    messages = []
    case.ch.consume(queue, messages.append, tag="late", no_ack=True)
    case.ch.publish("", queue, b"2")
    case.collect(case.ch, messages, 1)
    equal(messages[0].body, b"2")


@situation("ttl-unacked")
def ttl_unacked(case):
    """What a consumer holds doesn't expire; given back too late it does, and at once."""
    queue, dead = case.queue(".work", arguments=to(case, ".dead", message_ttl=200)), case.queue(".dead")
    case.ch.publish("", queue, b"1")
    held = take(case, queue, no_ack=False)
    time.sleep(0.4)
    equal(case.count(dead), 0)
    case.ch.reject(held.delivery_tag, requeue=True)
    letter = take(case, dead)
    show(case, letter)
    equal(deaths(case, letter), "work:expired:1")


@situation("ttl-behind-head")
def ttl_behind_head(case):
    """A message that expires behind one that doesn't."""
    queue, dead = case.queue(arguments=to(case, ".dead")), case.queue(".dead")
    case.ch.publish("", queue, b"1")
    case.ch.publish("", queue, b"2", {"expiration": "50"})
    time.sleep(0.3)
    case.observe(f"ready {case.count(queue)}, dead {case.count(dead)}")


@situation("ttl-behind-head-got")
def ttl_behind_head_got(case):
    """It isn't delivered either way once the head is gone."""
    queue, dead = case.queue(arguments=to(case, ".dead")), case.queue(".dead")
    case.ch.publish("", queue, b"1")
    case.ch.publish("", queue, b"2", {"expiration": "50"})
    time.sleep(0.2)
    equal(case.ch.get(queue, no_ack=True).body, b"1")
    equal((take(case, dead).body, case.ch.get(queue)), (b"2", None))


@situation("ttl-invalid")
def ttl_invalid(case):
    """`expiration` is a decimal number of milliseconds as text; all else is refused when it is published."""
    queue = case.queue()
    for expiration in ("abc", "-1", "1.5", " 5", "5 ", "+5", "0x10", "", "4294967295", "4294967296", "315360000000",
                       "315360000001", "9223372036854775808", "1" * 30):
        said = answer(case, lambda channel: channel.publish("", queue, b"1", {"expiration": expiration}))
        case.observe(f"{expiration!r}: {said}")
        if expiration in ("abc", "-1", "1.5"):
            equal(said.startswith("channel 406 60/40 PRECONDITION_FAILED - invalid expiration"), True)
    time.sleep(QUIET)
    case.observe(f"{case.count(queue)} are kept")


@situation("ttl-blocked-consumer")
def ttl_blocked(case):
    """What a consumer has no credit for expires like any other, and isn't delivered afterwards."""
    queue, messages = case.queue(".work", arguments=to(case, ".dead", message_ttl=150)), []
    dead = case.queue(".dead")
    case.ch.qos(1)
    case.ch.consume(queue, messages.append, tag="one")
    for body in (b"1", b"2"):
        case.ch.publish("", queue, body)
    case.collect(case.ch, messages, 1)
    equal(take(case, dead).body, b"2")
    case.ch.ack(messages[0].delivery_tag)
    case.ch.publish("", queue, b"3")
    case.collect(case.ch, messages, 2)
    equal(messages[1].body, b"3")


@situation("ttl-confirmed")
def ttl_confirmed(case):
    """What expires at once was confirmed and routed nevertheless."""
    queue = case.queue(arguments={"x-message-ttl": 0})
    case.ch.confirm_select()
    case.ch.publish("", queue, b"1", mandatory=True)
    equal((case.ch.wait_confirms(), case.ch.returns), ((1, 0), []))


@situation("ttl-requeue-order")
def ttl_requeue_order(case):
    """A requeue within the time keeps the place and the time."""
    queue, dead = case.queue(arguments=to(case, ".dead", message_ttl=400)), case.queue(".dead")
    for body in (b"1", b"2"):
        case.ch.publish("", queue, body)
    case.ch.reject(take(case, queue, no_ack=False).delivery_tag, requeue=True)
    again = take(case, queue, no_ack=False)
    equal((again.body, again.redelivered), (b"1", True))
    case.ch.reject(again.delivery_tag, requeue=True)
    equal([take(case, dead).body for _ in range(2)], [b"1", b"2"])


@situation("expires-unused")
def expires_unused(case):
    """The queue goes, its messages with it and not as letters."""
    queue, dead = case.queue(arguments=to(case, ".dead", expires=100)), case.queue(".dead")
    case.ch.publish("", queue, b"1")
    case.ch.barrier()
    eventually(lambda: is_gone(case, queue))
    said = answer(case, lambda channel: channel.queue_declare(queue, passive=True))
    case.observe(said)
    equal(said, "channel 404 50/10 NOT_FOUND - no queue '{n}' in vhost '/'")
    dead_end(case, dead)


def keeps(case, use):
    """Whether a use every 100 ms keeps a queue alive that expires after 300."""
    queue = case.queue(arguments={"x-expires": 300})
    try:
        for _ in range(8):
            time.sleep(0.1)
            use(queue)
    except BrokerError:
        return False
    return not is_gone(case, queue)


@situation("expires-get")
def expires_get(case):
    equal(keeps(case, lambda queue: case.ch.get(queue, no_ack=True)), True)


@situation("expires-redeclare")
def expires_redeclare(case):
    equal(keeps(case, lambda queue: case.queue(arguments={"x-expires": 300})), True)


@situation("expires-passive")
def expires_passive(case):
    kept = keeps(case, case.count)
    case.observe(f"passive declarations keep it: {kept}")


@situation("expires-publish")
def expires_publish(case):
    """Publishing to it is no use of it."""
    equal(keeps(case, lambda queue: case.ch.publish("", queue, b"1")), False)


@situation("expires-bindings")
def expires_bindings(case):
    """With the queue its bindings go, and an exchange that lived of them."""
    exchange, queue = case.exchange("fanout", auto_delete=True), case.queue(arguments={"x-expires": 100})
    case.ch.queue_bind(queue, exchange, "")
    eventually(lambda: is_gone(case, queue))
    said = answer(case, lambda channel: channel.exchange_declare(exchange, "fanout", passive=True))
    equal(said, "channel 404 40/10 NOT_FOUND - no exchange '{n}' in vhost '/'")


@situation("expires-consumer")
def expires_consumer(case):
    """A consumer keeps it; once that has gone the time begins."""
    queue = case.queue(arguments={"x-expires": 100})
    case.ch.consume(queue, lambda message: None, tag="one", no_ack=True)
    time.sleep(0.4)
    equal(is_gone(case, queue), False)
    case.ch.cancel("one")
    eventually(lambda: is_gone(case, queue))


@situation("expires-unacked")
def expires_unacked(case):
    """An unacknowledged message keeps nothing; acknowledging it afterwards is no error."""
    queue = case.queue(arguments={"x-expires": 100})
    case.ch.publish("", queue, b"1")
    held = take(case, queue, no_ack=False)
    eventually(lambda: is_gone(case, queue))
    case.ch.ack(held.delivery_tag)
    case.ch.barrier()


def confirmed(case, queue, *bodies):
    """Publishes one after the other; an `a` for each ack and an `n` for each nack."""
    outcome = ""
    for body in bodies:
        nacked = case.ch.nacked
        case.ch.publish("", queue, body)
        case.ch.wait_confirms()
        outcome += "an"[case.ch.nacked > nacked]
    return outcome


@situation("max-length-drop-head")
def drop_head(case):
    case.ch.confirm_select()
    for overflow in ({}, {"x-overflow": "drop-head"}):
        queue = case.queue(arguments={"x-max-length": 2} | overflow)
        equal(confirmed(case, queue, b"1", b"2", b"3", b"4"), "aaaa")
        eventually(lambda: case.count(queue) == 2)
        equal(case.bodies(queue), ["3", "4"])
        case.ch.queue_delete(queue)


@situation("max-length-bytes")
def length_bytes(case):
    """Bytes are those of bodies; properties and headers don't count."""
    queue = case.queue(arguments={"x-max-length-bytes": 100})
    for number in range(4):
        case.ch.publish("", queue, str(number).encode() * 40, {"headers": {"long": "x" * 200}})
    equal([body[0] for body in case.bodies(queue)], ["2", "3"])
    case.ch.publish("", queue, b"0" * 100)
    equal(len(case.bodies(queue)), 1)
    case.ch.publish("", queue, b"1" * 40)
    case.ch.publish("", queue, b"0" * 101)
    equal(case.bodies(queue), [])


@situation("max-length-both")
def both_limits(case):
    """Whichever is reached first."""
    queue = case.queue(arguments={"x-max-length": 3, "x-max-length-bytes": 20})
    for body in (b"1", b"2", b"3", b"4"):
        case.ch.publish("", queue, body)
    equal(case.bodies(queue), ["2", "3", "4"])
    for body in (b"1" * 8, b"2" * 8, b"3" * 8):
        case.ch.publish("", queue, body)
    equal([body[0] for body in case.bodies(queue)], ["2", "3"])


@situation("max-length-zero")
def length_zero(case):
    """Nothing is kept; a waiting consumer gets what comes."""
    queue, messages = case.queue(arguments={"x-max-length": 0}), []
    case.ch.publish("", queue, b"1")
    equal((case.count(queue), case.bodies(queue)), (0, []))
    case.ch.consume(queue, messages.append, tag="one", no_ack=True)
    case.ch.publish("", queue, b"2")
    case.ch.pump(QUIET)
    case.observe(f"a waiting consumer gets {[message.body for message in messages]}")


@situation("max-length-reject-publish")
def reject_publish(case):
    queue = case.queue(arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    case.ch.confirm_select()
    equal(confirmed(case, queue, b"1", b"2", b"3", b"4"), "aann")
    equal(case.ch.get(queue, no_ack=True).body, b"1")
    equal(confirmed(case, queue, b"5", b"6"), "an")
    equal(case.bodies(queue), ["2", "5"])


@situation("max-length-reject-bytes")
def reject_bytes(case):
    """How far beyond the limit of bytes the last message may reach."""
    queue = case.queue(arguments={"x-max-length-bytes": 10, "x-overflow": "reject-publish"})
    case.ch.confirm_select()
    case.observe(confirmed(case, queue, b"1" * 8, b"2" * 8, b"3", b"4"))
    case.observe(f"kept {case.bodies(queue)}")
    case.observe(confirmed(case, queue, b"5" * 11, b"6"))
    case.observe(f"kept {case.bodies(queue)}")


@situation("max-length-reject-unconfirmed")
def reject_unconfirmed(case):
    """Without confirms a publisher isn't told."""
    queue = case.queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    for body in (b"1", b"2"):
        case.ch.publish("", queue, body, mandatory=True)
    case.ch.barrier()
    equal((case.bodies(queue), case.ch.returns), (["1"], []))


@situation("max-length-reject-one-of-two")
def reject_one_of_two(case):
    """One queue that refuses is enough for a nack; the other has the message."""
    exchange = case.exchange("fanout", auto_delete=True)
    full = case.queue(".full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    roomy = case.queue(".roomy")
    for queue in (full, roomy):
        case.ch.queue_bind(queue, exchange, "")
    case.ch.confirm_select()
    for body in (b"1", b"2"):
        case.ch.publish(exchange, "", body)
        case.ch.wait_confirms()
    equal((case.ch.acked, case.ch.nacked), (1, 1))
    equal((case.bodies(full), case.bodies(roomy)), (["1"], ["1", "2"]))


@situation("max-length-reject-many")
def reject_many(case):
    """A run of publishes, confirmed together: each tag is settled once, and as often refused as it must be."""
    queue = case.queue(arguments={"x-max-length": 10, "x-overflow": "reject-publish"})
    case.ch.confirm_select()
    for number in range(30):
        case.ch.publish("", queue, str(number).encode())
    equal(sum(case.ch.wait_confirms()), 30)
    kept = case.bodies(queue)
    case.observe(f"at least ten are kept: {len(kept) >= 10}, acks are what is kept: {case.ch.acked == len(kept)}")
    equal(case.ch.acked, len(kept))


@situation("max-length-reject-exact")
def reject_exact(case):
    """A run of publishes: exactly as many as there is room for."""
    queue = case.queue(arguments={"x-max-length": 10, "x-overflow": "reject-publish"})
    case.ch.confirm_select()
    for number in range(30):
        case.ch.publish("", queue, str(number).encode())
    case.ch.wait_confirms()
    case.observe(case.bodies(queue))


@situation("max-length-reject-tx")
def reject_tx(case):
    """A transaction with a message that is refused."""
    queue = case.queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})

    def commit(channel):
        channel.tx_select()
        for body in (b"1", b"2"):
            channel.publish("", queue, body)
        channel.tx_commit()

    case.observe(answer(case, commit))
    case.observe(f"kept {case.bodies(queue)}")


@situation("max-length-unacked")
def unacked_dont_count(case):
    """The limit is for what is ready; what is given back goes to its place, and the limit applies again."""
    queue = case.queue(arguments={"x-max-length": 2})
    for body in (b"1", b"2"):
        case.ch.publish("", queue, body)
    tags = [take(case, queue, no_ack=False).delivery_tag for _ in range(2)]
    for body in (b"3", b"4"):
        case.ch.publish("", queue, body)
    eventually(lambda: case.count(queue) == 2)
    case.ch.nack(tags[1], multiple=True, requeue=True)
    time.sleep(QUIET)
    equal(case.count(queue), 2)
    equal(case.bodies(queue), ["3", "4"])


@situation("max-length-reject-unacked")
def reject_unacked(case):
    """With reject-publish too only what is ready counts, and a requeue is never refused."""
    queue = case.queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    case.ch.confirm_select()
    outcome = confirmed(case, queue, b"1")
    held = take(case, queue, no_ack=False)
    outcome += confirmed(case, queue, b"2", b"3")
    case.ch.reject(held.delivery_tag, requeue=True)
    case.observe(f"{outcome}, ready {case.bodies(queue)}")
    equal(outcome, "aan")


@situation("max-length-consumer")
def length_consumer(case):
    """A limit below the prefetch: a consumer still gets all that comes while it keeps up."""
    queue, messages = case.queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"}), []
    case.ch.confirm_select()
    case.ch.consume(queue, messages.append, tag="one")
    outcome = ""
    for number in range(5):
        outcome += confirmed(case, queue, str(number).encode())
        eventually(lambda: case.ch.pump(0.02) or len(messages) == number + 1)
    equal(outcome, "aaaaa")


@situation("single-active")
def single_active(case):
    """Only the first gets messages; when it is cancelled, the next in order does."""
    queue, got = case.queue(arguments={"x-single-active-consumer": True}), {"a": [], "b": [], "c": []}
    for tag in got:
        case.ch.consume(queue, lambda message, tag=tag: got[tag].append(message.body), tag=tag, no_ack=True)
    for number, active in enumerate(got):
        for _ in range(3):
            case.ch.publish("", queue, active.encode())
        eventually(lambda: case.ch.pump(0.02) or len(got[active]) == 3)
        equal(case.ch.queue_declare(queue, passive=True), (queue, 0, 3 - number))
        case.ch.cancel(active)
    equal(got, {tag: [tag.encode()] * 3 for tag in got})


@situation("single-active-connection-lost")
def single_active_lost(case):
    """The next takes over, and gets first what the other hadn't settled."""
    with durable(case, single_active_consumer=True) as queue:
        first, second, got, lost = case.connect(), case.connect().channel(), [], []
        channel = first.channel()
        channel.qos(2)
        channel.consume(queue, lost.append, tag="first")
        second.consume(queue, lambda message: got.append((message.body, message.redelivered)), tag="second")
        for body in (b"1", b"2", b"3"):
            case.ch.publish("", queue, body)
        case.collect(channel, lost, 2)
        second.pump(QUIET)
        equal(got, [])
        first.drop()
        case.collect(second, got, 3)
        equal(got, [(b"1", True), (b"2", True), (b"3", False)])


def two_consumers(case, *bodies):
    """Two consumers on a channel each, of which the first is at its limit of two."""
    queue, got, other = case.queue(arguments={"x-single-active-consumer": True}), {"a": [], "b": []}, case.channel()
    for channel, tag, limit in ((case.ch, "a", 2), (other, "b", 10)):
        channel.qos(limit)
        channel.consume(queue, got[tag].append, tag=tag)
    for body in bodies:
        case.ch.publish("", queue, body)
    case.collect(case.ch, got["a"], 2)
    equal(got["b"], [])
    return queue, got


@situation("single-active-unacked")
def single_active_unacked(case):
    """A cancelled consumer's unsettled messages stay its channel's; the next consumer gets what comes after them."""
    queue, got = two_consumers(case, b"1", b"2")
    case.ch.cancel("a")
    case.ch.publish("", queue, b"3")
    case.collect(case.ch, got["b"], 1)
    case.ch.nack(got["a"][0].delivery_tag, requeue=True)
    case.collect(case.ch, got["b"], 2)
    equal([(message.body, message.redelivered) for message in got["b"]], [(b"3", False), (b"1", True)])


@situation("single-active-next")
def single_active_next(case):
    """The next consumer gets at once what the first had no credit for."""
    if os.environ.get("INTEROP_BROKER") == "rabbitmq":
        raise Skip("RabbitMQ 3.10's queue stalls here, and crashes with the next publish")
    _, got = two_consumers(case, b"1", b"2", b"3")
    case.ch.cancel("a")
    case.collect(case.ch, got["b"], 1)
    equal(got["b"][0].body, b"3")


@situation("single-active-exclusive")
def single_active_exclusive(case):
    """An exclusive consumer and a single active one exclude each other."""
    queue = case.queue(arguments={"x-single-active-consumer": True})
    said = answer(case, lambda channel: channel.consume(queue, print, tag="one", exclusive=True))
    case.observe(said)
    equal(said.startswith("channel 403 60/20 ACCESS_REFUSED"), True)
    case.ch.consume(queue, print, tag="two")
    case.observe(answer(case, lambda channel: channel.consume(queue, print, tag="one", exclusive=True)))


@situation("single-active-priority")
def single_active_priority(case):
    """Whether a later consumer of higher priority becomes the active one."""
    queue, got = case.queue(arguments={"x-single-active-consumer": True}), {"low": [], "high": []}
    case.ch.consume(queue, got["low"].append, tag="low", no_ack=True)
    case.ch.consume(queue, got["high"].append, tag="high", no_ack=True, arguments={"x-priority": 10})
    case.ch.publish("", queue, b"1")
    eventually(lambda: case.ch.pump(0.02) or sum(map(len, got.values())) == 1)
    case.observe(" ".join(f"{tag} {len(messages)}" for tag, messages in got.items()))


@situation("single-active-get")
def single_active_get(case):
    """basic.get besides the active consumer."""
    queue = case.queue(arguments={"x-single-active-consumer": True})
    case.ch.publish("", queue, b"1")
    equal(case.ch.get(queue, no_ack=True).body, b"1")


@situation("quorum-delivery-limit")
def delivery_limit(case):
    """Rejected with requeue until the limit is passed; each delivery says how often it was tried before."""
    dead = case.queue(".dead")
    with durable(case, ".work", queue_type="quorum", delivery_limit=2, **letters_to(dead)) as work:
        case.ch.publish("", work, b"1", {"delivery_mode": 2})
        for attempt in range(3):
            message = take(case, work, no_ack=False)
            case.observe(f"redelivered {message.redelivered} {counts(case, message) if attempt else ''}")
            equal(message.properties.get("headers", {}).get("x-delivery-count", 0), attempt)
            case.ch.reject(message.delivery_tag, requeue=True)
        letter = take(case, dead)
        show(case, letter)
        equal((deaths(case, letter), case.count(work)), ("work:delivery_limit:1", 0))


def letters_to(queue):
    return {"dead_letter_exchange": "", "dead_letter_routing_key": queue}


def counts(case, message):
    return plain(case, message.properties.get("headers", {}))


@situation("quorum-first-delivery")
def quorum_first(case):
    """Whether a first delivery says that it is one."""
    with durable(case, queue_type="quorum") as queue:
        case.ch.publish("", queue, b"1")
        case.observe(counts(case, take(case, queue)))


@situation("quorum-default-limit")
def quorum_default(case):
    """What becomes of a message that is rejected 21 times, if nobody set a limit."""
    dead = case.queue(".dead")
    with durable(case, ".work", queue_type="quorum", **letters_to(dead)) as work:
        case.ch.publish("", work, b"1")
        for _ in range(21):
            case.ch.reject(take(case, work, no_ack=False).delivery_tag, requeue=True)
        eventually(lambda: case.count(work) + case.count(dead))
        case.observe(f"ready {case.count(work)}, dead {case.count(dead)}")


@situation("quorum-lost-connection")
def quorum_lost(case):
    """A connection that is lost counts as an attempt."""
    dead = case.queue(".dead")
    with durable(case, ".work", queue_type="quorum", delivery_limit=1, **letters_to(dead)) as work:
        case.ch.publish("", work, b"1")
        for _ in range(2):
            connection = case.connect()
            take_on(connection.channel(), work)
            connection.drop()
        letter = take(case, dead)
        equal(deaths(case, letter), "work:delivery_limit:1")


def take_on(channel, queue):
    return eventually(lambda: channel.get(queue))


@situation("quorum-nack")
def quorum_nack(case):
    """Whether basic.nack with requeue counts as an attempt."""
    dead = case.queue(".dead")
    with durable(case, ".work", queue_type="quorum", delivery_limit=1, **letters_to(dead)) as work:
        case.ch.publish("", work, b"1")
        for _ in range(3):
            message = eventually(lambda: case.ch.get(work) or case.count(dead) and "dead")
            if message == "dead":
                return case.observe("dead")
            case.observe(f"redelivered {message.redelivered} {counts(case, message)}")
            case.ch.nack(message.delivery_tag, requeue=True)


@situation("quorum-requeue-order")
def quorum_order(case):
    """Where in the queue a message goes that is given back."""
    with durable(case, queue_type="quorum", delivery_limit=5) as queue:
        for body in (b"1", b"2", b"3"):
            case.ch.publish("", queue, body)
        held = take(case, queue, no_ack=False)
        case.ch.reject(held.delivery_tag, requeue=True)
        time.sleep(QUIET)
        case.observe(case.bodies(queue))


@situation("quorum-dead-letter")
def quorum_letters(case):
    """The other reasons on a quorum queue."""
    dead = case.queue(".dead")
    arguments = dict(queue_type="quorum", max_length=1, message_ttl=300, **letters_to(dead))
    with durable(case, ".work", **arguments) as work:
        for body in (b"1", b"2"):
            case.ch.publish("", work, body)
        show(case, take(case, dead))
        show(case, take(case, dead))
        case.ch.publish("", work, b"3")
        lose(case, work)
        show(case, take(case, dead))


@situation("quorum-reject-publish")
def quorum_reject_publish(case):
    with durable(case, queue_type="quorum", max_length=2, overflow="reject-publish") as queue:
        case.ch.confirm_select()
        outcome = confirmed(case, queue, b"1", b"2", b"3", b"4", b"5", b"6")
        equal((outcome[:2], outcome[-1]), ("aa", "n"))  # RabbitMQ's notices too late once.


QUORUM = {"x-queue-type": "quorum"}


@situation("quorum-declare")
def quorum_declare(case):
    """What a quorum queue can't be."""
    for name, options in {
        "transient": {}, "durable": {"durable": True}, "exclusive": {"durable": True, "exclusive": True},
        "auto-delete": {"durable": True, "auto_delete": True},
    }.items():
        case.observe(f"{name}: {answer(case, lambda ch: ch.queue_declare(case.n, arguments=QUORUM, **options))}")
        case.ch.queue_delete(case.n)


def with_arguments(name, arguments):
    """Declares quorum queues with one argument more."""

    @situation(name)
    def check(case):
        for argument, value in arguments.items():
            said = answer(case, lambda ch: ch.queue_declare(case.n, durable=True, arguments=QUORUM | {argument: value}))
            case.observe(f"{argument}={value}: {said}")
            case.ch.queue_delete(case.n)


with_arguments("quorum-arguments", {
    "x-single-active-consumer": True, "x-expires": 60000, "x-message-ttl": 60000, "x-max-length": 5,
    "x-max-length-bytes": 5000, "x-delivery-limit": 5, "x-dead-letter-exchange": "",
})
with_arguments("quorum-delivery-limits", {"x-delivery-limit": -1})
with_arguments("quorum-overflow-dlx", {"x-overflow": "reject-publish-dlx"})
with_arguments("quorum-priority", {"x-max-priority": 5})
with_arguments("quorum-lazy", {"x-queue-mode": "lazy"})


def own(case):
    """For what Debian's RabbitMQ doesn't have."""
    if os.environ.get("INTEROP_BROKER") == "rabbitmq":
        raise Skip("RabbitMQ 3.10 has it only as a plugin or not at all")


@situation("delayed-exchange")
def delayed_exchange(case):
    """Messages are routed when they are due, the earliest first; who gets one sees what its delay was."""
    own(case)
    exchange = case.exchange("x-delayed-message", arguments={"x-delayed-type": "direct"}, auto_delete=True)
    queue = case.queue()
    case.ch.queue_bind(queue, exchange, "k")
    for delay in (600, 300, 450):
        case.ch.publish(exchange, "k", str(delay).encode(), {"headers": {"x-delay": delay}})
    case.ch.publish(exchange, "k", b"none", {"headers": {}})
    case.ch.publish(exchange, "k", b"negative", {"headers": {"x-delay": -5}})
    equal([take(case, queue).body for _ in range(2)], [b"none", b"negative"])
    got = [take(case, queue) for _ in range(3)]
    equal([message.body for message in got], [b"300", b"450", b"600"])
    equal([message.properties["headers"]["x-delay"] for message in got], [-300, -450, -600])
    equal([(message.exchange, message.routing_key) for message in got], [(exchange, "k")] * 3)


@situation("delayed-exchange-arguments")
def delayed_arguments(case):
    """The type behind the delay must be there and be one."""
    own(case)
    for arguments in ({}, {"x-delayed-type": "nosuch"}, {"x-delayed-type": 7},
                      {"x-delayed-type": "x-delayed-message"}, {"x-delayed-type": "topic"}):
        said = answer(case, lambda ch: ch.exchange_declare(case.n, "x-delayed-message", arguments=arguments))
        case.observe(f"{arguments}: {said}")
        equal(said == "ok", arguments.get("x-delayed-type") == "topic")
    case.ch.exchange_delete(case.n)


@situation("delayed-exchange-unroutable")
def delayed_unroutable(case):
    """A delayed message is confirmed at once, and mandatory asks only what is known now."""
    own(case)
    exchange = case.exchange("x-delayed-message", arguments={"x-delayed-type": "fanout"})
    case.ch.confirm_select()
    case.ch.publish(exchange, "k", b"1", {"headers": {"x-delay": 100}})
    equal(case.ch.wait_confirms(), (1, 0))
    queue = case.queue()
    case.ch.queue_bind(queue, exchange, "")
    equal(take(case, queue).body, b"1")
    case.ch.exchange_delete(exchange)


@situation("delivery-limit-classic")
def delivery_limit_classic(case):
    """A delivery limit without x-queue-type, which RabbitMQ refuses."""
    own(case)
    queue, dead = case.queue(".work", arguments=to(case, ".dead", delivery_limit=1)), case.queue(".dead")
    case.ch.publish("", queue, b"1")
    for attempt in range(2):
        message = take(case, queue, no_ack=False)
        case.observe(f"redelivered {message.redelivered} {counts(case, message)}")
        case.ch.reject(message.delivery_tag, requeue=True)
    letter = take(case, dead)
    show(case, letter)
    equal(deaths(case, letter), "work:delivery_limit:1")


@situation("delayed-retry")
def delayed_retry(case):
    """What is rejected with requeue comes again later, and other messages don't wait for it."""
    own(case)
    arguments = {"x-delayed-retry-min": 300, "x-delayed-retry-max": 600, "x-delayed-retry-multiplier": 2}
    queue = case.queue(arguments=to(case, ".dead", delivery_limit=2) | arguments)
    dead = case.queue(".dead")
    case.ch.publish("", queue, b"1")
    for attempt in range(2):
        message = take(case, queue, no_ack=False)
        equal((message.body, message.redelivered), (b"1", attempt > 0))
        case.ch.reject(message.delivery_tag, requeue=True)
        equal(case.ch.get(queue), None)
        case.ch.publish("", queue, b"2")
        equal(take(case, queue).body, b"2")
    message = take(case, queue, no_ack=False)
    case.ch.reject(message.delivery_tag, requeue=True)
    letter = take(case, dead)
    show(case, letter)
    equal(deaths(case, letter).endswith(":delivery_limit:1"), True)
