"""Judges the management API with Celery Flower: its page of queues, beside a worker that runs.

flower_page.py amqp://guest:guest@host:port http://host:port
"""

import contextlib
import os
import pathlib
import re
import sys
import time
import urllib.request

from report import Report, finish, running
from tool import AMQP_URL, HOME, HTTP, free_port

os.environ["INTEROP_URL"] = AMQP_URL
QUEUE = os.environ["INTEROP_QUEUE"] = "interop.flower"
from celery_tasks import add  # noqa: E402  It reads the environment above.


PORT = free_port()


@contextlib.contextmanager
def celery(*arguments):
    """A command of celery's while the situations run. Its output is beside the broker's."""
    command = [sys.executable, "-m", "celery", "-A", "celery_tasks", *arguments]
    with open(HOME / f"{arguments[0]}.log", "w") as log, running(command, log, cwd=pathlib.Path(__file__).parent.parent):
        yield


def page(path):
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/{path}", timeout=10) as answer:
        return answer.read().decode()


def queue_rows():
    """The table of queues: what each row shows."""
    with contextlib.suppress(OSError):
        rows = re.findall(r"<tr id=.*?</tr>", page("broker"), re.S)
        return [[cell.strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)] for row in rows]
    return []


def is_shown(messages, unacknowledged, ready, consumers):
    """The queue's row says so at last: the worker consumes some time after it declares."""
    expected = [QUEUE, *(str(count) for count in (messages, unacknowledged, ready, consumers))]
    shown = None
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        shown = [row[:5] for row in queue_rows()]
        if expected in shown:
            return
        time.sleep(0.1)
    raise AssertionError(f"expected {expected}, got {shown}")


def queue_page():
    is_shown(messages=0, unacknowledged=0, ready=0, consumers=1)


def queue_page_counts():
    """Tasks that wait for their time are held by the worker."""
    for number in range(20):
        add.apply_async((number, 1), countdown=600)
    is_shown(messages=20, unacknowledged=20, ready=0, consumers=1)


def main():
    report = Report("flower")
    api = f"http://guest:guest@{HTTP.hostname}:{HTTP.port}/api/"
    with celery("worker", "-P", "solo", "-c", "1", "-E", "-n", "flower@localhost"):
        with celery("flower", f"--port={PORT}", "--address=127.0.0.1", f"--broker-api={api}", "--persistent=False"):
            report.run("queue-page", queue_page, limit=60)
            report.run("queue-page-counts", queue_page_counts, limit=60)
    finish(report)


main()
