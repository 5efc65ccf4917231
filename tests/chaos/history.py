"""What has happened: the runs in the sandbox, the tasks in Airflow, and what a person has done."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.callers import Caller, shown
from tests.chaos.plan import Case

# The answer to these calls comes, but late: only a process that is killed meanwhile does not get it.
SLOW = ("delay", "drip")
# Seconds by which Control Hub's clock is known to a task: the dates of its answers are whole seconds.
_CLOCK_TOLERANCE = 2.0
# What the client allows for where it knows Control Hub's time.
_CLIENT_TOLERANCE = 10.0


class End(str, enum.Enum):
    """What became of a run."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    GOES_ON = "goes on"


@dataclass(frozen=True)
class Stop:
    """
    A stop in the sandbox's log.

    :param at: when it was asked for, in epoch seconds
    :param caller: the task instance that has asked, or for which a trigger has; None is a person
    """

    at: float
    caller: Caller | None


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
    :param caller: the try whose call has started it; None is a person
    :param stops: the stops that were asked for
    :param instance: of an instance of a template, which of the parameter sets it was started with
    """

    job_id: str
    job_name: str
    run_count: int
    started: float
    end: End
    ended: float | None = None
    caller: Caller | None = None
    stops: Sequence[Stop] = ()
    instance: int | None = None

    @property
    def stop_asked(self) -> float | None:
        """When it was first asked to stop."""
        return min((stop.at for stop in self.stops), default=None)

    @property
    def work(self) -> str:
        """What it does for its task: a job, or one parameter set of a template."""
        return self.job_name if self.instance is None else f"instance {self.instance}"

    def __str__(self) -> str:
        return f"run {self.run_count} of {self.job_name} (started by {shown(self.caller)}): {self.end.value}"


@dataclass(frozen=True)
class LostCall:
    """
    A start call whose answer may not have reached the task, by the sandbox's log of faults, or as the task was killed.

    :param caller: the try that has sent it
    :param path: its path; of a task that was killed, what it has written down about it, which names the jobs
    :param fault: what hit it
    :param at: when, in epoch seconds
    :param until: when it can have no effect any more
    """

    caller: Caller
    path: str
    fault: str
    at: float
    until: float

    def may_have_started(self, run: Run, try_number: int) -> bool:
        """
        Return whether a task cannot know that a run is not the one that this call asked for.

        :param run: a run that another task with the same credential has started
        :param try_number: the try that takes it for its own
        """
        if "/jobs/" not in self.path and run.job_id not in self.path:
            return False
        if self.fault in SLOW and try_number <= self.caller.try_number:
            return False
        return self.at - _CLOCK_TOLERANCE <= run.started <= self.until + _CLIENT_TOLERANCE


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
    :param pushed: job id and run count of the runs in its other XComs
    """

    state: str
    tries: int
    deliveries: Sequence[Delivery] = ()
    pushed: Sequence[tuple[str, int]] = ()

    @property
    def claims(self) -> list[tuple[str, int]]:
        """Job id and run count of the runs that it reports as its own."""
        return [*dict.fromkeys([*((item.job_id, item.run_count) for item in self.deliveries), *self.pushed])]


@dataclass(frozen=True)
class CaseHistory:
    """
    All that there is to judge a case by.

    :param case: the case
    :param task: its task instance
    :param runs: the starts of its jobs by whomever, in the order of time
    :param acted: when a person has done what the case's kind says, in epoch seconds
    :param lost_calls: its start calls whose answers may not have reached it
    """

    case: Case
    task: TaskEnd
    runs: Sequence[Run] = field(default_factory=tuple)
    acted: float | None = None
    lost_calls: Sequence[LostCall] = ()

    @property
    def own_runs(self) -> list[Run]:
        """The runs that the task has started."""
        return [run for run in self.runs if run.caller is not None and run.caller.place == self.case.place]

    @property
    def claimed_runs(self) -> list[Run]:
        """The runs of others that the task reports."""
        claims = self.task.claims
        own = self.own_runs
        return [run for run in self.runs if run not in own and (run.job_id, run.run_count) in claims]

    @property
    def mistaken_runs(self) -> list[Run]:
        """Those of them that it cannot know not to be its own; what its lost call has started can still come."""
        return [run for run in self.claimed_runs if self.is_ambiguous(run, self.task.tries)]

    def is_ambiguous(self, run: Run, try_number: int) -> bool:
        """Return whether a try of the task cannot know that another task has started a run."""
        return any(call.may_have_started(run, try_number) for call in self.lost_calls)
