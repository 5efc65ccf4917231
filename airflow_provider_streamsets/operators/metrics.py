"""Operators that read what runs have done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_streamsets import params
from airflow_provider_streamsets.operators.base import ControlHubJobOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job, JobRun, LiveMetrics, RunEvent, RunMetrics

_RUNS = ("last", "all")
_TIMES = ("since", "until", "ended_after", "active_at")


class ControlHubJobMetricsOperator(ControlHubJobOperator):
    """
    Return the metrics of runs of a job, as Control Hub has saved them.

    By default, they are those of the job's latest run, running or ended. Control Hub saves metrics only if the pipeline
    writes statistics to it, and with a delay of up to the job's statistics interval: of a run that has just ended they
    can be missing or not final. Where the record counts have no entry for the run, they come from its status, which
    does not count stage errors, or from its counters.

    .. code-block:: python

        ControlHubJobMetricsOperator(
            task_id="metrics",
            job_name="Orders to warehouse",
            metrics=["pipeline.batchCount.counter", "pipeline.batchOutputRecords.meter.m1_rate"],
        )

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param runs: ``last`` for the latest run, ``all`` for all that have metrics (templated)
    :param limit: with ``runs="all"``, at most so many of the newest runs (templated)
    :param run_count: number of the run, instead (templated)
    :param start_time: a datetime or a text in ISO 8601, instead: the run that was started then, or the last one before;
        in UTC if it names no time zone (templated)
    :param counters: add all counters of each run, those of the stages included; one more request for each run
        (templated)
    :param metrics: add these values of each run: names of counters and meters, which stand for their counts, or of a
        meter followed by a dot and one of its rates; one more request for each run (templated)
    :param realtime: add what the engines tell at this moment about the job's run, if it is running (templated)
    :param fail_if_missing: fail if any of the metrics asked for is missing; otherwise, a line in the log says so
        (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: for the run ``job_id``, ``job_name``, ``run_count``, ``input_count``, ``output_count``, ``error_count``,
        ``stage_errors_count``, ``total_error_count``, ``last_updated`` (ISO 8601), ``pipeline_version`` and, as rates
        over the last minute before that, ``input_per_second``, ``output_per_second``, ``error_per_second``,
        ``stage_errors_per_second``; on demand ``counters`` and ``metrics`` (values by name), and ``realtime``
        (``batch_count``, ``idle_batch_count``, ``input_count``, ``output_count``, ``error_count`` of all engines, and
        of each in ``engines``). What is missing is None, and so is all of it if nothing is there. With ``runs="all"``,
        a list of these, newest run first
    :raises ControlHubMetricsUnavailableError: if metrics are missing, with `fail_if_missing`
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``streamsets_job_link``.
    """

    result_is_dict = True
    template_fields: Sequence[str] = (
        *ControlHubJobOperator.template_fields,
        "runs",
        "limit",
        "run_count",
        "start_time",
        "counters",
        "metrics",
        "realtime",
        "fail_if_missing",
    )

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
        self._check(rendered=False)

    def _check(self, *, rendered: bool) -> None:
        params.one_of(self.runs, "runs", _RUNS, rendered=rendered)
        if self.runs == "all":
            # A list has no keys; Airflow would fail the task for that.
            self.multiple_outputs = False
        params.integer(self.limit, "limit", rendered=rendered)
        params.integer(self.run_count, "run_count", rendered=rendered)
        params.timestamp(self.start_time, "start_time", rendered=rendered)
        params.string_list(self.metrics, "metrics", rendered=rendered)
        for name in ("counters", "realtime", "fail_if_missing"):
            params.boolean(getattr(self, name), name, rendered=rendered)
        params.at_most_one(run_count=self.run_count, start_time=self.start_time)
        if self.runs == "all" and not (self.run_count is None and self.start_time is None):
            raise ValueError("'run_count' and 'start_time' choose one run, and are not for runs='all'.")
        if self.limit is not None and self.runs == "last":
            raise ValueError("'limit' is for runs='all'.")

    def execute(self, context: Context) -> dict[str, Any] | list[dict[str, Any]] | None:
        """Read the metrics."""
        self._check(rendered=True)
        job = self.find_job(context)
        live = self._live(job) if self._is_on("realtime") else None
        if self.runs == "all":
            limit = params.integer(self.limit, "limit", rendered=True)
            return self._of_all_runs(job, limit, live)
        run_count = self._chosen_run(job)
        if run_count is None:
            when = f"had not run by {self.start_time}" if self.start_time is not None else "has not run yet"
            self._is_missing(f"Job {job.label} {when}, so there are no metrics.")
            return None
        metrics = self.client.metrics
        saved = metrics.of_run(job.job_id, run_count, latest=job.current_run) or metrics.counted(job.job_id, run_count)
        return self._entry(job, run_count, saved, live)

    def _of_all_runs(self, job: Job, limit: int | None, live: LiveMetrics | None) -> list[dict[str, Any]]:
        saved = {
            metrics.run_count: metrics for metrics in self.client.metrics.all_runs(job.job_id, latest=job.current_run)
        }
        # Of a run that has just begun there may be live metrics only.
        numbers = sorted({*saved, *([live.run_count] if live else [])}, reverse=True)[:limit]
        if not numbers:
            self._is_missing(f"Control Hub has saved no metrics of job {job.label}.")
        entries = (self._entry(job, number, saved.get(number), live) for number in numbers)
        return [entry for entry in entries if entry is not None]

    def _chosen_run(self, job: Job) -> int | None:
        run_count: int | None = params.integer(self.run_count, "run_count", rendered=True)
        if run_count is not None:
            return run_count
        start_time = params.timestamp(self.start_time, "start_time", rendered=True)
        run = self.client.runs.find_started_at(job.job_id, start_time) if start_time else job.current_run
        return run.run_count if run else None

    def _entry(
        self, job: Job, run_count: int, saved: RunMetrics | None, live: LiveMetrics | None
    ) -> dict[str, Any] | None:
        from airflow_provider_streamsets.control_hub import RunMetrics

        if saved is None:
            self._is_missing(f"Control Hub has saved no record counts of run {run_count} of job {job.label}.")
        extras: dict[str, Any] = {}
        names = params.string_list(self.metrics, "metrics", rendered=True)
        if self._is_on("counters") or names:
            extras.update(self._registry_values(job, run_count, names))
        if self._is_on("realtime"):
            extras["realtime"] = live.to_dict() if live and live.run_count == run_count else None
        if saved is None and not any(extras.values()):
            return None
        counts = saved.to_dict() if saved else dict.fromkeys(field.name for field in fields(RunMetrics))
        return {"job_id": job.job_id, "job_name": job.name, **counts, "run_count": run_count, **extras}

    def _registry_values(self, job: Job, run_count: int, names: list[str] | None) -> dict[str, Any]:
        registry = self.client.metrics.registry(job.job_id, run_count)
        if registry is None:
            self._is_missing(f"Control Hub has saved no counters of run {run_count} of job {job.label}.")
        found: dict[str, Any] = {}
        if self._is_on("counters"):
            found["counters"] = registry.counts() if registry else None
        if names:
            values = {name: _plain(registry.value(name)) for name in names} if registry else None
            absent = [name for name, value in (values or {}).items() if value is None]
            if absent:
                self._is_missing(f"Run {run_count} of job {job.label} has no metrics of these names: {absent}.")
            found["metrics"] = values
        return found

    def _live(self, job: Job) -> LiveMetrics | None:
        from airflow_provider_streamsets.control_hub import ControlHubMetricsUnavailableError

        try:
            live = self.client.metrics.realtime(job)
        except ControlHubMetricsUnavailableError as error:
            self._is_missing(str(error))
            return None
        for engine_id, reason in live.engines_without.items():
            self.log.warning("The live metrics do not include engine %s: %s", engine_id, reason)
        return live

    def _is_missing(self, what: str) -> None:
        """Act on metrics that were asked for and are not there."""
        from airflow_provider_streamsets.control_hub import ControlHubMetricsUnavailableError

        if self._is_on("fail_if_missing"):
            raise ControlHubMetricsUnavailableError(what)
        self.log.info(what)

    def _is_on(self, name: str) -> bool:
        return bool(params.boolean(getattr(self, name), name, rendered=True))


def _plain(number: float | None) -> float | int | None:
    """Counts arrive as floats, like rates."""
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
    :param limit: at most so many runs, the newest; None returns all that Control Hub still knows (templated)
    :param since: only runs that were started at this time or later: a datetime or a text in ISO 8601, in UTC if it
        names no time zone (templated)
    :param until: only runs that were started before this time (templated)
    :param ended_after: only runs that have ended at this time or later, whenever they were started (templated)
    :param active_at: only the run that had been started by this time and had not ended yet (templated)
    :param include_events: add what happened to each run, and who did it: its last events, 20 at the most; one more
        request for each run (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: for each run ``job_id``, ``job_name``, ``run_count``, ``status``, ``color``, ``outcome``,
        ``error_message`` (cut to 500 characters), ``start_time``, ``finish_time`` (ISO 8601), ``duration`` (seconds),
        ``user`` (who started it), ``pipeline_version``, ``engine_ids``, ``input_count``, ``output_count``,
        ``error_count`` (None if Control Hub has saved none) and, with `include_events`, ``events`` (``time``,
        ``status``, ``message``, ``user``). ``outcome`` is ``FAILED`` or None; only with `include_events` are
        ``SUCCEEDED`` and ``STOPPED`` known, too
    :raises ControlHubError: for everything that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_id``, ``streamsets_job_link``.
    """

    template_fields: Sequence[str] = (
        *ControlHubJobOperator.template_fields,
        "limit",
        *_TIMES,
        "include_events",
    )

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
        params.integer(limit, "limit")
        params.boolean(include_events, "include_events")
        self.limit = limit
        self.since = since
        self.until = until
        self.ended_after = ended_after
        self.active_at = active_at
        self.include_events = include_events
        self._times(rendered=False)

    def _times(self, *, rendered: bool) -> dict[str, Any]:
        return {name: params.timestamp(getattr(self, name), name, rendered=rendered) for name in _TIMES}

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Read the runs."""
        from airflow_provider_streamsets.control_hub.tracking.report import run_record

        limit = params.integer(self.limit, "limit", rendered=True)
        times = self._times(rendered=True)
        include_events = params.boolean(self.include_events, "include_events", rendered=True)
        job = self.find_job(context)
        # One more shows whether some are left out.
        runs = self.client.runs.history(job.job_id, None if limit is None else limit + 1, **times)
        has_more = limit is not None and len(runs) > limit
        left_out = f" or more, of which the newest {limit} are returned" if has_more else ""
        self.log.info("Job %s: found %d runs%s.", job.label, len(runs), left_out)
        records = []
        for run in runs[:limit]:
            events = self._events(run) if include_events else None
            record = run_record(job.name, run, events)
            records.append({"events": None, **record} if include_events else record)
        return records

    def _events(self, run: JobRun) -> list[RunEvent] | None:
        from airflow_provider_streamsets.control_hub import ControlHubNotFoundError, ControlHubRejectedError

        try:
            return self.client.runs.events(run.run_id)
        except (ControlHubNotFoundError, ControlHubRejectedError) as error:
            # How long Control Hub keeps events is not known (contract, 18.22).
            self.log.warning("The events of run %d are missing: %s", run.run_count, error)
            return None
