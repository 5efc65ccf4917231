"""Report measurements as a table and as JSON."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rich.table import Table

from airflow_provider_streamsets import __version__
from tests.benchmarks.measurement import Comparison, Measurement


def table(comparisons: Sequence[Comparison]) -> Table:
    """Return a table with a row for each operation and a total."""
    result = Table(
        title="HTTP requests and seconds per operation",
        caption="SDK: the official StreamSets SDK. Each operation includes a new login. Requests exclude polls; the "
        "goal applies to their ratio.",
    )
    result.add_column("Operation")
    for heading in ("Requests\nSDK", "\nprovider", "\nratio"):
        result.add_column(heading, justify="right")
    result.add_column("Goal\nratio")
    for heading in ("Polls\nSDK", "\nprovider", "Seconds\nSDK", "\nprovider", "\nratio"):
        result.add_column(heading, justify="right")
    for comparison in comparisons:
        result.add_row(*_row(comparison))
    if comparisons:
        result.add_section()
        result.add_row(*_sum(comparisons))
    return result


def _row(comparison: Comparison) -> list[str]:
    sdk, provider, operation = comparison.sdk, comparison.provider, comparison.operation
    mark = "[green]met[/green]" if comparison.goal_is_met else "[bold red]MISSED[/bold red]"
    return [
        operation.name,
        *_ratio(sdk.requests, provider.requests, "d"),
        f"<= {operation.goal:.2f} {mark}",
        *([str(sdk.polls), str(provider.polls)] if operation.poll_pattern else ["", ""]),
        *_ratio(sdk.seconds, provider.seconds, ".3f"),
    ]


def _sum(comparisons: Sequence[Comparison]) -> list[str]:
    sdk, provider = [c.sdk for c in comparisons], [c.provider for c in comparisons]
    met = sum(comparison.goal_is_met for comparison in comparisons)
    return [
        "total",
        *_ratio(sum(m.requests for m in sdk), sum(m.requests for m in provider), "d"),
        f"{met} of {len(comparisons)} met",
        str(sum(m.polls for m in sdk)),
        str(sum(m.polls for m in provider)),
        *_ratio(sum(m.seconds for m in sdk), sum(m.seconds for m in provider), ".3f"),
    ]


def _ratio(sdk: float, provider: float, form: str) -> list[str]:
    return [format(sdk, form), format(provider, form), f"{provider / sdk:.2f}"]


def document(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return all measurements in JSON form."""
    return {
        "versions": {
            "airflow-provider-streamsets": __version__,
            "streamsets": version("streamsets"),
            "python": platform.python_version(),
        },
        "goals_met": all(comparison.goal_is_met for comparison in comparisons),
        "operations": [
            {
                "name": comparison.operation.name,
                "goal": {"request_ratio": comparison.operation.goal, "met": comparison.goal_is_met},
                "sdk": _measurement(comparison.sdk),
                "provider": _measurement(comparison.provider),
                "request_ratio": round(comparison.request_ratio, 3),
                "time_ratio": round(comparison.time_ratio, 3),
            }
            for comparison in comparisons
        ],
    }


def _measurement(measurement: Measurement) -> dict[str, Any]:
    return {
        "requests": measurement.requests,
        "polls": measurement.polls,
        "seconds": round(measurement.seconds, 4),
        "calls": [str(call) for call in measurement.calls],
    }
