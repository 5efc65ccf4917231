"""Start and query a waiter process."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from types import TracebackType
from typing import IO, Any

from tests.benchmarks.measurement import BenchmarkError
from tests.benchmarks.waiting.protocol import MARK, Event, Mark, Start, WaitRequest

_TIMEOUT = 180.0


class WaiterProcess:
    """
    A process that waits for runs; a context manager.

    :param request: the request
    """

    def __init__(self, request: WaitRequest) -> None:
        self._request = request
        self._exits = contextlib.ExitStack()
        self._marks: queue.Queue[Mark] = queue.Queue()
        self._starts: queue.Queue[Start] = queue.Queue()
        self._events: dict[str, Event] = {}
        self._duplicates: list[str] = []
        self.ended = 0
        """Number of waits that have ended."""

    def __enter__(self) -> WaiterProcess:
        """Start the process without waiting until all waits have started."""
        home = self._exits.enter_context(tempfile.TemporaryDirectory(prefix="bench-waiting-"))
        self._errors = self._exits.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.waiting.waiter"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**kept, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        )
        self._exits.callback(self._end)
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        self._send(self._request.to_line())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            values: dict[str, Any] = json.loads(line)
            kind = values.pop("kind")
            if kind == "start":
                self._starts.put(Start(**values))
            elif kind == "mark":
                self._marks.put(Mark(**values))
            else:
                event = Event(**values)
                if event.job_id in self._events and not self._request.renew:
                    self._duplicates.append(event.job_id)
                self._events[event.job_id] = event
                self.ended += 1

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait_until_started(self) -> Start:
        """
        Wait until all waits have started.

        :raises BenchmarkError: on a timeout
        """
        try:
            return self._starts.get(timeout=self._request.ramp + _TIMEOUT)
        except queue.Empty:
            raise self._failure("The waits did not start in time.") from None

    def mark(self) -> Mark:
        """
        Return the resource usage of the process.

        :raises BenchmarkError: on a timeout
        """
        self._send(MARK)
        try:
            return self._marks.get(timeout=_TIMEOUT)
        except queue.Empty:
            raise self._failure("The waiter process does not respond.") from None

    @property
    def events(self) -> dict[str, Event]:
        """
        The events so far, by job id.

        :raises BenchmarkError: if a wait has reported its end twice
        """
        if self._duplicates:
            raise self._failure(f"{len(self._duplicates)} waits reported their end more than once.")
        return dict(self._events)

    def wait_for_events(self, count: int, timeout: float) -> dict[str, Event]:
        """Wait for a number of events, up to the timeout, and return the events by job id."""
        deadline = time.monotonic() + timeout
        while len(self._events) < count and time.monotonic() < deadline and self._process.poll() is None:
            time.sleep(0.05)
        return self.events

    def _failure(self, message: str) -> BenchmarkError:
        self._errors.seek(0)
        return BenchmarkError(f"{message} Its standard error:\n{self._errors.read()[-4000:]}")
