"""Resource usage of a triggerer's two processes: the trigger runner and its supervisor."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Usage:
    """
    Resource usage of a process.

    :param cpu: CPU seconds since its start, or since an earlier measurement
    :param memory: resident memory in megabytes
    :param files: number of open files and sockets
    """

    cpu: float
    memory: float
    files: int

    def since(self, before: Usage) -> Usage:
        """Return the usage with the CPU time since an earlier measurement."""
        return Usage(self.cpu - before.cpu, self.memory, self.files)


class TriggererProcesses:
    """
    The processes of a running triggerer.

    :param pid: process id of the supervisor, whose child is the runner
    """

    def __init__(self, pid: int) -> None:
        self._supervisor = psutil.Process(pid)
        # The other child serves logs. It has its own title, and is dead if another Airflow uses its port.
        (self._runner,) = [
            child
            for child in self._supervisor.children()
            if child.status() != psutil.STATUS_ZOMBIE and "serve-logs" not in child.cmdline()[0]
        ]

    def usage(self) -> dict[str, Usage]:
        """Return the usage of both processes."""
        return {"runner": _usage(self._runner), "supervisor": _usage(self._supervisor)}


def _usage(process: psutil.Process) -> Usage:
    with process.oneshot():
        times = process.cpu_times()
        return Usage(times.user + times.system, process.memory_info().rss / 2**20, process.num_fds())
