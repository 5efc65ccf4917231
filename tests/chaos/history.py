"""Recorded history: runs in the sandbox, tasks in Airflow, and user actions."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.callers import Caller, describe_caller
from tests.chaos.plan import Case

# The response to these calls is delayed; it is lost only if the process is killed in the meantime.
SLOW = ("delay", "drip")
# Precision of a task's estimate of Control Hub's clock, in seconds: response dates have whole seconds.
_CLOCK_TOLERANCE = 2.0
# Tolerance of the client when it knows Control Hub's time, in seconds.
_CLIENT_TOLERANCE = 10.0


class RunState(str, enum.Enum):
    """Final state of a run."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    ACTIVE = "still active"


@dataclass(frozen=True)
class Stop:
    """
    An entry of the sandbox's stop log.

    :param at: time of the request, in epoch seconds
    :param caller: the task instance that requested the stop, or whose trigger did; None for a user
    """

    at: float
    caller: Caller | None


@dataclass(frozen=True)
class Run:
    """
    An entry of the sandbox's start log, with the state of the run.

    :param job_id: job id
    :param job_name: job name
    :param run_count: run count
    :param started: start time, in epoch seconds
    :param state: final state
    :param ended: end time, in epoch seconds
    :param caller: the try that started the run; None for a user
    :param stops: stop requests for the run
    :param instance: for a template instance, the index of its parameter set
    """

    job_id: str
    job_name: str
    run_count: int
    started: float
    state: RunState
    ended: float | None = None
    caller: Caller | None = None
    stops: Sequence[Stop] = ()
    instance: int | None = None

    @property
    def stop_requested_at(self) -> float | None:
        """Time of the first stop request."""
        return min((stop.at for stop in self.stops), default=None)

    @property
    def work_item(self) -> str:
        """The unit of work for the task: a job, or one parameter set of a template."""
        return self.job_name if self.instance is None else f"instance {self.instance}"

    def __str__(self) -> str:
        return (
            f"run {self.run_count} of {self.job_name} (started by {describe_caller(self.caller)}): {self.state.value}"
        )


@dataclass(frozen=True)
class LostCall:
    """
    A start call whose response may not have reached the task, because of an injected fault or a kill.

    :param caller: the try that sent the call
    :param path: request path; for a killed task, its stored task state, which names the jobs
    :param fault: the injected fault
    :param at: time of the call, in epoch seconds
    :param until: time after which the call can no longer take effect, in epoch seconds
    """

    caller: Caller
    path: str
    fault: str
    at: float
    until: float

    def may_have_started(self, run: Run, try_number: int) -> bool:
        """
        Return whether a task cannot distinguish a run from the one requested by this call.

        :param run: a run started by another task with the same credential
        :param try_number: the try that considers the run its own
        """
        if "/jobs/" not in self.path and run.job_id not in self.path:
            return False
        if self.fault in SLOW and try_number <= self.caller.try_number:
            return False
        return self.at - _CLOCK_TOLERANCE <= run.started <= self.until + _CLIENT_TOLERANCE


@dataclass(frozen=True)
class RunResult:
    """
    A run in the result of a task.

    :param job_id: job id
    :param run_count: run count
    :param outcome: outcome reported by the task
    """

    job_id: str
    run_count: int
    outcome: str


@dataclass(frozen=True)
class TaskOutcome:
    """
    The final state of a task instance.

    :param state: task instance state in Airflow
    :param tries: number of tries
    :param results: runs in the task result
    :param pushed: job id and run count of the runs in other XComs
    """

    state: str
    tries: int
    results: Sequence[RunResult] = ()
    pushed: Sequence[tuple[str, int]] = ()

    @property
    def reported_runs(self) -> list[tuple[str, int]]:
        """Job id and run count of the runs that the task reports as its own."""
        return [*dict.fromkeys([*((item.job_id, item.run_count) for item in self.results), *self.pushed])]


@dataclass(frozen=True)
class CaseHistory:
    """
    The complete history of a case.

    :param case: the case
    :param task: final state of its task instance
    :param runs: all runs of its jobs in chronological order, whoever started them
    :param acted_at: time of the user action for this kind of case, in epoch seconds
    :param lost_calls: start calls of the task whose responses may be lost
    """

    case: Case
    task: TaskOutcome
    runs: Sequence[Run] = field(default_factory=tuple)
    acted_at: float | None = None
    lost_calls: Sequence[LostCall] = ()

    @property
    def own_runs(self) -> list[Run]:
        """Runs started by the task."""
        return [run for run in self.runs if run.caller is not None and run.caller.task_key == self.case.task_key]

    @property
    def foreign_reported_runs(self) -> list[Run]:
        """Runs that the task reports although it did not start them."""
        reported_runs = self.task.reported_runs
        own = self.own_runs
        return [run for run in self.runs if run not in own and (run.job_id, run.run_count) in reported_runs]

    @property
    def misattributed_runs(self) -> list[Run]:
        """Foreign reported runs that the task cannot distinguish from its own; its lost call may still take effect."""
        return [run for run in self.foreign_reported_runs if self.is_ambiguous(run, self.task.tries)]

    def is_ambiguous(self, run: Run, try_number: int) -> bool:
        """Return whether a try of the task cannot know that another task started the run."""
        return any(call.may_have_started(run, try_number) for call in self.lost_calls)
