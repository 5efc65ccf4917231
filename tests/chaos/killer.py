"""Who kills processes with SIGKILL, and starts again what does not come back by itself."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import psutil

from tests.chaos.callers import Caller
from tests.chaos.history import LostCall
from tests.chaos.plan import Blow, Target
from tests.chaos.stage import Stage
from tests.chaos.task_table import Place, TaskRow, TaskTable
from tests.chaos.tasks import DAG_ID

_JOB_TYPES = {
    Target.TRIGGERER: "TriggererJob",
    Target.SCHEDULER: "SchedulerJob",
    Target.MACHINE: "SchedulerJob",
}
_WORKER = "LocalExecutor"
_IDLE = "<idle>"
_LONGEST_OUTAGE = 6.0
# Seconds from the time at which a task writes down a start to the answer, which may be slow.
_LONGEST_CALL = 4.0


class Killer:
    """
    Kills what blows are aimed at.

    A worker is killed only while it watches over a task that has begun. One that is idle holds the lock of the queue
    from which all workers of Airflow's LocalExecutor read, which nobody would release; and what it has taken from that
    queue and not begun stays queued for ever, as that executor cannot revoke it.

    :param stage: what there is
    :param table: tells what has come up
    :param gateway_timeout: seconds after which a start call has no effect any more
    """

    def __init__(self, stage: Stage, table: TaskTable, gateway_timeout: float) -> None:
        self._stage = stage
        self._table = table
        self._gateway_timeout = gateway_timeout
        self._killed_jobs: dict[str, int] = {}
        self._orphans: list[psutil.Process] = []
        self.kills: Counter[Target] = Counter()
        self.fault_hits: Counter[str] = Counter()
        self.hits: list[dict[str, Any]] = []
        self.sandbox_kills: list[float] = []
        self.killed_calls: list[LostCall] = []

    def is_due(self, blow: Blow) -> bool:
        """Return whether what a blow is aimed at has taken up its work since it was killed the last time."""
        job_type = _JOB_TYPES.get(blow.target)
        if job_type is None:
            return True
        return self._table.beating_jobs().get(job_type, 0) > self._killed_jobs.get(job_type, 0)

    def strike(self, blow: Blow) -> bool:
        """Kill, and return whether there was something to kill."""
        job_type = _JOB_TYPES.get(blow.target)
        if job_type is not None:
            self._killed_jobs[job_type] = self._table.beating_jobs().get(job_type, 0)
        running = {place: task for place, task in self._table.read().items() if task.state == "running"}
        struck = {
            Target.TASK: self._kill_task,
            Target.WORKER: self._kill_worker,
            Target.TRIGGERER: self._kill_triggerer,
            Target.SCHEDULER: self._kill_scheduler,
            Target.MACHINE: self._kill_machine,
            Target.SANDBOX: self._kill_sandbox,
        }[blow.target](blow.pick)
        self.kills[blow.target] += struck
        self._note_killed_calls(running)
        return struck

    def _note_killed_calls(self, running: Mapping[Place, TaskRow]) -> None:
        """
        Note the start calls in which tasks were killed, whose answers they have not got, if they were sent at all.

        They are those of tasks that have just written down the start.
        """
        killed, records = time.time(), self._table.records()
        for place, task in running.items():
            at, record = records.get(place, (0.0, ""))
            if killed - at <= _LONGEST_CALL and task.pid is not None and not _is_alive(task.pid):
                caller = Caller(DAG_ID, "", *place, task.tries)
                self.killed_calls.append(LostCall(caller, record, "killed", at, at + self._gateway_timeout))

    def count_faults(self) -> None:
        """Take in which requests the faults have hit, which the sandbox forgets when it ends."""
        for rule in self._stage.sandbox.faults():
            self.fault_hits[rule["fault"]] += rule["hit"]
        self.hits += self._stage.sandbox.fault_hits()

    def bury(self, *, all_of_them: bool = False) -> None:
        """End what is left of killed schedulers and has nothing to do any more."""
        for process in self._orphans:
            if all_of_them or not _watches(process):
                _kill_family(process)
        self._orphans = [process for process in self._orphans if process.is_running()]

    def _kill_task(self, pick: float) -> bool:
        pairs = self._at_work()
        if not pairs:
            return False
        # The youngest are on their way into a run or out of it.
        pairs.sort(key=lambda pair: -pair[1].create_time())
        return _kill(pairs[int(pick * pick * len(pairs))][1])

    def _kill_worker(self, pick: float) -> bool:
        pairs = self._at_work()
        if not pairs:
            return False
        worker, task = pairs[int(pick * len(pairs))]
        try:
            worker.suspend()
            if not _watches(worker):
                worker.resume()
                return False
        except psutil.NoSuchProcess:
            return False
        return _kill(worker) and _kill(task)

    def _kill_triggerer(self, _: float) -> bool:
        self._stage.airflow.kill_component("triggerer")
        self._stage.airflow.start_component("triggerer")
        return True

    def _kill_scheduler(self, _: float) -> bool:
        """Kill the scheduler alone: its workers go on with their tasks, of which the next one knows nothing."""
        pid = self._stage.airflow.pid("scheduler")
        self._orphans += psutil.Process(pid).children(recursive=False)
        os.kill(pid, signal.SIGKILL)
        self._stage.airflow.start_component("scheduler")
        return True

    def _kill_machine(self, _: float) -> bool:
        self._stage.airflow.kill_component("scheduler")
        self._stage.airflow.start_component("scheduler")
        return True

    def _kill_sandbox(self, pick: float) -> bool:
        self.count_faults()
        self.sandbox_kills.append(time.time())
        self._stage.sandbox.kill()
        time.sleep(pick * _LONGEST_OUTAGE)
        self._stage.sandbox.restart()
        return True

    def _at_work(self) -> list[tuple[psutil.Process, psutil.Process]]:
        """Return the workers of the scheduler that watch over a task, each with the process of that task."""
        try:
            workers = psutil.Process(self._stage.airflow.pid("scheduler")).children()
            return [
                (worker, task) for worker in workers if _watches(worker) for task in worker.children() if _runs(task)
            ]
        except psutil.NoSuchProcess:
            return []


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _watches(process: psutil.Process) -> bool:
    try:
        title = " ".join(process.cmdline())
        return _WORKER in title and _IDLE not in title and bool(process.children())
    except psutil.NoSuchProcess:
        return False


def _runs(process: psutil.Process) -> bool:
    # Until the task has begun, its process goes by the name of the worker.
    try:
        return _WORKER not in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def _kill_family(process: psutil.Process) -> None:
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        _kill(member)


def _kill(process: psutil.Process) -> bool:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
