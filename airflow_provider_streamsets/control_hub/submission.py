"""Submit calls that must not be repeated, and confirm their effect (contract, sections 8 and 10.5)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow_provider_streamsets.control_hub._messages import describe_ids, join_truncated
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubBulkError,
    ControlHubError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedAnswerError,
    is_fatal,
    may_have_executed,
)
from airflow_provider_streamsets.control_hub.models import Job, JobRun
from airflow_provider_streamsets.control_hub.paging import chunked
from airflow_provider_streamsets.control_hub.services import Service, quote_id
from airflow_provider_streamsets.control_hub.transport import Retry

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

log = logging.getLogger(__name__)

_MAX_START_ATTEMPTS = 3
# Seconds to wait for the effect of an accepted request, at most.
CONFIRM_TIMEOUT = 60.0
_POLL_DELAY = 3.0
# Seconds to look for the run of a call with an unclear end, at the least, although its gateway has given up by now.
_MIN_SEARCH = 20.0
# Seconds between two polls for the runs of many starts, and for which runs are looked for after a refusal.
_SEARCH_INTERVAL = 2.0
_SEARCH_AFTER_REJECTION = 6.0
# Seconds that a run may have begun before or after its start was announced: clocks may differ, although Control Hub's
# own is taken where its answers tell it, and a call can be under way for two minutes.
CLOCK_TOLERANCE = 300.0
# The same where Control Hub's answers have told its time.
_KNOWN_CLOCK_TOLERANCE = 10.0
wall_clock = time.time

_Effect = TypeVar("_Effect")


@dataclass(frozen=True)
class StartIntent:
    """
    A start that is about to be asked for.

    A run has no mark of who asked for it but its number, its user and its time, which together tell it from those that
    others have started. Two tasks that start the same job with the same credential within minutes cannot be told apart
    if the call of one of them is ambiguous.

    :param job_id: id of the job
    :param run_count: number that the run will have
    :param user: id of the user who asks
    :param at: when, in epoch seconds of Control Hub's clock
    :param until: when its run has begun at the latest
    """

    job_id: str
    run_count: int
    user: str | None
    at: float
    until: float = math.inf

    @classmethod
    def for_next_run(cls, job: Job, user: str | None, client: ControlHubClient) -> StartIntent:
        """
        Return the next start of a job, now.

        :param job: the job as just read
        :param user: id of the user who asks
        :param client: the client that is going to ask
        """
        at = wall_clock() + client.clock_skew
        return cls(job.job_id, job.last_run_count + 1, user, at, latest_delivery(client, at))

    def matches(self, run: JobRun) -> bool:
        """Return whether this start can have made a run."""
        if run.run_count != self.run_count or not self.is_of_user(run):
            return False
        return run.start_time is None or self.at - CLOCK_TOLERANCE <= run.start_time.timestamp() <= self.until

    def matches_later(self, run: JobRun | None) -> bool:
        """Return whether this start can have made a run, also after runs of other callers."""
        if run is None or run.run_count < self.run_count:
            return False
        return replace(self, run_count=run.run_count).matches(run)

    def is_of_user(self, run: JobRun) -> bool:
        """Return whether the same user has started a run, as far as that is known."""
        return not (self.user and run.user and run.user != self.user)


def latest_delivery(client: ControlHubClient, at: float) -> float:
    """
    Return until when a gateway can deliver a request.

    :param client: the client that sends it
    :param at: when it is sent, in epoch seconds of Control Hub's clock
    """
    return at + client.gateway_timeout + (_KNOWN_CLOCK_TOLERANCE if client.is_clock_skew_known else CLOCK_TOLERANCE)


def delivery_time_left(client: ControlHubClient, at: float) -> float:
    """
    Return the seconds for which a gateway can still deliver a request.

    Call it after a request of the client was answered: only answers hold the time of Control Hub.

    :param client: the client
    :param at: when the request was sent, in epoch seconds of Control Hub's clock
    """
    age = max(wall_clock() + client.clock_skew - at, 0.0)
    return max(client.gateway_timeout - age, 0.0)


def describe_run(run: JobRun) -> str:
    """Return a run with who started it and when, for messages: "run 4, started by me@org at ..."."""
    since = f" at {run.start_time.to_iso8601_string()}" if run.start_time else ""
    return f"run {run.run_count}, started by {run.user or 'an unknown user'}{since}"


class JobStarter:
    """
    One start of a job.

    :param client: the client
    :param job: the job as just read
    :param parameters: all its runtime parameters
    :param on_submit: told of each call before it is sent
    """

    def __init__(
        self,
        client: ControlHubClient,
        job: Job,
        parameters: Mapping[str, Any],
        on_submit: Callable[[StartIntent], None] | None = None,
    ) -> None:
        self._client = client
        self._job = job
        self._parameters = parameters
        self._on_submit = on_submit
        self._user: str | None = None

    def start(self) -> JobRun:
        """Start the job and return its new run; the errors are those of :meth:`Runs.start`."""
        job, unclear = self._job, False
        if self._on_submit is not None:
            self._user = self._client.current_user().user_id
        for _ in range(_MAX_START_ATTEMPTS):
            intent = StartIntent.for_next_run(job, self._user, self._client)
            if self._on_submit is not None:
                self._on_submit(intent)
            try:
                run = self._submit()
            except ControlHubError as error:
                unclear = unclear or may_have_executed(error)
                # After a call with an unclear end, a refusal can mean that that call did start the job after all.
                if not (may_have_executed(error) or (unclear and isinstance(error, ControlHubRejectedError))):
                    raise
                log.warning("%s Checking whether the job was started anyway.", error)
                started = self._find_submitted_run(intent, error)
                if started is not None:
                    log.info("Job %s was started: run %d.", job.label, started.run_count)
                    return started
                if isinstance(error, ControlHubRejectedError):
                    raise
                log.info(
                    "Job %s was not started: its latest run is still %d. Starting again.",
                    job.label,
                    job.last_run_count,
                )
                continue
            if run is None or not self._is_new_latest(run):
                run = self._find_submitted_run(intent, None)
            if run is not None:
                return run
            raise ControlHubUnexpectedAnswerError(
                f"Cannot start job {job.label}: Control Hub accepted the call, but no run after run "
                f"{job.last_run_count} appears."
            )
        raise ControlHubUnavailableError(
            f"Cannot start job {job.label}: {_MAX_START_ATTEMPTS} calls ended without an answer, and none started a run.",
            # As with the calls before it, the effect of the last one can still come.
            maybe_executed=True,
        )

    def _submit(self) -> JobRun | None:
        answer = self._client.request(
            "POST",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(self._job.job_id)}/start",
            action=f"start job {self._job.label}",
            body=dict(self._parameters),
            retry=Retry.NEVER,
        )
        return JobRun.from_wire(answer) if answer else None

    def _is_new_latest(self, run: JobRun) -> bool:
        """Return whether the answer to a start names a new run, the job's latest one."""
        if run.run_count == self._job.last_run_count + 1:
            return True
        if run.run_count <= self._job.last_run_count:
            return False
        # Somebody else's run may have come and gone since the job was read; a wait for a wrong number would not end.
        try:
            current = self._client.runs.current(self._job.job_id)
        except ControlHubError as error:
            log.warning("%s", error)
            return False
        return current is not None and current.run_count == run.run_count

    def _find_submitted_run(self, intent: StartIntent, error: ControlHubError | None) -> JobRun | None:
        """
        Return the run of a call whose answer did not name it; None if there is none.

        :raises ControlHubJobStateError: if somebody else has started the job meanwhile
        """
        newest, own = confirm_effect(
            self._client,
            lambda: self._newest_and_own(intent, error),
            subject=f"Whether job {self._job.label} was started",
            error=error,
            # A call that may still be delivered can start the job after the run of somebody else.
            is_complete=lambda runs: runs[1] is not None or (runs[0] is not None and not _is_unclear(error)),
            max_wait=_search_time(self._client, intent, error),
        )
        if newest is None or own is not None:
            return own
        raise ControlHubJobStateError(
            f"{error or 'Control Hub accepted the call without naming a run.'} Meanwhile somebody else has started job "
            f"{self._job.label}: {describe_run(newest)}. This call has started none."
        )

    def _newest_and_own(
        self, intent: StartIntent, error: ControlHubError | None
    ) -> tuple[JobRun | None, JobRun | None]:
        """Return the job's latest run if it was not there before, and the run of a call, as far as there are any."""
        newest = self._newest_run()
        if newest is None:
            return None, None
        intent = replace(intent, user=self._user)
        if intent.matches(newest):
            return newest, newest
        # A start that was accepted has made a run, however the clocks differ.
        if error is None and newest.run_count == intent.run_count and intent.is_of_user(newest):
            return newest, newest
        if newest.run_count > intent.run_count:
            run = self._client.runs.get(intent.job_id, intent.run_count)
            if run is not None and intent.matches(run):
                return newest, run
            if _is_unclear(error) and intent.matches_later(newest):
                return newest, newest
        return newest, None

    def _newest_run(self) -> JobRun | None:
        """Return the job's latest run if it was not there before; then it is known, too, who would have started it."""
        run = self._client.runs.current(self._job.job_id)
        if run is None or run.run_count <= self._job.last_run_count:
            return None
        self._user = self._user or self._client.current_user().user_id
        return run


