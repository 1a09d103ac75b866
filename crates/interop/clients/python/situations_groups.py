"""Message groups: a key has one consumer at a time, and its messages come in order (docs/groups.md)."""

import random

from report import equal, eventually
from situations_own import headers, own, refused

GROUPS = {}
situation = own(GROUPS)
QUIET = 0.2  # Seconds without a delivery after which we believe that none comes.
# Long enough for a slow machine to do what has to be done while a message waits.
RETRY = 1500


class Worker:
    """A consumer, on a connection of its own if no other is given."""

    def __init__(self, case, queue, tag, prefetch, connection=None, **options):
        self.tag, self.got, self.done = tag, [], 0
        self.connection = connection or case.connect()
        self.channel = self.connection.channel()
        self.channel.qos(prefetch)
        self.channel.consume(queue, self.got.append, tag=tag, **options)

    @property
    def bodies(self):
        return [message.body.decode() for message in self.got]

    def ack(self, number):
        self.channel.ack(self.got[number].delivery_tag)


def deliveries(*pairs):
    """Waits until each worker has got these bodies so far, then a little longer."""

    def pumped():
        for worker, _ in pairs:
            worker.channel.pump(0.02)
        return all(len(worker.got) >= len(bodies.split()) for worker, bodies in pairs)

    eventually(pumped)
    for worker, _ in pairs:
        worker.channel.pump(QUIET)
    equal([f"{worker.tag}: {' '.join(worker.bodies)}" for worker, _ in pairs],
          [f"{worker.tag}: {bodies}" for worker, bodies in pairs])


def grouped(case, **arguments):
    arguments = {"x-" + name.replace("_", "-"): value for name, value in arguments.items()}
    return case.queue(arguments={"x-group-header": "customer"} | arguments)


def shared(case):
    """A queue for workers with connections of their own."""
    case.ch.queue_delete(case.n)
    return case.queue(exclusive=False, auto_delete=True, arguments={"x-group-header": "customer"})


def publish(case, queue, text, key=None):
    """Publishes bodies, all with this key, or each with its first letter as the key."""
    for body in text.split():
        case.ch.publish("", queue, body.encode(), headers(customer=body[0] if key is None else key))
    case.ch.barrier()


@situation("group-one-consumer")
def one_consumer(case):
    """A key is its consumer's until all that it got is settled; others get other keys meanwhile."""
    queue = shared(case)
    a = Worker(case, queue, "a", 2)
    publish(case, queue, "x1 x2 x3 x4")
    deliveries((a, "x1 x2"))
    b = Worker(case, queue, "b", 10)
    publish(case, queue, "y1")
    case.ch.publish("", queue, b"free", {})
    deliveries((a, "x1 x2"), (b, "y1 free"))
    a.ack(0)
    deliveries((a, "x1 x2 x3"), (b, "y1 free"))
    a.channel.cancel("a")
    a.ack(1)
    deliveries((a, "x1 x2 x3"), (b, "y1 free"))
    a.ack(2)
    deliveries((a, "x1 x2 x3"), (b, "y1 free x4"))


@situation("group-order")
def order(case):
    """Whatever two workers do, each key comes in order, and never to one while the other holds messages of it."""
    queue, chance = shared(case), random.Random(7)
    # A number is the same key as its digits.
    keys, ways = [7, 2**40, -3, "a", "bé", "long " * 40], {7: [7, "7"]}
    workers, last = [Worker(case, queue, tag, 6) for tag in "ab"], {}
    bodies = [(chance.choice(range(len(keys))), number) for number in range(300)]
    for key, number in bodies:
        value = chance.choice(ways.get(keys[key], [keys[key]]))
        case.ch.publish("", queue, f"{key} {number}".encode(), headers(customer=value))
    held = [[], []]

    def step(which):
        worker = workers[which]
        worker.channel.pump(0.001)
        for message in worker.got[worker.done:]:
            key, number = map(int, message.body.split())
            assert key not in [other for other, _ in held[1 - which]], f"{message.body} while the other holds its key"
            assert last.get(key, -1) < number, f"{message.body} after {last[key]}"
            last[key] = number
            held[which].append((key, message.delivery_tag))
        worker.done = len(worker.got)
        # What is acknowledged here is settled for the broker before it can give the key away.
        for entry in chance.sample(held[which], min(len(held[which]), chance.choice([0, 1, 2, 6]))):
            held[which].remove(entry)
            worker.channel.ack(entry[1])

    def done():
        step(chance.choice([0, 1]))
        return sum(worker.done for worker in workers) == len(bodies) and not any(held)

    eventually(done, seconds=12)
    equal(sorted(tuple(map(int, body.split())) for worker in workers for body in worker.bodies), sorted(bodies))
    assert all(worker.got for worker in workers), "one worker got nothing"


def given_back(case, end):
    """A worker that ends with messages of two keys gives them and the keys back, in order."""
    queue = shared(case)
    a = Worker(case, queue, "a", 3)
    publish(case, queue, "x1 y1 x2 x3")
    deliveries((a, "x1 y1 x2"))
    b = Worker(case, queue, "b", 10)
    deliveries((a, "x1 y1 x2"), (b, ""))
    end(a.connection)
    deliveries((b, "x1 y1 x2 x3"))
    equal([message.redelivered for message in b.got], [True, True, True, False])


