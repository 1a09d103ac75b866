import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Judges a broker with com.rabbitmq:amqp-client: Judge amqp://guest:guest@host:port path/to/expected.txt */
final class Judge {
    interface Situation {
        void run(Case test) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        Report report = new Report(Path.of(arguments[1]));
        String url = arguments[0];
        Thread idle = new Thread(() -> idleMinute(report, url));
        idle.start();
        Map<String, Situation> all = new LinkedHashMap<>(Situations.all());
        all.putAll(Routing.all());
        all.forEach((name, situation) -> {
            Case test = new Case(report, url, name);
            report.run(name, Report.SITUATION_SECONDS, () -> situation.run(test.open()));
            test.close();
        });
        Failing.all().forEach((name, situation) -> {
            Case test = new Case(report, url, name);
            report.run(name, Report.SITUATION_SECONDS, () -> provoke(test, situation));
            test.close();
        });
        System.out.println("waiting " + Report.CLIENT);
        idle.join();
        System.exit(report.failures() > 0 ? 1 : 0);
    }

    /** Runs a situation that the broker must end with an error, and checks that error. */
    private static void provoke(Case test, Situation situation) throws Exception {
        Throwable error;
        try {
            situation.run(test);
            test.barrier();
            throw new AssertionError("the broker accepted it");
        } catch (Report.Skip | AssertionError certain) {
            throw certain;
        } catch (Exception failed) {
            // The call that notices says only that it is closed; the listener has the reason.
            error = Report.signal(failed) == null && !test.connections.isEmpty()
                ? test.ended.get(2, TimeUnit.SECONDS) : failed;
        }
        test.report.checkError(test.situation, error);
    }

    /** An idle connection lives through many heartbeat intervals. */
    private static void idleMinute(Report report, String url) {
        int seconds = Integer.parseInt(System.getenv().getOrDefault("INTEROP_IDLE_SECONDS", "60"));
        String name = "heartbeat-idle-minute";
        report.run(name, seconds + Report.SITUATION_SECONDS, () -> {
            Case test = new Case(report, url, name);
            ConnectionFactory factory = test.factory();
            factory.setRequestedHeartbeat(5);
            Connection connection = test.connect(factory);
            Channel channel = connection.createChannel();
            TimeUnit.SECONDS.sleep(seconds);
            channel.queueDeclare(test.n, false, true, false, null);
            connection.close();
        });
    }
}
