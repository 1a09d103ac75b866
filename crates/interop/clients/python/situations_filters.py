"""Conditions on headers and properties, of bindings and consumers (docs/filters.md)."""

import datetime
import decimal

from report import Skip, equal, eventually
from situations_limits import answer
from situations_own import headers, own, refused

FILTERS = {}
situation = own(FILTERS)
EU = {"x-filter": 'attributes.region = "eu"'}


def bound(case, exchange, key, filter, suffix=""):
    queue = case.queue(suffix)
    case.ch.queue_bind(queue, exchange, key, arguments={"x-filter": filter})
    return queue


def publish(case, exchange, key, *messages):
    """(body, properties) pairs."""
    for body, properties in messages:
        case.ch.publish(exchange, key, body.encode(), properties)
    case.ch.barrier()


REGIONS = [("1", headers(region="eu")), ("2", headers(region="us")), ("3", {}), ("4", headers(region="eu", test=True))]


@situation("filter-direct")
def direct(case):
    queue = bound(case, "amq.direct", case.n, EU["x-filter"])
    publish(case, "amq.direct", case.n, *REGIONS)
    publish(case, "amq.direct", case.n + "-elsewhere", *REGIONS)
    equal(case.bodies(queue), ["1", "4"])


@situation("filter-topic")
def topic(case):
    exchange = case.exchange("topic")
    queue = bound(case, exchange, "orders.#", 'attributes.region = "eu" AND NOT attributes:test')
    for key in ("orders", "orders.new.big", "other"):
        publish(case, exchange, key, *REGIONS)
    equal(case.bodies(queue), ["1", "1"])
    case.ch.exchange_delete(exchange)


@situation("filter-fanout")
def fanout(case):
    exchange = case.exchange("fanout")
    queue, rest = bound(case, exchange, "", "attributes:test"), bound(case, exchange, "", "-attributes:test", ".rest")
    publish(case, exchange, "any", *REGIONS)
    equal((case.bodies(queue), case.bodies(rest)), (["4"], ["1", "2", "3"]))
    case.ch.exchange_delete(exchange)


@situation("filter-headers")
def headers_exchange(case):
    """On a headers exchange, a filter is one condition more."""
    exchange, queue = case.exchange("headers"), case.queue()
    case.ch.queue_bind(queue, exchange, "", arguments={"x-match": "all", "region": "eu", "x-filter": "attributes:test"})
    publish(case, exchange, "", *REGIONS, ("5", headers(test=True)))
    equal(case.bodies(queue), ["4"])
    case.ch.exchange_delete(exchange)


@situation("filter-exchange")
def exchange_to_exchange(case):
    source, target, queue = case.exchange("topic", ".source"), case.exchange("fanout", ".target"), case.queue()
    case.ch.queue_bind(queue, target, "")
    case.ch.exchange_bind(target, source, "#", arguments=EU)
    publish(case, source, "k", *REGIONS)
    equal(case.bodies(queue), ["1", "4"])
    case.ch.exchange_unbind(target, source, "#", arguments=EU)
    publish(case, source, "k", *REGIONS)
    equal(case.bodies(queue), [])
    for exchange in (source, target):
        case.ch.exchange_delete(exchange)


@situation("filter-alternate")
def alternate(case):
    """What doesn't match goes to the alternate exchange."""
    lost = case.exchange("fanout", ".lost")
    exchange, rest = case.exchange("direct", arguments={"alternate-exchange": lost}), case.queue(".rest")
    case.ch.queue_bind(rest, lost, "")
    queue = bound(case, exchange, "k", EU["x-filter"])
    publish(case, exchange, "k", *REGIONS)
    equal((case.bodies(queue), case.bodies(rest)), (["1", "4"], ["2", "3"]))
    for name in (exchange, lost):
        case.ch.exchange_delete(name)


