"""A client for tests of the status feed: its server is a script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from airflow_provider_streamsets.control_hub import (
    ControlHubError,
    ControlHubPermissionError,
    ControlHubRejectedError,
)
from airflow_provider_streamsets.control_hub.models import JobRun
from airflow_provider_streamsets.control_hub.models.status_snapshot import StatusSnapshot
from airflow_provider_streamsets.control_hub.tracking.run import NotifyOn
from airflow_provider_streamsets.polling.poller import SharedStatusPoller
from tests.unit.fakes.api_payloads import parse_snapshot
from tests.unit.fakes.single_job_hub import LONG_AGO, run_json
from tests.unit.fakes.virtual_time import run_in_virtual_time


def long_running_status(job_id: str, run_count: int = 1, **fields: Any) -> dict[str, Any]:
    """The status of a run that has been active for long."""
    return run_json(run_count, **{"jobId": job_id, "startTime": LONG_AGO, **fields})


class FakeStatusClient:
    """
    Answers status requests, and records when and for which ids they came.

    :param status: returns the status of a job, as on the wire
    :param bulk_size: how many jobs one request contains
    """

    def __init__(self, status: Callable[[str], Any] = long_running_status, bulk_size: int = 250) -> None:
        self.runs = self
        self.status = status
        self.bulk_size = bulk_size
        self.progress_interval = 0.0
        self.throttle: Callable[[Callable[[], Any]], Any] = lambda send: send()
        self.asked: list[tuple[float, list[str]]] = []
        self.errors: list[Exception] = []
        self.refused: set[str] = set()
        self.forbidden: set[str] = set()
        self.closed = False

    def snapshots(self, job_ids: list[str]) -> dict[str, StatusSnapshot | ControlHubError | None]:
        found: dict[str, StatusSnapshot | ControlHubError | None] = self.throttle(lambda: self.respond(job_ids))
        return found

    def respond(self, job_ids: list[str]) -> dict[str, StatusSnapshot | ControlHubError | None]:
        """Answer a request; a subclass can fail it."""
        self.asked.append((_now(), list(job_ids)))
        if self.errors:
            raise self.errors.pop(0)
        if self.forbidden & set(job_ids):
            raise ControlHubPermissionError("one of them may not be read", http_status=403)
        if self.refused & set(job_ids):
            raise ControlHubRejectedError("one of them is not right", http_status=400)
        found: dict[str, StatusSnapshot | ControlHubError | None] = {}
        for job_id in job_ids:
            try:
                found[job_id] = parse_snapshot(self.status(job_id))
            except ControlHubError as error:
                found[job_id] = error
        return found

    def times(self, job_id: str) -> list[float]:
        """Return when the status of a job was requested."""
        return [when for when, job_ids in self.asked if job_id in job_ids]

    def mark_accepted(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def _now() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        # In a thread, on real time.
        return time.monotonic()


def poll_times_alone(client: FakeStatusClient, job_ids: Iterable[str], interval: float, polls: int) -> list[float]:
    """Return the times of so many polls of the only subscriber, on virtual time."""

    async def scene() -> list[float]:
        return await poll_times(SharedStatusPoller(client), job_ids, interval, polls)

    return run_in_virtual_time(scene())


async def poll_times(
    poller: SharedStatusPoller,
    job_ids: Iterable[str],
    interval: float,
    polls: int,
    notify_on: NotifyOn = NotifyOn.EVERY_POLL,
) -> list[float]:
    """Subscribe, return the times of so many polls since the subscription, and leave."""
    now = asyncio.get_running_loop().time
    began = now()
    wanted = list(job_ids)
    with poller.subscribe(dict.fromkeys(wanted, 1), interval, notify_on) as subscription:
        times = []
        for _ in range(polls):
            for job_id, status in (await subscription.next()).items():
                if isinstance(status, ControlHubError):
                    raise status
                assert job_id in wanted
                assert not isinstance(status, JobRun) or status.job_id == job_id
            times.append(now() - began)
        return times
