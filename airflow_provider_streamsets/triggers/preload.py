"""Import heavy modules without blocking the event loop."""

from __future__ import annotations

import asyncio
import importlib
import sys

_PACKAGE = __package__.rpartition(".")[0]
_WAITING = (
    "control_hub",
    "control_hub.tracking.metric",
    "hooks.credential_refresh",
    "hooks.connection",
    "triggers.events",
    "polling.poller",
)
_WATCHING = ("hooks.connection", "polling.run_watcher", "polling.watcher_group")


async def preload_wait() -> None:
    """Import the modules for waits in a thread, as :func:`preload_watch` does."""
    await _load(_WAITING)


async def preload_watch() -> None:
    """
    Import the modules for watchers in a thread.

    They import the whole client: on the event loop, that would block all triggers for about a second.
    """
    await _load(_WATCHING)


async def _load(names: tuple[str, ...]) -> None:
    for name in (f"{_PACKAGE}.{name}" for name in names):
        if name not in sys.modules:
            await asyncio.to_thread(importlib.import_module, name)
