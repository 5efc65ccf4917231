"""Load the reports of finished runs, with retries until they are available."""

from __future__ import annotations

import asyncio
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
from airflow_provider_streamsets.control_hub.tracking.run import RunTracker
from airflow_provider_streamsets.polling.watcher_poll import ReportRequest, WatcherGroup, spawn

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.models import JobRun
    from airflow_provider_streamsets.control_hub.tracking.report import RunReport

log = logging.getLogger(__name__)


def load_report(
    group: WatcherGroup, run: ReportRequest, latest: JobRun, job_name: str
) -> asyncio.Task[RunReport | None]:
    """
    Load the report of a finished run; watchers of the same job share the task.

    :param group: group that sends the requests
    :param run: the run
    :param latest: the job's latest run: this one or a later one
    :param job_name: name of the job, empty if unknown
    :returns: task that returns the report, or None if Control Hub no longer has the run
    """
    task = group.reports.get(run)
    if task is None or task.cancelled():
        task = spawn(_ReportLoader(group, run, latest, job_name).load())
        group.reports[run] = task
        task.add_done_callback(lambda _: group.request_item())
    return task


class _ReportLoader:
    def __init__(self, group: WatcherGroup, run: ReportRequest, latest: JobRun, job_name: str) -> None:
        self._group = group
        self._run = run
        self._latest = latest
        self._job_name = job_name
        self._client: ControlHubClient | None = None
        self._tracker: RunTracker | None = None
        self._has_failed = False

    async def load(self) -> RunReport | None:
        now = asyncio.get_running_loop().time
        while True:
            delay = self._group.interval
            try:
                report = await self._group.run_query(lambda client: self._poll(client, now))
                if report is not None:
                    return report
                if self._tracker is not None:
                    delay = self._tracker.next_delay(delay)
            except ControlHubRunLostError as error:
                log.warning("%s It gets no asset event.", error)
                return None
            except ControlHubError as error:
                self._log_failure(error)
            except Exception as error:  # noqa: BLE001 - a finished run must not be lost
                self._log_failure(error, with_traceback=True)
            await asyncio.sleep(delay)

    def _poll(self, client: ControlHubClient, now: Callable[[], float]) -> RunReport | None:
        run = self._run
        if client is not self._client or self._tracker is None:
            self._client = client
            self._job_name = self._job_name or self._fetch_name(client)
            self._tracker = RunTracker(
                client,
                run.job_id,
                run.run_count,
                job_name=self._job_name,
                metrics_timeout=run.metrics_timeout,
                now=now,
                log=log,
                outage=self,
            )
            self._tracker.observe(self._latest)
        report = self._tracker.resolve()
        if self._tracker.replaced is not None:
            # The replacement run gets a report of its own.
            raise ControlHubRunLostError(
                f"Run {run.run_count} of job {run.job_id} was replaced by run {self._tracker.run_count}, because the "
                "job was upgraded while it was active."
            )
        return None if report is None else replace(report, job_name=self._job_name)

    def _fetch_name(self, client: ControlHubClient) -> str:
        try:
            return client.jobs.get(self._run.job_id).name
        except ControlHubError as error:
            if isinstance(error, ControlHubUnavailableError) or is_server_error(error):
                self._group.mark_unreachable()
                raise
            log.info("Could not read the name of job %s; reporting its runs without it: %s", self._run.job_id, error)
            return ""

    def failed(self, error: ControlHubError) -> None:
        """Pause queries; the group logs the outage and resumes them."""
        self._group.mark_unreachable()

    def succeeded(self) -> None:
        """Do nothing."""

    def _log_failure(self, error: Exception, *, with_traceback: bool = False) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.warning(
                "Run %d of job %s has finished, but its report could not be read: %s Retrying every %g s.",
                self._run.run_count,
                self._run.job_id,
                error,
                self._group.interval,
                exc_info=with_traceback,
            )
