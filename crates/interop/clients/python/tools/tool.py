"""What the judges of the management API share: addresses, how to ask without a tool, and how to run one."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import urllib.parse
import urllib.request

import pika

from report import Report, finish

AMQP_URL, HTTP_URL = sys.argv[1:3]
HTTP = urllib.parse.urlparse(HTTP_URL)
# Each run's own: what a tool writes and what it logs.
HOME = pathlib.Path(os.environ["INTEROP_HOME"])


def fetch(address, body=None, method=None):
    """Asks as guest, without any tool between."""
    request = urllib.request.Request(address, body, {"content-type": "application/json"} if body else {}, method=method)
    manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    manager.add_password(None, HTTP_URL, "guest", "guest")
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
    with opener.open(request, timeout=10) as answer:
        return answer.read()


def api(path, body=None, method=None):
    """Calls the API, with JSON both ways."""
    text = fetch(f"{HTTP_URL}/api/{path}", None if body is None else json.dumps(body).encode(), method)
    return json.loads(text) if text else None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_closed_by_operator(connection):
    """Waits until a connection of pika's is told that it is closed."""
    try:
        connection.process_data_events(time_limit=5)
    except pika.exceptions.ConnectionClosedByBroker as error:
        return error.reply_code == 320
    return False


def judge(client, table):
    """Runs the situations of a tool, and ends."""
    report = Report(client)
    for name, check in table.items():
        report.run(name, check, limit=60)
    finish(report)


def output(*command, stdin=None):
    """What a command prints; it must succeed."""
    done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{command[-3:]} ended with {done.returncode}: {done.stderr or done.stdout}"
    return done.stdout


def fails(*command):
    """What a command that must fail says about it."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0, f"{command[-3:]} did not fail: {done.stdout}"
    return done.stdout + done.stderr
