"""Record counts of runs, as Control Hub saved them (contract, section 12.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub.models import RunMetrics
from airflow_provider_streamsets.control_hub.services import Service, in_path
from airflow_provider_streamsets.control_hub.wire import as_object

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient


class Metrics:
    """Metrics of runs; reached as ``client.metrics``."""

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def all_runs(self, job_id: str, *, latest_run_count: int | None = None) -> list[RunMetrics]:
        """
        Return the record counts of all runs that have any, newest first.

        They exist only if the pipeline writes statistics to Control Hub, and lag behind by up to the job's
        statistics interval.

        :param job_id: id of the job
        :param latest_run_count: number of the job's latest run if the caller just read it; saves a request
        """
        answer = self._client.call(
            "GET",
            Service.TIMESERIES,
            f"/v1/metrics/job/{in_path(job_id)}/recordCountsForAllRuns",
            what=f"read the record counts of job {job_id}",
        )
        entries = list(as_object(answer, "record counts").values()) if answer is not None else []
        numbered = [RunMetrics.from_wire(entry, run_count) for entry in entries if (run_count := _run_count(entry))]
        unnumbered = [entry for entry in entries if not _run_count(entry)]
        if len(unnumbered) == 1:
            newest = 1 + max((metrics.run_count for metrics in numbered), default=0)
            if latest_run_count is None:
                current = self._client.runs.current(job_id)
                latest_run_count = current.run_count if current else 0
            # The newest entry does not name its run. While the latest run has saved nothing yet it may be that of
            # the run before, so it counts only if the derived number is the latest one (contract, 18.19).
            if newest == latest_run_count:
                numbered.append(RunMetrics.from_wire(unnumbered[0], newest))
        return sorted(numbered, key=lambda metrics: metrics.run_count, reverse=True)

    def of_run(self, job_id: str, run_count: int, *, latest_run_count: int | None = None) -> RunMetrics | None:
        """
        Return the record counts of one run, None if Control Hub has saved none (yet).

        :param job_id: id of the job
        :param run_count: number of the run
        :param latest_run_count: number of the job's latest run if the caller just read it; saves a request
        """
        for metrics in self.all_runs(job_id, latest_run_count=latest_run_count):
            if metrics.run_count == run_count:
                return metrics
        return None


def _run_count(entry: object) -> int:
    run_count = as_object(entry, "record counts").get("runCount")
    return run_count if isinstance(run_count, int) and not isinstance(run_count, bool) else 0
