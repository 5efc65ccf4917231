"""
Arguments of triggers, declared once as fields of a dataclass.

Airflow stores them, and creates the trigger from them, possibly with another version of this provider: an error in a
constructor would end the triggerer, with all its triggers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, TypeVar

_Kind = TypeVar("_Kind", bound=type)


@functools.cache
def trigger_fields(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    """Return the fields that are arguments of a trigger. Cached: thousands of triggers can start together."""
    return tuple(field for field in dataclasses.fields(kind) if field.init)


def ignore_unknown_arguments(kind: _Kind) -> _Kind:
    """
    Let the constructor of a dataclass ignore arguments that it does not have, such as those of a later version.

    Arguments that equal their defaults are left to the class: thousands of triggers store nearly all of them.
    """
    names = frozenset(field.name for field in trigger_fields(kind))

    @functools.wraps(kind.__init__)  # type: ignore[misc]
    def __init__(self: Any, /, **arguments: Any) -> None:  # noqa: N807
        super(StoredArguments, self).__init__()
        for name, value in arguments.items():
            if name in names:
                default = getattr(type(self), name)
                if type(value) is not type(default) or value != default:
                    setattr(self, name, value)
        if not arguments.keys() <= names:
            self.unknown_arguments = sorted(arguments.keys() - names)

    kind.__init__ = __init__  # type: ignore[misc]
    return kind


class StoredArguments:
    """
    Mixin of triggers, before Airflow's base class.

    Each class is a keyword-only dataclass, without equality and ``repr``, which are Airflow's, and decorated with
    :func:`ignore_unknown_arguments`. All fields have defaults.
    """

    unknown_arguments: Sequence[str] = ()
    """Names of the arguments that were ignored."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and all arguments, which Airflow stores."""
        kind: type = type(self)
        return f"{kind.__module__}.{kind.__qualname__}", {
            field.name: getattr(self, field.name) for field in trigger_fields(kind)
        }

    def warn_about_unknown_arguments(self, log: Any) -> None:
        """
        Log the ignored arguments. Not done in the constructor, where the log is not yet that of the task.

        :param log: logger of the trigger
        """
        if self.unknown_arguments:
            log.warning(
                "Ignoring the unknown arguments %s, which another version of the provider stored for %s.",
                ", ".join(map(repr, self.unknown_arguments)),
                type(self).__name__,
            )
