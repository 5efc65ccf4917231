"""Looking at the latest runs of many jobs, in one request for many, whatever is wrong with some of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    is_fatal,
    is_server_error,
)
from airflow_provider_streamsets.control_hub.status_snapshot import StatusSnapshot

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.models import JobRun

log = logging.getLogger(__name__)

# Requests for finding out which jobs spoil a common answer, at the most in one look. Those that it does not reach are
# looked at the next time.
_MAX_REQUESTS = 100
# HTTP statuses of requests that are too large.
_TOO_LARGE_STATUSES = (413, 414)


class BulkStatusReader:
    """
    Looks at the latest runs of jobs, again and again.

    One job that does not exist or may not be read can spoil the answer for all that it is asked for with (contract,
    18.3). Such jobs are found by halving, and asked for apart from then on. Requests that are refused as too large are
    halved, too.

    :param client: asked for the statuses
    """

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client
        self._isolated: set[str] = set()
        self._unreadable: set[str] = set()
        self.rejected_batch_size: int | None = None
        """Jobs in the smallest request of the last look that was refused as too large; None if none was."""

    def fetch(self, job_ids: Sequence[str]) -> dict[str, StatusSnapshot | ControlHubError | None]:
        """
        Look at jobs.

        :param job_ids: ids of the jobs
        :returns: for each job its latest run, None if Control Hub names none, or the error that makes further looks at
            it pointless, or that says what is wrong with its status; jobs that were not reached this time are missing
        :raises ControlHubError: if nothing could be read, or further looks at all jobs are pointless
        """
        together = [job_id for job_id in job_ids if job_id not in self._isolated]
        parts = [[job_id] for job_id in job_ids if job_id in self._isolated]
        if together:
            parts.append(together)
        answers: dict[str, StatusSnapshot | ControlHubError | None] = {}
        failure: ControlHubError | None = None
        self.rejected_batch_size = None
        for _ in range(_MAX_REQUESTS):
            if not parts:
                break
            part = parts.pop()
            try:
                answers.update(self._client.runs.snapshots(part))
            except (ControlHubNotFoundError, ControlHubPermissionError, ControlHubRejectedError) as error:
                if len(part) > 1:
                    parts += self._split(part, error)
                    continue
                if len(job_ids) == 1 and (isinstance(error, ControlHubPermissionError) or is_server_error(error)):
                    raise
                self._isolated.update(part)
                if isinstance(error, ControlHubPermissionError):
                    answers[part[0]] = error
                elif is_server_error(error):
                    failure = error
                else:
                    # Whether an unknown job is an error or just missing in the answer is not known (contract, 18.6).
                    answers[part[0]] = None
            except ControlHubUnavailableError as error:
                if len(part) > 1 and error.http_status in _TOO_LARGE_STATUSES:
                    parts += self._split(part, error)
                    continue
                if not answers:
                    raise
                log.info("%s Going on at the next look.", error)
                break
            else:
                if len(part) == 1:
                    self._isolated.discard(part[0])
        if failure is not None:
            if not answers:
                raise failure
            log.warning("%s Looking again later.", failure)
        return answers

    def _split(self, part: list[str], error: ControlHubError) -> list[list[str]]:
        if error.http_status in _TOO_LARGE_STATUSES:
            self.rejected_batch_size = min(len(part), self.rejected_batch_size or len(part))
        middle = len(part) // 2
        return [part[middle:], part[:middle]]

    def fetch_runs(self, job_ids: Sequence[str]) -> dict[str, JobRun | ControlHubError | None]:
        """
        Look at jobs, and read their runs whole.

        :returns: as :meth:`at`; jobs whose status cannot be read are missing
        :raises ControlHubError: as :meth:`at`
        """
        return self.parse(self.fetch(job_ids))

    def parse(
        self, answers: Mapping[str, StatusSnapshot | ControlHubError | None]
    ) -> dict[str, JobRun | ControlHubError | None]:
        """
        Read the runs whole of which :meth:`at` has had a glance.

        :param answers: by job id
        :returns: the same; jobs whose status cannot be read are logged, and missing
        """
        runs: dict[str, JobRun | ControlHubError | None] = {}
        for job_id, answer in answers.items():
            try:
                if isinstance(answer, ControlHubError) and not is_fatal(answer):
                    raise answer
                runs[job_id] = answer.read() if isinstance(answer, StatusSnapshot) else answer
            except ControlHubError as error:
                if job_id not in self._unreadable:
                    self._unreadable.add(job_id)
                    log.warning("The status of job %s cannot be read: %s Looking again later.", job_id, error)
            else:
                self._unreadable.discard(job_id)
        return runs

    def forget(self, job_id: str) -> None:
        """Forget what is known of a job that is not looked at any more."""
        self._isolated.discard(job_id)
        self._unreadable.discard(job_id)
