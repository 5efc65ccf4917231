"""An object store in memory that Airflow's object storage reaches."""

from __future__ import annotations

from fsspec.implementations.memory import MemoryFileSystem

try:
    from airflow.sdk.io import attach
except ImportError:
    from airflow.io.store import attach


def memory_store() -> MemoryFileSystem:
    """Return an empty store, the one of the URLs ``memory://...``."""
    store = MemoryFileSystem()
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    attach("memory", fs=store)
    return store
