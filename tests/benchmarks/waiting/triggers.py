"""The triggers that the provider's is compared with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from airflow.triggers.base import BaseTrigger, TriggerEvent


class EmptyTrigger(BaseTrigger):
    """Waits for ever."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.get_running_loop().create_future()
        yield TriggerEvent({})


class PollingTrigger(BaseTrigger):
    """
    Asks for the status of one job in each interval, over a session of its own, as the triggers of most providers do.

    :param url: address of Control Hub
    :param credential_id: with ``token``, who asks
    :param job_id: id of the job
    :param poll_interval: seconds between two looks
    """

    def __init__(self, url: str, credential_id: str, token: str, job_id: str, poll_interval: float) -> None:
        super().__init__()
        self.url = url
        self.credential_id = credential_id
        self.token = token
        self.job_id = job_id
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("url", "credential_id", "token", "job_id", "poll_interval")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        headers = {
            "X-SS-App-Component-Id": self.credential_id,
            "X-SS-App-Auth-Token": self.token,
            "X-Requested-By": "airflow",
        }
        address = f"{self.url}/jobrunner/rest/v1/job/{self.job_id}/currentStatus"
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                async with session.get(address) as response:
                    response.raise_for_status()
                    status = await response.json()
                if status["status"] in ("INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR"):
                    yield TriggerEvent({"job_id": self.job_id, "status": status["status"]})
                    return
                await asyncio.sleep(self.poll_interval)
