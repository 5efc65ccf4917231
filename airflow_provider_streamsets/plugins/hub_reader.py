"""Read Control Hub for the pages, with few requests, whose results all viewers share for some seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, TypeVar

import pendulum
from airflow.providers.common.compat.sdk import AirflowException
from cachetools import TTLCache

from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubError, JobRun, saql
from airflow_provider_streamsets.control_hub.bulk_status import BulkStatusReader
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.control_hub.models import (
    Engine,
    Job,
    RecordCountSample,
    RunEvent,
    RunMetrics,
    StageCounts,
    StatusSnapshot,
)
from airflow_provider_streamsets.control_hub.tracking.outcome import OutcomeDecision, decide_outcome, sort_events
from airflow_provider_streamsets.hooks.control_hub import ControlHubHook

_K = TypeVar("_K")
_V = TypeVar("_V")
_T = TypeVar("_T")
_MISSING: Any = object()

# Seconds for which statuses are reused: one poll of a page.
_STATUS_TTL = 4.0
# Ended runs do not change any more, names rarely do.
_ENDED_TTL = 60.0
_SEARCH_TTL = 60.0
_JOBS_TTL = 300.0
# A changed connection is read again after this time.
_CLIENT_TTL = 60.0
MAX_FOUND_JOBS = 1_000
_MAX_ENTRIES = 50_000
# Seconds to wait for a response: a page that waits for longer is of no use.
_TIMEOUT = 10.0
# Seconds after an outage or a refusal until the next request.
_RETRY_DELAY = 5.0
_MAX_EARLIER_RUNS = 10
# Seconds after the end of a run until which its last counts may be saved.
_SAVE_DELAY = 180


@dataclass(frozen=True)
class RunDetails:
    """
    A run with all that Control Hub has about it.

    :param job: the job
    :param run: the run
    :param latest: the latest run of the job
    :param events: events of the run, oldest first
    :param outcome: decision about the outcome of an ended run
    :param counts: its record counts
    :param stages: record counts of its stages
    :param samples: its record counts over time
    :param engines: its engines by id
    :param earlier: the runs before it, newest first
    :param problems: what could not be read, in words
    """

    job: Job
    run: JobRun
    latest: JobRun
    events: list[RunEvent]
    outcome: OutcomeDecision | None
    counts: RunMetrics | None
    stages: list[StageCounts]
    samples: list[RecordCountSample]
    engines: dict[str, Engine]
    earlier: list[JobRun]
    problems: list[str]


_REFUSALS = (ControlHubAuthenticationError, ControlHubConfigurationError, AirflowException)
_OUTAGES = (ControlHubUnavailableError, *_REFUSALS)


@dataclass(frozen=True)
class Health:
    """
    State of a connection, as its last request has shown it.

    :param answered: when Control Hub last answered
    :param latency: seconds that it took
    :param error: error of the last request; None after a success
    """

    answered: pendulum.DateTime | None = None
    latency: float | None = None
    error: Exception | None = None

    @property
    def state(self) -> str:
        """``ok``, ``unreachable``, ``refused`` (the credential, or the connection's settings) or ``unknown``."""
        if self.error is None:
            return "unknown" if self.answered is None else "ok"
        return "refused" if isinstance(self.error, _REFUSALS) else "unreachable"


class HubReader:
    """
    Reads the Control Hub of one connection for the pages; safe for concurrent requests.

    :param conn_id: id of the connection
    """

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self.health = Health()
        self._retry_at = 0.0
        self._client_lock = threading.Lock()
        self._client: ControlHubClient | None = None
        self._client_until = 0.0
        self._statuses: _SharedCache[str, StatusSnapshot | None] = _SharedCache(_STATUS_TTL)
        self._jobs: _SharedCache[str, Job | None] = _SharedCache(_JOBS_TTL)
        self._searches: _SharedCache[str, dict[str, str]] = _SharedCache(_SEARCH_TTL)
        self._details: _SharedCache[tuple[str, int], RunDetails | None] = _SharedCache(_STATUS_TTL)
        self._ended: _SharedCache[tuple[str, int], RunDetails | None] = _SharedCache(_ENDED_TTL)

    def client(self) -> ControlHubClient:
        """
        Return the client of the connection, which waits for no newer credential.

        :raises ControlHubError: if the connection is invalid
        :raises AirflowException: if it does not exist
        """
        with self._client_lock:
            if self._client is None or time.monotonic() >= self._client_until:
                hook = ControlHubHook(self.conn_id)
                # A DAG could otherwise send the password of any connection to its host.
                if hook.get_connection(self.conn_id).conn_type != hook.conn_type:
                    raise ControlHubConfigurationError(f"Connection '{self.conn_id}' is not one to Control Hub.")
                previous, self._client = self._client, hook.get_conn().with_options(timeout=_TIMEOUT)
                self._client_until = time.monotonic() + _CLIENT_TTL
                if previous is not None:
                    previous.close()
            return self._client

    def call(self, request: Callable[[ControlHubClient], _T]) -> _T:
        """
        Send requests, and record the health of the connection.

        Shortly after an outage or a refusal, no request is sent: viewers who wait for a Control Hub that does not
        answer would occupy all threads of the pages.

        :param request: sends the requests
        :raises ControlHubError: if one of them fails
        :raises AirflowException: if the connection does not exist
        """
        start, health = time.monotonic(), self.health
        if health.error is not None and start < self._retry_at:
            raise ControlHubUnavailableError(str(health.error))
        try:
            result = request(self.client())
        except _OUTAGES as error:
            self.health = replace(health, error=error)
            self._retry_at = time.monotonic() + _RETRY_DELAY
            raise
        except ControlHubError:
            # A response, although not the expected one.
            self.health = Health(pendulum.now("UTC"), time.monotonic() - start)
            raise
        self.health = Health(pendulum.now("UTC"), time.monotonic() - start)
        return result

    def statuses(self, job_ids: Iterable[str]) -> dict[str, StatusSnapshot | None]:
        """
        Return the latest runs of jobs by id, without those that cannot be read; None for jobs that never ran.

        :raises ControlHubError: if nothing could be read
        """
        return self._statuses.get_all(job_ids, lambda ids: self.call(lambda client: _read_statuses(client, ids)))

    def jobs(self, job_ids: Iterable[str]) -> dict[str, Job | None]:
        """
        Return jobs by id; None for those that do not exist.

        :raises ControlHubError: if nothing could be read
        """
        return self._jobs.get_all(job_ids, lambda ids: self.call(lambda client: _read_jobs(client, ids)))

    def search(self, text: str) -> dict[str, str]:
        """
        Return the names of jobs whose name contains a text, by id, at most :data:`MAX_FOUND_JOBS`.

        :raises ControlHubError: if Control Hub cannot search
        """
        found = self._searches.get_all([text], lambda texts: self.call(lambda client: _search(client, texts)))
        return found[text]

    def details(self, job_id: str, run_count: int) -> RunDetails | None:
        """
        Return all about a run, or the run that an upgrade has replaced it with; None if Control Hub does not know it.

        :raises ControlHubError: if neither job nor run could be read
        """
        key = (job_id, run_count)
        ended = self._ended.get(key)
        if ended is not None:
            return ended
        found = self._details.get_all(
            [key], lambda _: {key: self.call(lambda client: _read_details(client, job_id, run_count))}
        )
        details = found[key]
        if details is not None and details.run.has_ended:
            self._ended.put(key, details)
        return details

    def forget(self, job_id: str) -> None:
        """Forget the state of a job that has just been changed."""
        self._statuses.discard(lambda key: key == job_id)
        for cache in (self._details, self._ended):
            cache.discard(lambda key: key[0] == job_id)


class _SharedCache(Generic[_K, _V]):
    """Values that are reused for some seconds. One thread at a time fetches missing ones; the others find them."""

    def __init__(self, seconds: float) -> None:
        self._values: TTLCache[_K, _V] = TTLCache(_MAX_ENTRIES, seconds)
        self._lock = threading.Lock()
        self._fetch_lock = threading.Lock()

    def get(self, key: _K) -> _V | None:
        """Return a value; None if it is missing."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: _K, value: _V) -> None:
        """Add a value."""
        with self._lock:
            self._values[key] = value

    def get_all(self, keys: Iterable[_K], fetch: Callable[[list[_K]], Mapping[_K, _V]]) -> dict[_K, _V]:
        """Return the values of keys, after fetching the missing ones."""
        wanted = dict.fromkeys(keys)
        found = self._find(wanted)
        if len(found) < len(wanted):
            with self._fetch_lock:
                found |= self._find(wanted)
                missing = [key for key in wanted if key not in found]
                fetched = fetch(missing) if missing else {}
            with self._lock:
                self._values.update(fetched)
            found |= fetched
        return found

    def _find(self, keys: Iterable[_K]) -> dict[_K, _V]:
        with self._lock:
            values = ((key, self._values.get(key, _MISSING)) for key in keys)
            return {key: value for key, value in values if value is not _MISSING}

    def discard(self, matches: Callable[[_K], bool]) -> None:
        """Remove values by key."""
        with self._lock:
            for key in [key for key in self._values if matches(key)]:
                self._values.pop(key, None)


def _read_statuses(client: ControlHubClient, job_ids: list[str]) -> dict[str, StatusSnapshot | None]:
    snapshots = BulkStatusReader(client).fetch(job_ids)
    return {job_id: one for job_id, one in snapshots.items() if not isinstance(one, ControlHubError)}


def _search(client: ControlHubClient, texts: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {text: {} for text in texts}
    for text in texts:
        search = saql.equals("name", f"*{text}*")
        jobs = islice(client.jobs.list(search=search), MAX_FOUND_JOBS) if search else ()
        found[text] = {job.job_id: job.name for job in jobs}
    return found


def _read_jobs(client: ControlHubClient, job_ids: list[str]) -> dict[str, Job | None]:
    found = client.jobs.get_many(job_ids)
    return {job_id: found.get(job_id) for job_id in job_ids}


def _read_details(client: ControlHubClient, job_id: str, run_count: int) -> RunDetails | None:
    job = client.jobs.get(job_id)
    latest = job.current_run
    if latest is None or latest.run_count < run_count:
        return None
    run = latest if latest.run_count == run_count else client.runs.get_or_successor(job_id, run_count, latest)
    if run is None:
        return None
    run_count = run.run_count
    problems: list[str] = []

    def read(request: Callable[[], _T], default: _T) -> _T:
        try:
            return request()
        except _OUTAGES:
            raise
        except ControlHubError as error:
            problems.append(str(error))
            return default

    def read_samples() -> list[RecordCountSample]:
        if not job.time_series or started is None:
            return []
        return client.metrics.series(job_id, started, finished.add(seconds=_SAVE_DELAY) if finished else None)

    def read_earlier() -> list[JobRun]:
        return [] if started is None else client.runs.history(job_id, _MAX_EARLIER_RUNS, until=started)

    started, finished = run.start_time, run.finish_time
    events = sort_events(read(lambda: client.runs.events(run.run_id), []))
    registry = read(lambda: client.metrics.registry(job_id, run_count), None)
    return RunDetails(
        job=job,
        run=run,
        latest=latest,
        events=events,
        outcome=decide_outcome(run, events) if run.has_ended else None,
        counts=read(lambda: client.metrics.of_run(job_id, run_count, latest=latest, run=run), None),
        stages=registry.stages() if registry else [],
        samples=read(read_samples, []),
        engines=read(lambda: client.engines.get_all(run.engine_ids), {}),
        earlier=read(read_earlier, []),
        problems=problems,
    )
