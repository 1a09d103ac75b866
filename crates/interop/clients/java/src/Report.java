import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** The output protocol of all clients, their expectations, and time limits. */
final class Report {
    static final String CLIENT = "amqp-client";
    static final int SITUATION_SECONDS = 15;

    /** Thrown where the client can't express a situation; the text says why. */
    static final class Skip extends RuntimeException {
        Skip(String why) {
            super(why);
        }
    }

    /** A situation or a condition; anything may go wrong in it. */
    interface Check {
        void run() throws Exception;
    }

    private record Expectation(String scope, String code, String failed, String text) {}

    private final Map<String, Expectation> expectations = new HashMap<>();
    private final ExecutorService threads = Executors.newCachedThreadPool(task -> {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    });
    private int failures;

    Report(Path path) throws IOException {
        String broker = System.getenv("INTEROP_BROKER");
        for (String line : Files.readAllLines(path)) {
            String[] part = line.split("\\|", 6);
            if (line.startsWith("#") || part.length < 6) {
                continue;
            }
            String situation = part[0].trim();
            String of = part[1].trim();
            if (of.equals(broker) || of.equals("*") && !expectations.containsKey(situation)) {
                expectations.put(situation,
                    new Expectation(part[2].trim(), part[3].trim(), part[4].trim(), part[5].trim()));
            }
        }
    }

    synchronized int failures() {
        return failures;
    }

    static String objectName(String situation) {
        return "interop." + CLIENT + "." + situation;
    }

    /** Whole lines only: the idle minute reports from a thread of its own. */
    synchronized void line(String kind, String situation, Object text) {
        if (kind.equals("FAIL")) {
            failures++;
        }
        String flat = String.valueOf(text).replaceAll("\\s+", " ").trim();
        String separator = kind.equals("observe") ? " " : ": ";
        System.out.println(kind + " " + CLIENT + " " + situation + (flat.isEmpty() ? "" : separator + flat));
    }

    /** Runs one situation in a thread of its own; a lost answer costs that situation, not the script. */
    void run(String situation, int seconds, Check check) {
        Future<?> running = threads.submit((Callable<Void>) () -> {
            check.run();
            return null;
        });
        try {
            running.get(seconds, TimeUnit.SECONDS);
            line("ok", situation, "");
        } catch (ExecutionException failed) {
            Throwable why = failed.getCause();
            line(why instanceof Skip ? "skip" : "FAIL", situation, describe(why));
        } catch (TimeoutException late) {
            running.cancel(true);
            line("FAIL", situation, "no answer within " + seconds + " s");
        } catch (InterruptedException stopped) {
            Thread.currentThread().interrupt();
        }
    }

    private static String describe(Throwable why) {
        if (why instanceof Skip) {
            return why.getMessage();
        }
        Throwable root = why.getMessage() == null && why.getCause() != null ? why.getCause() : why;
        for (StackTraceElement frame : why.getStackTrace()) {
            if (frame.getFileName() != null && frame.getFileName().matches("(Situations|Routing|Failing|Case).java")) {
                return root + " (" + frame.getFileName() + ":" + frame.getLineNumber() + ")";
            }
        }
        return root.toString();
    }

    /** Compares what ended a channel or connection with the row of expected.txt. */
    void checkError(String situation, Throwable error) {
        String scope = "connection";
        String code;
        String failed = "-";
        String text;
        ShutdownSignalException signal = signal(error);
        if (error instanceof AuthenticationFailureException) {
            code = "403"; // The client has a type for it and keeps the text only.
            text = error.getMessage();
        } else if (signal != null && signal.getReason() instanceof AMQP.Channel.Close close) {
            scope = "channel";
            code = String.valueOf(close.getReplyCode());
            failed = close.getClassId() + "/" + close.getMethodId();
            text = close.getReplyText();
        } else if (signal != null && signal.getReason() instanceof AMQP.Connection.Close close) {
            code = String.valueOf(close.getReplyCode());
            failed = close.getClassId() + "/" + close.getMethodId();
            text = close.getReplyText();
        } else {
            throw new AssertionError("not an error of the broker's: " + error);
        }
        line("observe", situation, scope + " " + code + " " + failed + " " + text);
        Expectation want = expectations.get(situation);
        String wanted = want.text().replace("{n}", objectName(situation));
        if (!scope.equals(want.scope()) || !code.equals(want.code()) || !text.contains(wanted)) {
            throw new AssertionError("expected " + want.scope() + " " + want.code() + " \"" + wanted + "\", got " + scope
                + " " + code + " \"" + text + "\"");
        }
        if (!failed.equals("-") && !failed.equals(want.failed())) {
            throw new AssertionError("expected method " + want.failed() + ", got " + failed);
        }
    }

    static ShutdownSignalException signal(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof ShutdownSignalException signal) {
                return signal;
            }
        }
        return null;
    }

    static void equal(Object got, Object want) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError("expected " + want + ", got " + got);
        }
    }

    /** Polls: some effects, such as a requeue after a close, are not tied to a reply. */
    static void eventually(Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(5);
        while (!condition.call()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("condition not met in time");
            }
            Thread.sleep(20);
        }
    }
}
