"""Judges the management API with rabbitmqadmin v2, RabbitMQ's rewrite of its tool in Rust, from crates.io.

rabbitmqadmin_2.py amqp://guest:guest@host:port http://host:port
"""

import json
import os

import pika

from report import equal, eventually, into
from tool import AMQP_URL, HTTP, api, fails, is_closed_by_operator, judge, output

TABLE = {}
situation = into(TABLE)
COMMAND = [os.environ["RABBITMQADMIN_2"], "--host", HTTP.hostname, "--port", HTTP.port, "--non-interactive"]
NODE = api("overview")["node"]


def admin(*arguments):
    return output(*COMMAND, *arguments)


def rows(*arguments):
    """The first words of what it lists."""
    return [line.split()[0] for line in admin(*arguments).splitlines() if line.strip()]


@situation("show")
def show():
    assert "Leveret" in admin("show", "overview")
    admin("declare", "queue", "--name", "churned")
    declared = [line for line in admin("show", "churn").splitlines() if "declarations" in line]
    equal(declared[0].split()[-1], "1")
    assert str(HTTP.port) in admin("show", "endpoint")


@situation("list-everything")
def list_everything():
    connection = pika.BlockingConnection(pika.URLParameters(AMQP_URL))
    channel = connection.channel()
    channel.queue_declare("listed", exclusive=True)
    equal(rows("nodes", "list"), [NODE])
    equal(rows("users", "list"), ["guest"])
    equal(rows("vhosts", "list"), ["/"])
    equal(rows("permissions", "list"), ["guest"])
    assert "amq.topic" in rows("exchanges", "list") and "listed" in rows("queues", "list")
    eventually(lambda: len(rows("connections", "list")) == 1 and len(rows("channels", "list")) == 1, 10)
    for group in "bindings policies operator_policies global_parameters vhost_limits user_limits streams".split():
        admin(group, "list")
    admin("parameters", "list_all")
    admin("plugins", "list_all")
    connection.close()


@situation("node-memory")
def node_memory():
    assert "total" in admin("nodes", "memory_breakdown_in_bytes", "--node", NODE).lower()
    admin("nodes", "memory_breakdown_in_percent", "--node", NODE)


@situation("health-checks")
def health_checks():
    for check in ["local_alarms", "cluster_wide_alarms", "node_is_quorum_critical"]:
        assert "passed" in admin("health_check", check), check
    port = AMQP_URL.rsplit(":", 1)[1]
    assert "passed" in admin("health_check", "port_listener", "--port", port)
    assert "passed" in admin("health_check", "protocol_listener", "--protocol", "amqp")
    said = fails(*COMMAND, "health_check", "port_listener", "--port", "1")
    assert "no active listener" in said.lower() or "failed" in said.lower(), said


@situation("feature-flags")
def feature_flags():
    assert "quorum_queue" in rows("feature_flags", "list")
    admin("feature_flags", "enable", "--name", "quorum_queue")
    admin("feature_flags", "enable_all")


@situation("auth-attempts")
def auth_attempts():
    # Its name of AMQP 0-9-1 is amqp.
    assert {"amqp", "http"} <= set(rows("auth_attempts", "stats", "--node", NODE))


@situation("declare-publish-get")
def declare_publish_get():
    admin("queues", "declare", "--name", "inbox", "--type", "classic", "--arguments", '{"x-max-length": 10}')
    admin("exchanges", "declare", "--name", "news", "--type", "topic")
    binding = "--source news --destination-type queue --destination inbox --routing-key a.#".split()
    admin("bindings", "declare", *binding)
    message = ["publish", "message", "--exchange", "news", "--payload", "hello"]
    assert "routed" in admin(*message, "--routing-key", "a.b", "--properties", '{"delivery_mode": 2}')
    assert "NOT routed" in admin(*message, "--routing-key", "b")
    said = admin("get", "messages", "--queue", "inbox", "--count", 5, "--ack-mode", "ack_requeue_true")
    assert "hello" in said and "delivery_mode" in said, said
    assert "inbox" in admin("queues", "show", "--name", "inbox")
    eventually(lambda: api("queues/%2F/inbox")["messages"] == 1)
    admin("queues", "purge", "--name", "inbox")
    eventually(lambda: api("queues/%2F/inbox")["messages"] == 0)
    admin("bindings", "delete", *binding)
    equal(len(api("queues/%2F/inbox/bindings")), 1)


