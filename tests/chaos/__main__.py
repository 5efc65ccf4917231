"""
``make chaos``: each run is started exactly once and never lost, whatever dies.

What is started, each in processes of its own, and stopped at the end: the sandbox, with its state in a file; PostgreSQL
where it is installed; and Airflow on it (api server, scheduler with the LocalExecutor, dag processor, triggerer). One
DAG run has hundreds of tasks, on workers and deferred, most of them with a job of its own: tasks that run one job,
several jobs or the instances of a template, whose jobs or instances fail at first or always, that join runs of others
or wait for their ends. Others start the same jobs at the same time, in bulk and singly, or wait together for one job.
All of them have one credential.

Meanwhile, requests to the sandbox go wrong in all ways that it knows, before and after they have had their effect; and
processes are killed with SIGKILL: those of tasks, workers, the triggerer, the scheduler with and without its workers,
and the sandbox. In the lulls between, a person marks tasks failed and clears them; others at any time between tries.
Then all faults end, every task must come to its end, and the sandbox's logs of starts and stops are compared with what
the tasks say. The exit code is 1 if a promise is broken.

All processes of Airflow name the task instance that they work for in a header, which the sandbox keeps with each start
and stop. Control Hub itself knows but the user. So there is one thing that a task cannot know: if its start call ends
without an answer while another task starts the same job, the run can be either's. Such cases follow from the sandbox's
logs of faults and starts; they are told, and break no promise.

The same seed makes the same plan. When something is killed is a matter of wall time, so what exactly it meets differs
from one time to the other.

What cannot be promised is kept out: a person ends a task only while its worker or triggerer is there to hear of it, as
Airflow tells nobody else, and a task on a worker only while no request goes wrong, as a killed worker has five seconds
for one; and tasks have more retries than they can lose, as nobody comes after the last try.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tests.chaos.performance import perform
from tests.chaos.plan import LONG, SHORT, Kind, Size, make_plan
from tests.chaos.table import table, told, told_ambiguities

_WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a plan, print what has come of it, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="make chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="another one makes another plan")
    parser.add_argument("--runs", type=int, default=LONG.runs, help="number of logical runs, at least")
    parser.add_argument(
        "--minutes", type=float, default=LONG.minutes, help="for how long things are killed, at the most"
    )
    parser.add_argument("--keep", type=Path, help="an empty folder for all files and logs, which is then kept")
    parser.add_argument(
        "--late", type=float, default=LONG.late, help="how many seconds late start calls are delivered after a time-out"
    )
    kinds = ", ".join(kind.value for kind in Kind)
    parser.add_argument(
        "--kinds", nargs="+", type=Kind, default=LONG.kinds, help=f"only tasks of these kinds: {kinds}", metavar="KIND"
    )
    parser.add_argument("--short", action="store_true", help=f"{SHORT.runs} runs, {SHORT.minutes:g} minutes")
    options = parser.parse_args(arguments)
    size = SHORT if options.short else Size(options.runs, options.minutes, options.late, options.kinds)
    # Whoever ends this process ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    plan = make_plan(options.seed, size)
    progress = Console(stderr=True, highlight=False)
    with _folder(options.keep) as folder, progress.status("") as status:
        result = perform(plan, folder, show=status.update)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    for line in (*told_ambiguities(result), *told(result)):
        console.print(line, markup=False, soft_wrap=True)
    console.print(table(result))
    console.print(f"Took {time.monotonic() - began:.0f} s in all.")
    return 1 if result.violations else 0


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
