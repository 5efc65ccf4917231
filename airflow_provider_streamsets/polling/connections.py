"""Read the connections of triggers without blocking the event loop, once for triggers that start together."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_provider_streamsets import hooks
from airflow_provider_streamsets.compat import get_connection_and_extra
from airflow_provider_streamsets.control_hub.errors import ControlHubError
from airflow_provider_streamsets.triggers.preload import preload_wait

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubAuthenticationError, ControlHubClient
    from airflow_provider_streamsets.hooks.connection import ConnectionSettings

log = logging.getLogger(__name__)

# Seconds for which a connection is cached, as each read costs the triggerer a request.
_CACHE_SECONDS = 10.0
_READ_RETRY_DELAYS = (2, 5, 15, 30, 60, 60, 60)

_Result = TypeVar("_Result")
_Value = TypeVar("_Value")


def run_for_all(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """
    Call a function for several triggers.

    In a new context: in that of one trigger, all log lines would go to the log of that trigger's task.
    """
    return contextvars.Context().run(function, *arguments)


def spawn(coroutine: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
    """Run a coroutine as a task that serves several triggers, in a new context as with :func:`run_for_all`."""
    return run_for_all(asyncio.get_running_loop().create_task, coroutine)


class PerLoop(Generic[_Value]):
    """
    A value of each event loop: threads and connections do not survive a fork, and a forked process has a new loop.

    :param create: creates the value of a loop
    """

    def __init__(self, create: Callable[[], _Value]) -> None:
        self._create = create
        self._values: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Value] = weakref.WeakKeyDictionary()

    def get(self) -> _Value:
        """Return the value of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._values:
            self._values[loop] = self._create()
        return self._values[loop]


class _ConnectionCache:
    """Settings of connections with the times at which they were read, and reads in progress."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[float, ConnectionSettings]] = {}
        self._reads: dict[str, asyncio.Task[ConnectionSettings]] = {}

    async def get(self, conn_id: str) -> ConnectionSettings:
        known = self._entries.get(conn_id)
        if known is not None and asyncio.get_running_loop().time() - known[0] < _CACHE_SECONDS:
            return known[1]
        read = self._reads.get(conn_id)
        if read is None:
            read = self._reads[conn_id] = spawn(self._read(conn_id))
            # Retrieves the error, as all triggers that wait for it can be cancelled.
            read.add_done_callback(lambda task: task.cancelled() or task.exception())
        # Cancelling one trigger does not cancel the read for the others.
        return await asyncio.shield(read)

    async def _read(self, conn_id: str) -> ConnectionSettings:
        now = asyncio.get_running_loop().time
        started = now()
        try:
            await preload_wait()
            settings = await _read_with_retries(conn_id)
        finally:
            # Not left to the waiting triggers, as all of them can be cancelled.
            del self._reads[conn_id]
        known = self._entries.get(conn_id)
        if known is not None and known[0] > started:
            # Refreshed meanwhile, for a new credential.
            return known[1]
        self._entries[conn_id] = (now(), settings)
        return settings

    async def refresh(self, conn_id: str) -> ConnectionSettings:
        settings = await _read(conn_id)
        self._entries[conn_id] = (asyncio.get_running_loop().time(), settings)
        return settings


_cache = PerLoop(_ConnectionCache)


async def connection_settings(conn_id: str) -> ConnectionSettings:
    """
    Return the settings of a connection, read at most ten seconds ago. Also imports the client.

    On all errors of the read, retries for some minutes: if a secrets backend or the database does not respond, Airflow
    reports that the connection does not exist.

    :param conn_id: id of the Airflow connection
    :raises AirflowNotFoundException: if the connection does not exist
    :raises ControlHubConfigurationError: if a field of the connection is invalid
    """
    return await _cache.get().get(conn_id)


class ConnectionRefresh:
    """
    Re-reads a connection, with back-off, while its credential is rejected.

    :param conn_id: id of the Airflow connection
    :param grace_period: seconds for which rejected requests are retried
    :param options: further parameters of the clients
    """

    def __init__(self, conn_id: str, grace_period: float, **options: Any) -> None:
        self._conn_id = conn_id
        self._grace_period = grace_period
        self._options = options
        self._reason = ""

    async def next_client(
        self, rejected_client: ControlHubClient, error: ControlHubAuthenticationError, rejections: int
    ) -> tuple[ConnectionSettings, ControlHubClient] | None:
        """
        Back off, re-read the connection, and return its settings and a client with them.

        :param rejected_client: the client whose credential was rejected
        :param error: error of the rejected request
        :param rejections: number of previous rejections of the request
        :returns: None if the same credential must be retried, as the connection has no other usable one
        :raises ControlHubAuthenticationError: if the rejection is confirmed
        """
        from airflow_provider_streamsets.hooks.credential_refresh import (
            confirmed_rejection,
            log_first_rejection,
            refreshed_client,
            retry_delay,
        )

        delay = retry_delay(rejections, self._grace_period)
        if delay is None:
            raise confirmed_rejection(error, self._reason)
        await asyncio.sleep(delay)
        try:
            settings = await _cache.get().refresh(self._conn_id)
        except Exception as failure:  # noqa: BLE001 - evaluated by `refreshed_client`
            reason = refreshed_client(self._conn_id, rejected_client, failure)
        else:
            reason = refreshed_client(self._conn_id, rejected_client, settings, **self._options)
        if not isinstance(reason, str):
            return settings, reason
        self._reason = reason
        if not rejections:
            log_first_rejection(error, reason, self._grace_period)
        return None


async def _read_with_retries(conn_id: str) -> ConnectionSettings:
    for delay in _READ_RETRY_DELAYS:
        try:
            return await _read(conn_id)
        except ControlHubError:
            raise
        except Exception as error:  # noqa: BLE001 - a secrets backend can raise anything
            log.warning(
                "Could not read connection '%s' (%s: %s); retrying in %s s, as a secrets backend that does not respond "
                "can be the cause.",
                conn_id,
                type(error).__name__,
                error,
                delay,
            )
            await asyncio.sleep(delay)
    return await _read(conn_id)


async def _read(conn_id: str) -> ConnectionSettings:
    return hooks.ConnectionSettings.from_connection(*await get_connection_and_extra(conn_id))
