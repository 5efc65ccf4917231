"""Waiting for many runs, on the worker or on the triggerer."""

from __future__ import annotations

import hashlib
import itertools
import math
import time
import uuid
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_streamsets import params, triggers
from airflow_provider_streamsets.compat import MAX_TRIGGER_SIZE, trigger_size
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubRunFailedError,
    ControlHubRunTimeoutError,
)
from airflow_provider_streamsets.control_hub.models import Outcome, RunIdentity, RunRef
from airflow_provider_streamsets.operators._run_wait import RunWaitMixin

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job

# Seconds. A resumed task only fetches reports of ended runs: it polls often, and has this long even at the deadline.
_RESUMED_INTERVAL = 5.0
_RESUMED_MAX_WAIT = 60.0
# Seconds to fetch the names of the jobs when the task is resumed.
_NAMES_MAX_WAIT = 60.0
# Seconds to retry while Control Hub rejects the stop of a job that is being started.
STOP_MAX_WAIT = 60.0
_MAX_LOGGED_FAILURES = 10
_MAX_LISTED_FAILURES = 20
# The trigger keeps complete reports of this many RED runs; for others, only that they were RED.
_MAX_RED_REPORTS = 5
# Maximum size of such a report in compressed bytes.
_RED_REPORT_SIZE = 1400
# Maximum time between the starts of runs that are waited for together.
_MAX_START_SPREAD_MS = 86_400_000


