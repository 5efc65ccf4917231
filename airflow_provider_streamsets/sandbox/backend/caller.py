"""
The caller of a request, which tests can name in a header of the sandbox.

The caller appears in the sandbox's own logs only. Responses of Control Hub cannot distinguish clients with the same
credential.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

CALLER_HEADER = "X-Sandbox-Caller"
"""Name of the header; its value may be any text."""

_caller: ContextVar[str | None] = ContextVar("caller", default=None)


def current_caller() -> str | None:
    """Return the caller of the current request, or None if the request names no caller."""
    return _caller.get()


@contextmanager
def caller_context(caller: str | None) -> Iterator[None]:
    """
    Set the caller for the duration of the context.

    :param caller: the caller, or None if it is unknown.
    """
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)
