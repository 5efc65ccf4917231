"""Metrics of the pollers."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from airflow.utils.net import get_hostname

from airflow_provider_streamsets.compat import server_stats
from airflow_provider_streamsets.control_hub.errors import ControlHubPermissionError

if TYPE_CHECKING:
    from airflow_provider_streamsets.polling.request_rate import RequestRate

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# Ids of connections can have characters that separate the parts of a line of StatsD.
_INVALID_IN_TAG = re.compile(r"[^\w.-]")


class PollerStats:
    """
    Emits the metrics of a poller to Airflow's metrics backend, from the thread of its polls.

    :param poller: what it polls for: ``tasks`` or ``assets``
    :param conn_id: id of the Airflow connection
    :param now: clock in seconds
    """

    def __init__(self, poller: str, conn_id: str, now: Callable[[], float]) -> None:
        self._poller, self._conn_id = poller, conn_id
        self._now = now
        self._failing_since: float | None = None
        self._is_emitted = False
        self._is_closed = False
        self._lock = threading.Lock()
        self.due: float | None = None
        """When the next poll is due; None if the poller has no schedule."""
        self.waiting_runs: int | None = None
        """Number of runs that tasks wait for; None for a poller of assets."""
        self.rate: RequestRate | None = None
        """Request rate of the connection; set by the sender."""

    def run(self, poll: Callable[[], _Result]) -> _Result:
        """
        Run a poll, and emit its metrics.

        :param poll: the poll
        :raises ControlHubError: as raised by the poll
        """
        began, has_failed = self._now(), True
        try:
            result = poll()
            has_failed = False
            return result
        except ControlHubPermissionError:
            # The user may not read a job; others can be polled.
            has_failed = False
            raise
        finally:
            if not has_failed:
                self._failing_since = None
            elif self._failing_since is None:
                self._failing_since = began
            with self._lock:
                if not self._is_closed:
                    self._emit(
                        result="failed" if has_failed else "succeeded",
                        delay=None if self.due is None else max(began - self.due, 0.0),
                        outage=0.0 if self._failing_since is None else self._now() - self._failing_since,
                        waiting_runs=self.waiting_runs,
                        request_limit=0.0 if self.rate is None else self.rate.limit or 0.0,
                    )

    @cached_property
    def _tags(self) -> dict[str, str]:
        # Finding the host name can block.
        conn_id = _INVALID_IN_TAG.sub("_", self._conn_id)
        return {"poller": self._poller, "conn_id": conn_id, "hostname": get_hostname()}

    def close(self) -> None:
        """Reset the gauges, which would keep their last values, also if a poll has not ended yet."""
        with self._lock:
            self._is_closed = True
            if self._is_emitted:
                self._emit(outage=0.0, waiting_runs=None if self.waiting_runs is None else 0, request_limit=0.0)

    def _emit(
        self,
        *,
        outage: float,
        waiting_runs: int | None,
        request_limit: float,
        result: str | None = None,
        delay: float | None = None,
    ) -> None:
        self._is_emitted = True
        try:
            stats, tags = server_stats(), self._tags
            if result is not None:
                stats.incr("streamsets.poller.polls", tags={**tags, "result": result})
            if delay is not None:
                stats.timing("streamsets.poller.delay", timedelta(seconds=delay), tags=tags)
            stats.gauge("streamsets.poller.outage_duration", outage, tags=tags)
            stats.gauge("streamsets.poller.request_limit", request_limit, tags=tags)
            if waiting_runs is not None:
                stats.gauge("streamsets.poller.waiting_runs", waiting_runs, tags=tags)
        except Exception:
            # The backend is configurable, and must not affect polling.
            log.exception("Could not emit the metrics of a poll.")
