"""What operators do with the runs that they start or stop: on time-outs, kills, errors, and stops by others."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_streamsets import params
from airflow_provider_streamsets.compat import is_deferral_timeout, task_state_store, will_retry
from airflow_provider_streamsets.operators._resume import blocking_run, unfinished_runs, write_failed
from airflow_provider_streamsets.operators._run_wait import RunWaitMixin
from airflow_provider_streamsets.operators._runs_wait import STOP_MAX_WAIT, RunsWaitMixin
from airflow_provider_streamsets.operators._stability import wait_until_stable
from airflow_provider_streamsets.operators._task_state import TaskState

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubError, Job, JobRun
    from airflow_provider_streamsets.control_hub.tracking.run_group import RunGroup

ON_TIMEOUT = ("stop", "leave")
IF_RUNNING = ("fail", "join", "restart", "wait_then_start")
# Refused start calls, because another caller was first, until the task gives up.
MAX_START_ATTEMPTS = 5
# Airflow gives a killed task 5 seconds before it is killed for good: two quick requests.
_KILL_TIMEOUT = 2.0
# Seconds to try again while Control Hub refuses, as it does while a job is being started.
_KILL_MAX_WAIT = 2.0
# Seconds for which a killed task waits for the end that it has forced, to acknowledge the error of that.
_KILL_ACKNOWLEDGE_MAX_WAIT = 1.0
_FORCED_STOP_MAX_WAIT = 60.0
# The same for a task that was told not to wait for the ends of runs.
_UNWAITED_STOP_MAX_WAIT = 15.0
_RESTART_MAX_WAIT = 600.0
_STOP_INTERVAL = 3.0
_RED_TOO_LONG = "RED for longer than fail_on_red_after"


class RunOwnershipMixin(RunWaitMixin):
    """
    Base of the operators that start runs and answer for them: no run goes on that no task waits for.

    :param on_timeout: what happens to the runs when `wait_timeout` or Airflow's ``execution_timeout`` is over: ``stop`` or
        ``leave`` (templated)
    :param on_error: what happens to them when the task fails for a reason of its own, such as a refused credential:
        ``stop`` or ``leave``. If another try of the task is to come, they go on in any case, and it waits for them
        (templated)
    :param stop_on_kill: stop the runs when the task is killed; when deferred, with Airflow 3.3 and later
    :param force_stop_after: seconds, or timedelta, after which the stop of a run that has not ended is forced; its last
        offset may then be lost. 0 forces it at once; by default that is left to the job's own force stop time-out
        (templated)
    :param accept_stopped: count runs that were stopped as successes (templated)
    :param wait_for: wait for the ``completion`` (default) of the runs, or until they are ``active``: ``ACTIVE`` and
        ``GREEN``, with all pipelines that engines report running. They are then left running (templated)
    :param fail_on_red_after: seconds, or timedelta, for which a run may be ``RED`` without interruption; one that is
        for longer has failed, and `on_error` says what happens to it. None, the default, sets no limit (templated)
    """

    template_fields: Sequence[str] = (
        *RunWaitMixin.template_fields,
        "wait_for",
        "fail_on_red_after",
        "on_timeout",
        "on_error",
        "force_stop_after",
        "accept_stopped",
    )

    def __init__(
        self,
        *,
        on_timeout: Literal["stop", "leave"] | str = "stop",
        on_error: Literal["stop", "leave"] | str = "stop",
        stop_on_kill: bool = True,
        force_stop_after: float | timedelta | str | None = None,
        accept_stopped: bool | str = False,
        wait_for: Literal["completion", "active"] | str = "completion",
        fail_on_red_after: float | timedelta | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for = wait_for
        self.fail_on_red_after = fail_on_red_after
        self.on_timeout = on_timeout
        self.on_error = on_error
        self.stop_on_kill = params.fixed_boolean(stop_on_kill, "stop_on_kill")
        self.force_stop_after = force_stop_after
        self.accept_stopped = accept_stopped
        self._wait_only_parameters["accept_stopped"] = (
            params.boolean(accept_stopped, "accept_stopped") and accept_stopped
        )
        self._wait_only_parameters["fail_on_red_after"] = fail_on_red_after
        self._record: TaskState | None = None
        self._started: dict[str, int] = {}
        self._stop_requested: dict[str, int] = {}
        self._stopped: dict[str, int] = {}
        self._has_abandoned_runs = False
        self._check_policies(rendered=False)

    def _check_policies(self, *, rendered: bool) -> None:
        params.one_of(self.on_timeout, "on_timeout", ON_TIMEOUT, rendered=rendered)
        params.one_of(self.on_error, "on_error", ON_TIMEOUT, rendered=rendered)
        params.seconds(self.force_stop_after, "force_stop_after", rendered=rendered, zero=True)
        params.boolean(self.accept_stopped, "accept_stopped", rendered=rendered)
        params.checked_wait(self.wait_for, self.fail_on_red_after, rendered=rendered)
        wait = params.boolean(self.wait_for_completion, "wait_for_completion", rendered=rendered)
        if self.wait_for == "active" and wait is False:
            raise ValueError("wait_for='active' waits, so it does not go with wait_for_completion=False.")

    def check_unused_parameters(
        self, default_args: Mapping[str, Any] | None, *, if_running: str = "fail", **others: Any
    ) -> None:
        """
        Check what has no effect, as :meth:`RunWaitMixin.check_unused_parameters`.

        :param default_args: the same
        :param if_running: what the task does about a run that is in the way; it can wait for the end of that
        """
        if if_running not in IF_RUNNING or if_running == "wait_then_start":
            self._wait_only_parameters.pop("deferrable", None)
        super().check_unused_parameters(default_args, **others)
        if self.wait_for == "active":
            metrics_timeout = self._wait_only_parameters["metrics_timeout"]
            params.no_effect("wait_for='completion'", self, default_args, metrics_timeout=metrics_timeout)

    def prepare(self) -> bool:
        """Note the time, and check the parameters, as :meth:`RunWaitMixin.prepare`."""
        self._check_policies(rendered=True)
        return super().prepare()

    @property
    def accepts_stopped(self) -> bool:
        """Whether runs that were stopped count as successes."""
        return bool(params.boolean(self.accept_stopped, "accept_stopped", rendered=True))

    def fail_on_red_seconds(self) -> float | None:
        """Return for how many seconds a run may be ``RED``; None sets no limit."""
        limit: float | None = params.seconds(self.fail_on_red_after, "fail_on_red_after", rendered=True)
        return limit

    @property
    def waits_until_active(self) -> bool:
        """Whether runs are waited for until they are active, and not for their ends."""
        return self.wait_for == "active"

    def has_left_runs_active(self, context: Context) -> bool:
        """
        Return whether a try of this task has succeeded because its runs were active, and has left them running.

        The next one then starts and waits for nothing, unless a person has cleared the task.
        """
        record = self.record(context)
        return bool(record.values.get("left_running")) and record.abandon_reason is None

    def left_running_values(self, context: Context) -> dict[str, Any]:
        """Return what must be kept when a later try writes the record anew although its runs are left running."""
        return {"left_running": True} if self.has_left_runs_active(context) else {}

    def close_record(self, context: Context) -> None:
        """Note that the outcome is about to be delivered, and whether that is that the runs are active."""
        record = self.record(context)
        if self.waits_until_active and record.is_retained and record.values:
            record.add(left_running=True)
        record.complete()

    @property
    def stops_runs_on_kill(self) -> bool:
        """Whether the runs are to be stopped when the task is killed."""
        return self.stop_on_kill

    @property
    def restart_failed_runs(self) -> bool:
        """Whether, after runs that did not succeed, the next try begins with none of those of this one."""
        return True

    def force_stop_seconds(self) -> float | None:
        """Return the seconds after which stops are forced; None leaves that to Control Hub."""
        after: float | None = params.seconds(self.force_stop_after, "force_stop_after", rendered=True, zero=True)
        return after

    def record(self, context: Context) -> TaskState:
        """Return what this try and those before have written down."""
        if self._record is None:
            self._record = TaskState(context, survives_kill=not self.stop_on_kill)
        return self._record

    def active_runs(self) -> Mapping[str, int]:
        """Return the runs of this task that were waited for until they were active, and go on."""
        return {}

    def find_recorded_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that earlier tries have started and that have not ended: run count by job id."""
        return {}

    def record_started(
        self, context: Context, runs: Mapping[str, int], observed: Mapping[str, JobRun | None] | None = None
    ) -> None:
        """
        Note runs that this task has started: it answers for them from now on.

        :param runs: run count by job id
        :param observed: these runs, as far as they were seen
        """
        from airflow_provider_streamsets.control_hub.models import RunIdentity

        self._started = dict(runs)
        known = {job_id: json for job_id, run in (observed or {}).items() if (json := RunIdentity.of(run).to_json())}
        record = self.record(context)
        record.add(started=self._started, known={**(record.values.get("known") or {}), **known})

    @contextlib.contextmanager
    def stop_runs_on_failure(self, context: Context) -> Iterator[None]:
        """See to it that no run that this task has started goes on unattended when the task fails within."""
        try:
            record = self.record(context)
            if self._was_accepted is None and record.values:
                # An earlier try has worked with the connection.
                self.client.mark_accepted()
            if record.was_killed:
                self.log.info(
                    "A person has cleared the task before it had ended. With stop_on_kill=False, this try continues "
                    "with the runs of that one; to start new runs, clear the task again when it has ended."
                )
            yield
        except TaskDeferred:
            raise
        except BaseException as error:
            self._handle_failure(context, error)
            self._record_end(context)
            raise
        self._record_end(context)

    def _record_end(self, context: Context) -> None:
        if self._killed:
            return
        try:
            self.record(context).record_end()
        except Exception as error:  # noqa: BLE001 - whatever keeps Airflow from storing it, the outcome stays
            self.log.warning("Could not save that the task has ended: %s", error)

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Context, *args: Any, **kwargs: Any
    ) -> None:
        """Render the templates; what an earlier try has started is not left running by a template that fails."""
        try:
            super()._do_render_template_fields(parent, template_fields, context, *args, **kwargs)
        except Exception as error:
            # `airflow tasks render` comes here, too, but has no store of a task that is being executed.
            if parent is self and task_state_store(context) is not None:
                self._handle_failure(context, error)
            raise

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral, with whatever Airflow says that it came to."""
        self.note_resumption(next_kwargs)
        with self.stop_runs_on_failure(context):
            self._started = {str(job_id): int(count) for job_id, count in self._recorded_started(context).items()}
            return super().resume_execution(next_method, next_kwargs, context)

    def _recorded_started(self, context: Context) -> Mapping[str, Any]:
        started = self.record(context).values.get("started")
        return started if isinstance(started, Mapping) else {}

    def _handle_failure(self, context: Context, error: BaseException) -> None:
        from airflow_provider_streamsets.control_hub import (
            ControlHubExpectationError,
            ControlHubMetricsUnavailableError,
            ControlHubRunFailedError,
            ControlHubRunTimeoutError,
        )

        try:
            record = self.record(context)
            if self._killed:
                if self.stop_on_kill:
                    self._stop_quickly(self.runs_to_stop_on_kill())
                if self._has_abandoned_runs:
                    self._record_stopped(self._stop_requested)
                    record.abandon("the try before was killed")
            elif isinstance(error, (ControlHubExpectationError, ControlHubRunFailedError)):
                red = {job_id: count for job_id, count in unfinished_runs(error).items() if job_id in self._started}
                if red:
                    self._handle_active_runs_on_failure(context, error)
                    self._handle_red_runs_on_failure(context, red, error)
                else:
                    self._handle_active_runs_on_failure(context, error)
                    # The others have ended, or are being stopped: the next try is to start new ones.
                    self._clear_failed_runs(context, error)
            elif isinstance(error, ControlHubMetricsUnavailableError):
                # The run has succeeded: there is nothing to stop, and the next try evaluates its metrics again.
                return
            elif isinstance(error, AirflowTaskTimeout):
                # Airflow calls `on_kill` next, which stops the runs.
                if self.on_timeout == "stop" and self._started:
                    self._record_stopped(self.runs_to_stop_on_kill())
                    record.abandon("the time of the try before was over")
            elif isinstance(error, ControlHubRunTimeoutError):
                # What becomes of runs that have taken too long is seen to where that is noticed.
                return
            else:
                self._handle_error(context, error)
        except Exception as another:  # noqa: BLE001 - what the task fails with is the first error
            self.log.error("Could not clean up the runs this task started: %s", another)

    def _handle_red_runs_on_failure(self, context: Context, runs: Mapping[str, int], error: BaseException) -> None:
        """Stop runs that were ``RED`` for too long, although another try may come: it could start none beside them."""
        if self.on_error == "leave":
            self.log.warning("Leaving %s running; another try of this task waits for it again.", _describe_runs(runs))
        else:
            self.stop_red_runs(context, runs)
        record = self.record(context)
        if not record.is_retained and not will_retry(context, error):
            record.clear()

    def _handle_active_runs_on_failure(self, context: Context, error: BaseException) -> None:
        """Stop runs that are active, as others did not become so, unless the next try keeps them."""
        runs, will_be_retried = self.active_runs(), will_retry(context, error)
        if not runs or (will_be_retried and not self.restart_failed_runs):
            return
        if self.on_error == "leave" and not will_be_retried:
            self.log.warning("Leaving %s running.", _describe_runs(runs))
        else:
            self.abandon_runs(context, runs, "other runs have failed")

    def stop_red_runs(self, context: Context, runs: Mapping[str, int]) -> None:
        """
        Stop runs that were ``RED`` for too long, so that the next try starts others.

        :param runs: run count by job id
        """
        self.abandon_runs(context, runs, _RED_TOO_LONG, red=dict(runs))

    def acknowledge_red_runs(self, context: Context) -> None:
        """
        Acknowledge the errors of runs that an earlier try has stopped because they were ``RED`` for too long.

        A lost engine confirms no stop, so that such a run ends in ``INACTIVE_ERROR``; that try has reported its reason.
        """
        red = self.record(context).values.get("red")
        if isinstance(red, Mapping):
            self.client.runs.acknowledge_forced(red)

    def _clear_failed_runs(self, context: Context, error: ControlHubError) -> None:
        record, will_be_retried = self.record(context), will_retry(context, error)
        if not will_be_retried and not record.is_retained:
            record.clear()
        elif self.restart_failed_runs and record.abandon_reason is None:
            blocking = blocking_run(error)
            if will_be_retried and blocking is not None:
                write_failed(record, *blocking)
            else:
                record.clear()

    def _handle_error(self, context: Context, error: BaseException) -> None:
        from airflow_provider_streamsets.control_hub import ControlHubRunLostError

        will_be_retried = will_retry(context, error)
        if isinstance(error, ControlHubRunLostError):
            # It is not there to be stopped; a run that has its number now is none of this task.
            return
        # Of a start without an answer, and of runs that this try has not got to yet, another try takes care, if any.
        runs = self._started if will_be_retried else self.runs_to_stop_on_kill() or self.find_recorded_runs(context)
        runs = {job_id: count for job_id, count in runs.items() if self._stopped.get(job_id) != count}
        if not runs:
            return
        if is_deferral_timeout(error):
            self.handle_timeout(context, runs)
        elif self.on_error == "leave":
            self.log.warning("Leaving %s running.", _describe_runs(runs))
        elif will_be_retried:
            self.log.warning("Leaving %s to the next try of this task.", _describe_runs(runs))
        else:
            self.abandon_runs(context, runs, "the task has failed for another reason")

    def handle_timeout(self, context: Context, runs: Mapping[str, int]) -> None:
        """
        Stop runs that have taken too long, unless they are to be left; a later try waits for those that are left.

        :param runs: run count by job id
        """
        if self.on_timeout == "stop":
            self.abandon_runs(context, runs, _timeout_reason(runs))
        else:
            self.log.warning("Leaving %s running.", _describe_runs(runs))

    def abandon_runs(self, context: Context, runs: Mapping[str, int], reason: str, **values: Any) -> None:
        """
        Stop runs, so that no later try waits for them.

        :param runs: run count by job id
        :param reason: for the log
        :param values: to be written down for the next try
        """
        try:
            self.record(context).abandon(f"the try before has stopped what it had started, because {reason}", **values)
        except Exception as error:  # noqa: BLE001 - whatever keeps Airflow from storing it, the runs are to be stopped
            self.log.warning("That runs are stopped could not be written down: %s", error)
        self.stop_runs(runs, reason)

    def stop_runs(self, runs: Mapping[str, int], reason: str) -> bool:
        """
        Stop runs and no others, by force after `force_stop_after`; what cannot be stopped is logged.

        :param runs: run count by job id
        :param reason: for the log
        :returns: False if Control Hub could not be reached, so that it is worth trying again
        """
        from airflow_provider_streamsets.control_hub import ControlHubError, ControlHubUnavailableError
        from airflow_provider_streamsets.control_hub.tracking.run import stop_and_wait

        self.log.warning("Stopping %s: %s.", _describe_runs(runs), reason)
        self._record_stopped(runs)
        after = self.force_stop_seconds()
        try:
            if after is None:
                self.request_stop(self.client, runs, max_wait=STOP_MAX_WAIT, force=False)
            else:
                stop_and_wait(
                    self.client,
                    runs,
                    timeout=after + _FORCED_STOP_MAX_WAIT,
                    force_stop_after=after,
                    poll_interval=_STOP_INTERVAL,
                )
        except ControlHubError as error:
            self._log_not_stopped(runs, error)
            return not isinstance(error, ControlHubUnavailableError)
        self._stopped.update(runs)
        return True

    def _record_stopped(self, runs: Mapping[str, int]) -> None:
        """Write down for later legs which runs this task has stopped."""
        if self._record is None:
            return
        try:
            self._record.add(stopped={**(self._record.values.get("stopped") or {}), **runs})
        except Exception as error:  # noqa: BLE001 - whatever keeps Airflow from storing it, the runs are to be stopped
            self.log.warning("Could not save that the runs are stopped by this task: %s", error)

    def stop_and_wait(self, runs: Mapping[str, int]) -> None:
        """
        Stop runs and wait for their ends, by force after `force_stop_after`, so that others can be started.

        :param runs: run count by job id
        :raises ControlHubRunTimeoutError: if they do not end within ten minutes, or the time that the task has
        """
        from airflow_provider_streamsets.control_hub.tracking.run import stop_and_wait

        stop_and_wait(
            self.client,
            runs,
            timeout=min(_RESTART_MAX_WAIT, self.time_left),
            force_stop_after=self.force_stop_seconds(),
            poll_interval=_STOP_INTERVAL,
        )
        self.log.info("%s: stopped by this task.", _describe_runs(runs))

    def wait_until_stable(
        self, jobs: Iterable[Job], read: Callable[[ControlHubClient, list[str]], Mapping[str, Job]]
    ) -> dict[str, Job]:
        """Wait for jobs that are being started or stopped, as :func:`wait_until_stable`, within the time that the task has."""
        from airflow_provider_streamsets.control_hub import ControlHubRunTimeoutError

        try:
            return wait_until_stable(self.polling_client(), jobs, read, sleep=self.sleep, log=self.log)
        except ControlHubRunTimeoutError as error:
            raise self._timeout_before_start(error) from error

    def request_stop(
        self, client: ControlHubClient, runs: Mapping[str, int], *, max_wait: float, force: bool
    ) -> list[str]:
        """
        Ask Control Hub to stop runs and no others.

        :param client: the client to ask with
        :param runs: run count by job id
        :param max_wait: seconds to try again while Control Hub refuses
        :param force: force the stops
        :returns: ids of the jobs whose runs were going on and have been asked to stop
        """
        return client.runs.stop_many(runs, max_wait=max_wait, force=force)

    def _log_not_stopped(self, runs: Mapping[str, int], error: Exception) -> None:
        self.log.error("%s could not be stopped and may go on: %s", _describe_runs(runs), error)

    def kill_client(self) -> ControlHubClient:
        """Return a client for the few seconds that a killed task has left."""
        return self.client.with_options(timeout=_KILL_TIMEOUT, max_attempts=1)

    def runs_to_stop_on_kill(self) -> Mapping[str, int]:
        """Return the runs that this task has started and that are not known to have ended."""
        return self._started

    def on_kill(self) -> None:
        """Stop the runs that this task has started, and no others, quickly: Airflow allows 5 seconds."""
        # Airflow also calls this when it has ended the task at its ``execution_timeout``.
        is_timeout = isinstance(sys.exc_info()[1], AirflowTaskTimeout)
        self._killed = not is_timeout
        # Without a client, the connection would have to be read, for which Airflow may be being asked just now by what
        # this interrupts; then the task itself stops its runs when it notices the kill.
        if "client" not in vars(self) or not (is_timeout or self.stop_on_kill):
            return
        runs = self.runs_to_stop_on_kill()
        if not is_timeout:
            self._stop_quickly(runs)
        elif self.on_timeout == "stop":
            self._stop_quickly(runs, f"Stopping {_describe_runs(runs)}: {_timeout_reason(runs)}.")
        elif runs:
            self.log.warning("Leaving %s running.", _describe_runs(runs))

    def _stop_quickly(self, runs: Mapping[str, int], warning: str = "") -> None:
        runs = {job_id: count for job_id, count in runs.items() if self._stop_requested.get(job_id) != count}
        if not runs:
            return
        self._has_abandoned_runs = True
        self._stop_requested.update(runs)
        client, force = self.kill_client(), self.force_stop_seconds() == 0
        try:
            asked = self.request_stop(client, runs, max_wait=_KILL_MAX_WAIT, force=force)
        except Exception as error:  # noqa: BLE001 - it would come out anywhere in what the kill has interrupted
            self._log_not_stopped(runs, error)
            # There may be time to try it once more before the process is killed for good.
            for job_id in runs:
                self._stop_requested.pop(job_id, None)
        else:
            self.log.warning(warning or f"The task was killed: stopping {_describe_runs(runs)}.")
            if force:
                # One that has failed by itself keeps its error.
                forced = {job_id: runs[job_id] for job_id in asked}
                client.runs.acknowledge_forced(forced, max_wait=_KILL_ACKNOWLEDGE_MAX_WAIT)

    def raise_if_killed(self, when: str) -> None:
        """Stop the runs and end the task if it has been killed, as :meth:`RunWaitMixin.raise_if_killed`."""
        if self._killed and self.stop_on_kill:
            self._stop_quickly(self.runs_to_stop_on_kill())
        super().raise_if_killed(when)


def _describe_runs(runs: Mapping[str, int]) -> str:
    """Return runs for messages."""
    if len(runs) == 1:
        ((job_id, run_count),) = runs.items()
        return f"run {run_count} of job {job_id}"
    return f"{len(runs)} runs"


def _timeout_reason(runs: Mapping[str, int]) -> str:
    """Return why runs are stopped at a time-out, for messages."""
    return "it took too long" if len(runs) == 1 else "they took too long"


class RunsOwnershipMixin(RunOwnershipMixin, RunsWaitMixin):
    """Base of the operators that start many runs and wait for them; the parameters are those of :class:`RunOwnershipMixin`."""

    template_fields: Sequence[str] = RunOwnershipMixin.template_fields

    @property
    def joined_runs(self) -> Collection[str]:
        """Ids of the jobs whose runs others have started, so that they are never stopped."""
        return self._watched.keys() - self._started.keys()

    def stop_red_runs(self, context: Context, runs: Mapping[str, int]) -> None:
        """Stop these runs, as :meth:`RunOwnershipMixin.stop_red_runs`; the next try keeps the others."""
        self.record(context).add(red=dict(runs))
        self.stop_runs(runs, _RED_TOO_LONG)

    def on_red_runs(self, runs: dict[str, int]) -> bool:
        """Stop those of these runs that this task has started, and no others, unless they are to be left."""
        runs = {job_id: count for job_id, count in runs.items() if job_id not in self.joined_runs}
        if not runs:
            return True
        if self.on_error == "leave":
            self.log.warning("Leaving %s running: %s.", _describe_runs(runs), _RED_TOO_LONG)
            return True
        return self.stop_runs(runs, _RED_TOO_LONG)

    def on_runs_timeout(self, context: Context, unfinished: dict[str, int]) -> None:
        """Stop the runs that this task has started, unless they are to be left."""
        own = {job_id: count for job_id, count in unfinished.items() if job_id not in self.joined_runs}
        own.update(self.active_runs())
        if own:
            self.handle_timeout(context, own)

    def runs_to_stop_on_kill(self) -> Mapping[str, int]:
        """Return the runs that this task has started and that are not known to have ended."""
        if self._group is None:
            return self._started
        runs = {**self._group.unfinished, **self._group.still_active}
        return {job_id: count for job_id, count in runs.items() if job_id in self._started}

    def active_runs(self) -> Mapping[str, int]:
        """Return the runs of this task that were waited for until they were active, and go on."""
        if self._group is None:
            return {}
        runs = self._group.still_active.items() - {(i, r.run.run_count) for i, r in self._group.red.items()}
        return {job_id: count for job_id, count in runs if job_id in self._started}

    def stopped_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that this task has stopped, in this leg or an earlier one."""
        stopped: Mapping[str, int] = self.record(context).values.get("stopped") or {}
        return stopped


