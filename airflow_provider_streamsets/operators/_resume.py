"""Decide whether a try resumes the run of an earlier try of the same task."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubRunFailedError,
)
from airflow_provider_streamsets.control_hub.models import ENDED_STATUSES, Outcome, RunIdentity
from airflow_provider_streamsets.control_hub.submission import StartIntent, describe_run, remaining_delivery_time

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobRun
    from airflow_provider_streamsets.operators._task_state import TaskState

# Seconds between polls for a run whose start request may still be delivered.
_SEARCH_INTERVAL = 2.0
ACKNOWLEDGE_HINT = (
    "Acknowledge this error before the job can be started again: in Control Hub, or with acknowledge_errors=True."
)


class ResumeAction(enum.Enum):
    """What a try does with the run of an earlier try."""

    START = "start"
    """There is no such run: start one."""
    STOP_AND_START = "stop and start"
    """The run must not be resumed: stop it if it is active, and start another one."""
    WAIT = "wait"
    """The run is active: wait for it."""
    EVALUATE = "evaluate"
    """The run has ended: return its result, or start another run if it failed."""


@dataclass(frozen=True)
class ResumeDecision:
    """
    The action of a try, and its reason.

    :param action: what to do
    :param reason: a message for the log, without a full stop; empty for a first try
    :param run: the run of the earlier try
    :param is_own: whether the task started that run; False if it joined the run of another caller
    """

    action: ResumeAction
    reason: str = ""
    run: JobRun | None = None
    is_own: bool = True


def emit_resume_stats(operator: object, *decisions: str) -> None:
    """
    Emit the metrics of Airflow's ``ResumableJobMixin``.

    :param operator: the operator that made the decisions
    :param decisions: ``fresh_submit``, ``reconnect_attempt``, ``reconnect_success``, ``already_succeeded``,
        ``terminal_resubmit``
    """
    from airflow.providers.common.compat.sdk import Stats

    for decision in decisions:
        Stats.incr(f"resumable_job.{decision}", tags={"operator": type(operator).__name__})


def write_intent(state: TaskState, intent: StartIntent) -> None:
    """Save a start before it is requested."""
    state.write(intent=asdict(intent))


def write_joined(state: TaskState, intent: StartIntent, run: JobRun) -> None:
    """Save that the task waits for the run of another caller."""
    state.write(intent=asdict(intent), joined=True, identities={intent.job_id: RunIdentity.from_run(run).to_json()})


def write_failed(state: TaskState, job_id: str, run_count: int) -> None:
    """Replace the saved state by a failed run whose error blocks the next start."""
    state.write(failed={"job_id": job_id, "run_count": run_count})


def blocking_run(error: ControlHubError) -> tuple[str, int] | None:
    """Return job id and number of the failed run if its error must be acknowledged; else None."""
    if not isinstance(error, ControlHubRunFailedError) or error.run_count is None:
        return None
    is_blocking = isinstance(error.result, Mapping) and error.result.get("status") == "INACTIVE_ERROR"
    return (error.job_id, error.run_count) if is_blocking else None


def unfinished_runs(error: ControlHubError) -> dict[str, int]:
    """Return the number by job id of runs that failed the task before they ended."""
    if not isinstance(error, ControlHubRunFailedError):
        return {}
    return {
        failure.job_id: failure.run_count
        for failure in error.failures or (error,)
        if failure.run_count is not None
        and isinstance(failure.result, Mapping)
        and failure.result.get("status") not in ENDED_STATUSES
    }


def is_blocked_by_own_run(state: TaskState, job: Job) -> bool:
    """Return whether the job cannot be started because of the error of an earlier try's run."""
    run = job.current_run
    if run is None or run.status != "INACTIVE_ERROR":
        return False
    return bool(state.values.get("failed") == {"job_id": job.job_id, "run_count": run.run_count})


def write_intents(
    state: TaskState,
    intents: Mapping[str, StartIntent],
    kept: Mapping[str, JobRun],
    joined: Mapping[str, JobRun],
    **values: Any,
) -> None:
    """
    Save starts before they are requested together.

    :param intents: the starts, by job id
    :param kept: runs of earlier starts that the task waits for, by job id
    :param joined: runs of other callers that the task waits for, by job id
    :param values: further values to save
    """
    identities = {job_id: RunIdentity.from_run(run).to_json() for job_id, run in {**kept, **joined}.items()}
    state.write(
        intents={
            job_id: [intent.run_count, intent.requested_at, intent.deliverable_until]
            for job_id, intent in intents.items()
        },
        user=next((intent.user for intent in intents.values()), user_of(state)),
        started={job_id: run.run_count for job_id, run in kept.items()},
        joined={job_id: run.run_count for job_id, run in joined.items()},
        identities={job_id: identity for job_id, identity in identities.items() if identity},
        **values,
    )


