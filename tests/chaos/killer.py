"""Kill processes with SIGKILL and restart those that do not restart by themselves."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

from tests.chaos.callers import Caller
from tests.chaos.environment import Environment
from tests.chaos.history import LostCall
from tests.chaos.plan import Kill, Target
from tests.chaos.task_table import TaskKey, TaskRow, TaskTable, is_worker
from tests.chaos.tasks import DAG_ID

_JOB_TYPES = {
    Target.TRIGGERER: "TriggererJob",
    Target.SCHEDULER: "SchedulerJob",
    Target.MACHINE: "SchedulerJob",
}
_IDLE = "<idle>"
_MAX_OUTAGE_SECONDS = 6.0
# Maximum seconds from saving a start in the task state to its response, which may be slow.
_MAX_CALL_SECONDS = 4.0


class Killer:
    """
    Executes the kills of a plan.

    A worker is killed only while it supervises a running task. An idle worker of Airflow's LocalExecutor holds the lock
    of the shared queue, which would never be released. A task that a worker has dequeued but not started would stay
    queued forever, because the executor cannot revoke it.

    :param environment: the running environment
    :param table: access to Airflow's task instances and jobs
    :param gateway_timeout: seconds after which a start call can no longer take effect
    """

    _worker_parents: Sequence[str] = ("scheduler",)

    def __init__(self, environment: Environment, table: TaskTable, gateway_timeout: float) -> None:
        self._environment = environment
        self._table = table
        self._gateway_timeout = gateway_timeout
        self._killed_jobs: dict[str, int] = {}
        self._orphans: list[psutil.Process] = []
        self.kill_counts: Counter[Target] = Counter()
        self.fault_hits: Counter[str] = Counter()
        self.hits: list[dict[str, Any]] = []
        self.sandbox_kills: list[float] = []
        self.killed_calls: list[LostCall] = []
        self._actions: dict[Target, Callable[[float], bool]] = {
            Target.TASK: self._kill_task,
            Target.WORKER: self._kill_worker,
            Target.TRIGGERER: self._kill_triggerer,
            Target.SCHEDULER: self._kill_scheduler,
            Target.MACHINE: self._kill_machine,
            Target.SANDBOX: self._kill_sandbox,
        }

    def is_due(self, kill: Kill) -> bool:
        """Return whether the target has become healthy since it was last killed."""
        job_type = _JOB_TYPES.get(kill.target)
        if job_type is None:
            return True
        return self._table.healthy_jobs().get(job_type, 0) > self._killed_jobs.get(job_type, 0)

    def kill(self, kill: Kill) -> bool:
        """Execute a kill and return whether a matching process was found."""
        job_type = _JOB_TYPES.get(kill.target)
        if job_type is not None:
            self._killed_jobs[job_type] = self._table.healthy_jobs().get(job_type, 0)
        running = {task_key: task for task_key, task in self._table.read().items() if task.state == "running"}
        killed = self._actions[kill.target](kill.pick)
        self.kill_counts[kill.target] += killed
        self._record_killed_calls(running)
        return killed

    def _record_killed_calls(self, running: Mapping[TaskKey, TaskRow]) -> None:
        """
        Record the start calls that may have been interrupted by the kill.

        These are the calls of killed tasks that had just saved the start in their task state.
        """
        killed_at, states = time.time(), self._table.task_states()
        for task_key, task in running.items():
            at, state = states.get(task_key, (0.0, ""))
            if killed_at - at <= _MAX_CALL_SECONDS and task.pid is not None and not _is_alive(task.pid):
                caller = Caller(DAG_ID, "", *task_key, task.tries)
                self.killed_calls.append(LostCall(caller, state, "killed", at, at + self._gateway_timeout))

    def count_faults(self) -> None:
        """Collect the fault log, which the sandbox does not persist."""
        for rule in self._environment.sandbox.faults():
            self.fault_hits[rule["fault"]] += rule["hit"]
        self.hits += self._environment.sandbox.fault_hits()

    @property
    def details(self) -> dict[str, object]:
        """Further figures for the report, by description."""
        return {}

    def maintain(self) -> None:
        """Kill the remaining idle workers of killed schedulers, and end what is due."""
        self._kill_orphans(include_busy=False)

    def close(self) -> None:
        """Kill the remaining workers of killed schedulers."""
        self._kill_orphans(include_busy=True)

    def _kill_orphans(self, *, include_busy: bool) -> None:
        for process in self._orphans:
            if include_busy or not _is_busy_worker(process):
                _kill_tree(process)
        self._orphans = [process for process in self._orphans if process.is_running()]

    def _kill_task(self, pick: float) -> bool:
        pairs = self._busy_workers()
        if not pairs:
            return False
        # Prefer the youngest: they are about to start or finish a run.
        pairs.sort(key=lambda pair: -pair[1].create_time())
        return _kill(pairs[int(pick * pick * len(pairs))][1])

    def _kill_worker(self, pick: float) -> bool:
        pairs = self._busy_workers()
        if not pairs:
            return False
        worker, task = pairs[int(pick * len(pairs))]
        try:
            worker.suspend()
            if not _is_busy_worker(worker):
                worker.resume()
                return False
        except psutil.NoSuchProcess:
            return False
        return _kill(worker) and _kill(task)

    def _kill_triggerer(self, _: float) -> bool:
        self._environment.airflow.kill_component("triggerer")
        self._environment.airflow.start_component("triggerer")
        return True

    def _kill_scheduler(self, _: float) -> bool:
        """Kill only the scheduler; its workers keep running their tasks, unknown to the next scheduler."""
        pid = self._environment.airflow.pid("scheduler")
        self._orphans += psutil.Process(pid).children(recursive=False)
        os.kill(pid, signal.SIGKILL)
        self._environment.airflow.start_component("scheduler")
        return True

    def _kill_machine(self, _: float) -> bool:
        self._environment.airflow.kill_component("scheduler")
        self._environment.airflow.start_component("scheduler")
        return True

    def _kill_sandbox(self, pick: float) -> bool:
        self.count_faults()
        self.sandbox_kills.append(time.time())
        self._environment.sandbox.kill()
        time.sleep(pick * _MAX_OUTAGE_SECONDS)
        self._environment.sandbox.restart()
        return True

    def _busy_workers(self) -> list[tuple[psutil.Process, psutil.Process]]:
        """Return the workers that supervise a task, each with its task process."""
        try:
            return [
                (worker, task)
                for parent in self._worker_parents
                for worker in psutil.Process(self._environment.airflow.pid(parent)).children()
                if _is_busy_worker(worker)
                for task in worker.children()
                if _has_started(task)
            ]
        except psutil.NoSuchProcess:
            return []


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_busy_worker(process: psutil.Process) -> bool:
    try:
        return is_worker(process) and _IDLE not in " ".join(process.cmdline()) and bool(process.children())
    except psutil.NoSuchProcess:
        return False


def _has_started(process: psutil.Process) -> bool:
    # The task process keeps the title of the worker until the task starts.
    try:
        return not is_worker(process)
    except psutil.NoSuchProcess:
        return False


def _kill_tree(process: psutil.Process) -> None:
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in tree:
        _kill(member)


def _kill(process: psutil.Process) -> bool:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
