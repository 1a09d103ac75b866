"""Situations that end a channel or a connection. Each raises BrokerError; expected.txt says which."""

from report import into

ERRORS = {}
error = into(ERRORS)


def simple(name, action):
    """An error that one call on a fresh channel provokes, `n` being the situation's own name."""

    def check(case):
        action(case.ch, case.n)
        case.ch.barrier()

    ERRORS[name] = check


simple("err-no-queue", lambda ch, n: ch.queue_declare(n, passive=True))
simple("err-no-queue-bind", lambda ch, n: ch.queue_bind(n, "amq.direct", "k"))
simple("err-no-queue-consume", lambda ch, n: ch.consume(n, print, tag="t"))
simple("err-no-queue-get", lambda ch, n: ch.get(n))
simple("err-no-previous-queue", lambda ch, n: ch.consume("", print, tag="t"))
simple("err-purge-missing", lambda ch, n: ch.queue_purge(n))
simple("err-no-exchange", lambda ch, n: ch.exchange_declare(n, "direct", passive=True))
simple("err-publish-no-exchange", lambda ch, n: ch.publish(n, "k", b"1"))
simple("err-invalid-arg", lambda ch, n: ch.queue_declare(n, exclusive=True, arguments={"x-expires": -1}))
simple("err-unknown-tag", lambda ch, n: ch.ack(7))
simple("err-unknown-tag-nack", lambda ch, n: ch.nack(7, requeue=True))
simple("err-unknown-tag-reject", lambda ch, n: ch.reject(7, requeue=True))
simple("err-reserved-queue", lambda ch, n: ch.queue_declare("amq." + n))
simple("err-reserved-exchange", lambda ch, n: ch.exchange_declare("amq." + n, "direct"))
simple("err-predeclared-delete", lambda ch, n: ch.exchange_delete("amq.direct"))
simple("err-default-exchange-declare", lambda ch, n: ch.exchange_declare("", "direct"))
simple("err-default-exchange-delete", lambda ch, n: ch.exchange_delete(""))
simple("err-unknown-exchange-type", lambda ch, n: ch.exchange_declare(n, "nosuch"))
simple("err-immediate", lambda ch, n: ch.publish("amq.direct", n, b"1", immediate=True))
simple("err-recover-norequeue", lambda ch, n: ch.recover(requeue=False))
simple("err-prefetch-size", lambda ch, n: ch.qos(0, size=1))
simple("err-flow-inactive", lambda ch, n: ch.flow(False))
simple("err-user-id", lambda ch, n: ch.publish("amq.direct", n, b"1", {"user_id": "mallory"}))
simple("err-invalid-expiration", lambda ch, n: ch.publish("amq.direct", n, b"1", {"expiration": "soon"}))
simple("err-reply-to-no-consumer", lambda ch, n: ch.publish("", n, b"1", {"reply_to": "amq.rabbitmq.reply-to"}))
simple("err-commit-without-tx", lambda ch, n: ch.tx_commit())


@error("err-bad-login")
def bad_login(case):
    case.connect(password="wrong")


@error("err-vhost-missing")
def vhost_missing(case):
    case.connect(vhost="nowhere")


@error("err-no-exchange-bind")
def no_exchange_bind(case):
    case.ch.queue_bind(case.queue(".queue"), case.n, "k")


@error("err-locked")
def locked(case):
    case.queue()
    case.connect().channel().queue_declare(case.n, exclusive=True)


@error("err-locked-consume")
def locked_consume(case):
    case.queue()
    case.connect().channel().consume(case.n, print, tag="t")


@error("err-inequivalent-arg")
def inequivalent_arg(case):
    case.queue()
    case.queue(arguments={"x-message-ttl": 1000})


@error("err-inequivalent-flag")
def inequivalent_flag(case):
    case.ch.queue_delete(case.n)
    case.queue(exclusive=False, auto_delete=True)
    case.queue(exclusive=False, auto_delete=True, durable=True)


@error("err-inequivalent-exchange")
def inequivalent_exchange(case):
    case.exchange("direct")
    case.ch.exchange_declare(case.n, "fanout")


@error("err-double-ack")
def double_ack(case):
    queue = case.queue()
    case.ch.publish("", queue, b"1")
    tag = case.ch.get(queue).delivery_tag
    case.ch.ack(tag)
    case.ch.ack(tag)
    case.ch.barrier()


@error("err-default-exchange-bind")
def default_exchange_bind(case):
    case.ch.queue_bind(case.queue(), "", "k")


@error("err-internal-exchange")
def internal_exchange(case):
    case.exchange("fanout", internal=True)
    case.ch.publish(case.n, "", b"1")
    case.ch.barrier()


@error("err-exclusive-consumer")
def exclusive_consumer(case):
    queue = case.queue()
    case.channel().consume(queue, print, tag="first", exclusive=True)
    case.ch.consume(queue, print, tag="second")


@error("err-reuse-consumer-tag")
def reuse_consumer_tag(case):
    queue = case.queue()
    case.ch.consume(queue, print, tag=case.n)
    case.ch.consume(queue, print, tag=case.n)


@error("err-in-use")
def in_use(case):
    queue = case.queue()
    case.ch.consume(queue, print, tag="t")
    case.ch.queue_delete(queue, if_unused=True)


@error("err-not-empty")
def not_empty(case):
    queue = case.queue()
    case.ch.publish("", queue, b"1")
    case.ch.queue_delete(queue, if_empty=True)


@error("err-exchange-in-use")
def exchange_in_use(case):
    exchange = case.exchange("fanout")
    case.ch.queue_bind(case.queue(), exchange, "")
    case.ch.exchange_delete(exchange, if_unused=True)


@error("err-tx-then-confirm")
def tx_then_confirm(case):
    case.ch.tx_select()
    case.ch.confirm_select()


@error("err-confirm-then-tx")
def confirm_then_tx(case):
    case.ch.confirm_select()
    case.ch.tx_select()
