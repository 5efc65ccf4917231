"""Importing what takes long without keeping the event loop waiting."""

from __future__ import annotations

import asyncio
import importlib


async def load_watching() -> None:
    """
    Import the modules that watch jobs, in a thread.

    They bring the whole client along: imported on the event loop, they would hold up all triggers for a second.
    """
    for name in ("run_watch", "watch_group"):
        await asyncio.to_thread(importlib.import_module, f"{__package__}.{name}")
