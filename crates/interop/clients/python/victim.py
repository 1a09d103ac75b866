"""A Leveret of our own, with a data directory, to be killed: the broker that is judged serves other scripts."""

import os
import signal
import socket
import subprocess
import tempfile
import urllib.parse

from report import Skip, eventually


class Victim:
    """Runs the executable that INTEROP_LEVERET names, below a directory that is gone afterwards."""

    def __init__(self, case):
        self.executable = os.environ.get("INTEROP_LEVERET")
        if not self.executable:
            raise Skip("there is no executable to kill: judge needs --leveret-binary")
        self.case, self.directory = case, tempfile.TemporaryDirectory(prefix="leveret-interop-")
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.directory.cleanup()

    def connect(self):
        """A channel; the broker is started if it doesn't run."""
        if self.process is None:
            self.start()
        connection = type(self.case.adapter)(self.url).connect()
        self.case.connections.append(connection)
        return connection.channel()

    def start(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        data = os.path.join(self.directory.name, "data")
        command = [self.executable, "serve", "--amqp", f"127.0.0.1:{port}", "--data-dir", data]
        with open(os.path.join(self.directory.name, "log"), "ab") as log:
            # A group of its own would outlive this script if judge kills it.
            self.process = subprocess.Popen(command + ["--segment-size", "1048576"], stdout=log, stderr=log)
        self.url = f"amqp://guest:guest@127.0.0.1:{port}"
        eventually(lambda: self.listens(port), seconds=10)

    def listens(self, port):
        assert self.process.poll() is None, f"the broker ended: {self.log()}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def log(self):
        with open(os.path.join(self.directory.name, "log")) as log:
            return log.read()[-1000:]

    def kill(self):
        """kill -9, and waits until it is gone."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
