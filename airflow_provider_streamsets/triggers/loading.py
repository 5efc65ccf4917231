"""Importing what takes long without keeping the event loop waiting."""

from __future__ import annotations

import asyncio
import importlib
import sys

_PACKAGE = __package__.rpartition(".")[0]
_WAITING = (
    "control_hub",
    "control_hub.metric_waiting",
    "hooks.renewal",
    "hooks.settings",
    "triggers.events",
    "triggers.feed",
)
_WATCHING = ("triggers.run_watch", "triggers.watch_group")


async def load_waiting() -> None:
    """Import the modules that wait for runs, as :func:`load_watching`."""
    await _load(_WAITING)


async def load_watching() -> None:
    """
    Import the modules that watch jobs, in a thread.

    They bring the whole client along: imported on the event loop, they would hold up all triggers for a second.
    """
    await _load(_WATCHING)


async def _load(names: tuple[str, ...]) -> None:
    for name in (f"{_PACKAGE}.{name}" for name in names):
        if name not in sys.modules:
            await asyncio.to_thread(importlib.import_module, name)