class RunsStopMixin(RunsWaitMixin):
    """
    Base of the operators that stop runs and wait for their ends.

    :param force: force the stops at once: ends runs that hang in ``DEACTIVATING``, but their last offsets may be lost
        (templated)
    :param force_stop_after: seconds, or timedelta, after which the stops of runs that have not ended are forced; None never
        forces them. Only with `wait_for_completion` (templated)
    """

    template_fields: Sequence[str] = (*RunsWaitMixin.template_fields, "force", "force_stop_after")

    def __init__(
        self,
        *,
        force: bool | str = False,
        force_stop_after: float | timedelta | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.force = force
        self.force_stop_after = force_stop_after
        self._check_force(rendered=False)
        self.check_unused_parameters(
            kwargs.get("default_args"), wait_timeout=self.wait_timeout, force_stop_after=force_stop_after
        )

    def _check_force(self, *, rendered: bool) -> None:
        params.boolean(self.force, "force", rendered=rendered)
        params.seconds(self.force_stop_after, "force_stop_after", rendered=rendered)

    def prepare(self) -> bool:
        """Note the time, and check the parameters, as :meth:`RunWaitMixin.prepare`."""
        self._check_force(rendered=True)
        return super().prepare()

    def record_stop_requests(self, runs: Mapping[str, int], *, wait: bool) -> None:
        """
        Note runs that were asked to stop; errors that a forced stop causes are acknowledged at their ends.

        :param runs: run count by job id
        :param wait: whether their ends are waited for
        """
        if self.forces and wait:
            self._forced.update(runs)
        elif self.forces:
            self.client.runs.acknowledge_forced(runs, max_wait=_UNWAITED_STOP_MAX_WAIT)

    def stopped_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that this task has stopped: all that it waits for."""
        return self._watched

    def results_or_failure(
        self, context: Context, group: RunGroup, *, accept_stopped: bool, hint: str = ""
    ) -> list[dict[str, Any]]:
        """Acknowledge the errors that forced stops have caused, and return the results or fail."""
        self.client.runs.acknowledge_forced(self._forced)
        return super().results_or_failure(context, group, accept_stopped=accept_stopped, hint=hint)

    def on_runs_timeout(self, context: Context, unfinished: dict[str, int]) -> None:
        """Acknowledge the errors that forced stops have caused."""
        self.client.runs.acknowledge_forced(self._forced)

    @property
    def forces(self) -> bool:
        """Whether stops are forced at once."""
        return bool(params.boolean(self.force, "force", rendered=True))

    @property
    def force_after(self) -> float | None:
        """Seconds after which stops are forced."""
        after: float | None = params.seconds(self.force_stop_after, "force_stop_after", rendered=True)
        return after

    def force_unfinished(self, unfinished: dict[str, int]) -> bool:
        """Force the stops of the runs that have not ended; again later if Control Hub cannot be reached."""
        from airflow_provider_streamsets.control_hub import ControlHubError, ControlHubUnavailableError

        try:
            forced = self.client.runs.stop_many(unfinished, max_wait=STOP_MAX_WAIT, force=True)
        except ControlHubError as error:
            self.log.error("The stop of %s could not be forced: %s", _describe_runs(unfinished), error)
            return not isinstance(error, ControlHubUnavailableError)
        self._forced.update({job_id: unfinished[job_id] for job_id in forced})
        self.log.warning("Forcing the stops of %d runs, which have not ended by themselves.", len(forced))
        return True
