"""Judges a broker with celery: a worker process, tasks, results, ETAs, events and remote control.

celery_judge.py amqp://guest:guest@host:port
"""

import datetime
import os
import pathlib
import subprocess
import sys
import threading
import time

from report import Report, equal, eventually, finish, running

os.environ["INTEROP_URL"] = sys.argv[1]
os.environ["INTEROP_QUEUE"] = f"interop.celery.{os.getpid()}"
from celery_tasks import add, app, fail, third_time  # noqa: E402  It reads the environment above.

ANSWER_SECONDS = 10
NODE = f"interop{os.getpid()}@localhost"


def worker():
    """A worker with one process and celery's default prefetch of four per process."""
    command = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "-P", "solo", "-c", "1", "-E", "-n", NODE]
    return running(command, subprocess.DEVNULL, cwd=pathlib.Path(__file__).parent)


def task_result():
    """The first task also waits for the worker to be up."""
    equal(add.delay(2, 3).get(timeout=30), 5)


def many_results():
    results = [add.delay(number, number) for number in range(100)]
    equal([result.get(timeout=ANSWER_SECONDS) for result in results], [2 * number for number in range(100)])


def failure_result():
    try:
        fail.delay().get(timeout=ANSWER_SECONDS)
    except ValueError as error:
        return equal(str(error), "as asked")
    raise AssertionError("the task's exception didn't come back")


def retry_with_eta():
    equal(third_time.delay().get(timeout=ANSWER_SECONDS), 2)


def eta_prefetch():
    """Tasks with an ETA are held unacknowledged; the worker raises its prefetch so that others pass them.

    With the default prefetch of four, a broker that ignores the change never delivers the last task in time.
    """
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=6)
    held = [add.apply_async((number, 1), eta=later) for number in range(12)]
    began = time.monotonic()
    equal(add.delay(1, 1).get(timeout=4), 2)
    assert time.monotonic() - began < 4, "the task waited for those with an ETA"
    equal([result.get(timeout=15) for result in held], [number + 1 for number in range(12)])
    assert time.monotonic() - began > 5, "tasks ran before their ETA"


def remote_control():
    """Broadcast through a fanout exchange, answers through a direct one."""
    equal(eventually(lambda: app.control.ping(destination=[NODE], timeout=1)), [{NODE: {"ok": "pong"}}])


def events():
    """Events go through the topic exchange celeryev."""
    seen = []
    with app.connection() as connection:
        receiver = app.events.Receiver(connection)

        def succeeded(event):
            seen.append(event)
            receiver.should_stop = True

        receiver.handlers["task-succeeded"] = succeeded
        threading.Timer(0.3, lambda: add.delay(1, 2)).start()
        receiver.capture(limit=None, timeout=5, wakeup=False)
    assert seen, "no task-succeeded event"


def warm_shutdown(process):
    process.terminate()
    equal(process.wait(15), 0)


def main():
    report = Report("celery")
    with worker() as process:
        report.run("task-result", task_result, limit=40)
        report.run("task-many-results", many_results)
        report.run("task-failure", failure_result)
        report.run("task-retry", retry_with_eta)
        report.run("task-eta-prefetch", eta_prefetch, limit=25)
        report.run("remote-control", remote_control)
        report.run("events", events)
        report.run("warm-shutdown", lambda: warm_shutdown(process), limit=20)
    with app.connection() as connection:
        channel = connection.channel()
        channel.queue_delete(app.conf.task_default_queue)
        channel.exchange_delete(app.conf.task_default_queue)
    finish(report)


if __name__ == "__main__":
    main()
