"""Whether a try goes on with the run that an earlier try of the same task has started."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubError, Job, JobRun
    from airflow_provider_streamsets.control_hub.submission import StartIntent
    from airflow_provider_streamsets.operators._task_state import TaskState

# Seconds between two polls for runs whose starts may still be delivered.
_SEARCH_INTERVAL = 2.0
ACKNOWLEDGE_HINT = (
    "This error must be acknowledged before the job can be started again: in Control Hub, or with "
    "acknowledge_errors=True."
)


class ResumeAction(enum.Enum):
    """What a try does about the run of an earlier one."""

    START = "start"
    """There is none: start one."""
    STOP_AND_START = "stop and start"
    """It is not wanted any more: stop it if it goes on, and start another one."""
    JOIN = "join"
    """It goes on: wait for it."""
    EVALUATE = "evaluate"
    """It has ended: take what it came to, or start another one if it failed."""


@dataclass(frozen=True)
class ResumeDecision:
    """
    What a try does, and why.

    :param action: what to do
    :param reason: one sentence for the log; empty for a first try
    :param run: the run of the earlier try
    :param is_own: whether the task has started that run, and did not join one of somebody else
    """

    action: ResumeAction
    reason: str = ""
    run: JobRun | None = None
    is_own: bool = True


def emit_resume_stats(operator: object, *decisions: str) -> None:
    """
    Count decisions as Airflow's ``ResumableJobMixin`` does, under the same metric names.

    :param operator: the operator that has decided
    :param decisions: ``fresh_submit``, ``reconnect_attempt``, ``reconnect_success``, ``already_succeeded``,
        ``terminal_resubmit``
    """
    from airflow.providers.common.compat.sdk import Stats

    for decision in decisions:
        Stats.incr(f"resumable_job.{decision}", tags={"operator": type(operator).__name__})


def write_intent(record: TaskState, intent: StartIntent) -> None:
    """Write down a start that is about to be asked for."""
    record.write(intent=asdict(intent))


def write_joined(record: TaskState, intent: StartIntent, run: JobRun) -> None:
    """Write down a run of somebody else that is going to be waited for."""
    from airflow_provider_streamsets.control_hub.models import RunIdentity

    record.write(intent=asdict(intent), joined=True, known={intent.job_id: RunIdentity.of(run).to_json()})


def write_failed(record: TaskState, job_id: str, run_count: int) -> None:
    """Write down a run whose error keeps the next try from starting another one, and nothing else."""
    record.write(failed={"job_id": job_id, "run_count": run_count})


def blocking_run(error: ControlHubError) -> tuple[str, int] | None:
    """Return job id and number of the run that has failed the task, if its error must be acknowledged; else None."""
    from airflow_provider_streamsets.control_hub import ControlHubRunFailedError

    if not isinstance(error, ControlHubRunFailedError) or error.run_count is None:
        return None
    is_blocking = isinstance(error.result, Mapping) and error.result.get("status") == "INACTIVE_ERROR"
    return (error.job_id, error.run_count) if is_blocking else None


def unfinished_runs(error: ControlHubError) -> dict[str, int]:
    """Return job id and number of the runs that have failed the task although they have not ended."""
    from airflow_provider_streamsets.control_hub import ControlHubRunFailedError
    from airflow_provider_streamsets.control_hub.models import ENDED_STATUSES

    if not isinstance(error, ControlHubRunFailedError):
        return {}
    return {
        failure.job_id: failure.run_count
        for failure in error.failures or (error,)
        if failure.run_count is not None
        and isinstance(failure.result, Mapping)
        and failure.result.get("status") not in ENDED_STATUSES
    }


def is_blocked_by_own_run(record: TaskState, job: Job) -> bool:
    """Return whether the error that keeps a job from being started is that of a run of an earlier try."""
    run = job.current_run
    if run is None or run.status != "INACTIVE_ERROR":
        return False
    return bool(record.values.get("failed") == {"job_id": job.job_id, "run_count": run.run_count})


def write_intents(
    record: TaskState,
    intents: Mapping[str, StartIntent],
    kept: Mapping[str, JobRun],
    joined: Mapping[str, JobRun],
    **values: Any,
) -> None:
    """
    Write down starts that are about to be requested together.

    :param intents: the starts, by job id
    :param kept: runs of earlier starts that the task waits for, by job id
    :param joined: runs of others that it waits for, by job id
    :param values: further values to write down
    """
    from airflow_provider_streamsets.control_hub.models import RunIdentity

    identities = {job_id: RunIdentity.of(run).to_json() for job_id, run in {**kept, **joined}.items()}
    record.write(
        intents={job_id: [intent.run_count, intent.at, intent.until] for job_id, intent in intents.items()},
        user=next((intent.user for intent in intents.values()), user_of(record)),
        started={job_id: run.run_count for job_id, run in kept.items()},
        joined={job_id: run.run_count for job_id, run in joined.items()},
        known={job_id: identity for job_id, identity in identities.items() if identity},
        **values,
    )


def find_own_runs(client: ControlHubClient, record: TaskState) -> dict[str, JobRun]:
    """
    Return those of the runs of :func:`write_intents` that the task has started, by job id.

    A start that may still be delivered is waited for.
    """
    from airflow_provider_streamsets.control_hub.submission import StartIntent, delivery_time_left

    values = record.values
    started = values.get("started") or {}
    user = values.get("user")
    intents = {
        job_id: StartIntent(job_id, emit_resume_stats, user, at, until)
        for job_id, (emit_resume_stats, at, until) in values["intents"].items()
    }
    for job_id, emit_resume_stats in started.items():
        intents[job_id] = replace(
            intents.get(job_id) or StartIntent(job_id, emit_resume_stats, user, 0.0), run_count=emit_resume_stats
        )
    statuses = client.runs.statuses(intents)
    remaining = {
        job_id: delivery_time_left(client, intent.at) for job_id, intent in intents.items() if job_id not in started
    }
    waited = 0.0
    # A start can be delivered after the run of another caller, too.
    while pending := [
        job_id
        for job_id, max_wait in remaining.items()
        if waited < max_wait and not intents[job_id].matches_later(statuses[job_id])
    ]:
        client.sleep(_SEARCH_INTERVAL)
        waited += _SEARCH_INTERVAL
        statuses.update(client.runs.statuses(pending))
    own = {}
    for job_id, intent in intents.items():
        run = latest = statuses.get(job_id)
        if latest is not None and latest.run_count > intent.run_count:
            run = client.runs.of_start(intent)
            is_found = job_id in started or (run is not None and intent.matches(run))
            if not is_found and intent.matches_later(latest):
                run, intent = latest, replace(intent, run_count=latest.run_count)
        if run is None or run.run_count != intent.run_count or _was_recreated(record, job_id, run):
            continue
        if job_id in started or intent.matches(run):
            own[job_id] = client.runs.successor_of(replace(run, job_id=job_id))
    return own


def _find_submitted_run(client: ControlHubClient, intent: StartIntent) -> JobRun | None:
    """Return the run of a start, which is waited for; or else the one that has its number, whoever has made it."""
    from airflow_provider_streamsets.control_hub.submission import delivery_time_left

    max_wait: float | None = None
    while True:
        run = client.runs.of_start(intent)
        if run is not None and not intent.matches(run):
            latest = client.runs.current(intent.job_id)
            run = latest if intent.matches_later(latest) else run
        max_wait = delivery_time_left(client, intent.at) if max_wait is None else max_wait
        if max_wait <= 0 or intent.matches_later(run):
            return run
        client.sleep(_SEARCH_INTERVAL)
        max_wait -= _SEARCH_INTERVAL


def joined_runs(client: ControlHubClient, record: TaskState) -> dict[str, JobRun]:
    """Return the runs of others that the task has waited for, by job id, if they are still the latest of their jobs."""
    joined = record.values.get("joined")
    if not isinstance(joined, Mapping):
        return {}
    return {
        job_id: replace(run, job_id=job_id)
        for job_id, run in client.runs.statuses(joined).items()
        if run is not None and run.run_count == joined[job_id] and not _was_recreated(record, job_id, run)
    }


def find_own_run(client: ControlHubClient, record: TaskState) -> JobRun | None:
    """Return the run of :func:`write_intent` that the task has started; None if there is none."""
    recorded = _recorded_intent(record)
    return None if recorded is None or record.values.get("joined") else _find_run(client, record, recorded)[0]


def _recorded_intent(record: TaskState) -> StartIntent | None:
    from airflow_provider_streamsets.control_hub.submission import StartIntent

    recorded = record.values.get("intent")
    if not isinstance(recorded, Mapping):
        return None
    intent = StartIntent(**recorded)
    # The number that the run has come to have, where somebody else's run had come before it.
    counted = (record.values.get("started") or {}).get(intent.job_id)
    return intent if counted is None else replace(intent, run_count=int(counted))


def _find_run(client: ControlHubClient, record: TaskState, intent: StartIntent) -> tuple[JobRun | None, str]:
    """Return the run that was written down, or why there is none; a start that may still be delivered is waited for."""
    from airflow_provider_streamsets.control_hub.submission import described

    is_unconfirmed = not record.values.get("joined") and not record.values.get("started")
    run = _find_submitted_run(client, intent) if is_unconfirmed else client.runs.of_start(intent)
    if run is None:
        return None, "but there is no such run"
    if is_unconfirmed and not intent.matches_later(run):
        return None, f"as {intent.user}, but Control Hub never created it: there is {described(run)}"
    if _was_recreated(record, intent.job_id, run):
        return None, f"which was deleted and imported again since: there is {described(run)}"
    return client.runs.successor_of(replace(run, job_id=intent.job_id)), ""


def decide_resume(client: ControlHubClient, record: TaskState, job: Job) -> ResumeDecision:
    """
    Look at what earlier tries have written down, and at what there is in Control Hub, and decide.

    :param client: the client
    :param record: what was written down
    :param job: the job that is to run
    :raises ControlHubError: if Control Hub cannot be asked; nothing was done
    """
    from airflow_provider_streamsets.control_hub import ControlHubNotFoundError, ControlHubRejectedError

    intent = _recorded_intent(record)
    if intent is None:
        return ResumeDecision(ResumeAction.START)
    is_own = not record.values.get("joined")
    abandon_reason = record.abandon_reason
    what = f"an earlier try of this task has {'asked for' if is_own else 'waited for'} run {intent.run_count}"
    if intent.job_id != job.job_id and abandon_reason is None:
        abandon_reason = f"the task is now for job {job.label}"
    try:
        run, missing_reason = _find_run(client, record, intent)
    except (ControlHubNotFoundError, ControlHubRejectedError) as error:
        if intent.job_id == job.job_id:
            raise
        # That job was deleted since, and its run with it.
        return ResumeDecision(
            ResumeAction.START, f"{what} of job {intent.job_id}, which cannot be read any more ({error})"
        )
    if run is None:
        return ResumeDecision(ResumeAction.START, f"{what} of job {intent.job_id}, {missing_reason}")
    if abandon_reason is None and is_own and run.status == "DEACTIVATING" and was_stopped_by_task(client, run, record):
        abandon_reason = "it is being stopped for this task"
    what = f"{what} of job {intent.job_id}, which {'has ended' if run.has_ended else 'goes on'} ({run.status})"
    if abandon_reason is not None:
        return ResumeDecision(ResumeAction.STOP_AND_START, f"{what}, but {abandon_reason}", run, is_own)
    return ResumeDecision(ResumeAction.EVALUATE if run.has_ended else ResumeAction.JOIN, what, run, is_own)


def was_stopped_by_task(client: ControlHubClient, run: JobRun, record: TaskState) -> bool:
    """
    Return whether the user who has started a run has stopped it, too, as its events tell.

    A task that is killed stops its run, and cannot always write that down: Airflow takes nothing more from a task that
    was cleared while it ran. Such a stop is the task's own, so the next try starts another run.
    """
    from airflow_provider_streamsets.control_hub import Outcome
    from airflow_provider_streamsets.control_hub.tracking.outcome import decide_outcome

    user = user_of(record)
    if user is None or not (run.has_ended or run.status == "DEACTIVATING"):
        return False
    decision = decide_outcome(run, client.runs.events(run.run_id))
    return decision.outcome is not Outcome.SUCCEEDED and decision.stopped_by == user


def _was_recreated(record: TaskState, job_id: str, run: JobRun) -> bool:
    """Return whether a run of the right number is one of the job after it was deleted and imported again."""
    from airflow_provider_streamsets.control_hub.models import RunIdentity

    return RunIdentity.from_json((record.values.get("known") or {}).get(job_id)).contradicts(run, run.run_count)


def user_of(record: TaskState) -> str | None:
    """Return the id of the user as whom a start was asked for."""
    start = record.values.get("intent") or record.values.get("template_start") or record.values
    user: str | None = start.get("user")
    return user


def is_complete(client: ControlHubClient, run: JobRun, record: TaskState, *, accept_stopped: bool) -> bool:
    """
    Return whether a run that has ended need not be followed by another one.

    :param client: the client
    :param run: the run
    :param record: what earlier tries have written down
    :param accept_stopped: whether runs that were stopped count as successes
    """
    from airflow_provider_streamsets.control_hub import Outcome
    from airflow_provider_streamsets.control_hub.tracking.outcome import decide_outcome

    if not run.is_success:
        return False
    decision = decide_outcome(run, client.runs.events(run.run_id))
    if decision.outcome is Outcome.STOPPED:
        user = user_of(record)
        return accept_stopped and (user is None or decision.stopped_by != user)
    return decision.outcome is Outcome.SUCCEEDED
