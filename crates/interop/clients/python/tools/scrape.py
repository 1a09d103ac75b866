"""Judges the metrics with Debian's Prometheus: its linter, a server that scrapes all three addresses, and queries.

scrape.py amqp://guest:guest@host:port http://host:port
"""

import contextlib
import json
import subprocess
import urllib.parse
import urllib.request

import pika

from report import Report, equal, eventually, finish, into, running
from tool import AMQP_URL, HOME, HTTP, HTTP_URL, fetch, free_port

TABLE = {}
situation = into(TABLE)
PATHS = {"all": "/metrics", "objects": "/metrics/per-object", "detailed": "/metrics/detailed"}
FAMILIES = ["queue_coarse_metrics", "queue_consumer_count", "connection_metrics", "channel_metrics"]


PORT = free_port()


def configuration():
    """A second between scrapes, since the situations wait for them."""
    jobs = ""
    for name, path in PATHS.items():
        jobs += f"""
  - job_name: {name}
    metrics_path: {path}
    basic_auth: {{username: guest, password: guest}}
    static_configs: [{{targets: ["{HTTP.hostname}:{HTTP.port}"]}}]"""
        if name == "detailed":
            jobs += f"\n    params: {{family: {json.dumps(FAMILIES)}}}"
    return f"global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:{jobs}\n"


@contextlib.contextmanager
def prometheus():
    file = HOME / "prometheus.yml"
    file.write_text(configuration())
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={HOME / 'tsdb'}"]
    command.append(f"--web.listen-address=127.0.0.1:{PORT}")
    with open(HOME / "prometheus.log", "w") as log, running(command, log):
        yield


def query(expression):
    """Labels and value of each series."""
    address = f"http://127.0.0.1:{PORT}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(address, timeout=5) as answer:
            result = json.load(answer)["data"]["result"]
            return [(row["metric"], float(row["value"][1])) for row in result]
    return []


def value(expression):
    series = query(expression)
    return series[0][1] if len(series) == 1 else None


def lint(path):
    """What promtool cannot read is an error; names that RabbitMQ chose against its advice are not."""
    text = fetch(HTTP_URL + path)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert done.returncode in (0, 3), done.stderr.decode()


@situation("lint")
def lint_all():
    lint("/metrics")


@situation("lint-per-object")
def lint_objects():
    lint("/metrics/per-object")


@situation("lint-detailed")
def lint_detailed():
    lint("/metrics/detailed?" + urllib.parse.urlencode({"family": FAMILIES}, doseq=True))


@situation("targets-are-up")
def targets_are_up():
    eventually(lambda: {labels["job"]: up for labels, up in query("up")} == dict.fromkeys(PATHS, 1.0), 30)


@situation("depth")
def depth():
    connection = pika.BlockingConnection(pika.URLParameters(AMQP_URL))
    channel = connection.channel()
    channel.queue_declare('scraped "\\')
    for _ in range(7):
        channel.basic_publish("", 'scraped "\\', b"x")
    eventually(lambda: value('rabbitmq_queue_messages_ready{job="all"}') == 7, 20)
    eventually(lambda: value('rabbitmq_queue_messages_ready{job="objects",queue="scraped \\"\\\\"}') == 7, 20)
    eventually(lambda: value('rabbitmq_detailed_queue_messages_ready{job="detailed"}') == 7, 20)
    connection.close()


@situation("rates")
def rates():
    """Counters grow as Prometheus expects them to, so that its rate is what happened."""
    connection = pika.BlockingConnection(pika.URLParameters(AMQP_URL))
    channel = connection.channel()
    channel.queue_declare("rated", exclusive=True)
    name = 'rabbitmq_global_messages_received_total{job="all",protocol="amqp091"}'
    eventually(lambda: value(f"sum({name})") is not None, 20)
    before = value(f"sum({name})")
    for _ in range(100):
        channel.basic_publish("", "rated", b"x")
    eventually(lambda: value(f"sum({name})") == before + 100, 20)
    assert value(f"sum(increase({name}[30s]))") > 0
    connection.close()


@situation("counters-do-not-reset")
def counters_do_not_reset():
    """A queue that is deleted takes none of what was counted with it."""
    connection = pika.BlockingConnection(pika.URLParameters(AMQP_URL))
    channel = connection.channel()
    channel.queue_declare("deleted")
    for _ in range(3):
        channel.basic_publish("", "deleted", b"x")
        channel.basic_get("deleted", auto_ack=True)
    counter = 'rabbitmq_global_messages_delivered_get_auto_ack_total{job="all",queue_type="rabbit_classic_queue"}'
    eventually(lambda: value(counter) == 3, 20)
    channel.queue_delete("deleted")
    eventually(lambda: (value('rabbitmq_queues_deleted_total{job="all"}') or 0) >= 1, 20)
    equal(value(f"resets({counter}[5m])"), 0)
    equal(value(counter), 3)
    connection.close()


@situation("no-series-twice")
def no_series_twice():
    """A scrape with the same series twice is dropped by Prometheus with a warning."""
    warnings = [line for line in (HOME / "prometheus.log").read_text().splitlines() if "level=warn" in line]
    equal([line for line in warnings if "scrape" in line.lower()], [])


def main():
    report = Report("prometheus")
    with prometheus():
        for name, check in TABLE.items():
            report.run(name, check, limit=60)
    finish(report)


main()
