"""Names and texts in a snapshot: without secrets, and anonymised on request."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

REDACTED = "***"
DEFAULT_LABEL = "all"
"""Engine label that Control Hub gives to every engine."""

_SECRET = re.compile(
    r"pass(word|wd|code|phrase)|pwd|secret|token|credential|signature|bearer|auth(?!or(?!i))"
    r"|(?<![a-z])(pass|pw|sas)(?![a-z])"
    r"|(api|access|account|private|shared|encryption|ssh|client|master|storage|signing|subscription)[\W_]?key"
    r"|://[^/\s@]+@|-----BEGIN",
    re.IGNORECASE,
)


def may_be_secret(text: str) -> bool:
    """Return whether a text, or the value of a parameter with this name, may contain a secret."""
    return bool(_SECRET.search(text))


class SnapshotNames:
    """
    Converts names, texts and values of an organization to those of a snapshot.

    :param anonymise: replace names and values by numbered ones, the same one each time, and leave out texts
    """

    def __init__(self, anonymise: bool) -> None:
        self.anonymise = anonymise
        self._replaced: defaultdict[str, dict[str, str]] = defaultdict(dict)

    def name(self, kind: str, name: str) -> str:
        """
        Return a name, or its replacement.

        :param kind: start of the replacement, for example ``"Job "``
        :param name: the name
        """
        if not self.anonymise:
            return name
        replaced = self._replaced[kind]
        return replaced.setdefault(name, f"{kind}{len(replaced) + 1}")

    def label(self, label: str) -> str:
        """Return an engine label, or its replacement."""
        return label if label == DEFAULT_LABEL else self.name("label-", label)

    def tag(self, tag: str) -> str:
        """Return a tag, or its replacement on the same level of the hierarchy."""
        return "/".join(self.name("tag-", part) for part in tag.split("/"))

    def parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return runtime parameters, with replacements for values that may be secrets."""
        return {self.name("PARAMETER_", name): self._value(name, value) for name, value in parameters.items()}

    def _value(self, name: str, value: Any) -> Any:
        if value is None or value == "":
            return ""
        if isinstance(value, (dict, list)):
            value = json.dumps(value)
        if may_be_secret(name) or may_be_secret(str(value)):
            return REDACTED
        return self.name("value-", str(value)) if self.anonymise else value

    def text(self, text: str | None) -> str:
        """Return a free text; empty if it may contain a secret, and in an anonymised snapshot."""
        return "" if not text or self.anonymise or may_be_secret(text) else text


def unique_keys(names: dict[str, str]) -> dict[str, str]:
    """
    Return keys that are unique although names are not: the name, with a number from its second use on.

    :param names: names by id
    """
    keys: dict[str, str] = {}
    taken = set(names.values())
    seen: set[str] = set()
    for item_id, name in names.items():
        key, number = name, 1
        while key in seen or (number > 1 and key in taken):
            number += 1
            key = f"{name} ({number})"
        seen.add(key)
        keys[item_id] = key
    return keys
