"""Formatting of ids and lists for messages."""

from __future__ import annotations

from collections.abc import Sequence


def describe_ids(ids: list[str], kind: str = "job") -> str:
    """Return the only id, or the number of ids, for messages."""
    return f"{kind} {ids[0]}" if len(ids) == 1 else f"{len(ids)} {kind}s"


def join_truncated(texts: Sequence[str], separator: str = ", ", max_items: int = 10) -> str:
    """Join texts for messages, and append how many were omitted."""
    joined = separator.join(texts[:max_items])
    return f"{joined}{separator}and {len(texts) - max_items} more" if len(texts) > max_items else joined
