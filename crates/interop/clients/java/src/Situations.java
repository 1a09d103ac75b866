import static java.util.stream.Collectors.toList;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.Envelope;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import java.io.IOException;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;

/** Situations about connections, publishing, consuming and acknowledging. */
final class Situations {
    static Map<String, Judge.Situation> all() {
        Map<String, Judge.Situation> all = new LinkedHashMap<>();
        all.put("tune", Situations::tune);
        all.put("capabilities", Situations::capabilities);
        all.put("declare", Situations::declare);
        all.put("publish-confirm", Situations::publishConfirm);
        all.put("consume", Situations::consume);
        all.put("ack", Situations::ack);
        all.put("nack-requeue", Situations::nackRequeue);
        all.put("reject", Situations::reject);
        all.put("return-mandatory", Situations::returnMandatory);
        all.put("return-before-ack", Situations::returnBeforeAck);
        all.put("body-10mib", Situations::body10Mib);
        all.put("channels-2000", Situations::channels2000);
        all.put("get-empty", Situations::getEmpty);
        all.put("purge", Situations::purge);
        all.put("cancel-unknown", Situations::cancelUnknown);
        all.put("delete-missing", Situations::deleteMissing);
        all.put("server-named", Situations::serverNamed);
        all.put("passive-declare", Situations::passiveDeclare);
        all.put("unicode-names", Situations::unicodeNames);
        all.put("table-roundtrip", Situations::tableRoundtrip);
        all.put("direct-reply-to", Situations::directReplyTo);
        all.put("consumer-priority", Situations::consumerPriority);
        all.put("prefetch-consumer", Situations::prefetchConsumer);
        all.put("prefetch-global", Situations::prefetchGlobal);
        all.put("prefetch-change", Situations::prefetchChange);
        all.put("cancel-notify", Situations::cancelNotify);
        all.put("requeue-order", Situations::requeueOrder);
        all.put("recover-requeue", Situations::recoverRequeue);
        all.put("redelivered-after-close", Situations::redeliveredAfterClose);
        all.put("tx-commit", Situations::txCommit);
        all.put("tx-rollback", Situations::txRollback);
        return all;
    }

    static String[] numbers(int first, int last) {
        return IntStream.rangeClosed(first, last).mapToObj(String::valueOf).toArray(String[]::new);
    }

    static void isMessage(GetResponse message, String body, boolean redelivered) {
        Report.equal(Case.text(message.getBody()) + " " + message.getEnvelope().isRedeliver(), body + " " + redelivered);
    }

    static void tune(Case c) {
        Connection connection = c.connections.get(0);
        String negotiated = "channel_max=" + connection.getChannelMax() + " frame_max=" + connection.getFrameMax();
        c.observe("negotiated " + negotiated);
        Report.equal(negotiated, "channel_max=2047 frame_max=131072");
    }

    static void capabilities(Case c) {
        Map<?, ?> table = (Map<?, ?>) c.connections.get(0).getServerProperties().get("capabilities");
        c.observe(new TreeMap<>(table));
        for (String name : List.of("publisher_confirms", "exchange_exchange_bindings", "basic.nack",
                "consumer_cancel_notify", "connection.blocked", "consumer_priorities", "authentication_failure_close",
                "per_consumer_qos", "direct_reply_to")) {
            Report.equal(name + table.get(name), name + "true");
        }
    }

    static void declare(Case c) throws Exception {
        c.ch.queueDelete(c.n);
        c.ch.exchangeDelete(c.n);
        for (int time = 0; time < 2; time++) {
            c.ch.exchangeDeclare(c.n, "direct", true);
            AMQP.Queue.DeclareOk ok = c.ch.queueDeclare(c.n, true, false, false, null);
            Report.equal(ok.getQueue() + ok.getMessageCount() + ok.getConsumerCount(), c.n + "00");
        }
        c.ch.exchangeDeclarePassive(c.n);
        Report.equal(c.ch.queueDelete(c.n).getMessageCount(), 0);
        c.ch.exchangeDelete(c.n);
    }

    static void publishConfirm(Case c) throws Exception {
        String queue = c.queue();
        c.ch.confirmSelect();
        c.publish("", queue, numbers(1, 50));
        c.ch.waitForConfirmsOrDie(5000);
        Report.equal(c.bodies(queue), List.of(numbers(1, 50)));
    }

