"""
A local PostgreSQL server from Debian's package, for Airflow workloads that are too slow with SQLite.

Starts one server with an empty database in a new temporary folder. Because PostgreSQL refuses to run as root, a root
process starts it as the package's user ``postgres``. The server listens only on a Unix socket in that folder, which is
private, so it needs neither a port nor a password. An existing PostgreSQL server of the machine is not affected.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess  # nosec B404 # runs only programs of this project
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dev.local_airflow import sqlite_url

# Debian and Ubuntu install the programs of each version here, outside the PATH.
INSTALLATIONS = Path("/usr/lib/postgresql")
_ACCOUNT = "postgres"
_DATABASE = "airflow"
# Commits have to survive a restart of the server, but not one of the machine.
_OPTIONS = {
    "listen_addresses": "",
    "max_connections": "200",
    "fsync": "off",
    "full_page_writes": "off",
}


class LocalPostgresError(Exception):
    """PostgreSQL is not installed, or one of its programs failed; the message contains the output."""


class LocalPostgres:
    """
    A PostgreSQL server; call ``start`` or use it as a context manager.

    :param installations: folder with a subfolder for each installed version, of which the newest is used
    :raises LocalPostgresError: if PostgreSQL is not installed
    """

    def __init__(self, installations: Path = INSTALLATIONS) -> None:
        self._programs = _newest_programs(installations)
        self._folder: Path | None = None

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database."""
        return f"postgresql+psycopg2://{_ACCOUNT}@/{_DATABASE}?host={self.folder}"

    @property
    def folder(self) -> Path:
        """Folder with socket, data and log of the running server."""
        if self._folder is None:
            raise LocalPostgresError("The server is not running.")
        return self._folder

    def start(self) -> LocalPostgres:
        """Create folder and database, and wait until the server accepts connections."""
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        try:
            if os.geteuid() == 0:
                shutil.chown(self._folder, _ACCOUNT, _ACCOUNT)
            self._run("initdb", "--username", _ACCOUNT, "--auth", "trust", "--encoding", "UTF8", "--no-sync")
            options = {**_OPTIONS, "unix_socket_directories": str(self._folder)}
            settings = " ".join(f"-c {name}='{value}'" for name, value in options.items())
            self._run("pg_ctl", "start", "--wait", "--log", str(self._log), "--options", settings)
            self._run("createdb", "--host", str(self._folder), "--username", _ACCOUNT, _DATABASE)
        except BaseException:
            self.stop()
            raise
        return self

    def restart(self) -> None:
        """Interrupt all connections and restart the server; it then recovers as after a crash."""
        self._run("pg_ctl", "restart", "--wait", "--mode", "immediate", "--log", str(self._log))

    def stop(self) -> None:
        """Stop the server and delete its folder."""
        if self._folder is None:
            return
        try:
            if (self._data / "postmaster.pid").exists():
                self._run("pg_ctl", "stop", "--wait", "--mode", "immediate")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> LocalPostgres:
        return self.start() if self._folder is None else self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _run(self, program: str, *arguments: str) -> None:
        as_root = os.geteuid() == 0
        # The server would keep a pipe open.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(  # nosec B603 # no shell, trusted arguments
                [str(self._programs / program), *arguments],
                env={**os.environ, "PGDATA": str(self._data), "LC_ALL": "C"},
                cwd=self.folder,
                user=_ACCOUNT if as_root else None,
                group=_ACCOUNT if as_root else None,
                extra_groups=[] if as_root else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A separate session protects the server from interrupts sent to this process.
                start_new_session=True,
                check=False,
            )
            if done.returncode:
                output.seek(0)
                log = self._log.read_text(errors="replace") if self._log.exists() else ""
                raise LocalPostgresError(f"'{program}' failed:\n{output.read().decode(errors='replace')}{log}")


@contextlib.contextmanager
def database_url(home: Path) -> Iterator[str]:
    """Yield the SQLAlchemy URL of an empty database: in PostgreSQL if it is installed, else in SQLite in a folder."""
    try:
        server = LocalPostgres()
    except LocalPostgresError:
        yield sqlite_url(home)
        return
    with server:
        yield server.url


def _newest_programs(installations: Path) -> Path:
    found = [path.parent for path in installations.glob("*/bin/initdb") if (path.parent / "postgres").exists()]
    if not found:
        raise LocalPostgresError(
            f"PostgreSQL not found in {installations}. Install Debian's package: apt-get install postgresql"
        )
    return max(found, key=lambda programs: float(programs.parent.name))
