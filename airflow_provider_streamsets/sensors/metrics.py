"""The sensor that waits until the metrics of a run are as wanted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import PokeReturnValue

from airflow_provider_streamsets import params
from airflow_provider_streamsets.metric_parameters import metrics_timeout_for, wanted_conditions
from airflow_provider_streamsets.sensors.base import ControlHubRunSensor
from airflow_provider_streamsets.sensors.result import FinalState, result_of_metrics

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_streamsets.control_hub import Job
    from airflow_provider_streamsets.control_hub.tracking.conditions import MetricCondition
    from airflow_provider_streamsets.control_hub.tracking.metric import MetricResult, MetricTracker

_COMPARISONS = (">=", ">", "<=", "<", "==", "!=")
_JOINS = ("all", "any")
_ON_RUN_END = ("fail", "evaluate", "skip")
_SENSOR_TRIGGERS = "airflow_provider_streamsets.triggers.sensors"


class ControlHubJobMetricSensor(ControlHubRunSensor):
    """
    Wait until the metrics of a run satisfy a condition, or several.

    .. code-block:: python

        ControlHubJobMetricSensor(
            task_id="wait_for_records",
            job_name="Clickstream to lake",
            metric="output_count",
            threshold=10_000,
            deferrable=True,
        )

    **Metrics**, all of them as Control Hub has saved them, which it does at the job's statistics interval:
    ``input_count``, ``output_count``, ``error_count`` (error records), ``stage_errors_count``, ``total_error_count``
    (both kinds of errors), ``error_ratio`` (total errors per record read), ``output_per_second`` (over the last
    minute), or the name of a counter or meter of the pipeline such as ``stage.Trash_01.inputRecords.counter``; a rate
    of a meter follows its name after a dot, as in ``pipeline.batchOutputRecords.meter.m1_rate``.

    **While the run goes on**, each look compares what has been saved so far; the sensor succeeds as soon as the
    conditions are satisfied at one look. A metric that Control Hub does not have yet satisfies nothing. If the status
    of a run that is older than two minutes has no counts, the record counts are read, and then the counters. That
    metrics cannot be read for a while does not end the wait, a refused credential does.

    **When the run ends first**, its final metrics are read, and waited for up to `metrics_timeout` seconds (longer only if
    Control Hub cannot be reached). If they are still missing then, the sensor fails as "unavailable", unless the ones
    that there are decide: a lower bound of a count that is satisfied, or an upper bound that is violated. What counts
    is said by `on_run_end`:

    - ``evaluate``: the conditions decide on the final metrics. The sensor succeeds if they are satisfied and fails
      otherwise.
    - ``fail`` and ``skip``: only a condition that stays satisfied once it is, that is ``>=`` or ``>`` on a count,
      is decided on the final metrics: the run must have satisfied it before it ended, whether or not one of the looks
      fell into that time. Any other condition (an upper bound, an equality, a ratio or a rate) counts as not
      satisfied. The sensor succeeds if that is enough for `join`; otherwise it fails, or is skipped.

    How the run itself has ended is told in the message and the result, and does not decide: if a run fails after it has
    satisfied the conditions, this sensor succeeds.

    **Which run.** With `run_count`, that run; with `started_after` or `next_run`, a later one than there may be yet.
    Without any of them, the run that is the job's latest one at the sensor's first poll, running or already ended; for
    a job that has never run, its first run. A restart of the job ends the run that
    is waited for. (Before Airflow 3.3 there is no place to keep it between the pokes of ``mode="reschedule"``: there,
    each poke means the latest run.)

    Outcome, time-out, ``soft_fail`` and ``never_fail`` are the same in ``mode="poke"``, ``mode="reschedule"`` and
    deferrable. Of the limits, they concern `timeout`; ``execution_timeout`` fails the task, which can then be retried.
    With ``mode="reschedule"`` that limits each poke, otherwise the whole wait. ``silent_fail`` has no effect on a
    task that is deferred. With ``poke`` and ``reschedule``, the worker is kept while the final metrics of an ended run
    are waited for, even beyond `timeout`.

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param run_count: number of the run (templated)
    :param started_after: instead of it: the first run that was started at this time or later, whether it has ended or
        is yet to come; a datetime, or a text such as ``{{ data_interval_end }}``, which without a time zone is in UTC.
        Compared with start times of Control Hub's clock, to the millisecond: from a time of another clock, such as that
        of an event in Airflow, subtract the possible skew. An upgrade of the active job starts a run, too (templated)
    :param next_run: instead of it: the run after the one that is the latest when the sensor first polls. A retry or a
        clear begins anew. Not with ``mode="reschedule"`` before Airflow 3.3
    :param metric: name of a metric, to be compared with `threshold` (templated)
    :param comparison: ``>=``, ``>``, ``<=``, ``<``, ``==`` or ``!=`` (templated)
    :param threshold: number with which the metric is compared (templated)
    :param expect: conditions instead of the one of `metric`, `comparison` and `threshold`: a list of texts such as
        ``"output_count >= 1000"`` and dicts of these three fields (templated)
    :param join: whether ``all`` or ``any`` of the conditions must be satisfied at the same look (templated)
    :param on_run_end: what happens when the run ends before: ``fail``, ``evaluate`` or ``skip``, see above (templated)
    :param metrics_timeout: seconds, or timedelta, to wait for the run's final metrics after its end, at the most; by
        default the job's statistics interval and 15 seconds (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poke_interval: seconds, or timedelta, between two polls; default 30. With ``mode="reschedule"`` at least 10:
        Airflow 3 can fail a task that is rescheduled before it has processed the end of the previous poke
    :param poll_interval: alias of `poke_interval`, the operators' name for it; only one of them can be given
    :param start_from_trigger: start the task in the triggerer, without a worker. Needs Airflow 3.3; before, the task
        starts on a worker, with a warning at DAG parse, and so do mapped tasks and ``dag.test()``. In the triggerer,
        nothing is called before the wait, neither ``pre_execute`` nor ``on_execute_callback``. The templates are
        rendered on the event loop, so keep them cheap; ``ti.xcom_pull`` needs ``map_indexes=-1`` there
    :param end_from_trigger: end the task in the triggerer, too; only a time-out is told by a worker, and
        before Airflow 3.3 any failure, so that it is retried. Airflow keeps no XComs of a try that is retried, has the
        callbacks for failures and retries called by the dag processor, and refuses the DAG if a listener is installed,
        such as OpenLineage's. What it does on workers only is refused: `outlets`, ``post_execute``, callbacks for
        successes and skips, ``email``, ``retry_policy``, and a DAG with ``fail_fast``
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``job_name``, ``run_count``, ``satisfied`` (True), ``values`` (number by metric; None for one
        that Control Hub does not have), ``status`` and ``color`` of the run, ``run_ended``
    :raises ControlHubExpectationError: if the run has ended and the conditions are not satisfied; the task is skipped
        instead with ``soft_fail``
    :raises AirflowSkipException: the same with ``on_run_end="skip"``
    :raises AirflowSensorTimeout: if neither has come about in time; the task is skipped instead with ``soft_fail``
    :raises ControlHubMetricsUnavailableError: if the run has ended and its final metrics are missing
    :raises ValueError: if there is no metric of that name, or a condition makes no sense
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``run_count``, ``streamsets_job_link``.
    """

    template_fields: Sequence[str] = (
        *ControlHubRunSensor.template_fields,
        "metric",
        "comparison",
        "threshold",
        "expect",
        "join",
        "on_run_end",
        "metrics_timeout",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"expect": "json"}

    def __init__(
        self,
        *,
        metric: str | None = None,
        comparison: str = ">=",
        threshold: float | str | None = None,
        expect: Sequence[str | Mapping[str, Any]] | str | None = None,
        join: Literal["all", "any"] | str = "all",
        on_run_end: Literal["fail", "evaluate", "skip"] | str = "fail",
        metrics_timeout: float | timedelta | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.metric = metric
        self.comparison = comparison
        self.threshold = threshold
        self.expect = expect
        self.join = join
        self.on_run_end = on_run_end
        self.metrics_timeout = metrics_timeout
        self._check(rendered=False)
        default_args = kwargs.get("default_args")
        if metric is None:
            other = comparison if comparison in _COMPARISONS[1:] else None
            params.no_effect("'metric'", self, default_args, comparison=other)
        else:
            params.no_effect("'expect'", self, default_args, join="any" if join == "any" else None)
        self.configure_start_trigger(
            f"{_SENSOR_TRIGGERS}.ControlHubJobMetricSensorTrigger",
            metric=metric,
            comparison=comparison,
            threshold=threshold,
            expect=expect,
            join=join,
            on_run_end=on_run_end,
            metrics_timeout=metrics_timeout,
        )

    def _check(self, *, rendered: bool) -> None:
        params.exactly_one(metric=self.metric, expect=self.expect)
        if self.metric is None and self.threshold is not None:
            raise ValueError("'threshold' goes with 'metric'; in 'expect', each has its own.")
        if self.metric is not None and self.threshold is None:
            raise ValueError("'metric' needs a 'threshold' to be compared with.")
        params.metric(self.metric, "metric", rendered=rendered)
        params.one_of(self.comparison, "comparison", _COMPARISONS, rendered=rendered)
        params.number(self.threshold, "threshold", rendered=rendered)
        params.conditions(self.expect, "expect", rendered=rendered)
        params.one_of(self.join, "join", _JOINS, rendered=rendered)
        params.one_of(self.on_run_end, "on_run_end", _ON_RUN_END, rendered=rendered)
        params.seconds(self.metrics_timeout, "metrics_timeout", rendered=rendered, zero=True)

    def check_rendered(self) -> None:
        """Check what only the rendered parameters tell, the conditions themselves included."""
        super().check_rendered()
        self._check(rendered=True)
        self._wanted()

    def _wanted(self) -> tuple[MetricCondition, ...]:
        return wanted_conditions(self.metric, self.comparison, self.threshold, self.expect)

    def run_details(self, job: Job) -> dict[str, Any]:
        """Return how long to wait for the final metrics, which depends on how often the job saves them."""
        return {"metrics_timeout": metrics_timeout_for(self.metrics_timeout, job, is_needed=True)}

    def make_tracker(self, run: dict[str, Any], *, missing_threshold: int) -> MetricTracker:
        """Return what decides when the metrics are as wanted."""
        from airflow_provider_streamsets.control_hub.models import RunIdentity
        from airflow_provider_streamsets.control_hub.tracking.metric import MetricTracker

        return MetricTracker(
            self.poll_client,
            run["job_id"],
            run["run_count"],
            self._wanted(),
            join=params.one_of(self.join, "join", _JOINS, rendered=True),
            on_run_end=params.one_of(self.on_run_end, "on_run_end", _ON_RUN_END, rendered=True),
            job_name=run["job_name"],
            identity=RunIdentity.from_json(run.get("identity")),
            started_after=params.timestamp(run.get("started_after"), "started_after", rendered=True),
            metrics_timeout=run["metrics_timeout"],
            missing_threshold=missing_threshold,
            log=self.log,
        )

    def poll_once(self, tracker: MetricTracker) -> PokeReturnValue:
        """Look at the metrics once; at those of an ended run until they are final."""
        found = tracker.poll(skip_metrics_wait=self.time_left <= 0)
        left = min(tracker.metrics_timeout, self.time_left)
        until = time.monotonic() + left
        # Between the pokes of a rescheduled sensor nothing remembers when the end of the run was seen.
        while found is None and tracker.has_ended and (left := until - time.monotonic()) > 0:
            time.sleep(min(tracker.next_delay(self.poke_interval), left))
            found = tracker.poll(skip_metrics_wait=self.time_left <= 0)
        return PokeReturnValue(is_done=found is not None, xcom_value=found)

    def trigger(self, run: dict[str, Any], *, timeout: float, deadline: float) -> BaseTrigger:
        """Return the trigger that looks at the metrics."""
        from airflow_provider_streamsets.triggers.metrics import ControlHubJobMetricTrigger
        from airflow_provider_streamsets.triggers.sensors import ControlHubJobMetricSensorTrigger

        arguments: dict[str, Any] = {
            "control_hub_conn_id": self.control_hub_conn_id,
            "expect": [condition.to_dict() for condition in self._wanted()],
            "join": params.one_of(self.join, "join", _JOINS, rendered=True),
            "on_run_end": params.one_of(self.on_run_end, "on_run_end", _ON_RUN_END, rendered=True),
            "poll_interval": self.poke_interval,
            "timeout": timeout,
            "deadline": deadline,
            **run,
        }
        if self.end_from_trigger:
            return ControlHubJobMetricSensorTrigger(**arguments, **self.ending)
        return ControlHubJobMetricTrigger(**arguments)

    def read_event(self, event: object) -> MetricResult:
        """Return what the metrics have come to."""
        from airflow_provider_streamsets.triggers.events import MetricWaitEvent

        return MetricWaitEvent.from_payload(event).result_or_raise()

    def finish(self, context: Context, found: MetricResult) -> dict[str, Any]:
        """Return the metrics that satisfied the conditions, or fail or be skipped."""
        from airflow_provider_streamsets.control_hub import ControlHubExpectationError

        sensor_result = result_of_metrics(found, on_run_end=self.on_run_end)
        if sensor_result.ending is FinalState.SUCCESS:
            self.log.info(sensor_result.message)
            return sensor_result.result
        if sensor_result.ending is FinalState.SKIPPED:
            raise self.skip(sensor_result.message)
        raise self.raise_unless_soft_fail(ControlHubExpectationError(sensor_result.message))
