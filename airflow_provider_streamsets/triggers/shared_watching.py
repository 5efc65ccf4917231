"""The shared poll as Airflow's shared stream drives it. Airflow 3.3 and later; imported in the triggerer only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from airflow_provider_streamsets.triggers.loading import load_watching

if TYPE_CHECKING:
    from airflow_provider_streamsets.triggers.watch_group import Item, WatchGroup


class SharedWatching(SharedStreamProducer):
    """
    Hands the items of a group to all watches that share the stream.

    Airflow tells when the events that were made of an item are stored, and only then the watches move their cursors.

    :param conn_id: id of the Airflow connection
    :param interval: seconds between two looks
    """

    def __init__(self, conn_id: str, interval: float) -> None:
        self._conn_id = conn_id
        self._interval = interval
        self._group: WatchGroup | None = None

    async def open_stream(self) -> AsyncIterator[tuple[Item, int]]:
        """Yield the items, each with its number."""
        await load_watching()
        from airflow_provider_streamsets.triggers.watch_group import watch_group

        group = self._group = watch_group(self._conn_id, self._interval)
        async for item in group.items():
            yield item, item.number

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Pass on which items are dealt with."""
        for number, outcome in batch:
            if self._group is not None:
                self._group.resolved(number, clean=outcome.is_clean)

    async def aclose(self) -> None:
        """End what is under way."""
        if self._group is not None:
            self._group.close()
