"""The trigger that waits for many runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_streamsets.triggers.base import ControlHubTrigger, Deadline

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubError, JobRun
    from airflow_provider_streamsets.triggers.events import RunsWaitEvent, RunsWaitReason
    from airflow_provider_streamsets.triggers.feed import StatusFeed, Subscription

_KILL_PATIENCE = 60.0
# Looks in a row that must say that a job is gone before it is believed.
_BELIEVE_AFTER = 3
_MOST_NAMED = 10


class ControlHubJobRunsTrigger(ControlHubTrigger):
    """
    Wait on the triggerer until many runs have ended.

    It looks at statuses only, with the requests that all triggers of the connection share; outcomes and metrics are
    read by the task that it resumes. Yields one event, the payload of a
    :class:`~airflow_provider_streamsets.triggers.events.RunsWaitEvent`, whatever happens.

    :param control_hub_conn_id: id of the Airflow connection
    :param runs: job id and run count of each run
    :param poll_interval: seconds between two looks
    :param timeout: seconds that the wait was given, for the message
    :param deadline: when to give up, in epoch seconds; None waits as long as the runs take
    :param metrics_wait: seconds to wait after the end of the last run, for the final metrics
    :param until_failure: end the wait with the first run that fails, while others go on
    :param act_at: end the wait then, in epoch seconds, if there are runs that have not ended; None does not
    :param stop_on_kill: stop the runs when a person kills the deferred task (Airflow 3.3 and later)
    """

    def __init__(
        self,
        control_hub_conn_id: str = "streamsets_default",
        runs: Sequence[Sequence[str | int]] | None = None,
        poll_interval: float = 30.0,
        timeout: float | None = None,
        deadline: float | None = None,
        metrics_wait: float = 0.0,
        until_failure: bool = False,
        act_at: float | None = None,
        stop_on_kill: bool = False,
    ) -> None:
        super().__init__(
            control_hub_conn_id=control_hub_conn_id,
            poll_interval=poll_interval,
            timeout=timeout,
            deadline=deadline,
            stop_on_kill=stop_on_kill,
        )
        self.runs = runs
        self.metrics_wait = metrics_wait
        self.until_failure = until_failure
        self.act_at = act_at

    @property
    def what(self) -> str:
        """The runs, for messages."""
        return f"{len(self.runs or ())} runs"

    @property
    def _run_counts(self) -> dict[str, int]:
        return {str(job_id): int(run_count) for job_id, run_count in self.runs or ()}

    async def wait(self, feed: StatusFeed, deadline: Deadline) -> RunsWaitEvent:
        """Wait until the runs have ended, or there is something to do before."""
        from airflow_provider_streamsets.triggers.events import RunsWaitReason

        run_counts = self._run_counts
        left = set(run_counts)
        missing: dict[str, int] = {}
        failed = False
        async with contextlib.AsyncExitStack() as stack:
            watched = {
                job_id: await stack.enter_async_context(feed.subscription(job_id, self.poll_interval))
                for job_id in run_counts
            }
            while left:
                if self.act_at is not None and time.time() >= self.act_at:
                    return self._event(RunsWaitReason.ACT)
                # All are served by the same look, so that the others' news is there when the first one's has come.
                for job_id in sorted(left):
                    status, is_late = await self._next_status(watched[job_id], deadline)
                    if is_late:
                        break
                    missing[job_id] = missing.get(job_id, 0) + 1 if status is None else 0
                    if missing[job_id] >= _BELIEVE_AFTER or _has_ended(status, run_counts[job_id]):
                        left.discard(job_id)
                        failed = failed or status is None or _has_failed(status, run_counts[job_id])
                if left and failed and self.until_failure:
                    return self._event(RunsWaitReason.FIRST_FAILURE)
                if left and deadline.left == 0:
                    raise self._timed_out(sorted(left))
        if self.metrics_wait:
            await deadline.sleep(self.metrics_wait)
        return self._event(RunsWaitReason.ENDED)

    async def _next_status(self, subscription: Subscription, deadline: Deadline) -> tuple[JobRun | None, bool]:
        """Return the next status of a job, and whether the time to end the wait has come instead."""
        until_act = None if self.act_at is None else max(self.act_at - time.time(), 0.0)
        limits = [limit for limit in (deadline.left, until_act) if limit is not None]
        try:
            return await subscription.next(min(limits, default=None)), False
        except asyncio.TimeoutError:
            return None, True

    def _event(self, reason: RunsWaitReason, error: ControlHubError | None = None) -> RunsWaitEvent:
        from airflow_provider_streamsets.triggers.events import RunsWaitEvent, RunsWaitReason

        return RunsWaitEvent(
            tuple(self._run_counts.items()),
            reason=reason,
            until_failure=self.until_failure and reason is not RunsWaitReason.FIRST_FAILURE,
            act_at=None if reason is RunsWaitReason.ACT else self.act_at,
            timeout=self.timeout,
            deadline=self.deadline,
            metrics_wait=self.metrics_wait,
            error=error,
        )

    def _timed_out(self, left: list[str]) -> ControlHubError:
        from airflow_provider_streamsets.control_hub import ControlHubRunTimeoutError

        allowed = f" within {self.timeout:g} s" if self.timeout is not None else " in time"
        shown = ", ".join(f"run {self._run_counts[job_id]} of job {job_id}" for job_id in left[:_MOST_NAMED])
        more = ", ..." if len(left) > _MOST_NAMED else ""
        return ControlHubRunTimeoutError(f"{len(left)} of {self.what} have not ended{allowed}: {shown}{more}.")

    def failure(self, error: ControlHubError) -> RunsWaitEvent:
        """Return the event of a wait that has ended with an error."""
        from airflow_provider_streamsets.triggers.events import RunsWaitEvent, RunsWaitReason

        try:
            return self._event(RunsWaitReason.ENDED, error)
        except (TypeError, ValueError):
            # What is stored names no runs that could be read, which may well be the error.
            return RunsWaitEvent((), error=error)

    def stop(self, client: ControlHubClient) -> bool:
        """Stop the runs that are not over, and no others."""
        return bool(client.runs.stop_many(self._run_counts, patience=_KILL_PATIENCE))


def _has_ended(status: JobRun | None, run_count: int) -> bool:
    """Return whether a run is over; also when a newer one shows, as it is then judged from the history."""
    return status is not None and (status.run_count > run_count or (status.run_count == run_count and status.has_ended))


def _has_failed(status: JobRun, run_count: int) -> bool:
    return status.run_count == run_count and not status.is_success
