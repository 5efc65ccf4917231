"""
``make bench-triggerer``: what 1,000 deferred tasks cost, and how soon they are resumed, on a real triggerer.

What is started, each in processes of its own, and stopped at the end: the sandbox with one streaming job for each task;
a PostgreSQL server; and Airflow on it (api server, scheduler with the LocalExecutor, dag processor, triggerer), which
has the connection in its database. One DAG run waits for all jobs with a mapped, deferrable
``ControlHubJobRunSensor``, so that each task goes through a worker, as in real use.

Then, with nobody else at work: the requests that reach the sandbox, and the CPU of the triggerer, for some intervals.
Then many of the jobs are stopped at once, halfway between two looks, and it is measured how long after the end of its
run each trigger yields its event, and how long after it the database lets the task go on. At last, all these tasks must
succeed.

The triggerer's capacity is raised. To have all tasks deferred in minutes, many workers work at a time, and what each
would import anew is imported before they are forked. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from dev.local_airflow import LocalAirflow
from dev.local_postgres import LocalPostgres
from dev.local_sandbox import SandboxProcess
from tests.benchmarks.triggerer.deferred_tasks import DAGS, SETTINGS_VARIABLE, DeferredTasks
from tests.benchmarks.triggerer.phase import fair_moment
from tests.benchmarks.triggerer.plan import Plan
from tests.benchmarks.triggerer.processes import TriggererProcesses, Usage
from tests.benchmarks.triggerer.results import Delays, Result, document, table
from tests.benchmarks.triggerer.streams import DEACTIVATION, Streams, write_seed

_CONNECTION = "streamsets_default"
# Seconds that a worker may need for one task, on a slow machine.
_PATIENCE_PER_TASK = 3.0
_PATIENCE = 120.0
# Seconds to decide when the runs are to end.
_RESERVE = 3.0
_WIDTH = 110
_SETTINGS = {
    # Airflow's defaults again, which LocalAirflow shortens.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "5",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
    # A worker whose task has ended is free up to five seconds later, and costs nothing meanwhile.
    "AIRFLOW__CORE__PARALLELISM": "20",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
    "AIRFLOW__LOGGING__JSON_LOGS": "True",
}
# Airflow imports this file in all its processes, and the LocalExecutor forks its workers from the scheduler.
_LOCAL_SETTINGS = """
import sys

if "scheduler" in sys.argv:
    import airflow.sdk.execution_time.task_runner
    import airflow_provider_streamsets.hooks.control_hub
    import airflow_provider_streamsets.sensors.runs
    import airflow_provider_streamsets.triggers.runs
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-triggerer", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/bench-triggerer.json"), help="where to write results")
    parser.add_argument("--waits", type=int, default=1000, help="number of deferred tasks")
    parser.add_argument("--finishing", type=int, default=500, help="how many of the runs end at once")
    parser.add_argument("--interval", type=float, default=30, help="seconds between two looks")
    parser.add_argument("--intervals", type=int, default=3, help="for how many intervals requests are counted")
    parser.add_argument(
        "--keep", type=Path, help="an empty folder for Airflow's home with its logs, which is then kept"
    )
    options = parser.parse_args(arguments)
    plan = Plan(options.waits, options.finishing, options.interval, options.intervals)
    # Whoever ends this process ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    with _folder(options.keep) as folder:
        result = _Measurement(plan, folder, Console(stderr=True, highlight=False)).run()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table(result))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document(result), indent=2) + "\n", encoding="utf-8")
    console.print(f"Measured in {time.monotonic() - began:.0f} s; every figure is in {options.json}.")
    return 0 if all(result.goals.values()) else 1


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="bench-triggerer-") as folder:
        yield Path(folder)


