"""
``make chaos``, ``make chaos-cluster``: verifies exactly-once starts while processes are killed and requests fail.

Starts the sandbox with a state file, PostgreSQL (SQLite if PostgreSQL is not installed), and Airflow with API server,
scheduler (LocalExecutor), DAG processor and triggerer, each in its own process, and stops them at the end. One DAG run
contains hundreds of tasks, synchronous and deferrable. Most tasks have their own job. They run a single job, several
jobs or the instances of a template; their jobs or instances succeed, fail in some tries or always fail; some join or
wait for an existing run. Other tasks start the same jobs concurrently, in bulk and singly, or wait for the same job.
All tasks share one credential.

Meanwhile, the sandbox injects every fault it supports, before and after the request takes effect, and processes are
killed with SIGKILL: task processes, workers, the triggerer, the scheduler with and without its workers, and the
sandbox. During pauses between kills, simulated users mark tasks failed and clear them; some tasks are marked or cleared
between two tries. Afterwards all faults are removed, every task must finish, and the sandbox's start and stop logs are
compared with the task results. The exit code is 1 if a guarantee is violated.

Every Airflow process sends its task instance in a header, which the sandbox stores with each start and stop. A real
Control Hub only knows the user. This leaves one ambiguity: if a start call returns no response while another task
starts the same job, the run may belong to either task. These cases are derived from the sandbox's fault and start logs.
They are reported separately and do not count as violations.

The same seed produces the same plan. Kills are scheduled in wall-clock time, so their exact effect varies between runs.

``make chaos-cluster`` does the same with Airflow as a cluster (CeleryExecutor, two schedulers, triggerers and workers,
see ``tests/chaos/cluster.py``) and with further faults: one of two components is killed, a triggerer is paused until
the other has taken over its triggers, a triggerer loses Control Hub, Redis and PostgreSQL are restarted, and all
components are upgraded from an earlier version of the provider, one after another.

Excluded, because it cannot be guaranteed: users end a task only while its worker or triggerer is alive, since Airflow
notifies no other process; they end a synchronous task only while no faults are injected, since a killed worker has five
seconds to send one request; and tasks have more retries than they can lose, since no process cleans up after the last
try.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.chaos.plan import CLUSTER, CLUSTER_SHORT, LONG, SHORT, Kind, Size, make_plan
from tests.chaos.report import describe_ambiguities, describe_violations, result_table
from tests.chaos.runner import run_plan

_WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a plan, print the results, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="make chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the plan")
    parser.add_argument("--runs", type=int, help="minimum number of logical runs")
    parser.add_argument("--minutes", type=float, help="maximum duration of the kill phases, in minutes")
    parser.add_argument("--keep", type=Path, help="empty folder in which to keep all files and logs")
    parser.add_argument("--late", type=float, help="delay of late start calls after a time-out, in seconds")
    kinds = ", ".join(kind.value for kind in Kind)
    parser.add_argument(
        "--kinds",
        nargs="+",
        type=Kind,
        help=f"restrict to these task kinds: {kinds}",
        metavar="KIND",
    )
    parser.add_argument("--cluster", action="store_true", help="run Airflow as a cluster, see tests.chaos.cluster")
    parser.add_argument("--short", action="store_true", help="fewer runs, and less than two minutes of kills")
    options = parser.parse_args(arguments)
    size = _size(options)
    # SIGTERM also stops all child processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    plan = make_plan(options.seed, size)
    progress = Console(stderr=True, highlight=False)
    with _folder(options.keep) as folder, progress.status("") as status:
        result = run_plan(plan, folder, on_progress=status.update)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    for line in (*describe_ambiguities(result), *describe_violations(result)):
        console.print(line, markup=False, soft_wrap=True)
    console.print(result_table(result))
    console.print(f"Total duration: {time.monotonic() - began:.0f} s.")
    return 1 if result.violations else 0


def _size(options: argparse.Namespace) -> Size:
    """Return the size of one of the four forms, with the options that are given."""
    long, short = (CLUSTER, CLUSTER_SHORT) if options.cluster else (LONG, SHORT)
    given = {name: getattr(options, name) for name in ("runs", "minutes", "late", "kinds")}
    return replace(
        short if options.short else long, **{name: value for name, value in given.items() if value is not None}
    )


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