class BulkStarter:
    """
    Starts many jobs with their stored runtime parameters, each exactly once.

    A call that was refused has started nothing that could be told from the runs of others, so nothing of it is
    claimed. A call whose answer was lost concerns its own batch only: its jobs are looked for, and sent again when no
    gateway can deliver the call any more.

    :param client: the client
    :param jobs: the jobs as just read, by id; all of them can be started
    :param on_submit: called before each call with all starts that may have had an effect, by job id, and after a
        refusal with those that remain
    """

    def __init__(
        self,
        client: ControlHubClient,
        jobs: Mapping[str, Job],
        on_submit: Callable[[Mapping[str, StartIntent]], None] | None = None,
    ) -> None:
        self._client = client
        self._jobs = jobs
        self._on_submit = on_submit or (lambda intents: None)
        self._user = client.current_user().user_id if on_submit is not None and jobs else None
        self._intents: dict[str, StartIntent] = {}
        self._unclear: dict[str, ControlHubError] = {}
        self._rejection: ControlHubError | None = None
        self._poll_error: ControlHubError | None = None
        self._started: dict[str, JobRun] = {}

    def start(self) -> dict[str, JobRun]:
        """Start the jobs and return their new runs by job id; the errors are those of :meth:`Runs.start_many`."""
        missing = list(self._jobs)
        for _ in range(_MAX_START_ATTEMPTS):
            for batch in chunked(missing, self._client.bulk_size):
                self._submit(batch)
                if self._rejection is not None:
                    break
            self._find_runs()
            missing = [job_id for job_id in self._jobs if job_id not in self._started]
            if self._rejection or self._poll_error or not self._unclear.keys() >= set(missing):
                break
            if missing:
                log.info("%d jobs were not started. Starting them again.", len(missing))
        if missing:
            self._fail(missing)
        return {job_id: self._started[job_id] for job_id in self._jobs}

    def _submit(self, batch: list[str]) -> None:
        new = {job_id: StartIntent.for_next_run(self._jobs[job_id], self._user, self._client) for job_id in batch}
        self._on_submit({**self._intents, **new})
        try:
            self._client.request(
                "POST",
                Service.JOBRUNNER,
                "/v1/jobs/startJobs",
                action=f"start {describe_ids(batch)}",
                body=batch,
                retry=Retry.NEVER,
            )
        except ControlHubError as error:
            if not may_have_executed(error):
                self._rejection = error
                self._on_submit(self._intents)
                if len(batch) > 1 and isinstance(error, (ControlHubNotFoundError, ControlHubRejectedError)):
                    self._warn_of_new_runs(batch)
                return
            log.warning("%s Checking which of the jobs were started anyway.", error)
            self._unclear.update(dict.fromkeys(batch, error))
        else:
            for job_id in batch:
                self._unclear.pop(job_id, None)
        self._intents.update(new)

    def _warn_of_new_runs(self, batch: list[str]) -> None:
        """Name the runs that a refused call may have started anyway, which nothing tells from those of others."""
        try:
            statuses = self._client.runs.statuses(batch)
        except ControlHubError as error:
            log.warning("Could not check whether the refused call has started some of the jobs: %s", error)
            return
        new = [
            f"{self._jobs[job_id].label} {describe_run(run)}"
            for job_id, run in statuses.items()
            if run and run.run_count > self._jobs[job_id].last_run_count
        ]
        if new:
            log.warning(
                "New runs of other callers, or of the refused call, are left alone: %s.", join_truncated(new, "; ")
            )

    def _find_runs(self) -> None:
        """Poll the jobs until each call that may have had an effect shows it."""
        left = {
            job_id: _search_time(self._client, intent, self._unclear.get(job_id))
            for job_id, intent in self._intents.items()
            if job_id not in self._started
        }
        waited = 0.0
        while left:
            self._poll_error = None
            for batch in chunked(list(left), self._client.bulk_size):
                try:
                    for job_id, latest in self._client.runs.statuses(batch).items():
                        run = self._own_run(self._intents[job_id], latest)
                        if run is not None:
                            self._started[job_id] = run
                            del left[job_id]
                except ControlHubError as error:
                    self._poll_error = error
                    log.warning("%s", error)
            if not left or waited >= max(left.values()):
                return
            self._client.sleep(_SEARCH_INTERVAL)
            waited += _SEARCH_INTERVAL

    def _own_run(self, intent: StartIntent, latest: JobRun | None) -> JobRun | None:
        """Return the first run of a job that its start can have made; others may have followed it already."""
        runs = [latest] if latest is not None else []
        if latest is not None and latest.run_count > intent.run_count:
            runs = [*self._client.runs.history(intent.job_id, min_run_count=intent.run_count)[::-1], latest]
        return next((run for run in runs if self._is_own(intent, run)), None)

    def _is_own(self, intent: StartIntent, run: JobRun) -> bool:
        if run.run_count < intent.run_count:
            return False
        # A start that was accepted has made a run, however the clocks differ. Whose the start was is known only where
        # it was announced.
        if intent.job_id not in self._unclear or intent.user is None:
            return intent.is_of_user(run)
        # Somebody else's run may have come and gone since the job was read.
        return intent.matches_later(run)

    def _fail(self, missing: list[str]) -> NoReturn:
        unclear = next((self._unclear[job_id] for job_id in missing if job_id in self._unclear), None)
        error = self._rejection or unclear
        details: dict[str, Any] = {
            "http_status": error.http_status if error else None,
            "issues": error.issues if error else (),
        }
        shown = join_truncated([self._jobs[job_id].label for job_id in missing], "; ")
        done = {job_id: run.run_count for job_id, run in self._started.items()}
        if self._poll_error is not None:
            message = (
                f"{error or 'Control Hub accepted the call.'} Whether these jobs were started could not be found out: "
                f"{shown}. {self._poll_error}"
            )
            if not done:
                raise ControlHubUnavailableError(message, maybe_executed=True, **details)
        elif error is not None and not done:
            raise error
        else:
            why = error or "Control Hub accepted the call, but no new run of theirs appears."
            message = f"{len(missing)} of {len(self._jobs)} jobs were not started: {shown}. {why}"
        is_clear = self._poll_error is None and unclear is None
        raise ControlHubBulkError(message, done=done, **details) from (self._rejection if is_clear else None)


