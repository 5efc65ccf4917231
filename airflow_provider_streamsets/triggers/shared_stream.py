"""The shared poll as Airflow's shared stream drives it. Airflow 3.3 and later; imported in the triggerer only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from airflow_provider_streamsets.triggers.preload import preload_watch

if TYPE_CHECKING:
    from airflow_provider_streamsets.polling.watcher_poll import PollItem, WatcherGroup


class RunStreamProducer(SharedStreamProducer):
    """
    Hands the items of a group to all watches that share the stream.

    Airflow tells when the events that were made of an item are stored, and only then the watches move their cursors.

    :param conn_id: id of the Airflow connection
    :param interval: seconds between two looks
    """

    def __init__(self, conn_id: str, interval: float) -> None:
        self._conn_id = conn_id
        self._interval = interval
        self._group: WatcherGroup | None = None

    async def open_stream(self) -> AsyncIterator[tuple[PollItem, int]]:
        """Yield the items, each with its number."""
        await preload_watch()
        from airflow_provider_streamsets.polling.watcher_poll import watcher_group

        group = self._group = watcher_group(self._conn_id, self._interval)
        async for item in group.items():
            yield item, item.number

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Pass on which items are dealt with."""
        for number, outcome in batch:
            if self._group is not None:
                self._group.acknowledge(number, clean=outcome.is_clean)

    async def aclose(self) -> None:
        """End what is under way."""
        if self._group is not None:
            self._group.close()
