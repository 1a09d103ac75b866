"""Dead letters: what becomes of a message that a queue gives up, and how its history is told."""

import datetime
import os
import time

from report import BrokerError, Skip, equal, eventually, into

LETTERS = {}
situation = into(LETTERS)
QUIET = 0.2  # Seconds without a message after which we believe that none comes.
PROPERTIES = dict(content_type="text/plain", content_encoding="utf-8", headers={"a": 1}, priority=5, expiration="60000")
PROPERTIES |= dict(correlation_id="c", reply_to="r", message_id="m", timestamp=1700000000, type="t", user_id="guest")
PROPERTIES |= dict(app_id="app")


def plain(case, value):
    """A header's value as text that is the same on every broker and in every run."""
    if isinstance(value, datetime.datetime):
        value = value.replace(tzinfo=datetime.timezone.utc)
        return "now" if abs(value.timestamp() - time.time()) < 60 else f"{value} and not now"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={plain(case, value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(plain(case, item) for item in value) + "]"
    return repr(value).replace(case.n, "{n}")


def show(case, message):
    """Observes all that a letter says, but in an order of its own: the order, and the headers of the last death that
    RabbitMQ 4 alone writes, have situations of their own."""
    where = f"exchange {message.exchange!r} key {message.routing_key!r} redelivered {message.redelivered}"
    case.observe(f"{where} body {message.body!r}".replace(case.n, "{n}"))
    headers = message.properties.get("headers", {})
    properties = {name: value for name, value in message.properties.items() if name != "headers"}
    case.observe(plain(case, properties))
    for name in sorted(headers):
        value = headers[name]
        if name == "x-death":
            value = sorted(value, key=lambda death: (death["queue"], death["reason"]))
        if not name.startswith("x-last-death-"):
            case.observe(f"{name} {plain(case, value)}")


def deaths(case, message):
    """The history in short, the most recent first: where, why and how often."""
    found = message.properties["headers"]["x-death"]
    queues = [death["queue"].removeprefix(case.n + ".") for death in found]
    return " ".join(f"{queue}:{death['reason']}:{death['count']}" for queue, death in zip(queues, found))


def take(case, queue, no_ack=True):
    return eventually(lambda: case.ch.get(queue, no_ack=no_ack))


def lose(case, queue):
    """Takes a message and rejects it."""
    case.ch.reject(take(case, queue, no_ack=False).delivery_tag, requeue=False)


def dead_end(case, *queues):
    """Checks that the queues become empty, and stay so."""
    eventually(lambda: not any(case.count(queue) for queue in queues))
    time.sleep(QUIET)
    equal([case.count(queue) for queue in queues], [0] * len(queues))


def pair(case, **arguments):
    """A queue bound to a direct exchange by the key `k`, and the queue that its dead letters go to."""
    dlx, source = case.exchange("fanout", ".dlx", auto_delete=True), case.exchange("direct", ".in", auto_delete=True)
    arguments = {"x-dead-letter-exchange": dlx} | {"x-" + name.replace("_", "-"): arguments[name] for name in arguments}
    work, dead = case.queue(".work", arguments=arguments), case.queue(".dead")
    case.ch.queue_bind(dead, dlx, "")
    case.ch.queue_bind(work, source, "k")
    return source, work, dead


def to(case, suffix, **arguments):
    """Arguments that dead-letter to a queue of this situation."""
    arguments = {"x-" + name.replace("_", "-"): value for name, value in arguments.items()}
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": case.n + suffix} | arguments


@situation("dead-letter-rejected")
def rejected(case):
    source, work, dead = pair(case)
    case.ch.publish(source, "k", b"1", PROPERTIES | {"delivery_mode": 2})
    lose(case, work)
    letter = take(case, dead)
    show(case, letter)
    equal((letter.exchange, letter.routing_key, letter.body), (case.n + ".dlx", "k", b"1"))
    equal(deaths(case, letter), "work:rejected:1")


@situation("dead-letter-nacked")
def nacked(case):
    source, work, dead = pair(case)
    for body in (b"1", b"2", b"3"):
        case.ch.publish(source, "k", body, {"delivery_mode": 1})
    tags = [take(case, work, no_ack=False).delivery_tag for _ in range(3)]
    case.ch.nack(tags[2], multiple=True, requeue=False)
    letters = [take(case, dead) for _ in range(3)]
    show(case, letters[0])
    equal([letter.body for letter in letters], [b"1", b"2", b"3"])
    equal([deaths(case, letter) for letter in letters], ["work:rejected:1"] * 3)


@situation("dead-letter-queue-ttl")
def queue_ttl(case):
    source, work, dead = pair(case, message_ttl=50)
    for body in (b"1", b"2", b"3"):
        case.ch.publish(source, "k", body, {"delivery_mode": 2})
    letters = [take(case, dead) for _ in range(3)]
    show(case, letters[0])
    equal([letter.body for letter in letters], [b"1", b"2", b"3"])
    equal(deaths(case, letters[0]), "work:expired:1")


@situation("dead-letter-message-ttl")
def message_ttl(case):
    source, _, dead = pair(case)
    case.ch.publish(source, "k", b"1", PROPERTIES | {"expiration": "50"})
    letter = take(case, dead)
    show(case, letter)
    equal(deaths(case, letter), "work:expired:1")
    equal(letter.properties["headers"]["x-death"][0]["original-expiration"], "50")
    equal("expiration" in letter.properties, False)


@situation("dead-letter-maxlen")
def maxlen(case):
    source, work, dead = pair(case, max_length=2)
    for body in (b"1", b"2", b"3", b"4"):
        case.ch.publish(source, "k", body)
    letters = [take(case, dead) for _ in range(2)]
    show(case, letters[0])
    equal([deaths(case, letter) for letter in letters], ["work:maxlen:1"] * 2)
    equal(([letter.body for letter in letters], case.bodies(work)), ([b"1", b"2"], ["3", "4"]))


@situation("dead-letter-maxlen-bytes")
def maxlen_bytes(case):
    source, work, dead = pair(case, max_length_bytes=10)
    for body in (b"1111", b"2222", b"3333"):
        case.ch.publish(source, "k", body)
    letter = take(case, dead)
    show(case, letter)
    equal((letter.body, case.bodies(work)), (b"1111", ["2222", "3333"]))


@situation("dead-letter-reject-publish")
def reject_publish_dlx(case):
    source, work, dead = pair(case, max_length=1, overflow="reject-publish-dlx")
    case.ch.confirm_select()
    for body in (b"1", b"2"):
        case.ch.publish(source, "k", body, {"delivery_mode": 2})
        case.ch.wait_confirms()
    letter = take(case, dead)
    show(case, letter)
    case.observe(f"acks {case.ch.acked} nacks {case.ch.nacked}")
    equal((letter.body, deaths(case, letter), case.bodies(work)), (b"2", "work:maxlen:1", ["1"]))


@situation("dead-letter-reject-publish-plain")
def reject_publish(case):
    """Without `-dlx` what is refused doesn't become a letter."""
    source, work, dead = pair(case, max_length=1, overflow="reject-publish")
    for body in (b"1", b"2"):
        case.ch.publish(source, "k", body)
    time.sleep(QUIET)
    equal((case.bodies(work), case.bodies(dead)), (["1"], []))


@situation("dead-letter-no-headers")
def no_headers(case):
    work, dead = case.queue(".work", arguments=to(case, ".dead")), case.queue(".dead")
    case.ch.publish("", work, b"")
    lose(case, work)
    letter = take(case, dead)
    show(case, letter)
    equal((letter.exchange, letter.routing_key, letter.body), ("", dead, b""))


@situation("dead-letter-last-death")
def last_death(case):
    """Three headers that RabbitMQ writes since 3.13."""
    work, dead = case.queue(".work", arguments=to(case, ".dead")), case.queue(".dead", arguments=to(case, ".end"))
    end = case.queue(".end")
    case.ch.publish("", work, b"")
    lose(case, work)
    lose(case, dead)
    headers = take(case, end).properties["headers"]
    for name in ("exchange", "queue", "reason"):
        case.observe(f"first {name} {plain(case, headers['x-first-death-' + name])}")
        case.observe(f"last {name} {plain(case, headers.get('x-last-death-' + name))}")
    equal(headers["x-first-death-queue"], work)


@situation("dead-letter-key-order")
def key_order(case):
    """In which order tables are written: of no meaning, but visible to who prints them."""
    source, work, dead = pair(case)
    case.ch.publish(source, "k", b"", {"headers": {"z": 1, "a": 2}, "expiration": "50"})
    headers = take(case, dead).properties["headers"]
    case.observe(" ".join(name for name in headers if not name.startswith("x-last-death-")))
    case.observe(" ".join(headers["x-death"][0]))


@situation("dead-letter-routing-key")
def routing_key(case):
    """The queue's key replaces the message's key and those of CC, which goes."""
    dlx = case.exchange("direct", ".dlx", auto_delete=True)
    queues = {key: case.queue("." + key) for key in ("cc", "bcc", "other")}
    for key, queue in queues.items():
        case.ch.queue_bind(queue, dlx, key)
    arguments = {"x-dead-letter-exchange": dlx, "x-dead-letter-routing-key": "other"}
    work = case.queue(".work", arguments=arguments)
    case.ch.publish("", work, b"1", {"headers": {"CC": ["cc"], "BCC": ["bcc"], "kept": 1}})
    lose(case, work)
    letter = take(case, queues["other"])
    show(case, letter)
    equal((letter.routing_key, case.bodies(queues["cc"]), case.bodies(queues["bcc"])), ("other", [], []))


@situation("dead-letter-cc")
def copies(case):
    """Without a key of the queue the letter goes where the message's own keys say."""
    dlx = case.exchange("direct", ".dlx", auto_delete=True)
    work = case.queue(".work", arguments={"x-dead-letter-exchange": dlx})
    queues = [case.queue("." + key) for key in ("to", "cc")]
    for queue, key in zip(queues, (work, "cc")):
        case.ch.queue_bind(queue, dlx, key)
    case.ch.publish("", work, b"1", {"headers": {"CC": ["cc"], "BCC": ["bcc"], "kept": 1}})
    lose(case, work)
    for queue in queues:
        show(case, take(case, queue))


@situation("dead-letter-bcc")
def blind_copies(case):
    """Whether the keys of BCC, which nobody may see, still lead the letter somewhere."""
    dlx = case.exchange("direct", ".dlx", auto_delete=True)
    work, bcc = case.queue(".work", arguments={"x-dead-letter-exchange": dlx}), case.queue(".bcc")
    case.ch.queue_bind(bcc, dlx, "bcc")
    case.ch.publish("", work, b"1", {"headers": {"BCC": ["bcc"]}})
    lose(case, work)
    time.sleep(QUIET)
    case.observe(f"{case.count(bcc)} letters")


@situation("dead-letter-chain")
def chain(case):
    """Three queues: an entry for each; the first death stays what it was."""
    first = case.queue(".first", arguments=to(case, ".second"))
    second, end = case.queue(".second", arguments=to(case, ".third", message_ttl=50)), case.queue(".end")
    third = case.queue(".third", arguments=to(case, ".end"))
    case.ch.publish("", first, b"1")
    lose(case, first)
    lose(case, third)
    letter = take(case, end)
    show(case, letter)
    equal(sorted(deaths(case, letter).split()), ["first:rejected:1", "second:expired:1", "third:rejected:1"])
    equal((letter.properties["headers"]["x-first-death-queue"], case.count(second)), (first, 0))


@situation("dead-letter-again")
def again(case):
    """The usual way to try again later: counts grow, and what died last comes first."""
    work = case.queue(".work", arguments=to(case, ".wait"))
    case.queue(".wait", arguments=to(case, ".work", message_ttl=50))
    case.ch.publish("", work, b"1", {"delivery_mode": 2})
    for attempt in range(1, 4):
        lose(case, work)
        letter = take(case, work, no_ack=False)
        case.observe(deaths(case, letter))
        equal(deaths(case, letter), f"wait:expired:{attempt} work:rejected:{attempt}")
        case.ch.reject(letter.delivery_tag, requeue=True)
    show(case, take(case, work))


@situation("dead-letter-two-reasons")
def two_reasons(case):
    """One queue, two reasons: two entries."""
    work, dead = case.queue(".work", arguments=to(case, ".dead")), case.queue(".dead", arguments=to(case, ".work"))
    case.ch.publish("", work, b"1", {"expiration": "50"})
    for _ in range(2):
        lose(case, dead)
        letter = take(case, work, no_ack=False)
        case.ch.reject(letter.delivery_tag, requeue=False)
    letter = take(case, dead)
    show(case, letter)
    equal(sorted(deaths(case, letter).split()), ["dead:rejected:2", "work:expired:1", "work:rejected:2"])


@situation("dead-letter-entry-order")
def entry_order(case):
    """The most recent death comes first; how RabbitMQ 3.10 orders three and more depends on how many there are."""
    queues = [case.queue(f".{number}", arguments=to(case, f".{number + 1}")) for number in range(4)]
    end = case.queue(".4")
    case.ch.publish("", queues[0], b"1")
    for queue in queues:
        lose(case, queue)
    letter = take(case, end)
    case.observe(deaths(case, letter))
    equal(deaths(case, letter).split()[0], "3:rejected:1")


@situation("dead-letter-cycle-dropped")
def cycle_dropped(case):
    """A cycle that nobody's rejection is part of drops the message, as it would never end."""
    work = case.queue(".work", arguments=to(case, ".work", message_ttl=50))
    case.ch.publish("", work, b"1")
    dead_end(case, work)


@situation("dead-letter-cycle-of-two")
def cycle_of_two(case):
    one = case.queue(".one", arguments=to(case, ".two", message_ttl=50))
    two = case.queue(".two", arguments=to(case, ".one", message_ttl=50))
    case.ch.publish("", one, b"1")
    dead_end(case, one, two)


@situation("dead-letter-cycle-maxlen")
def cycle_maxlen(case):
    """What is pushed out of a queue doesn't come back to it."""
    work = case.queue(".work", arguments=to(case, ".work", max_length=1))
    case.ch.publish("", work, b"1")
    case.ch.publish("", work, b"2")
    time.sleep(QUIET)
    equal(case.bodies(work), ["2"])


@situation("dead-letter-cycle-partly")
def cycle_partly(case):
    """Of the letter's destinations only those are left out that would close the cycle."""
    dlx = case.exchange("fanout", ".dlx", auto_delete=True)
    work = case.queue(".work", arguments={"x-dead-letter-exchange": dlx, "x-message-ttl": 50})
    side = case.queue(".side")
    case.ch.queue_bind(work, dlx, "")
    case.ch.queue_bind(side, dlx, "")
    case.ch.publish("", work, b"1")
    equal(deaths(case, take(case, side)), "work:expired:1")
    dead_end(case, work, side)


@situation("dead-letter-cycle-rejected")
def cycle_rejected(case):
    """With a rejection in it a cycle goes on for as long as somebody rejects."""
    work = case.queue(".work", arguments=to(case, ".work"))
    case.ch.publish("", work, b"1")
    for _ in range(4):
        lose(case, work)
    letter = take(case, work)
    show(case, letter)
    equal(deaths(case, letter), "work:rejected:4")


@situation("dead-letter-cycle-after-reject")
def cycle_after_reject(case):
    """A rejection before the cycle doesn't keep it going."""
    first = case.queue(".first", arguments=to(case, ".loop"))
    loop = case.queue(".loop", arguments=to(case, ".loop", message_ttl=50))
    case.ch.publish("", first, b"1")
    lose(case, first)
    dead_end(case, first, loop)


@situation("dead-letter-no-exchange")
def no_exchange(case):
    """Without the exchange a letter is dropped; an exchange that is declared later gets the later ones."""
    arguments = {"x-dead-letter-exchange": case.n + ".late"}
    work, dead = case.queue(".work", arguments=arguments), case.queue(".dead")
    case.ch.publish("", work, b"1")
    lose(case, work)
    case.ch.barrier()
    late = case.exchange("fanout", ".late", auto_delete=True)
    case.ch.queue_bind(dead, late, "")
    case.ch.publish("", work, b"2")
    lose(case, work)
    equal(take(case, dead).body, b"2")
    dead_end(case, work, dead)


@situation("dead-letter-no-queue")
def no_queue(case):
    """A letter without a destination is dropped, and the next one isn't."""
    dlx = case.exchange("topic", ".dlx")
    work, dead = case.queue(".work", arguments={"x-dead-letter-exchange": dlx}), case.queue(".dead")
    case.ch.publish("", work, b"1", mandatory=True)
    lose(case, work)
    case.ch.barrier()
    case.ch.queue_bind(dead, dlx, "#")
    case.ch.publish("", work, b"2")
    lose(case, work)
    equal((take(case, dead).body, case.count(work), case.ch.returns), (b"2", 0, []))
    case.ch.exchange_delete(dlx)


@situation("dead-letter-alternate-exchange")
def alternate(case):
    """The letter is routed like any message: an alternate exchange has its say."""
    rest = case.exchange("fanout", ".rest", auto_delete=True)
    dlx = case.exchange("direct", ".dlx", arguments={"alternate-exchange": rest})
    work, dead = case.queue(".work", arguments={"x-dead-letter-exchange": dlx}), case.queue(".dead")
    case.ch.queue_bind(dead, rest, "")
    case.ch.publish("", work, b"1")
    lose(case, work)
    show(case, take(case, dead))
    case.ch.exchange_delete(dlx)


@situation("dead-letter-not-purged")
def purged(case):
    """Purging and deleting are no deaths."""
    work, dead = case.queue(".work", arguments=to(case, ".dead")), case.queue(".dead")
    for body in (b"1", b"2"):
        case.ch.publish("", work, body)
    equal(case.ch.queue_purge(work), 2)
    case.ch.publish("", work, b"3")
    equal(case.ch.queue_delete(work), 1)
    dead_end(case, dead)


@situation("dead-letter-tx")
def transaction(case):
    """A rejection within a transaction is a death when it is committed."""
    work, dead = case.queue(".work", arguments=to(case, ".dead")), case.queue(".dead")
    for body in (b"1", b"2"):
        case.ch.publish("", work, body)
    case.ch.barrier()
    case.ch.tx_select()
    lose(case, work)
    case.ch.tx_rollback()
    time.sleep(QUIET)
    equal(case.count(dead), 0)
    lose(case, work)
    case.ch.tx_commit()
    letter = take(case, dead)
    show(case, letter)
    equal((letter.body, case.ch.get(dead)), (b"2", None))


@situation("dead-letter-headers-kept")
def headers_kept(case):
    """The message's own headers are passed on as they are, of whatever type."""
    work, dead = case.queue(".work", arguments=to(case, ".dead")), case.queue(".dead")
    table = case.adapter.sample_table()
    case.ch.publish("", work, b"1", {"headers": table})
    lose(case, work)
    headers = take(case, dead).properties["headers"]
    equal({name: headers[name] for name in headers if not name.startswith("x-")}, table)


@situation("dead-letter-large")
def large(case):
    """A body of many frames."""
    work, dead = case.queue(".work", arguments=to(case, ".dead", message_ttl=50)), case.queue(".dead")
    body = bytes(range(256)) * 12000
    case.ch.publish("", work, body, {"delivery_mode": 2})
    equal(take(case, dead).body == body, True)


@situation("dead-letter-burst")
def burst(case):
    """A thousand that expire together become letters in their order, each once."""
    work, dead = case.queue(".work", arguments=to(case, ".dead", message_ttl=100)), case.queue(".dead")
    for number in range(1000):
        case.ch.publish("", work, str(number).encode())
    eventually(lambda: case.count(dead) == 1000)
    equal(case.bodies(dead), [str(number) for number in range(1000)])
    equal(case.count(work), 0)


@situation("dead-letter-many-queues")
def many_queues(case):
    """The dead-letter exchange routes like any other: to as many queues as its bindings say."""
    dlx = case.exchange("topic", ".dlx", auto_delete=True)
    work = case.queue(".work", arguments={"x-dead-letter-exchange": dlx, "x-dead-letter-routing-key": "failed.work"})
    for number, pattern in enumerate(("#", "failed.*", "*.work", "other.#")):
        case.ch.queue_bind(case.queue(f".{number}"), dlx, pattern)
    case.ch.publish("", work, b"1")
    lose(case, work)
    equal([take(case, f"{case.n}.{number}").routing_key for number in range(3)], ["failed.work"] * 3)
    equal(case.count(case.n + ".3"), 0)


@situation("dead-letter-headers-exchange")
def by_headers(case):
    """A headers exchange tells letters apart by what the broker wrote into them."""
    dlx = case.exchange("headers", ".dlx", auto_delete=True)
    for reason in ("expired", "rejected"):
        arguments = {"x-match": "all-with-x", "x-first-death-reason": reason}
        case.ch.queue_bind(case.queue("." + reason), dlx, "", arguments)
    work = case.queue(".work", arguments={"x-dead-letter-exchange": dlx})
    case.ch.publish("", work, b"1")
    lose(case, work)
    case.ch.publish("", work, b"2", {"expiration": "50"})
    equal([take(case, case.n + suffix).body for suffix in (".rejected", ".expired")], [b"1", b"2"])


@situation("dead-letter-requeued")
def requeued(case):
    """What is given back to a queue that has become full."""
    source, work, dead = pair(case, max_length=1)
    case.ch.publish(source, "k", b"1")
    held = take(case, work, no_ack=False)
    case.ch.publish(source, "k", b"2")
    case.ch.reject(held.delivery_tag, requeue=True)
    letter = take(case, dead)
    show(case, letter)
    equal((letter.body, deaths(case, letter), case.bodies(work)), (b"1", "work:maxlen:1", ["2"]))


@situation("dead-letter-refused")
def refused(case):
    """A letter for a queue that is full and refuses."""
    dead = case.queue(".dead", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    work = case.queue(".work", arguments=to(case, ".dead"))
    for body in (b"1", b"2"):
        case.ch.publish("", work, body)
        lose(case, work)
    eventually(lambda: case.count(dead))
    time.sleep(QUIET)
    found = case.bodies(dead)
    case.observe(f"work {case.bodies(work)}, dead {found}")
    equal(found[0], "1")


@situation("dead-letter-republished")
def republished(case):
    """A client publishes a letter again, with the headers that it got."""
    work, dead = case.queue(".work", arguments=to(case, ".dead")), case.queue(".dead")
    case.ch.publish("", work, b"1")
    lose(case, work)
    letter = take(case, dead)
    case.ch.publish("", work, b"1", {"headers": letter.properties["headers"]})
    lose(case, work)
    show(case, take(case, dead))


@situation("dead-letter-junk-history")
def junk_history(case):
    """x-death as no broker writes it: the letter is written all the same."""
    work, dead = case.queue(".work", arguments=to(case, ".dead")), case.queue(".dead")
    for junk in ("text", 7, [], {"queue": "q"}):
        case.ch.publish("", work, b"1", {"headers": {"x-death": junk}})
        lose(case, work)
        history = take(case, dead).properties["headers"]["x-death"]
        case.observe(f"{junk}: {plain(case, history)}")
        equal([(death["queue"], death["count"]) for death in history], [(work, 1)])


@situation("dead-letter-junk-entries")
def junk_entries(case):
    """An array with entries as no broker writes them. RabbitMQ 3.10's queue crashes over it, and loses the message."""
    if os.environ.get("INTEROP_BROKER") == "rabbitmq":
        raise Skip("RabbitMQ 3.10's queue crashes over it")
    work, dead = case.queue(".work", arguments=to(case, ".dead")), case.queue(".dead")
    for junk in (["text", 7], [{}], [{"queue": 7}], [{"queue": work, "reason": "rejected", "count": "many"}]):
        case.ch.publish("", work, b"1", {"headers": {"x-death": junk}})
        lose(case, work)
        history = take(case, dead).properties["headers"]["x-death"]
        case.observe(f"{plain(case, junk)}: {plain(case, history)}")
        equal((history[0]["queue"], history[0]["reason"]), (work, "rejected"))


@situation("dead-letter-junk-first-death")
def junk_first_death(case):
    """Headers of the first death as a client may have written them."""
    work, dead = case.queue(".work", arguments=to(case, ".dead")), case.queue(".dead")
    case.ch.publish("", work, b"1", {"headers": {"x-first-death-reason": 7, "x-first-death-queue": "mine"}})
    lose(case, work)
    show(case, take(case, dead))


@situation("dead-letter-cc-junk")
def cc_junk(case):
    """CC of a type that is none: refused when it is published."""
    try:
        case.ch.publish("", case.queue(), b"1", {"headers": {"CC": "text"}})
        case.ch.barrier()
        case.observe("accepted")
    except BrokerError as error:
        case.observe(f"{error.scope} {error.code} {error.failed} {error.text}")
