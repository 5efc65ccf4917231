"""Submit calls that must not be repeated, and confirm their effects (contract sections 8 and 10.5)."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow_provider_streamsets.control_hub._messages import describe_ids, join_truncated
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubBulkError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
    is_fatal,
    may_have_executed,
)
from airflow_provider_streamsets.control_hub.models import JobRun
from airflow_provider_streamsets.control_hub.paging import chunked
from airflow_provider_streamsets.control_hub.services import Retry, Service, quote_id

if TYPE_CHECKING:
    import pendulum

    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.models import Job
    from airflow_provider_streamsets.control_hub.session import Session

log = logging.getLogger(__name__)

_MAX_START_ATTEMPTS = 3
# Seconds to wait for the effect of an accepted request, at most.
CONFIRM_TIMEOUT = 60.0
_POLL_DELAY = 3.0
# Minimum search time after an ambiguous call, even if its gateway has given up by then.
_MIN_SEARCH = 20.0
# Poll interval of bulk starts, and the search time after a rejection.
_SEARCH_INTERVAL = 2.0
_SEARCH_AFTER_REJECTION = 6.0
# Maximum difference between the request time and the start time of a run: clocks may differ, and a call can take two
# minutes.
CLOCK_TOLERANCE = 300.0
# The same, if Control Hub's responses include its time.
_KNOWN_CLOCK_TOLERANCE = 10.0
# Long enough to distinguish the parameter sets of a template; a thousand of them take 20 KB in the task state.
_DIGEST_LENGTH = 16
wall_clock = time.time

_Effect = TypeVar("_Effect")


@dataclass(frozen=True)
class StartIntent:
    """
    A start to be submitted.

    A run does not name the call that started it. Its number, user and time together distinguish it from the runs of
    other callers. Two tasks that start the same job with the same credential within minutes are indistinguishable if
    the call of one of them is ambiguous.

    :param job_id: id of the job
    :param run_count: expected number of the run
    :param user: id of the user who submits it
    :param requested_at: time of the request, in epoch seconds of Control Hub's clock
    :param deliverable_until: latest possible start time of its run
    """

    job_id: str
    run_count: int
    user: str | None
    requested_at: float
    deliverable_until: float = math.inf

    @classmethod
    def for_next_run(cls, job: Job, user: str | None, client: ControlHubClient) -> StartIntent:
        """
        Create the intent to start the next run of a job now.

        :param job: the job as just read
        :param user: id of the user who submits it
        :param client: the client that sends the request
        """
        requested_at = wall_clock() + client.clock_skew
        return cls(job.job_id, job.last_run_count + 1, user, requested_at, latest_delivery(client, requested_at))

    def matches(self, run: JobRun) -> bool:
        """Return whether this intent can have caused a run."""
        if run.run_count != self.run_count or not self.is_of_user(run):
            return False
        if run.start_time is None:
            return True
        return self.requested_at - CLOCK_TOLERANCE <= run.start_time.timestamp() <= self.deliverable_until

    def matches_later(self, run: JobRun | None) -> bool:
        """Return whether this intent can have caused a run, even after runs of other callers."""
        if run is None or run.run_count < self.run_count:
            return False
        return replace(self, run_count=run.run_count).matches(run)

    def is_of_user(self, run: JobRun) -> bool:
        """Return whether the same user started a run, as far as known."""
        return not (self.user and run.user and run.user != self.user)


def latest_delivery(client: Session, requested_at: float) -> float:
    """
    Return the latest time at which a gateway can deliver a request.

    :param client: the client that sends it
    :param requested_at: time of the request, in epoch seconds of Control Hub's clock
    """
    tolerance = _KNOWN_CLOCK_TOLERANCE if client.is_clock_skew_known else CLOCK_TOLERANCE
    return requested_at + client.gateway_timeout + tolerance


def remaining_delivery_time(client: Session, requested_at: float) -> float:
    """
    Return the seconds in which a gateway can still deliver a request.

    Call it after a response of Control Hub, which includes its time.

    :param client: the client
    :param requested_at: time of the request, in epoch seconds of Control Hub's clock
    """
    age = max(wall_clock() + client.clock_skew - requested_at, 0.0)
    return max(client.gateway_timeout - age, 0.0)


def describe_run(run: JobRun) -> str:
    """Return a run with its user and start time for messages: "run 4, started by me@org at ..."."""
    since = f" at {run.start_time.to_iso8601_string()}" if run.start_time else ""
    return f"run {run.run_count}, started by {run.user or 'an unknown user'}{since}"


class JobStarter:
    """
    Starts a job exactly once.

    :param client: the client
    :param job: the job as just read
    :param parameters: all its runtime parameters
    :param on_submit: called with the intent before each call
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
        """Start the job and return its new run; see :meth:`Runs.start` for the errors."""
        job, is_ambiguous = self._job, False
        if self._on_submit is not None:
            self._user = self._client.current_user().user_id
        for _ in range(_MAX_START_ATTEMPTS):
            intent = StartIntent.for_next_run(job, self._user, self._client)
            if self._on_submit is not None:
                self._on_submit(intent)
            try:
                run = self._submit()
            except ControlHubError as error:
                is_ambiguous = is_ambiguous or may_have_executed(error)
                # After an ambiguous call, a rejection can mean that the earlier call did start the job.
                if not (may_have_executed(error) or (is_ambiguous and isinstance(error, ControlHubRejectedError))):
                    raise
                log.warning("%s Checking whether the job was started anyway.", error)
                started = self._find_submitted_run(intent, error)
                if started is not None:
                    log.info("Job %s was started: run %d.", job.label, started.run_count)
                    return started
                if isinstance(error, ControlHubRejectedError):
                    raise
                log.info(
                    "Job %s was not started: its latest run is still %d. Retrying.",
                    job.label,
                    job.last_run_count,
                )
                continue
            if run is None or not self._is_new_latest(run):
                run = self._find_submitted_run(intent, None)
            if run is not None:
                return run
            raise ControlHubUnexpectedResponseError(
                f"Cannot start job {job.label}: Control Hub accepted the request, but no run after run "
                f"{job.last_run_count} appeared."
            )
        raise ControlHubUnavailableError(
            f"Cannot start job {job.label}: {_MAX_START_ATTEMPTS} requests got no response, and none started a run.",
            # The last call can still be delivered late.
            maybe_executed=True,
        )

    def _submit(self) -> JobRun | None:
        response = self._client.request(
            "POST",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(self._job.job_id)}/start",
            action=f"start job {self._job.label}",
            body=dict(self._parameters),
            retry=Retry.NEVER,
        )
        return JobRun.from_wire(response) if response else None

    def _is_new_latest(self, run: JobRun) -> bool:
        """Return whether the run in the start response is new and the job's latest one."""
        if run.run_count == self._job.last_run_count + 1:
            return True
        if run.run_count <= self._job.last_run_count:
            return False
        # Runs of other callers may have ended since the job was read. A wait for a wrong number would not end.
        try:
            current = self._client.runs.current(self._job.job_id)
        except ControlHubError as error:
            log.warning("%s Searching for the new run by user and time.", error)
            return False
        return current is not None and current.run_count == run.run_count

    def _find_submitted_run(self, intent: StartIntent, error: ControlHubError | None) -> JobRun | None:
        """
        Return the run of a call whose response did not name it; None if there is none.

        :raises ControlHubJobStateError: if another caller has started the job meanwhile
        """
        newest, own = confirm_effect(
            self._client,
            lambda: self._newest_and_own(intent, error),
            subject=f"whether job {self._job.label} was started",
            error=error,
            # A call that may still be delivered can start the job after the run of another caller.
            is_complete=lambda runs: runs[1] is not None or (runs[0] is not None and not _is_ambiguous(error)),
            max_wait=_search_time(self._client, intent, error),
        )
        if newest is None or own is not None:
            return own
        raise ControlHubJobStateError(
            f"{error or 'Control Hub accepted the request, but its response names no run.'} Another caller started job "
            f"{self._job.label} meanwhile: {describe_run(newest)}. This request started no run."
        )

    def _newest_and_own(
        self, intent: StartIntent, error: ControlHubError | None
    ) -> tuple[JobRun | None, JobRun | None]:
        """Return the job's latest run if it is new, and the run of this call; None where missing."""
        newest = self._newest_run()
        if newest is None:
            return None, None
        intent = replace(intent, user=self._user)
        if intent.matches(newest):
            return newest, newest
        # An accepted call has started a run, however the clocks differ.
        if error is None and newest.run_count == intent.run_count and intent.is_of_user(newest):
            return newest, newest
        if newest.run_count > intent.run_count:
            run = self._client.runs.get(intent.job_id, intent.run_count)
            if run is not None and intent.matches(run):
                return newest, run
            if _is_ambiguous(error) and intent.matches_later(newest):
                return newest, newest
        return newest, None

    def _newest_run(self) -> JobRun | None:
        """Return the job's latest run if it is new; then the current user is known, too."""
        run = self._client.runs.current(self._job.job_id)
        if run is None or run.run_count <= self._job.last_run_count:
            return None
        self._user = self._user or self._client.current_user().user_id
        return run


