"""The credential of a client that many waits share: when it is refused, all of them wait for one next try."""

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
    Deals with the refusals of a client's credential, once for all whose requests were refused.

    :param client: the client
    :param refresh: called when a request was refused, with the error and how often it was refused before. Returns, after
        a while, a client with a newer credential, or None if the same one is to be tried again; raises when the
        refusal is confirmed. Without it, every refusal is
    """

    def __init__(self, client: ControlHubClient, refresh: Refresh | None) -> None:
        self._client = client
        self._refresh = refresh
        self._refresh_task: asyncio.Task[None] | None = None
        self._rejections = 0
        self.generation = 0
        """Grows whenever refused requests are to be repeated, with another credential or with the same one."""

    @property
    def is_rejected(self) -> bool:
        """Whether the next try is being waited for, so that nothing is to be sent."""
        return self._refresh_task is not None

    async def wait_idle(self, timeout: float = math.inf) -> None:
        """
        Return when no retry is pending.

        :param timeout: seconds after which to return in any case
        """
        if self._refresh_task is not None:
            await _end_of(self._refresh_task, timeout)

    async def wait_refreshed(
        self, error: ControlHubAuthenticationError, generation: int, rejections: int, timeout: float = math.inf
    ) -> int:
        """
        Return when a refused request is to be repeated.

        :param error: the refusal
        :param generation: :attr:`generation` when it was sent
        :param rejections: how often it was refused before
        :param timeout: seconds to wait
        :returns: how often it counts as refused; a delay that another request with fewer refusals has set, and which is
            shorter, does not count
        :raises asyncio.TimeoutError: if it was not by then
        :raises ControlHubError: if the refusal is confirmed
        """
        if generation != self.generation:
            return rejections
        if self._refresh is None:
            raise error
        if self._refresh_task is None:
            self._rejections = rejections
            create_task = asyncio.get_running_loop().create_task
            # In a context of its own: in that of the first to be refused, all it logs would go to that one's task log.
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
        Go on with another credential at once.

        :param client: a client with it, not to be used any more
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
            # Whoever still waits is told; there may be nobody.
            refresh_task.exception()


async def _end_of(task: asyncio.Task[None], timeout: float) -> None:
    await asyncio.wait({task}, timeout=None if timeout == math.inf else max(timeout, 0.0))
