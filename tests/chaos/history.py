"""What has happened: the runs in the sandbox, the tasks in Airflow, and what a person has done."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.plan import Case


class End(str, enum.Enum):
    """What became of a run."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    GOES_ON = "goes on"


@dataclass(frozen=True)
class Run:
    """
    A start in the sandbox's log, and what became of it.

    :param job_id: the job
    :param job_name: its name
    :param run_count: the number of the run
    :param started: when, in epoch seconds
    :param end: what became of it
    :param ended: when that was
    :param stop_asked: when it was first asked to stop
    :param is_foreign: whether it was started by somebody else than the task
    """

    job_id: str
    job_name: str
    run_count: int
    started: float
    end: End
    ended: float | None = None
    stop_asked: float | None = None
    is_foreign: bool = False

    def __str__(self) -> str:
        who = " (of somebody else)" if self.is_foreign else ""
        return f"run {self.run_count} of {self.job_name}{who}: {self.end.value}"


@dataclass(frozen=True)
class Delivery:
    """
    A run in the result of a task.

    :param job_id: the job
    :param run_count: the number of the run
    :param outcome: as the task says
    """

    job_id: str
    run_count: int
    outcome: str


@dataclass(frozen=True)
class TaskEnd:
    """
    A task instance at the end.

    :param state: Airflow's state of it
    :param tries: how many tries it has had
    :param deliveries: the runs in its result
    """

    state: str
    tries: int
    deliveries: Sequence[Delivery] = ()


@dataclass(frozen=True)
class CaseHistory:
    """
    All that there is to judge a case by.

    :param case: the case
    :param task: its task instance
    :param runs: the starts of its jobs, in the order of time
    :param acted: when a person has done what the case's kind says, in epoch seconds
    """

    case: Case
    task: TaskEnd
    runs: Sequence[Run] = field(default_factory=tuple)
    acted: float | None = None

    @property
    def own_runs(self) -> list[Run]:
        """The runs that the task has started."""
        return [run for run in self.runs if not run.is_foreign]
