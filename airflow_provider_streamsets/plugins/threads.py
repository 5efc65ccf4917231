"""Threads for requests to Control Hub and Airflow's database, beside those with which the API server serves tasks."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from fastapi import HTTPException

_P = ParamSpec("_P")
_T = TypeVar("_T")


class BoundedThreads:
    """
    Some threads, and a limited number of calls that wait for them.

    Airflow serves the heartbeats of tasks with the same process: a slow Control Hub must not occupy its threads.

    :param threads: number of threads
    :param calls: maximum number of calls that run or wait; further ones are refused
    :param name: prefix of the names of the threads
    """

    def __init__(self, threads: int, calls: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._calls = threading.BoundedSemaphore(calls)

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """
        Call a function in a thread.

        :raises HTTPException: if too many calls wait
        """
        if not self._calls.acquire(blocking=False):
            raise HTTPException(
                503, "Too many requests are waiting for Control Hub. Try again later.", headers={"Retry-After": "5"}
            )
        context = contextvars.copy_context()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, lambda: context.run(function, *args, **kwargs)
            )
        finally:
            self._calls.release()