@situation("filter-mandatory")
def mandatory(case):
    """What doesn't match anything is returned if it is mandatory, before its confirm."""
    queue = bound(case, "amq.direct", case.n, EU["x-filter"])
    case.ch.confirm_select()
    for body, properties in REGIONS:
        case.ch.publish("amq.direct", case.n, body.encode(), properties, mandatory=True)
    equal(case.ch.wait_confirms(), (4, 0))
    equal(case.ch.order.count("return"), 2)
    equal(case.bodies(queue), ["1", "4"])


@situation("filter-two-bindings")
def two_bindings(case):
    """Bindings that differ in the filter are two, give a message once, and each is unbound with its own arguments."""
    queue, test = bound(case, "amq.direct", case.n, EU["x-filter"]), {"x-filter": "attributes:test"}
    case.ch.queue_bind(queue, "amq.direct", case.n, arguments=test)
    publish(case, "amq.direct", case.n, *REGIONS, ("5", headers(test=1)))
    equal(case.bodies(queue), ["1", "4", "5"])
    case.ch.queue_unbind(queue, "amq.direct", case.n)
    case.ch.queue_unbind(queue, "amq.direct", case.n, arguments=EU)
    publish(case, "amq.direct", case.n, *REGIONS, ("5", headers(test=1)))
    equal(case.bodies(queue), ["4", "5"])
    case.ch.queue_unbind(queue, "amq.direct", case.n, arguments=test)
    publish(case, "amq.direct", case.n, *REGIONS)
    equal(case.bodies(queue), [])


@situation("filter-dead-letter")
def dead_letter(case):
    """A letter is filtered as it arrives."""
    exchange = case.exchange("fanout")
    work = case.queue(".work", arguments={"x-dead-letter-exchange": exchange})
    rejected = f'attributes.x-first-death-reason = "rejected" AND attributes.x-first-death-queue = "{work}"'
    dead = bound(case, exchange, "", rejected)
    other = bound(case, exchange, "", 'attributes.x-first-death-reason = "expired"', ".expired")
    publish(case, "", work, ("1", {}))
    case.ch.reject(case.ch.get(work).delivery_tag, requeue=False)
    eventually(lambda: case.bodies(dead) == ["1"])
    publish(case, "", work, ("2", {"expiration": "1"}))
    eventually(lambda: case.bodies(other) == ["2"])
    equal(case.count(dead), 0)
    case.ch.exchange_delete(exchange)


def truths(case, rows):
    """(filter, properties, whether it matches) rows, each through a binding of its own."""
    queue, wrong = case.queue(), []
    for filter, properties, wanted in rows:
        case.ch.queue_bind(queue, "amq.direct", case.n, arguments={"x-filter": filter})
        case.ch.publish("amq.direct", case.n, b"1", properties)
        case.ch.barrier()
        found = case.bodies(queue) == ["1"]
        case.ch.queue_unbind(queue, "amq.direct", case.n, arguments={"x-filter": filter})
        if found != wanted:
            wrong.append(f"{filter} is {found} of {properties}")
    equal(wrong, [])


def rows(value, true="", false=""):
    """Conditions on a header with this value, each after a semicolon."""
    of = {"headers": {"a": value}}
    return [(text, of, truth) for texts, truth in ((true, True), (false, False)) for text in texts.split("; ") if text]