def find_own_runs(client: ControlHubClient, state: TaskState) -> dict[str, JobRun]:
    """
    Return the runs started by the task according to :func:`write_intents`, by job id.

    Wait for starts whose requests may still be delivered.
    """
    values = state.values
    started = values.get("started") or {}
    user = values.get("user")
    intents = {
        job_id: StartIntent(job_id, run_count, user, at, until)
        for job_id, (run_count, at, until) in values["intents"].items()
    }
    for job_id, run_count in started.items():
        intents[job_id] = replace(intents.get(job_id) or StartIntent(job_id, run_count, user, 0.0), run_count=run_count)
    statuses = client.runs.statuses(intents)
    max_waits = {
        job_id: remaining_delivery_time(client, intent.requested_at)
        for job_id, intent in intents.items()
        if job_id not in started
    }
    deadline = Deadline.of_retries(max(max_waits.values(), default=0.0), client.sleep)
    # A start can also be delivered after the run of another caller.
    while pending := [
        job_id
        for job_id, max_wait in max_waits.items()
        if deadline.elapsed < max_wait and not intents[job_id].matches_later(statuses[job_id])
    ]:
        deadline.sleep(_SEARCH_INTERVAL)
        statuses.update(client.runs.statuses(pending))
    own_runs = {}
    for job_id, intent in intents.items():
        run = latest = statuses.get(job_id)
        if latest is not None and latest.run_count > intent.run_count:
            run = client.runs.find_submitted(intent)
            is_found = job_id in started or (run is not None and intent.matches(run))
            if not is_found and intent.matches_later(latest):
                run, intent = latest, replace(intent, run_count=latest.run_count)
        if run is None or run.run_count != intent.run_count or _was_recreated(state, job_id, run):
            continue
        if job_id in started or intent.matches(run):
            own_runs[job_id] = client.runs.get_successor(replace(run, job_id=job_id))
    return own_runs


def _find_submitted_run(client: ControlHubClient, intent: StartIntent) -> JobRun | None:
    """
    Return the run of a start, waiting while its request may still be delivered.

    If there is none, return the run that has its number, whoever started it.
    """
    deadline: Deadline | None = None
    while True:
        run = client.runs.find_submitted(intent)
        if run is not None and not intent.matches(run):
            latest = client.runs.current(intent.job_id)
            run = latest if intent.matches_later(latest) else run
        deadline = deadline or Deadline.of_retries(remaining_delivery_time(client, intent.requested_at), client.sleep)
        if deadline.has_passed or intent.matches_later(run):
            return run
        deadline.sleep(_SEARCH_INTERVAL)


def find_joined_runs(client: ControlHubClient, state: TaskState) -> dict[str, JobRun]:
    """Return the joined runs of other callers by job id, as far as they are still the latest runs of their jobs."""
    joined = state.values.get("joined")
    if not isinstance(joined, Mapping):
        return {}
    return {
        job_id: replace(run, job_id=job_id)
        for job_id, run in client.runs.statuses(joined).items()
        if run is not None and run.run_count == joined[job_id] and not _was_recreated(state, job_id, run)
    }


def find_own_run(client: ControlHubClient, state: TaskState) -> JobRun | None:
    """Return the run started by the task according to :func:`write_intent`; None if there is none."""
    recorded = _recorded_intent(state)
    return None if recorded is None or state.values.get("joined") else _find_run(client, state, recorded)[0]


def _recorded_intent(state: TaskState) -> StartIntent | None:
    recorded = state.values.get("intent")
    if not isinstance(recorded, Mapping):
        return None
    intent = StartIntent(**recorded)
    # The actual number of the run, which differs if another caller's run came first.
    run_count = (state.values.get("started") or {}).get(intent.job_id)
    return intent if run_count is None else replace(intent, run_count=int(run_count))