class RunsWaitMixin(RunWaitMixin):
    """
    Base of the operators that wait for many runs, with one status request per poll for all of them.

    A wait follows the same rules on worker and triggerer, and ends in :meth:`finish_all`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._group: tracking.RunGroup | None = None
        self._watched: dict[str, int] = {}
        self._forced: dict[str, int] = {}
        self._red: set[str] = set()

    @property
    def joined_job_ids(self) -> Collection[str]:
        """Ids of the jobs whose runs were started by other callers, and are never stopped."""
        return ()

    @property
    def stops_runs_on_kill(self) -> bool:
        """Whether the runs are stopped when the task is killed."""
        return False

    def finish_all(self, context: Context, group: tracking.RunGroup) -> Any:
        """Return the task's result from the reports of the runs, or raise an error if the task fails."""
        raise NotImplementedError

    def stopped_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that this task stopped: run count by job id."""
        return {}

    def push_results(self, context: Context, results: list[dict[str, Any]]) -> None:
        """Push the results of the runs to XCom before the task fails."""
        if self.do_xcom_push:
            context["ti"].xcom_push(key="results", value=results)

    def on_first_failure(self, group: tracking.RunGroup) -> bool:
        """
        Handle the first failure while other runs have not ended.

        :returns: False to be called again after the next poll
        """
        return True

    def on_red_runs(self, runs: dict[str, int]) -> bool:
        """
        Handle runs that were ``RED`` for longer than allowed, while the wait for others continues.

        :param runs: run count by job id
        :returns: False to be called again after the next poll
        """
        return True

    def _handle_red_runs(self, group: tracking.RunGroup) -> None:
        runs = {job_id: report.run.run_count for job_id, report in group.red.items() if job_id not in self._red}
        if runs and self.on_red_runs(runs):
            self._red.update(runs)

    @property
    def force_after(self) -> float | None:
        """Seconds from the start of the task after which :meth:`force_unfinished` is called; None never calls it."""
        return None

    def force_unfinished(self, unfinished: dict[str, int]) -> bool:
        """
        Handle runs that have not ended after :attr:`force_after`.

        :param unfinished: run count by job id
        :returns: False to be called again after the next poll
        """
        return True

    def results_or_failure(
        self, context: Context, group: tracking.RunGroup, *, accept_stopped: bool, hint: str = ""
    ) -> list[dict[str, Any]]:
        """
        Return the results of all runs, or raise an error that names those that did not succeed.

        If a run did not succeed, push the results of all runs to XCom, see :meth:`push_results`.

        :param group: the runs, whose wait has ended
        :param accept_stopped: count stopped runs as successes
        :param hint: what the user can do about a failure, as a sentence
        :raises ControlHubRunFailedError: if runs did not succeed
        :raises ControlHubError: if there is only one run, and its outcome cannot be determined
        """
        if len(group.runs) == 1:
            for error in group.unresolved.values():
                raise error
        failed = [report for report in group.reports.values() if report.outcome is Outcome.FAILED]
        stopped = [report for report in group.reports.values() if report.outcome is Outcome.STOPPED]
        for report in failed[:_MAX_LOGGED_FAILURES]:
            self.log.error(report.details())
        reasons = [report.summary for report in failed]
        reasons += [str(error).removesuffix(".") for error in group.unresolved.values()]
        if stopped and not accept_stopped:
            if reasons:
                # They may have been stopped because of a failure, so only the failures are listed.
                hint = f"Other stopped runs: {len(stopped)}."
            else:
                reasons, failed = [report.summary for report in stopped], stopped
                hint = "Set accept_stopped=True to accept stopped runs."
        if not reasons:
            return list(group.results())
        results = list(group.results())
        self.push_results(context, results)
        if len(group.runs) == 1:
            raise failed[0].failure(hint)
        failures = [report.failure() for report in failed]
        raise ControlHubRunFailedError(
            f"{len(reasons)} of {len(group.runs)} runs did not succeed: "
            f"{join_truncated(reasons, '; ', max_items=_MAX_LISTED_FAILURES)}.{hint and ' '}{hint}",
            outcome=next((failure.outcome for failure in failures), None),
            error_codes=dict.fromkeys(code for failure in failures for code in failure.error_codes),
            stage=next((failure.stage for failure in failures if failure.stage), None),
            result=results,
            failures=failures,
        )

    def on_runs_timeout(self, context: Context, unfinished: dict[str, int]) -> None:
        """
        Handle a timed-out wait before the task fails.

        :param unfinished: the runs that have not ended: run count by job id
        """

    def wait_for_runs(
        self, context: Context, runs: Sequence[RunRef], jobs: Sequence[Job], *, until_failure: bool = False
    ) -> Any:
        """
        Wait for runs, on the worker or the triggerer, and return the task's result.

        :param runs: the runs
        :param jobs: their jobs
        :param until_failure: call :meth:`on_first_failure` when the first run fails
        """
        self._watched = {run.job_id: run.run_count for run in runs}
        metrics_timeout = self._metrics_timeout_for(*jobs)
        if self.deferrable and runs:
            limits = self._limits()
            self._defer_to_trigger(
                runs,
                timeout=min(limits, default=None),
                deadline=time.time() + self._remaining(min(limits)) if limits else None,
                metrics_timeout=metrics_timeout,
                until_failure=until_failure,
                force_at=None if self.force_after is None else time.time() + self._remaining(self.force_after),
            )
        return self._wait_for_all(
            context,
            runs,
            deadline=self.wait_deadline,
            poll_interval=self.rendered.poll_interval,
            metrics_timeout=metrics_timeout,
            until_failure=until_failure,
            force_after=self.force_after,
        )

    def warn_of_large_trigger(self, job_ids: Sequence[str], *, joins: bool = False) -> None:
        """
        Warn before the start if MySQL could not store the trigger for this many runs.

        A task cannot know which database Airflow uses. Values that are not known yet, such as the ids of the runs, are
        estimated at their maximum length.

        :param job_ids: ids of the jobs, or strings of the same length
        :param joins: whether runs may be joined
        """
        if not self.deferrable:
            return
        size, constant = self._max_trigger_size(job_ids, joins), self._max_trigger_size((), joins)
        if size > MAX_TRIGGER_SIZE:
            self.log.warning(
                "The trigger for %d runs may need %d bytes. If Airflow's database is MySQL, which stores at most %d, "
                "the task will fail after the start: set deferrable=False, or split the jobs among tasks of at most "
                "%d jobs each. With other databases, nothing needs to be done.",
                len(job_ids),
                size,
                MAX_TRIGGER_SIZE,
                (MAX_TRIGGER_SIZE - constant) * len(job_ids) // (size - constant),
            )

    def _max_trigger_size(self, job_ids: Sequence[str], joins: bool) -> int:
        """Return the maximum size in bytes of the trigger of this or a later deferral."""
        now, is_forced = round(time.time(), 3), not (self.force_after is None and self.force_stop_seconds() is None)
        may_be_red = self.fail_on_red_seconds() is not None
        digests = {job_id: hashlib.sha256(job_id.encode()).hexdigest() for job_id in job_ids}
        # Only some of the runs: identical entries for all runs would compress too well.
        subset = [job_id for job_id, digest in digests.items() if int(digest, 16) % 2]
        times = {job_id: now + int(digest, 16) % _MAX_START_SPREAD_MS / 1000 for job_id, digest in digests.items()}
        runs = [
            RunRef(
                job_id, int(digest, 16) % 10_000, identity=RunIdentity(placeholder_id(job_id, digest), times[job_id])
            )
            for job_id, digest in digests.items()
        ]
        trigger = self._trigger(
            runs,
            timeout=now,
            deadline=now,
            metrics_timeout=now,
            force_at=now,
            active=subset if self.waits_until_active else (),
            red_since=times if may_be_red else None,
            red={i: hashlib.shake_256(i.encode()).hexdigest(_RED_REPORT_SIZE) for i in job_ids[:_MAX_RED_REPORTS]}
            if may_be_red
            else None,
            forced=subset if is_forced else (),
            joined=subset if joins else (),
        )
        return trigger_size(trigger.serialize()[1])

    def _wait_for_all(
        self,
        context: Context,
        runs: Sequence[RunRef],
        *,
        deadline: Deadline,
        poll_interval: float,
        metrics_timeout: float,
        until_failure: bool = False,
        force_after: float | None = None,
        is_execution_timeout: bool = False,
        resumed: triggers.RunsWaitEvent | None = None,
    ) -> Any:
        group = self._group = tracking.RunGroup(
            self.polling_client(),
            runs,
            metrics_timeout=metrics_timeout,
            log=self.log,
            until_active=self.waits_until_active,
            fail_on_red_after=self.fail_on_red_seconds(),
            **(resumed.run_group_state(time.time()) if resumed else {}),
        )
        group.stopped.update(dict(self.stopped_runs(context).items() & self._watched.items()))
        is_failure_handled, force_delay = not until_failure, math.inf if force_after is None else force_after

        def act(group: tracking.RunGroup) -> bool:
            nonlocal is_failure_handled, force_delay
            self._handle_red_runs(group)
            if not is_failure_handled and group.failures and group.unfinished:
                is_failure_handled = self.on_first_failure(group)
            if not self._remaining(force_delay) and group.unfinished and self.force_unfinished(group.unfinished):
                force_delay = math.inf
            return False

        try:
            tracking.wait_for_runs(
                group,
                deadline,
                poll_interval=poll_interval,
                stop_when=act,
                max_delay=lambda: self._remaining(force_delay) or math.inf,
            )
        except ControlHubRunTimeoutError as error:
            if group.unfinished:
                self.on_runs_timeout(context, group.unfinished)
            if is_execution_timeout:
                raise AirflowTaskTimeout(str(error)) from error
            raise
        # The outcome of a run stopped by the kill must not be reported.
        self.raise_if_killed("while it waited")
        return self.finish_all(context, group)

    def _defer_to_trigger(
        self,
        runs: Sequence[RunRef],
        *,
        timeout: float | None,
        deadline: float | None,
        metrics_timeout: float,
        until_failure: bool = False,
        force_at: float | None = None,
        active: Sequence[str] = (),
        group: tracking.RunGroup | None = None,
        before_start: bool = False,
    ) -> NoReturn:
        self.raise_if_killed("before it was deferred")
        red = group.red if group else {}
        # Runs that could not be handled yet: the trigger ends its wait for them again.
        unhandled_red = {job_id: report.red_for or 0.0 for job_id, report in red.items() if job_id not in self._red}
        red_for = {**group.red_for, **unhandled_red} if group else {}
        self.defer(
            trigger=self._trigger(
                runs,
                timeout=timeout,
                deadline=deadline,
                metrics_timeout=metrics_timeout,
                until_failure=until_failure,
                force_at=force_at,
                active=active,
                red_since={job_id: time.time() - seconds for job_id, seconds in red_for.items()} or None,
                red=_compact_reports({i: report for i, report in red.items() if i not in unhandled_red}) or None,
                forced=list(self._forced),
                joined=[run.job_id for run in runs if run.job_id in self.joined_job_ids],
                before_start=before_start,
            ),
            method_name="execute_after_other_runs" if before_start else "execute_complete",
            timeout=None
            if deadline is None
            else params.framework_timeout(max(deadline - time.time(), 0.0), self.rendered.poll_interval),
        )

    def _trigger(
        self,
        runs: Sequence[RunRef],
        *,
        active: Sequence[str],
        forced: Sequence[str],
        joined: Sequence[str],
        before_start: bool = False,
        **arguments: Any,
    ) -> triggers.ControlHubJobRunsTrigger:
        return triggers.ControlHubJobRunsTrigger(
            control_hub_conn_id=self.control_hub_conn_id,
            runs=[[run.job_id, run.run_count] for run in runs],
            poll_interval=self.rendered.poll_interval,
            identities={run.job_id: json for run in runs if (json := run.identity.to_json())},
            forced=list(forced),
            joined=list(joined),
            stop_on_kill=self.stops_runs_on_kill and not before_start,
            wait_for="active" if self.waits_until_active and not before_start else "completion",
            fail_on_red_after=None if before_start else self.fail_on_red_seconds(),
            active=list(active) or None,
            force_stop_after=self.force_stop_seconds(),
            **arguments,
        )

    def defer_before_start(self, runs: Sequence[RunRef]) -> NoReturn:
        """
        Defer until runs of other callers have ended, and resume in ``execute_after_other_runs``.

        :param runs: the runs of other callers
        """
        limits = self._limits()
        self._defer_to_trigger(
            runs,
            timeout=min(limits, default=None),
            deadline=time.time() + self._remaining(min(limits)) if limits else None,
            metrics_timeout=0.0,
            before_start=True,
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Resume after the trigger has fired: finish the task, or handle the event and defer again."""
        self.prepare()
        wait = triggers.RunsWaitEvent.from_payload(event)
        self._watched = dict(wait.runs)
        wait.raise_error()
        names = self._fetch_job_names(list(self._watched), min(max(wait.time_left(), 0.0), _NAMES_MAX_WAIT))
        self._forced = {job_id: self._watched[job_id] for job_id in wait.forced if job_id in self._watched}
        runs = wait.run_refs(names)
        self._red = set(wait.red)
        if wait.needs_action:
            self._act_and_defer_again(wait, runs)
        time_left = None if wait.deadline is None else max(wait.time_left(), _RESUMED_MAX_WAIT)
        if wait.reason is triggers.RunsWaitReason.TIMEOUT:
            time_left = 0.0
        return self._wait_for_all(
            context,
            runs,
            deadline=Deadline(time_left, total=wait.timeout, sleep=self.sleep),
            poll_interval=_RESUMED_INTERVAL,
            # The trigger has already waited for the metrics.
            metrics_timeout=0.0,
            is_execution_timeout=self._is_execution_timeout(),
            resumed=wait,
        )

    def _act_and_defer_again(self, wait: triggers.RunsWaitEvent, runs: Sequence[RunRef]) -> NoReturn:
        group = tracking.RunGroup(
            self.polling_client(wait.time_left),
            runs,
            metrics_timeout=0.0,
            log=self.log,
            until_active=self.waits_until_active,
            fail_on_red_after=self.fail_on_red_seconds(),
            **wait.run_group_state(time.time()),
        )
        group.poll(skip_metrics_wait=True)
        self._handle_red_runs(group)
        # Failure and force are handled once each; the other one may still be due.
        until_failure, force_at = wait.until_failure, wait.force_at
        if group.poll_failed:
            # The runs cannot be handled now. The trigger polls again, with the same deadline.
            until_failure = until_failure or wait.reason is triggers.RunsWaitReason.FIRST_FAILURE
            if wait.reason is triggers.RunsWaitReason.FORCE:
                force_at = time.time() + self.rendered.poll_interval
        elif group.unfinished:
            if wait.reason is triggers.RunsWaitReason.FIRST_FAILURE or (until_failure and group.failures):
                until_failure = not self.on_first_failure(group)
            elif wait.reason is triggers.RunsWaitReason.FORCE and not self.force_unfinished(group.unfinished):
                force_at = time.time() + self.rendered.poll_interval
        self._defer_to_trigger(
            runs,
            timeout=wait.timeout,
            deadline=wait.deadline,
            metrics_timeout=wait.metrics_timeout,
            until_failure=until_failure,
            force_at=force_at,
            active=sorted({*wait.active, *(report.job_id for report in group.reports.values() if not report.outcome)}),
            group=group,
        )

    def _fetch_job_names(self, job_ids: list[str], max_wait: float) -> dict[str, str]:
        deadline = Deadline(max_wait)
        try:
            # Unlike a poll, this is not repeated, so the client retries it.
            with self.client.within(lambda: deadline.remaining):
                return {job_id: job.name for job_id, job in self.client.jobs.get_many(job_ids).items()}
        except ControlHubError as error:
            self.log.warning("Could not fetch the names of the jobs; continuing with their ids: %s", error)
            return {}


def placeholder_id(example: str, digest: str) -> str:
    """
    Return an id in the form of Control Hub, with the organization of another id.

    :param example: the other id
    :param digest: at least 32 random hexadecimal digits
    """
    return f"{uuid.UUID(digest[:32])}:{example.partition(':')[2]}"


def _compact_reports(red: Mapping[str, tracking.RunReport]) -> dict[str, dict[str, Any] | float | None]:
    """Return the reports of RED runs in the short form that fits into a trigger's row."""
    kept = dict(itertools.islice(red.items(), _MAX_RED_REPORTS))
    return {
        job_id: report.truncated().to_dict() if job_id in kept else report.red_for for job_id, report in red.items()
    }