def _is_unclear(error: ControlHubError | None) -> bool:
    """Return whether a call has ended so that it may still have its effect."""
    return error is not None and may_have_executed(error)


def _search_time(client: ControlHubClient, intent: StartIntent, error: ControlHubError | None) -> float:
    """
    Return the seconds for which to look for the run of a start.

    :param intent: the start
    :param error: how the call has ended; None if it was accepted
    """
    if error is None:
        return CONFIRM_TIMEOUT
    if not may_have_executed(error):
        return _SEARCH_AFTER_REJECTION
    # A gateway that has lost the answer, or the connection, can still deliver the call.
    return max(delivery_time_left(client, intent.at), _MIN_SEARCH)


@dataclass(frozen=True)
class CreateIntent:
    """
    A creation that is about to be asked for.

    :param name: name that the job will have; there was none of it
    :param user: id of the user who asks
    :param at: when, in epoch seconds of Control Hub's clock
    """

    name: str
    user: str | None
    at: float

    @classmethod
    def for_name(cls, name: str, user: str | None, clock_skew: float = 0.0) -> CreateIntent:
        """
        Return a creation now.

        :param name: name that the job will have
        :param user: id of the user who asks
        :param clock_skew: seconds by which Control Hub's clock is ahead of this one's
        """
        return cls(name, user, wall_clock() + clock_skew)

    def matches(self, job: Job) -> bool:
        """Return whether this creation can have made a job."""
        if job.name != self.name or (self.user and job.creator and job.creator != self.user):
            return False
        return job.create_time is None or abs(job.create_time.timestamp() - self.at) <= CLOCK_TOLERANCE


