"""What the two processes of a triggerer need: the runner of the triggers, and its supervisor."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Usage:
    """
    What a process has used.

    :param cpu: seconds of CPU since it began, or since an earlier look
    :param memory: megabytes that are resident
    :param files: open files and sockets
    """

    cpu: float
    memory: float
    files: int

    def since(self, before: Usage) -> Usage:
        """Return the same with the CPU since then only."""
        return Usage(self.cpu - before.cpu, self.memory, self.files)


class TriggererProcesses:
    """
    The processes of a running triggerer.

    :param pid: its id; it is the supervisor, and one of its children is the runner
    """

    def __init__(self, pid: int) -> None:
        self._supervisor = psutil.Process(pid)
        # The other child serves logs: it has a title of its own, and is dead where another Airflow has its port.
        (self._runner,) = [
            child
            for child in self._supervisor.children()
            if child.status() != psutil.STATUS_ZOMBIE and "serve-logs" not in child.cmdline()[0]
        ]

    def usage(self) -> dict[str, Usage]:
        """Return what each has used so far."""
        return {"runner": _usage(self._runner), "supervisor": _usage(self._supervisor)}


def _usage(process: psutil.Process) -> Usage:
    with process.oneshot():
        times = process.cpu_times()
        return Usage(times.user + times.system, process.memory_info().rss / 2**20, process.num_fds())
