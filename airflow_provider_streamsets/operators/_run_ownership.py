"""Ownership of runs: what operators do with runs that they start or stop on time-outs, kills and errors."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_streamsets import openlineage
from airflow_provider_streamsets.compat import is_deferral_timeout, stats_tags, will_retry
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
from airflow_provider_streamsets.operators._run_wait import STOP_MAX_WAIT, RunPolicy
from airflow_provider_streamsets.operators._task_state import TaskState

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import ControlHubClient, JobRun
    from airflow_provider_streamsets.control_hub.submission import StartIntent
    from airflow_provider_streamsets.operators._run_operators import (
        ControlHubRunOwnerOperator,
        ControlHubRunStopOperator,
    )

# Seconds. Airflow terminates a killed task after 5 seconds: enough for two short requests.
_KILL_TIMEOUT = 2.0
# Seconds to retry while Control Hub rejects the stop of a job that is being started.
_KILL_MAX_WAIT = 2.0
# Seconds for which a killed task waits for a forced stop, to acknowledge its error.
_KILL_ACKNOWLEDGE_MAX_WAIT = 1.0
# Polls of a killed task for the runs of a start request without a response.
_KILL_MAX_POLLS = 4
_KILL_POLL_DELAY = 0.5
_FORCED_STOP_MAX_WAIT = 60.0
# Seconds to acknowledge the error of a forced stop if the task does not wait for completion.
_UNWAITED_STOP_MAX_WAIT = 15.0
_RESTART_MAX_WAIT = 600.0
_STOP_INTERVAL = 3.0
_LEFT_RUNNING = "%s: left running because of %s='leave'."
_RED_TOO_LONG = "RED for longer than fail_on_red_after"


class RunOwnership(RunPolicy):
    """
    What a task does with runs that it starts: no run stays active without a task that waits for it.

    Each start is saved before it is requested. If the task fails, is killed or times out, its runs are stopped, or left
    to the next try, as `on_timeout`, `on_error` and `stop_on_kill` say.

    :param task: the operator
    """

    task: ControlHubRunOwnerOperator
    has_one_run: ClassVar[bool] = False
    """Whether the task has only one run, so that a run that is stopped is started again by the next try."""

    def __init__(self, task: ControlHubRunOwnerOperator) -> None:
        super().__init__(task)
        self.previous: dict[str, int] = {}
        """The runs of an earlier try, until it is decided whether they are resumed: run count by job id."""
        self._state: TaskState | None = None
        self._stop_requested: dict[str, int] = {}
        self._stopped: dict[str, int] = {}
        self._has_abandoned_runs = False
        # Job id and number of the runs whose start is an OpenLineage event.
        self._announced: set[tuple[str, int]] = set()

    @property
    def restart_failed_runs(self) -> bool:
        """Whether the next try resumes none of the runs if some did not succeed."""
        return True

    def find_recorded_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that earlier tries started and that have not ended: run count by job id."""
        raise NotImplementedError

    def with_runs_being_started(self, known: Mapping[str, int]) -> Mapping[str, int]:
        """
        Return runs to stop on a kill, and those of start requests without a response: run count by job id.

        :param known: the runs whose starts are confirmed
        """
        raise NotImplementedError

    @property
    def stop_on_kill(self) -> bool:
        """Whether the runs are stopped when the task is killed."""
        return self.task.stop_on_kill

    @property
    def stops_on_timeout(self) -> bool:
        """Whether the runs are stopped when the wait times out."""
        return bool(self.task.on_timeout == "stop")

    def record_stop_requests(self, runs: Mapping[str, int]) -> None:
        """Save runs that the trigger has stopped, so that no second stop is sent."""
        self._stop_requested.update(runs)
        if runs:
            self._record_stopped(runs)

    @property
    def until_active(self) -> bool:
        """Whether a wait ends when the runs are active, rather than when they have ended."""
        return bool(self.task.wait_for == "active")

    @property
    def joined_job_ids(self) -> Collection[str]:
        """Ids of the jobs whose runs were started by other callers, and are never stopped."""
        return {job_id for job_id, count in self.waiter.watched.items() if self.started.get(job_id) != count}

    @property
    def owned_runs(self) -> Mapping[str, int]:
        """The runs that the task started and that are not known to have ended: run count by job id."""
        return self.started

    @property
    def fail_on_red_after(self) -> float | None:
        """Maximum seconds for which a run may be ``RED``; None sets no limit."""
        limit: float | None = self.task.rendered.fail_on_red_after
        return limit

    @property
    def force_stop_after(self) -> float | None:
        """Seconds after which stops are forced; None leaves that to Control Hub."""
        after: float | None = None
        try:
            after = self.task.rendered.force_stop_after
        except ValueError as error:
            # Only a task that fails before its parameters are checked gets here. Its runs must be stopped nevertheless.
            self.log.warning("Stopping without force: %s", error)
        return after

    def emit_stats(self, context: Context, group: tracking.RunGroup) -> None:
        """Emit the metrics of the runs that this task owns; those of joined runs are those of other tasks."""
        try:
            self._emit_stats(context, group)
        except Exception as error:  # noqa: BLE001 - the backend is configurable, and must not fail the task
            self.log.warning("Could not emit the metrics of the runs: %s", error)

    def _emit_stats(self, context: Context, group: tracking.RunGroup) -> None:
        from airflow.providers.common.compat.sdk import Stats

        joined = self.joined_job_ids
        for report in group.reports.values():
            if report.outcome is None or report.job_id in joined:
                continue
            tags = {**stats_tags(context["ti"]), "operator": type(self.task).__name__, "outcome": report.outcome.value}
            if report.run.duration is not None:
                Stats.timing("streamsets.run.duration", timedelta(seconds=report.run.duration), tags=tags)
            counts = report.metrics
            for name, count in (
                ("in", counts and counts.input_count),
                ("out", counts and counts.output_count),
                ("error", counts and counts.error_count),
            ):
                if count:
                    Stats.incr(f"streamsets.run.records_{name}", count, tags=tags)

    def state(self, context: Context) -> TaskState:
        """Return the state saved by this and earlier tries."""
        if self._state is None:
            self._state = TaskState(context, survives_kill=not self.stop_on_kill)
        return self._state

    def has_left_runs_active(self, context: Context) -> bool:
        """
        Return whether an earlier try succeeded because its runs were active, and left them running.

        The next try then neither starts nor waits for anything, unless the task was cleared.
        """
        state = self.state(context)
        return bool(state.values.get("left_running")) and state.abandon_reason is None

    def left_running_values(self, context: Context) -> dict[str, Any]:
        """Return the values to preserve when a later try replaces the state of runs that are left running."""
        return {"left_running": True} if self.has_left_runs_active(context) else {}

    def close_task_state(self, context: Context) -> None:
        """Complete the saved state before the result is returned, including whether active runs are left running."""
        state = self.state(context)
        if self.until_active and state.is_retained and state.values:
            state.add(left_running=True)
        state.complete()

    def active_runs(self) -> Mapping[str, int]:
        """Return the runs of this task whose wait ended because they were active: run count by job id."""
        if self.waiter.group is None:
            return {}
        runs = self.waiter.group.still_active.items() - {(i, r.run.run_count) for i, r in self.waiter.group.red.items()}
        return {job_id: count for job_id, count in runs if job_id in self.started}

    def stopped_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that this task stopped, now or before a deferral or retry."""
        stopped: Mapping[str, int] = self.state(context).values.get("stopped") or {}
        return stopped

    @property
    def stopping(self) -> Mapping[str, int]:
        """Runs whose stops this execution of the task has requested, without waiting for their ends."""
        return {**self._stop_requested, **self._stopped}

    def record_started(
        self, context: Context, runs: Mapping[str, int], observed: Mapping[str, JobRun | None] | None = None
    ) -> None:
        """
        Save runs that this task started, and owns from now on.

        :param runs: run count by job id
        :param observed: the same runs as fetched, where available
        """
        ended = {job_id for job_id, run in (observed or {}).items() if run is not None and run.has_ended}
        added = {i: count for i, count in runs.items() if (i, count) not in self._announced and i not in ended}
        self._announced.update(added.items())
        self.started, self.previous = dict(runs), {}
        identities = {
            job_id: json for job_id, run in (observed or {}).items() if (json := RunIdentity.from_run(run).to_json())
        }
        state = self.state(context)
        state.add(started=self.started, identities={**(state.values.get("identities") or {}), **identities})
        openlineage.emit_starts(self.task, context, added)

    def disown(self) -> None:
        """Forget the runs, because they have ended or are stopped by other means; the saved state remains."""
        self.started, self.previous = {}, {}

    @contextlib.contextmanager
    def owning_runs(self, context: Context) -> Iterator[None]:
        """
        Own the runs of the task while the block executes, and save at the end that the task has ended by itself.

        If the block fails, :meth:`handle_failure` decides what happens to the runs.
        """
        try:
            state = self.state(context)
            if not self.started and isinstance(started := state.values.get("started"), Mapping):
                self.previous = {str(job_id): int(run_count) for job_id, run_count in started.items()}
            if self.task._was_accepted is None and state.values:
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
            self.handle_failure(context, error)
            self._record_end(context)
            raise
        self._record_end(context)

    def _record_end(self, context: Context) -> None:
        if self.task.was_killed:
            return
        try:
            self.state(context).record_end()
        except Exception as error:  # noqa: BLE001 - an error of the state store must not change the outcome
            self.log.warning("Could not save that the task has ended: %s", error)

    def restore(self) -> None:
        """Restore the runs that the task owned before it was deferred."""
        self.started, self.previous = self.previous, {}

    def handle_failure(self, context: Context, error: BaseException) -> None:
        """
        Stop or leave the runs of a task that fails, and save what the next try needs; errors of this are only logged.

        - Killed: stop the runs, unless :meth:`on_kill` has. With ``stop_on_kill=False``, leave them.
        - The run failed, was ``RED`` for too long, or its metrics are not as expected: stop runs that are still active.
        - Final metrics are missing: nothing, the run has ended.
        - ``execution_timeout``: only save it. Airflow calls :meth:`on_kill` next.
        - Time-out of the wait: nothing, :meth:`on_timeout` was called before.
        - Any other error: :meth:`handle_error`, as `on_error` says.
        """
        try:
            state = self.state(context)
            if self.task.was_killed:
                if self.stop_on_kill:
                    self._stop_quickly(self.runs_to_stop_on_kill())
                if self._has_abandoned_runs:
                    self._record_kill(state)
            elif isinstance(error, (ControlHubExpectationError, ControlHubRunFailedError)):
                red = {job_id: count for job_id, count in unfinished_runs(error).items() if job_id in self.started}
                self._handle_active_runs_on_failure(context, error)
                if red:
                    self._handle_red_runs_on_failure(context, red, error)
                else:
                    # The other runs have ended or are being stopped: the next try starts new ones.
                    self._clear_failed_runs(context, error)
            elif isinstance(error, ControlHubMetricsUnavailableError):
                # The run succeeded: there is nothing to stop, and the next try evaluates its metrics again.
                return
            elif isinstance(error, AirflowTaskTimeout):
                # Airflow calls `on_kill` next, which stops the runs.
                if self.task.on_timeout == "stop" and self.started:
                    self._record_stopped(self.runs_to_stop_on_kill())
                    state.abandon("the previous try timed out")
            elif isinstance(error, ControlHubRunTimeoutError):
                # Already handled where the time-out was raised.
                return
            else:
                self.handle_error(context, error)
        except Exception as cleanup_error:  # noqa: BLE001 - the task must fail with the first error
            self.log.error("Could not clean up the runs this task started: %s", cleanup_error)

    def _record_kill(self, state: TaskState) -> None:
        stopped = {**(state.values.get("stopped") or {}), **self._stop_requested}
        try:
            state.abandon("the previous try was killed", stopped=stopped)
        except Exception as error:  # noqa: BLE001 - expected after a clear
            # Airflow accepts no state from a task that was cleared or marked. The events of the runs show the stops.
            self.log.info("Could not save that the runs were stopped; nothing needs to be done: %s", error)

    def _handle_red_runs_on_failure(self, context: Context, runs: Mapping[str, int], error: BaseException) -> None:
        """Stop runs that were ``RED`` for too long, even before a retry, which could not start others beside them."""
        if self.task.on_error == "leave":
            self.log.warning(
                "%s: left running because of on_error='leave'; a retry of this task resumes the wait.",
                self.waiter.describe(runs),
            )
        else:
            self._stop_red_runs(context, runs)
        state = self.state(context)
        if not state.is_retained and not will_retry(context, error):
            state.clear()

    def _handle_active_runs_on_failure(self, context: Context, error: BaseException) -> None:
        """Stop active runs because other runs failed, unless the next try keeps them."""
        runs, will_be_retried = self.active_runs(), will_retry(context, error)
        if not runs or (will_be_retried and not self.restart_failed_runs):
            return
        if self.task.on_error == "leave" and not will_be_retried:
            self.log.warning(_LEFT_RUNNING, self.waiter.describe(runs), "on_error")
        else:
            self.abandon_runs(context, runs, "other runs failed")

    def _stop_red_runs(self, context: Context, runs: Mapping[str, int]) -> None:
        """Stop runs that were ``RED`` for too long; the next try keeps the others, and starts new ones for these."""
        if self.has_one_run:
            self.abandon_runs(context, runs, _RED_TOO_LONG, red=dict(runs))
        else:
            self.state(context).add(red=dict(runs))
            self.stop_runs(runs, _RED_TOO_LONG)

    def acknowledge_red_runs(self, context: Context) -> None:
        """
        Acknowledge the errors of runs that an earlier try stopped because they were ``RED`` for too long.

        A lost engine does not confirm a stop, so such a run ends in ``INACTIVE_ERROR``. The earlier try has already
        reported the cause.
        """
        red = self.state(context).values.get("red")
        if isinstance(red, Mapping):
            self.client.runs.acknowledge_forced(red)

    def _clear_failed_runs(self, context: Context, error: ControlHubError) -> None:
        state, will_be_retried = self.state(context), will_retry(context, error)
        if not will_be_retried and not state.is_retained:
            state.clear()
        elif self.restart_failed_runs and state.abandon_reason is None:
            blocking = blocking_run(error)
            if will_be_retried and blocking is not None:
                write_failed(state, *blocking)
            else:
                state.clear()

    def handle_error(self, context: Context, error: BaseException) -> None:
        """Stop or leave the runs after an error that is not about them, as `on_error` says."""
        will_be_retried = will_retry(context, error)
        if isinstance(error, ControlHubRunLostError):
            # The run no longer exists; a run that now has its number is not that of this task.
            return
        # A retry handles unconfirmed starts, and runs that this try has not resumed yet.
        runs = self.started if will_be_retried else self.runs_to_stop_on_kill() or self.find_recorded_runs(context)
        runs = {job_id: count for job_id, count in runs.items() if self._stopped.get(job_id) != count}
        if not runs:
            return
        if is_deferral_timeout(error):
            self.handle_timeout(context, runs)
        elif self.task.on_error == "leave":
            self.log.warning(_LEFT_RUNNING, self.waiter.describe(runs), "on_error")
        elif will_be_retried:
            self.log.warning("%s: left running for the next try of this task.", self.waiter.describe(runs))
        else:
            self.abandon_runs(context, runs, "the task failed with another error")

    def _without_joined(self, runs: Mapping[str, int]) -> dict[str, int]:
        # Once for all runs, of which there may be thousands.
        joined = self.joined_job_ids
        return {job_id: count for job_id, count in runs.items() if job_id not in joined}

    def on_red_runs(self, runs: Mapping[str, int]) -> bool:
        """Stop or leave those of the runs that this task started, as `on_error` says."""
        runs = self._without_joined(runs)
        if not runs:
            return True
        if self.task.on_error == "leave":
            self.log.warning(
                "%s: %s; left running because of on_error='leave'.", self.waiter.describe(runs), _RED_TOO_LONG
            )
            return True
        return self.stop_runs(runs, _RED_TOO_LONG)

    def on_timeout(self, context: Context, runs: Mapping[str, int]) -> None:
        """Stop or leave the runs that this task started, as `on_timeout` says."""
        own = {**self._without_joined(runs), **self.active_runs()}
        if own:
            self.handle_timeout(context, own)

    def on_condition_violated(self, context: Context, runs: Mapping[str, int]) -> None:
        """Stop those of the runs that this task started."""
        own = self._without_joined(runs)
        if own:
            self.abandon_runs(context, own, "its metrics are not as expected")

    def handle_timeout(self, context: Context, runs: Mapping[str, int]) -> None:
        """
        Stop or leave runs after a time-out, as `on_timeout` says; a later try resumes runs that are left.

        :param runs: run count by job id
        """
        if self.task.on_timeout == "stop":
            self.abandon_runs(context, runs, self.time.expiry)
        else:
            self.log.warning(_LEFT_RUNNING, self.waiter.describe(runs), "on_timeout")

    def abandon_runs(self, context: Context, runs: Mapping[str, int], reason: str, **values: Any) -> None:
        """
        Stop runs, so that no later try resumes them.

        :param runs: run count by job id
        :param reason: a clause for the log
        :param values: values to save for the next try
        """
        try:
            self.state(context).abandon(f"the previous try stopped its runs: {reason}", **values)
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
        pending = {i: count for i, count in runs.items() if self._stop_requested.get(i) != count}
        if pending:
            self.log.warning("%s: stopping (%s).", self.waiter.describe(pending), reason)
        if len(pending) < len(runs):
            requested = {i: count for i, count in runs.items() if i not in pending}
            self.log.info("%s: stopped by the triggerer (%s).", self.waiter.describe(requested), reason)
        self._record_stopped(runs)
        after = self.force_stop_after
        try:
            if after is not None:
                deadline = Deadline(after + _FORCED_STOP_MAX_WAIT)
                tracking.stop_runs(
                    self.client,
                    runs,
                    deadline,
                    poll_interval=_STOP_INTERVAL,
                    force_stop_after=after,
                    requested=runs.keys() - pending.keys(),
                )
            elif pending:
                tracking.request_stops(self.client, pending, in_bulk=not self.has_one_run, max_wait=STOP_MAX_WAIT)
        except ControlHubError as error:
            self._log_not_stopped(runs, error)
            return not isinstance(error, ControlHubUnavailableError)
        self._stopped.update(runs)
        return True

    def _record_stopped(self, runs: Mapping[str, int]) -> None:
        """Save which runs this task stopped, for the executions after a deferral or retry."""
        if self._state is None:
            return
        try:
            self._state.add(stopped={**(self._state.values.get("stopped") or {}), **runs})
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
            Deadline(min(_RESTART_MAX_WAIT, self.time.left)),
            poll_interval=_STOP_INTERVAL,
            force_stop_after=self.force_stop_after,
        )
        self.log.info("%s: stopped by this task.", self.waiter.describe(runs))

    def _log_not_stopped(self, runs: Mapping[str, int], error: Exception) -> None:
        self.log.error("%s: could not be stopped and may still be active: %s", self.waiter.describe(runs), error)

    def kill_client(self) -> ControlHubClient:
        """Return a client with short time-outs for a killed task."""
        return self.client.with_options(timeout=_KILL_TIMEOUT, max_attempts=1)

    def runs_being_started(self, intents: Mapping[str, StartIntent]) -> dict[str, int]:
        """
        Return the runs of start requests without a response, as soon as one is visible: run count by job id.

        :param intents: the requested starts, by job id
        """
        client = self.kill_client()
        for _ in range(_KILL_MAX_POLLS if intents else 0):
            try:
                statuses = client.runs.statuses(intents)
            except ControlHubError as error:
                self.log.warning("%s", error)
                break
            runs = {
                job_id: run.run_count
                for job_id, run in statuses.items()
                if run is not None and not run.has_ended and intents[job_id].matches(run)
            }
            if runs:
                return runs
            time.sleep(_KILL_POLL_DELAY)
        return {}

    def runs_to_stop_on_kill(self) -> Mapping[str, int]:
        """Return the runs that this task started or is starting, and that are not known to have ended."""
        group = self.waiter.group
        known = self.started
        if group is not None:
            runs = {**group.unfinished, **group.still_active}
            known = {job_id: count for job_id, count in runs.items() if job_id in self.started}
        # Before it is decided which runs of an earlier try are resumed, a kill stops all of them.
        return self.with_runs_being_started(known) or (self.previous if self.task.was_killed else {})

    def on_kill(self) -> None:
        """Stop exactly the runs that this task started, within the 5 seconds that Airflow allows."""
        # Airflow also calls this after ``execution_timeout``.
        is_timeout = isinstance(sys.exc_info()[1], AirflowTaskTimeout)
        self.task.was_killed = not is_timeout
        # Without a client, the connection would have to be fetched from Airflow, which the interrupted code may be
        # doing right now. The task then stops its runs itself when it notices the kill.
        if "client" not in vars(self.task) or not (is_timeout or self.stop_on_kill):
            return
        runs = self.runs_to_stop_on_kill()
        if not is_timeout:
            self._stop_quickly(runs)
        elif self.task.on_timeout == "stop":
            self._stop_quickly(runs, self.time.execution_expiry)
        elif runs:
            self.log.warning(_LEFT_RUNNING, self.waiter.describe(runs), "on_timeout")

    def _stop_quickly(self, runs: Mapping[str, int], reason: str = "the task was killed") -> None:
        """Request the stops of runs within a few seconds, without waiting for them."""
        known = self._stop_requested.items() | self._stopped.items()
        runs = {job_id: count for job_id, count in runs.items() if (job_id, count) not in known}
        if not runs:
            return
        self._has_abandoned_runs = True
        self._stop_requested.update(runs)
        client, force = self.kill_client(), self.force_stop_after == 0
        try:
            stopped = tracking.request_stops(
                client, runs, in_bulk=not self.has_one_run, max_wait=_KILL_MAX_WAIT, force=force
            )
        except Exception as error:  # noqa: BLE001 - it would surface anywhere in the code that the kill interrupted
            self._log_not_stopped(runs, error)
            # Allows one more attempt before the process is terminated.
            for job_id in runs:
                self._stop_requested.pop(job_id, None)
        else:
            self.log.warning("%s: stopping (%s).", self.waiter.describe(runs), reason)
            if force:
                # A run that failed by itself keeps its error.
                forced = {job_id: runs[job_id] for job_id in stopped}
                client.runs.acknowledge_forced(forced, max_wait=_KILL_ACKNOWLEDGE_MAX_WAIT)

    def raise_if_killed(self, when: str) -> None:
        """Stop the runs and raise an error if the task was killed, see :meth:`RunPolicy.raise_if_killed`."""
        if self.task.was_killed and self.stop_on_kill:
            self._stop_quickly(self.runs_to_stop_on_kill())
        super().raise_if_killed(when)


class RunStop(RunPolicy):
    """
    What a task does with runs that it stops: force the stops that do not end, and acknowledge the errors of that.

    :param task: the operator
    """

    task: ControlHubRunStopOperator

    def record_requests(self, runs: Mapping[str, int], *, wait: bool) -> None:
        """
        Remember runs that are being stopped, to acknowledge the errors that forced stops cause.

        :param runs: run count by job id
        :param wait: whether the task waits for the end of the runs; if not, acknowledge the errors now
        """
        if self.task.rendered.force and wait:
            self.forced.update(runs)
        elif self.task.rendered.force:
            self.client.runs.acknowledge_forced(runs, max_wait=_UNWAITED_STOP_MAX_WAIT)

    def stopped_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that this task stopped, which are all that it waits for."""
        return self.waiter.watched

    def on_timeout(self, context: Context, runs: Mapping[str, int]) -> None:
        """Acknowledge errors caused by forced stops."""
        self.acknowledge_forced()

    def acknowledge_forced(self) -> None:
        """Acknowledge errors caused by forced stops."""
        self.client.runs.acknowledge_forced(self.forced)

    @property
    def force_unfinished_after(self) -> float | None:
        """Seconds after which stops are forced."""
        after: float | None = self.task.rendered.force_stop_after
        return after

    def force_unfinished(self, runs: Mapping[str, int]) -> bool:
        """Force the stops of runs that have not ended; return False to retry later if Control Hub is unavailable."""
        try:
            forced = self.client.runs.stop_many(runs, max_wait=STOP_MAX_WAIT, force=True)
        except ControlHubError as error:
            self.log.error("%s: could not force the stop: %s", self.waiter.describe(runs), error)
            return not isinstance(error, ControlHubUnavailableError)
        self.forced.update({job_id: runs[job_id] for job_id in forced})
        self.log.warning("Forcing the stop of %d runs that have not ended after force_stop_after.", len(forced))
        return True
