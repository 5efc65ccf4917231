"""Reading and validating YAML and JSON documents."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class SeedError(ValueError):
    """An invalid seed or fault file; the message contains the path of the invalid value."""


class DocumentNode:
    """A value in a document, with its path for error messages."""

    def __init__(self, value: Any, path: str) -> None:
        self.value = value
        self.path = path

    def error(self, problem: str) -> SeedError:
        """Return the error for an invalid value."""
        return SeedError(f"{self.path} {problem}" if not self.path.endswith(": ") else f"{self.path}{problem}")

    def check_keys(self, *known: str) -> None:
        """
        Check that a mapping has only known keys.

        :raises SeedError: if it has others.
        """
        for key in self.mapping():
            if key not in known:
                raise self.error(f"has the unknown key '{key}'. Known keys: {', '.join(known)}.")

    def mapping(self) -> dict[str, Any]:
        """
        Return the value as a mapping.

        :raises SeedError: if it is not a mapping.
        """
        if not isinstance(self.value, dict):
            raise self.error("must be a mapping.")
        return self.value

    def has(self, key: str) -> bool:
        """Return whether a mapping has a value for a key."""
        return self.mapping().get(key) is not None

    def child(self, key: str) -> DocumentNode:
        """
        Return the value of a key.

        :raises SeedError: if it is missing.
        """
        mapping = self.mapping()
        if mapping.get(key) is None:
            raise self.error(f"has no '{key}'.")
        dot = "" if self.path.endswith(": ") else "."
        return DocumentNode(mapping[key], f"{self.path}{dot}{key}")

    def items(self) -> list[DocumentNode]:
        """
        Return the items of a list.

        :raises SeedError: if it is not a list.
        """
        if not isinstance(self.value, list):
            raise self.error("must be a list.")
        return [DocumentNode(value, f"{self.path}[{index}]") for index, value in enumerate(self.value)]

    def string(self, key: str, default: str | None = None) -> str:
        """
        Return a string.

        :raises SeedError: if it is not a scalar, or if it is empty or missing and there is no default.
        """
        if default is not None and not self.has(key):
            return default
        node = self.child(key)
        if isinstance(node.value, bool) or not isinstance(node.value, (str, int, float)):
            raise node.error("must be a string.")
        if str(node.value) == "" and default is None:
            raise node.error("must not be empty.")
        return str(node.value)

    def strings(self, key: str) -> tuple[str, ...]:
        """
        Return a list of strings, empty if it is missing.

        :raises SeedError: if it is not a list of non-empty strings.
        """
        if not self.has(key):
            return ()
        items = self.child(key).items()
        for item in items:
            if not isinstance(item.value, str) or not item.value:
                raise item.error("must be a non-empty string.")
        return tuple(item.value for item in items)

    def boolean(self, key: str, default: bool) -> bool:
        """
        Return a boolean.

        :raises SeedError: if it is not a boolean.
        """
        if not self.has(key):
            return default
        node = self.child(key)
        if not isinstance(node.value, bool):
            raise node.error("must be true or false.")
        return node.value

    def number(self, key: str, *, above: float | None = None, maximum: float | None = None) -> float:
        """
        Return a non-negative number.

        :raises SeedError: if it is not a number or out of range.
        """
        node = self.child(key)
        value = node.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise node.error("must be a number.")
        if value < 0 or (above is not None and value <= above):
            raise node.error(f"must be a number greater than {above if above is not None else 'or equal to 0'}.")
        if maximum is not None and value > maximum:
            raise node.error(f"must not be greater than {maximum}.")
        return float(value)

    def integer(self, key: str, *, minimum: int = 0) -> int:
        """
        Return an integer.

        :raises SeedError: if it is not an integer or less than the minimum.
        """
        node = self.child(key)
        if isinstance(node.value, bool) or not isinstance(node.value, int) or node.value < minimum:
            raise node.error(f"must be an integer of at least {minimum}.")
        return node.value

    def duration(self, key: str, default: str | None = None) -> int:
        """
        Return a duration in milliseconds.

        :raises SeedError: if it is not a duration, or missing and there is no default.
        """
        if default is not None and not self.has(key):
            return parse_duration(default)
        node = self.child(key)
        try:
            return parse_duration(str(node.value))
        except ValueError:
            raise node.error(f"must be a duration such as 15s, 90m, 26h or 3d, got '{node.value}'.") from None


def parse_duration(text: str) -> int:
    """
    Parse a duration such as ``15s``, ``90m``, ``26h`` or ``3d`` and return milliseconds.

    :raises ValueError: if it is not a duration.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.strip())
    if not match:
        raise ValueError(text)
    return round(float(match[1]) * _UNITS[match[2]])


def read_document(path: Path) -> Any:
    """
    Read a YAML or JSON file.

    :raises SeedError: if it cannot be read or parsed.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise SeedError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise SeedError(f"{path}: is not valid {path.suffix.lstrip('.') or 'YAML'}: {error}") from error
