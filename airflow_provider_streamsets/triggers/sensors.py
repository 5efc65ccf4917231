"""Triggers of sensors that start or end in the triggerer, without a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from airflow_provider_streamsets import params
from airflow_provider_streamsets.compat import RETRIES_FAILED_EVENTS, push_xcoms, xcom_of_own_task
from airflow_provider_streamsets.control_hub.choices import JOINS, ON_RUN_END
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubConfigurationError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.control_hub.models import RunIdentity, RunRef
from airflow_provider_streamsets.control_hub.tracking.conditions import parse_conditions
from airflow_provider_streamsets.control_hub.tracking.metric import MetricTracker
from airflow_provider_streamsets.job_selector import (
    check_job_selection,
    get_job,
    log_selected_run,
    select_run,
    validate_run_selection,
)
from airflow_provider_streamsets.links.job import link_xcoms
from airflow_provider_streamsets.sensors.result import (
    FinalState,
    SensorResult,
    result_of_error,
    result_of_metrics,
    result_of_run,
)
from airflow_provider_streamsets.triggers.arguments import ignore_unknown_arguments
from airflow_provider_streamsets.triggers.base import ControlHubTrigger, EventLoopDeadline
from airflow_provider_streamsets.triggers.events import MetricWaitEvent, RunsWaitEvent
from airflow_provider_streamsets.triggers.runs import run_tracker

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubError, Job
    from airflow_provider_streamsets.control_hub.tracking.metric import MetricResult
    from airflow_provider_streamsets.control_hub.tracking.report import RunReport
    from airflow_provider_streamsets.control_hub.tracking.run import RunTracker, Tracker
    from airflow_provider_streamsets.polling.poller import SharedStatusPoller

_PINNED_RUN = "streamsets_run"
# By final state of the task: the event that ends the task, and the XCom key of its result.
_ENDS = {
    FinalState.SUCCESS: (TaskSuccessEvent, "return_value"),
    FinalState.FAILED: (TaskFailedEvent, "result"),
    FinalState.SKIPPED: (TaskSkippedEvent, "result"),
}


@ignore_unknown_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class SensorTrigger(ControlHubTrigger):
    """
    Base class of the triggers of sensors, which wait for one run and may replace the worker.

    A trigger that starts the task resolves the job and the run as the sensor would, and pushes the run to XCom, so that
    it waits for the same run after a restart of the triggerer. A trigger that ends the task ends it as the sensor
    would, except for a timeout: a worker raises that, so that Airflow does not retry the task.

    The other parameters are those of :class:`~airflow_provider_streamsets.triggers.base.ControlHubTrigger`, without
    `stop_on_kill` and `force_stop_after`.

    :param job_id: id of the job
    :param job_name: name of the job, for messages; with `starts`, it can replace the id
    :param run_count: number of the run; with `starts`, None is the latest run
    :param identity: id of the run and its start time in epoch seconds, which distinguish it from a run of the same
        number after the job was deleted and imported again; None if unknown
    :param started_after: wait for the first run started at or after this time, in ISO 8601; `run_count` is then the
        lowest number it can have. None if the number is known
    :param starts: start the task: resolve the job, the run and the deadline
    :param ends: end the task
    :param soft_fail: skip the task instead of failing it if the run failed or the metrics do not satisfy the conditions
    :param never_fail: skip the task instead of failing it on any error
    :param do_xcom_push: push the result to XCom; with `ends`
    :param multiple_outputs: also push each key of the result
    :param reserve: seconds from the deadline to Airflow's own timeout of the task; with `starts`
    :param next_run: with `starts`: the run after the latest one
    """

    job_id: str = ""
    job_name: str = ""
    run_count: int = 0
    identity: Sequence[str | float | None] | None = None
    started_after: str | None = None
    starts: bool = False
    ends: bool = False
    soft_fail: bool = False
    never_fail: bool = False
    do_xcom_push: bool = True
    multiple_outputs: bool = True
    reserve: float = 0.0
    next_run: bool = False
    # The task has not started the run, so that a kill does not stop it.
    stop_on_kill: bool = field(default=False, init=False)
    force_stop_after: float | None = field(default=None, init=False)

    @property
    def description(self) -> str:
        """Description of the run for messages."""
        return f"run {self.run_count} of job {self.job_id}"

    @property
    def run_ref(self) -> RunRef:
        """The run, as far as it is known."""
        run_count = self.run_count if isinstance(self.run_count, int) else 0
        return RunRef(self.job_id or "", run_count, self.job_name or "", RunIdentity.from_json(self.identity))

    def tracker(self, poller: SharedStatusPoller) -> Tracker[Any]:
        """
        Return the tracker of the run.

        :param poller: poller of the connection
        """
        raise NotImplementedError

    def run_details(self, job: Job) -> dict[str, Any]:
        """
        Check the rendered arguments, and return those of the wait, as JSON values.

        :param job: the job
        :raises ValueError: if an argument is invalid
        """
        return {}

    def sensor_result(self, event: Any) -> SensorResult:
        """
        Return the result of the sensor for a wait that ended without an error.

        :param event: event of the wait
        """
        raise NotImplementedError

    @property
    def is_credential_accepted(self) -> bool:
        """False if the task starts in the triggerer, as no worker has used the credential before."""
        return not self.starts

    @property
    def min_deferral(self) -> float:
        """0 if the task starts in the triggerer, as it has not been on a worker before."""
        return 0.0 if self.starts else super().min_deferral

    async def prepare(self, poller: SharedStatusPoller) -> None:
        """Resolve the job and the run, unless a worker has done so."""
        if self.starts:
            self.deadline = self._deadline_of_task()
            await self._start(poller, EventLoopDeadline(self.deadline))

    async def process_result(self, result: Any) -> None:
        """Push the number of the run to XCom if it was not known before."""
        self.run_count = result.awaited_run_count
        if self.started_after is not None and (self.starts or self.ends):
            try:
                await push_xcoms(self.task_instance, run_count=self.run_count)
            except Exception as error:  # noqa: BLE001 - the outcome of the task does not depend on it
                self.log.warning("Could not push 'run_count' to XCom; ending the task without it: %s", error)

    def _deadline_of_task(self) -> float | None:
        """Return the deadline: `reserve` seconds before Airflow's own timeout of the task."""
        timeout_after = getattr(self, "timeout_after", None)
        if timeout_after is not None:
            return float(timeout_after.timestamp()) - self.reserve
        return None if self.timeout is None else time.time() + self.timeout

    async def _start(self, poller: SharedStatusPoller, deadline: EventLoopDeadline) -> None:
        job_selection: dict[str, Any] = {"job_id": self.job_id, "job_name": self.job_name}
        run_parameters: dict[str, Any] = {
            "run_count": self.run_count,
            "started_after": self.started_after,
            "next_run": self.next_run,
        }
        # What the event reports if the job or the run does not exist.
        self.job_id, self.job_name, self.run_count = self.job_id or "", self.job_name or "", 0
        self.started_after = None
        # If a task starts in the triggerer, Airflow keeps the XComs of its previous tries.
        try_number = getattr(self.task_instance, "try_number", None)
        run = await xcom_of_own_task(self.task_instance, _PINNED_RUN)
        if isinstance(run, dict) and run.get("try_number") == try_number:
            # The previous triggerer has used the credential.
            poller.client.mark_accepted()
        else:
            try:
                check_job_selection(**job_selection)
                run_selection = validate_run_selection(**run_parameters, rendered=True)
                job, run = await self._find_run(poller, deadline, run_selection, **job_selection)
                run = {**run, **self.run_details(job)}
            except ValueError as error:
                raise ControlHubConfigurationError(str(error)) from error
            link = await poller.run_query(lambda: poller.client.job_url(job.job_id))
            await push_xcoms(
                self.task_instance,
                job_id=job.job_id,
                **({} if run.get("started_after") else {"run_count": run["run_count"]}),
                **{_PINNED_RUN: {**run, "try_number": try_number}},
                **link_xcoms(self.task_instance, self.control_hub_conn_id, link),
            )
            log_selected_run(self.log, job, run, **run_selection)
        for name, value in run.items():
            if name != "try_number":
                setattr(self, name, value)

    async def _find_run(
        self,
        poller: SharedStatusPoller,
        deadline: EventLoopDeadline,
        run_selection: Mapping[str, Any],
        job_id: str | None,
        job_name: str | None,
    ) -> tuple[Job, dict[str, Any]]:
        def find() -> tuple[Job, dict[str, Any]]:
            job = get_job(poller.client, job_id, job_name)
            return job, select_run(poller.client, job, **run_selection)

        while True:
            try:
                job_and_run = await poller.run_query(find, deadline.remaining)
            except ControlHubUnavailableError as error:
                poller.outage.failed(error)
            except asyncio.TimeoutError as error:
                limit = f" within {self.timeout:g} s" if self.timeout is not None else " before the deadline"
                raise ControlHubRunTimeoutError(f"Could not read job '{job_id or job_name}'{limit}.") from error
            else:
                poller.outage.succeeded()
                return job_and_run

    async def trigger_event(self, event: Any) -> TriggerEvent:
        """Return the event that ends the task, or the one that resumes it on a worker."""
        # Without a task instance, as in `dag.test()`, a task can only end on a worker.
        if not self.ends or self.task_instance is None or isinstance(event.error, ControlHubRunTimeoutError):
            return await super().trigger_event(event)
        sensor_result = self.sensor_result(event) if event.error is None else result_of_error(event.error)
        final_state = sensor_result.apply_soft_fail(soft_fail=self.soft_fail, never_fail=self.never_fail)
        if final_state is FinalState.FAILED and not RETRIES_FAILED_EVENTS:
            return await super().trigger_event(event)
        if sensor_result.details or final_state is FinalState.FAILED:
            self.log.error("%s", sensor_result.details or sensor_result.message)
        if final_state is not FinalState.FAILED:
            self.log.info(
                "%s%s", "Skipping the task: " if final_state is FinalState.SKIPPED else "", sensor_result.message
            )
        kind, key = _ENDS[final_state]
        return kind(xcoms=await self._push_result(key, sensor_result.result))

    async def _push_result(self, key: str, result: dict[str, Any]) -> dict[str, Any] | None:
        """
        Push the result to XCom, as a worker would.

        :param key: XCom key of the complete result
        :param result: the result, empty if there is none
        :returns: XComs that Airflow must push with the event
        """
        if not self.do_xcom_push or not result:
            return None
        xcoms = {**(result if self.multiple_outputs else {}), key: result}
        try:
            # Airflow 3.3 would encode a dict in an event twice.
            if await push_xcoms(self.task_instance, **xcoms):
                return None
        except Exception as error:  # noqa: BLE001 - Airflow can still push it with the event
            self.log.warning("Could not push the result to XCom; leaving it to the event of the trigger: %s", error)
        return xcoms