@situation("policies")
def policies():
    admin("queues", "declare", "--name", "governed")
    definition = ["--definition", '{"max-length": 5}']
    admin("policies", "declare", "--name", "short", "--pattern", "^governed$", "--apply-to", "queues", *definition)
    equal(rows("policies", "list_matching_object", "--name", "governed", "--type", "queues"), ["short"])
    admin("policies", "update_definition", "--name", "short", "--definition-key", "max-length", "--new-value", 7)
    equal(api("policies/%2F/short")["definition"], {"max-length": 7})
    admin("policies", "patch", "--name", "short", "--definition", '{"message-ttl": 100000}')
    equal(api("queues/%2F/governed")["effective_policy_definition"], {"max-length": 7, "message-ttl": 100000})
    admin("operator_policies", "declare", "--name", "bound", "--pattern", "^governed$", "--apply-to", "queues", *definition)
    eventually(lambda: api("queues/%2F/governed")["operator_policy"] == "bound")
    admin("operator_policies", "delete", "--name", "bound")
    admin("policies", "delete", "--name", "short")
    equal(rows("policies", "list"), [])


@situation("users-and-vhosts")
def users_and_vhosts():
    admin("vhosts", "declare", "--name", "team", "--description", "ours")
    equal(api("vhosts/team")["description"], "ours")
    admin("users", "declare", "--name", "ann", "--password", "secret", "--tags", "monitoring")
    permissions = "--user ann --configure .* --read .* --write ^x".split()
    admin("--vhost", "team", "permissions", "declare", *permissions)
    equal(api("permissions/team/ann")["write"], "^x")
    as_ann = [*COMMAND, "--username", "ann", "--password", "secret", "--vhost", "team"]
    output(*as_ann, "queues", "declare", "--name", "hers", "--type", "quorum")
    assert "Not administrator user" in fails(*as_ann, "users", "list")
    assert "not authorised" in fails(*as_ann[:-1], "/", "queues", "declare", "--name", "no")
    admin("--vhost", "team", "permissions", "delete", "--user", "ann")
    admin("users", "delete", "--name", "ann")
    admin("vhosts", "delete", "--name", "team")
    equal(rows("vhosts", "list"), ["/"])


@situation("delete")
def delete():
    admin("queues", "declare", "--name", "gone")
    admin("queues", "delete", "--name", "gone")
    assert "404" in fails(*COMMAND, "queues", "delete", "--name", "gone")
    admin("queues", "delete", "--name", "gone", "--idempotently")
    admin("exchanges", "declare", "--name", "gone", "--type", "fanout")
    admin("exchanges", "delete", "--name", "gone")
    assert "gone" not in rows("exchanges", "list")


@situation("close-connection")
def close_connection():
    connection = pika.BlockingConnection(pika.URLParameters(AMQP_URL))
    (name,) = eventually(lambda: [row["name"] for row in api("connections")], 10)
    admin("close", "connection", "--name", name)
    assert is_closed_by_operator(connection), "the connection was not closed"


@situation("definitions")
def definitions():
    admin("queues", "declare", "--name", "kept")
    exported = admin("definitions", "export", "--stdout")
    admin("queues", "delete", "--name", "kept")
    output(*COMMAND, "definitions", "import", "--stdin", stdin=exported)
    assert "kept" in rows("queues", "list")
    sort = lambda rows: sorted(json.dumps(row, sort_keys=True) for row in rows)  # noqa: E731
    one, other = json.loads(exported), json.loads(admin("definitions", "export", "--stdout"))
    for kind in "queues exchanges bindings users vhosts permissions policies".split():
        equal(sort(one[kind]), sort(other[kind]))
    assert "kept" in admin("definitions", "export_from_vhost", "--stdout")


@situation("wrong-password")
def wrong_password():
    assert "Login failed" in fails(*COMMAND, "--username", "guest", "--password", "no", "users", "list")


judge("rabbitmqadmin-2", TABLE)
