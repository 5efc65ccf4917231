"""
Who sends a request, as tests tell the sandbox in a header that Control Hub does not know.

The caller is kept in the sandbox's own logs, and shown in no answer of Control Hub: clients with the same credential
look the same there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HEADER = "X-Sandbox-Caller"
"""Any text; it is neither parsed nor checked."""

_caller: ContextVar[str | None] = ContextVar("caller", default=None)


def current_caller() -> str | None:
    """Return the caller of the request that is being processed, None if it names none."""
    return _caller.get()


@contextmanager
def acting_for(caller: str | None) -> Iterator[None]:
    """
    Process something for a caller.

    :param caller: the caller, None if it is not known.
    """
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)