class _Measurement:
    def __init__(self, plan: Plan, folder: Path, console: Console) -> None:
        self._plan = plan
        self._folder = folder
        self._console = console
        self._took: dict[str, float] = {}
        self._status = console.status("")

    def run(self) -> Result:
        _allow_open_files(4 * self._plan.waits)
        with (
            SandboxProcess(seed=write_seed(self._folder / "seed.json", self._plan.waits)) as sandbox,
            LocalPostgres() as postgres,
        ):
            streams = Streams(sandbox)
            settings = self._folder / "settings.json"
            settings.write_text(json.dumps({"interval": self._plan.interval, "job_ids": streams.job_ids}), "utf-8")
            home = self._folder / "airflow"
            (home / "config").mkdir(parents=True)
            (home / "config" / "airflow_local_settings.py").write_text(_LOCAL_SETTINGS, "utf-8")
            environment = {
                **_SETTINGS,
                "AIRFLOW__TRIGGERER__CAPACITY": str(2 * self._plan.waits),
                SETTINGS_VARIABLE: str(settings),
            }
            with LocalAirflow(home, DAGS, environment, database=postgres.url) as airflow:
                with self._part("start"):
                    streams.start()
                    airflow.start(_PATIENCE)
                    airflow.api(
                        "POST", "/connections", {"connection_id": _CONNECTION, **json.loads(sandbox.airflow_conn)}
                    )
                tasks = DeferredTasks(airflow, postgres.url, streams.job_ids)
                return self._measure(streams, airflow, tasks)

    def _measure(self, streams: Streams, airflow: LocalAirflow, tasks: DeferredTasks) -> Result:
        plan = self._plan
        processes = TriggererProcesses(airflow.pid("triggerer"))
        with self._part("idle"):
            idle = self._used(processes, plan.interval)
        with self._part("defer"):
            tasks.start()
            tasks.wait_for("deferred", plan.waits, _PATIENCE + plan.waits * _PATIENCE_PER_TASK, self._show)
        with self._part("settle"):
            # For the last worker to end, and the feed to find its rhythm.
            time.sleep(2 * plan.interval)
        with self._part("wait"):
            streams.forget_requests()
            waiting = self._used(processes, plan.seconds)
            requests, looks = streams.requests(), streams.looks()
        stopped = streams.job_ids[:: plan.waits // plan.finishing][: plan.finishing]
        end = fair_moment(looks, plan.interval, earliest=time.time() + _RESERVE)
        with self._part("finish"):
            time.sleep(end - DEACTIVATION - time.time())
            ended = streams.stop(stopped)
            tasks.wait_for("deferred", plan.waits - plan.finishing, 4 * plan.interval + _PATIENCE, self._show)
        with self._part("resume"):
            tasks.wait_for("success", plan.finishing, _PATIENCE + plan.finishing * _PATIENCE_PER_TASK, self._show)
        fired, released = tasks.fired_at(), tasks.released_at()
        return Result(
            plan=plan,
            idle=idle,
            waiting=waiting,
            requests=requests,
            finish_spread=max(ended.values()) - min(ended.values()),
            to_event=Delays([fired.get(job_id, float("inf")) - end for job_id, end in ended.items()]),
            to_database=Delays([released[job_id] - end for job_id, end in ended.items()]),
            states=tasks.states(),
            tries=tasks.tries(),
            took=self._took,
        )

    @staticmethod
    def _used(processes: TriggererProcesses, seconds: float) -> dict[str, Usage]:
        before = processes.usage()
        time.sleep(seconds)
        return {name: usage.since(before[name]) for name, usage in processes.usage().items()}

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        with self._console.status(name) as self._status:
            yield
        self._took[name] = time.monotonic() - began
        self._console.print(f"{name}: {self._took[name]:.0f} s")

    def _show(self, states: Counter[str]) -> None:
        self._status.update(", ".join(f"{count} {state}" for state, count in states.items()))


def _allow_open_files(number: int) -> None:
    # The triggerer's supervisor keeps a log file open for each trigger, and the usual limit is 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (number if hard == resource.RLIM_INFINITY else min(number, hard), hard)
        )


if __name__ == "__main__":
    sys.exit(main())
