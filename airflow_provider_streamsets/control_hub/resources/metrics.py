"""Metrics of runs: saved by Control Hub, and live from the engines (contract section 12)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import pendulum

from airflow_provider_streamsets.control_hub._json import as_object
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubMetricsUnavailableError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    may_be_unknown_id,
)
from airflow_provider_streamsets.control_hub.models import (
    EngineLiveMetrics,
    EnginePipeline,
    Job,
    JobRun,
    LiveMetrics,
    MetricRegistry,
    RecordCountSample,
    RunMetrics,
    tunnel_instance_id,
)
from airflow_provider_streamsets.control_hub.services import Service, quote_id

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.resources.engines import Engines
    from airflow_provider_streamsets.control_hub.resources.jobs import Jobs
    from airflow_provider_streamsets.control_hub.resources.runs import Runs
    from airflow_provider_streamsets.control_hub.session import Session

# Maximum number of times in a time series.
_MAX_SAMPLES = 1000


class Metrics:
    """Metrics of runs, available as ``client.metrics``."""

    def __init__(self, session: Session, jobs: Jobs, runs: Runs, engines: Engines) -> None:
        self._session = session
        self._jobs = jobs
        self._runs = runs
        self._engines = engines

    def all_runs(self, job_id: str, *, latest: JobRun | None = None, run: JobRun | None = None) -> list[RunMetrics]:
        """
        Return the record counts of all runs that have any, newest first.

        They exist only if the pipeline writes statistics to Control Hub, and lag by up to the job's statistics
        interval.

        :param job_id: id of the job
        :param latest: the latest run of the job, if just read; saves a request
        :param run: another run of the job, used to match the newest entry, which has no run count
        """
        response = self._session.request(
            "GET",
            Service.TIMESERIES,
            f"/v1/metrics/job/{quote_id(job_id)}/recordCountsForAllRuns",
            action=f"read the record counts of job {job_id}",
            needs_body=True,
        )
        entries = list(as_object(response, "record counts").values())
        numbered = [
            RunMetrics.from_wire(entry, run_count) for entry in entries if (run_count := RunMetrics.run_count_of(entry))
        ]
        unnumbered = [entry for entry in entries if not RunMetrics.run_count_of(entry)]
        if len(unnumbered) == 1:
            newest = RunMetrics.from_wire(
                unnumbered[0], 1 + max((metrics.run_count for metrics in numbered), default=0)
            )
            matched = self._owning_run(job_id, newest, {metrics.run_count for metrics in numbered}, latest, run)
            if matched is not None:
                numbered.append(replace(newest, run_count=matched))
        return sorted(numbered, key=lambda metrics: metrics.run_count, reverse=True)

    def _owning_run(
        self, job_id: str, newest: RunMetrics, taken: set[int], latest: JobRun | None, run: JobRun | None
    ) -> int | None:
        """Return the number of the run that the newest entry belongs to; None if that run already has an entry."""
        runs = [candidate for candidate in (latest or self._runs.current(job_id), run) if candidate is not None]
        matched = _match_run(newest, runs)
        is_ambiguous = matched not in taken and latest is not None and matched == latest.run_count != newest.run_count
        if is_ambiguous and latest is not None and latest.has_ended:
            # Number and time disagree, and the job may have been restarted since.
            current = self._runs.current(job_id)
            matched = _match_run(newest, [*runs, current] if current is not None else runs)
        return None if matched in taken else matched

    def of_run(
        self, job_id: str, run_count: int, *, latest: JobRun | None = None, run: JobRun | None = None
    ) -> RunMetrics | None:
        """
        Return the record counts of a run; None if Control Hub has not saved any.

        Falls back to the counts in the run's status if the record counts have no entry for the run.

        :param job_id: id of the job
        :param run_count: number of the run
        :param latest: the latest run of the job, if just read; saves a request
        :param run: the run, if just read
        """
        for metrics in self.all_runs(job_id, latest=latest, run=run):
            if metrics.run_count == run_count:
                return metrics
        status = next(
            (candidate for candidate in (run, latest) if candidate is not None and candidate.run_count == run_count),
            None,
        )
        return None if status is None else RunMetrics.from_status(status)

    def counted(self, job_id: str, run_count: int) -> RunMetrics | None:
        """
        Return the record counts of a run from its counters; None if Control Hub has none.

        :param job_id: id of the job
        :param run_count: number of the run
        """
        registry = self.registry(job_id, run_count)
        return None if registry is None else RunMetrics.from_registry(registry, run_count)

    def last_run(self, job_id: str) -> RunMetrics | None:
        """
        Return the record counts of the latest run of a job; None if Control Hub has not saved any.

        :param job_id: id of the job
        """
        current = self._runs.current(job_id)
        if current is None:
            return None
        return self.of_run(job_id, current.run_count, latest=current)

    def registry(
        self, job_id: str, run_count: int | None = None, *, engine_id: str | None = None
    ) -> MetricRegistry | None:
        """
        Return the saved counters and meters of a run, including those of its stages; None if there are none.

        :param job_id: id of the job
        :param run_count: number of the run; None for the latest
        :param engine_id: only the metrics of this engine
        """
        try:
            response = self._session.request(
                "GET",
                Service.JOBRUNNER,
                f"/v1/metrics/job/{quote_id(job_id)}",
                action=f"read the counters of job {job_id}",
                params={"runCount": run_count, "sdcId": engine_id},
            )
        except ControlHubError as error:
            # A rejection means that there are none (contract sections 12.2 and 18.36).
            is_rejected = isinstance(error, ControlHubNotFoundError) or may_be_unknown_id(error)
            if not is_rejected or isinstance(error, ControlHubPermissionError):
                raise
            return None
        registry = MetricRegistry.from_wire(response) if response else None
        return None if registry is None or registry.is_empty else registry

    def series(
        self, job_id: str, since: pendulum.DateTime, until: pendulum.DateTime | None = None
    ) -> list[RecordCountSample]:
        """
        Return the record counts of a job over time, oldest first; empty if the job has no time series.

        Only jobs with ``time_series`` have any.

        :param job_id: id of the job
        :param since: only counts saved at this time or later
        :param until: only counts saved until this time; by default until now
        """
        response = self._session.request(
            "GET",
            Service.TIMESERIES,
            f"/v1/metrics/job/{quote_id(job_id)}/recordCount",
            action=f"read the time series of job {job_id}",
            params={
                "startTime": int(since.timestamp() * 1000),
                "endTime": int((until or pendulum.now("UTC")).timestamp() * 1000),
                "limit": _MAX_SAMPLES,
            },
        )
        return RecordCountSample.series_from_wire(response)

    def realtime(self, job: Job | str) -> LiveMetrics:
        """
        Fetch the live metrics of a running job from its engines, through Control Hub's tunnel.

        :param job: the job, if just read, or its id
        :raises ControlHubMetricsUnavailableError: if the job is not running on an engine, or no engine responds; this
            says nothing about the run
        """
        if isinstance(job, str):
            job = self._jobs.get(job)
        run = job.current_run
        pipelines = [pipeline for pipeline in (run.engine_pipelines if run else ()) if pipeline.engine_id]
        if run is None or not pipelines:
            status = f"{run.status}/{run.color}" if run else "never run"
            raise ControlHubMetricsUnavailableError(
                f"Cannot read the live metrics of job {job.label}: no engine runs it ({status}). Only running jobs "
                "have live metrics."
            )
        summaries: list[EngineLiveMetrics] = []
        errors: dict[str, str] = {}
        for pipeline in pipelines:
            try:
                registry = self._fetch_live_registry(pipeline)
                summaries.append(EngineLiveMetrics.from_registry(pipeline.engine_id, registry))
            except ControlHubAuthenticationError:
                raise
            except ControlHubError as error:
                errors[pipeline.engine_id] = str(error)
        if not summaries:
            raise ControlHubMetricsUnavailableError(
                f"Cannot read the live metrics of job {job.label}: {'; '.join(errors.values())}"
            )
        return LiveMetrics(job.job_id, run.run_count, tuple(summaries), errors)

    def _fetch_live_registry(self, pipeline: EnginePipeline) -> MetricRegistry:
        engine_id = pipeline.engine_id
        separator = self._engines.get(engine_id).id_separator
        name = pipeline.name.replace(":", separator) if separator == "__" else pipeline.name
        action = f"read the live metrics of engine {engine_id}"
        # A disconnected engine yields no instance, an empty response or an error (contract sections 12.3 and 18.23).
        connection = self._session.request(
            "GET", Service.TUNNELING, f"/connection/{quote_id(engine_id)}", action=action
        )
        instance = tunnel_instance_id(connection)
        if instance is None:
            raise ControlHubMetricsUnavailableError(
                f"Cannot {action}: the engine is not connected to Control Hub's tunnel."
            )
        response = self._session.request(
            "GET",
            Service.TUNNELING,
            f"/{quote_id(engine_id)}/rest/v1/pipeline/{quote_id(name)}/metrics",
            action=action,
            params={"onlyIfExists": "true", "TUNNELING_INSTANCE_ID": instance},
        )
        if not response:
            raise ControlHubMetricsUnavailableError(f"Cannot {action}: the pipeline is not active on the engine.")
        return MetricRegistry.from_wire(response)


def _match_run(newest: RunMetrics, runs: Iterable[JobRun]) -> int | None:
    """
    Return the number of the run that the newest entry belongs to; None if it is ambiguous.

    Compares the start times of the runs with the time of the save. The next number after the other entries is right
    only if the list has no gaps (contract sections 12.1 and 18.19), so it decides only if times are unknown, or if the
    entry was saved between the starts of two known runs with others between them.

    :param newest: the entry, numbered as the next after the other entries
    :param runs: runs of the job, including the latest
    """
    ordered = sorted(runs, key=lambda run: run.run_count, reverse=True)
    saved, limit = newest.last_updated, None
    for run in ordered:
        if saved is None or run.start_time is None:
            return newest.run_count if any(newest.run_count == candidate.run_count for candidate in ordered) else None
        if saved >= run.start_time:
            is_unambiguous = limit is None or limit == run.run_count + 1
            return run.run_count if is_unambiguous else _if_in_range(newest.run_count, run.run_count, limit)
        limit = run.run_count
    return _if_in_range(newest.run_count, 1, limit)


def _if_in_range(number: int, first: int, limit: int | None) -> int | None:
    return number if limit is not None and first <= number < limit else None