def _find_run(client: ControlHubClient, state: TaskState, intent: StartIntent) -> tuple[JobRun | None, str]:
    """Return the run of the saved start; or None and the reason as the end of a message."""
    is_unconfirmed = not state.values.get("joined") and not state.values.get("started")
    run = _find_submitted_run(client, intent) if is_unconfirmed else client.runs.find_submitted(intent)
    if run is None:
        return None, ", but this run does not exist"
    if is_unconfirmed and not intent.matches_later(run):
        return None, f" as user {intent.user}, but Control Hub never created it; the job has {describe_run(run)}"
    if _was_recreated(state, intent.job_id, run):
        return None, f", but the job was deleted and imported again since; it now has {describe_run(run)}"
    return client.runs.get_successor(replace(run, job_id=intent.job_id)), ""


def decide_resume(client: ControlHubClient, state: TaskState, job: Job) -> ResumeDecision:
    """
    Decide from the saved state and the runs in Control Hub how this try continues.

    :param client: the client
    :param state: the saved state of the task
    :param job: the job to run
    :raises ControlHubError: if the runs cannot be fetched; nothing was done
    """
    intent = _recorded_intent(state)
    if intent is None:
        return ResumeDecision(ResumeAction.START)
    is_own = not state.values.get("joined")
    abandon_reason = state.abandon_reason
    label = job.label if intent.job_id == job.job_id else intent.job_id
    previous = f"Job {label} run {intent.run_count}: {'requested' if is_own else 'joined'} by an earlier try"
    if intent.job_id != job.job_id and abandon_reason is None:
        abandon_reason = f"the task now runs job {job.label}"
    try:
        run, missing_reason = _find_run(client, state, intent)
    except (ControlHubNotFoundError, ControlHubRejectedError) as error:
        if intent.job_id == job.job_id:
            raise
        # The job and its runs were deleted since.
        return ResumeDecision(ResumeAction.START, f"{previous}, but the job can no longer be fetched ({error})")
    if run is None:
        return ResumeDecision(ResumeAction.START, f"{previous}{missing_reason}")
    if abandon_reason is None and is_own and run.status == "DEACTIVATING" and was_stopped_by_task(client, run, state):
        abandon_reason = "this task is stopping it"
    previous = f"{previous}, {'ended' if run.has_ended else 'still active'} ({run.status})"
    if abandon_reason is not None:
        return ResumeDecision(
            ResumeAction.STOP_AND_START, f"{previous}; not resuming it because {abandon_reason}", run, is_own
        )
    return ResumeDecision(ResumeAction.EVALUATE if run.has_ended else ResumeAction.WAIT, previous, run, is_own)


def was_stopped_by_task(client: ControlHubClient, run: JobRun, state: TaskState) -> bool:
    """
    Return whether the events of a run name the user who started it as the one who stopped it.

    A killed task stops its run but cannot always save that: Airflow accepts no state from a task that was cleared
    while it ran. Such a stop counts as the task's own, so the next try starts another run.
    """
    user = user_of(state)
    if user is None or not (run.has_ended or run.status == "DEACTIVATING"):
        return False
    decision = tracking.decide_outcome(run, client.runs.events(run.run_id))
    return decision.outcome is not Outcome.SUCCEEDED and decision.stopped_by == user


def _was_recreated(state: TaskState, job_id: str, run: JobRun) -> bool:
    """Return whether the run belongs to a job that was deleted and imported again since the state was saved."""
    return RunIdentity.from_json((state.values.get("identities") or {}).get(job_id)).contradicts(run, run.run_count)


def user_of(state: TaskState) -> str | None:
    """Return the id of the user who requested the start; of a joined run, that of the other caller."""
    start = state.values.get("intent") or state.values.get("template_start") or state.values
    user: str | None = start.get("user")
    return user


def is_complete(client: ControlHubClient, run: JobRun, state: TaskState, *, accept_stopped: bool) -> bool:
    """
    Return whether the outcome of an ended run makes another run unnecessary.

    :param client: the client
    :param run: the ended run
    :param state: the saved state of the task
    :param accept_stopped: whether stopped runs count as successes
    """
    if not run.is_success:
        return False
    decision = tracking.decide_outcome(run, client.runs.events(run.run_id))
    if decision.outcome is Outcome.STOPPED:
        user = user_of(state)
        return accept_stopped and (user is None or decision.stopped_by != user)
    return decision.outcome is Outcome.SUCCEEDED
