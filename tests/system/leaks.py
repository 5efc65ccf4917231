"""Looking for secrets in all that a running Airflow shows and leaves behind."""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil


def forms_of(token: str) -> frozenset[bytes]:
    """Return what would give a token of Control Hub away: it, its payload, the secret in that, and codings of them."""
    payload = token.split(".")[1]
    inside = json.loads(base64.b64decode(payload.replace("-", "+").replace("_", "/") + "=" * (-len(payload) % 4)))
    secrets = [token, payload, str(inside["s"])]
    return frozenset(form for secret in secrets for form in _codings(secret))


def _codings(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw
    yield quote(secret, safe="").encode()
    yield json.dumps(secret)[1:-1].encode()
    yield secret.replace("/", "\\/").encode()
    yield raw.hex().encode()
    # As a part of something that is coded as a whole, it can begin at any of three places.
    for before in range(3):
        coded = base64.b64encode(b"x" * before + raw)
        # Without what its neighbours have a part in.
        whole = coded[4 if before else 0 : len(coded) // 4 * 4 - 4]
        yield whole
        yield whole.replace(b"+", b"-").replace(b"/", b"_")


class LeakWatch:
    """
    Looks, again and again while Airflow works, at command lines, environments and what is stored for waiting tasks.

    :param home: home of the Airflow, with its SQLite database
    :param secrets: what must not be seen
    """

    def __init__(self, home: Path, secrets: Iterable[bytes]) -> None:
        self._home = home
        self._secrets = frozenset(secrets)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look_again_and_again, daemon=True)
        self.seen: Counter[str] = Counter()
        """How much was looked at, by kind."""
        self.stored: set[str] = set()
        """What was stored for triggers."""
        self.leaks: set[str] = set()
        """Where something was seen."""

    def __enter__(self) -> LeakWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(timeout=30)

    def _look_again_and_again(self) -> None:
        while not self._is_over.wait(1):
            self._look_at_processes()
            self._look_at_triggers()

    def _look_at_processes(self) -> None:
        for process in psutil.process_iter():
            try:
                line = "\0".join([process.name(), *process.cmdline()])
                environment = process.environ()
            except (psutil.Error, OSError):
                continue
            self._judge("command line", f"command line of process {process.pid}", line)
            if environment.get("AIRFLOW_HOME") == str(self._home):
                self._judge("environment", f"environment of process {process.pid}", repr(environment))

    def _look_at_triggers(self) -> None:
        try:
            for table, column, value in cells(self._home, only=("trigger",)):
                self._judge("trigger", f"{table}.{column} while tasks were deferred", value)
                if column == "kwargs":
                    self.stored.add(str(value))
        except sqlite3.Error:
            # It is busy; there is another look soon.
            return

    def _judge(self, kind: str, where: str, value: Any) -> None:
        self.seen[kind] += 1
        if holds_one_of(self._secrets, value):
            self.leaks.add(where)


def cells(home: Path, only: Iterable[str] | None = None) -> Iterator[tuple[str, str, Any]]:
    """Yield table, column and value of all that the database holds."""
    with closing(sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True, timeout=2)) as database:
        database.text_factory = bytes
        tables = only or [
            name.decode() for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            rows = database.execute(f'SELECT * FROM "{table}"')
            names = [str(column[0]) for column in rows.description]
            for row in rows.fetchall():
                yield from ((table, name, value) for name, value in zip(names, row, strict=True) if value is not None)


def holds_one_of(secrets: Iterable[bytes], value: Any) -> bool:
    """Return whether a value gives one of the secrets away."""
    content = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    return any(secret in content for secret in secrets)


def files_with(secrets: Iterable[bytes], folder: Path) -> tuple[dict[str, int], list[str]]:
    """Return the sizes of all files below a folder, and those that hold one of the secrets."""
    contents: Mapping[str, bytes] = {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    found = [name for name, content in contents.items() if holds_one_of(secrets, content)]
    return {name: len(content) for name, content in contents.items()}, found
