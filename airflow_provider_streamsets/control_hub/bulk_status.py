"""Read the latest runs of many jobs in bulk requests, tolerating jobs that cannot be read."""

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
from airflow_provider_streamsets.control_hub.models.status_snapshot import StatusSnapshot

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.models import JobRun

log = logging.getLogger(__name__)

# Maximum number of requests per poll, including those that isolate failing jobs. The remaining jobs wait for the next
# poll.
_MAX_REQUESTS = 100
# HTTP statuses of requests that are too large.
_TOO_LARGE_STATUSES = (413, 414)


class BulkStatusReader:
    """
    Reads the latest runs of jobs, poll after poll.

    One missing or unreadable job can fail the request for all jobs of a batch (contract section 18.3). Such jobs are
    located by bisection and then requested individually. Batches rejected as too large are split, too.

    :param client: the client
    """

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client
        self._isolated: set[str] = set()
        self._unreadable: set[str] = set()
        self.rejected_batch_size: int | None = None
        """Size of the smallest batch rejected as too large at the last poll; None if none was."""

    def fetch(self, job_ids: Sequence[str]) -> dict[str, StatusSnapshot | ControlHubError | None]:
        """
        Read the statuses of jobs.

        :param job_ids: ids of the jobs
        :returns: for each job its latest run, None if Control Hub names none, or its error: a fatal one, or one about
            an invalid status. Jobs not reached in this poll are missing
        :raises ControlHubError: if nothing could be read, or on a fatal error for all jobs
        """
        shared = [job_id for job_id in job_ids if job_id not in self._isolated]
        batches = [[job_id] for job_id in job_ids if job_id in self._isolated]
        if shared:
            batches.append(shared)
        responses: dict[str, StatusSnapshot | ControlHubError | None] = {}
        failure: ControlHubError | None = None
        self.rejected_batch_size = None
        for _ in range(_MAX_REQUESTS):
            if not batches:
                break
            batch = batches.pop()
            try:
                responses.update(self._client.runs.snapshots(batch))
            except (ControlHubNotFoundError, ControlHubPermissionError, ControlHubRejectedError) as error:
                if len(batch) > 1:
                    batches += self._split(batch, error)
                    continue
                if len(job_ids) == 1 and (isinstance(error, ControlHubPermissionError) or is_server_error(error)):
                    raise
                self._isolated.update(batch)
                if isinstance(error, ControlHubPermissionError):
                    responses[batch[0]] = error
                elif is_server_error(error):
                    failure = error
                else:
                    # An unknown job is an error, or missing in the response (contract section 18.6).
                    responses[batch[0]] = None
            except ControlHubUnavailableError as error:
                if len(batch) > 1 and error.http_status in _TOO_LARGE_STATUSES:
                    batches += self._split(batch, error)
                    continue
                if not responses:
                    raise
                log.info("%s Reading the remaining jobs at the next poll.", error)
                break
            else:
                if len(batch) == 1:
                    self._isolated.discard(batch[0])
        if failure is not None:
            if not responses:
                raise failure
            log.warning("%s Retrying at the next poll.", failure)
        return responses

    def _split(self, batch: list[str], error: ControlHubError) -> list[list[str]]:
        if error.http_status in _TOO_LARGE_STATUSES:
            self.rejected_batch_size = min(len(batch), self.rejected_batch_size or len(batch))
        middle = len(batch) // 2
        return [batch[middle:], batch[:middle]]

    def fetch_runs(self, job_ids: Sequence[str]) -> dict[str, JobRun | ControlHubError | None]:
        """
        Read the latest runs of jobs completely.

        :returns: as :meth:`fetch`, without jobs whose status cannot be parsed
        :raises ControlHubError: as :meth:`fetch`
        """
        return self.parse(self.fetch(job_ids))

    def parse(
        self, responses: Mapping[str, StatusSnapshot | ControlHubError | None]
    ) -> dict[str, JobRun | ControlHubError | None]:
        """
        Parse the runs of snapshots that :meth:`fetch` has returned.

        :param responses: snapshots by job id
        :returns: runs by job id; jobs whose status cannot be parsed are logged and left out
        """
        runs: dict[str, JobRun | ControlHubError | None] = {}
        for job_id, response in responses.items():
            try:
                if isinstance(response, ControlHubError) and not is_fatal(response):
                    raise response
                runs[job_id] = response.to_run() if isinstance(response, StatusSnapshot) else response
            except ControlHubError as error:
                if job_id not in self._unreadable:
                    self._unreadable.add(job_id)
                    log.warning("Job %s: cannot read its status; retrying at the next poll. %s", job_id, error)
            else:
                self._unreadable.discard(job_id)
        return runs

    def forget(self, job_id: str) -> None:
        """Forget the state of a job that is not polled any more."""
        self._isolated.discard(job_id)
        self._unreadable.discard(job_id)