def typed():
    """Values of the types that Python's clients write."""
    yield from rows("eu", 'attributes:a; attributes.a = "eu"; hasPrefix(attributes.a, "e"); attributes.a != "Eu"',
                    'attributes.a = "Eu"; attributes.a != "eu"; hasPrefix(attributes.a, "u"); attributes.a < 5')
    yield from rows("12", 'attributes.a = "12"', "attributes.a = \"012\"; attributes.a < 13; attributes.a >= 12")
    yield from rows("é\n", 'attributes.a = "\\u00e9\\n"; attributes.a = "\\351\\x0a"; hasPrefix(attributes.a, "é")')
    yield from rows(7, 'attributes.a = "7"; attributes.a < 8; attributes.a <= 7; attributes.a > -1; attributes.a >= 7',
                    'attributes.a = "07"; attributes.a != "7"; attributes.a < 7; attributes.a > 7; attributes.a >= 8')
    yield from rows(-7, 'attributes.a = "-7"; attributes.a < -6; attributes.a > -8', "attributes.a > 0")
    yield from rows(2**40, f'attributes.a = "{2**40}"; attributes.a > {2**40 - 1}', f"attributes.a > {2**40}")
    yield from rows(-2**63, f'attributes.a = "{-2**63}"; attributes.a <= {-2**63}', f"attributes.a > {-2**63}")
    yield from rows(True, 'attributes.a = "true"; attributes.a != "false"; attributes:a',
                    'attributes.a = "1"; attributes.a > 0; attributes.a = "false"')
    yield from rows(False, 'attributes.a = "false"; attributes:a', 'attributes.a = "0"; attributes.a < 1')
    time = datetime.datetime(2023, 11, 14, 22, 13, 20)
    yield from rows(time, 'attributes.a = "1700000000"; attributes.a > 1699999999; attributes.a <= 1700000000',
                    "attributes.a > 1700000000")
    for value in (None, decimal.Decimal("12.5"), [1], {"b": 1}):
        yield from rows(value, 'attributes:a; attributes.a != "1"; NOT attributes.a < 5',
                        'attributes.a = ""; attributes.a = "1"; attributes.a > 0; hasPrefix(attributes.a, "")')
    yield "attributes.a != \"1\"", {}, True
    yield "NOT attributes.a < 5", {}, True
    yield "attributes.a >= 5", {}, False
    yield "attributes:a", {}, False


@situation("filter-header-types")
def header_types(case):
    truths(case, typed())


@situation("filter-header-floats")
def header_floats(case):
    """A float is there, and equal to nothing."""
    if "float" not in case.adapter.sample_table():
        raise Skip("pika has no floats")
    truths(case, rows(2.5, 'attributes:a; attributes.a != "2.5"', 'attributes.a = "2.5"; attributes.a > 2'))
    truths(case, rows(2.0, "attributes:a", 'attributes.a = "2"; attributes.a <= 2'))


@situation("filter-properties")
def properties(case):
    stamped = dict(content_type="text/plain", priority=5, correlation_id="c", message_id="m", type="t", app_id="app")
    stamped |= dict(delivery_mode=2, expiration="60000", reply_to="r", user_id="guest", content_encoding="utf-8")
    stamped |= dict(timestamp=1700000000)
    true = 'properties.content_type = "text/plain"; properties:content_encoding; properties.delivery_mode = "2"; '
    true += 'properties.priority > 4; properties.correlation_id = "c"; properties.reply_to = "r"; '
    true += 'properties.type != "u"; properties.expiration = "60000"; properties.message_id = "m"; properties.timestamp >= 1700000000; '
    true += 'properties.user_id = "guest"; hasPrefix(properties.app_id, "a"); properties.delivery_mode < 3'
    false = 'properties.priority > 5; properties.type = "u"; properties.timestamp < 1700000000'
    truths(case, [(text, stamped, True) for text in true.split("; ")])
    truths(case, [(text, stamped, False) for text in false.split("; ")])
    truths(case, [("properties:message_id", {"delivery_mode": 1}, False), ('properties.type != "t"', {}, True)])


@situation("filter-syntax")
def syntax(case):
    """What joins conditions, and how names are written."""
    both, one = headers(a="1", b="2"), headers(a="1")
    deep = "(" * 32 + "attributes:a" + ")" * 32
    long = 'attributes.a != "' + "x" * (1024 - 18) + '"'
    equal(len(long), 1024)
    truths(case, [
        ("attributes:a AND attributes:b", both, True), ("attributes:a AND attributes:b", one, False),
        ("attributes:a OR attributes:b", one, True), ("NOT attributes:a OR attributes:b", one, False),
        ("NOT (attributes:a AND attributes:b)", one, True), ("NOT NOT attributes:a", one, True),
        ("-attributes:b AND attributes:a", one, True), ("- - attributes:b", one, False),
        ('attributes:a AND (attributes.b = "1" OR attributes.b = "2")', both, True),
        ('attributes:a AND (attributes.b = "1" OR attributes.b = "3")', both, False),
        ('attributes."iana.org/language_tag" = "en"', {"headers": {"iana.org/language_tag": "en"}}, True),
        ('  attributes:a  ', one, True), ("attributes:A", one, False), (deep, one, True), (long, one, True),
    ])


