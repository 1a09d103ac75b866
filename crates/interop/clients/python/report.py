"""The output protocol shared by the Python judges, their expectations and their time limits."""

import concurrent.futures
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import traceback

IDLE_SECONDS = int(os.environ.get("INTEROP_IDLE_SECONDS", "60"))
SITUATION_SECONDS = 15


class Skip(Exception):
    """The client cannot express the situation; the text says why."""


class NoAnswer(Exception):
    """A situation took too long. Not a TimeoutError, which clients catch to try again."""


class BrokerError(Exception):
    """The broker closed a channel or the connection; raised by the adapters in one shape for all clients."""

    def __init__(self, scope, code, text, class_id=None, method_id=None):
        super().__init__(f"{scope} {code} {text}")
        self.scope, self.code, self.text = scope, code, text
        self.failed = "-" if class_id is None else f"{class_id}/{method_id}"


def read_expectations():
    """situation -> (scope, code, class/method, text), a row for this broker taking precedence over `*`."""
    broker = os.environ.get("INTEROP_BROKER", "*")
    rows = {}
    path = pathlib.Path(__file__).parent.parent / "expected.txt"
    for line in path.read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        situation, of_broker, *rest = [part.strip() for part in line.split("|", 5)]
        if of_broker == broker or (of_broker == "*" and situation not in rows):
            rows[situation] = rest
    return rows


class Report:
    """Prints one line per situation. A lock keeps lines whole: the idle minute reports from its own thread."""

    def __init__(self, client):
        self.client = client
        self.failures = 0
        self.expectations = read_expectations()
        self.lock = threading.Lock()

    def name(self, situation):
        return f"interop.{self.client}.{situation}"

    def line(self, kind, situation, text=""):
        with self.lock:
            self.failures += kind == "FAIL"
            text = " ".join(str(text).split())
            body = f"{kind} {self.client} {situation}"
            if text:
                body += f" {text}" if kind == "observe" else f": {text}"
            print(body, flush=True)

    def observe(self, situation, text):
        self.line("observe", situation, text)

    def waiting(self):
        """Tells whoever started us that only the idle minute is left."""
        with self.lock:
            print(f"waiting {self.client}", flush=True)

    def check_error(self, situation, error):
        """Compares what the broker answered with the row of expected.txt."""
        self.observe(situation, f"{error.scope} {error.code} {error.failed} {error.text}")
        scope, code, failed, text = self.expectations[situation]
        text = text.replace("{n}", self.name(situation))
        problems = []
        if (error.scope, str(error.code)) != (scope, code):
            problems.append(f"expected {scope} {code}, got {error.scope} {error.code} {error.text}")
        elif text not in error.text:
            problems.append(f"expected text {text!r}, got {error.text!r}")
        if error.failed not in ("-", failed):
            problems.append(f"expected method {failed}, got {error.failed}")
        assert not problems, "; ".join(problems)

    def run(self, situation, check, limit=SITUATION_SECONDS):
        """Runs one situation in the main thread under an alarm, so that nothing hangs the script."""

        def expired(_signal, _frame):
            raise NoAnswer(f"no answer within {limit} s")

        signal.signal(signal.SIGALRM, expired)
        signal.alarm(limit)
        try:
            check()
            signal.alarm(0)
            self.line("ok", situation)
        except Skip as why:
            self.line("skip", situation, why)
        except Exception as why:  # Whatever goes wrong is this situation's failure, and the next one runs.
            signal.alarm(0)
            where = traceback.extract_tb(why.__traceback__)
            ours = [frame for frame in where if os.path.dirname(frame.filename) == os.path.dirname(__file__)]
            line = ours[-1].lineno if ours else 0
            self.line("FAIL", situation, f"{type(why).__name__}: {why} (line {line})")
        finally:
            signal.alarm(0)


def in_background(report, situation, check):
    """Starts a long situation beside the others; the returned function waits for it and reports it."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(check)

    def finish():
        report.run(situation, lambda: future.result(timeout=IDLE_SECONDS + 20), limit=IDLE_SECONDS + 20)
        pool.shutdown(wait=False)

    return finish


def eventually(check, seconds=5):
    """Polls until check() is truthy: some effects (requeue after a close) are not tied to a reply."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.02)


@contextlib.contextmanager
def running(command, output, cwd=None):
    """A process while the situations run, told to end when they have."""
    process = subprocess.Popen([str(part) for part in command], cwd=cwd, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def into(table):
    """Decorators that enter situations into a table under their names."""

    def situation(name):
        def register(check):
            table[name] = check
            return check

        return register

    return situation


def equal(got, want):
    assert got == want, f"expected {want!r}, got {got!r}"


def finish(report):
    sys.stdout.flush()
    # os._exit: a client's stuck thread must not keep the process alive after everything was reported.
    os._exit(1 if report.failures else 0)
