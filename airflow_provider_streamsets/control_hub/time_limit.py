"""Limit of the total time of a request; socket timeouts only limit the wait for the next bytes."""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

from requests.adapters import HTTPAdapter

_thread = threading.local()


@contextlib.contextmanager
def total_time_limit(seconds: float | None) -> Iterator[None]:
    """
    Limit the total time of the requests that this thread sends within this context.

    The limit covers the status line, the headers and the body, even if the body is read after the context.

    :param seconds: time limit from now on; None for no limit
    """
    _thread.deadline = None if seconds is None else monotonic() + seconds
    try:
        yield
    finally:
        _thread.deadline = None


class TimeLimitAdapter(HTTPAdapter):
    """HTTP adapter that enforces :func:`total_time_limit`."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the connection pools."""
        super().init_poolmanager(*args, **kwargs)
        _limit_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the connection pools of a proxy."""
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            _limit_pools(manager)
        return manager


def _limit_pools(manager: Any) -> None:
    classes = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _limited_pool(pool_class) for scheme, pool_class in classes.items()}


@functools.cache
def _limited_pool(pool_class: Any) -> Any:
    connection = pool_class.ConnectionCls
    limited = type(connection.__name__, (connection,), {"response_class": _LimitedResponse})
    return type(pool_class.__name__, (pool_class,), {"ConnectionCls": limited})


class _LimitedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        deadline = getattr(_thread, "deadline", None)
        if deadline is not None:
            self.fp = io.BufferedReader(_LimitedReader(self.fp.detach(), sock, deadline))


class _LimitedReader(io.RawIOBase):
    """
    Raw stream of a socket that raises :class:`TimeoutError` after a deadline.

    :param raw: stream to read from
    :param sock: socket of the stream; its timeout applies to each read
    :param deadline: deadline on the monotonic clock
    """

    def __init__(self, raw: Any, sock: Any, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._timeout = sock.gettimeout()
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline - monotonic()
        if remaining <= 0:
            raise TimeoutError("the response exceeded the total time limit")
        self._sock.settimeout(remaining if self._timeout is None else min(self._timeout, remaining))
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