    static void consume(Case c) throws Exception {
        String queue = c.queue();
        AMQP.BasicProperties properties = new AMQP.BasicProperties("text/plain", "utf-8", Map.of("a", 1), 1, 5, "c",
            "r", "60000", "m", new Date(1700000000000L), "t", "guest", "app", null);
        for (String body : numbers(1, 10)) {
            c.publish("", queue, properties, body);
        }
        BlockingQueue<Delivery> into = new LinkedBlockingQueue<>();
        c.ch.basicConsume(queue, true, "mine", (tag, delivery) -> {
            Report.equal(tag, "mine");
            into.add(delivery);
        }, tag -> { });
        List<Delivery> messages = Case.collect(into, 10);
        Report.equal(messages.stream().map(m -> Case.text(m.getBody())).collect(toList()), List.of(numbers(1, 10)));
        for (int number = 0; number < 10; number++) {
            Envelope envelope = messages.get(number).getEnvelope();
            Report.equal(envelope.getDeliveryTag(), number + 1L);
            Report.equal(envelope.getExchange() + envelope.getRoutingKey() + envelope.isRedeliver(), queue + "false");
            Report.equal(messages.get(number).getProperties(), properties);
        }
        c.ch.basicCancel("mine");
    }

    static void ack(Case c) throws Exception {
        String queue = c.queue();
        c.publish("", queue, "1", "2", "3", "4");
        for (long tag = 1; tag <= 4; tag++) {
            Report.equal(c.get(queue).getEnvelope().getDeliveryTag(), tag);
        }
        c.ch.basicAck(1, false);
        c.ch.basicAck(3, true);
        c.ch.basicRecover(true);
        Report.equal(c.bodies(queue), List.of("4"));
    }

    static void nackRequeue(Case c) throws Exception {
        String queue = c.queue();
        c.publish("", queue, "1", "2", "3");
        c.ch.basicNack(c.get(queue).getEnvelope().getDeliveryTag(), false, true);
        GetResponse again = c.get(queue);
        isMessage(again, "1", true);
        c.ch.basicNack(again.getEnvelope().getDeliveryTag(), false, false);
        c.get(queue);
        c.get(queue);
        c.ch.basicNack(0, true, true);
        Report.equal(c.bodies(queue), List.of("2", "3"));
    }

    static void reject(Case c) throws Exception {
        String queue = c.queue();
        c.publish("", queue, "1");
        c.ch.basicReject(c.get(queue).getEnvelope().getDeliveryTag(), true);
        GetResponse again = c.get(queue);
        isMessage(again, "1", true);
        c.ch.basicReject(again.getEnvelope().getDeliveryTag(), false);
        Report.equal(c.bodies(queue), List.of());
    }

    static void returnMandatory(Case c) throws Exception {
        BlockingQueue<String> returns = new LinkedBlockingQueue<>();
        c.ch.addReturnListener(r -> returns.add(r.getReplyCode() + " " + r.getReplyText() + " " + r.getExchange() + " "
            + r.getRoutingKey() + " " + Case.text(r.getBody())));
        c.ch.basicPublish("amq.direct", c.n, true, null, Case.bytes("lost"));
        String returned = returns.poll(5, TimeUnit.SECONDS);
        c.observe(returned);
        Report.equal(returned, "312 NO_ROUTE amq.direct " + c.n + " lost");
    }

    static void returnBeforeAck(Case c) throws Exception {
        List<String> order = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch both = new CountDownLatch(2);
        c.ch.addReturnListener(r -> {
            order.add("return");
            both.countDown();
        });
        c.ch.addConfirmListener((tag, multiple) -> {
            order.add("ack");
            both.countDown();
        }, (tag, multiple) -> order.add("nack"));
        c.ch.confirmSelect();
        c.ch.basicPublish("amq.direct", c.n, true, null, Case.bytes("lost"));
        both.await(5, TimeUnit.SECONDS);
        Report.equal(order, List.of("return", "ack"));
    }

    static void body10Mib(Case c) throws Exception {
        String queue = c.queue();
        byte[] body = new byte[10 << 20];
        for (int index = 0; index < body.length; index++) {
            body[index] = (byte) (index * 31 + index / 256);
        }
        c.ch.basicPublish("", queue, null, body);
        c.publish("", queue, "");
        c.barrier();
        Report.equal(Arrays.equals(c.get(queue).getBody(), body), true);
        Report.equal(c.get(queue).getBody().length, 0);
    }

    static void channels2000(Case c) throws Exception {
        String queue = c.queue();
        Channel last = c.ch;
        for (int number = 1; number < 2000; number++) {
            last = c.connections.get(0).createChannel();
        }
        last.basicPublish("", queue, null, Case.bytes("from the last"));
        last.basicQos(0);
        Report.equal(c.bodies(queue), List.of("from the last"));
    }

    static void getEmpty(Case c) throws Exception {
        String queue = c.queue();
        Report.equal(c.ch.basicGet(queue, false), null);
        c.publish("", queue, "1", "2", "3");
        Report.equal(c.get(queue).getMessageCount(), 2);
    }

