"""Handle rejections of a credential that many waits share: all of them wait for one retry."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.errors import ControlHubAuthenticationError

Refresh = Callable[["ControlHubAuthenticationError", int], Awaitable["ControlHubClient | None"]]


class SharedCredential:
    """
    Handles rejections of a client's credential, once for all rejected requests.

    :param client: the client
    :param refresh: called when a request was rejected, with the error and the number of its previous rejections.
        Returns, after a delay, a client with a newer credential, or None to retry with the same one; raises if the
        rejection is confirmed. Without `refresh`, every rejection counts as confirmed
    """

    def __init__(self, client: ControlHubClient, refresh: Refresh | None) -> None:
        self._client = client
        self._refresh = refresh
        self._refresh_task: asyncio.Task[None] | None = None
        self._rejections = 0
        self.generation = 0
        """Incremented whenever rejected requests must be retried, with a new credential or with the same one."""

    @property
    def is_rejected(self) -> bool:
        """Whether a retry is pending, so that no requests may be sent."""
        return self._refresh_task is not None

    async def wait_idle(self, timeout: float = math.inf) -> None:
        """
        Wait until no retry is pending.

        :param timeout: maximum seconds to wait
        """
        if self._refresh_task is not None:
            await _end_of(self._refresh_task, timeout)

    async def wait_refreshed(
        self, error: ControlHubAuthenticationError, generation: int, rejections: int, timeout: float = math.inf
    ) -> int:
        """
        Wait until a rejected request must be retried.

        :param error: error of the rejected request
        :param generation: :attr:`generation` when the request was sent
        :param rejections: number of previous rejections of the request
        :param timeout: maximum seconds to wait
        :returns: the new number of rejections; not incremented after a shorter delay, set by a request with fewer of
            them
        :raises asyncio.TimeoutError: if the timeout passes first
        :raises ControlHubError: if the rejection is confirmed
        """
        if generation != self.generation:
            return rejections
        if self._refresh is None:
            raise error
        if self._refresh_task is None:
            self._rejections = rejections
            create_task = asyncio.get_running_loop().create_task
            # In a new context: in that of the first rejected wait, all log lines would go to that wait's task log.
            self._refresh_task = contextvars.Context().run(create_task, self._replace(self._refresh, error, rejections))
            self._refresh_task.add_done_callback(self._on_refresh_done)
        refresh_task, counted = self._refresh_task, self._rejections
        await _end_of(refresh_task, timeout)
        if not refresh_task.done():
            raise asyncio.TimeoutError
        if not refresh_task.cancelled():
            refresh_task.result()
        return rejections + 1 if counted >= rejections else rejections

    def adopt(self, client: ControlHubClient) -> None:
        """
        Replace the credential at once.

        :param client: client with the new credential; must not be used any more
        """
        self._client.adopt(client)
        self.generation += 1
        self.close()

    def close(self) -> None:
        """Cancel the pending retry."""
        refresh_task, self._refresh_task = self._refresh_task, None
        if refresh_task is not None:
            refresh_task.cancel()

    async def _replace(self, refresh: Refresh, error: ControlHubAuthenticationError, rejections: int) -> None:
        client = await refresh(error, rejections)
        self._refresh_task = None
        if client is None:
            self.generation += 1
        else:
            self.adopt(client)

    def _on_refresh_done(self, refresh_task: asyncio.Task[None]) -> None:
        if self._refresh_task is refresh_task:
            self._refresh_task = None
        if not refresh_task.cancelled():
            # Retrieves the error, as all requests that wait for it can be cancelled.
            refresh_task.exception()


async def _end_of(task: asyncio.Task[None], timeout: float) -> None:
    await asyncio.wait({task}, timeout=None if timeout == math.inf else max(timeout, 0.0))
