"""Metrics of runs: as Control Hub has saved them, and live from the engines (contract, section 12)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub._json import JsonReader, as_object
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
    RunMetrics,
)
from airflow_provider_streamsets.control_hub.services import Service, quote_id

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient


class Metrics:
    """Metrics of runs; reached as ``client.metrics``."""

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def all_runs(self, job_id: str, *, latest: JobRun | None = None, run: JobRun | None = None) -> list[RunMetrics]:
        """
        Return the record counts of all runs that have any, newest first.

        They exist only if the pipeline writes statistics to Control Hub, and lag behind by up to the job's
        statistics interval.

        :param job_id: id of the job
        :param latest: the job's latest run if the caller just read it; saves a request
        :param run: another run of the job, which helps to tell to which run the newest entry belongs
        """
        answer = self._client.request(
            "GET",
            Service.TIMESERIES,
            f"/v1/metrics/job/{quote_id(job_id)}/recordCountsForAllRuns",
            action=f"read the record counts of job {job_id}",
            needs_body=True,
        )
        entries = list(as_object(answer, "record counts").values())
        numbered = [RunMetrics.from_wire(entry, run_count) for entry in entries if (run_count := _run_count(entry))]
        unnumbered = [entry for entry in entries if not _run_count(entry)]
        if len(unnumbered) == 1:
            newest = RunMetrics.from_wire(
                unnumbered[0], 1 + max((metrics.run_count for metrics in numbered), default=0)
            )
            owner = self._owner(job_id, newest, {metrics.run_count for metrics in numbered}, latest, run)
            if owner is not None:
                numbered.append(replace(newest, run_count=owner))
        return sorted(numbered, key=lambda metrics: metrics.run_count, reverse=True)

    def _owner(
        self, job_id: str, newest: RunMetrics, taken: set[int], latest: JobRun | None, run: JobRun | None
    ) -> int | None:
        """Return the number of the run to which the newest entry belongs, unless that run has an entry already."""
        known = [each for each in (latest or self._client.runs.current(job_id), run) if each is not None]
        owner = _owner_among(newest, known)
        is_unsure = owner not in taken and latest is not None and owner == latest.run_count != newest.run_count
        if is_unsure and latest is not None and latest.has_ended:
            # The number does not confirm what the time says, and the job may have been restarted since.
            current = self._client.runs.current(job_id)
            owner = _owner_among(newest, [*known, current] if current is not None else known)
        return None if owner in taken else owner

    def of_run(
        self, job_id: str, run_count: int, *, latest: JobRun | None = None, run: JobRun | None = None
    ) -> RunMetrics | None:
        """
        Return the record counts of one run, None if Control Hub has saved none (yet).

        Where the record counts have no entry for the run, the counts that its status has are returned.

        :param job_id: id of the job
        :param run_count: number of the run
        :param latest: the job's latest run if the caller just read it; saves a request
        :param run: the run if the caller just read it
        """
        for metrics in self.all_runs(job_id, latest=latest, run=run):
            if metrics.run_count == run_count:
                return metrics
        status = next((each for each in (run, latest) if each is not None and each.run_count == run_count), None)
        return None if status is None else RunMetrics.from_status(status)

    def counted(self, job_id: str, run_count: int) -> RunMetrics | None:
        """
        Return the record counts of one run as its counters tell them, None if Control Hub has none.

        :param job_id: id of the job
        :param run_count: number of the run
        """
        registry = self.registry(job_id, run_count)
        return None if registry is None else RunMetrics.from_registry(registry, run_count)

    def last_run(self, job_id: str) -> RunMetrics | None:
        """
        Return the record counts of the job's latest run, None if Control Hub has saved none (yet).

        :param job_id: id of the job
        """
        current = self._client.runs.current(job_id)
        if current is None:
            return None
        return self.of_run(job_id, current.run_count, latest=current)

    def registry(
        self, job_id: str, run_count: int | None = None, *, engine_id: str | None = None
    ) -> MetricRegistry | None:
        """
        Return the counters and meters of a run, stages included, as Control Hub has saved them; None if it has none.

        :param job_id: id of the job
        :param run_count: number of the run; None is the latest
        :param engine_id: only the part of this engine
        """
        try:
            answer = self._client.request(
                "GET",
                Service.JOBRUNNER,
                f"/v1/metrics/job/{quote_id(job_id)}",
                action=f"read the counters of job {job_id}",
                params={"runCount": run_count, "sdcId": engine_id},
            )
        except ControlHubError as error:
            # A refusal means that there are none (contract, section 12.2), whoever has answered.
            is_refused = isinstance(error, ControlHubNotFoundError) or may_be_unknown_id(error)
            if not is_refused or isinstance(error, ControlHubPermissionError):
                raise
            return None
        registry = MetricRegistry.from_wire(answer) if answer else None
        return None if registry is None or registry.is_empty else registry

    def realtime(self, job: Job | str) -> LiveMetrics:
        """
        Ask the engines of a running job what they have done so far, through Control Hub's tunnel.

        :param job: the job as just read, or its id
        :raises ControlHubMetricsUnavailableError: if the job is not running on an engine, or no engine answers; it
            says nothing about the run
        """
        if isinstance(job, str):
            job = self._client.jobs.get(job)
        run = job.current_run
        pipelines = [pipeline for pipeline in (run.engine_pipelines if run else ()) if pipeline.engine_id]
        if run is None or not pipelines:
            status = f"{run.status}/{run.color}" if run else "never run"
            raise ControlHubMetricsUnavailableError(
                f"Job {job.label} has no live metrics: it has no engine ({status}). Only a running job has."
            )
        summaries: list[EngineLiveMetrics] = []
        without: dict[str, str] = {}
        for pipeline in pipelines:
            try:
                registry = self._live_registry(pipeline)
                summaries.append(EngineLiveMetrics.from_registry(pipeline.engine_id, registry))
            except ControlHubAuthenticationError:
                raise
            except ControlHubError as error:
                without[pipeline.engine_id] = str(error)
        if not summaries:
            raise ControlHubMetricsUnavailableError(
                f"The live metrics of job {job.label} cannot be had now: {'; '.join(without.values())}"
            )
        return LiveMetrics(job.job_id, run.run_count, tuple(summaries), without)

    def _live_registry(self, pipeline: EnginePipeline) -> MetricRegistry:
        engine_id = pipeline.engine_id
        separator = self._client.engines.get(engine_id).id_separator
        name = pipeline.name.replace(":", separator) if separator == "__" else pipeline.name
        action = f"read the live metrics of engine {engine_id}"
        # An engine that is not connected is told by no instance, by an empty answer or by an error (contract, 12.3).
        connection = self._client.request("GET", Service.TUNNELING, f"/connection/{quote_id(engine_id)}", action=action)
        instance = JsonReader(connection or {}, "tunnel").optional_text("instanceId")
        if not instance:
            raise ControlHubMetricsUnavailableError(f"Cannot {action}: it is not connected to Control Hub's tunnel.")
        answer = self._client.request(
            "GET",
            Service.TUNNELING,
            f"/{quote_id(engine_id)}/rest/v1/pipeline/{quote_id(name)}/metrics",
            action=action,
            params={"onlyIfExists": "true", "TUNNELING_INSTANCE_ID": instance},
        )
        if not answer:
            raise ControlHubMetricsUnavailableError(f"Cannot {action}: the pipeline is not active there.")
        return MetricRegistry.from_wire(answer)


def _owner_among(newest: RunMetrics, runs: Iterable[JobRun]) -> int | None:
    """
    Return the number of the run to which the newest entry belongs, None if that cannot be told.

    The run's start and the time of the save decide. The number that follows the others is right only if no run is
    missing in the list (contract, 18.19 and 19.4): it decides where no times are known, or where the entry was saved
    between the starts of two known runs that have others between them.

    :param newest: the entry, with the number that follows the others
    :param runs: runs of the job, the latest among them
    """
    ordered = sorted(runs, key=lambda run: run.run_count, reverse=True)
    saved, limit = newest.last_updated, None
    for run in ordered:
        if saved is None or run.start_time is None:
            return newest.run_count if any(newest.run_count == each.run_count for each in ordered) else None
        if saved >= run.start_time:
            is_only_one = limit is None or limit == run.run_count + 1
            return run.run_count if is_only_one else _within(newest.run_count, run.run_count, limit)
        limit = run.run_count
    return _within(newest.run_count, 1, limit)


def _within(number: int, first: int, limit: int | None) -> int | None:
    return number if limit is not None and first <= number < limit else None


def _run_count(entry: object) -> int:
    run_count = as_object(entry, "record counts").get("runCount")
    return run_count if isinstance(run_count, int) and not isinstance(run_count, bool) else 0