def search_time(client: ControlHubClient, error: ControlHubError | None) -> float:
    """
    Return the seconds for which to search for the effect of a request: until no gateway can deliver it any more.

    :param client: the client that has sent it
    :param error: how the request has ended; None if it was accepted
    """
    return CONFIRM_TIMEOUT if error is None else max(CONFIRM_TIMEOUT, client.gateway_timeout)


def confirm_effect(
    client: ControlHubClient,
    probe: Callable[[], _Effect],
    *,
    subject: str,
    error: ControlHubError | None = None,
    is_complete: Callable[[_Effect], bool] = bool,
    max_wait: float | Callable[[], float] | None = None,
) -> _Effect:
    """
    Look for the effect of a request until it shows. A read that fails for a while is repeated, too.

    :param client: its clock is used
    :param probe: returns what there is of the effect
    :param subject: what is to be found out, for messages: "Whether job X was created"
    :param error: how the request has ended; None if it was accepted
    :param is_complete: whether what was found is all of it
    :param max_wait: seconds to look, at the most, or a function that returns them, called when a look was answered:
        only answers hold the time of Control Hub; by default :func:`search_time`
    :returns: what the last look has found
    :raises ControlHubUnavailableError: if the last look fails; ``maybe_executed`` is set
    """
    if max_wait is None:
        max_wait = search_time(client, error)
    left = math.nan if callable(max_wait) else max_wait
    is_answered = False
    while True:
        look_error: ControlHubError | None = None
        try:
            found = probe()
        except ControlHubError as failure:
            look_error = failure
        if callable(max_wait) and not is_answered and (look_error is None or math.isnan(left)):
            left = max_wait()
        is_answered = is_answered or look_error is None
        if look_error is not None:
            if left <= 0 or is_fatal(look_error):
                ended = error or look_error
                raise ControlHubUnavailableError(
                    f"{error or 'Control Hub accepted the call.'} {subject} could not be found out: {look_error}",
                    http_status=ended.http_status,
                    issues=ended.issues,
                    maybe_executed=True,
                ) from look_error
        elif is_complete(found) or left <= 0:
            return found
        client.sleep(_POLL_DELAY)
        left -= _POLL_DELAY
