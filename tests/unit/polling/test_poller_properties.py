"""Whatever happens in whatever order, every wait ends once, with the end of its own run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import (
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubRunLostError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.control_hub.models import JobRun
from airflow_provider_streamsets.hooks.connection import ConnectionSettings
from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.triggers.events import RunsWaitEvent
from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger
from tests.unit.fakes.status_client import FakeStatusClient, long_running_status
from tests.unit.fakes.virtual_time import VirtualLoop, run_on_loop

_JOBS = 4
_SCENARIO_END = 3600.0


@dataclass(frozen=True)
class Wait:
    """A wait for a run of a job; those that are cancelled must not disturb the others."""

    job: int
    run_count: int
    begins: float
    interval: float
    cancelled_after: float | None


@dataclass(frozen=True)
class JobLifetime:
    """The runs of a job: when each of them ends, one starting as the one before ends; the job may be deleted."""

    ends: tuple[float, ...]
    deleted_at: float | None


class Server(FakeStatusClient):
    """Answers for the lifetimes of jobs, and fails at times."""

    def __init__(
        self, lifetimes: list[JobLifetime], failures: list[Callable[[], Exception]], now: Callable[[], float]
    ) -> None:
        super().__init__(self._status, bulk_size=3)
        self.lifetimes = lifetimes
        self.failures = failures
        self.now = now
        self.jobs = self
        self.metrics = self

    def respond(self, job_ids: list[str]) -> Any:
        if self.failures:
            raise self.failures.pop()()
        return super().respond(job_ids)

    def _life(self, job_id: str) -> JobLifetime:
        return self.lifetimes[int(job_id.partition(":")[0])]

    def _run(self, job_id: str, run_count: int) -> dict[str, Any]:
        life, now = self._life(job_id), self.now()
        end = life.ends[run_count - 1]
        status = "INACTIVE" if end <= now else "ACTIVE"
        return long_running_status(job_id, run_count, status=status, color="GRAY", finishTime=round(end * 1000))

    def _status(self, job_id: str) -> dict[str, Any] | None:
        life, now = self._life(job_id), self.now()
        if life.deleted_at is not None and life.deleted_at <= now:
            return None
        current = next((n for n, end in enumerate(life.ends, 1) if end > now), len(life.ends))
        return self._run(job_id, current)

    def statuses(self, job_ids: list[str]) -> dict[str, JobRun | None]:
        return {job_id: JobRun.from_wire(status) if (status := self._status(job_id)) else None for job_id in job_ids}

    def get(self, job_id: str, run_count: int | None = None) -> Any:
        """Return a run from the history, as `runs`, or a job, as `jobs`."""
        if self._status(job_id) is None:
            raise ControlHubNotFoundError("there is no such job", http_status=404)
        if run_count is None:
            return mock.Mock(label=job_id)
        return JobRun.from_wire(self._run(job_id, run_count)) if run_count <= len(self._life(job_id).ends) else None

    def get_or_successor(self, job_id: str, run_count: int, latest: JobRun, *, run_id: str) -> Any:
        return self.get(job_id, run_count)

    def events(self, run_id: str) -> list[Any]:
        return []

    def of_run(self, job_id: str, run_count: int, **_: Any) -> None:
        return None

    counted = of_run


seconds = st.floats(0, 900).map(lambda value: round(value, 1))
lifetimes = st.builds(
    JobLifetime,
    ends=st.lists(st.floats(1, 600).map(lambda value: round(value, 1)), min_size=1, max_size=4).map(
        lambda durations: tuple(1000.0 + sum(durations[: n + 1]) for n in range(len(durations)))
    ),
    deleted_at=st.none() | seconds.map(lambda value: 1000.0 + value),
)
waits = st.builds(
    Wait,
    job=st.integers(0, _JOBS - 1),
    run_count=st.integers(1, 5),
    begins=seconds,
    interval=st.sampled_from([1.0, 10.0, 30.0, 200.0]),
    cancelled_after=st.none() | st.none() | seconds,
)
failures = st.lists(
    st.sampled_from(
        [
            lambda: ControlHubUnavailableError("no answer"),
            lambda: ControlHubUnavailableError("slow down", http_status=429, retry_after=90),
            lambda: ControlHubUnexpectedResponseError("a login page"),
            lambda: ControlHubRejectedError("one of them is not right", http_status=400),
            lambda: RuntimeError("a bug"),
        ]
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lifetimes=st.lists(lifetimes, min_size=_JOBS, max_size=_JOBS),
    waits=st.lists(waits, min_size=1, max_size=12),
    failures=failures,
    request_takes=st.sampled_from([0.0, 0.3, 7.0, 45.0]),
)
def test_every_wait_ends_once_with_its_own_run(lifetimes, waits, failures, request_takes):
    loop = VirtualLoop(thread_latency=request_takes)
    server = Server(lifetimes, failures, loop.time)

    async def wait_for(wait: Wait) -> list[RunsWaitEvent] | None:
        await asyncio.sleep(wait.begins)
        trigger = ControlHubRunsTrigger(
            runs=[[f"{wait.job}:org", wait.run_count]],
            poll_interval=wait.interval,
            timeout=_SCENARIO_END,
            deadline=1000.0 + _SCENARIO_END,
            metrics_timeout=0.0,
        )

        async def events() -> list[RunsWaitEvent]:
            return [RunsWaitEvent.from_payload(json.loads(json.dumps(e.payload))) async for e in trigger.run()]

        task = asyncio.ensure_future(events())
        done, _ = await asyncio.wait({task}, timeout=wait.cancelled_after)
        if not done:
            task.cancel()
            await asyncio.wait({task})
            return None
        return task.result()

    async def scenario() -> list[list[RunsWaitEvent] | None]:
        return await asyncio.gather(*map(wait_for, waits))

    settings = mock.Mock(spec=ConnectionSettings, fingerprint="one", conn_id="one", credential_grace_period=300.0)
    clients: list[Server] = []
    settings.client = lambda **_: clients.append(server) or server
    read = mock.AsyncMock(return_value=settings)
    with (
        mock.patch.object(connections, "connection_settings", read),
        mock.patch("airflow_provider_streamsets.triggers.base.connection_settings", read),
    ):
        ended = run_on_loop(loop, scenario())

    # A wait that is cancelled at once has no client.
    assert server.closed == bool(clients)
    for wait, events in zip(waits, ended, strict=True):
        if events is None:
            continue
        (event,) = events
        assert event.run_counts == {f"{wait.job}:org": wait.run_count}
        life = lifetimes[wait.job]
        if event.report is not None:
            assert event.report.run.run_count == wait.run_count
            assert event.report.run.has_ended
            assert event.report.outcome.value == "SUCCEEDED"
        elif wait.run_count <= len(life.ends) and life.deleted_at is None:
            raise AssertionError(f"the run has ended, but the event is {event}")
        elif life.deleted_at is not None:
            assert isinstance(event.error, ControlHubRunLostError)
        else:
            assert "has not ended" in str(event.error)
