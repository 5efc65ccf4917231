"""
A PostgreSQL server on this machine, from Debian's package, for an Airflow that SQLite would slow down.

What is started: one server with an empty database, in a new temporary folder, as the package's user ``postgres`` where
this process is root, whom PostgreSQL refuses. It listens on a unix socket in that folder only, which nobody else may
enter, and so needs neither a port nor a password. The server of the machine, if there is one, is left alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess  # nosec B404 # runs programs of this project and its tools
import tempfile
from pathlib import Path

# Where Debian and Ubuntu put the programs of each version, which are not on the path.
INSTALLATIONS = Path("/usr/lib/postgresql")
_ACCOUNT = "postgres"
_DATABASE = "airflow"
# What is stored need not survive a power cut.
_OPTIONS = {
    "listen_addresses": "",
    "max_connections": "200",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class LocalPostgresError(Exception):
    """PostgreSQL is missing, or has refused to do something; the message says what it printed."""


class LocalPostgres:
    """
    A running PostgreSQL server; ``start`` it, or use it as a context manager.

    :param installations: folder with a folder for each installed version, of which the newest is taken
    :raises LocalPostgresError: if there is none
    """

    def __init__(self, installations: Path = INSTALLATIONS) -> None:
        self._programs = _newest_programs(installations)
        self._folder: Path | None = None

    @property
    def url(self) -> str:
        """Where the database is, as SQLAlchemy and Airflow take it."""
        return f"postgresql+psycopg2://{_ACCOUNT}@/{_DATABASE}?host={self.folder}"

    @property
    def folder(self) -> Path:
        """The folder of socket, data and log, as long as the server runs."""
        if self._folder is None:
            raise LocalPostgresError("The server is not running.")
        return self._folder

    def start(self) -> LocalPostgres:
        """Make the folder and the database, and return when the server takes connections."""
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

    def stop(self) -> None:
        """Stop the server, and delete its folder."""
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
        # Not a pipe: the server would hold it open.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(  # nosec B603 # no shell, and arguments of our own
                [str(self._programs / program), *arguments],
                env={**os.environ, "PGDATA": str(self._data), "LC_ALL": "C"},
                cwd=self.folder,
                user=_ACCOUNT if as_root else None,
                group=_ACCOUNT if as_root else None,
                extra_groups=[] if as_root else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # In a session of its own, the server does not get the interrupt that is meant for this process.
                start_new_session=True,
                check=False,
            )
            if done.returncode:
                output.seek(0)
                log = self._log.read_text(errors="replace") if self._log.exists() else ""
                raise LocalPostgresError(f"'{program}' has failed:\n{output.read().decode(errors='replace')}{log}")


def _newest_programs(installations: Path) -> Path:
    found = [path.parent for path in installations.glob("*/bin/initdb") if (path.parent / "postgres").exists()]
    if not found:
        raise LocalPostgresError(
            f"There is no PostgreSQL in {installations}. Install Debian's package: apt-get install postgresql"
        )
    return max(found, key=lambda programs: float(programs.parent.name))
