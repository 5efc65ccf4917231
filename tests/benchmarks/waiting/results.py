"""Report figures as a table and as JSON."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rich.table import Table

from airflow_provider_streamsets import __version__
from tests.benchmarks.waiting.figures import Figure
from tests.benchmarks.waiting.strategies import MAX_THREADS, Strategy

_COLUMNS = (Strategy.PROVIDER, Strategy.LOOPS, Strategy.THREADS)


def table(figures: Sequence[Figure]) -> Table:
    """Return a table with a row for each figure."""
    result = Table(
        title="Waiting for many runs",
        caption="Memory is per run, in addition to an empty trigger; for few runs, most of it is shared overhead. "
        "The SDK uses its own poll interval. "
        f"n/a (threads): not measured with more than {MAX_THREADS} threads.",
    )
    for heading in ("Runs", "Interval"):
        result.add_column(heading, justify="right")
    result.add_column("Figure")
    for strategy in _COLUMNS:
        result.add_column(strategy.heading, justify="right")
    result.add_column("Goal")
    before: tuple[int, float] | None = None
    for figure in figures:
        if before not in (None, (figure.runs, figure.interval)):
            result.add_section()
        before = figure.runs, figure.interval
        result.add_row(
            f"{figure.runs:,}",
            f"{figure.interval:g} s",
            figure.name,
            *(_value(figure, strategy) for strategy in _COLUMNS),
            _goal(figure),
        )
    return result


def _value(figure: Figure, strategy: Strategy) -> str:
    if strategy in figure.values:
        return _text(figure, figure.values[strategy])
    if strategy is Strategy.THREADS and Strategy.LOOPS in figure.values and figure.runs > MAX_THREADS:
        return "n/a (threads)"
    return ""


def _text(figure: Figure, value: float) -> str:
    return f"{value:,.{figure.digits}f} {figure.unit}".rstrip()


def _goal(figure: Figure) -> str:
    if figure.limit is None:
        return ""
    mark = "[green]met[/green]" if figure.goal_is_met else "[bold red]MISSED[/bold red]"
    return f"<= {_text(figure, figure.limit)} {mark}"


def goals_are_met(figures: Sequence[Figure]) -> bool:
    """Return whether all goals are met."""
    return all(figure.goal_is_met is not False for figure in figures)


def document(figures: Sequence[Figure], problems: Sequence[str] = ()) -> dict[str, Any]:
    """
    Return all figures in JSON form.

    :param figures: the figures
    :param problems: reasons for failed measurements
    """
    return {
        "versions": {
            "airflow-provider-streamsets": __version__,
            "apache-airflow": version("apache-airflow"),
            "aiohttp": version("aiohttp"),
            "streamsets": version("streamsets"),
            "python": platform.python_version(),
        },
        "goals_met": goals_are_met(figures) and not problems,
        "problems": list(problems),
        "figures": [
            {
                "runs": figure.runs,
                "interval": figure.interval,
                "name": figure.name,
                "unit": figure.unit,
                "values": {strategy.value: round(value, 6) for strategy, value in figure.values.items()},
                "goal": None if figure.limit is None else {"limit": round(figure.limit, 6), "met": figure.goal_is_met},
            }
            for figure in figures
        ],
    }
