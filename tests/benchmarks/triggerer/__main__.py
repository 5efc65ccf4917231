"""
``make bench-triggerer``: measures cost and resume latency of 1,000 deferred tasks on a real triggerer.

Starts the sandbox with one streaming job for each task, PostgreSQL, and Airflow with API server, scheduler
(LocalExecutor), DAG processor and triggerer, each in its own process, and stops them at the end. The connection is
stored in Airflow's database. One DAG run waits for all jobs with a mapped, deferrable ``ControlHubJobRunSensor``, so
that each task passes through a worker, as in real use.

With all tasks deferred, it measures the requests to the sandbox and the CPU time of the triggerer over several
intervals. Then many jobs are stopped at once, halfway between two polls, and it measures the time from the end of each
run to the trigger's event, to the scheduling of the task in the database, and to its success on a worker.

The triggerer's capacity is raised. To defer all tasks within minutes, many workers run concurrently, and their common
imports are loaded before they are forked. The exit code is 1 if a goal is missed.
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

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import LocalAirflow
from dev.local_postgres import LocalPostgres
from tests.benchmarks.triggerer.deferred_tasks import DAGS, SETTINGS_VARIABLE, DeferredTasks
from tests.benchmarks.triggerer.finish_time import unbiased_finish_time
from tests.benchmarks.triggerer.plan import Plan
from tests.benchmarks.triggerer.processes import TriggererProcesses, Usage
from tests.benchmarks.triggerer.results import Delays, Result, document, table
from tests.benchmarks.triggerer.streams import DEACTIVATION, Streams, write_seed

_CONNECTION = "streamsets_default"
# Seconds per task that a worker needs on a slow machine.
_TIMEOUT_PER_TASK = 3.0
_TIMEOUT = 120.0
# Seconds of lead time for choosing the end of the runs.
_LEAD_TIME = 3.0
_WIDTH = 110
_SETTINGS = {
    # Restore Airflow's defaults, which LocalAirflow shortens.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "5",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
    # A worker becomes available up to five seconds after its task and is idle until then.
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
    """Run the benchmark, report the results, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-triggerer", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/bench-triggerer.json"), help="output file")
    parser.add_argument("--waits", type=int, default=1000, help="number of deferred tasks")
    parser.add_argument("--finishing", type=int, default=500, help="number of runs that end at once")
    parser.add_argument("--interval", type=float, default=30, help="poll interval in seconds")
    parser.add_argument("--intervals", type=int, default=3, help="number of intervals in which requests are counted")
    parser.add_argument("--keep", type=Path, help="empty folder in which to keep Airflow's home and logs")
    options = parser.parse_args(arguments)
    plan = Plan(options.waits, options.finishing, options.interval, options.intervals)
    # SIGTERM also stops all child processes.
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
    console.print(f"Measured in {time.monotonic() - began:.0f} s. All figures are in {options.json}.")
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
        self._durations: dict[str, float] = {}
        self._status = console.status("")

    def run(self) -> Result:
        _raise_open_file_limit(4 * self._plan.waits)
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
                with self._phase("start"):
                    streams.start()
                    airflow.start(_TIMEOUT)
                    airflow.api(
                        "POST", "/connections", {"connection_id": _CONNECTION, **json.loads(sandbox.airflow_conn)}
                    )
                tasks = DeferredTasks(airflow, postgres.url, streams.job_ids)
                return self._measure(streams, airflow, tasks)

    def _measure(self, streams: Streams, airflow: LocalAirflow, tasks: DeferredTasks) -> Result:
        plan = self._plan
        processes = TriggererProcesses(airflow.pid("triggerer"))
        with self._phase("idle"):
            idle = self._measure_usage(processes, plan.interval)
        with self._phase("defer"):
            tasks.start()
            tasks.wait_for("deferred", plan.waits, _TIMEOUT + plan.waits * _TIMEOUT_PER_TASK, self._show)
        with self._phase("stabilize"):
            # Wait until the last worker has ended and the poll schedule is stable.
            time.sleep(2 * plan.interval)
        with self._phase("wait"):
            streams.forget_requests()
            waiting = self._measure_usage(processes, plan.seconds)
            requests, polls = streams.requests(), streams.polls()
        stopped = streams.job_ids[:: plan.waits // plan.finishing][: plan.finishing]
        end = unbiased_finish_time(polls, plan.interval, earliest=time.time() + _LEAD_TIME)
        with self._phase("finish"):
            time.sleep(end - DEACTIVATION - time.time())
            ended = streams.stop(stopped)
            tasks.wait_for("deferred", plan.waits - plan.finishing, 4 * plan.interval + _TIMEOUT, self._show)
        with self._phase("resume"):
            tasks.wait_for("success", plan.finishing, _TIMEOUT + plan.finishing * _TIMEOUT_PER_TASK, self._show)
        events, scheduled, succeeded = tasks.event_times(), tasks.scheduled_at(), tasks.succeeded_at()
        return Result(
            plan=plan,
            idle=idle,
            waiting=waiting,
            requests=requests,
            finish_spread=max(ended.values()) - min(ended.values()),
            to_event=Delays([events.get(job_id, float("inf")) - end for job_id, end in ended.items()]),
            to_database=Delays([scheduled[job_id] - end for job_id, end in ended.items()]),
            to_success=Delays([succeeded[job_id] - end for job_id, end in ended.items()]),
            states=tasks.states(),
            tries=tasks.tries(),
            durations=self._durations,
        )

    @staticmethod
    def _measure_usage(processes: TriggererProcesses, seconds: float) -> dict[str, Usage]:
        before = processes.usage()
        time.sleep(seconds)
        return {name: usage.since(before[name]) for name, usage in processes.usage().items()}

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        with self._console.status(name) as self._status:
            yield
        self._durations[name] = time.monotonic() - began
        self._console.print(f"{name}: {self._durations[name]:.0f} s")

    def _show(self, states: Counter[str]) -> None:
        self._status.update(", ".join(f"{count} {state}" for state, count in states.items()))


def _raise_open_file_limit(number: int) -> None:
    # The triggerer's supervisor keeps one log file open per trigger, and the usual limit is 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (number if hard == resource.RLIM_INFINITY else min(number, hard), hard)
        )


if __name__ == "__main__":
    sys.exit(main())
