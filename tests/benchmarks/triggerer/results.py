"""What was measured, against its goals, as a table and as JSON."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

from rich.table import Table

from airflow_provider_streamsets import __version__
from tests.benchmarks.triggerer.plan import Plan
from tests.benchmarks.triggerer.processes import Usage


@dataclass(frozen=True)
class Delays:
    """
    Seconds from the end of each run to something that follows from it.

    :param seconds: one for each run
    """

    seconds: Sequence[float]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def worst(self) -> float:
        return max(self.seconds)


@dataclass(frozen=True)
class Result:
    """
    All that was measured.

    :param idle: what the processes of the triggerer used while nothing was deferred
    :param waiting: the same while all tasks were deferred
    :param requests: how many requests the sandbox had meanwhile, by method and path
    :param finish_spread: seconds between the first and the last end of a run
    :param to_event: from the end of a run to the event of its trigger
    :param to_database: from the end of a run to the task being scheduled in the database
    :param states: the tasks at the end
    :param tries: how many tries the task has had that has had most
    :param took: seconds that each part of the benchmark has taken
    """

    plan: Plan
    idle: Mapping[str, Usage]
    waiting: Mapping[str, Usage]
    requests: Counter[str]
    finish_spread: float
    to_event: Delays
    to_database: Delays
    states: Counter[str]
    tries: int
    took: Mapping[str, float]

    @property
    def requests_per_interval(self) -> float:
        return self.requests.total() / self.plan.intervals

    @property
    def lost(self) -> int:
        """Tasks that are not what they must be at the end: the finished ones successful, the others deferred."""
        plan = self.plan
        return (
            plan.waits
            - min(self.states["success"], plan.finishing)
            - min(self.states["deferred"], plan.waits - plan.finishing)
        )

    @property
    def goals(self) -> dict[str, bool]:
        """Whether each goal is met."""
        return {
            "requests": self.requests_per_interval <= self.plan.requests_goal,
            "median": self.to_event.median < self.plan.median_goal,
            "worst": self.to_event.worst < self.plan.worst_goal,
            "finish_spread": self.finish_spread <= 1,
            "no_task_lost": self.lost == 0 and self.tries == 1,
        }


def table(result: Result) -> Table:
    """Return a row for each figure."""
    plan, goals = result.plan, result.goals
    rows = Table(
        title=f"{plan.waits} deferred tasks on a real triggerer, each looking every {plan.interval:g} s",
        caption=f"Requests and CPU are for one interval, on average over {plan.intervals}. The trigger's event is the "
        "triggerer's log line about it; the database has the task scheduled when the triggerer's supervisor has "
        "stored that event.",
    )
    rows.add_column("Figure")
    rows.add_column("Measured", justify="right")
    rows.add_column("Goal")
    rows.add_row(
        "Requests to Control Hub, all of the triggerer's",
        f"{result.requests_per_interval:.1f}",
        _goal(f"<= {plan.requests_goal}", goals["requests"]),
    )
    for name, usage in result.waiting.items():
        rows.add_row(f"CPU of the triggerer's {name}", f"{usage.cpu / plan.intervals:.2f} s", "")
        rows.add_row("  the same with nothing deferred", f"{result.idle[name].cpu:.2f} s", "")
    rows.add_section()
    rows.add_row(
        f"{plan.finishing} runs end within",
        f"{result.finish_spread:.2f} s",
        _goal("<= 1 s", goals["finish_spread"]),
    )
    rows.add_row(
        "  from there to the trigger's event, median",
        f"{result.to_event.median:.1f} s",
        _goal(f"< {plan.median_goal:g} s", goals["median"]),
    )
    rows.add_row("  worst", f"{result.to_event.worst:.1f} s", _goal(f"< {plan.worst_goal:g} s", goals["worst"]))
    rows.add_row("  from there to the database, median", f"{result.to_database.median:.1f} s", "")
    rows.add_row("  worst", f"{result.to_database.worst:.1f} s", "")
    rows.add_section()
    rows.add_row("Tasks that failed, were tried again or got lost", str(result.lost), _goal("0", goals["no_task_lost"]))
    return rows


def _goal(text: str, met: bool) -> str:
    return f"{text} " + ("[green]met[/green]" if met else "[bold red]MISSED[/bold red]")


def document(result: Result) -> dict[str, Any]:
    """Return everything that was measured, for programs."""
    return {
        "versions": {
            "airflow-provider-streamsets": __version__,
            "apache-airflow": version("apache-airflow"),
            "python": platform.python_version(),
        },
        "plan": asdict(result.plan),
        "goals_met": all(result.goals.values()),
        "goals": result.goals,
        "requests_per_interval": round(result.requests_per_interval, 2),
        "requests": dict(result.requests),
        "triggerer_idle_for_one_interval": _usages(result.idle),
        "triggerer_waiting_for_all_intervals": _usages(result.waiting),
        "finish_spread": round(result.finish_spread, 3),
        "to_event": _delays(result.to_event),
        "to_database": _delays(result.to_database),
        "states": dict(result.states),
        "tries": result.tries,
        "took": {part: round(seconds, 1) for part, seconds in result.took.items()},
    }


def _usages(usages: Mapping[str, Usage]) -> dict[str, dict[str, float]]:
    return {
        name: {"cpu": round(usage.cpu, 2), "memory": round(usage.memory, 1), "files": usage.files}
        for name, usage in usages.items()
    }


def _delays(delays: Delays) -> dict[str, Any]:
    return {
        "median": round(delays.median, 2),
        "worst": round(delays.worst, 2),
        "all": sorted(round(seconds, 2) for seconds in delays.seconds),
    }
