"""Kill, pause, restart and upgrade the processes of a cluster, and cut off its triggerers from Control Hub."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from tests.benchmarks.waiting.proxy import ProxyMode
from tests.chaos.cluster import CONCURRENCY, SCHEDULERS, TRIGGERERS, WORKERS, Cluster
from tests.chaos.killer import Killer
from tests.chaos.plan import CLUSTER_FAULTS, Kill, Target
from tests.chaos.task_table import TaskTable, is_worker

_JOB_TYPES = {**dict.fromkeys(SCHEDULERS, "SchedulerJob"), **dict.fromkeys(TRIGGERERS, "TriggererJob")}
_PARTITION_SECONDS = 20.0
_MIN_PAUSE_SECONDS = 10.0
_MIN_TRIGGERS = 2
# A triggerer whose clock is fast seems alive for longer.
_MAX_PAUSE_SECONDS = 150.0


@dataclass
class _Interruption:
    """A fault that lasts until it is ended."""

    triggerer: str
    began: float
    is_over: Callable[[float], bool]
    end: Callable[[], None]


class ClusterKiller(Killer):
    """
    Executes the faults of a plan for a cluster.

    A fault of a component waits until all components are healthy, so that one of two always is. Processes of tasks, the
    sandbox and upgrades do not wait.

    :param environment: the running cluster
    :param table: access to Airflow's task instances and jobs
    :param gateway_timeout: seconds after which a start call can no longer take effect
    """

    _environment: Cluster
    _worker_parents = WORKERS

    def __init__(self, environment: Cluster, table: TaskTable, gateway_timeout: float) -> None:
        super().__init__(environment, table, gateway_timeout)
        self._interruptions: list[_Interruption] = []
        self._pids: dict[str, int] = {host: environment.airflow.pid(host) for host in _JOB_TYPES}
        self._replaced_jobs = dict.fromkeys(_JOB_TYPES, 0)
        self._taken_over = 0
        self._actions |= {
            Target.TRIGGERER: lambda pick: self._kill_component(_pick(TRIGGERERS, pick)),
            Target.SCHEDULER: lambda pick: self._kill_component(_pick(SCHEDULERS, pick)),
            Target.CELERY_MACHINE: lambda pick: self._kill_component(_pick(WORKERS, pick)),
            Target.CELERY_WORKER: self._kill_celery_worker,
            Target.PAUSE: self._pause_triggerer,
            Target.PARTITION: self._cut_off_triggerer,
            Target.REDIS: self._restart_redis,
            Target.POSTGRES: self._restart_postgres,
            Target.UPGRADE: self._upgrade_component,
        }

    def is_due(self, kill: Kill) -> bool:
        """Return whether the cluster has recovered from the last fault, and the target is busy enough."""
        if kill.target is Target.UPGRADE:
            return not self._interruptions
        if kill.target in (Target.PAUSE, Target.PARTITION) and len(self._busiest_triggerer()[1]) < _MIN_TRIGGERS:
            return False
        return kill.target not in CLUSTER_FAULTS or self._is_healthy()

    def maintain(self) -> None:
        """End interruptions that are due, and restart components that have exited."""
        super().maintain()
        now = time.monotonic()
        for interruption in [found for found in self._interruptions if found.is_over(now - found.began)]:
            self._end(interruption)
        self._environment.airflow.check_components()
        self._record_restarts()

    def close(self) -> None:
        """End all interruptions, and kill the remaining workers of killed parents."""
        for interruption in list(self._interruptions):
            self._end(interruption)
        super().close()

    @property
    def details(self) -> dict[str, object]:
        """Further figures for the report, by description."""
        cluster = self._environment
        return {
            "connections of triggerers that were cut off": sum(proxy.rejected for proxy in cluster.proxies.values()),
            "components that exited by themselves": cluster.airflow.exits.total(),
            "runs that two triggerers waited for": self._taken_over,
            f"components still with the code of {cluster.revision}": len(cluster.outdated),
            f"clock of {cluster.clock_host}": f"{cluster.clock_offset} s",
        }

    def _is_healthy(self) -> bool:
        self._record_restarts()
        if self._interruptions:
            return False
        jobs = self._table.healthy_jobs_by_host()
        return all(
            jobs.get((job_type, host), 0) > self._replaced_jobs[host] for host, job_type in _JOB_TYPES.items()
        ) and all(self._count_pool(worker) >= CONCURRENCY for worker in WORKERS)

    def _record_restarts(self) -> None:
        """Record the last job of each component that was just restarted, whoever did it."""
        pids = {host: self._environment.airflow.pid(host) for host in _JOB_TYPES}
        if pids == self._pids:
            return
        jobs = self._table.healthy_jobs_by_host()
        for host, job_type in _JOB_TYPES.items():
            if pids[host] != self._pids[host]:
                self._replaced_jobs[host] = jobs.get((job_type, host), 0)
        self._pids = pids

    def _count_pool(self, worker: str) -> int:
        with contextlib.suppress(psutil.NoSuchProcess):
            return sum(is_worker(child) for child in psutil.Process(self._environment.airflow.pid(worker)).children())
        return 0

    def _kill_component(self, component: str) -> bool:
        self._environment.airflow.kill_component(component)
        self._environment.airflow.start_component(component)
        return True

    def _kill_celery_worker(self, pick: float) -> bool:
        """Kill only the main process of a worker; the others finish their tasks."""
        worker = _pick(WORKERS, pick)
        pid = self._environment.airflow.pid(worker)
        self._orphans += psutil.Process(pid).children()
        os.kill(pid, signal.SIGKILL)
        self._environment.airflow.start_component(worker)
        return True

    def _restart_redis(self, _: float) -> bool:
        self._environment.redis.restart()
        return True

    def _restart_postgres(self, _: float) -> bool:
        self._environment.postgres.restart()
        return True

    def _upgrade_component(self, _: float) -> bool:
        if not self._environment.outdated:
            return False
        self._environment.upgrade_component()
        return True

    def _pause_triggerer(self, _: float) -> bool:
        """Pause a triggerer until the other one has its triggers, so that two triggerers wait for the same runs."""
        triggerer, triggers = self._busiest_triggerer()
        processes = self._environment.airflow.processes(triggerer)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

        def is_over(elapsed: float) -> bool:
            is_taken_over = triggerer not in self._table.triggers().values()
            return elapsed >= (_MIN_PAUSE_SECONDS if is_taken_over else _MAX_PAUSE_SECONDS)

        def end() -> None:
            # Counted afterwards: an error of the database must not leave the processes suspended.
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
            hosts = self._table.triggers()
            self._taken_over += sum(hosts.get(trigger, triggerer) != triggerer for trigger in triggers)

        self._interrupt(triggerer, is_over, end)
        return True

    def _cut_off_triggerer(self, pick: float) -> bool:
        """Lose all connections of a triggerer to Control Hub, in one half of the cases without a response."""
        triggerer, _ = self._busiest_triggerer()
        proxy = self._environment.proxies[triggerer]
        proxy.set_mode(ProxyMode.SILENT if pick < 0.5 else ProxyMode.RESET)
        self._interrupt(
            triggerer, lambda elapsed: elapsed >= _PARTITION_SECONDS, lambda: proxy.set_mode(ProxyMode.OPEN)
        )
        return True

    def _busiest_triggerer(self) -> tuple[str, list[int]]:
        """Return the triggerer with most triggers, and these."""
        hosts = self._table.triggers()
        by_host = {host: [trigger for trigger in hosts if hosts[trigger] == host] for host in TRIGGERERS}
        return max(by_host.items(), key=lambda item: len(item[1]))

    def _interrupt(self, triggerer: str, is_over: Callable[[float], bool], end: Callable[[], None]) -> None:
        self._table.unavailable_hosts.add(triggerer)
        self._interruptions.append(_Interruption(triggerer, time.monotonic(), is_over, end))

    def _end(self, interruption: _Interruption) -> None:
        interruption.end()
        self._interruptions.remove(interruption)
        self._table.unavailable_hosts.discard(interruption.triggerer)


def _pick(components: Sequence[str], pick: float) -> str:
    return components[int(pick * len(components))]
