"""What was measured, as a table and as JSON."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rich.table import Table

from airflow_provider_streamsets import __version__
from tests.benchmarks.waiting.contenders import MOST_THREADS, Contender
from tests.benchmarks.waiting.figures import Figure

_COLUMNS = (Contender.PROVIDER, Contender.LOOPS, Contender.THREADS)


def table(figures: Sequence[Figure]) -> Table:
    """Return a row for each figure."""
    result = Table(
        title="Waiting for many runs",
        caption="Memory is what a run needs beyond an empty trigger; of few runs, mostly what all of them share. "
        "The SDK decides itself how often it looks. "
        f"n/a (threads): nobody would have more than {MOST_THREADS} threads wait.",
    )
    for heading in ("Runs", "Interval"):
        result.add_column(heading, justify="right")
    result.add_column("Figure")
    for contender in _COLUMNS:
        result.add_column(contender.heading, justify="right")
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
            *(_value(figure, contender) for contender in _COLUMNS),
            _goal(figure),
        )
    return result


def _value(figure: Figure, contender: Contender) -> str:
    if contender in figure.values:
        return _text(figure, figure.values[contender])
    if contender is Contender.THREADS and Contender.LOOPS in figure.values and figure.runs > MOST_THREADS:
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
    """Return whether no goal is missed."""
    return all(figure.goal_is_met is not False for figure in figures)


def document(figures: Sequence[Figure], problems: Sequence[str] = ()) -> dict[str, Any]:
    """
    Return everything that was measured, for programs.

    :param figures: what was measured
    :param problems: why something was not
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
                "values": {contender.value: round(value, 6) for contender, value in figure.values.items()},
                "goal": None if figure.limit is None else {"limit": round(figure.limit, 6), "met": figure.goal_is_met},
            }
            for figure in figures
        ],
    }
