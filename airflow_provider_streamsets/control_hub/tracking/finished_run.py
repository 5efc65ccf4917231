"""Read the reports of finished runs, for asset events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubRunLostError,
    ControlHubUnavailableError,
    is_server_error,
)
from airflow_provider_streamsets.control_hub.tracking.run import (
    DEFAULT_METRICS_TIMEOUT,
    Log,
    OutageListener,
    OutageLog,
    RunTracker,
)

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.models import JobRun
    from airflow_provider_streamsets.control_hub.tracking.report import RunReport


class FinishedRunReader:
    """
    Reads the report of a finished run, which becomes an asset event.

    :param client: the client
    :param latest: the job's latest run: this one or a later one
    :param job_id: id of the job
    :param run_count: number of the run
    :param job_name: name of the job; read if empty
    :param metrics_timeout: maximum seconds to wait for the final metrics
    :param now: clock in seconds
    :param log: logger
    :param outage: notified when Control Hub becomes unreachable and reachable again; logs this by default
    """

    def __init__(
        self,
        client: ControlHubClient,
        latest: JobRun,
        *,
        job_id: str,
        run_count: int,
        job_name: str = "",
        metrics_timeout: float = DEFAULT_METRICS_TIMEOUT,
        now: Callable[[], float] | None = None,
        log: Log | None = None,
        outage: OutageListener | None = None,
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._run_count = run_count
        self._job_name = job_name
        self._log: Log = log or logging.getLogger(__name__)
        self._outage = outage or OutageLog(self._log)
        self._tracker = RunTracker(
            client,
            job_id,
            run_count,
            job_name=job_name,
            metrics_timeout=metrics_timeout,
            now=now,
            log=self._log,
            outage=self._outage,
        )
        self._tracker.observe(latest)

    def poll(self) -> RunReport | None:
        """
        Return the report; None if it is not complete yet.

        :raises ControlHubRunLostError: if Control Hub no longer has the run, or an upgrade of the job replaced it
        :raises ControlHubError: if it cannot be read
        """
        self._job_name = self._job_name or self._fetch_name()
        report = self._tracker.resolve()
        if self._tracker.replaced is not None:
            # The replacement run gets a report of its own.
            raise ControlHubRunLostError(
                f"Run {self._run_count} of job {self._job_id} was replaced by run {self._tracker.run_count}, because "
                "the job was upgraded while it was active."
            )
        return None if report is None else replace(report, job_name=self._job_name)

    def next_delay(self, interval: float) -> float:
        """
        Return the seconds until the next call of :meth:`poll`.

        :param interval: maximum delay
        """
        return self._tracker.next_delay(interval)

    def _fetch_name(self) -> str:
        try:
            return self._client.jobs.get(self._job_id).name
        except ControlHubError as error:
            if isinstance(error, ControlHubUnavailableError) or is_server_error(error):
                self._outage.failed(error)
                raise
            self._log.info("Could not read the name of job %s; reporting its runs without it: %s", self._job_id, error)
            return ""
