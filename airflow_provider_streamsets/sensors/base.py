"""What the sensors of this provider share: which run they look at, and how it is kept."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
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
    task_state_store,
)
from airflow_provider_streamsets.job_selector import JobSelectorMixin, checked_run, log_of_run, run_of_job
from airflow_provider_streamsets.links.job import ControlHubJobLink
from airflow_provider_streamsets.operators._run_wait import DEFAULT_POLL_INTERVAL, framework_timeout, resolve_deferrable
from airflow_provider_streamsets.sensors.trigger_kwargs import to_trigger_kwarg

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobRun

_LEAST_RESCHEDULE_INTERVAL = 10.0
_PINNED_RUN = "streamsets_run"
# The method that Airflow names if a deferral has ended without an event.
_LOST = "__fail__"
# Seconds that a poll before a deferral may take.
_FIRST_POLL_TIMEOUT = 10.0


class ControlHubRunSensor(JobSelectorMixin, BaseSensorOperator):
    """
    Base of the sensors that look at one run of a job.

    **Which run.** With `run_count`, that run; with `started_after` or `next_run`, a later one than there may be yet.
    Without any of them, the run that is the job's latest one at the sensor's first poll, running or already ended; for
    a job that has never run, its first run. A restart of the job does not change which run it is. (Before Airflow 3.3
    there is no place to keep it between the pokes of ``mode="reschedule"``: there, each poke means the latest run.)

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
    :param poke_interval: seconds, or timedelta, between two polls; default 30. With ``mode="reschedule"`` at least 10:
        Airflow 3 can fail a task that is rescheduled before it has processed the end of the previous poke
    :param poll_interval: alias of `poke_interval`, the operators' name for it; only one of them can be given
    :param start_from_trigger: start the task in the triggerer, without a worker (Airflow 3.3 and later; before, it
        starts on a worker, with a warning). Not for mapped tasks, which start on a worker
    :param end_from_trigger: end the task there, too
    :param control_hub_conn_id: id of the Airflow connection (templated)
    :param multiple_outputs: make each key of the result an XCom of its own, too; default True
    """

    result_is_dict = True
    template_fields: Sequence[str] = ("job_id", "job_name", "run_count", "started_after", "control_hub_conn_id")
    operator_extra_links = (ControlHubJobLink(),)
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
        poke_interval = DEFAULT_POLL_INTERVAL if interval is None else interval
        super().__init__(poke_interval=poke_interval, multiple_outputs=self.checked_outputs(multiple_outputs), **kwargs)
        params.seconds(poke_interval, "poke_interval")
        self.job_id = job_id
        self.job_name = job_name
        self.run_count = run_count
        self.started_after = started_after
        self.next_run = checked_run(run_count, started_after, next_run)["next_run"]
        self._is_time_given = started_after is not None
        self.deferrable = resolve_deferrable(deferrable)
        self.start_from_trigger = params.fixed_boolean(start_from_trigger, "start_from_trigger")
        self.end_from_trigger = params.fixed_boolean(end_from_trigger, "end_from_trigger")
        if self.start_from_trigger or self.end_from_trigger:
            self._check_use_of_triggerer(is_refused=deferrable is not None and not self.deferrable)
        if self._is_rescheduled and self.poke_interval < _LEAST_RESCHEDULE_INTERVAL:
            raise ValueError(
                f"'poke_interval' must be at least {_LEAST_RESCHEDULE_INTERVAL:g} s with mode='reschedule', but is "
                f"{poke_interval!r}: Airflow can fail a task that is rescheduled sooner. With deferrable=True, it can "
                "be shorter."
            )
        if self.next_run and self._is_rescheduled and not HAS_TASK_STATE_STORE:
            raise ValueError(
                "'next_run' with mode='reschedule' needs Airflow 3.3: before, there is no place to keep between pokes "
                "which run that is. Use mode='poke', deferrable=True or 'started_after'."
            )
        self.control_hub_conn_id = control_hub_conn_id
        self.check_selection()
        self._tracker: Any = None
        self._deadline = math.inf
        self._was_rescheduled = False
        self._may_be_decided = False
        # Whether no run has been started yet after the time that is waited for.
        self._is_run_open = False
        self._pinned: dict[str, Any] = {}

    def _check_use_of_triggerer(self, *, is_refused: bool) -> None:
        used = "start_from_trigger" if self.start_from_trigger else "end_from_trigger"
        if is_refused:
            raise ValueError(f"'{used}' needs a sensor that is deferrable; leave out deferrable=False.")
        self.deferrable = True
        # What Airflow does on a worker when a task has ended, and does not do for the events that end a task.
        ignored = {
            "outlets": self.outlets,
            "post_execute": getattr(self, "_post_execute_hook", None),
            "on_success_callback": self.on_success_callback,
            "on_skipped_callback": self.on_skipped_callback,
            "email": self.email and (self.email_on_failure or (self.email_on_retry and self.retries)),
            "retry_policy": getattr(self, "retry_policy", None),
            "fail_fast": self.has_dag() and getattr(self.dag, "fail_fast", False),  # type: ignore[no-untyped-call]
        }
        if self.start_from_trigger:
            ignored["pre_execute"] = getattr(self, "_pre_execute_hook", None)
            ignored["on_execute_callback"] = self.on_execute_callback
        given = [name for name, value in ignored.items() if value]
        if self.end_from_trigger and given:
            raise ValueError(
                f"A task with end_from_trigger=True ends without a worker, where Airflow has nothing to do with "
                f"{' and '.join(map(repr, given))}; leave out one or the other."
            )

    def configure_start_trigger(self, trigger: str, **arguments: Any) -> None:
        """
        Have Airflow start the task in the triggerer, if `start_from_trigger` says so and this version of it can.

        Called at the end of the constructor.

        :param trigger: path of the trigger's class
        :param arguments: its arguments besides those that all sensors have; those that are template fields of the
            sensor are rendered in the triggerer
        :raises ValueError: if one of them cannot be rendered there
        """
        if not self.start_from_trigger:
            return
        if not CAN_START_FROM_TRIGGER:
            self.start_from_trigger = False
            warnings.warn(
                f"{type(self).__name__} with task_id '{self.task_id}' starts on a worker: 'start_from_trigger' needs "
                "Airflow 3.3, which is the first to render templates in the triggerer.",
                UserWarning,
                stacklevel=4,
            )
            return
        limit = min(self.timeout, self._execution_timeout)
        # Airflow takes the earlier one of this and of `execution_timeout`; the trigger takes its deadline from that.
        reserve = min(framework_timeout(0.0, self.poke_interval).total_seconds(), self._execution_timeout - limit)
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
            **self.ending,
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
    def ending(self) -> dict[str, Any]:
        """The arguments of a trigger that say how the task ends in the triggerer, if it does."""
        return {
            "ends": self.end_from_trigger,
            "soft_fail": self.soft_fail,
            "never_fail": self.never_fail,
            "do_xcom_push": self.do_xcom_push,
            "multiple_outputs": self.multiple_outputs,
        }

    def run_details(self, job: Job) -> dict[str, Any]:
        """Return what else than the run the wait needs to know of the job, as JSON values. It is kept with the run."""
        return {}

    @property
    def poll_client(self) -> ControlHubClient:
        """A client for polls: one that fails is repeated at the next, and must not outlast the timeout by minutes."""
        return self.client.with_options(max_attempts=1)

    def make_tracker(self, run: dict[str, Any], *, missing_threshold: int) -> Any:
        """
        Return what decides, look by look, when the wait is over.

        :param run: what :func:`~airflow_provider_streamsets.job_selector.run_of_job` and :meth:`run_details` have returned
        :param missing_threshold: how many looks in a row must say that the job or run is gone before it is believed
        """
        raise NotImplementedError

    def progress(self, tracker: Any) -> dict[str, Any]:
        """Return what the next poke has to know of what was seen, as JSON values. It is kept with the run."""
        return {}

    def poll_once(self, tracker: Any) -> PokeReturnValue:
        """Look at the run once, on a worker, with what :meth:`make_tracker` has returned."""
        raise NotImplementedError

    def trigger(self, run: dict[str, Any], *, timeout: float, deadline: float) -> BaseTrigger:
        """
        Return the trigger that looks at the run on the triggerer.

        :param run: what :func:`~airflow_provider_streamsets.job_selector.run_of_job` and :meth:`run_details` have returned
        :param timeout: seconds that the wait is given
        :param deadline: when to give up, in epoch seconds
        """
        raise NotImplementedError

    def finish(self, context: Context, found: Any) -> Any:
        """Decide from what the last look has found whether the task succeeds, and return its result."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Wait in the mode that is asked for."""
        from airflow_provider_streamsets.control_hub import ControlHubError

        self.check_rendered()
        self._set_deadline(context)
        if self.deferrable:
            try:
                with self.client.within(lambda: self.time_left):
                    run = self._pin(context)
            except ControlHubError as error:
                self._skip_if_never_fail(error)
                raise
            found = self._poll_before_deferral(run)
            if found is not None:
                return self.finish(context, found)
            limit, left = self._limit, max(self.time_left, 0.0)
            self.defer(
                trigger=self.trigger(run, timeout=limit, deadline=time.time() + left),
                method_name="execute_complete",
                timeout=framework_timeout(left, self.poke_interval),
            )
        try:
            found = super().execute(context)
        except (AirflowSensorTimeout, AirflowSkipException, ControlHubError) as error:
            self._unpin(context)
            if isinstance(error.__cause__, AirflowTaskTimeout):
                # Airflow skips if `execution_timeout` comes during a poke, and fails if it comes between two.
                raise error.__cause__ from None
            outcome = self._outcome_of_loop(error)
            raise outcome from None if outcome is error else error
        self._unpin(context)
        return self.finish(context, found)

    def is_decided_by(self, latest: JobRun) -> bool:
        """
        Return whether nothing more is to be waited for, as far as the job's status tells.

        :param latest: the job's latest run, which is the one to wait for
        """
        return latest.has_ended

    def _poll_before_deferral(self, run: dict[str, Any]) -> Any:
        """Return what is found of a run that is over already; None if that is left to the triggerer."""
        from airflow_provider_streamsets.control_hub import ControlHubError

        if not self._may_be_decided:
            return None
        tracker = self.make_tracker(run, missing_threshold=3)
        until = time.monotonic() + min(_FIRST_POLL_TIMEOUT, self.time_left)
        try:
            with tracker.client.within(lambda: until - time.monotonic()):
                return tracker.poll()
        except ControlHubError as error:
            self.log.info("%s Polling again on the triggerer.", error)
            return None

    @property
    def _limit(self) -> float:
        # Of a sensor that is rescheduled, Airflow limits each poke by `execution_timeout`.
        return self.timeout if self._is_rescheduled else min(self.timeout, self._execution_timeout)

    @property
    def _is_rescheduled(self) -> bool:
        return self.reschedule and not self.deferrable

    @property
    def time_left(self) -> float:
        """Seconds until the wait has timed out."""
        return self._deadline - time.monotonic()

    def _set_deadline(self, context: Context) -> None:
        first = first_reschedule(context) if self._is_rescheduled else None
        self._was_rescheduled = first is not None
        waited = 0.0 if first is None else (datetime.now(timezone.utc) - first).total_seconds()
        self._deadline = time.monotonic() + min(self._limit - waited, self._execution_timeout)

    def _outcome_of_loop(self, error: BaseException) -> BaseException:
        """
        Return what Airflow's loop has raised as a deferred sensor raises it.

        Of its own, the loop skips a time-out with `soft_fail` only, without what was last seen, and says of no other
        skip why.
        """
        if not isinstance(error, (AirflowSensorTimeout, AirflowSkipException)):
            return self._raise_unless_never_fail(error)
        if error.__cause__ is not None:
            return self._raise_unless_never_fail(error.__cause__)
        seen = error if self._tracker is None else self._tracker.timed_out(self._limit)
        return self.raise_unless_soft_fail(AirflowSensorTimeout(str(seen)))

    def check_rendered(self) -> None:
        """
        Check what only the rendered parameters tell, before anything is looked at.

        :raises ValueError: if one of them cannot be right
        """
        self.check_selection(rendered=True)
        self._wanted_run()

    def _wanted_run(self) -> dict[str, Any]:
        if self._is_time_given and self.started_after is None:
            raise ValueError(
                "'started_after' must be a time, but its template has yielded None, as for a run without a data "
                "interval. Without a time, the sensor would take the latest run."
            )
        return checked_run(self.run_count, self.started_after, self.next_run, rendered=True)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the run once. A look that fails because Control Hub cannot be reached is not the end of the wait."""
        from airflow_provider_streamsets.control_hub import ControlHubError, ControlHubUnavailableError
        from airflow_provider_streamsets.control_hub.errors import is_server_error

        if self._tracker is None:
            forgets = self.reschedule and task_state_store(context) is None
            if forgets and self._was_rescheduled:
                self.client.mark_accepted()
                self.client = self.client.with_options(max_attempts=1)
            try:
                with self.client.within(lambda: self.time_left):
                    run = self._pin(context)
                # A rescheduled poke has no memory of the one before.
                self._tracker = self.make_tracker(run, missing_threshold=1 if self.reschedule else 3)
            except ControlHubError as error:
                # Where each poke finds the run anew, that can fail as any look.
                if not forgets or not (isinstance(error, ControlHubUnavailableError) or is_server_error(error)):
                    raise
                self.log.warning("%s Waiting on.", error)
                return PokeReturnValue(is_done=False)
        with self._tracker.client.within(lambda: self.time_left):
            found = self.poll_once(self._tracker)
        self._note_found_run(context)
        self._save_progress(context, self.progress(self._tracker))
        return found

    def _note_found_run(self, context: Context) -> None:
        """Push which run it is, as soon as one has been started after the time; keep what is known of it."""
        run_count, after = self._tracker.run_count, self._tracker.started_after
        identity = self._tracker.identity.to_json()
        was_open, self._is_run_open = self._is_run_open, self._is_run_open and after is not None
        if was_open and after is None:
            self._push_run_count(context, run_count)
        store = task_state_store(context)
        if not self.reschedule or store is None:
            return
        pinned = dict(self._pinned)
        if was_open:
            pinned.update(run_count=run_count, started_after=after and after.isoformat())
        # Without it, the next poke does not notice if the job is imported again.
        if identity is not None and "identity" not in pinned and run_count == pinned["run_count"]:
            pinned["identity"] = identity
        if pinned != self._pinned:
            self._pinned = pinned
            store.set(_PINNED_RUN, pinned)

    @staticmethod
    def _push_run_count(context: Context, run_count: int) -> None:
        context["ti"].xcom_push(key="run_count", value=run_count)

    def _get_next_poke_interval(self, *args: Any, **kwargs: Any) -> float:
        """Return the seconds until the next poke; young runs are polled sooner, as on the triggerer."""
        interval: float = super()._get_next_poke_interval(*args, **kwargs)
        is_fixed = self.reschedule or self.exponential_backoff or self._tracker is None
        return interval if is_fixed else float(self._tracker.next_delay(interval))

    def _save_progress(self, context: Context, progress: dict[str, Any]) -> None:
        store = task_state_store(context)
        if not self.reschedule or progress.keys() == self._pinned.get("progress", {}).keys():
            return
        if store is None:
            self.log.warning("%s cannot be kept between pokes before Airflow 3.3; not timed.", ", ".join(progress))
        else:
            store.set(_PINNED_RUN, {**self._pinned, "progress": progress})

    def _pin(self, context: Context) -> dict[str, Any]:
        """Return which run is waited for, and push it to XCom."""
        pinned = self._pinned_before(context)
        if pinned is not None:
            self.client.mark_accepted()
        run = pinned or self._resolve()
        store = task_state_store(context)
        if self.reschedule and store is not None:
            self._pinned = {**run, "try_number": context["ti"].try_number}
            store.set(_PINNED_RUN, self._pinned)
        context["ti"].xcom_push(key="job_id", value=run["job_id"])
        self._is_run_open = bool(run.get("started_after"))
        if not self._is_run_open:
            self._push_run_count(context, run["run_count"])
        ControlHubJobLink.persist(context, run["link"])
        progress = run.get("progress") or {}
        return {**{key: value for key, value in run.items() if key not in {"link", "progress"}}, **progress}

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
        wanted = self._wanted_run()
        job = self.resolve_job()
        run, latest = run_of_job(self.client, job, **wanted), job.current_run
        log_of_run(self.log, job, run, **wanted)
        if latest is not None and latest.run_count == run["run_count"]:
            self._may_be_decided = self.is_decided_by(latest)
        else:
            self._may_be_decided = run["run_count"] < job.last_run_count
        return {
            **run,
            **self.run_details(job),
            "link": self.client.job_url(job.job_id),
        }

    @property
    def _execution_timeout(self) -> float:
        return self.execution_timeout.total_seconds() if self.execution_timeout else float("inf")

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Resume after the trigger has fired: with what it has found, or with what went wrong."""
        from airflow_provider_streamsets.control_hub import ControlHubError, ControlHubRunTimeoutError

        try:
            found = self.read_event(event)
        except ControlHubRunTimeoutError as error:
            raise self._timed_out(error) from error
        except ControlHubError as error:
            self._skip_if_never_fail(error)
            raise
        if self.started_after is not None and event is not None:
            self._push_run_count(context, event["run_count"])
        return self.finish(context, found)

    def read_event(self, event: object) -> Any:
        """
        Return what the trigger has found, as :meth:`finish` takes it.

        :param event: the payload of the trigger's event
        :raises ControlHubError: what ended the wait instead
        """
        raise NotImplementedError

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; one that Airflow itself has ended ends the task as the trigger's time-out does."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except Exception as error:
            reason: BaseException = error
            # Airflow makes other errors of what has ended a deferral: a time-out of sensors, and a skip.
            while not is_deferral_timeout(reason) and reason.__cause__ is not None:
                reason = reason.__cause__
            if is_deferral_timeout(reason):
                raise self._timed_out(reason) from error
            if next_method == _LOST and isinstance(error, AirflowSkipException):
                raise self.skip(reason) from error
            raise

    def _timed_out(self, error: BaseException) -> BaseException:
        """Return the error of a deferred task whose time is over: Airflow skips for `timeout` only."""
        if self._execution_timeout < self.timeout:
            return AirflowTaskTimeout(str(error))
        return self.raise_unless_soft_fail(AirflowSensorTimeout(str(error)))

    def raise_unless_soft_fail(self, error: BaseException) -> BaseException:
        """Return the error that the task is to end with: a failure, or a skip if that is asked for."""
        return self.skip(error) if self.soft_fail or self.never_fail else error

    def _skip_if_never_fail(self, error: BaseException) -> None:
        # An error must not become its own cause, which has no end for those that look for the first one.
        if self.never_fail:
            raise self.skip(error) from error

    def _raise_unless_never_fail(self, error: BaseException) -> BaseException:
        return self.skip(error) if self.never_fail else error

    def skip(self, reason: object) -> AirflowSkipException:
        """
        Return the error that skips the task, and log why, since Airflow replaces its text when a task is resumed.

        :param reason: why
        """
        self.log.info("Skipping the task: %s", reason)
        return AirflowSkipException(str(reason))
