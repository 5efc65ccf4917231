"""The sensor that waits for a run that something else has started."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_streamsets import parameters
from airflow_provider_streamsets.compat import task_state_store
from airflow_provider_streamsets.links.job import ControlHubJobLink
from airflow_provider_streamsets.operators.base import (
    DEFAULT_POLL_INTERVAL,
    backstop,
    deferrable_by_default,
    find_job,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import ControlHubClient, RunReport
    from airflow_provider_streamsets.control_hub.waiting import RunFollower

_PINNED_RUN = "streamsets_run"


class ControlHubJobRunSensor(BaseSensorOperator):
    """
    Wait until a run of a job has ended, and succeed or fail as it did.

    To start a job and wait for it, use
    :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`; this sensor only observes.

    **Which run.** With `run_count`, that run. Without it, the run that is the job's latest one when the sensor first
    looks, running or already ended; for a job that has never run, its first run. A restart of the job does not change
    which run is waited for. (Before Airflow 3.3 there is no place to keep it between the pokes of
    ``mode="reschedule"``: there, each poke means the latest run.)

    Outcome, time-out, ``soft_fail`` and ``never_fail`` are the same in ``mode="poke"``, ``mode="reschedule"`` and
    deferrable.

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param run_count: number of the run (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param accept_stopped: count a run that a person stopped as a success
    :param poke_interval: seconds, or timedelta, between two looks at the run. With ``mode="reschedule"`` not below 10:
        Airflow 3 can fail a task that is rescheduled sooner than it has noticed the end of the poke before
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: as :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`; with the metrics that
        there are when the run has ended, whether final or not
    :raises ControlHubRunFailedError: if the run did not succeed; the task is skipped instead with ``soft_fail``
    :raises AirflowSensorTimeout: if it has not ended in time; the task is skipped instead with ``soft_fail``
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_id``, ``run_count``, ``streamsets_job_link``.
    """

    template_fields: Sequence[str] = ("job_id", "job_name", "run_count", "control_hub_conn_id")
    operator_extra_links = (ControlHubJobLink(),)
    ui_color = "#e8f1fb"

    def __init__(
        self,
        *,
        job_id: str | None = None,
        job_name: str | None = None,
        run_count: int | str | None = None,
        deferrable: bool | None = None,
        accept_stopped: bool = False,
        poke_interval: timedelta | float = DEFAULT_POLL_INTERVAL,
        control_hub_conn_id: str = "streamsets_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        parameters.check_job_reference(job_id, job_name)
        parameters.whole_number(run_count, "run_count")
        parameters.seconds(poke_interval, "poke_interval")
        self.job_id = job_id
        self.job_name = job_name
        self.run_count = run_count
        self.deferrable = deferrable_by_default() if deferrable is None else deferrable
        self.accept_stopped = accept_stopped
        self.control_hub_conn_id = control_hub_conn_id
        self._follower: RunFollower | None = None

    @cached_property
    def client(self) -> ControlHubClient:
        """The client of the connection, made when the task runs."""
        from airflow_provider_streamsets.hooks.control_hub import ControlHubHook

        return ControlHubHook(self.control_hub_conn_id).get_conn()

    def execute(self, context: Context) -> Any:
        """Wait for the run in the mode that is asked for."""
        from airflow_provider_streamsets.control_hub import ControlHubError

        if self.deferrable:
            try:
                run = self._pin(context)
            except ControlHubError as error:
                raise self._unless_never_fail(error) from error
            self._defer(run)
        try:
            report = super().execute(context)
        except (AirflowSensorTimeout, AirflowSkipException, ControlHubError) as error:
            self._unpin(context)
            # Airflow's own loop skips a time-out with soft_fail only.
            raise self._unless_never_fail(error) from error
        self._unpin(context)
        return self._deliver(report)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the run once. A look that fails because Control Hub cannot be reached is not the end of the wait."""
        from airflow_provider_streamsets.control_hub import ControlHubUnavailableError

        if self._follower is None:
            try:
                self._follower = self._follow(self._pin(context))
            except ControlHubUnavailableError as error:
                # Only a store of the pinned run tells the first poke of a rescheduled sensor from a later one.
                if not self.reschedule or task_state_store(context) is not None:
                    raise
                self.log.warning("%s Waiting on.", error)
                return PokeReturnValue(is_done=False)
        report = self._follower.look()
        return PokeReturnValue(is_done=report is not None, xcom_value=report)

    def _pin(self, context: Context) -> dict[str, Any]:
        """Return which run is waited for, and push it to XCom."""
        run = self._pinned_before(context) or self._resolve()
        store = task_state_store(context)
        if self.reschedule and store is not None:
            store.set(_PINNED_RUN, {**run, "try_number": context["ti"].try_number})
        context["ti"].xcom_push(key="job_id", value=run["job_id"])
        context["ti"].xcom_push(key="run_count", value=run["run_count"])
        ControlHubJobLink.persist(context, run["link"])
        return {key: value for key, value in run.items() if key != "link"}

    def _pinned_before(self, context: Context) -> dict[str, Any] | None:
        store = task_state_store(context)
        if not self.reschedule or store is None:
            return None
        pinned = store.get(_PINNED_RUN)
        # The store survives retries and clears, which are to look anew.
        if not isinstance(pinned, dict) or pinned.pop("try_number", None) != context["ti"].try_number:
            return None
        return pinned

    def _unpin(self, context: Context) -> None:
        store = task_state_store(context)
        if self.reschedule and store is not None:
            store.delete(_PINNED_RUN)

    def _resolve(self) -> dict[str, Any]:
        parameters.check_job_reference(self.job_id, self.job_name)
        run_count = parameters.whole_number(self.run_count, "run_count", rendered=True)
        job = find_job(self.client, self.job_id, self.job_name)
        if run_count is None:
            run_count = max(job.last_run_count, 1)
            self.log.info("Waiting for run %d of job %s, its latest one.", run_count, job.label)
        return {
            "job_id": job.job_id,
            "job_name": job.name,
            "run_count": run_count,
            "link": self.client.job_url(job.job_id),
        }

    def _follow(self, run: dict[str, Any]) -> RunFollower:
        from airflow_provider_streamsets.control_hub.waiting import RunFollower

        return RunFollower(
            self.client,
            run["job_id"],
            run["run_count"],
            job_name=run["job_name"],
            metrics_wait=0.0,
            # A rescheduled poke has no memory of the one before.
            believe_after=1 if self.reschedule else 3,
            log=self.log,
        )

    def _defer(self, run: dict[str, Any]) -> NoReturn:
        from airflow_provider_streamsets.triggers.runs import ControlHubJobRunTrigger

        limit = min(self.timeout, self._execution_timeout)
        self.defer(
            trigger=ControlHubJobRunTrigger(
                control_hub_conn_id=self.control_hub_conn_id,
                poll_interval=self.poke_interval,
                timeout=limit,
                deadline=time.time() + limit,
                metrics_wait=0.0,
                **run,
            ),
            method_name="execute_complete",
            timeout=backstop(limit, self.poke_interval),
        )

    @property
    def _execution_timeout(self) -> float:
        return self.execution_timeout.total_seconds() if self.execution_timeout else float("inf")

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Resume after the trigger has fired: with the report of the ended run, or with what went wrong."""
        from airflow_provider_streamsets.control_hub import ControlHubError, ControlHubRunTimeoutError
        from airflow_provider_streamsets.triggers.events import RunWaitEvent

        try:
            report = RunWaitEvent.from_payload(event).report_or_raise()
        except ControlHubRunTimeoutError as error:
            kind = AirflowTaskTimeout if self._execution_timeout < self.timeout else AirflowSensorTimeout
            raise self._unless_soft_fail(kind(str(error))) from error
        except ControlHubError as error:
            raise self._unless_never_fail(error) from error
        return self._deliver(report)

    def _deliver(self, report: RunReport) -> dict[str, Any]:
        from airflow_provider_streamsets.control_hub import ControlHubRunFailedError, Outcome

        if report.outcome is Outcome.SUCCEEDED or (self.accept_stopped and report.outcome is Outcome.STOPPED):
            self.log.info(report.headline)
            return report.to_result()
        self.log.error(report.explanation())
        raise self._unless_soft_fail(ControlHubRunFailedError(f"{report.headline}."))

    def _unless_soft_fail(self, error: BaseException) -> BaseException:
        return AirflowSkipException(str(error)) if self.soft_fail or self.never_fail else error

    def _unless_never_fail(self, error: BaseException) -> BaseException:
        return AirflowSkipException(str(error)) if self.never_fail else error
