"""The sensor that waits for a run that something else has started."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import PokeReturnValue

from airflow_provider_streamsets.params import boolean, checked_wait, timestamp
from airflow_provider_streamsets.sensors.base import ControlHubRunSensor
from airflow_provider_streamsets.sensors.result import FinalState, result_of_run

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_streamsets.control_hub import JobRun, RunReport
    from airflow_provider_streamsets.control_hub.tracking.run import RunTracker


class ControlHubJobRunSensor(ControlHubRunSensor):
    """
    Wait until a run of a job has ended, and succeed or fail as it did; or until it is active.

    To start a job and wait for it, use
    :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`; this sensor only observes.

    **Which run.** With `run_count`, that run; with `started_after` or `next_run`, a later one than there may be yet.
    Without any of them, the run that is the job's latest one at the sensor's first poll, running or already ended; for
    a job that has never run, its first run. A restart of the job does not change which run is waited for. (Before
    Airflow 3.3 there is no place to keep it between the pokes of ``mode="reschedule"``: there, each poke means the
    latest run.)

    Outcome, time-out, ``soft_fail`` and ``never_fail`` are the same in ``mode="poke"``, ``mode="reschedule"`` and
    deferrable. Of the limits, they concern `timeout`; ``execution_timeout`` fails the task, which can then be retried.
    With ``mode="reschedule"`` that limits each poke, otherwise the whole wait. ``silent_fail`` has no effect on a
    task that is deferred.

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param run_count: number of the run (templated)
    :param started_after: instead of it: the first run that was started at this time or later, whether it has ended or
        is yet to come; a datetime, or a text such as ``{{ data_interval_end }}``, which without a time zone is in UTC.
        Compared with start times of Control Hub's clock, to the millisecond: from a time of another clock, such as that
        of an event in Airflow, subtract the possible skew. An upgrade of the active job starts a run, too (templated)
    :param next_run: instead of it: the run after the one that is the latest when the sensor first polls. A retry or a
        clear begins anew. Not with ``mode="reschedule"`` before Airflow 3.3
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param accept_stopped: count a run that was stopped as a success (templated)
    :param wait_for: wait for the ``completion`` (default) of the run, or until it is ``active``: ``ACTIVE`` and
        ``GREEN``, with all pipelines that engines report running; one that has succeeded before it was seen active will
        do, too (templated)
    :param fail_on_red_after: seconds, or timedelta, for which the run may be ``RED`` without interruption, as when an
        engine refuses to start it; the task fails if it is for longer, which is noticed at the next poll. While
        deferred, a triggerer that is restarted counts anew. With ``mode="reschedule"`` needs Airflow 3.3: before, there
        is no place to keep since when, and it has no effect. None, the default, sets no limit (templated)
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

    :returns: as :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`; with the metrics that
        there are when the run has ended, whether final or not
    :raises ControlHubRunFailedError: if the run did not succeed, or was ``RED`` for longer than `fail_on_red_after`;
        the task is skipped instead with ``soft_fail``
    :raises AirflowSensorTimeout: if it has not ended in time; the task is skipped instead with ``soft_fail``
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``run_count``, ``streamsets_job_link``; and when the run did not succeed, ``result`` (as returned otherwise, with
    its keys).
    """

    template_fields: Sequence[str] = (
        *ControlHubRunSensor.template_fields,
        "accept_stopped",
        "wait_for",
        "fail_on_red_after",
    )

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
        boolean(accept_stopped, "accept_stopped")
        checked_wait(wait_for, fail_on_red_after, rendered=False)
        self.configure_start_trigger(
            "airflow_provider_streamsets.triggers.sensors.ControlHubJobRunSensorTrigger",
            accept_stopped=accept_stopped,
            metrics_timeout=0.0,
            wait_for=wait_for,
            fail_on_red_after=fail_on_red_after,
        )

    def check_rendered(self) -> None:
        """Check what only the rendered parameters tell."""
        super().check_rendered()
        self._wait()
        boolean(self.accept_stopped, "accept_stopped", rendered=True)

    @property
    def _accepts_stopped(self) -> bool:
        return bool(boolean(self.accept_stopped, "accept_stopped", rendered=True))

    def _wait(self) -> dict[str, Any]:
        return checked_wait(self.wait_for, self.fail_on_red_after, rendered=True)

    def make_tracker(self, run: dict[str, Any], *, missing_threshold: int) -> RunTracker:
        """Return what decides when the wait is over."""
        from airflow_provider_streamsets.control_hub.models import RunIdentity
        from airflow_provider_streamsets.control_hub.tracking.run import RunTracker

        wait, red_since = self._wait(), run.get("red_since")
        return RunTracker(
            self.poll_client,
            run["job_id"],
            run["run_count"],
            job_name=run["job_name"],
            identity=RunIdentity.from_json(run.get("identity")),
            started_after=timestamp(run.get("started_after"), "started_after", rendered=True),
            metrics_timeout=0.0,
            missing_threshold=missing_threshold,
            until_active=wait["wait_for"] == "active",
            fail_on_red_after=wait["fail_on_red_after"],
            red_for=None if red_since is None else max(time.time() - red_since, 0.0),
            log=self.log,
        )

    def is_decided_by(self, latest: JobRun) -> bool:
        """Return whether the run has ended, or is active if that is what is waited for."""
        return super().is_decided_by(latest) or (self.wait_for == "active" and latest.is_working)

    def progress(self, tracker: RunTracker) -> dict[str, Any]:
        """Return since when the run has been ``RED``, in epoch seconds."""
        is_timed = self.fail_on_red_after is not None and tracker.red_for is not None
        return {"red_since": time.time() - (tracker.red_for or 0.0)} if is_timed else {}

    def poll_once(self, tracker: RunTracker) -> PokeReturnValue:
        """Look at the run once."""
        report = tracker.poll(skip_metrics_wait=self.time_left <= 0)
        return PokeReturnValue(is_done=report is not None, xcom_value=report)

    def trigger(self, run: dict[str, Any], *, timeout: float, deadline: float) -> BaseTrigger:
        """Return the trigger that waits for the run."""
        from airflow_provider_streamsets.triggers.runs import ControlHubJobRunTrigger
        from airflow_provider_streamsets.triggers.sensors import ControlHubJobRunSensorTrigger

        arguments: dict[str, Any] = {
            "control_hub_conn_id": self.control_hub_conn_id,
            "poll_interval": self.poke_interval,
            "timeout": timeout,
            "deadline": deadline,
            "metrics_timeout": 0.0,
            **self._wait(),
            **run,
        }
        if self.end_from_trigger:
            return ControlHubJobRunSensorTrigger(**arguments, accept_stopped=self._accepts_stopped, **self.ending)
        return ControlHubJobRunTrigger(**arguments)

    def read_event(self, event: object) -> RunReport:
        """Return the report of the run."""
        from airflow_provider_streamsets.triggers.events import RunWaitEvent

        return RunWaitEvent.from_payload(event).report_or_raise()

    def finish(self, context: Context, found: RunReport) -> dict[str, Any]:
        """Return the run's result, or fail with its error."""
        sensor_result = result_of_run(found, accept_stopped=self._accepts_stopped)
        if sensor_result.ending is FinalState.SUCCESS:
            self.log.info(sensor_result.message)
            return sensor_result.result
        self.log.error(sensor_result.details)
        self.push_failed_result(context, sensor_result.result)
        raise self.raise_unless_soft_fail(found.failure())
