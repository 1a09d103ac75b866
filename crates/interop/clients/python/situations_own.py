"""What the situations of Leveret's own features share: Debian's RabbitMQ has none of these features."""

import os

from report import Skip, equal
from situations_limits import answer


def own(table):
    """Decorators that enter situations into a table, to be left out on RabbitMQ."""

    def situation(name):
        def register(check):
            def guarded(case):
                if os.environ.get("INTEROP_BROKER") == "rabbitmq":
                    raise Skip("RabbitMQ 3.10 has it only as a plugin or not at all")
                check(case)

            table[name] = guarded
            return check

        return register

    return situation


def refused(case, action, failed, text):
    """The broker must end the channel with 406 and this text; pika hides which method failed."""
    said = answer(case, action)
    case.observe(said)
    assert said in [f"channel 406 {method} PRECONDITION_FAILED - {text}" for method in (failed, "-")], said


def headers(**values):
    """Properties with these headers; `_` stands for `-`."""
    return {"headers": {name.replace("_", "-"): value for name, value in values.items()}}


def sent(case, exchange, key, messages):
    """Publishes (body, properties) pairs with confirms, and checks that each was confirmed."""
    before = case.ch.wait_confirms()[0]
    for body, properties in messages:
        case.ch.publish(exchange, key, body.encode(), properties)
    equal(case.ch.wait_confirms(), (before + len(messages), 0))
