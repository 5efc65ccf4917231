"""Poll the latest runs of the jobs of many watchers, in as few requests as possible."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub.bulk_status import BulkStatusReader
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubPermissionError,
    ControlHubUnavailableError,
    is_server_error,
)

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.models import JobRun


@dataclass(frozen=True)
class JobSelector:
    """
    The jobs of a watcher: exactly one of the fields is set.

    :param job_id: id of the job
    :param job_name: exact name of the job
    :param job_tag: tag of the jobs, without organization
    """

    job_id: str | None = None
    job_name: str | None = None
    job_tag: str | None = None

    def __str__(self) -> str:
        if self.job_tag is not None:
            return f"the jobs with the tag '{self.job_tag}'"
        return f"job '{self.job_name}'" if self.job_name is not None else f"job {self.job_id}"


@dataclass
class PollResult:
    """
    Result of a poll.

    :param statuses: for each selector, the latest run by job id; None for a job without a run
    :param errors: errors by selector
    :param names: known names of jobs by id
    :param complete: selectors with a tag whose statuses include all jobs with the tag
    """

    statuses: dict[JobSelector, dict[str, JobRun | None]] = field(default_factory=dict)
    errors: dict[JobSelector, ControlHubError] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    complete: set[JobSelector] = field(default_factory=set)


@dataclass
class _Tagged:
    """
    The jobs that have a tag, as last listed.

    :param names: names of the jobs by id
    :param change_key: change key of the list; None if unknown
    :param polls_left: number of polls until the jobs are listed again even if the change key has not changed
    """

    names: dict[str, str]
    change_key: tuple[int, str, int] | None
    polls_left: int


class WatcherQuery:
    """
    Polls the statuses of jobs, in one request for many.

    A list holds complete jobs, which are many kilobytes each. So the jobs with a tag are listed again only if their
    change key differs, and every `list_every` polls.

    :param client: sends the requests
    :param list_every: number of polls after which the jobs with a tag are listed again even if nothing has changed
    """

    def __init__(self, client: ControlHubClient, *, list_every: int = 1) -> None:
        self._list_every = list_every
        self._tagged: dict[str, _Tagged] = {}
        self._client = client
        self._statuses = BulkStatusReader(client)
        self._ids: dict[str, str] = {}

    def poll(self, selectors: Collection[JobSelector]) -> PollResult:
        """
        Poll the latest runs of all selected jobs.

        :raises ControlHubError: if Control Hub is unreachable or rejects the credential
        """
        result = PollResult()
        ids: dict[JobSelector, list[str]] = {}
        for selector in selectors:
            if selector.job_tag is not None:
                ids[selector] = self._poll_tag(selector, selector.job_tag, result)
            elif job_id := self._id_of(selector, result):
                ids[selector] = [job_id]
        if any(ids.values()):
            self._poll_jobs(ids, result)
        self._tagged = {tag: tagged for tag, tagged in self._tagged.items() if JobSelector(job_tag=tag) in ids}
        return result

    def _poll_tag(self, selector: JobSelector, tag: str, result: PollResult) -> list[str]:
        """Return the ids of the jobs whose statuses must be fetched; none if the jobs were listed."""
        # Read before the list, so that the next poll detects a change during the list.
        change_key = self._change_key(tag)
        tagged = self._tagged.pop(tag, None)
        if tagged is not None and tagged.polls_left > 0 and change_key is not None and change_key == tagged.change_key:
            self._tagged[tag] = replace(tagged, polls_left=tagged.polls_left - 1)
            result.names.update(tagged.names)
            if not tagged.names:
                result.statuses[selector] = {}
            return list(tagged.names)
        try:
            jobs = list(self._client.jobs.list(tag=tag))
        except ControlHubError as error:
            _raise_if_general(error)
            result.errors[selector] = error
        else:
            names = {job.job_id: job.name for job in jobs}
            self._tagged[tag] = _Tagged(names, change_key, self._list_every - 1)
            result.statuses[selector] = {job.job_id: job.current_run for job in jobs}
            result.names.update(names)
            result.complete.add(selector)
        return []

    def _change_key(self, tag: str) -> tuple[int, str, int] | None:
        try:
            return self._client.jobs.change_key(tag=tag)
        except ControlHubError as error:
            # Control Hub may fail only for the sort order of this request; then the list shows changes.
            if error.http_status != 500:
                _raise_if_general(error)
            return None

    def _id_of(self, selector: JobSelector, result: PollResult) -> str | None:
        name = selector.job_name
        if name is None:
            return selector.job_id
        if name not in self._ids:
            try:
                self._ids[name] = self._client.jobs.find_by_name(name).job_id
            except ControlHubError as error:
                _raise_if_general(error)
                result.errors[selector] = error
        return self._ids.get(name)

    def _poll_jobs(self, ids: Mapping[JobSelector, Sequence[str]], result: PollResult) -> None:
        job_ids = sorted({job_id for selected in ids.values() for job_id in selected})
        try:
            runs = self._statuses.fetch_runs(job_ids)
        except ControlHubPermissionError as error:
            runs = dict.fromkeys(job_ids, error)
        for selector, selected in ids.items():
            by_job = {job_id: runs[job_id] for job_id in selected if job_id in runs}
            errors = [run for run in by_job.values() if isinstance(run, ControlHubError)]
            if by_job and len(errors) == len(by_job):
                result.errors[selector] = errors[0]
            elif by_job:
                result.statuses[selector] = {
                    job_id: run for job_id, run in by_job.items() if not isinstance(run, ControlHubError)
                }
                if selector.job_name is not None and None in by_job.values():
                    # The job may have been deleted, and another job may have its name.
                    del self._ids[selector.job_name]


def _raise_if_general(error: ControlHubError) -> None:
    """Raise an error that concerns all requests."""
    if isinstance(error, (ControlHubAuthenticationError, ControlHubUnavailableError)) or is_server_error(error):
        raise error
