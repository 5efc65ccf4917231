"""A limit on the total time of a request; the time-outs of sockets only bound the wait for the next bytes."""

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
    Let answers to requests that this thread sends in this context end in a time-out when the time is over.

    It holds for the status line, the headers and the body, also for a body that is read after the context.

    :param seconds: the time from now on; None sets no limit
    """
    _thread.deadline = None if seconds is None else monotonic() + seconds
    try:
        yield
    finally:
        _thread.deadline = None


class TimeLimitAdapter(HTTPAdapter):
    """Sends requests whose answers :func:`total_time_limit` can bound."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*args, **kwargs)
        _bound(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the pools of connections to a proxy."""
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            _bound(manager)
        return manager


def _bound(manager: Any) -> None:
    classes = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _bounded_pool(pool_class) for scheme, pool_class in classes.items()}


@functools.cache
def _bounded_pool(pool_class: Any) -> Any:
    connection = pool_class.ConnectionCls
    bounded = type(connection.__name__, (connection,), {"response_class": _BoundedResponse})
    return type(pool_class.__name__, (pool_class,), {"ConnectionCls": bounded})


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        deadline = getattr(_thread, "deadline", None)
        if deadline is not None:
            self.fp = io.BufferedReader(_BoundedReader(self.fp.detach(), sock, deadline))


class _BoundedReader(io.RawIOBase):
    """
    Reads from a socket until a deadline.

    :param raw: reads without that limit
    :param sock: what it reads from; its time-out holds for each read
    :param deadline: when the time is over, on the monotonic clock
    """

    def __init__(self, raw: Any, sock: Any, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._timeout = sock.gettimeout()
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long as a whole")
        self._sock.settimeout(left if self._timeout is None else min(self._timeout, left))
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
