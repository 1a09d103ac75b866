"""Judges the management API with schemathesis, by its own OpenAPI document: whatever is asked, no 5xx but those that are
meant, and nothing in an answer that the document does not say.

openapi.py amqp://guest:guest@host:port http://host:port
"""

import subprocess
import sys
import xml.etree.ElementTree

from report import Report, finish
from tool import HOME, HTTP_URL, api

# Answers without end.
ENDLESS = r"^/api/stream$|/tail$"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
# Things of this name are asked for, and made anew, and deleted.
NAME = "fuzzed"
MEANT = """
[parameters]
"path.vhost" = "/"
"path.name" = "NAME"
"path.source" = "NAME"
"path.queue" = "NAME"
"path.exchange" = "NAME"
"path.node" = "NODE"

# A check that fails says so, as RabbitMQ's.
[[operations]]
include-path-regex = "^/api/health/checks/"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]

# Not built.
[[operations]]
include-path-regex = "^/api/(user|vhost)-limits/"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501"]
"""
SECONDS = 240


def main():
    report = Report("schemathesis")
    api(f"queues/%2F/{NAME}", {"durable": True}, "PUT")
    api(f"exchanges/%2F/{NAME}", {"type": "topic", "durable": True}, "PUT")
    api(f"bindings/%2F/e/{NAME}/q/{NAME}", {"routing_key": "#"}, "POST")
    config = HOME / "schemathesis.toml"
    config.write_text(MEANT.replace("NAME", NAME).replace("NODE", api("overview")["node"]))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run", f"{HTTP_URL}/api/openapi.json"]
    command += ["--auth", "guest:guest", "--phases", "examples,coverage,fuzzing", "--exclude-path-regex", ENDLESS]
    command += ["--checks", ",".join(CHECKS), "--max-examples", "20", "--continue-on-failure", "--no-color"]
    command += ["--warnings", "off", "--report", "junit", "--report-junit-path", HOME / "junit.xml"]
    with open(HOME / "schemathesis.log", "w") as log:
        # It keeps what it has found where it is started.
        done = subprocess.run([str(part) for part in command], cwd=HOME, stdout=log, stderr=log, timeout=SECONDS)
    verdicts = {}
    for case in xml.etree.ElementTree.parse(HOME / "junit.xml").iter("testcase"):
        wrong = [found.get("message") or found.text or "" for found in case if found.tag in ("failure", "error")]
        verdicts.setdefault(case.get("name"), []).extend(wrong)
    for operation, wrong in verdicts.items():
        report.line("FAIL" if wrong else "ok", operation.replace(" ", "_"), "; ".join(wrong))
    if done.returncode not in (0, 1) or len(verdicts) < 100:
        report.line("FAIL", "run", f"it ended with {done.returncode} after {len(verdicts)} operations; see its log")
    finish(report)


main()
