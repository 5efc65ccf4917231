"""Ownership of runs: what operators do with runs that they start or stop on time-outs, kills and errors."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_streamsets import params
from airflow_provider_streamsets.compat import is_deferral_timeout, task_state_store, will_retry
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubExpectationError,
    ControlHubMetricsUnavailableError,
    ControlHubRunFailedError,
    ControlHubRunLostError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.control_hub.models import RunIdentity
from airflow_provider_streamsets.operators._resume import blocking_run, unfinished_runs, write_failed
from airflow_provider_streamsets.operators._run_wait import STOP_MAX_WAIT, RunWaitMixin
from airflow_provider_streamsets.operators._task_state import TaskState
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobRun

ON_TIMEOUT = ("stop", "leave")
IF_RUNNING = ("fail", "join", "restart", "wait_then_start")
# Start requests that may be rejected because another caller was first, before the task fails.
MAX_START_ATTEMPTS = 5
# Seconds. Airflow terminates a killed task after 5 seconds: enough for two short requests.
_KILL_TIMEOUT = 2.0
# Seconds to retry while Control Hub rejects the stop of a job that is being started.
_KILL_MAX_WAIT = 2.0
# Seconds for which a killed task waits for a forced stop, to acknowledge its error.
_KILL_ACKNOWLEDGE_MAX_WAIT = 1.0
_FORCED_STOP_MAX_WAIT = 60.0
# Seconds to acknowledge the error of a forced stop if the task does not wait for completion.
_UNWAITED_STOP_MAX_WAIT = 15.0
_RESTART_MAX_WAIT = 600.0
_STOP_INTERVAL = 3.0
_LEFT_RUNNING = "%s: left running because of %s='leave'."
_TIMED_OUT = "the wait timed out"
RED_TOO_LONG = "RED for longer than fail_on_red_after"


class RunOwnershipMixin(RunWaitMixin):
    """
    Base of the operators that start runs and own them: no run stays active without a task that waits for it.

    :param on_timeout: ``stop`` (default) or ``leave`` the runs at `wait_timeout` or Airflow's ``execution_timeout``
        (templated)
    :param on_error: ``stop`` (default) or ``leave`` the runs when the task fails for another reason, such as a rejected
        credential. If Airflow retries the task, the runs stay active, and the next try waits for them
        (templated)
    :param stop_on_kill: stop the runs when the task is killed; while deferred, this needs Airflow 3.3 or later
    :param force_stop_after: seconds, or timedelta, after which the stop of a run that has not ended is forced; its last
        offset may be lost. 0 forces it at once; default is the force stop time-out of the job (templated)
    :param accept_stopped: count stopped runs as successes (templated)
    :param wait_for: wait for ``completion`` of the runs (default), or until they are ``active``: ``ACTIVE`` and
        ``GREEN``, and all pipelines reported by engines are running. They are then left running (templated)
    :param fail_on_red_after: maximum seconds, or timedelta, for which a run may be ``RED`` without interruption; then
        it counts as failed, and `on_error` decides whether it is stopped. Default None sets no limit (templated)
    """

    wait_for = Parameter(params.one_of, params.WAIT_FOR)
    fail_on_red_after = Parameter(params.seconds)
    on_timeout = Parameter(params.one_of, ON_TIMEOUT)
    on_error = Parameter(params.one_of, ON_TIMEOUT)
    force_stop_after = Parameter(params.seconds, zero=True)
    accept_stopped = Parameter(params.boolean)

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
        self._task_state: TaskState | None = None
        self._started: dict[str, int] = {}
        self._stop_requested: dict[str, int] = {}
        self._stopped: dict[str, int] = {}
        self._has_abandoned_runs = False
        self._check_wait_for(params.boolean(self.wait_for_completion, "wait_for_completion"))

    def _check_wait_for(self, wait: bool | str) -> None:
        if self.wait_for == "active" and wait is False:
            raise ValueError("wait_for='active' cannot be combined with wait_for_completion=False.")

    def check_unused_parameters(
        self, default_args: Mapping[str, Any] | None, *, if_running: str = "fail", **others: Any
    ) -> None:
        """
        Check parameters that have no effect, see :meth:`RunWaitMixin.check_unused_parameters`.

        :param default_args: see :func:`~airflow_provider_streamsets.params.no_effect`
        :param if_running: value of the parameter; with ``wait_then_start``, `deferrable` has an effect without a wait
            for completion
        """
        if if_running not in IF_RUNNING or if_running == "wait_then_start":
            self._wait_only_parameters.pop("deferrable", None)
        super().check_unused_parameters(default_args, **others)
        if self.wait_for == "active":
            metrics_timeout = self._wait_only_parameters["metrics_timeout"]
            params.no_effect("wait_for='completion'", self, default_args, metrics_timeout=metrics_timeout)

    def prepare(self) -> bool:
        """Start the clock of `wait_timeout`, and validate the rendered parameters, see :meth:`RunWaitMixin.prepare`."""
        self.check_parameters(RunOwnershipMixin)
        wait = super().prepare()
        self._check_wait_for(wait)
        return wait

    def fail_on_red_seconds(self) -> float | None:
        """Return the maximum seconds for which a run may be ``RED``; None sets no limit."""
        limit: float | None = self.rendered.fail_on_red_after
        return limit

    @property
    def waits_until_active(self) -> bool:
        """Whether a wait ends when the runs are active, rather than when they have ended."""
        return bool(self.wait_for == "active")

    def has_left_runs_active(self, context: Context) -> bool:
        """
        Return whether an earlier try succeeded because its runs were active, and left them running.

        The next try then neither starts nor waits for anything, unless the task was cleared.
        """
        state = self.task_state(context)
        return bool(state.values.get("left_running")) and state.abandon_reason is None

    def left_running_values(self, context: Context) -> dict[str, Any]:
        """Return the values to preserve when a later try replaces the state of runs that are left running."""
        return {"left_running": True} if self.has_left_runs_active(context) else {}

    def close_task_state(self, context: Context) -> None:
        """Complete the saved state before the result is returned, including whether active runs are left running."""
        state = self.task_state(context)
        if self.waits_until_active and state.is_retained and state.values:
            state.add(left_running=True)
        state.complete()

    @property
    def stops_runs_on_kill(self) -> bool:
        """Whether the runs are stopped when the task is killed."""
        return self.stop_on_kill

    @property
    def restart_failed_runs(self) -> bool:
        """Whether the next try resumes none of the runs if some did not succeed."""
        return True

    def force_stop_seconds(self) -> float | None:
        """Return the seconds after which stops are forced; None leaves that to Control Hub."""
        after: float | None = self.rendered.force_stop_after
        return after

    def task_state(self, context: Context) -> TaskState:
        """Return the state saved by this and earlier tries."""
        if self._task_state is None:
            self._task_state = TaskState(context, survives_kill=not self.stop_on_kill)
        return self._task_state

    @property
    def joined_job_ids(self) -> Collection[str]:
        """Ids of the jobs whose runs were started by other callers, and are never stopped."""
        return self._watched.keys() - self._started.keys()

    def active_runs(self) -> Mapping[str, int]:
        """Return the runs of this task whose wait ended because they were active: run count by job id."""
        if self._group is None:
            return {}
        runs = self._group.still_active.items() - {(i, r.run.run_count) for i, r in self._group.red.items()}
        return {job_id: count for job_id, count in runs if job_id in self._started}

    def stopped_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that this task stopped, now or before a deferral or retry."""
        stopped: Mapping[str, int] = self.task_state(context).values.get("stopped") or {}
        return stopped

    def find_recorded_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that earlier tries started and that have not ended: run count by job id."""
        return {}

    def record_started(
        self, context: Context, runs: Mapping[str, int], observed: Mapping[str, JobRun | None] | None = None
    ) -> None:
        """
        Save runs that this task started, and owns from now on.

        :param runs: run count by job id
        :param observed: the same runs as fetched, where available
        """
        self._started = dict(runs)
        identities = {
            job_id: json for job_id, run in (observed or {}).items() if (json := RunIdentity.from_run(run).to_json())
        }
        state = self.task_state(context)
        state.add(started=self._started, identities={**(state.values.get("identities") or {}), **identities})

    @contextlib.contextmanager
    def stop_runs_on_failure(self, context: Context) -> Iterator[None]:
        """Handle the runs that this task started if the block fails, see `on_error` and `on_timeout`."""
        try:
            state = self.task_state(context)
            if self._was_accepted is None and state.values:
                # An earlier try used the connection successfully.
                self.client.mark_accepted()
            if state.was_killed:
                self.log.info(
                    "The task was cleared before it ended. Because of stop_on_kill=False, this try resumes the runs of "
                    "the previous one. To start new runs, clear the task after it has ended."
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
            self.task_state(context).record_end()
        except Exception as error:  # noqa: BLE001 - an error of the state store must not change the outcome
            self.log.warning("Could not save that the task has ended: %s", error)

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Context, *args: Any, **kwargs: Any
    ) -> None:
        """Render the templates; if that fails, handle the runs that an earlier try started."""
        try:
            super()._do_render_template_fields(parent, template_fields, context, *args, **kwargs)
        except Exception as error:
            # `airflow tasks render` also gets here, but without a state store.
            if parent is self and task_state_store(context) is not None:
                self._handle_failure(context, error)
            raise

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral, also if it timed out or the trigger failed."""
        self.record_resumption(next_kwargs)
        with self.stop_runs_on_failure(context):
            self._started = {str(job_id): int(count) for job_id, count in self._recorded_started(context).items()}
            return super().resume_execution(next_method, next_kwargs, context)

    def _recorded_started(self, context: Context) -> Mapping[str, Any]:
        started = self.task_state(context).values.get("started")
        return started if isinstance(started, Mapping) else {}

    def _handle_failure(self, context: Context, error: BaseException) -> None:
        try:
            state = self.task_state(context)
            if self._killed:
                if self.stop_on_kill:
                    self._stop_quickly(self.runs_to_stop_on_kill())
                if self._has_abandoned_runs:
                    self._record_stopped(self._stop_requested)
                    state.abandon("the previous try was killed")
            elif isinstance(error, (ControlHubExpectationError, ControlHubRunFailedError)):
                red = {job_id: count for job_id, count in unfinished_runs(error).items() if job_id in self._started}
                if red:
                    self._handle_active_runs_on_failure(context, error)
                    self._handle_red_runs_on_failure(context, red, error)
                else:
                    self._handle_active_runs_on_failure(context, error)
                    # The other runs have ended or are being stopped: the next try starts new ones.
                    self._clear_failed_runs(context, error)
            elif isinstance(error, ControlHubMetricsUnavailableError):
                # The run succeeded: there is nothing to stop, and the next try evaluates its metrics again.
                return
            elif isinstance(error, AirflowTaskTimeout):
                # Airflow calls `on_kill` next, which stops the runs.
                if self.on_timeout == "stop" and self._started:
                    self._record_stopped(self.runs_to_stop_on_kill())
                    state.abandon("the previous try timed out")
            elif isinstance(error, ControlHubRunTimeoutError):
                # Already handled where the time-out was raised.
                return
            else:
                self._handle_error(context, error)
        except Exception as cleanup_error:  # noqa: BLE001 - the task must fail with the first error
            self.log.error("Could not clean up the runs this task started: %s", cleanup_error)

    def _handle_red_runs_on_failure(self, context: Context, runs: Mapping[str, int], error: BaseException) -> None:
        """Stop runs that were ``RED`` for too long, even before a retry, which could not start others beside them."""
        if self.on_error == "leave":
            self.log.warning(
                "%s: left running because of on_error='leave'; a retry of this task resumes the wait.",
                _describe_runs(runs),
            )
        else:
            self.stop_red_runs(context, runs)
        state = self.task_state(context)
        if not state.is_retained and not will_retry(context, error):
            state.clear()

    def _handle_active_runs_on_failure(self, context: Context, error: BaseException) -> None:
        """Stop active runs because other runs failed, unless the next try keeps them."""
        runs, will_be_retried = self.active_runs(), will_retry(context, error)
        if not runs or (will_be_retried and not self.restart_failed_runs):
            return
        if self.on_error == "leave" and not will_be_retried:
            self.log.warning(_LEFT_RUNNING, _describe_runs(runs), "on_error")
        else:
            self.abandon_runs(context, runs, "other runs failed")

    def stop_red_runs(self, context: Context, runs: Mapping[str, int]) -> None:
        """
        Stop runs that were ``RED`` for too long; the next try keeps the others.

        :param runs: run count by job id
        """
        self.task_state(context).add(red=dict(runs))
        self.stop_runs(runs, RED_TOO_LONG)

    def acknowledge_red_runs(self, context: Context) -> None:
        """
        Acknowledge the errors of runs that an earlier try stopped because they were ``RED`` for too long.

        A lost engine does not confirm a stop, so such a run ends in ``INACTIVE_ERROR``. The earlier try has already
        reported the cause.
        """
        red = self.task_state(context).values.get("red")
        if isinstance(red, Mapping):
            self.client.runs.acknowledge_forced(red)

    def _clear_failed_runs(self, context: Context, error: ControlHubError) -> None:
        state, will_be_retried = self.task_state(context), will_retry(context, error)
        if not will_be_retried and not state.is_retained:
            state.clear()
        elif self.restart_failed_runs and state.abandon_reason is None:
            blocking = blocking_run(error)
            if will_be_retried and blocking is not None:
                write_failed(state, *blocking)
            else:
                state.clear()

    def _handle_error(self, context: Context, error: BaseException) -> None:
        will_be_retried = will_retry(context, error)
        if isinstance(error, ControlHubRunLostError):
            # The run no longer exists; a run that now has its number is not that of this task.
            return
        # A retry handles unconfirmed starts, and runs that this try has not resumed yet.
        runs = self._started if will_be_retried else self.runs_to_stop_on_kill() or self.find_recorded_runs(context)
        runs = {job_id: count for job_id, count in runs.items() if self._stopped.get(job_id) != count}
        if not runs:
            return
        if is_deferral_timeout(error):
            self.handle_timeout(context, runs)
        elif self.on_error == "leave":
            self.log.warning(_LEFT_RUNNING, _describe_runs(runs), "on_error")
        elif will_be_retried:
            self.log.warning("%s: left running for the next try of this task.", _describe_runs(runs))
        else:
            self.abandon_runs(context, runs, "the task failed with another error")

    def on_red_runs(self, runs: dict[str, int]) -> bool:
        """Stop or leave those of the runs that this task started, as `on_error` says."""
        runs = {job_id: count for job_id, count in runs.items() if job_id not in self.joined_job_ids}
        if not runs:
            return True
        if self.on_error == "leave":
            self.log.warning("%s: %s; left running because of on_error='leave'.", _describe_runs(runs), RED_TOO_LONG)
            return True
        return self.stop_runs(runs, RED_TOO_LONG)

    def on_runs_timeout(self, context: Context, unfinished: dict[str, int]) -> None:
        """Stop or leave the runs that this task started, as `on_timeout` says."""
        own = {job_id: count for job_id, count in unfinished.items() if job_id not in self.joined_job_ids}
        own.update(self.active_runs())
        if own:
            self.handle_timeout(context, own)

    def on_condition_violated(self, context: Context, runs: Mapping[str, int]) -> None:
        """Stop those of the runs that this task started."""
        own = {job_id: count for job_id, count in runs.items() if job_id not in self.joined_job_ids}
        if own:
            self.abandon_runs(context, own, "its metrics are not as expected")

    def handle_timeout(self, context: Context, runs: Mapping[str, int]) -> None:
        """
        Stop or leave runs after a time-out, as `on_timeout` says; a later try resumes runs that are left.

        :param runs: run count by job id
        """
        if self.on_timeout == "stop":
            self.abandon_runs(context, runs, _TIMED_OUT)
        else:
            self.log.warning(_LEFT_RUNNING, _describe_runs(runs), "on_timeout")

    def abandon_runs(self, context: Context, runs: Mapping[str, int], reason: str, **values: Any) -> None:
        """
        Stop runs, so that no later try resumes them.

        :param runs: run count by job id
        :param reason: a clause for the log
        :param values: values to save for the next try
        """
        try:
            self.task_state(context).abandon(f"the previous try stopped its runs: {reason}", **values)
        except Exception as error:  # noqa: BLE001 - an error of the state store must not keep the runs from being stopped
            self.log.warning("Could not save that the runs were stopped: %s", error)
        self.stop_runs(runs, reason)

    def stop_runs(self, runs: Mapping[str, int], reason: str) -> bool:
        """
        Stop exactly these runs, by force after `force_stop_after`, and log errors.

        :param runs: run count by job id
        :param reason: a clause for the log
        :returns: False if Control Hub was unavailable, so that a retry makes sense
        """
        self.log.warning("%s: stopping (%s).", _describe_runs(runs), reason)
        self._record_stopped(runs)
        after = self.force_stop_seconds()
        try:
            if after is None:
                self.request_stop(self.client, runs, max_wait=STOP_MAX_WAIT, force=False)
            else:
                deadline = Deadline(after + _FORCED_STOP_MAX_WAIT)
                tracking.stop_runs(self.client, runs, deadline, poll_interval=_STOP_INTERVAL, force_stop_after=after)
        except ControlHubError as error:
            self._log_not_stopped(runs, error)
            return not isinstance(error, ControlHubUnavailableError)
        self._stopped.update(runs)
        return True

    def _record_stopped(self, runs: Mapping[str, int]) -> None:
        """Save which runs this task stopped, for the executions after a deferral or retry."""
        if self._task_state is None:
            return
        try:
            self._task_state.add(stopped={**(self._task_state.values.get("stopped") or {}), **runs})
        except Exception as error:  # noqa: BLE001 - an error of the state store must not keep the runs from being stopped
            self.log.warning("Could not save that the runs were stopped: %s", error)

    def stop_and_wait(self, runs: Mapping[str, int]) -> None:
        """
        Stop runs, by force after `force_stop_after`, and wait until they have ended and new ones can be started.

        :param runs: run count by job id
        :raises ControlHubRunTimeoutError: if the runs do not end within ten minutes, or by the deadline of the task
        """
        tracking.stop_runs(
            self.client,
            runs,
            Deadline(min(_RESTART_MAX_WAIT, self.time_left)),
            poll_interval=_STOP_INTERVAL,
            force_stop_after=self.force_stop_seconds(),
        )
        self.log.info("%s: stopped by this task.", _describe_runs(runs))

    def wait_until_stable(
        self, jobs: Iterable[Job], read: Callable[[ControlHubClient, list[str]], Mapping[str, Job]]
    ) -> dict[str, Job]:
        """Wait until no job is being started or stopped, within the deadline of the task."""
        try:
            return tracking.wait_until_stable(self.polling_client(), jobs, read, sleep=self.sleep, log=self.log)
        except ControlHubRunTimeoutError as error:
            raise self._timeout_before_start(error) from error

    def request_stop(
        self, client: ControlHubClient, runs: Mapping[str, int], *, max_wait: float, force: bool
    ) -> list[str]:
        """
        Request Control Hub to stop exactly these runs.

        :param client: the client to use
        :param runs: run count by job id
        :param max_wait: seconds to retry while Control Hub rejects the request
        :param force: force the stops
        :returns: ids of the jobs whose runs were active and are being stopped
        """
        return client.runs.stop_many(runs, max_wait=max_wait, force=force)

    def _log_not_stopped(self, runs: Mapping[str, int], error: Exception) -> None:
        self.log.error("%s: could not be stopped and may still be active: %s", _describe_runs(runs), error)

    def kill_client(self) -> ControlHubClient:
        """Return a client with short time-outs for a killed task."""
        return self.client.with_options(timeout=_KILL_TIMEOUT, max_attempts=1)

    def runs_to_stop_on_kill(self) -> Mapping[str, int]:
        """Return the runs that this task started and that are not known to have ended."""
        if self._group is None:
            return self._started
        runs = {**self._group.unfinished, **self._group.still_active}
        return {job_id: count for job_id, count in runs.items() if job_id in self._started}

    def on_kill(self) -> None:
        """Stop exactly the runs that this task started, within the 5 seconds that Airflow allows."""
        # Airflow also calls this after ``execution_timeout``.
        is_timeout = isinstance(sys.exc_info()[1], AirflowTaskTimeout)
        self._killed = not is_timeout
        # Without a client, the connection would have to be fetched from Airflow, which the interrupted code may be
        # doing right now. The task then stops its runs itself when it notices the kill.
        if "client" not in vars(self) or not (is_timeout or self.stop_on_kill):
            return
        runs = self.runs_to_stop_on_kill()
        if not is_timeout:
            self._stop_quickly(runs)
        elif self.on_timeout == "stop":
            self._stop_quickly(runs, f"{_describe_runs(runs)}: stopping ({_TIMED_OUT}).")
        elif runs:
            self.log.warning(_LEFT_RUNNING, _describe_runs(runs), "on_timeout")

    def _stop_quickly(self, runs: Mapping[str, int], message: str = "") -> None:
        """Request the stops of runs within a few seconds, without waiting for them."""
        runs = {job_id: count for job_id, count in runs.items() if self._stop_requested.get(job_id) != count}
        if not runs:
            return
        self._has_abandoned_runs = True
        self._stop_requested.update(runs)
        client, force = self.kill_client(), self.force_stop_seconds() == 0
        try:
            stopped = self.request_stop(client, runs, max_wait=_KILL_MAX_WAIT, force=force)
        except Exception as error:  # noqa: BLE001 - it would surface anywhere in the code that the kill interrupted
            self._log_not_stopped(runs, error)
            # Allows one more attempt before the process is terminated.
            for job_id in runs:
                self._stop_requested.pop(job_id, None)
        else:
            self.log.warning(message or f"The task was killed; stopping {_name_runs(runs)}.")
            if force:
                # A run that failed by itself keeps its error.
                forced = {job_id: runs[job_id] for job_id in stopped}
                client.runs.acknowledge_forced(forced, max_wait=_KILL_ACKNOWLEDGE_MAX_WAIT)

    def raise_if_killed(self, when: str) -> None:
        """Stop the runs and raise an error if the task was killed, see :meth:`RunWaitMixin.raise_if_killed`."""
        if self._killed and self.stop_on_kill:
            self._stop_quickly(self.runs_to_stop_on_kill())
        super().raise_if_killed(when)


