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

from tests.benchmarks.waiting.protocol import MARK, Event, Mark, Start, WaitedRun, WaitRequest
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
        _answer_marks(reporter, lambda: 0.0, lambda: 0)
    else:
        from tests.benchmarks.waiting.trigger_factory import create_trigger, create_triggers, parse_event
        from tests.benchmarks.waiting.triggerer import Triggerer

        names = {run.job_id: run.job_name for run in request.runs}
        run_counts = {run.job_id: run.run_count for run in request.runs}

        def on_event(payload: Any) -> Any:
            event = parse_event(payload)
            reporter.event(event)
            if not request.renew:
                return None
            run_counts[event.job_id] += 1
            return create_trigger(request, WaitedRun(event.job_id, names[event.job_id], run_counts[event.job_id]))

        triggerer = Triggerer(on_event)
        arguments = reporter, triggerer.longest_block, triggerer.tasks
        threading.Thread(target=_answer_marks, args=arguments, daemon=True).start()
        before = Start(_memory())
        triggers, count = create_triggers(request), len(request.runs)
        asyncio.run(triggerer.run(triggers, count, request.ramp, lambda: reporter.start(before)))


def _memory() -> int:
    return int(psutil.Process().memory_info().rss)


def _answer_marks(reporter: Reporter, longest_block: Callable[[], float], tasks: Callable[[], int]) -> None:
    process = psutil.Process()
    for line in sys.stdin:
        if line.strip() == MARK:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            cpu = usage.ru_utime + usage.ru_stime
            mark = Mark(cpu, _memory(), longest_block(), process.num_threads(), process.num_fds(), tasks())
            reporter.send("mark", **asdict(mark))
    # The parent process has exited.
    os._exit(0)


if __name__ == "__main__":
    main()
