"""The producer of Airflow's shared streams (Airflow 3.3 and later); imported in the triggerer only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from airflow_provider_streamsets.triggers.preload import preload_watch

if TYPE_CHECKING:
    from airflow_provider_streamsets.polling.watcher_group import PollItem, WatcherGroup


class RunStreamProducer(SharedStreamProducer):
    """
    Yields the items of a watcher group to all watchers that share the stream.

    Watchers advance their cursors only when Airflow has stored the events of an item, which it reports to
    :meth:`advance`.

    :param conn_id: id of the Airflow connection
    :param interval: seconds between two polls
    """

    def __init__(self, conn_id: str, interval: float) -> None:
        self._conn_id = conn_id
        self._interval = interval
        self._group: WatcherGroup | None = None

    async def open_stream(self) -> AsyncIterator[tuple[PollItem, int]]:
        """Yield each item with its number as the token for :meth:`advance`."""
        await preload_watch()
        from airflow_provider_streamsets.polling.watcher_group import watcher_group

        group = self._group = watcher_group(self._conn_id, self._interval)
        async for item in group.items():
            yield item, item.number

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Acknowledge the items whose events Airflow has processed."""
        for number, outcome in batch:
            if self._group is not None:
                self._group.acknowledge(number, clean=outcome.is_clean)

    async def aclose(self) -> None:
        """Cancel running requests and close the session."""
        if self._group is not None:
            self._group.close()
