"""
Rows that a released version stored stay valid.

``stored_rows_<version>.json`` holds rows of every trigger, with all arguments set. After a release, the file of that
release is kept as it is, and only files of new versions are added: deferred tasks wait across upgrades, so a new
version reads the rows of earlier ones.

``python -m tests.unit.triggers.test_stored_rows`` writes the file of the current, unreleased version: the newest rows
with new arguments, which have their defaults, and an empty row for each new trigger. Then set these by hand.
"""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.triggers.base import BaseTrigger
from packaging.version import Version

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.get_provider_info import get_provider_info

PREFIX = "stored_rows_"
CURRENT = Path(__file__).with_name(f"{PREFIX}{__version__}.json")
FILES = sorted(CURRENT.parent.glob(f"{PREFIX}*.json"), key=lambda file: Version(file.stem.removeprefix(PREFIX)))


def rows_in(file: Path) -> list[dict[str, Any]]:
    return list(json.loads(file.read_text("utf-8")))


ROWS = [
    pytest.param(row, id=f"{file.stem}-{row['classpath'].rpartition('.')[2]}-{number}")
    for file in FILES
    for number, row in enumerate(rows_in(file))
]


def create(row: dict[str, Any]) -> Any:
    module, _, name = row["classpath"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**row["kwargs"])


def class_paths() -> set[str]:
    return {
        f"{module}.{name}"
        for entry in get_provider_info()["triggers"]
        for module in entry["python-modules"]
        for name, found in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if found.__module__ == module and issubclass(found, BaseTrigger) and name.startswith("ControlHub")
    }


@pytest.mark.parametrize("row", ROWS)
def test_stored_row_is_unchanged_by_trigger(row):
    path, arguments = create(row).serialize()
    assert path == row["classpath"]
    assert {name: arguments[name] for name in row["kwargs"]} == row["kwargs"]


@pytest.mark.parametrize("row", ROWS)
def test_stored_row_passes_through_airflow(row):
    made = create(row)
    assert Trigger(*made.serialize()).kwargs == made.serialize()[1]


def test_current_rows_set_all_arguments_of_all_triggers():
    rows = rows_in(CURRENT)
    assert {row["classpath"] for row in rows} == class_paths()
    missing = []
    for path in class_paths():
        kind = type(create({"classpath": path, "kwargs": {}}))
        for name, parameter in inspect.signature(kind).parameters.items():
            values = [row["kwargs"][name] for row in rows if row["classpath"] == path]
            if all(value == parameter.default for value in values):
                missing.append((path, name))
    assert not missing


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_packed_runs_are_those_of_plain_row(file):
    (plain, packed) = (create(row) for row in rows_in(file) if "packed" in row["kwargs"])
    packed._unpack()
    assert packed.serialize() == plain.serialize()


def write_current() -> None:
    rows = rows_in(FILES[-1])
    new = sorted(class_paths() - {row["classpath"] for row in rows})
    triggers = [create(row) for row in [*rows, *({"classpath": path, "kwargs": {}} for path in new)]]
    for trigger in triggers:
        # As in the triggerer: watchers are not checked.
        trigger.trigger_id = 1
    stored = [dict(zip(("classpath", "kwargs"), trigger.serialize(), strict=True)) for trigger in triggers]
    CURRENT.write_text(json.dumps(stored, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    write_current()
