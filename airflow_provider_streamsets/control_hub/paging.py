"""Reading lists that come in pages (contract, section 2)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from airflow_provider_streamsets.control_hub._json import JsonReader, as_object, checked_depth

log = logging.getLogger(__name__)

PAGE_LENGTH = 250
# How often a list that changes meanwhile is read again from its beginning.
_MAX_RESTARTS = 4

_Item = TypeVar("_Item")


def paginate(read_page: Callable[[int, int], Any], action: str, *, identity: str = "id") -> Iterator[dict[str, Any]]:
    """
    Yield the entries of all pages, asking for a page when it is needed.

    Ends at an empty page, at the total that the server states, and at a page that brings nothing new, which is what
    a server that ignores `offset` sends. No entry is given twice, not even one that a change to the list has moved to
    a later page. Each page begins with the last entry of the one before: if it has gone from there, entries have left
    the list, which may have moved others to pages that were read before, and the list is read again from its beginning.

    :param read_page: called with offset and length; returns a wrapper or a bare array
    :param action: name of the entries, for messages
    :param identity: the field that tells two entries apart
    """
    offset = restarts = 0
    last: str | None = None
    given: set[str] = set()
    read: set[str] = set()
    while True:
        answer = read_page(offset, PAGE_LENGTH)
        total = 0
        if isinstance(answer, list):
            entries = answer
        else:
            wrapper = JsonReader(answer, f"page of {action}")
            entries, total = wrapper.array("data"), wrapper.integer("totalCount")
        page = {_identity(as_object(entry, action), identity): entry for entry in entries}
        yield from (entry for key, entry in page.items() if key not in given)
        given.update(page)
        if last is not None and last not in page:
            restarts += 1
            if restarts <= _MAX_RESTARTS:
                offset, last = 0, None
                read.clear()
                continue
            if restarts == _MAX_RESTARTS + 1:
                log.warning("The list of %s kept changing while it was read; some may be missing.", action)
        if page.keys() <= read or 0 < total <= offset + len(entries):
            return
        read.update(page)
        # A server that gives one entry at a time leaves no room for an overlap.
        overlap = 1 if len(entries) > 1 else 0
        last = _identity(entries[-1], identity) if overlap else None
        offset += len(entries) - overlap


def _identity(entry: Mapping[str, Any], field: str) -> str:
    identifier = entry.get(field)
    return identifier if isinstance(identifier, str) else repr(checked_depth(entry, "an entry without an id"))


def chunked(items: list[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield `items` in lists of up to `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
