"""Judges the management API with the calls that kombu offers: Connection.get_manager(), which is pyrabbit's client.

kombu_manager.py amqp://guest:guest@host:port http://host:port
"""

import kombu
from pyrabbit.http import HTTPError

from report import equal, eventually, into
from tool import AMQP_URL, HTTP, judge

TABLE = {}
situation = into(TABLE)
DEFAULT = "/"

connection = kombu.Connection(AMQP_URL, transport_options={"manager_hostname": HTTP.hostname, "manager_port": HTTP.port})
manager = connection.get_manager()


@situation("overview-whoami-alive")
def overview():
    assert manager.get_overview()["rabbitmq_version"]
    equal(manager.get_whoami()["name"], "guest")
    assert manager.get_nodes()[0]["running"]


@situation("has-admin-rights")
def has_admin_rights():
    """It compares tags with a string, as RabbitMQ up to 3.8 answered; later ones, and Leveret, answer a list."""
    equal(manager.get_whoami()["tags"], ["administrator"])
    assert not manager.has_admin_rights
    manager.is_admin = True
    assert manager.is_alive()


@situation("vhosts")
def vhosts():
    manager.create_vhost("kombu")
    assert "kombu" in manager.get_vhost_names()
    equal(manager.get_vhost("kombu")["name"], "kombu")
    manager.set_vhost_permissions("kombu", "guest", ".*", ".*", ".*")
    equal(manager.get_permission("kombu", "guest")["configure"], ".*")
    equal(len(manager.get_vhost_permissions("kombu")), 1)
    assert len(manager.get_permissions()) >= 2 and len(manager.get_user_permissions("guest")) >= 2
    manager.delete_permission("kombu", "guest")
    manager.delete_vhost("kombu")
    try:
        manager.get_vhost("kombu")
    except HTTPError as error:
        return equal(error.status, 404)
    raise AssertionError("the virtual host is still there")


@situation("users")
def users():
    assert "guest" in [user["name"] for user in manager.get_users()]


@situation("exchange-queue-binding")
def exchange_queue_binding():
    manager.create_exchange(DEFAULT, "kombu.x", "direct")
    equal(manager.get_exchange(DEFAULT, "kombu.x")["type"], "direct")
    assert "kombu.x" in [exchange["name"] for exchange in manager.get_exchanges(DEFAULT)]
    manager.create_queue(DEFAULT, "kombu.q", durable=True, auto_delete=False, arguments={})
    manager.create_binding(DEFAULT, "kombu.x", "kombu.q", "key")
    equal([row["routing_key"] for row in manager.get_queue_bindings(DEFAULT, "kombu.q")], ["kombu.q", "key"])
    assert len(manager.get_bindings()) >= 2
    equal(manager.publish(DEFAULT, "kombu.x", "key", "hello"), True)
    equal(eventually(lambda: manager.get_queue_depth(DEFAULT, "kombu.q")), 1)
    manager.purge_queue(DEFAULT, "kombu.q")
    manager.delete_binding(DEFAULT, "kombu.x", "kombu.q", "key")
    equal(len(manager.get_queue_bindings(DEFAULT, "kombu.q")), 1)
    manager.delete_queue(DEFAULT, "kombu.q")
    manager.delete_exchange(DEFAULT, "kombu.x")
    assert "kombu.q" not in [queue["name"] for queue in manager.get_queues(DEFAULT)]


@situation("get-messages")
def get_messages():
    """It asks as RabbitMQ before 3.7 was asked; since then, as here, one must say whether to acknowledge."""
    manager.create_queue(DEFAULT, "kombu.got", durable=True, auto_delete=False, arguments={})
    try:
        manager.get_messages(DEFAULT, "kombu.got")
    except HTTPError as error:
        assert "ackmode" in str(error), error
        return equal(error.status, 400)
    finally:
        manager.delete_queue(DEFAULT, "kombu.got")
    raise AssertionError("it was not refused")


@situation("connections-channels")
def connections_channels():
    """What a worker of kombu's is seen to have open."""
    with connection.Producer() as producer:
        producer.publish("x", routing_key="kombu.seen", declare=[kombu.Queue("kombu.seen")])
        eventually(lambda: manager.get_connections() and manager.get_channels(), 10)
        name = manager.get_connections()[0]["name"]
        equal(manager.get_connection(name)["user"], "guest")
        eventually(lambda: manager.get_queue(DEFAULT, "kombu.seen").get("messages") == 1, 10)


judge("kombu", TABLE)
