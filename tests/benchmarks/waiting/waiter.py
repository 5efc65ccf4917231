"""A process that does nothing but wait for runs, so that what it needs is what waiting needs."""

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

from tests.benchmarks.waiting.contenders import Contender
from tests.benchmarks.waiting.orders import MARK, Event, Mark, Orders, Start


class Reports:
    """
    What the process tells.

    :param output: where to
    """

    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self._lock = threading.Lock()

    def tell(self, kind: str, **values: Any) -> None:
        with self._lock:
            print(json.dumps({"kind": kind, **values}), file=self._output, flush=True)

    def start(self, start: Start) -> None:
        """Tell that all waits have begun."""
        self.tell("start", **asdict(start))

    def event(self, event: Event) -> None:
        """Tell that a wait has ended."""
        self.tell("event", **asdict(event))


def main() -> None:
    """Wait as ordered, and answer marks, until standard input ends."""
    reports = Reports(os.fdopen(os.dup(sys.stdout.fileno()), "w"))
    # What is logged is formatted and written, as in a triggerer, but read by nobody.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    orders = Orders.of_line(sys.stdin.readline())
    if orders.contender is Contender.THREADS:
        from tests.benchmarks.waiting.sdk_threads import wait_in_threads

        before = Start(_memory())
        wait_in_threads(orders, reports.event, lambda: reports.start(before))
        _answer_marks(reports, lambda: 0.0)
    else:
        from tests.benchmarks.waiting.many_triggers import event_of, triggers_for
        from tests.benchmarks.waiting.triggerer import Triggerer

        triggerer = Triggerer(lambda payload: reports.event(event_of(payload)))
        threading.Thread(target=_answer_marks, args=(reports, triggerer.longest_block), daemon=True).start()
        before = Start(_memory())
        triggers, count = triggers_for(orders), len(orders.runs)
        asyncio.run(triggerer.run(triggers, count, orders.ramp, lambda: reports.start(before)))


def _memory() -> int:
    return int(psutil.Process().memory_info().rss)


def _answer_marks(reports: Reports, longest_block: Callable[[], float]) -> None:
    for line in sys.stdin:
        if line.strip() == MARK:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            mark = Mark(usage.ru_utime + usage.ru_stime, _memory(), longest_block())
            reports.tell("mark", **asdict(mark))
    # Whoever has ordered is gone.
    os._exit(0)


if __name__ == "__main__":
    main()
