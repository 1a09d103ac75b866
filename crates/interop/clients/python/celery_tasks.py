"""A celery application as people write it: results through the broker (rpc://), the default worker settings.

INTEROP_URL names the broker. The queue is our own, so that several runs don't share the default one.
"""

import os

import celery

app = celery.Celery("interop", broker=os.environ["INTEROP_URL"], backend="rpc://")
app.conf.task_default_queue = os.environ.get("INTEROP_QUEUE", "interop.celery")
app.conf.broker_connection_retry_on_startup = True
app.conf.task_send_sent_event = True


@app.task
def add(x, y):
    return x + y


@app.task(bind=True, max_retries=3, default_retry_delay=0.1)
def third_time(self):
    """Fails twice: each retry is a new message with an ETA."""
    if self.request.retries < 2:
        raise self.retry()
    return self.request.retries


@app.task
def fail():
    raise ValueError("as asked")
