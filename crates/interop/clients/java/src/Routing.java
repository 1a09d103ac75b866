import static java.util.stream.Collectors.toList;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.LongString;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;

/** Situations about where messages go and how long queues and exchanges live. */
final class Routing {
    static Map<String, Judge.Situation> all() {
        Map<String, Judge.Situation> all = new LinkedHashMap<>();
        all.put("bind", Routing::bind);
        all.put("last-declared-per-channel", Routing::lastDeclared);
        all.put("exclusive-gone", Routing::exclusiveGone);
        all.put("auto-delete-queue", Routing::autoDeleteQueue);
        all.put("auto-delete-exchange", Routing::autoDeleteExchange);
        all.put("alternate-exchange", Routing::alternateExchange);
        all.put("exchange-to-exchange", Routing::exchangeToExchange);
        all.put("headers-exchange", Routing::headersExchange);
        all.put("topic-patterns", Routing::topicPatterns);
        all.put("cc-bcc", Routing::ccBcc);
        return all;
    }

    static void bind(Case c) throws Exception {
        String exchange = c.exchange("direct", "", null);
        String queue = c.queue();
        c.ch.queueBind(queue, exchange, "here");
        c.publish(exchange, "here", "1");
        c.publish(exchange, "elsewhere", "2");
        Report.equal(c.bodies(queue), List.of("1"));
        c.ch.queueUnbind(queue, exchange, "here");
        c.publish(exchange, "here", "3");
        Report.equal(c.bodies(queue), List.of());
        c.ch.exchangeDelete(exchange);
    }

    static void lastDeclared(Case c) throws Exception {
        String exchange = c.exchange("direct", "", null);
        Channel other = c.channel();
        c.queue(".a", null);
        other.queueDeclare(c.n + ".b", false, true, false, null);
        c.ch.queueBind("", exchange, ""); // With an empty key too, the queue's name is the key.
        c.publish(exchange, c.n + ".a", "for a");
        Report.eventually(() -> c.ch.messageCount(c.n + ".a") == 1);
        Report.equal(c.ch.messageCount(c.n + ".b"), 0L);
        c.ch.exchangeDelete(exchange);
    }

    static void exclusiveGone(Case c) throws Exception {
        Connection owner = c.connect(c.factory());
        owner.createChannel().queueDeclare(c.n, false, true, false, null);
        owner.close();
        Report.equal(c.gone(channel -> channel.queueDeclarePassive(c.n)), true);
    }

    static void autoDeleteQueue(Case c) throws Exception {
        c.ch.queueDeclare(c.n, false, false, true, null);
        c.publish("", c.n, "1");
        Report.equal(c.bodies(c.n), List.of("1"));
        Report.equal(c.gone(channel -> channel.queueDeclarePassive(c.n)), false);
        c.ch.basicCancel(c.ch.basicConsume(c.n, false, (tag, delivery) -> { }, tag -> { }));
        Report.eventually(() -> c.gone(channel -> channel.queueDeclarePassive(c.n)));
    }

    static void autoDeleteExchange(Case c) throws Exception {
        c.ch.exchangeDeclare(c.n, "fanout", false, true, null);
        String queue = c.queue();
        c.ch.queueBind(queue, c.n, "");
        Report.equal(c.gone(channel -> channel.exchangeDeclarePassive(c.n)), false);
        c.ch.queueUnbind(queue, c.n, "");
        Report.eventually(() -> c.gone(channel -> channel.exchangeDeclarePassive(c.n)));
    }

    static void alternateExchange(Case c) throws Exception {
        String alternate = c.exchange("fanout", ".alternate", null);
        String exchange = c.exchange("direct", "", Map.of("alternate-exchange", alternate));
        String queue = c.queue();
        String rest = c.queue(".rest", null);
        AtomicInteger returned = new AtomicInteger();
        c.ch.addReturnListener(message -> returned.incrementAndGet());
        c.ch.queueBind(queue, exchange, "k");
        c.ch.queueBind(rest, alternate, "");
        c.publish(exchange, "k", "routed");
        c.ch.basicPublish(exchange, "other", true, null, Case.bytes("unrouted"));
        c.barrier();
        Report.equal(c.bodies(queue), List.of("routed"));
        Report.equal(c.bodies(rest), List.of("unrouted"));
        Report.equal(returned.get(), 0);
        c.ch.exchangeDelete(exchange);
        c.ch.exchangeDelete(alternate);
    }

