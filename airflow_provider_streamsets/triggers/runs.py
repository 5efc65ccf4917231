"""The trigger that waits for one run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_streamsets.compat import SETTLING_TIME, connection_with_extra, is_still_deferred

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import JobRun, RunReport
    from airflow_provider_streamsets.control_hub.waiting import RunFollower
    from airflow_provider_streamsets.hooks.settings import ConnectionSettings
    from airflow_provider_streamsets.triggers.events import RunWaitEvent
    from airflow_provider_streamsets.triggers.feed import Subscription

_KILL_TIMEOUT = 10.0
_KILL_PATIENCE = 60.0
_PAUSES_BETWEEN_READS = (2, 5, 15, 30, 60, 60, 60)
# Keeps the stops of killed triggers from being collected while they are under way.
_stopping: set[asyncio.Task[None]] = set()


class ControlHubJobRunTrigger(BaseTrigger):
    """
    Wait on the triggerer until one run of a job has ended.

    Yields one event, the payload of a :class:`~airflow_provider_streamsets.triggers.events.RunWaitEvent`, whatever
    happens. All triggers of one connection share their status requests.

    The arguments are stored in Airflow's database, unencrypted: they hold no secrets. All have defaults, so that a
    stored trigger outlives an upgrade of this provider.

    :param control_hub_conn_id: id of the Airflow connection
    :param job_id: id of the job
    :param job_name: its name, for messages
    :param run_count: number of the run
    :param poll_interval: seconds between two looks
    :param timeout: seconds that the wait was given, for the message
    :param deadline: when to give up, in epoch seconds; None waits as long as the run takes
    :param metrics_wait: seconds to wait for the run's final metrics after its end, at the most
    :param stop_on_kill: stop the run when a person kills the deferred task (Airflow 3.3 and later)
    """

    def __init__(
        self,
        control_hub_conn_id: str = "streamsets_default",
        job_id: str = "",
        job_name: str = "",
        run_count: int = 0,
        poll_interval: float = 30.0,
        timeout: float | None = None,
        deadline: float | None = None,
        metrics_wait: float = 30.0,
        stop_on_kill: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.control_hub_conn_id = control_hub_conn_id
        self.job_id = job_id
        self.job_name = job_name
        self.run_count = run_count
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.deadline = deadline
        self.metrics_wait = metrics_wait
        self.stop_on_kill = stop_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "control_hub_conn_id": self.control_hub_conn_id,
                "job_id": self.job_id,
                "job_name": self.job_name,
                "run_count": self.run_count,
                "poll_interval": self.poll_interval,
                "timeout": self.timeout,
                "deadline": self.deadline,
                "metrics_wait": self.metrics_wait,
                "stop_on_kill": self.stop_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event. Never raises: an escaped error would let the task start a second run."""
        now = asyncio.get_running_loop().time
        began = now()
        event = await self._event()
        await asyncio.sleep(max(began + SETTLING_TIME - now(), 0.0))
        yield TriggerEvent(event.to_payload())

    async def _event(self) -> RunWaitEvent:
        from airflow_provider_streamsets.control_hub import ControlHubError
        from airflow_provider_streamsets.triggers.events import RunWaitEvent

        try:
            return RunWaitEvent(self.job_id, self.run_count, report=await self._wait())
        except ControlHubError as error:
            return RunWaitEvent(self.job_id, self.run_count, error=error)
        except Exception as error:
            self.log.exception("The wait for run %s of job %s failed.", self.run_count, self.job_id)
            failure = ControlHubError(
                f"The wait for run {self.run_count} of job {self.job_id} failed: {type(error).__name__}: {error}"
            )
            return RunWaitEvent(self.job_id, self.run_count, error=failure)

    async def _wait(self) -> RunReport:
        from airflow_provider_streamsets.control_hub.waiting import RunFollower
        from airflow_provider_streamsets.triggers.feed import shared_feed

        now = asyncio.get_running_loop().time
        deadline = None if self.deadline is None else now() + self.deadline - time.time()
        feed = shared_feed(await self._settings_when_they_can_be_read())
        follower = RunFollower(
            feed.client,
            self.job_id,
            self.run_count,
            job_name=self.job_name,
            metrics_wait=self.metrics_wait,
            now=now,
            log=self.log,
        )
        async with feed.subscription(self.job_id, self.poll_interval) as subscription:
            while True:
                status, is_last_look = await self._next_status(subscription, follower, deadline)
                report = None
                if is_last_look:
                    report = await asyncio.to_thread(follower.look, in_a_hurry=True)
                elif follower.observe(status):
                    report = await asyncio.to_thread(follower.conclude)
                if report is not None:
                    return report
                if is_last_look:
                    raise follower.timed_out(self.timeout)

    async def _next_status(
        self, subscription: Subscription, follower: RunFollower, deadline: float | None
    ) -> tuple[JobRun | None, bool]:
        """Return the next status of the job, and whether the deadline has come instead."""
        left = None if deadline is None else max(deadline - asyncio.get_running_loop().time(), 0.0)
        if follower.has_ended:
            pause = follower.pause(self.poll_interval)
            await asyncio.sleep(pause if left is None else min(pause, left))
            return None, left is not None and left <= pause
        try:
            return await subscription.next(left), False
        except asyncio.TimeoutError:
            return None, True

    async def _settings_when_they_can_be_read(self) -> ConnectionSettings:
        """Read the connection, again if that fails for a reason that may pass, such as a secrets backend's."""
        from airflow_provider_streamsets.control_hub import ControlHubError

        for pause in _PAUSES_BETWEEN_READS:
            try:
                return await self._settings()
            except (ControlHubError, AirflowNotFoundException):
                raise
            except Exception as error:  # noqa: BLE001 - a secrets backend can raise anything
                self.log.warning(
                    "Connection '%s' could not be read (%s: %s); trying again in %s s.",
                    self.control_hub_conn_id,
                    type(error).__name__,
                    error,
                    pause,
                )
                await asyncio.sleep(pause)
        return await self._settings()

    async def _settings(self) -> ConnectionSettings:
        """Read the connection without blocking the event loop."""
        from airflow_provider_streamsets.hooks.settings import ConnectionSettings

        return ConnectionSettings.of(*await connection_with_extra(self.control_hub_conn_id))

    async def on_kill(self) -> None:
        """
        Stop the run when a person marks or clears the deferred task (Airflow 3.3 and later).

        Airflow also calls this when the trigger is only moved to another triggerer (apache/airflow#73454); the task is
        then still deferred, and the run is left alone.
        """
        if not self.stop_on_kill:
            return
        # Airflow cancels a killed trigger anew about every second until it has ended, this method included.
        stopping = asyncio.create_task(self._stop_unless_moved())
        _stopping.add(stopping)
        stopping.add_done_callback(_stopping.discard)
        await asyncio.shield(stopping)

    async def _stop_unless_moved(self) -> None:
        try:
            still_deferred = await is_still_deferred(self.task_instance)
            if still_deferred is not False:
                self.log.info(
                    "Leaving run %s of job %s running: %s.",
                    self.run_count,
                    self.job_id,
                    "the task is still deferred, so the trigger is being moved"
                    if still_deferred
                    else "the state of the task cannot be read",
                )
                return
            self.log.warning("The task was killed: stopping run %s of job %s.", self.run_count, self.job_id)
            if not await asyncio.to_thread(self._stop_run, await self._settings()):
                self.log.info("Run %s of job %s was over already.", self.run_count, self.job_id)
        except Exception as error:  # noqa: BLE001 - nobody awaits this; the log is where it can be told
            self.log.error(
                "Run %s of job %s could not be stopped and may go on: %s", self.run_count, self.job_id, error
            )

    def _stop_run(self, settings: ConnectionSettings) -> bool:
        with settings.client(timeout=_KILL_TIMEOUT, max_attempts=2) as client:
            return client.runs.stop_run(self.job_id, self.run_count, patience=_KILL_PATIENCE)
