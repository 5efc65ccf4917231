"""Report measurements and goals as a table and as JSON."""

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
    Delays from the end of each run to a resulting event.

    :param seconds: delay of each run in seconds
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
    All measurements.

    :param plan: parameters of the measurement
    :param idle: usage of the triggerer's processes without deferred tasks
    :param waiting: usage of the triggerer's processes while all tasks were deferred
    :param requests: number of requests to the sandbox in this time, by method and path
    :param finish_spread: seconds between the first and the last end of a run
    :param to_event: delays from the end of a run to its trigger's event
    :param to_database: delays from the end of a run to the scheduling of its task in the database
    :param to_success: delays from the end of a run to the success of its task
    :param states: number of tasks by final state
    :param tries: highest try number of all tasks
    :param durations: seconds of each benchmark phase
    """

    plan: Plan
    idle: Mapping[str, Usage]
    waiting: Mapping[str, Usage]
    requests: Counter[str]
    finish_spread: float
    to_event: Delays
    to_database: Delays
    to_success: Delays
    states: Counter[str]
    tries: int
    durations: Mapping[str, float]

    @property
    def requests_per_interval(self) -> float:
        return self.requests.total() / self.plan.intervals

    @property
    def tasks_per_second(self) -> float:
        """Rate at which resumed tasks succeeded."""
        seconds = self.to_success.seconds
        return (len(seconds) - 1) / max(max(seconds) - min(seconds), 1.0)

    @property
    def lost(self) -> int:
        """Number of tasks with an unexpected final state: finished ones must be successful, others deferred."""
        plan = self.plan
        return (
            plan.waits
            - min(self.states["success"], plan.finishing)
            - min(self.states["deferred"], plan.waits - plan.finishing)
        )

    @property
    def goals(self) -> dict[str, bool]:
        """Whether each goal was met."""
        return {
            "requests": self.requests_per_interval <= self.plan.requests_goal,
            "median": self.to_event.median < self.plan.median_goal,
            "worst": self.to_event.worst < self.plan.worst_goal,
            "finish_spread": self.finish_spread <= 1,
            "no_task_lost": self.lost == 0 and self.tries == 1,
        }


def table(result: Result) -> Table:
    """Return a table with a row for each figure."""
    plan, goals = result.plan, result.goals
    rows = Table(
        title=f"{plan.waits} deferred tasks on a real triggerer, poll interval {plan.interval:g} s",
        caption=f"Requests and CPU are per interval, averaged over {plan.intervals}. The time of an event is that of "
        "the triggerer's log line. The task is scheduled in the database when the triggerer's supervisor has stored "
        "the event.",
    )
    rows.add_column("Figure")
    rows.add_column("Measured", justify="right")
    rows.add_column("Goal")
    rows.add_row(
        "Requests to Control Hub by the triggerer",
        f"{result.requests_per_interval:.1f}",
        _goal(f"<= {plan.requests_goal}", goals["requests"]),
    )
    for name, usage in result.waiting.items():
        rows.add_row(f"CPU of the triggerer's {name}", f"{usage.cpu / plan.intervals:.2f} s", "")
        rows.add_row("  without deferred tasks", f"{result.idle[name].cpu:.2f} s", "")
    rows.add_section()
    rows.add_row(
        f"{plan.finishing} runs finish within",
        f"{result.finish_spread:.2f} s",
        _goal("<= 1 s", goals["finish_spread"]),
    )
    rows.add_row(
        "  to the trigger's event, median",
        f"{result.to_event.median:.1f} s",
        _goal(f"< {plan.median_goal:g} s", goals["median"]),
    )
    rows.add_row("  worst", f"{result.to_event.worst:.1f} s", _goal(f"< {plan.worst_goal:g} s", goals["worst"]))
    rows.add_row("  to scheduling in the database, median", f"{result.to_database.median:.1f} s", "")
    rows.add_row("  worst", f"{result.to_database.worst:.1f} s", "")
    rows.add_row("  to the success of the task, median", f"{result.to_success.median:.1f} s", "")
    rows.add_row("  worst", f"{result.to_success.worst:.1f} s", "")
    rows.add_row("  tasks per second, as limited by the workers", f"{result.tasks_per_second:.1f}", "")
    rows.add_section()
    rows.add_row("Failed, retried or lost tasks", str(result.lost), _goal("0", goals["no_task_lost"]))
    return rows


def _goal(text: str, met: bool) -> str:
    return f"{text} " + ("[green]met[/green]" if met else "[bold red]MISSED[/bold red]")


def document(result: Result) -> dict[str, Any]:
    """Return all measurements in JSON form."""
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
        "to_success": _delays(result.to_success),
        "tasks_per_second": round(result.tasks_per_second, 2),
        "states": dict(result.states),
        "tries": result.tries,
        "durations": {phase: round(seconds, 1) for phase, seconds in result.durations.items()},
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
