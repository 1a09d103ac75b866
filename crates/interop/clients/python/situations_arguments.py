"""The arguments of queues: types and ranges, and what a declaration that differs is told."""

import decimal

from report import equal, into
from situations_limits import answer

ARGUMENTS = {}
situation = into(ARGUMENTS)
NUMBERS = [0, 1, -1, 2**31, 2**32 - 1, 2**32, 315360000000, 315360000001, 2**63 - 1, "10", True, 1.5, None, [1]]
TEXTS = ["", "nosuch", 7, True, None]


def tried(name, values, refused):
    """Declares a queue with each value; `refused` are those that no broker may take."""

    @situation("arg-" + name)
    def check(case):
        for value in values:
            said = answer(case, lambda channel: channel.queue_declare(case.n, arguments={name: value}))
            case.observe(f"{value!r}: {said}")
            if any(value is bad for bad in refused):
                equal((said[:14], "- invalid " in said, f" arg '{name}' " in said), ("channel 406 50", True, True))
            case.ch.queue_delete(case.n)


tried("x-message-ttl", NUMBERS, [-1, "10"])
tried("x-expires", NUMBERS, [0, -1, "10"])
tried("x-max-length", NUMBERS, [-1, "10"])
tried("x-max-length-bytes", NUMBERS, [-1, "10"])
tried("x-delivery-limit", [0, 1, 20, -1, "10", True], [])
tried("x-max-priority", [0, 1, 255, 256, -1, "10"], [-1, "10"])
tried("x-overflow", ["drop-head", "reject-publish", "reject-publish-dlx", *TEXTS], TEXTS)
tried("x-dead-letter-exchange", TEXTS, [7, True])
tried("x-single-active-consumer", [True, False, 1, "true", None], [1, "true"])
tried("x-queue-type", ["classic", *TEXTS], TEXTS[1:])
tried("x-queue-mode", ["default", "lazy", *TEXTS], TEXTS[1:])


@situation("arg-x-dead-letter-routing-key")
def routing_key(case):
    """It needs the exchange."""
    for value in TEXTS:
        for exchange in ({}, {"x-dead-letter-exchange": ""}):
            arguments = exchange | {"x-dead-letter-routing-key": value}
            said = answer(case, lambda channel: channel.queue_declare(case.n, arguments=arguments))
            case.observe(f"{value!r} {'with' if exchange else 'without'} the exchange: {said}")
            equal(said == "ok", bool(exchange) and isinstance(value, str))
            case.ch.queue_delete(case.n)


@situation("arg-number-types")
def number_types(case):
    """Numbers of other types than integers."""
    for value in (1.0, decimal.Decimal("10")):
        said = answer(case, lambda channel: channel.queue_declare(case.n, arguments={"x-message-ttl": value}))
        case.observe(f"{value!r}: {said}")
        case.ch.queue_delete(case.n)


def redeclared(name, current, *others):
    """A queue with one value is declared with others, and without the argument."""

    @situation("redeclare-" + name)
    def check(case):
        companion = {"x-dead-letter-exchange": ""} if name == "x-dead-letter-routing-key" else {}

        def declare(value):
            arguments = companion | ({} if value is None else {name: value})
            return answer(case, lambda channel: channel.queue_declare(case.n, arguments=arguments))

        for first, seconds in ((current, [current, *others, None]), (None, [None, current])):
            case.ch.queue_delete(case.n)
            equal(declare(first), "ok")
            for second in seconds:
                said = declare(second)
                case.observe(f"{first!r} then {second!r}: {said}")
                if second == first:
                    equal(said, "ok")
                elif name != "x-queue-type":
                    expected = f"channel 406 50/10 PRECONDITION_FAILED - inequivalent arg '{name}'"
                    equal(said.split(" for queue")[0], expected)
        case.ch.queue_delete(case.n)


redeclared("x-message-ttl", 60000, 60001, 2**40)
redeclared("x-expires", 60000, 60001, 2**40)
redeclared("x-max-length", 10, 11)
redeclared("x-max-length-bytes", 1000, 1001)
redeclared("x-overflow", "drop-head", "reject-publish")
redeclared("x-dead-letter-exchange", "a", "b", "")
redeclared("x-dead-letter-routing-key", "a", "b", "")
redeclared("x-single-active-consumer", True, False)
redeclared("x-max-priority", 5, 6)
redeclared("x-queue-type", "classic")