    static void purge(Case c) throws Exception {
        String queue = c.queue();
        c.publish("", queue, "1", "2", "3");
        c.get(queue); // Unacknowledged messages are not purged, nor counted.
        Report.equal(c.ch.queuePurge(queue).getMessageCount(), 2);
    }

    static void cancelUnknown(Case c) throws Exception {
        try {
            c.ch.basicCancel("never-existed");
        } catch (IOException unknown) {
            throw new Report.Skip("the client refuses an unknown tag without asking the broker");
        }
        c.barrier();
    }

    static void deleteMissing(Case c) throws Exception {
        Report.equal(c.ch.queueDelete(c.n).getMessageCount(), 0);
        c.ch.exchangeDelete(c.n);
    }

    static void serverNamed(Case c) throws Exception {
        String queue = c.ch.queueDeclare().getQueue();
        String tag = c.ch.basicConsume(queue, false, (t, delivery) -> { }, t -> { });
        String names = queue.substring(0, 8) + "* " + tag.substring(0, 9) + "*";
        c.observe(names);
        Report.equal(names, "amq.gen-* amq.ctag-*");
    }

    static void passiveDeclare(Case c) throws Exception {
        String queue = c.queue("", Map.of("x-max-length", 10));
        c.publish("", queue, "1");
        c.subscribe(queue, false, null);
        Report.eventually(() -> {
            AMQP.Queue.DeclareOk ok = c.ch.queueDeclarePassive(queue);
            return ok.getMessageCount() == 0 && ok.getConsumerCount() == 1;
        });
        String exchange = c.exchange("topic", "", null);
        c.ch.exchangeDeclarePassive(exchange);
        c.ch.exchangeDelete(exchange);
    }

    static void unicodeNames(Case c) throws Exception {
        String exchange = c.exchange("direct", ".échange-交換", null);
        String queue = c.queue(".file-キュー-🐇", null);
        c.ch.queueBind(queue, exchange, "clé-鍵");
        c.publish(exchange, "clé-鍵", "Grüße");
        GetResponse message = c.get(queue);
        Report.equal(message.getEnvelope().getExchange(), exchange);
        Report.equal(message.getEnvelope().getRoutingKey(), "clé-鍵");
        Report.equal(Case.text(message.getBody()), "Grüße");
        c.ch.exchangeDelete(exchange);
    }

    static void tableRoundtrip(Case c) throws Exception {
        String queue = c.queue();
        Map<String, Object> table = new TreeMap<>();
        table.put("true", true);
        table.put("byte", (byte) -3);
        table.put("short", (short) -300);
        table.put("int", -70000);
        table.put("long", 1L << 40);
        table.put("float", 2.5f);
        table.put("double", 2.25);
        table.put("decimal", new BigDecimal("12.34"));
        table.put("string", "é");
        table.put("bytes", new byte[] {0, -1});
        table.put("none", null);
        table.put("time", new Date(1700000000000L));
        table.put("list", List.of(1, "two", List.of(3)));
        table.put("table", Map.of("inner", Map.of("deep", 1)));
        c.publish("", queue, new AMQP.BasicProperties.Builder().headers(table).build(), "");
        String got = show(c.get(queue).getProps().getHeaders());
        c.observe(got);
        Report.equal(got, show(table));
    }

    /** A value with its type, the strings of both directions made the same, tables in order of their keys. */
    static String show(Object value) {
        if (value instanceof Map<?, ?> map) {
            Map<String, String> sorted = new TreeMap<>();
            map.forEach((key, inner) -> sorted.put(key.toString(), show(inner)));
            return sorted.toString();
        }
        if (value instanceof List<?> list) {
            return list.stream().map(Situations::show).collect(toList()).toString();
        }
        if (value instanceof byte[] bytes) {
            return "bytes " + Arrays.toString(bytes);
        }
        if (value instanceof Date date) {
            return "time " + date.getTime();
        }
        String type = value == null ? "" : value.getClass().getSimpleName() + " ";
        return value instanceof LongString ? "String " + value : type + value;
    }

    static void directReplyTo(Case c) throws Exception {
        String queue = c.queue();
        Channel server = c.channel();
        BlockingQueue<Delivery> answers = c.subscribe("amq.rabbitmq.reply-to", true, null);
        AMQP.BasicProperties.Builder properties = new AMQP.BasicProperties.Builder().correlationId("7");
        c.publish("", queue, properties.replyTo("amq.rabbitmq.reply-to").build(), "ping");
        c.barrier();
        String replyTo = server.basicGet(queue, true).getProps().getReplyTo();
        Report.equal(replyTo.startsWith("amq.rabbitmq.reply-to."), true);
        server.basicPublish("", replyTo, properties.replyTo(null).build(), Case.bytes("pong"));
        Delivery answer = Case.collect(answers, 1).get(0);
        Report.equal(Case.text(answer.getBody()) + answer.getProperties().getCorrelationId(), "pong7");
    }