    static void exchangeToExchange(Case c) throws Exception {
        String source = c.exchange("topic", ".source", null);
        String target = c.exchange("fanout", ".target", null);
        String queue = c.queue();
        c.ch.queueBind(queue, target, "");
        c.ch.exchangeBind(target, source, "a.#");
        c.publish(source, "a.b", "1");
        c.publish(source, "b.a", "2");
        c.ch.exchangeUnbind(target, source, "a.#");
        c.publish(source, "a.b", "3");
        Report.equal(c.bodies(queue), List.of("1"));
        c.ch.exchangeDelete(source);
        c.ch.exchangeDelete(target);
    }

    static void headersExchange(Case c) throws Exception {
        String exchange = c.exchange("headers", "", null);
        List<String> matches = List.of("all", "any", "all-with-x", "any-with-x");
        for (String match : matches) {
            Map<String, Object> wanted = new HashMap<>(
                match.endsWith("with-x") ? Map.of("x-a", 1) : Map.of("a", 1, "b", "x"));
            wanted.put("x-match", match);
            c.ch.queueBind(c.queue("." + match, null), exchange, "", wanted);
        }
        List<Map<String, Object>> published =
            List.of(Map.of("a", 1, "b", "x"), Map.of("a", 1), Map.of("b", "x", "c", true), Map.of("x-a", 1), Map.of());
        for (int number = 0; number < published.size(); number++) {
            AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().headers(published.get(number)).build();
            c.publish(exchange, "", properties, String.valueOf(number));
        }
        Map<String, List<String>> got = new LinkedHashMap<>();
        for (String match : matches) {
            got.put(match, c.bodies(c.n + "." + match));
        }
        c.observe(got);
        Report.equal(got.toString(), "{all=[0], any=[0, 1, 2], all-with-x=[3], any-with-x=[3]}");
        c.ch.exchangeDelete(exchange);
    }

    static void topicPatterns(Case c) throws Exception {
        String exchange = c.exchange("topic", "", null);
        List<String> patterns =
            List.of("#", "*", "a.*", "a.#", "*.b", "#.b", "a.*.c", "a.#.c", "#.#", "*.#.*", "", "a..b");
        List<String> keys = List.of("", "a", "a.b", "a.b.c", "a.c", "b", "a.x.y.c", "a..b", "A.b");
        List<List<String>> matched = keys.stream().map(key -> (List<String>) new ArrayList<String>()).collect(toList());
        for (int number = 0; number < patterns.size(); number++) {
            c.ch.queueBind(c.queue("." + number, null), exchange, patterns.get(number));
        }
        for (int number = 0; number < keys.size(); number++) {
            c.publish(exchange, keys.get(number), String.valueOf(number));
        }
        for (int number = 0; number < patterns.size(); number++) {
            for (String body : c.bodies(c.n + "." + number)) {
                matched.get(Integer.parseInt(body)).add("'" + patterns.get(number) + "'");
            }
        }
        for (int number = 0; number < keys.size(); number++) {
            c.observe("'" + keys.get(number) + "' matches " + matched.get(number));
        }
        Report.equal(matched.get(3).toString(), "['#', 'a.#', 'a.*.c', 'a.#.c', '#.#', '*.#.*']");
        Report.equal(matched.get(2).toString(), "['#', 'a.*', 'a.#', '*.b', '#.b', '#.#', '*.#.*']");
        Report.equal(matched.get(0).toString(), "['#', '#.#', '']");
        c.ch.exchangeDelete(exchange);
    }

    static void ccBcc(Case c) throws Exception {
        String to = c.queue(".to", null);
        String cc = c.queue(".cc", null);
        String bcc = c.queue(".bcc", null);
        Map<String, Object> headers = Map.of("CC", List.of(cc), "BCC", List.of(bcc), "kept", 1);
        c.publish("", to, new AMQP.BasicProperties.Builder().headers(headers).build(), "1");
        for (String queue : List.of(to, cc, bcc)) {
            Map<String, Object> got = new HashMap<>(c.get(queue).getProps().getHeaders());
            List<?> copies = (List<?>) got.remove("CC");
            Report.equal(copies.stream().map(copy -> ((LongString) copy).toString()).collect(toList()), List.of(cc));
            Report.equal(got, Map.of("kept", 1));
        }
    }
}