class BulkStarter:
    """
    Starts many jobs with their stored runtime parameters, each exactly once.

    After a rejected call, its own runs cannot be distinguished from those of other callers, so none is claimed. After
    an ambiguous call, the jobs of its batch are searched for new runs, and submitted again when no gateway can deliver
    the call any more.

    :param client: the client
    :param jobs: the jobs as just read, by id; all of them can be started
    :param on_submit: called before each call with all intents that may have had an effect, by job id, and after a
        rejection with the remaining ones
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
        self._ambiguous: dict[str, ControlHubError] = {}
        self._rejection: ControlHubError | None = None
        self._poll_error: ControlHubError | None = None
        self._started: dict[str, JobRun] = {}

    def start(self) -> dict[str, JobRun]:
        """Start the jobs and return their new runs by job id; see :meth:`Runs.start_many` for the errors."""
        missing = list(self._jobs)
        for _ in range(_MAX_START_ATTEMPTS):
            for batch in chunked(missing, self._client.bulk_size):
                self._submit(batch)
                if self._rejection is not None:
                    break
            self._find_runs()
            missing = [job_id for job_id in self._jobs if job_id not in self._started]
            if self._rejection or self._poll_error or not self._ambiguous.keys() >= set(missing):
                break
            if missing:
                log.info("%d jobs were not started. Retrying.", len(missing))
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
            self._ambiguous.update(dict.fromkeys(batch, error))
        else:
            for job_id in batch:
                self._ambiguous.pop(job_id, None)
        self._intents.update(new)

    def _warn_of_new_runs(self, batch: list[str]) -> None:
        """Log the runs that a rejected call may have started, which other callers may have started as well."""
        try:
            statuses = self._client.runs.statuses(batch)
        except ControlHubError as error:
            log.warning("Could not check whether the rejected request started some of the jobs: %s", error)
            return
        new = [
            f"{self._jobs[job_id].label} {describe_run(run)}"
            for job_id, run in statuses.items()
            if run and run.run_count > self._jobs[job_id].last_run_count
        ]
        if new:
            log.warning(
                "Ignoring new runs, which other callers or the rejected request started: %s.",
                join_truncated(new, "; "),
            )

    def _find_runs(self) -> None:
        """Poll the jobs until the effect of each call is known."""
        remaining = {
            job_id: _search_time(self._client, intent, self._ambiguous.get(job_id))
            for job_id, intent in self._intents.items()
            if job_id not in self._started
        }
        deadline = Deadline.of_retries(max(remaining.values(), default=0.0), self._client.sleep)
        while remaining:
            self._poll_error = None
            for batch in chunked(list(remaining), self._client.bulk_size):
                try:
                    for job_id, latest in self._client.runs.statuses(batch).items():
                        run = self._own_run(self._intents[job_id], latest)
                        if run is not None:
                            self._started[job_id] = run
                            del remaining[job_id]
                except ControlHubError as error:
                    self._poll_error = error
                    log.warning("%s Could not check all jobs for new runs.", error)
            if not remaining or deadline.elapsed >= max(remaining.values()):
                return
            deadline.sleep(_SEARCH_INTERVAL)

    def _own_run(self, intent: StartIntent, latest: JobRun | None) -> JobRun | None:
        """Return the first run of a job that matches its intent; other runs may have followed it."""
        runs = [latest] if latest is not None else []
        if latest is not None and latest.run_count > intent.run_count:
            runs = [*self._client.runs.history(intent.job_id, min_run_count=intent.run_count)[::-1], latest]
        return next((run for run in runs if self._is_own(intent, run)), None)

    def _is_own(self, intent: StartIntent, run: JobRun) -> bool:
        if run.run_count < intent.run_count:
            return False
        # An accepted call has started a run, however the clocks differ. Its user is known only if the intent was
        # persisted.
        if intent.job_id not in self._ambiguous or intent.user is None:
            return intent.is_of_user(run)
        # Runs of other callers may have ended since the job was read.
        return intent.matches_later(run)

    def _fail(self, missing: list[str]) -> NoReturn:
        ambiguous = next((self._ambiguous[job_id] for job_id in missing if job_id in self._ambiguous), None)
        error = self._rejection or ambiguous
        details: dict[str, Any] = {
            "http_status": error.http_status if error else None,
            "issues": error.issues if error else (),
        }
        labels = join_truncated([self._jobs[job_id].label for job_id in missing], "; ")
        done = {job_id: run.run_count for job_id, run in self._started.items()}
        if self._poll_error is not None:
            message = (
                f"{error or 'Control Hub accepted the request.'} Could not determine whether these jobs were started: "
                f"{labels}. {self._poll_error}"
            )
            if not done:
                raise ControlHubUnavailableError(message, maybe_executed=True, **details)
        elif error is not None and not done:
            raise error
        else:
            reason = error or "Control Hub accepted the request, but no new runs of them appeared."
            message = f"{len(missing)} of {len(self._jobs)} jobs were not started: {labels}. {reason}"
        is_definite = self._poll_error is None and ambiguous is None
        raise ControlHubBulkError(message, done=done, **details) from (self._rejection if is_definite else None)


def _is_ambiguous(error: ControlHubError | None) -> bool:
    """Return whether a call ended so that it may still take effect."""
    return error is not None and may_have_executed(error)


def _search_time(client: Session, intent: StartIntent, error: ControlHubError | None) -> float:
    """
    Return the seconds for which to search for the run of a start.

    :param intent: the intent of the start
    :param error: error of the call; None if it was accepted
    """
    if error is None:
        return CONFIRM_TIMEOUT
    if not may_have_executed(error):
        return _SEARCH_AFTER_REJECTION
    # A gateway that lost the response or the connection can still deliver the call.
    return max(remaining_delivery_time(client, intent.requested_at), _MIN_SEARCH)


@dataclass(frozen=True)
class CreateIntent:
    """
    A creation to be submitted.

    :param name: name of the new job; no job had it before
    :param user: id of the user who submits it
    :param requested_at: time of the request, in epoch seconds of Control Hub's clock
    """

    name: str
    user: str | None
    requested_at: float

    @classmethod
    def for_name(cls, name: str, user: str | None, clock_skew: float = 0.0) -> CreateIntent:
        """
        Create the intent to create a job now.

        :param name: name of the new job
        :param user: id of the user who submits it
        :param clock_skew: seconds by which Control Hub's clock is ahead of the local one
        """
        return cls(name, user, wall_clock() + clock_skew)

    def matches(self, job: Job) -> bool:
        """Return whether this intent can have caused a job."""
        if job.name != self.name or (self.user and job.creator and job.creator != self.user):
            return False
        return job.create_time is None or abs(job.create_time.timestamp() - self.requested_at) <= CLOCK_TOLERANCE


@dataclass(frozen=True)
class TemplateStartIntent:
    """
    A start of template instances to be submitted.

    :param template_id: id of the job template
    :param previous_start: number of the template's latest start before
    :param user: id of the user who submits it
    :param requested_at: time of the request, in epoch seconds of Control Hub's clock
    :param parameters: digest of each parameter set, in the order sent
    :param deliverable_until: latest possible time of the start
    """

    template_id: str
    previous_start: int
    user: str | None
    requested_at: float | None = None
    parameters: tuple[str, ...] = ()
    deliverable_until: float = math.inf

    def matches(self, number: int, user: str | None, time: pendulum.DateTime | None) -> bool:
        """Return whether this intent can have caused a start with that number, user and time."""
        if number <= self.previous_start or user not in (self.user, None):
            return False
        if time is None or self.requested_at is None:
            return True
        return self.requested_at - CLOCK_TOLERANCE <= time.timestamp() <= self.deliverable_until


def complete_parameters(template: Job, runtime_parameters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """
    Return the parameter sets to send, completed with the template's values.

    :param template: the template as just read
    :param runtime_parameters: for each instance the values that override the template's
    """
    return [{**template.runtime_parameters, **own} for own in runtime_parameters]


def parameters_digest(values: Mapping[str, Any]) -> str:
    """
    Return a digest of a set of runtime parameters in their JSON form, in which tuples are lists and names are strings.

    :param values: the complete set, as sent or as read from an instance
    :raises ControlHubConfigurationError: if the values cannot be serialised
    """
    try:
        wire = json.loads(json.dumps(dict(values)), parse_float=_number)
    except (TypeError, ValueError, RecursionError) as error:
        raise ControlHubConfigurationError(
            f"Cannot send runtime parameters {join_truncated(sorted(map(str, values)))}: they are not valid JSON "
            f"({error})."
        ) from None
    text = json.dumps(wire, sort_keys=True, ensure_ascii=False)
    # Lone surrogates cannot be encoded.
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:_DIGEST_LENGTH]


def _number(text: str) -> float:
    """Return a number, as an integer if it is one: 1.0 and 1 are equal."""
    number = float(text)
    return int(number) if number.is_integer() else number


def search_time(client: Session, error: ControlHubError | None) -> float:
    """
    Return the seconds for which to search for the effect of a request: until no gateway can deliver it any more.

    :param client: the client that sent it
    :param error: error of the request; None if it was accepted
    """
    return CONFIRM_TIMEOUT if error is None else max(CONFIRM_TIMEOUT, client.gateway_timeout)


def confirm_effect(
    client: Session,
    probe: Callable[[], _Effect],
    *,
    subject: str,
    error: ControlHubError | None = None,
    is_complete: Callable[[_Effect], bool] = bool,
    max_wait: float | Callable[[], float] | None = None,
) -> _Effect:
    """
    Poll for the effect of a request until it is complete, tolerating failed reads.

    :param client: the client, whose clock is used
    :param probe: returns the effect found so far
    :param subject: what is to be determined, for messages: "whether job X was created"
    :param error: error of the request; None if it was accepted
    :param is_complete: returns whether the effect is complete
    :param max_wait: maximum number of seconds to poll, or a function that returns it. The function is called after a
        successful probe, because responses include Control Hub's time. Default: :func:`search_time`
    :returns: the effect found by the last probe
    :raises ControlHubUnavailableError: if the last probe failed; ``maybe_executed`` is set
    """
    if max_wait is None:
        max_wait = search_time(client, error)
    deadline = None if callable(max_wait) else Deadline.of_retries(max_wait, client.sleep)
    has_response = False
    while True:
        probe_error: ControlHubError | None = None
        try:
            found = probe()
        except ControlHubError as caught:
            probe_error = caught
        if deadline is None or (callable(max_wait) and not has_response and probe_error is None):
            deadline = Deadline.of_retries(max_wait() if callable(max_wait) else max_wait, client.sleep)
        has_response = has_response or probe_error is None
        if probe_error is not None:
            if deadline.has_passed or is_fatal(probe_error):
                cause = error or probe_error
                raise ControlHubUnavailableError(
                    f"{f'{error} ' if error else ''}Could not determine {subject}: {probe_error}",
                    http_status=cause.http_status,
                    issues=cause.issues,
                    maybe_executed=True,
                ) from probe_error
        elif is_complete(found) or deadline.has_passed:
            return found
        deadline.sleep(_POLL_DELAY)
