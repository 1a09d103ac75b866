"""Judges the management API with rabbitmqadmin as RabbitMQ ships it, from Debian's rabbitmq-server.

rabbitmqadmin_1.py amqp://guest:guest@host:port http://host:port
"""

import json

import pika

from report import eventually, equal, into
from tool import AMQP_URL, HOME, HTTP, api, fails, is_closed_by_operator, judge, output

TABLE = {}
situation = into(TABLE)


def admin(*arguments):
    """Runs rabbitmqadmin on the judged broker."""
    return output("rabbitmqadmin", "--host", HTTP.hostname, "--port", HTTP.port, *arguments)


def refused(*arguments):
    """What it says about what must fail."""
    return fails("rabbitmqadmin", "--host", HTTP.hostname, "--port", HTTP.port, *arguments)


def rows(*arguments):
    """What it lists, by name."""
    return {row.get("name", index): row for index, row in enumerate(json.loads(admin("--format", "raw_json", *arguments)))}


@situation("show-overview")
def show_overview():
    text = admin("show", "overview")
    assert "rabbitmq_version" in text and "cluster_name" in text, text


@situation("list-everything")
def list_everything():
    connection = pika.BlockingConnection(pika.URLParameters(AMQP_URL))
    channel = connection.channel()
    channel.queue_declare("listed", exclusive=True)
    channel.basic_consume("listed", lambda *_: None)
    for kind in "users vhosts exchanges bindings permissions nodes connections channels queues consumers".split():
        eventually(lambda: rows("list", kind), 10)
    for kind in "policies operator_policies parameters vhost_limits".split():
        rows("list", kind)
    connection.close()


@situation("list-columns")
def list_columns():
    admin("declare", "queue", "name=columns")
    text = admin("--format", "tsv", "list", "queues", "name", "durable", "messages")
    assert text.splitlines()[0].split("\t") == ["name", "durable", "messages"], text
    assert "columns\tTrue" in text, text


@situation("formats")
def formats():
    for format in "raw_json long pretty_json kvp tsv table bash".split():
        assert "guest" in admin("--format", format, "list", "users"), format


@situation("declare-publish-get")
def declare_publish_get():
    admin("declare", "exchange", "name=news", "type=topic")
    admin("declare", "queue", "name=inbox", "durable=true", 'arguments={"x-max-length": 10}')
    admin("declare", "binding", "source=news", "destination=inbox", "routing_key=a.#")
    assert "Message published" in admin(
        "publish", "exchange=news", "routing_key=a.b", "payload=one", 'properties={"delivery_mode": 2}'
    )
    said = admin("publish", "exchange=news", "routing_key=b", "payload=lost")
    assert "NOT routed" in said, said
    (message,) = rows("get", "queue=inbox", "ackmode=ack_requeue_true").values()
    equal((message["payload"], message["routing_key"], message["exchange"]), ("one", "a.b", "news"))
    (message,) = rows("get", "queue=inbox", "ackmode=ack_requeue_false").values()
    equal((message["redelivered"], message["message_count"]), (True, 0))
    equal(rows("list", "queues")["inbox"]["arguments"], {"x-max-length": 10})


@situation("payload-file")
def payload_file():
    admin("declare", "queue", "name=text")
    target, payload = HOME / "target", "Grüße, \u4e16\u754c"
    admin("publish", "routing_key=text", "exchange=amq.default", f"payload={payload}")
    admin("get", "queue=text", "ackmode=ack_requeue_false", f"payload_file={target}")
    equal(target.read_text(encoding="utf-8"), payload)


@situation("purge")
def purge():
    admin("declare", "queue", "name=purged")
    admin("publish", "routing_key=purged", "exchange=amq.default", "payload=x")
    admin("purge", "queue", "name=purged")
    eventually(lambda: api("queues/%2F/purged")["messages"] == 0)


@situation("close-connection")
def close_connection():
    connection = pika.BlockingConnection(pika.URLParameters(AMQP_URL))
    port = connection._impl._transport._sock.getsockname()[1]
    name = eventually(lambda: next((name for name in rows("list", "connections") if f":{port} ->" in name), None), 10)
    admin("close", "connection", f"name={name}")
    assert is_closed_by_operator(connection), "the connection was not closed"


@situation("users-and-permissions")
def users_and_permissions():
    admin("declare", "vhost", "name=team")
    admin("declare", "user", "name=ann", "password=secret", "tags=monitoring,policymaker")
    admin("declare", "permission", "vhost=team", "user=ann", "configure=^a", "write=.*", "read=.*")
    assert sorted(api("users/ann")["tags"]) == ["monitoring", "policymaker"], api("users/ann")
    as_ann = ("--username", "ann", "--password", "secret", "--vhost", "team")
    admin(*as_ann, "declare", "queue", "name=allowed")
    said = refused(*as_ann, "declare", "queue", "name=no")
    assert "refused" in said or "40" in said, said
    admin("delete", "permission", "vhost=team", "user=ann")
    admin("delete", "user", "name=ann")
    admin("delete", "vhost", "name=team")
    assert "team" not in rows("list", "vhosts")


@situation("policies")
def policies():
    admin("declare", "queue", "name=governed")
    admin("declare", "policy", "name=short", "pattern=^governed$", 'definition={"max-length": 5}', "apply-to=queues")
    equal(eventually(lambda: rows("list", "queues")["governed"].get("policy")), "short")
    admin("declare", "operator_policy", "name=bound", "pattern=^governed$", 'definition={"max-length": 3}')
    equal(eventually(lambda: rows("list", "queues")["governed"].get("operator_policy")), "bound")
    equal(rows("list", "policies")["short"]["definition"], {"max-length": 5})
    admin("delete", "policy", "name=short")
    admin("delete", "operator_policy", "name=bound")
    equal(rows("list", "policies"), {})


@situation("delete")
def delete():
    admin("declare", "queue", "name=gone")
    admin("declare", "exchange", "name=gone", "type=fanout")
    admin("declare", "binding", "source=gone", "destination=gone", "routing_key=k")
    admin("delete", "binding", "source=gone", "destination_type=queue", "destination=gone", "properties_key=k")
    admin("delete", "queue", "name=gone")
    admin("delete", "exchange", "name=gone")
    assert "gone" not in rows("list", "queues") and "gone" not in rows("list", "exchanges")
    said = refused("delete", "queue", "name=gone")
    assert "not_found" in said.lower() or "not found" in said.lower(), said


@situation("export-import")
def export_import():
    admin("declare", "queue", "name=kept", "durable=true")
    file = HOME / "definitions.json"
    admin("export", file)
    admin("delete", "queue", "name=kept")
    admin("import", file)
    assert "kept" in rows("list", "queues")
    again = HOME / "again.json"
    admin("export", again)
    one, other = json.loads(file.read_text()), json.loads(again.read_text())
    for kind in "queues exchanges bindings users vhosts permissions policies".split():
        key = lambda row: json.dumps(row, sort_keys=True)  # noqa: E731
        equal(sorted(one[kind], key=key), sorted(other[kind], key=key))


@situation("wrong-password")
def wrong_password():
    said = refused("--password", "no", "list", "users")
    assert "Access refused" in said, said


judge("rabbitmqadmin", TABLE)
