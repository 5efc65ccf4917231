"""The sensor that waits for a run started by another task, user or system."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import PokeReturnValue

from airflow_provider_streamsets import params, triggers
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub.models import RunIdentity
from airflow_provider_streamsets.params import Parameter
from airflow_provider_streamsets.sensors.base import ControlHubRunSensor
from airflow_provider_streamsets.sensors.result import FinalState, SensorResult, result_of_run

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_streamsets.control_hub import JobRun


class ControlHubJobRunSensor(ControlHubRunSensor):
    """
    Wait until a run of a job has ended, and succeed or fail like the run; or until it is active.

    To start a job and wait for it, use :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`;
    this sensor only monitors it.

    **Which run.** The run with number `run_count`, or one that may not have started yet, with `started_after` or
    `next_run`. By default the latest run at the sensor's first poll, running or finished; for a job that has never run,
    its first run. A restart of the job does not change the selected run. (Before Airflow 3.3, the selected run cannot
    be stored between the pokes of ``mode="reschedule"``: each poke selects the latest run again.)

    **Time limits.** ``mode="poke"``, ``mode="reschedule"`` and deferrable mode have the same outcomes. ``soft_fail``
    and ``never_fail`` apply to `timeout`; ``execution_timeout`` fails the task, which can then be retried. It limits
    the entire wait, with ``mode="reschedule"`` each poke. ``silent_fail`` has no effect on deferred tasks.

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param run_count: number of the run (templated)
    :param started_after: instead of `run_count`: the first run started at this time or later, finished or not yet
        started; a datetime, or a string such as ``{{ data_interval_end }}``, in UTC without a time zone. Compared with
        Control Hub's start times, in milliseconds: subtract the possible clock skew from times of other clocks, such as
        that of Airflow. An upgrade of the active job also starts a run (templated)
    :param next_run: instead of `run_count`: the run after the latest one at the sensor's first poll. A retry or a clear
        selects again. Not with ``mode="reschedule"`` before Airflow 3.3
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param accept_stopped: treat a stopped run as a success (templated)
    :param wait_for: wait for ``completion`` (default) of the run, or until it is ``active``: ``ACTIVE`` and ``GREEN``,
        with all reported pipelines running. A run that succeeds before it is observed as active counts, too (templated)
    :param fail_on_red_after: seconds or timedelta for which the run can be ``RED`` without interruption, for example
        because an engine cannot start the pipeline; if exceeded at a poll, the task fails. A restart of the triggerer
        resets the time. With ``mode="reschedule"``, requires Airflow 3.3 and has no effect before. Default None, no
        limit (templated)
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

    :returns: same as :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`, with the metrics
        available at the end of the run, final or not
    :raises ControlHubRunFailedError: if the run did not succeed, or was ``RED`` for longer than `fail_on_red_after`;
        with ``soft_fail``, the task is skipped
    :raises AirflowSensorTimeout: if the run has not ended in time; with ``soft_fail``, the task is skipped
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``run_count``, ``streamsets_job_link``; if the run did not succeed, ``result`` (what is returned otherwise) and its
    keys.
    """

    accept_stopped = Parameter(params.boolean)
    wait_for = Parameter(params.one_of, params.WAIT_FOR)
    fail_on_red_after = Parameter(params.seconds)

    def __init__(
        self,
        *,
        accept_stopped: bool | str = False,
        wait_for: Literal["completion", "active"] | str = "completion",
        fail_on_red_after: float | timedelta | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.accept_stopped = accept_stopped
        self.wait_for = wait_for
        self.fail_on_red_after = fail_on_red_after
        self.configure_start_trigger(
            "airflow_provider_streamsets.triggers.sensors.ControlHubJobRunSensorTrigger",
            accept_stopped=accept_stopped,
            metrics_timeout=0.0,
            wait_for=wait_for,
            fail_on_red_after=fail_on_red_after,
        )

    def make_tracker(self, run: dict[str, Any], *, missing_threshold: int) -> tracking.RunTracker:
        """Return the tracker that decides when the wait is over."""
        red_since = run.get("red_since")
        return tracking.RunTracker(
            self.poll_client,
            run["job_id"],
            run["run_count"],
            job_name=run["job_name"],
            identity=RunIdentity.from_json(run.get("identity")),
            started_after=params.timestamp(run.get("started_after"), "started_after", rendered=True),
            metrics_timeout=0.0,
            missing_threshold=missing_threshold,
            until_active=self.rendered.wait_for == "active",
            fail_on_red_after=self.rendered.fail_on_red_after,
            red_for=None if red_since is None else max(time.time() - red_since, 0.0),
            log=self.log,
        )

    def is_final(self, latest: JobRun) -> bool:
        """Return whether the run has ended, or is active with ``wait_for="active"``."""
        return super().is_final(latest) or (self.wait_for == "active" and latest.is_working)

    def progress(self, tracker: tracking.RunTracker) -> dict[str, Any]:
        """Return since when the run has been ``RED``, in epoch seconds."""
        is_timed = self.fail_on_red_after is not None and tracker.red_for is not None
        return {"red_since": time.time() - (tracker.red_for or 0.0)} if is_timed else {}

    def poll_once(self, tracker: tracking.RunTracker) -> PokeReturnValue:
        """Poll the run once."""
        report = tracker.poll(skip_metrics_wait=self.remaining_time <= 0)
        return PokeReturnValue(is_done=report is not None, xcom_value=report)

    def trigger(self, run: dict[str, Any], *, timeout: float, deadline: float) -> BaseTrigger:
        """Return the trigger that waits for the run."""
        return triggers.ControlHubJobRunSensorTrigger(
            control_hub_conn_id=self.control_hub_conn_id,
            poll_interval=self.poke_interval,
            timeout=timeout,
            deadline=deadline,
            metrics_timeout=0.0,
            wait_for=self.rendered.wait_for,
            fail_on_red_after=self.rendered.fail_on_red_after,
            accept_stopped=self.rendered.accept_stopped,
            **run,
            **self.end_trigger_kwargs,
        )

    def read_event(self, event: object) -> tracking.RunReport:
        """Return the report of the run."""
        return triggers.RunsWaitEvent.from_payload(event).report_or_raise()

    def is_success(self, outcome: tracking.RunReport) -> bool:
        """Return whether the run has an outcome that the task accepts."""
        return self._result(outcome).final_state is FinalState.SUCCESS

    def _result(self, outcome: tracking.RunReport) -> SensorResult:
        return result_of_run(outcome, accept_stopped=self.rendered.accept_stopped)

    def finish(self, context: Context, outcome: tracking.RunReport) -> dict[str, Any]:
        """Return the run's result, or fail with its error."""
        sensor_result = self._result(outcome)
        if sensor_result.final_state is FinalState.SUCCESS:
            self.log.info(sensor_result.message)
            return sensor_result.result
        self.log.error(sensor_result.details)
        self.push_failed_result(context, sensor_result.result)
        raise self.failure_or_skip(outcome.failure())
