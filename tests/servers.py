"""Servers that a test starts for itself: MLflow's, and PostgreSQL's. Each has `uri`, `start` and `kill`."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

SECONDS = 60  # that a server has to start


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class MlflowServer:
    """`mlflow server` on a port of its own, over a database that keeps what it is told."""

    def __init__(self, folder, template):
        shutil.copytree(template / "mlruns", folder)
        self.folder, self.port, self.process = folder, free_port(), None
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = ["server", "--port", str(self.port), "--workers", "1", "--host", "127.0.0.1"]
        places = {"--backend-store-uri": f"sqlite:///{self.folder}/mlflow.db", "--artifacts-destination": "artifacts"}
        options = [word for pair in places.items() for word in pair]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, *options],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(self._answers, self.process)

    def _answers(self):
        with urlopen(f"{self.uri}/health", timeout=5):
            pass

    def kill(self):
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class PostgresServer:
    """A PostgreSQL server in a temporary folder, on a port of its own; root starts it as another user."""

    def __init__(self):
        # Not pytest's folder, which is closed to other users.
        self.folder = Path(tempfile.mkdtemp(prefix="recsys-postgres-", dir="/tmp"))
        self.port, self.process, self.names = free_port(), None, 0
        self.user = {}
        if os.geteuid() == 0:
            owner = other_user()
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self.user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self.data = self.folder / "data"
        command = [programs() / "initdb", "-D", self.data, "-A", "trust", "-U", "me", "-E", "UTF8", "--no-sync"]
        self._popen(command, self.folder / "initdb.log").wait(SECONDS)

    def start(self):
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.process = self._popen([programs() / "postgres", "-D", self.data, *options], self.folder / "log")
        wait_for(lambda: self.execute("SELECT 1"), self.process)

    def kill(self):
        """Stop the server as it stops where the machine loses its power: nobody is asked, nothing is tidied up."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(SECONDS)
            self.process = None

    def remove(self):
        self.kill()
        shutil.rmtree(self.folder)

    def database(self, template="template0"):
        """Create a database, a copy of the one at the URI `template`, and return its URI."""
        self.names += 1
        name, source = f"runs{self.names}", template.rpartition("/")[2]
        # What is connected cannot be copied; MLflow connects again.
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{source}'")
        self.execute(f"CREATE DATABASE {name} TEMPLATE {source}")
        return f"postgresql+psycopg2://me:secret@127.0.0.1:{self.port}/{name}"

    def execute(self, statement):
        import psycopg2

        try:
            connection = psycopg2.connect(host="127.0.0.1", port=self.port, user="me", dbname="postgres")
        except psycopg2.OperationalError as error:
            raise ConnectionError(str(error)) from error
        connection.autocommit = True
        connection.cursor().execute(statement)
        connection.close()

    def _popen(self, command, log):
        with log.open("wb") as file:
            return subprocess.Popen(
                [str(word) for word in command],
                cwd=self.folder,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt at the keyboard is pytest's, which stops the server
                **self.user,
            )


class Database:
    """A database of a PostgreSQL server as a place for runs."""

    def __init__(self, server, uri):
        self.server, self.uri = server, uri

    def start(self):
        if self.server.process is None:
            self.server.start()

    def kill(self):
        self.server.kill()


def wait_for(answers, process):
    """Wait until a server that starts answers."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            answers()
            return
        except OSError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.05)


def programs():
    """The folder of PostgreSQL's programs, of the newest version; None where there are none."""
    installed = Path("/usr/lib/postgresql").glob("*/bin")  # where Debian keeps them, outside the PATH
    newest = sorted(installed, key=lambda path: [int(part) for part in path.parent.name.split(".") if part.isdigit()])
    on_path = shutil.which("initdb")
    folders = [*([Path(on_path).resolve().parent] if on_path else []), *reversed(newest)]
    return next((f for f in folders if all(os.access(f / name, os.X_OK) for name in ("initdb", "postgres"))), None)


def other_user():
    """The user as whom root starts PostgreSQL, which refuses root; None where there is none."""
    import pwd

    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    return None


def no_postgres():
    """Why there can be no PostgreSQL server here; empty if there can."""
    if find_spec("psycopg2") is None:
        return "psycopg2, PostgreSQL's driver, is not installed: pip install '.[postgres]'"
    if sys.platform == "win32" or programs() is None:
        return "PostgreSQL's initdb and postgres are neither on the PATH nor in /usr/lib/postgresql"
    if os.geteuid() == 0 and other_user() is None:
        return "PostgreSQL does not run as root, and there is neither a user postgres nor nobody"
    return ""