    static void consumerPriority(Case c) throws Exception {
        String queue = c.queue();
        BlockingQueue<Delivery> low = c.subscribe(queue, true, null);
        BlockingQueue<Delivery> high = c.subscribe(queue, true, Map.of("x-priority", 10));
        c.publish("", queue, numbers(1, 10));
        Case.collect(high, 10);
        Report.equal(low.size(), 0);
    }

    static void prefetchConsumer(Case c) throws Exception {
        String queue = c.queue();
        c.publish("", queue, numbers(1, 5));
        c.ch.basicQos(2);
        BlockingQueue<Delivery> messages = c.subscribe(queue, false, null);
        Case.collect(messages, 2);
        c.ch.basicAck(2, true);
        Case.collect(messages, 2);
    }

    static void prefetchGlobal(Case c) throws Exception {
        String queue = c.queue();
        c.publish("", queue, numbers(1, 10));
        c.ch.basicQos(3, true);
        BlockingQueue<Delivery> messages = c.subscribe(queue, false, null);
        c.subscribe(queue, false, null, messages);
        Case.collect(messages, 3);
    }

    static void prefetchChange(Case c) throws Exception {
        String queue = c.queue();
        c.publish("", queue, numbers(1, 10));
        c.ch.basicQos(1);
        BlockingQueue<Delivery> messages = c.subscribe(queue, false, null);
        Case.collect(messages, 1);
        c.ch.basicQos(5);
        Thread.sleep(200);
        c.observe(1 + messages.size() + " outstanding after qos(1), consume, qos(5)");
        Case.collect(messages, 0); // basic.qos(global=false) is for consumers to come.
    }

    static void cancelNotify(Case c) throws Exception {
        String queue = c.queue();
        BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
        c.ch.basicConsume(queue, false, "gone", (tag, delivery) -> { }, (String tag) -> cancelled.add(tag));
        c.channel().queueDelete(queue);
        Report.equal(cancelled.poll(5, TimeUnit.SECONDS), "gone");
    }

    static void requeueOrder(Case c) throws Exception {
        String queue = c.queue();
        c.publish("", queue, numbers(1, 6));
        for (int number = 1; number <= 5; number++) {
            c.get(queue);
        }
        for (long tag : new long[] {3, 1, 5, 4, 2}) {
            c.ch.basicNack(tag, false, true);
        }
        for (int number = 1; number <= 6; number++) {
            isMessage(c.get(queue), String.valueOf(number), number < 6);
        }
    }

    static void recoverRequeue(Case c) throws Exception {
        String queue = c.queue();
        c.publish("", queue, "1", "2");
        c.get(queue);
        c.get(queue);
        c.ch.basicRecover(true);
        isMessage(c.get(queue), "1", true);
        isMessage(c.get(queue), "2", true);
    }

    static void redeliveredAfterClose(Case c) throws Exception {
        c.ch.queueDelete(c.n);
        c.ch.queueDeclare(c.n, true, false, false, null);
        Connection holder = c.connect(c.factory());
        c.publish("", c.n, "1");
        c.barrier();
        isMessage(holder.createChannel().basicGet(c.n, false), "1", false);
        holder.close();
        GetResponse[] again = new GetResponse[1];
        Report.eventually(() -> (again[0] = c.ch.basicGet(c.n, true)) != null);
        isMessage(again[0], "1", true);
        c.ch.queueDelete(c.n);
    }

    static void txCommit(Case c) throws Exception {
        String queue = c.queue();
        Channel observer = c.channel();
        c.publish("", queue, "0");
        c.barrier();
        c.ch.txSelect();
        GetResponse held = c.get(queue);
        c.publish("", queue, "1", "2");
        c.ch.basicAck(held.getEnvelope().getDeliveryTag(), false);
        Report.equal(observer.messageCount(queue), 0L);
        c.ch.txCommit();
        Report.eventually(() -> observer.messageCount(queue) == 2);
        c.ch.basicRecover(true);
        Report.equal(c.bodies(queue), List.of("1", "2"));
    }

    static void txRollback(Case c) throws Exception {
        String queue = c.queue();
        c.publish("", queue, "0");
        c.barrier();
        c.ch.txSelect();
        c.ch.basicAck(c.get(queue).getEnvelope().getDeliveryTag(), false);
        c.publish("", queue, "1");
        c.ch.txRollback();
        Report.equal(c.ch.messageCount(queue), 0L);
        c.ch.basicRecover(true); // The ack was rolled back as well: the message is still ours to requeue.
        Report.equal(c.bodies(queue), List.of("0"));
    }
}