@situation("group-connection-closed")
def connection_closed(case):
    given_back(case, lambda connection: connection.close())


@situation("group-connection-lost")
def connection_lost(case):
    given_back(case, lambda connection: connection.drop())


@situation("group-get")
def get(case):
    """basic.get takes the first message that is free, and its channel holds the key."""
    queue = grouped(case)
    publish(case, queue, "x1 x2 y1")
    other, third = case.channel(), case.channel()

    def got(channel):
        message = channel.get(queue)
        return message and message.body.decode(), message and message.delivery_tag

    first = got(case.ch)
    second = got(other)
    equal((first[0], second[0], got(third)[0]), ("x1", "y1", None))
    equal(got(case.ch)[0], "x2")
    case.ch.ack(first[1])
    publish(case, queue, "x3 y2")
    equal(got(third)[0], None)
    equal(got(other)[0], "y2")
    case.ch.nack(0, multiple=True, requeue=True)
    case.ch.barrier()
    equal([got(third)[0], got(third)[0]], ["x2", "x3"])


@situation("group-no-ack")
def no_ack(case):
    """A consumer that settles at once never holds a key."""
    queue = grouped(case)
    a = Worker(case, queue, "a", 1, case.connections[0], no_ack=True)
    publish(case, queue, "x1 x2")
    deliveries((a, "x1 x2"))
    a.channel.cancel("a")
    publish(case, queue, "x3")
    equal(case.ch.get(queue).body, b"x3")


@situation("group-delayed-retry")
def delayed_retry(case):
    """While a message waits for its next attempt, its group waits as a whole, and no other."""
    queue = grouped(case, delayed_retry_min=RETRY)
    publish(case, queue, "x1 x2 y1")
    first = case.ch.get(queue)
    equal(first.body, b"x1")
    case.ch.nack(first.delivery_tag, requeue=True)
    message = case.ch.get(queue)
    equal(message.body, b"y1")
    case.ch.ack(message.delivery_tag)
    publish(case, queue, "y2 x3")
    equal(case.ch.get(queue).body, b"y2")
    equal(case.ch.get(queue), None)
    again = eventually(lambda: case.ch.get(queue))
    equal((again.body, again.redelivered), (b"x1", True))
    equal([case.ch.get(queue).body for _ in range(2)], [b"x2", b"x3"])


@situation("group-key-types")
def key_types(case):
    """Strings and integers are keys, and an integer is the same key as its digits; all else is in no group."""
    queue, other = grouped(case), case.channel()
    for same in ([7, "7"], [2**40, str(2**40)], [-7, "-7"], ["é", "é"]):
        for value in same:
            publish(case, queue, "1", value)
        held = case.ch.get(queue)
        equal(other.get(queue), None)
        case.ch.ack(held.delivery_tag)
        case.ch.barrier()
        equal(other.get(queue).body, b"1")
        other.nack(0, multiple=True, requeue=False)
        other.barrier()
    for value in (True, None, [1], {"a": 1}):
        publish(case, queue, "1 2", value)
        equal([channel.get(queue).body for channel in (case.ch, other)], [b"1", b"2"])


@situation("group-dead-letter")
def dead_letter(case):
    """A message that is dead-lettered goes out of its group's way."""
    dead = case.queue(".dead")
    queue = grouped(case, dead_letter_exchange="", dead_letter_routing_key=dead)
    other = case.channel()
    publish(case, queue, "x1 x2")
    held = case.ch.get(queue)
    equal(other.get(queue), None)
    case.ch.reject(held.delivery_tag, requeue=False)
    case.ch.barrier()
    equal(other.get(queue).body, b"x2")
    eventually(lambda: case.bodies(dead) == ["x1"])


@situation("group-transaction")
def transaction(case):
    """A key is held until the commit."""
    queue, other = grouped(case), case.channel()
    publish(case, queue, "x1 x2")
    case.ch.tx_select()
    case.ch.ack(case.ch.get(queue).delivery_tag)
    case.ch.barrier()
    equal(other.get(queue), None)
    case.ch.tx_commit()
    equal(other.get(queue).body, b"x2")


@situation("group-arguments")
def arguments(case):
    invalid = "invalid arg 'x-group-header' for queue '{n}' in vhost '/': "
    for values, text in (
        ({"x-group-header": 5}, "{unacceptable_type,signedint}"),
        ({"x-group-header": True}, "{unacceptable_type,bool}"),
        ({"x-group-header": ""}, "the name of a header has 1 to 255 bytes, and this has 0"),
        ({"x-group-header": "k" * 256}, "the name of a header has 1 to 255 bytes, and this has 256"),
        ({"x-group-header": "k", "x-single-active-consumer": True},
         "it cannot be together with 'x-single-active-consumer', by which one consumer gets all messages"),
    ):
        refused(case, lambda ch: ch.queue_declare(case.n, arguments=values), "50/10", invalid + text)
    grouped(case)
    refused(case, lambda ch: ch.queue_declare(case.n, exclusive=True), "50/10", "inequivalent arg 'x-group-header' for "
            "queue '{n}' in vhost '/': received none but current is the value 'customer' of type 'longstr'")
