"""
A local Redis server from Debian's package, as the broker of Airflow's CeleryExecutor.

Starts one server with an empty database in a new temporary folder. The server listens only on a Unix socket in that
folder, which is private, so it needs neither a port nor a password. An existing Redis server of the machine is not
affected.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess  # nosec B404 # runs only programs of this project
import tempfile
import time
from pathlib import Path

PROGRAM = "redis-server"
_TIMEOUT = 30.0
_OPTIONS = ("--port", "0", "--save", "", "--appendonly", "yes", "--daemonize", "no")


class LocalRedisError(Exception):
    """Redis is not installed, or the server did not start; the message contains the output."""


class LocalRedis:
    """
    A Redis server that keeps its data across restarts; call ``start`` or use it as a context manager.

    :param program: name of the server's program
    :raises LocalRedisError: if Redis is not installed
    """

    def __init__(self, program: str = PROGRAM) -> None:
        found = shutil.which(program)
        if found is None:
            raise LocalRedisError(
                f"'{program}' not found in the PATH. Install Debian's package: apt-get install redis-server"
            )
        self._program = found
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """URL of the database, as a broker of Celery."""
        return f"redis+socket://{self._socket}"

    @property
    def folder(self) -> Path:
        """Folder with socket, data and log of the running server."""
        if self._folder is None:
            raise LocalRedisError("The server is not running.")
        return self._folder

    @property
    def _socket(self) -> Path:
        return self.folder / "redis.sock"

    def start(self) -> LocalRedis:
        """Create the folder, and wait until the server accepts connections."""
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        try:
            self._start_server()
        except BaseException:
            self.stop()
            raise
        return self

    def restart(self) -> None:
        """Kill the server without warning, and restart it with its data."""
        self._kill()
        self._start_server()

    def stop(self) -> None:
        """Stop the server and delete its folder."""
        self._kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> LocalRedis:
        return self.start() if self._folder is None else self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_server(self) -> None:
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # nosec B603 # no shell, trusted arguments
                [self._program, *_OPTIONS, "--dir", str(self.folder), "--unixsocket", str(self._socket)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A separate session protects the server from interrupts sent to this process.
                start_new_session=True,
            )
        deadline = time.monotonic() + _TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LocalRedisError(f"'{PROGRAM}' did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.settimeout(_TIMEOUT)
            client.connect(str(self._socket))
            client.sendall(b"PING\r\n")
            # While it loads its data, the answer is an error.
            return client.recv(16).startswith(b"+PONG")
        return False

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
