"""Reading the latest runs of the jobs that many watches want to know about, in as few requests as can be."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubPermissionError,
    ControlHubUnavailableError,
    is_fault,
)
from airflow_provider_streamsets.control_hub.looks import StatusLooks

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.models import JobRun


@dataclass(frozen=True)
class Wanted:
    """
    The jobs of one watch, named in one of three ways.

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
class Look:
    """
    What one look has found.

    :param statuses: for each of what was wanted, the latest run by job id; None for a job that shows no run
    :param errors: why nothing could be found out about something that was wanted
    :param names: names of jobs by id, as far as they are known
    """

    statuses: dict[Wanted, dict[str, JobRun | None]] = field(default_factory=dict)
    errors: dict[Wanted, ControlHubError] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


class RunLooks:
    """
    Looks at jobs again and again: jobs by id or name in one request for many, jobs by tag in one list for each tag.

    :param client: asked for them
    """

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client
        self._statuses = StatusLooks(client)
        self._ids: dict[str, str] = {}

    def look(self, wanted: Collection[Wanted]) -> Look:
        """
        Look at everything that is wanted.

        :raises ControlHubError: if Control Hub cannot be reached or refuses the credential
        """
        look = Look()
        for want in wanted:
            if want.job_tag is not None:
                self._look_at_tag(want, want.job_tag, look)
        ids = {want: job_id for want in wanted if (job_id := self._id_of(want, look))}
        if ids:
            self._look_at_jobs(ids, look)
        return look

    def _look_at_tag(self, want: Wanted, tag: str, look: Look) -> None:
        try:
            jobs = list(self._client.jobs.list(tag=tag))
        except ControlHubError as error:
            _raise_if_general(error)
            look.errors[want] = error
        else:
            look.statuses[want] = {job.job_id: job.current_run for job in jobs}
            look.names.update({job.job_id: job.name for job in jobs})

    def _id_of(self, want: Wanted, look: Look) -> str | None:
        name = want.job_name
        if name is None:
            return want.job_id
        if name not in self._ids:
            try:
                self._ids[name] = self._client.jobs.find_by_name(name).job_id
            except ControlHubError as error:
                _raise_if_general(error)
                look.errors[want] = error
        return self._ids.get(name)

    def _look_at_jobs(self, ids: Mapping[Wanted, str], look: Look) -> None:
        job_ids = sorted(set(ids.values()))
        try:
            answers = self._statuses.read(job_ids)
        except ControlHubPermissionError as error:
            answers = dict.fromkeys(job_ids, error)
        for want, job_id in ids.items():
            answer = answers.get(job_id)
            if isinstance(answer, ControlHubError):
                look.errors[want] = answer
            elif job_id in answers:
                look.statuses[want] = {job_id: answer}
                if answer is None and want.job_name is not None:
                    # It may have been deleted, and another job may have its name now.
                    del self._ids[want.job_name]


def _raise_if_general(error: ControlHubError) -> None:
    """Raise an error that concerns everything that could be asked for."""
    if isinstance(error, (ControlHubAuthenticationError, ControlHubUnavailableError)) or is_fault(error):
        raise error
