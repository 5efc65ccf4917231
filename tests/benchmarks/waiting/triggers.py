"""Triggers for comparison with the provider's trigger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from airflow.triggers.base import BaseTrigger, TriggerEvent


class EmptyTrigger(BaseTrigger):
    """Waits indefinitely."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.get_running_loop().create_future()
        yield TriggerEvent({})


class PollingTrigger(BaseTrigger):
    """
    Polls the status of one job over its own HTTP session, like the triggers of most providers.

    :param url: URL of Control Hub
    :param credential_id: id of the credential
    :param token: token of the credential
    :param job_id: id of the job
    :param poll_interval: poll interval in seconds
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
        status_url = f"{self.url}/jobrunner/rest/v1/job/{self.job_id}/currentStatus"
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                async with session.get(status_url) as response:
                    response.raise_for_status()
                    status = await response.json()
                if status["status"] in ("INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR"):
                    yield TriggerEvent({"job_id": self.job_id, "status": status["status"]})
                    return
                await asyncio.sleep(self.poll_interval)
