"""Measured figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.benchmarks.waiting.strategies import Strategy


@dataclass(frozen=True)
class Figure:
    """
    A figure measured for a number of awaited runs.

    :param runs: number of awaited runs
    :param interval: poll interval in seconds
    :param name: name of the figure
    :param values: values by strategy; strategies that were not measured are missing
    :param limit: maximum for the provider's value; None without a goal
    :param unit: unit of the values
    :param digits: number of significant decimal places
    """

    runs: int
    interval: float
    name: str
    values: Mapping[Strategy, float]
    limit: float | None = None
    unit: str = field(default="", kw_only=True)
    digits: int = field(default=2, kw_only=True)

    @property
    def goal_is_met(self) -> bool | None:
        """Whether the provider's value is within the limit; None without a goal."""
        return None if self.limit is None else self.values[Strategy.PROVIDER] <= self.limit
