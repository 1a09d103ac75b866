import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** One situation's connections and names. Queues are exclusive where possible, so that they end with it. */
final class Case {
    final Report report;
    final String situation;
    final String n;
    final String url;
    final List<Connection> connections = new ArrayList<>();
    /** What the broker ended: it often arrives after the call that caused it has returned. */
    final CompletableFuture<Throwable> ended = new CompletableFuture<>();
    Channel ch;

    Case(Report report, String url, String situation) {
        this.report = report;
        this.url = url;
        this.situation = situation;
        this.n = Report.objectName(situation);
    }

    ConnectionFactory factory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(url);
        factory.setAutomaticRecoveryEnabled(false);
        factory.setTopologyRecoveryEnabled(false);
        factory.setConnectionTimeout(10_000);
        factory.setChannelRpcTimeout(10_000);
        return factory;
    }

    Connection connect(ConnectionFactory factory) throws Exception {
        Connection connection = factory.newConnection();
        connections.add(connection);
        return connection;
    }

    Channel channelOf(Connection connection) throws IOException {
        Channel channel = connection.createChannel();
        channel.addShutdownListener(signal -> {
            if (!signal.isInitiatedByApplication()) {
                ended.complete(signal);
            }
        });
        return channel;
    }

    Case open() throws Exception {
        ch = channelOf(connect(factory()));
        return this;
    }

    Channel channel() throws IOException {
        return channelOf(connections.get(0));
    }

    void observe(Object text) {
        report.line("observe", situation, text);
    }

    String queue() throws IOException {
        return queue("", null);
    }

    String queue(String suffix, Map<String, Object> arguments) throws IOException {
        return ch.queueDeclare(n + suffix, false, true, false, arguments).getQueue();
    }

    String exchange(String type, String suffix, Map<String, Object> arguments) throws IOException {
        ch.exchangeDelete(n + suffix);
        ch.exchangeDeclare(n + suffix, type, false, false, arguments);
        return n + suffix;
    }

    void publish(String exchange, String key, String... bodies) throws IOException {
        for (String body : bodies) {
            ch.basicPublish(exchange, key, null, bytes(body));
        }
    }

    void publish(String exchange, String key, AMQP.BasicProperties properties, String body) throws IOException {
        ch.basicPublish(exchange, key, properties, bytes(body));
    }

    /** A message that must be there, unacknowledged. */
    GetResponse get(String queue) throws IOException {
        GetResponse message = ch.basicGet(queue, false);
        if (message == null) {
            throw new AssertionError("the queue is empty");
        }
        return message;
    }

    /** Takes all that is ready in the queue. */
    List<String> bodies(String queue) throws IOException {
        List<String> found = new ArrayList<>();
        for (GetResponse message; (message = ch.basicGet(queue, true)) != null; ) {
            found.add(text(message.getBody()));
        }
        return found;
    }

    BlockingQueue<Delivery> subscribe(String queue, boolean autoAck, Map<String, Object> arguments) throws IOException {
        return subscribe(queue, autoAck, arguments, new LinkedBlockingQueue<>());
    }

    BlockingQueue<Delivery> subscribe(String queue, boolean autoAck, Map<String, Object> arguments,
            BlockingQueue<Delivery> into) throws IOException {
        ch.basicConsume(queue, autoAck, arguments, (tag, delivery) -> into.add(delivery), tag -> { });
        return into;
    }

    /** Waits for the deliveries, then a little longer: one too many must be seen as well. */
    static List<Delivery> collect(BlockingQueue<Delivery> from, int count) throws InterruptedException {
        List<Delivery> found = new ArrayList<>();
        for (Delivery next; (next = from.poll(found.size() < count ? 5000 : 200, TimeUnit.MILLISECONDS)) != null; ) {
            found.add(next);
        }
        Report.equal(found.size(), count);
        return found;
    }

    /** A synchronous method: what the broker had to say about earlier ones has arrived after it. */
    void barrier() throws IOException {
        ch.basicQos(0);
    }

    /** Whether a passive declare on a throwaway channel answers 404. */
    boolean gone(Declare declare) throws Exception {
        Channel channel = connections.get(0).createChannel();
        try {
            declare.on(channel);
            return false;
        } catch (IOException error) {
            ShutdownSignalException signal = Report.signal(error);
            Report.equal(((AMQP.Channel.Close) signal.getReason()).getReplyCode(), 404);
            return true;
        }
    }

    interface Declare {
        void on(Channel channel) throws IOException;
    }

    void close() {
        for (Connection connection : connections) {
            connection.abort(1000);
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
