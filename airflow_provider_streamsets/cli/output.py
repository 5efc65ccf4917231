"""Output of the commands: results on standard output, everything else on standard error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.cli.simple_table import AirflowConsole
from rich.console import Console
from rich.markup import escape
from tabulate import tabulate

messages = Console(stderr=True, highlight=False, soft_wrap=True)
"""Console for messages, progress and questions."""

STRUCTURED = ("json", "yaml")
"""Formats that keep numbers, lists and null."""


def print_rows(rows: Sequence[Mapping[str, Any]], output: str, *, columns: Sequence[str] = ()) -> None:
    """
    Print a list.

    :param rows: rows with the same keys
    :param output: ``table``, ``plain``, ``json`` or ``yaml``; the last two keep numbers, lists and null
    :param columns: keys to show in a table; all by default
    """
    if output in STRUCTURED:
        _print_structured(list(rows), output)
    elif output == "plain":
        # Airflow's plain tables convert text with the form of a number, such as the version 1.10.
        cells = [{key: " ".join(_cell(value).split()) for key, value in row.items()} for row in rows]
        print(tabulate(cells, headers="keys", tablefmt="plain", disable_numparse=True))  # noqa: T201
    else:
        AirflowConsole().print_as([{key: escape(_cell(row[key])) for key in columns or row} for row in rows], "table")


def print_facts(facts: Mapping[str, Any], output: str) -> None:
    """
    Print the facts about one thing: an object in JSON and YAML, otherwise a row per fact.

    :param facts: values by name
    :param output: as for :func:`print_rows`
    """
    if output in STRUCTURED:
        _print_structured(dict(facts), output)
    else:
        rows = [[key.replace("_", " "), _cell(value)] for key, value in facts.items()]
        print(tabulate(rows, tablefmt="plain", disable_numparse=True))  # noqa: T201


def _print_structured(value: Any, output: str) -> None:
    console = AirflowConsole()
    (console.print_as_json if output == "json" else console.print_as_yaml)(value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={_cell(entry)}" for key, entry in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
