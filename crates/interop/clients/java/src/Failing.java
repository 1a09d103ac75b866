import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.ConnectionFactory;
import java.util.LinkedHashMap;
import java.util.Map;

/** Situations that end a channel or a connection; expected.txt says how. */
final class Failing {
    private static final Map<String, Judge.Situation> ALL = new LinkedHashMap<>();

    private interface Action {
        void on(Channel ch, String n) throws Exception;
    }

    /** An error that calls on one fresh channel provoke. */
    private static void simple(String name, Action action) {
        ALL.put(name, test -> action.on(test.open().ch, test.n));
    }

    private static void consume(Channel ch, String queue, String tag) throws Exception {
        ch.basicConsume(queue, false, tag, (t, delivery) -> { }, t -> { });
    }

    private static void publish(Channel ch, String exchange, String key, AMQP.BasicProperties properties)
            throws Exception {
        ch.basicPublish(exchange, key, properties, Case.bytes("1"));
    }

    static Map<String, Judge.Situation> all() {
        simple("err-no-queue", (ch, n) -> ch.queueDeclarePassive(n));
        simple("err-no-queue-bind", (ch, n) -> ch.queueBind(n, "amq.direct", "k"));
        simple("err-no-queue-consume", (ch, n) -> consume(ch, n, "t"));
        simple("err-no-queue-get", (ch, n) -> ch.basicGet(n, false));
        simple("err-no-previous-queue", (ch, n) -> consume(ch, "", "t"));
        simple("err-purge-missing", (ch, n) -> ch.queuePurge(n));
        simple("err-no-exchange", (ch, n) -> ch.exchangeDeclarePassive(n));
        simple("err-publish-no-exchange", (ch, n) -> publish(ch, n, "k", null));
        simple("err-invalid-arg", (ch, n) -> ch.queueDeclare(n, false, true, false, Map.of("x-expires", -1)));
        simple("err-unknown-tag", (ch, n) -> ch.basicAck(7, false));
        simple("err-unknown-tag-nack", (ch, n) -> ch.basicNack(7, false, true));
        simple("err-unknown-tag-reject", (ch, n) -> ch.basicReject(7, true));
        simple("err-reserved-queue", (ch, n) -> ch.queueDeclare("amq." + n, false, false, false, null));
        simple("err-reserved-exchange", (ch, n) -> ch.exchangeDeclare("amq." + n, "direct"));
        simple("err-predeclared-delete", (ch, n) -> ch.exchangeDelete("amq.direct"));
        simple("err-default-exchange-declare", (ch, n) -> ch.exchangeDeclare("", "direct"));
        simple("err-default-exchange-delete", (ch, n) -> ch.exchangeDelete(""));
        simple("err-unknown-exchange-type", (ch, n) -> ch.exchangeDeclare(n, "nosuch"));
        simple("err-immediate", (ch, n) -> ch.basicPublish("amq.direct", n, false, true, null, Case.bytes("1")));
        simple("err-recover-norequeue", (ch, n) -> ch.basicRecover(false));
        simple("err-prefetch-size", (ch, n) -> ch.basicQos(1, 0, false));
        simple("err-flow-inactive", (ch, n) -> ch.rpc(new AMQP.Channel.Flow.Builder().active(false).build()));
        simple("err-user-id",
            (ch, n) -> publish(ch, "amq.direct", n, new AMQP.BasicProperties.Builder().userId("mallory").build()));
        simple("err-invalid-expiration",
            (ch, n) -> publish(ch, "amq.direct", n, new AMQP.BasicProperties.Builder().expiration("soon").build()));
        simple("err-reply-to-no-consumer", (ch, n) -> publish(ch, "", n,
            new AMQP.BasicProperties.Builder().replyTo("amq.rabbitmq.reply-to").build()));
        // txCommit checks on the client's side whether there is a transaction; the plain method doesn't.
        simple("err-commit-without-tx", (ch, n) -> ch.rpc(new AMQP.Tx.Commit.Builder().build()));
        connecting();
        consuming();
        declaring();
        return ALL;
    }

    private static void connecting() {
        ALL.put("err-bad-login", test -> {
            ConnectionFactory factory = test.factory();
            factory.setPassword("wrong");
            test.connect(factory);
        });
        ALL.put("err-vhost-missing", test -> {
            ConnectionFactory factory = test.factory();
            factory.setVirtualHost("nowhere");
            test.connect(factory);
        });
    }

    private static void declaring() {
        ALL.put("err-no-exchange-bind", test -> {
            String queue = test.open().queue(".queue", null);
            test.ch.queueBind(queue, test.n, "k");
        });
        ALL.put("err-locked", test -> {
            test.open().queue();
            test.channelOf(test.connect(test.factory())).queueDeclare(test.n, false, true, false, null);
        });
        ALL.put("err-inequivalent-arg", test -> {
            test.open().queue();
            test.queue("", Map.of("x-message-ttl", 1000));
        });
        ALL.put("err-inequivalent-flag", test -> {
            test.open().ch.queueDelete(test.n);
            test.ch.queueDeclare(test.n, false, false, true, null);
            test.ch.queueDeclare(test.n, true, false, true, null);
        });
        ALL.put("err-inequivalent-exchange", test -> {
            test.open().exchange("direct", "", null);
            test.ch.exchangeDeclare(test.n, "fanout", false, false, null);
        });
        ALL.put("err-default-exchange-bind", test -> {
            String queue = test.open().queue();
            test.ch.queueBind(queue, "", "k");
        });
        ALL.put("err-internal-exchange", test -> {
            test.open().ch.exchangeDelete(test.n);
            test.ch.exchangeDeclare(test.n, "fanout", false, false, true, null);
            test.publish(test.n, "", "1");
        });
        ALL.put("err-in-use", test -> {
            String queue = test.open().queue();
            consume(test.ch, queue, "t");
            test.ch.queueDelete(queue, true, false);
        });
        ALL.put("err-not-empty", test -> {
            String queue = test.open().queue();
            test.publish("", queue, "1");
            test.ch.queueDelete(queue, false, true);
        });
        ALL.put("err-exchange-in-use", test -> {
            String exchange = test.open().exchange("fanout", "", null);
            test.ch.queueBind(test.queue(), exchange, "");
            test.ch.exchangeDelete(exchange, true);
        });
    }

    private static void consuming() {
        ALL.put("err-locked-consume", test -> {
            test.open().queue();
            consume(test.channelOf(test.connect(test.factory())), test.n, "t");
        });
        ALL.put("err-double-ack", test -> {
            String queue = test.open().queue();
            test.publish("", queue, "1");
            long tag = test.get(queue).getEnvelope().getDeliveryTag();
            test.ch.basicAck(tag, false);
            test.ch.basicAck(tag, false);
        });
        ALL.put("err-exclusive-consumer", test -> {
            String queue = test.open().queue();
            test.channel().basicConsume(queue, false, "first", false, true, null, (t, delivery) -> { }, t -> { });
            consume(test.ch, queue, "second");
        });
        ALL.put("err-reuse-consumer-tag", test -> {
            String queue = test.open().queue();
            consume(test.ch, queue, test.n);
            consume(test.ch, queue, test.n);
        });
        ALL.put("err-tx-then-confirm", test -> {
            test.open().ch.txSelect();
            test.ch.confirmSelect();
        });
        ALL.put("err-confirm-then-tx", test -> {
            test.open().ch.confirmSelect();
            test.ch.txSelect();
        });
    }
}