@ignore_unknown_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class ControlHubJobRunSensorTrigger(SensorTrigger):
    """
    Wait on the triggerer for the run of a :class:`~airflow_provider_streamsets.sensors.runs.ControlHubJobRunSensor`.

    The event is a :class:`~airflow_provider_streamsets.triggers.events.RunsWaitEvent` with one run. The other
    parameters are those of :class:`SensorTrigger`.

    :param metrics_timeout: maximum seconds to wait for the final metrics after the run has ended
    :param wait_for: wait for the run's ``completion``, or until it is ``active``
    :param fail_on_red_after: maximum seconds for which the run may be ``RED``; None sets no limit. A restart of the
        triggerer resets the count
    :param accept_stopped: treat a run that a user stopped as a success
    """

    metrics_timeout: float = 0.0
    wait_for: str = "completion"
    fail_on_red_after: float | None = None
    accept_stopped: bool = False

    def tracker(self, poller: SharedStatusPoller) -> RunTracker:
        """Return the tracker of the run."""
        return run_tracker(
            self,
            poller,
            self.run_ref,
            started_after=params.timestamp(self.started_after, "started_after", rendered=True),
            metrics_timeout=self.metrics_timeout,
            until_active=self.wait_for == "active",
            fail_on_red_after=self.fail_on_red_after,
        )

    def event(self, result: RunReport) -> RunsWaitEvent:
        """Return the event with the report of the run."""
        return RunsWaitEvent((self.run_ref,), reports={result.job_id: result}, deadline=self.deadline)

    def failure(self, error: ControlHubError) -> RunsWaitEvent:
        """Return the event of a failed wait."""
        return RunsWaitEvent((self.run_ref,), error=error, deadline=self.deadline)

    def run_details(self, job: Job) -> dict[str, Any]:
        """Return `wait_for` and `fail_on_red_after`."""
        return {
            "wait_for": params.one_of(self.wait_for, "wait_for", params.WAIT_FOR, rendered=True),
            "fail_on_red_after": params.seconds(self.fail_on_red_after, "fail_on_red_after", rendered=True),
        }

    def sensor_result(self, event: RunsWaitEvent) -> SensorResult:
        """Return the result for the run."""
        return result_of_run(event.report_or_raise(), accept_stopped=self.accept_stopped)


