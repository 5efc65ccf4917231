"""Search for secrets in processes, database and files of a running Airflow."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool


def encodings_of(token: str) -> frozenset[bytes]:
    """Return a Control Hub token, its payload and the secret in the payload, each in several encodings."""
    payload = token.split(".")[1]
    content = json.loads(base64.b64decode(payload.replace("-", "+").replace("_", "/") + "=" * (-len(payload) % 4)))
    secrets = [token, payload, str(content["s"])]
    return frozenset(encoding for secret in secrets for encoding in _encodings(secret))


def _encodings(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw
    yield quote(secret, safe="").encode()
    yield json.dumps(secret)[1:-1].encode()
    yield secret.replace("/", "\\/").encode()
    yield raw.hex().encode()
    # Within a longer Base64 text, the secret can start at any of three offsets.
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + raw)
        # Omit groups that also depend on adjacent characters.
        complete = encoded[4 if offset else 0 : len(encoded) // 4 * 4 - 4]
        yield complete
        yield complete.replace(b"+", b"-").replace(b"/", b"_")


class LeakDetector:
    """
    Repeatedly scans command lines, environments and stored triggers while Airflow runs.

    :param home: Airflow's home
    :param database: SQLAlchemy URL of its database
    :param secrets: secrets that must not appear
    """

    def __init__(self, home: Path, database: str, secrets: Iterable[bytes]) -> None:
        self._home = home
        self._database = database
        self._secrets = frozenset(secrets)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._scan_repeatedly, daemon=True)
        self.scanned: Counter[str] = Counter()
        """Number of scanned values by kind."""
        self.stored_kwargs: set[str] = set()
        """Stored arguments of triggers."""
        self.leaks: set[str] = set()
        """Locations of detected secrets."""

    def __enter__(self) -> LeakDetector:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=30)

    def _scan_repeatedly(self) -> None:
        while not self._stopped.wait(1):
            self._scan_processes()
            self._scan_triggers()

    def _scan_processes(self) -> None:
        for process in psutil.process_iter():
            try:
                line = "\0".join([process.name(), *process.cmdline()])
                environment = process.environ()
            except (psutil.Error, OSError):
                continue
            self._check("command line", f"command line of process {process.pid}", line)
            if environment.get("AIRFLOW_HOME") == str(self._home):
                self._check("environment", f"environment of process {process.pid}", repr(environment))

    def _scan_triggers(self) -> None:
        try:
            for table, column, value in iterate_cells(self._database, only=("trigger",)):
                self._check("trigger", f"{table}.{column} while tasks were deferred", value)
                if column == "kwargs":
                    self.stored_kwargs.add(str(value))
        except SQLAlchemyError:
            # The database is busy, or has no tables yet; the next scan follows soon.
            return

    def _check(self, kind: str, where: str, value: Any) -> None:
        self.scanned[kind] += 1
        if contains_any(self._secrets, value):
            self.leaks.add(where)


def iterate_cells(database: str, only: Iterable[str] | None = None) -> Iterator[tuple[str, str, Any]]:
    """Yield table, column and value of all database cells that are not null."""
    engine = create_engine(database, poolclass=NullPool)
    with engine.connect() as connection:
        for table in only or inspect(connection).get_table_names():
            rows = connection.exec_driver_sql(f'SELECT * FROM "{table}"')
            for row in rows.mappings():
                yield from ((table, name, _raw(value)) for name, value in row.items() if value is not None)


def _raw(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def contains_any(secrets: Iterable[bytes], value: Any) -> bool:
    """Return whether a value contains one of the secrets."""
    content = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    return any(secret in content for secret in secrets)


def find_files(secrets: Iterable[bytes], folder: Path) -> tuple[dict[str, int], list[str]]:
    """Return the sizes of all files below a folder, and the names of files that contain a secret."""
    contents: Mapping[str, bytes] = {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    found = [name for name, content in contents.items() if contains_any(secrets, content)]
    return {name: len(content) for name, content in contents.items()}, found
