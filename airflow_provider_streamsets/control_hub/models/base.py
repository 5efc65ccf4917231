"""Base class of the models, and the pages of lists."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import pendulum

from airflow_provider_streamsets.control_hub._json import JsonReader


def _to_json(value: Any) -> Any:
    if isinstance(value, Model):
        return value.to_dict()
    if isinstance(value, pendulum.DateTime):
        return value.to_iso8601_string()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    return value


class Model:
    """Base class of the models, with conversion to JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return the model as JSON: times in ISO 8601, tuples as lists."""
        return {f.name: _to_json(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Page(Model):
    """A page of a list (contract section 2)."""

    entries: list[Any]
    total: int = 0
    """Number of entries on all pages; 0 if unknown."""

    @classmethod
    def from_wire(cls, value: object, name: str) -> Page:
        """
        Parse a page, with or without a wrapper object.

        :param name: name of the page, for messages
        """
        if isinstance(value, list):
            return cls(value)
        read = JsonReader(value, name)
        return cls(read.array("data"), read.integer("totalCount"))
