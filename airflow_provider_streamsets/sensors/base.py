"""Base class of the sensors that wait for a run of a job."""

from __future__ import annotations

import time
import warnings
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_streamsets import params
from airflow_provider_streamsets.compat import (
    CAN_START_FROM_TRIGGER,
    HAS_TASK_STATE_STORE,
    first_reschedule,
    is_deferral_timeout,
    skip_none_outputs,
    task_state_store,
)
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
    is_server_error,
)
from airflow_provider_streamsets.job_selector import (
    ControlHubMixin,
    check_job_selection,
    job_parameters,
    log_selected_run,
    resolve_job,
    select_run,
    validate_run_selection,
)
from airflow_provider_streamsets.links.job import LINKS
from airflow_provider_streamsets.params import Parameter
from airflow_provider_streamsets.sensors.trigger_kwargs import to_trigger_kwarg

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobRun

_MIN_RESCHEDULE_INTERVAL = 10.0
_PINNED_RUN = "streamsets_run"
# Airflow's name of the method if a deferral ended without an event.
_FAIL_METHOD = "__fail__"
# Seconds for the poll before a deferral.
_FIRST_POLL_TIMEOUT = 10.0


class _WaitFailed(AirflowSkipException):
    """
    Ends Airflow's poke loop without its message that the success criteria are met, whatever the sensor's parameters.

    :param outcome: the result of the wait
    """

    def __init__(self, outcome: Any) -> None:
        super().__init__("The wait has ended without success.")
        self.outcome = outcome


