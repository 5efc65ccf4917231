"""Importing what takes long without keeping the event loop waiting."""

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
_WATCHING = ("polling.run_watcher", "polling.watcher_poll")


async def preload_wait() -> None:
    """Import the modules that wait for runs, as :func:`preload_watch`."""
    await _load(_WAITING)


async def preload_watch() -> None:
    """
    Import the modules that watch jobs, in a thread.

    They bring the whole client along: imported on the event loop, they would hold up all triggers for a second.
    """
    await _load(_WATCHING)


async def _load(names: tuple[str, ...]) -> None:
    for name in (f"{_PACKAGE}.{name}" for name in names):
        if name not in sys.modules:
            await asyncio.to_thread(importlib.import_module, name)