ERRORS = [
    ("attributes.a foo", "expected '=', '!=', '<', '<=', '>' or '>=' at byte 13, found 'foo'"),
    ("attributes.a", "expected '=', '!=', '<', '<=', '>' or '>=' at byte 12, found the end"),
    ("", "expected 'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '(' at byte 0, found the end"),
    ("attributes:a,b", "expected 'AND', 'OR' or the end at byte 12, found ','"),
    (5, "expected a string, received one of type 'signedint'"),
    (True, "expected a string, received one of type 'bool'"),
    (["attributes:a"], "expected a string, received one of type 'array'"),
]
# Of these only the place is compared.
PLACES = [
    ("attributes:lang AND attributes:a OR attributes:b", 33), ("attributes.a = 5", 15), ('attributes.a < "5"', 15),
    ("properties:nosuch", 11), ("(attributes:a", 13), ("attributes:a)", 12), ('attributes.a = "b', 17),
    ('attributes.a = "\\q"', 16), ("attributes:a and attributes:b", 13), (f"attributes.a < {2**64}", 15),
    ("(" * 33 + "attributes:a" + ")" * 33, 32), ('properties.type < 5', 16),
]


def binding(text, exchange, destination="queue '{n}'"):
    return f"invalid arg 'x-filter': {text} (binding from exchange '{exchange}' to {destination} in vhost '/')"


@situation("filter-binding-errors")
def binding_errors(case):
    """What isn't valid is refused with its place, and binds nothing."""
    queue, exchange = case.queue(), case.exchange("fanout", ".exchange")
    for filter, text in ERRORS:
        arguments = {"x-filter": filter}
        refused(case, lambda ch: ch.queue_bind(queue, "amq.direct", case.n, arguments=arguments), "50/20",
                binding(text, "amq.direct"))
    # An error's text has at most 255 bytes, which two long names fill.
    for filter, text in ERRORS[3:]:
        arguments = {"x-filter": filter}
        refused(case, lambda ch: ch.exchange_bind(exchange, "amq.direct", case.n, arguments=arguments), "40/30",
                binding(text, "amq.direct", "exchange '{n}.exchange'"))
    publish(case, "amq.direct", case.n, *REGIONS)
    equal(case.bodies(queue), [])
    case.ch.exchange_delete(exchange)


@situation("filter-error-places")
def error_places(case):
    queue, wrong = case.queue(), []
    for filter, place in PLACES:
        arguments = {"x-filter": filter}
        said = answer(case, lambda ch: ch.queue_bind(queue, "amq.direct", case.n, arguments=arguments))
        case.observe(f"{filter}: {said}")
        if not said.startswith("channel 406") or f" at byte {place}" not in said or "x-filter': expected" not in said:
            wrong.append(f"{filter}: expected an error at byte {place}, got {said}")
    equal(wrong, [])


@situation("filter-too-long")
def too_long(case):
    filter = 'attributes.a != "' + "x" * (1025 - 18) + '"'
    queue = case.queue()
    refused(case, lambda ch: ch.queue_bind(queue, "amq.direct", case.n, arguments={"x-filter": filter}), "50/20",
            binding("expected the end, as a filter has at most 1024 bytes, at byte 1024, found 1 more", "amq.direct"))


