"""A metrics backend that records what is emitted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any


class RecordedStats:
    """Records metrics in place of Airflow's ``Stats``."""

    def __init__(self) -> None:
        self.emitted: list[tuple[str, float, dict[str, str]]] = []
        """Name, value (seconds for timings) and tags of each metric."""

    def incr(self, name: str, count: int = 1, *, tags: dict[str, str]) -> None:
        self.emitted.append((name, count, tags))

    def gauge(self, name: str, value: float, *, tags: dict[str, str]) -> None:
        self.emitted.append((name, value, tags))

    def timing(self, name: str, dt: timedelta, *, tags: dict[str, str]) -> None:
        self.emitted.append((name, dt.total_seconds(), tags))

    def values(self, name: str, **tags: Any) -> list[float]:
        """Return the values of a metric, only those with certain tags."""
        return [v for n, v, own in self.emitted if n == name and tags.items() <= own.items()]

    def names(self) -> set[str]:
        """Return the names of all metrics."""
        return {name for name, _, _ in self.emitted}
