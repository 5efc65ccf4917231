"""Operators that read the metrics and the history of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_streamsets import params
from airflow_provider_streamsets.control_hub import models, tracking
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubMetricsUnavailableError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
)
from airflow_provider_streamsets.job_selector import find_job
from airflow_provider_streamsets.operators.base import ControlHubJobOperator
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job, JobRun, LiveMetrics, RunEvent, RunMetrics

_RUN_SELECTIONS = ("last", "all")


class ControlHubJobMetricsOperator(ControlHubJobOperator):
    """
    Return the metrics of one or all runs of a job, as saved by Control Hub.

    The default is the latest run, running or finished. Control Hub saves metrics only if the pipeline writes statistics
    to it, with a delay of up to the job's statistics interval: metrics of a run that has just finished can be missing
    or not final. If the run has no saved record counts, the counts are those of its status, which do not include stage
    errors, or of its counters.

    .. code-block:: python

        ControlHubJobMetricsOperator(
            task_id="metrics",
            job_name="Orders to warehouse",
            metrics=["pipeline.batchCount.counter", "pipeline.batchOutputRecords.meter.m1_rate"],
        )

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param runs: ``last`` for the latest run, ``all`` for all runs with metrics (templated)
    :param limit: with ``runs="all"``, maximum number of runs, newest first (templated)
    :param run_count: number of the run, instead of `runs` (templated)
    :param start_time: start time of the run, instead of `runs`: selects the last run started at or before it; a
        datetime or an ISO 8601 string, in UTC without a time zone (templated)
    :param counters: include all counters of each run, with those of its stages; one more request per run (templated)
    :param metrics: names of counters and meters whose counts to include, or of a meter followed by a dot and one of its
        rates; one more request per run (templated)
    :param realtime: include the live metrics of the engines, if the job is running (templated)
    :param fail_if_missing: fail if any requested metric is missing; otherwise, log it (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``job_name``, ``run_count``, ``input_count``, ``output_count``, ``error_count``,
        ``stage_errors_count``, ``total_error_count``, ``last_updated`` (ISO 8601), ``pipeline_version`` and, as rates
        over the minute before, ``input_per_second``, ``output_per_second``, ``error_per_second``,
        ``stage_errors_per_second``; on request ``counters`` and ``metrics`` (values by name), and ``realtime``
        (``batch_count``, ``idle_batch_count``, ``input_count``, ``output_count``, ``error_count`` of all engines, and
        of each in ``engines``). Missing values are None; without any metrics, the result is None. With ``runs="all"``,
        a list of these, newest run first
    :raises ControlHubMetricsUnavailableError: if metrics are missing and `fail_if_missing` is true
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``streamsets_job_link``.
    """

    result_is_dict = True
    runs = Parameter(params.one_of, _RUN_SELECTIONS)
    limit = Parameter(params.integer)
    run_count = Parameter(params.integer)
    start_time = Parameter(params.timestamp)
    counters = Parameter(params.boolean)
    metrics = Parameter(params.string_list)
    realtime = Parameter(params.boolean)
    fail_if_missing = Parameter(params.boolean)

    def __init__(
        self,
        *,
        runs: Literal["last", "all"] | str = "last",
        limit: int | str | None = None,
        run_count: int | str | None = None,
        start_time: datetime | str | None = None,
        counters: bool | str = False,
        metrics: Sequence[str] | str | None = None,
        realtime: bool | str = False,
        fail_if_missing: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.runs = runs
        self.limit = limit
        self.run_count = run_count
        self.start_time = start_time
        self.counters = counters
        self.metrics = metrics
        self.realtime = realtime
        self.fail_if_missing = fail_if_missing
        self._check_selected_runs()

    def _check_selected_runs(self) -> None:
        if self.runs == "all":
            # Airflow fails a task with multiple outputs that returns a list.
            self.multiple_outputs = False
        params.at_most_one(run_count=self.run_count, start_time=self.start_time)
        if self.runs == "all" and not (self.run_count is None and self.start_time is None):
            raise ValueError("'run_count' and 'start_time' select one run; they cannot be combined with runs='all'.")
        if self.limit is not None and self.runs == "last":
            raise ValueError("'limit' requires runs='all'.")

    def execute(self, context: Context) -> dict[str, Any] | list[dict[str, Any]] | None:
        """Read the metrics."""
        self._check_selected_runs()
        job = find_job(self, context)
        live = self._live_metrics(job) if self.rendered.realtime else None
        if self.runs == "all":
            return self._all_runs_metrics(job, self.rendered.limit, live)
        run_count = self._selected_run(job)
        if run_count is None:
            when = f"had not run by {self.start_time}" if self.start_time is not None else "has never run"
            self._handle_missing(f"Job {job.label} {when}; there are no metrics.")
            return None
        metrics = self.client.metrics
        saved = metrics.of_run(job.job_id, run_count, latest=job.current_run) or metrics.counted(job.job_id, run_count)
        return self._entry(job, run_count, saved, live)

    def _all_runs_metrics(self, job: Job, limit: int | None, live: LiveMetrics | None) -> list[dict[str, Any]]:
        saved = {
            metrics.run_count: metrics for metrics in self.client.metrics.all_runs(job.job_id, latest=job.current_run)
        }
        # A run that has just started may have live metrics only.
        numbers = sorted({*saved, *([live.run_count] if live else [])}, reverse=True)[:limit]
        if not numbers:
            self._handle_missing(f"Job {job.label}: Control Hub has no saved metrics.")
        entries = (self._entry(job, number, saved.get(number), live) for number in numbers)
        return [entry for entry in entries if entry is not None]

    def _selected_run(self, job: Job) -> int | None:
        run_count: int | None = self.rendered.run_count
        if run_count is not None:
            return run_count
        start_time = self.rendered.start_time
        run = self.client.runs.find_started_at(job.job_id, start_time) if start_time else job.current_run
        return run.run_count if run else None

    def _entry(
        self, job: Job, run_count: int, saved: RunMetrics | None, live: LiveMetrics | None
    ) -> dict[str, Any] | None:
        if saved is None:
            self._handle_missing(f"Job {job.label} run {run_count}: Control Hub has no saved record counts.")
        extras: dict[str, Any] = {}
        names = self.rendered.metrics
        if self.rendered.counters or names:
            extras.update(self._registry_values(job, run_count, names))
        if self.rendered.realtime:
            extras["realtime"] = live.to_dict() if live and live.run_count == run_count else None
        if saved is None and not any(extras.values()):
            return None
        counts = saved.to_dict() if saved else dict.fromkeys(field.name for field in fields(models.RunMetrics))
        return {"job_id": job.job_id, "job_name": job.name, **counts, "run_count": run_count, **extras}

    def _registry_values(self, job: Job, run_count: int, names: list[str] | None) -> dict[str, Any]:
        registry = self.client.metrics.registry(job.job_id, run_count)
        if registry is None:
            self._handle_missing(f"Job {job.label} run {run_count}: Control Hub has no saved counters.")
        extras: dict[str, Any] = {}
        if self.rendered.counters:
            extras["counters"] = registry.counts() if registry else None
        if names:
            values = {name: _plain(registry.value(name)) for name in names} if registry else None
            absent = [name for name, value in (values or {}).items() if value is None]
            if absent:
                self._handle_missing(f"Job {job.label} run {run_count}: no metrics with the names {absent}.")
            extras["metrics"] = values
        return extras

    def _live_metrics(self, job: Job) -> LiveMetrics | None:

        try:
            live = self.client.metrics.realtime(job)
        except ControlHubMetricsUnavailableError as error:
            self._handle_missing(str(error))
            return None
        for engine_id, reason in live.engines_without.items():
            self.log.warning("Job %s: engine %s is missing in the live metrics: %s", job.label, engine_id, reason)
        return live

    def _handle_missing(self, message: str) -> None:
        """Fail because of missing metrics, or log them, as `fail_if_missing` says."""
        if self.rendered.fail_if_missing:
            raise ControlHubMetricsUnavailableError(message)
        self.log.info(message)


def _plain(number: float | None) -> float | int | None:
    """Return a whole number as an integer; the registry has counts as floats, like rates."""
    return int(number) if number is not None and number.is_integer() else number


class ControlHubJobRunHistoryOperator(ControlHubJobOperator):
    """
    Return the runs of a job, newest first.

    .. code-block:: python

        ControlHubJobRunHistoryOperator(
            task_id="runs_of_the_day",
            job_name="Orders to warehouse",
            since="{{ (dag_run.logical_date or dag_run.run_after) - macros.timedelta(days=1) }}",
            until="{{ dag_run.logical_date or dag_run.run_after }}",
        )

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param limit: maximum number of runs, newest first; None returns all that Control Hub still has (templated)
    :param since: only runs started at this time or later: a datetime or an ISO 8601 string, in UTC without a time zone
        (templated)
    :param until: only runs started before this time (templated)
    :param ended_after: only runs that finished at this time or later (templated)
    :param active_at: only the run that was active at this time (templated)
    :param include_events: include the last events of each run with their users, at most 20; one more request per run
        (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: a list of runs: ``job_id``, ``job_name``, ``run_count``, ``status``, ``color``, ``outcome``,
        ``error_message`` (truncated to 500 characters), ``start_time``, ``finish_time`` (ISO 8601), ``duration``
        (seconds), ``user`` (who started the run), ``pipeline_version``, ``engine_ids``, ``input_count``,
        ``output_count``, ``error_count`` (None if Control Hub has saved none) and, with `include_events`, ``events``
        (``time``, ``status``, ``message``, ``user``). Without `include_events`, ``outcome`` is ``FAILED`` or None; with
        it, also ``SUCCEEDED`` or ``STOPPED``
    :raises ControlHubError: on any API or connection error

    XCom keys besides ``return_value``: ``job_id``, ``streamsets_job_link``.
    """

    limit = Parameter(params.integer)
    since = Parameter(params.timestamp)
    until = Parameter(params.timestamp)
    ended_after = Parameter(params.timestamp)
    active_at = Parameter(params.timestamp)
    include_events = Parameter(params.boolean)

    def __init__(
        self,
        *,
        limit: int | str | None = 100,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        ended_after: datetime | str | None = None,
        active_at: datetime | str | None = None,
        include_events: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.limit = limit
        self.since = since
        self.until = until
        self.ended_after = ended_after
        self.active_at = active_at
        self.include_events = include_events

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Read the runs."""
        job = find_job(self, context)
        rendered = self.rendered
        limit, include_events = rendered.limit, rendered.include_events
        runs = self.client.runs.history(
            job.job_id,
            # One more than the limit, to see whether there are more.
            None if limit is None else limit + 1,
            since=rendered.since,
            until=rendered.until,
            ended_after=rendered.ended_after,
            active_at=rendered.active_at,
        )
        has_more = limit is not None and len(runs) > limit
        suffix = f" or more, returning the newest {limit}" if has_more else ""
        self.log.info("Job %s: found %d runs%s.", job.label, len(runs), suffix)
        records = []
        for run in runs[:limit]:
            events = self._events(job, run) if include_events else None
            record = tracking.run_record(job.name, run, events)
            records.append({"events": None, **record} if include_events else record)
        return records

    def _events(self, job: Job, run: JobRun) -> list[RunEvent] | None:

        try:
            return self.client.runs.events(run.run_id)
        except (ControlHubNotFoundError, ControlHubRejectedError) as error:
            # How long Control Hub keeps events is not known (contract section 18.22).
            self.log.warning("Job %s run %d: events are missing: %s", job.label, run.run_count, error)
            return None