@situation("filter-consumer")
def consumer(case):
    """A consumer gets what matches; what no consumer wants waits, and slows nobody down."""
    queue, eu, test = case.queue(), [], []
    case.ch.consume(queue, eu.append, tag="eu", no_ack=True, arguments=EU)
    other = case.channel()
    other.qos(1)
    other.consume(queue, test.append, tag="test", arguments={"x-filter": "attributes:test"})
    publish(case, "", queue, ("none", {}), ("eu 1", headers(region="eu")), ("test 1", headers(test=1)),
            ("test 2", headers(test=True)), ("eu 2", headers(region="eu")))
    case.collect(case.ch, eu, 2)
    equal([message.body for message in eu], [b"eu 1", b"eu 2"])
    case.collect(other, test, 1)
    other.ack(test[0].delivery_tag)
    case.collect(other, test, 2)
    equal([message.body for message in test], [b"test 1", b"test 2"])
    equal(case.count(queue), 1)
    late = []
    case.channel().consume(queue, late.append, tag="late", arguments={"x-filter": "NOT attributes:region"}, no_ack=True)
    case.collect(case.ch, late, 1)
    equal(late[0].body, b"none")


@situation("filter-consumer-get")
def consumer_get(case):
    """basic.get, and a consumer without a filter, take anything."""
    queue, got = case.queue(), []
    case.ch.consume(queue, got.append, tag="eu", no_ack=True, arguments=EU)
    publish(case, "", queue, *REGIONS)
    case.collect(case.ch, got, 2)
    equal((case.ch.get(queue, no_ack=True).body, case.count(queue)), (b"2", 1))
    case.ch.consume(queue, got.append, tag="any", no_ack=True)
    case.collect(case.ch, got, 3)
    equal([message.body for message in got], [b"1", b"4", b"3"])


@situation("filter-consumer-group")
def consumer_group(case):
    """With groups, a consumer gets what matches of a group, in order, while nobody else holds the key."""
    queue, a, b = case.queue(arguments={"x-group-header": "k"}), [], []
    # Not the channel on which publish() waits, since that changes its prefetch.
    one, other = case.channel(), case.channel()
    one.qos(1)
    one.consume(queue, a.append, tag="a", arguments={"x-filter": "attributes:a"})
    other.qos(1)
    other.consume(queue, b.append, tag="b", arguments={"x-filter": "attributes:b"})
    publish(case, "", queue, ("xa1", headers(k="x", a=1)), ("xb1", headers(k="x", b=1)), ("yb1", headers(k="y", b=1)),
            ("xa2", headers(k="x", a=1)), ("nobody's", headers(k="x")))
    case.collect(one, a, 1)
    case.collect(other, b, 1)
    one.ack(a[0].delivery_tag)
    case.collect(one, a, 2)
    other.ack(b[0].delivery_tag)
    case.collect(other, b, 1)
    one.ack(a[1].delivery_tag)
    case.collect(other, b, 2)
    equal(([message.body for message in a], [message.body for message in b]), ([b"xa1", b"xa2"], [b"yb1", b"xb1"]))


@situation("filter-consumer-errors")
def consumer_errors(case):
    queue = case.queue()
    for filter, text in ERRORS:
        arguments = {"x-filter": filter}
        refused(case, lambda ch: ch.consume(queue, print, tag="t", arguments=arguments), "60/20",
                f"invalid arg 'x-filter': {text} (consumer 't' of queue '{{n}}')")


@situation("filter-consumer-limit")
def consumer_limit(case):
    """A queue's consumers have at most 64 different filters."""
    queue, got = case.queue(), []
    for number in range(64):
        filter = {"x-filter": f"attributes:a{number}"}
        case.ch.consume(queue, got.append, tag=f"t{number}", no_ack=True, arguments=filter)
    more = {"x-filter": "attributes:more"}
    refused(case, lambda ch: ch.consume(queue, print, tag="more", arguments=more), "60/20",
            "queue '{n}' in vhost '/' has consumers with 64 different filters, which is the most: use one of theirs, "
            "or bind another queue")
    case.ch.consume(queue, got.append, tag="equal", no_ack=True, arguments={"x-filter": "attributes:a7"})
    case.ch.cancel("t1")
    case.ch.consume(queue, got.append, tag="more", no_ack=True, arguments=more)
    publish(case, "", queue, ("1", headers(more=1)), ("2", headers(a63=1)), ("3", headers(a1=1)))
    case.collect(case.ch, got, 2)
    equal(sorted(message.body for message in got), [b"1", b"2"])
