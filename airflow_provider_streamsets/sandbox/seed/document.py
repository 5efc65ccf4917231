"""A value in the document of a seed or of faults, checked as it is read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class SeedError(ValueError):
    """A file, of a seed or of faults, that cannot be used; the message names the place in it."""


class Place:
    """A value in the document that knows where it is, for error messages."""

    def __init__(self, value: Any, path: str) -> None:
        self.value = value
        self.path = path

    def wrong(self, what: str) -> SeedError:
        """Return the error that says what is wrong here."""
        return SeedError(f"{self.path} {what}" if not self.path.endswith(": ") else f"{self.path}{what}")

    def only(self, *known: str) -> None:
        """
        Check that a mapping has no other keys.

        :raises SeedError: if it has.
        """
        for key in self.mapping():
            if key not in known:
                raise self.wrong(f"has the unknown key '{key}'; known are: {', '.join(known)}")

    def mapping(self) -> dict[str, Any]:
        """
        Return the value as a mapping.

        :raises SeedError: if it is none.
        """
        if not isinstance(self.value, dict):
            raise self.wrong("must be a mapping")
        return self.value

    def has(self, key: str) -> bool:
        """Return whether a mapping has a value of that key."""
        return self.mapping().get(key) is not None

    def at(self, key: str) -> Place:
        """
        Return the place of a key.

        :raises SeedError: if the mapping lacks it.
        """
        mapping = self.mapping()
        if mapping.get(key) is None:
            raise self.wrong(f"lacks '{key}'")
        dot = "" if self.path.endswith(": ") else "."
        return Place(mapping[key], f"{self.path}{dot}{key}")

    def items(self) -> list[Place]:
        """
        Return the places of a list.

        :raises SeedError: if it is none.
        """
        if not isinstance(self.value, list):
            raise self.wrong("must be a list")
        return [Place(value, f"{self.path}[{index}]") for index, value in enumerate(self.value)]

    def text(self, key: str, default: str | None = None) -> str:
        """
        Return a text.

        :raises SeedError: if it is none, or empty or missing without a default.
        """
        if default is not None and not self.has(key):
            return default
        place = self.at(key)
        if isinstance(place.value, bool) or not isinstance(place.value, (str, int, float)):
            raise place.wrong("must be text")
        if str(place.value) == "" and default is None:
            raise place.wrong("must not be empty")
        return str(place.value)

    def texts(self, key: str) -> tuple[str, ...]:
        """
        Return a list of texts, empty if there is none.

        :raises SeedError: if it is something else.
        """
        if not self.has(key):
            return ()
        items = self.at(key).items()
        for item in items:
            if not isinstance(item.value, str) or not item.value:
                raise item.wrong("must be text")
        return tuple(item.value for item in items)

    def flag(self, key: str, default: bool) -> bool:
        """
        Return a boolean.

        :raises SeedError: if it is none.
        """
        if not self.has(key):
            return default
        place = self.at(key)
        if not isinstance(place.value, bool):
            raise place.wrong("must be true or false")
        return place.value

    def number(self, key: str, *, above: float | None = None, most: float | None = None) -> float:
        """
        Return a number that is not negative.

        :raises SeedError: if it is none, or beyond its limits.
        """
        place = self.at(key)
        value = place.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise place.wrong("must be a number")
        if value < 0 or (above is not None and value <= above):
            raise place.wrong(f"must be a number greater than {above if above is not None else 'or equal to 0'}")
        if most is not None and value > most:
            raise place.wrong(f"must not be greater than {most}")
        return float(value)

    def whole(self, key: str, *, least: int = 0) -> int:
        """
        Return a whole number.

        :raises SeedError: if it is none, or less than the least.
        """
        place = self.at(key)
        if isinstance(place.value, bool) or not isinstance(place.value, int) or place.value < least:
            raise place.wrong(f"must be a whole number, at least {least}")
        return place.value

    def duration(self, key: str, default: str | None = None) -> int:
        """
        Return the milliseconds of a duration.

        :raises SeedError: if it is none, or missing without a default.
        """
        if default is not None and not self.has(key):
            return parse_duration(default)
        place = self.at(key)
        try:
            return parse_duration(str(place.value))
        except ValueError:
            raise place.wrong(f"must be a duration such as 15s, 90m, 26h, 3d, not '{place.value}'") from None


def parse_duration(text: str) -> int:
    """
    Return the milliseconds of a duration such as ``15s``, ``90m``, ``26h``, ``3d``.

    :raises ValueError: if it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.strip())
    if not match:
        raise ValueError(text)
    return round(float(match[1]) * _UNITS[match[2]])


def read_document(path: Path) -> Any:
    """
    Return what a YAML or JSON file holds.

    :raises SeedError: if it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise SeedError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise SeedError(f"{path}: is no valid {path.suffix.lstrip('.') or 'YAML'}: {error}") from error
