"""A process that only waits for runs, to measure the cost of waiting."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import IO, Any

import psutil

from tests.benchmarks.waiting.protocol import MARK, Event, Mark, Start, WaitRequest
from tests.benchmarks.waiting.strategies import Strategy


class Reporter:
    """
    Sends messages of the protocol.

    :param output: output stream
    """

    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self._lock = threading.Lock()

    def send(self, kind: str, **values: Any) -> None:
        with self._lock:
            print(json.dumps({"kind": kind, **values}), file=self._output, flush=True)

    def start(self, start: Start) -> None:
        """Report that all waits have started."""
        self.send("start", **asdict(start))

    def event(self, event: Event) -> None:
        """Report the end of a wait."""
        self.send("event", **asdict(event))


def main() -> None:
    """Wait as requested and respond to marks until standard input is closed."""
    reporter = Reporter(os.fdopen(os.dup(sys.stdout.fileno()), "w"))
    # Log lines are formatted and written, as in a triggerer, but discarded.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    request = WaitRequest.from_line(sys.stdin.readline())
    if request.strategy is Strategy.THREADS:
        from tests.benchmarks.waiting.sdk_threads import wait_in_threads

        before = Start(_memory())
        wait_in_threads(request, reporter.event, lambda: reporter.start(before))
        _answer_marks(reporter, lambda: 0.0)
    else:
        from tests.benchmarks.waiting.trigger_factory import create_triggers, parse_event
        from tests.benchmarks.waiting.triggerer import Triggerer

        triggerer = Triggerer(lambda payload: reporter.event(parse_event(payload)))
        threading.Thread(target=_answer_marks, args=(reporter, triggerer.longest_block), daemon=True).start()
        before = Start(_memory())
        triggers, count = create_triggers(request), len(request.runs)
        asyncio.run(triggerer.run(triggers, count, request.ramp, lambda: reporter.start(before)))


def _memory() -> int:
    return int(psutil.Process().memory_info().rss)


def _answer_marks(reporter: Reporter, longest_block: Callable[[], float]) -> None:
    for line in sys.stdin:
        if line.strip() == MARK:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            mark = Mark(usage.ru_utime + usage.ru_stime, _memory(), longest_block())
            reporter.send("mark", **asdict(mark))
    # The parent process has exited.
    os._exit(0)


if __name__ == "__main__":
    main()
