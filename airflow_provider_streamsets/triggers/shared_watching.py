"""The shared poll as Airflow's shared stream drives it. Airflow 3.3 and later; imported in the triggerer only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from airflow_provider_streamsets.triggers.watch_group import Item, WatchGroup


class SharedWatching(SharedStreamProducer):
    """
    Hands the items of a group to all watches that share the stream.

    Airflow tells when the events that were made of an item are stored, and only then the watches move their cursors.

    :param group: the watches
    """

    def __init__(self, group: WatchGroup) -> None:
        self._group = group

    async def open_stream(self) -> AsyncIterator[tuple[Item, int]]:
        """Yield the items, each with its number."""
        async for item in self._group.items():
            yield item, item.number

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Pass on which items are dealt with."""
        for number, outcome in batch:
            self._group.resolved(number, clean=outcome.is_clean)

    async def aclose(self) -> None:
        """End what is under way."""
        self._group.close()