def _describe_runs(runs: Mapping[str, int]) -> str:
    """Return a label of runs for the start of a message."""
    if len(runs) == 1:
        ((job_id, run_count),) = runs.items()
        return f"Job {job_id} run {run_count}"
    return f"{len(runs)} runs"


def _name_runs(runs: Mapping[str, int]) -> str:
    """Return a label of runs for the middle of a message, as triggers use it."""
    if len(runs) == 1:
        ((job_id, run_count),) = runs.items()
        return f"run {run_count} of job {job_id}"
    return f"{len(runs)} runs"


class RunsStopMixin(RunWaitMixin):
    """
    Base of the operators that stop runs and wait until they have ended.

    :param force: force the stops at once; this ends runs that hang in ``DEACTIVATING``, but their last offsets may be
        lost (templated)
    :param force_stop_after: seconds, or timedelta, after which the stops of runs that have not ended are forced; None
        never forces them. Requires `wait_for_completion` (templated)
    """

    force = Parameter(params.boolean)
    force_stop_after = Parameter(params.seconds)

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
        self.check_unused_parameters(
            kwargs.get("default_args"), wait_timeout=self.wait_timeout, force_stop_after=force_stop_after
        )

    def prepare(self) -> bool:
        """Start the clock of `wait_timeout`, and validate the rendered parameters, see :meth:`RunWaitMixin.prepare`."""
        self.check_parameters(RunsStopMixin)
        return super().prepare()

    def record_stop_requests(self, runs: Mapping[str, int], *, wait: bool) -> None:
        """
        Remember runs that are being stopped, to acknowledge the errors that forced stops cause.

        :param runs: run count by job id
        :param wait: whether the task waits for the end of the runs; if not, acknowledge the errors now
        """
        if self.rendered.force and wait:
            self._forced.update(runs)
        elif self.rendered.force:
            self.client.runs.acknowledge_forced(runs, max_wait=_UNWAITED_STOP_MAX_WAIT)

    def stopped_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that this task stopped, which are all that it waits for."""
        return self._watched

    def results_or_failure(
        self, context: Context, group: tracking.RunGroup, *, accept_stopped: bool, hint: str = ""
    ) -> list[dict[str, Any]]:
        """Acknowledge errors caused by forced stops, then return the results or raise the failure."""
        self.client.runs.acknowledge_forced(self._forced)
        return super().results_or_failure(context, group, accept_stopped=accept_stopped, hint=hint)

    def on_runs_timeout(self, context: Context, unfinished: dict[str, int]) -> None:
        """Acknowledge errors caused by forced stops."""
        self.client.runs.acknowledge_forced(self._forced)

    @property
    def force_after(self) -> float | None:
        """Seconds after which stops are forced."""
        after: float | None = self.rendered.force_stop_after
        return after

    def force_unfinished(self, unfinished: dict[str, int]) -> bool:
        """Force the stops of runs that have not ended; return False to retry later if Control Hub is unavailable."""
        try:
            forced = self.client.runs.stop_many(unfinished, max_wait=STOP_MAX_WAIT, force=True)
        except ControlHubError as error:
            self.log.error("%s: could not force the stop: %s", _describe_runs(unfinished), error)
            return not isinstance(error, ControlHubUnavailableError)
        self._forced.update({job_id: unfinished[job_id] for job_id in forced})
        self.log.warning("Forcing the stop of %d runs that have not ended after force_stop_after.", len(forced))
        return True