class ControlHubRunSensor(ControlHubMixin, BaseSensorOperator):
    """
    Base class of the sensors that wait for a run of a job.

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
    :param poke_interval: seconds or timedelta between two polls; default 30. With ``mode="reschedule"`` at least 10, as
        Airflow 3 can fail a task that is rescheduled before the end of the previous poke is processed
    :param poll_interval: alias of `poke_interval`, as named in the operators; set only one of them
    :param start_from_trigger: start the task in the triggerer, without a worker (Airflow 3.3; older versions start it
        on a worker, with a warning). Mapped tasks always start on a worker
    :param end_from_trigger: end the task there, too
    :param control_hub_conn_id: id of the Airflow connection (templated)
    :param multiple_outputs: also push each key of the result as a separate XCom; default True
    """

    result_is_dict = True
    job_id, job_name = job_parameters()
    run_count = Parameter(params.integer, first=True)
    started_after = Parameter(params.timestamp, first=True)
    operator_extra_links = LINKS
    ui_color = "#e8f1fb"

    def __init__(
        self,
        *,
        job_id: str | None = None,
        job_name: str | None = None,
        run_count: int | str | None = None,
        started_after: datetime | str | None = None,
        next_run: bool = False,
        deferrable: bool | None = None,
        poke_interval: timedelta | float | None = None,
        poll_interval: timedelta | float | None = None,
        start_from_trigger: bool = False,
        end_from_trigger: bool = False,
        control_hub_conn_id: str = "streamsets_default",
        multiple_outputs: bool | None = None,
        **kwargs: Any,
    ) -> None:
        interval: timedelta | float | None = params.alias(
            ("poke_interval", "poll_interval"), (poke_interval, poll_interval), kwargs.get("default_args")
        )
        poke_interval = params.DEFAULT_POLL_INTERVAL if interval is None else interval
        super().__init__(
            poke_interval=poke_interval, multiple_outputs=self.validate_multiple_outputs(multiple_outputs), **kwargs
        )
        params.seconds(poke_interval, "poke_interval")
        self.job_id = job_id
        self.job_name = job_name
        self.run_count = run_count
        self.started_after = started_after
        self.next_run = validate_run_selection(run_count, started_after, next_run)["next_run"]
        self._has_start_time = started_after is not None
        self.deferrable = params.resolve_deferrable(deferrable)
        self.start_from_trigger = params.fixed_boolean(start_from_trigger, "start_from_trigger")
        self.end_from_trigger = params.fixed_boolean(end_from_trigger, "end_from_trigger")
        if self.start_from_trigger or self.end_from_trigger:
            self._check_trigger_options(is_deferrable_false=deferrable is not None and not self.deferrable)
        if self._is_rescheduled and self.poke_interval < _MIN_RESCHEDULE_INTERVAL:
            raise ValueError(
                f"'poke_interval' must be at least {_MIN_RESCHEDULE_INTERVAL:g} s with mode='reschedule', "
                f"got {poke_interval!r}: Airflow can fail tasks that are rescheduled sooner. For shorter intervals, "
                "set deferrable=True."
            )
        if self.next_run and self._is_rescheduled and not HAS_TASK_STATE_STORE:
            raise ValueError(
                "'next_run' with mode='reschedule' requires Airflow 3.3, as older versions cannot store the run "
                "between pokes. Use mode='poke', deferrable=True or 'started_after'."
            )
        self.control_hub_conn_id = control_hub_conn_id
        params.exactly_one(job_id=job_id, job_name=job_name)
        self._tracker: Any = None
        self._deadline = Deadline(None)
        self._was_rescheduled = False
        self._may_be_final = False
        # Whether no run has started yet at or after `started_after`.
        self._awaits_start = False
        self._pinned: dict[str, Any] = {}
        skip_none_outputs(self)

    def _check_trigger_options(self, *, is_deferrable_false: bool) -> None:
        option = "start_from_trigger" if self.start_from_trigger else "end_from_trigger"
        if is_deferrable_false:
            raise ValueError(f"'{option}' requires a deferrable sensor; remove deferrable=False.")
        self.deferrable = True
        # Features that Airflow runs on a worker at the end of a task, but not for events that end a task.
        worker_features = {
            "outlets": self.outlets,
            "post_execute": getattr(self, "_post_execute_hook", None),
            "on_success_callback": self.on_success_callback,
            "on_skipped_callback": self.on_skipped_callback,
            "email": self.email and (self.email_on_failure or (self.email_on_retry and self.retries)),
            "retry_policy": getattr(self, "retry_policy", None),
            "fail_fast": self.has_dag() and getattr(self.dag, "fail_fast", False),  # type: ignore[no-untyped-call]
        }
        if self.start_from_trigger:
            worker_features["pre_execute"] = getattr(self, "_pre_execute_hook", None)
            worker_features["on_execute_callback"] = self.on_execute_callback
        conflicts = [name for name, value in worker_features.items() if value]
        if self.end_from_trigger and conflicts:
            raise ValueError(
                f"end_from_trigger=True ends the task without a worker, where Airflow ignores "
                f"{' and '.join(map(repr, conflicts))}; remove one or the other."
            )

    def configure_start_trigger(self, trigger: str, **arguments: Any) -> None:
        """
        Configure the task to start in the triggerer, if `start_from_trigger` is set and Airflow supports it.

        Called at the end of the constructor.

        :param trigger: import path of the trigger class
        :param arguments: arguments of the trigger besides those of all sensors; template fields of the sensor are
            rendered in the triggerer
        :raises ValueError: if an argument cannot be rendered in the triggerer
        """
        if not self.start_from_trigger:
            return
        if not CAN_START_FROM_TRIGGER:
            self.start_from_trigger = False
            warnings.warn(
                f"{type(self).__name__} with task_id '{self.task_id}' starts on a worker: 'start_from_trigger' "
                "requires Airflow 3.3, as older versions do not render templates in the triggerer.",
                UserWarning,
                stacklevel=4,
            )
            return
        limit = min(self.timeout, self._execution_timeout)
        # Airflow applies the earlier of this and `execution_timeout`; the trigger derives its deadline from the result.
        reserve = min(
            params.framework_timeout(0.0, self.poke_interval).total_seconds(), self._execution_timeout - limit
        )
        values = {
            "control_hub_conn_id": self.control_hub_conn_id,
            "job_id": self.job_id,
            "job_name": self.job_name,
            "run_count": self.run_count,
            "started_after": self.started_after,
            "next_run": self.next_run,
            "poll_interval": self.poke_interval,
            "timeout": limit,
            "starts": True,
            "reserve": reserve,
            **self.end_trigger_kwargs,
            **arguments,
        }
        from airflow.triggers.base import StartTriggerArgs

        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=trigger,
            trigger_kwargs={name: to_trigger_kwarg(value, name) for name, value in values.items()},
            next_method="execute_complete",
            timeout=timedelta(seconds=limit + reserve),
        )

    @property
    def end_trigger_kwargs(self) -> dict[str, Any]:
        """Arguments of the trigger that control whether and how the task ends in the triggerer."""
        return {
            "ends": self.end_from_trigger,
            "soft_fail": self.soft_fail,
            "never_fail": self.never_fail,
            "do_xcom_push": self.do_xcom_push,
            "multiple_outputs": self.multiple_outputs,
        }

    def run_details(self, job: Job) -> dict[str, Any]:
        """Return further data of the job that the wait needs, as JSON values. It is stored with the run."""
        return {}

    @property
    def poll_client(self) -> ControlHubClient:
        """A client without retries, as a failed poll is repeated at the next interval."""
        return self.client.with_options(max_attempts=1)

    def make_tracker(self, run: dict[str, Any], *, missing_threshold: int) -> Any:
        """
        Return the tracker that decides after each poll whether the wait is over.

        :param run: what :func:`~airflow_provider_streamsets.job_selector.select_run` and :meth:`run_details` have
            returned
        :param missing_threshold: consecutive polls after which a missing job or run is considered deleted
        """
        raise NotImplementedError

    def progress(self, tracker: Any) -> dict[str, Any]:
        """Return the state that the next poke needs, as JSON values. It is stored with the run."""
        return {}

    def poll_once(self, tracker: Any) -> PokeReturnValue:
        """Poll the run once, on a worker, with the tracker of :meth:`make_tracker`."""
        raise NotImplementedError

    def trigger(self, run: dict[str, Any], *, timeout: float, deadline: float) -> BaseTrigger:
        """
        Return the trigger that waits for the run.

        :param run: what :func:`~airflow_provider_streamsets.job_selector.select_run` and :meth:`run_details` have
            returned
        :param timeout: time limit of the wait in seconds
        :param deadline: end of the wait in epoch seconds
        """
        raise NotImplementedError

    def is_success(self, outcome: Any) -> bool:
        """Return whether the task succeeds with the result of the wait."""
        raise NotImplementedError

    def finish(self, context: Context, outcome: Any) -> Any:
        """Return the task's result, or fail or skip the task, according to the result of the wait."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Wait for the run in the configured mode."""
        self.check_rendered()
        self._set_deadline(context)
        if self.deferrable:
            try:
                with self.client.within(lambda: self.remaining_time):
                    run = self._pin(context)
            except ControlHubError as error:
                self._skip_if_never_fail(error)
                raise
            outcome = self._poll_before_deferral(run)
            if outcome is not None:
                return self.finish(context, outcome)
            limit, remaining = self._limit, max(self.remaining_time, 0.0)
            self.defer(
                trigger=self.trigger(run, timeout=limit, deadline=time.time() + remaining),
                method_name="execute_complete",
                timeout=params.framework_timeout(remaining, self.poke_interval),
            )
        try:
            outcome = super().execute(context)
        except _WaitFailed as failed:
            outcome = failed.outcome
        except (AirflowSensorTimeout, AirflowSkipException, ControlHubError) as error:
            self._unpin(context)
            if isinstance(error.__cause__, AirflowTaskTimeout):
                # Airflow skips the task if `execution_timeout` expires during a poke, and fails it between two.
                raise error.__cause__ from None
            converted = self._convert_loop_error(error)
            raise converted from None if converted is error else error
        self._unpin(context)
        return self.finish(context, outcome)

    def is_final(self, latest: JobRun) -> bool:
        """
        Return whether the job's status alone ends the wait.

        :param latest: the job's latest run, which is the one to wait for
        """
        return latest.has_ended

    def _poll_before_deferral(self, run: dict[str, Any]) -> Any:
        """Return the result of a run that has ended already; None if the triggerer has to wait."""
        if not self._may_be_final:
            return None
        tracker = self.make_tracker(run, missing_threshold=3)
        deadline = Deadline(min(_FIRST_POLL_TIMEOUT, self.remaining_time))
        try:
            with tracker.client.within(lambda: deadline.remaining):
                return tracker.poll()
        except ControlHubError as error:
            self.log.info("%s Retrying on the triggerer.", error)
            return None

    @property
    def _limit(self) -> float:
        # With mode="reschedule", Airflow applies `execution_timeout` to each poke.
        return self.timeout if self._is_rescheduled else min(self.timeout, self._execution_timeout)

    @property
    def _is_rescheduled(self) -> bool:
        return self.reschedule and not self.deferrable

    @property
    def remaining_time(self) -> float:
        """Seconds until the wait times out."""
        return self._deadline.remaining

    def _set_deadline(self, context: Context) -> None:
        first = first_reschedule(context) if self._is_rescheduled else None
        self._was_rescheduled = first is not None
        waited = 0.0 if first is None else (datetime.now(timezone.utc) - first).total_seconds()
        self._deadline = Deadline(min(self._limit - waited, self._execution_timeout))

    def _convert_loop_error(self, error: BaseException) -> BaseException:
        """
        Convert an error of Airflow's poke loop to the one that a deferred sensor raises.

        The loop itself skips time-outs with `soft_fail` only, without the last status, and logs no reason for other
        skips.
        """
        if not isinstance(error, (AirflowSensorTimeout, AirflowSkipException)):
            return self._error_or_skip(error)
        if error.__cause__ is not None:
            return self._error_or_skip(error.__cause__)
        reason = error if self._tracker is None else self._tracker.timed_out(self._limit)
        return self.failure_or_skip(AirflowSensorTimeout(str(reason)))

    def check_rendered(self) -> None:
        """
        Validate the rendered parameters, before any request.

        :raises ValueError: if one of them is invalid
        """
        self.check_parameters()
        check_job_selection(self.job_id, self.job_name)
        self._run_selection()

    def _run_selection(self) -> dict[str, Any]:
        if self._has_start_time and self.started_after is None:
            raise ValueError(
                "'started_after' must be a time, but its template rendered to None, for example because the DAG run "
                "has no data interval."
            )
        return validate_run_selection(self.run_count, self.started_after, self.next_run, rendered=True)

    def poke(self, context: Context) -> PokeReturnValue:
        """
        Poll the run once. A poll that fails because Control Hub is unreachable does not end the wait.

        :raises AirflowSkipException: if the wait has ended without success; :meth:`execute` fails or skips the task
        """
        if self._tracker is None:
            is_stateless = self.reschedule and task_state_store(context) is None
            if is_stateless and self._was_rescheduled:
                self.client.mark_accepted()
                self.client = self.client.with_options(max_attempts=1)
            try:
                with self.client.within(lambda: self.remaining_time):
                    run = self._pin(context)
                # A rescheduled poke does not know the misses of the previous one.
                self._tracker = self.make_tracker(run, missing_threshold=1 if self.reschedule else 3)
            except ControlHubError as error:
                # Without a state store, each poke selects the run again, which can fail like any poll.
                if not is_stateless or not (isinstance(error, ControlHubUnavailableError) or is_server_error(error)):
                    raise
                self.log.warning("%s Retrying at the next poke.", error)
                return PokeReturnValue(is_done=False)
        with self._tracker.client.within(lambda: self.remaining_time):
            result = self.poll_once(self._tracker)
        self._save_found_run(context)
        self._save_progress(context, self.progress(self._tracker))
        if result.is_done and not self.is_success(result.xcom_value):
            raise _WaitFailed(result.xcom_value)
        return result

    def _save_found_run(self, context: Context) -> None:
        """Push the number of the run that `started_after` selects once it has started; store the run's identity."""
        run_count, after = self._tracker.run_count, self._tracker.started_after
        identity = self._tracker.identity.to_json()
        awaited_start, self._awaits_start = self._awaits_start, self._awaits_start and after is not None
        if awaited_start and after is None:
            self._push_run_count(context, run_count)
        store = task_state_store(context)
        if not self.reschedule or store is None:
            return
        pinned = dict(self._pinned)
        if awaited_start:
            pinned.update(run_count=run_count, started_after=after and after.isoformat())
        # The next poke detects by the identity that the job was imported again.
        if identity is not None and "identity" not in pinned and run_count == pinned["run_count"]:
            pinned["identity"] = identity
        if pinned != self._pinned:
            self._pinned = pinned
            store.set(_PINNED_RUN, pinned)

    @staticmethod
    def _push_run_count(context: Context, run_count: int) -> None:
        context["ti"].xcom_push(key="run_count", value=run_count)

    def _get_next_poke_interval(self, *args: Any, **kwargs: Any) -> float:
        """Return the seconds until the next poke; new runs are polled sooner, as on the triggerer."""
        interval: float = super()._get_next_poke_interval(*args, **kwargs)
        is_fixed = self.reschedule or self.exponential_backoff or self._tracker is None
        return interval if is_fixed else float(self._tracker.next_delay(interval))

    def _save_progress(self, context: Context, progress: dict[str, Any]) -> None:
        store = task_state_store(context)
        if not self.reschedule or progress.keys() == self._pinned.get("progress", {}).keys():
            return
        if store is None:
            names = ", ".join(progress)
            self.log.warning(
                "%s cannot be stored between pokes before Airflow 3.3; limits that depend on it have no effect.", names
            )
        else:
            store.set(_PINNED_RUN, {**self._pinned, "progress": progress})

    def _pin(self, context: Context) -> dict[str, Any]:
        """Select the run to wait for, store it, and push it to XCom."""
        pinned = self._load_pinned(context)
        if pinned is not None:
            self.client.mark_accepted()
        run = pinned or self._resolve()
        store = task_state_store(context)
        if self.reschedule and store is not None:
            self._pinned = {**run, "try_number": context["ti"].try_number}
            store.set(_PINNED_RUN, self._pinned)
        context["ti"].xcom_push(key="job_id", value=run["job_id"])
        self._awaits_start = bool(run.get("started_after"))
        if not self._awaits_start:
            self._push_run_count(context, run["run_count"])
        self.push_link(context, run["link"])
        progress = run.get("progress") or {}
        return {**{key: value for key, value in run.items() if key not in {"link", "progress"}}, **progress}

    def _load_pinned(self, context: Context) -> dict[str, Any] | None:
        store = task_state_store(context)
        if not self.reschedule or store is None:
            return None
        pinned = store.get(_PINNED_RUN)
        # The store outlives retries and clears, which select the run again.
        if not isinstance(pinned, dict) or pinned.pop("try_number", None) != context["ti"].try_number:
            return None
        return pinned

    def _unpin(self, context: Context) -> None:
        store = task_state_store(context)
        if self.reschedule and store is not None:
            store.delete(_PINNED_RUN)

    def _resolve(self) -> dict[str, Any]:
        selection = self._run_selection()
        job = resolve_job(self)
        run, latest = select_run(self.client, job, **selection), job.current_run
        log_selected_run(self.log, job, run, **selection)
        if latest is not None and latest.run_count == run["run_count"]:
            self._may_be_final = self.is_final(latest)
        else:
            self._may_be_final = run["run_count"] < job.last_run_count
        return {
            **run,
            **self.run_details(job),
            "link": self.client.job_url(job.job_id),
        }

    @property
    def _execution_timeout(self) -> float:
        return self.execution_timeout.total_seconds() if self.execution_timeout else float("inf")

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Resume after the trigger has fired, with the result of the wait or its error."""
        try:
            outcome = self.read_event(event)
        except ControlHubRunTimeoutError as error:
            raise self._timed_out(error) from error
        except ControlHubError as error:
            self._skip_if_never_fail(error)
            raise
        if self.started_after is not None:
            self._push_run_count(context, outcome.awaited_run_count)
        return self.finish(context, outcome)

    def read_event(self, event: object) -> Any:
        """
        Return the result of the wait for :meth:`finish`.

        :param event: the payload of the trigger's event
        :raises ControlHubError: if the wait ended with an error
        """
        raise NotImplementedError

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; a time-out by Airflow is handled like a time-out of the trigger."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except Exception as error:
            reason: BaseException = error
            # Airflow wraps the error of the deferral in a sensor time-out or a skip.
            while not is_deferral_timeout(reason) and reason.__cause__ is not None:
                reason = reason.__cause__
            if is_deferral_timeout(reason):
                raise self._timed_out(reason) from error
            if next_method == _FAIL_METHOD and isinstance(error, AirflowSkipException):
                raise self.skip(reason) from error
            raise

    def _timed_out(self, error: BaseException) -> BaseException:
        """Return the error of a deferred task that timed out: only `timeout` can skip the task."""
        if self._execution_timeout < self.timeout:
            return AirflowTaskTimeout(str(error))
        return self.failure_or_skip(AirflowSensorTimeout(str(error)))

    def failure_or_skip(self, error: BaseException) -> BaseException:
        """Return the error that ends the task: the failure, or a skip with `soft_fail` or `never_fail`."""
        return self.skip(error) if self.soft_fail or self.never_fail else error

    def _skip_if_never_fail(self, error: BaseException) -> None:
        # An error must not become its own cause: walking the chain would not terminate.
        if self.never_fail:
            raise self.skip(error) from error

    def _error_or_skip(self, error: BaseException) -> BaseException:
        return self.skip(error) if self.never_fail else error

    def skip(self, reason: object) -> AirflowSkipException:
        """
        Log the reason and return the error that skips the task; Airflow replaces its message when a task is resumed.

        :param reason: why the task is skipped
        """
        self.log.info("Skipping the task: %s", reason)
        return AirflowSkipException(str(reason))