@ignore_unknown_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class ControlHubJobMetricSensorTrigger(SensorTrigger):
    """
    Wait on the triggerer for a :class:`~airflow_provider_streamsets.sensors.metrics.ControlHubJobMetricSensor`.

    Record counts and counters are requested only for conditions that the status of the job cannot decide. The event is
    a :class:`~airflow_provider_streamsets.triggers.events.MetricWaitEvent`. The other parameters are those of
    :class:`SensorTrigger`.

    :param expect: conditions: strings such as ``output_count >= 1000``, or dicts of their three fields
    :param join: whether ``all`` or ``any`` of them must be satisfied
    :param on_run_end: how conditions are evaluated when the run ends first; see
        :class:`~airflow_provider_streamsets.control_hub.tracking.metric.MetricTracker`
    :param metrics_timeout: maximum seconds to wait for the final metrics after the run has ended; with `starts`, None
        is the job's statistics interval plus 15 seconds
    :param metric: with `starts`: name of a metric, instead of `expect`
    :param comparison: comparison of `metric` with `threshold`
    :param threshold: number to compare `metric` with
    """

    expect: Sequence[str | Mapping[str, Any]] | str | None = None
    join: Literal["all", "any"] = "all"
    on_run_end: Literal["fail", "evaluate", "skip"] = "fail"
    metrics_timeout: float | None = 30.0
    metric: str | None = None
    comparison: str = ">="
    threshold: float | str | None = None

    def tracker(self, poller: SharedStatusPoller) -> MetricTracker:
        """Return the tracker of the run's metrics."""
        run = self.run_ref
        return MetricTracker(
            poller.client,
            run.job_id,
            run.run_count,
            parse_conditions(self.expect),
            join=self.join,
            on_run_end=self.on_run_end,
            job_name=run.job_name,
            identity=run.identity,
            started_after=params.timestamp(self.started_after, "started_after", rendered=True),
            metrics_timeout=self.metrics_timeout or 0.0,
            now=poller.now,
            log=self.log,
            outage=poller.outage,
        )

    def event(self, result: MetricResult) -> MetricWaitEvent:
        """Return the event with the evaluated metrics."""
        return MetricWaitEvent(result.job_id, result.awaited_run_count, metric_result=result)

    def failure(self, error: ControlHubError) -> MetricWaitEvent:
        """Return the event of a failed wait."""
        run = self.run_ref
        return MetricWaitEvent(run.job_id, run.run_count, error=error)

    def run_details(self, job: Job) -> dict[str, Any]:
        """Return the conditions and `metrics_timeout`."""
        conditions = params.resolve_conditions(self.metric, self.comparison, self.threshold, self.expect)
        return {
            "expect": [condition.to_dict() for condition in conditions],
            "join": params.one_of(self.join, "join", JOINS, rendered=True),
            "on_run_end": params.one_of(self.on_run_end, "on_run_end", ON_RUN_END, rendered=True),
            "metrics_timeout": params.resolve_metrics_timeout(self.metrics_timeout, job, is_needed=True),
        }

    def sensor_result(self, event: MetricWaitEvent) -> SensorResult:
        """Return the result for the metrics."""
        return result_of_metrics(event.result_or_raise(), on_run_end=self.on_run_end)
