"""Ids and other texts as parts of messages."""

from __future__ import annotations

from collections.abc import Sequence


def describe_ids(ids: list[str], kind: str = "job") -> str:
    """Return what a request for these ids is about, for messages: the one, or how many."""
    return f"{kind} {ids[0]}" if len(ids) == 1 else f"{len(ids)} {kind}s"


def join_truncated(texts: Sequence[str], separator: str = ", ", most: int = 10) -> str:
    """Return texts as one, for messages, saying how many are left out."""
    shown = separator.join(texts[:most])
    return f"{shown}{separator}and {len(texts) - most} more" if len(texts) > most else shown
