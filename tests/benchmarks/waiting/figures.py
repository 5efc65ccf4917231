"""What is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.benchmarks.waiting.contenders import Contender


@dataclass(frozen=True)
class Figure:
    """
    One thing that was measured for some number of waiting runs.

    :param runs: how many runs were waited for
    :param interval: seconds between two looks at a run
    :param name: what was measured
    :param values: by contender; one that was not measured is missing
    :param limit: what the provider's value may be at the most; None if there is no goal
    :param unit: of the values
    :param digits: how many of them after the point tell something
    """

    runs: int
    interval: float
    name: str
    values: Mapping[Contender, float]
    limit: float | None = None
    unit: str = field(default="", kw_only=True)
    digits: int = field(default=2, kw_only=True)

    @property
    def goal_is_met(self) -> bool | None:
        """Whether the provider's value is small enough; None if there is no goal."""
        return None if self.limit is None else self.values[Contender.PROVIDER] <= self.limit
