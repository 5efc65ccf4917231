"""The sensor that waits until the metrics of a run satisfy conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import PokeReturnValue

from airflow_provider_streamsets import params, triggers
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub.choices import COMPARISONS, JOINS, ON_RUN_END
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import ControlHubExpectationError
from airflow_provider_streamsets.control_hub.models import RunIdentity
from airflow_provider_streamsets.params import Parameter
from airflow_provider_streamsets.sensors.base import ControlHubRunSensor
from airflow_provider_streamsets.sensors.result import FinalState, SensorResult, result_of_metrics

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_streamsets.control_hub import Job

_SENSOR_TRIGGERS = "airflow_provider_streamsets.triggers.sensors"


class ControlHubJobMetricSensor(ControlHubRunSensor):
    """
    Wait until the metrics of a run satisfy one or more conditions.

    .. code-block:: python

        ControlHubJobMetricSensor(
            task_id="wait_for_records",
            job_name="Clickstream to lake",
            metric="output_count",
            threshold=10_000,
            deferrable=True,
        )

    **Metrics**, as saved by Control Hub at the job's statistics interval: ``input_count``, ``output_count``,
    ``error_count`` (error records), ``stage_errors_count``, ``total_error_count`` (both kinds of errors),
    ``error_ratio`` (total errors per record read), ``output_per_second`` (over the last minute), or the name of a
    counter or meter of the pipeline, such as ``stage.Trash_01.inputRecords.counter``; for a rate of a meter, append it
    with a dot, as in ``pipeline.batchOutputRecords.meter.m1_rate``.

    **While the run is active**, each poll evaluates the saved metrics; the sensor succeeds as soon as the conditions
    are satisfied in one poll. A metric without a value does not satisfy any condition. If the status of a run older
    than two minutes has no counts, the record counts and then the counters are read. Metrics that are temporarily
    unavailable do not end the wait; a rejected credential does.

    **If the run ends first**, the sensor waits up to `metrics_timeout` seconds for the final metrics (longer only if
    Control Hub is unreachable). If they are still missing, it fails as "unavailable", unless the saved ones are
    conclusive: a satisfied lower bound or a violated upper bound of a count. `on_run_end` controls the evaluation:

    - ``evaluate``: the sensor succeeds if the final metrics satisfy the conditions, and fails otherwise.
    - ``fail`` and ``skip``: only monotonic conditions (``>=`` or ``>`` on a count) are evaluated on the final metrics,
      as the run satisfied them before its end, even between two polls. All other conditions (upper bounds, equality,
      ratios, rates) count as not satisfied. The sensor succeeds if this satisfies `join`; otherwise it fails or is
      skipped.

    The outcome of the run is reported in the message and the result, but not evaluated: if a run fails after it has
    satisfied the conditions, the sensor succeeds.

    **Which run.** The run with number `run_count`, or one that may not have started yet, with `started_after` or
    `next_run`. By default the latest run at the sensor's first poll, running or finished; for a job that has never run,
    its first run. A restart of the job ends the selected run. (Before Airflow 3.3, the selected run cannot be stored
    between the pokes of ``mode="reschedule"``: each poke selects the latest run again.)

    **Time limits.** ``mode="poke"``, ``mode="reschedule"`` and deferrable mode have the same outcomes. ``soft_fail``
    and ``never_fail`` apply to `timeout`; ``execution_timeout`` fails the task, which can then be retried. It limits
    the entire wait, with ``mode="reschedule"`` each poke. ``silent_fail`` has no effect on deferred tasks. On a worker,
    the final wait for metrics after the end of the run occupies the worker slot.

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param run_count: number of the run (templated)
    :param started_after: instead of `run_count`: the first run started at this time or later, finished or not yet
        started; a datetime, or a string such as ``{{ data_interval_end }}``, in UTC without a time zone. Compared with
        Control Hub's start times, in milliseconds: subtract the possible clock skew from times of other clocks, such as
        that of Airflow. An upgrade of the active job also starts a run (templated)
    :param next_run: instead of `run_count`: the run after the latest one at the sensor's first poll. A retry or a clear
        selects again. Not with ``mode="reschedule"`` before Airflow 3.3
    :param metric: name of the metric to compare with `threshold` (templated)
    :param comparison: ``>=``, ``>``, ``<=``, ``<``, ``==`` or ``!=`` (templated)
    :param threshold: number to compare the metric with (templated)
    :param expect: conditions, instead of `metric`, `comparison` and `threshold`: a list of strings such as
        ``"output_count >= 1000"``, or dicts with these three keys (templated)
    :param join: whether ``all`` or ``any`` of the conditions must be satisfied in the same poll (templated)
    :param on_run_end: what to do if the run ends first: ``fail``, ``evaluate`` or ``skip``, see above (templated)
    :param metrics_timeout: seconds or timedelta to wait for the final metrics after the end of the run; default: the
        job's statistics interval plus 15 seconds (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poke_interval: seconds or timedelta between two polls; default 30. With ``mode="reschedule"`` at least 10, as
        Airflow 3 can fail a task that is rescheduled before the end of the previous poke is processed
    :param poll_interval: alias of `poke_interval`, as named in the operators; set only one of them
    :param start_from_trigger: start the task in the triggerer, without a worker. Requires Airflow 3.3; older versions
        start it on a worker, with a warning at DAG parse, as do mapped tasks and ``dag.test()``. ``pre_execute`` and
        ``on_execute_callback`` are not called. Templates are rendered on the event loop and should be cheap;
        ``ti.xcom_pull`` requires ``map_indexes=-1``
    :param end_from_trigger: end the task in the triggerer, too. Time-outs, and before Airflow 3.3 all failures, are
        still reported by a worker, so that the task is retried. Airflow keeps no XComs of a try that is retried, calls
        the failure and retry callbacks in the DAG processor, and rejects the DAG if a listener such as OpenLineage's is
        installed. Features of the worker cannot be combined with it: `outlets`, ``post_execute``, callbacks for
        successes and skips, ``email``, ``retry_policy``, and a DAG with ``fail_fast``
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``job_name``, ``run_count``, ``satisfied`` (True), ``values`` (value by metric; None if
        Control Hub has none), ``status`` and ``color`` of the run, ``run_ended``
    :raises ControlHubExpectationError: if the run has ended and the conditions are not satisfied; with ``soft_fail``,
        the task is skipped
    :raises AirflowSkipException: the same with ``on_run_end="skip"``
    :raises AirflowSensorTimeout: if neither happens in time; with ``soft_fail``, the task is skipped
    :raises ControlHubMetricsUnavailableError: if the run has ended and its final metrics are missing
    :raises ValueError: if a condition is invalid, or names an unknown metric
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``run_count``, ``streamsets_job_link``.
    """

    metric = Parameter(params.metric)
    comparison = Parameter(params.one_of, tuple(COMPARISONS))
    threshold = Parameter(params.number)
    expect = Parameter(params.conditions)
    join = Parameter(params.one_of, JOINS)
    on_run_end = Parameter(params.one_of, ON_RUN_END)
    metrics_timeout = Parameter(params.seconds, zero=True)
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
        params.exactly_one(metric=metric, expect=expect)
        self.metric = metric
        self.comparison = comparison
        self.threshold = threshold
        self.expect = expect
        self.join = join
        self.on_run_end = on_run_end
        self.metrics_timeout = metrics_timeout
        self._check_threshold()
        default_args = kwargs.get("default_args")
        if metric is None:
            non_default = comparison if comparison in tuple(COMPARISONS)[1:] else None
            params.no_effect("'metric'", self, default_args, comparison=non_default)
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

    def _check_threshold(self) -> None:
        if self.metric is None and self.threshold is not None:
            raise ValueError("'threshold' requires 'metric'; conditions of 'expect' have thresholds of their own.")
        if self.metric is not None and self.threshold is None:
            raise ValueError("'metric' requires 'threshold'.")

    def check_rendered(self) -> None:
        """Validate the rendered parameters, including the conditions."""
        params.exactly_one(metric=self.metric, expect=self.expect)
        super().check_rendered()
        self._check_threshold()
        self._conditions()

    def _conditions(self) -> tuple[tracking.MetricCondition, ...]:
        return params.resolve_conditions(self.metric, self.comparison, self.threshold, self.expect)

    def run_details(self, job: Job) -> dict[str, Any]:
        """Return the time limit for the final metrics, which depends on the job's statistics interval."""
        return {"metrics_timeout": params.resolve_metrics_timeout(self.metrics_timeout, job, is_needed=True)}

    def make_tracker(self, run: dict[str, Any], *, missing_threshold: int) -> tracking.MetricTracker:
        """Return the tracker that decides when the wait is over."""
        return tracking.MetricTracker(
            self.poll_client,
            run["job_id"],
            run["run_count"],
            self._conditions(),
            join=self.rendered.join,
            on_run_end=self.rendered.on_run_end,
            job_name=run["job_name"],
            identity=RunIdentity.from_json(run.get("identity")),
            started_after=params.timestamp(run.get("started_after"), "started_after", rendered=True),
            metrics_timeout=run["metrics_timeout"],
            missing_threshold=missing_threshold,
            log=self.log,
        )

    def poll_once(self, tracker: tracking.MetricTracker) -> PokeReturnValue:
        """Poll the metrics once; after the end of the run, until they are final."""
        result = tracker.poll(skip_metrics_wait=self.remaining_time <= 0)
        deadline = Deadline(min(tracker.metrics_timeout, self.remaining_time))
        # The next poke of a rescheduled sensor would not know when the run ended.
        while result is None and tracker.has_ended and not deadline.has_passed:
            deadline.sleep(tracker.next_delay(self.poke_interval))
            result = tracker.poll(skip_metrics_wait=self.remaining_time <= 0)
        return PokeReturnValue(is_done=result is not None, xcom_value=result)

    def trigger(self, run: dict[str, Any], *, timeout: float, deadline: float) -> BaseTrigger:
        """Return the trigger that waits for the metrics."""
        return triggers.ControlHubJobMetricSensorTrigger(
            control_hub_conn_id=self.control_hub_conn_id,
            expect=[condition.to_dict() for condition in self._conditions()],
            join=self.rendered.join,
            on_run_end=self.rendered.on_run_end,
            poll_interval=self.poke_interval,
            timeout=timeout,
            deadline=deadline,
            **run,
            **self.end_trigger_kwargs,
        )

    def read_event(self, event: object) -> tracking.MetricResult:
        """Return the result of the metrics."""
        return triggers.MetricWaitEvent.from_payload(event).result_or_raise()

    def is_success(self, outcome: tracking.MetricResult) -> bool:
        """Return whether the metrics satisfy the conditions."""
        return self._result(outcome).final_state is FinalState.SUCCESS

    def _result(self, outcome: tracking.MetricResult) -> SensorResult:
        return result_of_metrics(outcome, on_run_end=self.on_run_end)

    def finish(self, context: Context, outcome: tracking.MetricResult) -> dict[str, Any]:
        """Return the metrics that satisfy the conditions, or fail or skip the task."""
        sensor_result = self._result(outcome)
        if sensor_result.final_state is FinalState.SUCCESS:
            self.log.info(sensor_result.message)
            return sensor_result.result
        if sensor_result.final_state is FinalState.SKIPPED:
            raise self.skip(sensor_result.message)
        raise self.failure_or_skip(ControlHubExpectationError(sensor_result.message))
