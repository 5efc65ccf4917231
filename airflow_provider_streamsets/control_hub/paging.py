"""Pagination and batching (contract section 2)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from airflow_provider_streamsets.control_hub._json import as_object, checked_depth
from airflow_provider_streamsets.control_hub.models import Page

log = logging.getLogger(__name__)

PAGE_LENGTH = 250
# How often a list that changes while it is read is restarted from the first page.
_MAX_RESTARTS = 4

_Item = TypeVar("_Item")


def page_params(offset: int, length: int, *, wrapped: bool | None = None) -> dict[str, Any]:
    """
    Return the query parameters of a page.

    :param offset: number of entries before the page
    :param length: maximum number of entries; -1 for all
    :param wrapped: request a wrapper object with the total; None if the call has no such parameter
    """
    return {"offset": offset, "len": length, "withWrapper": None if wrapped is None else str(wrapped).lower()}


def sort_params(field: str, order: str | None = None) -> dict[str, Any]:
    """
    Return the query parameters of a sort order.

    :param field: Control Hub's name of the sort key
    :param order: ``ASC`` or ``DESC``; None if the call has no such parameter
    """
    return {"orderBy": field, "order": order}


def paginate(
    read_page: Callable[[int, int], Any], entry_name: str, *, key_field: str = "id"
) -> Iterator[dict[str, Any]]:
    """
    Yield the entries of all pages, fetching pages lazily.

    Stops at an empty page, at the total that the server reports, and at a page without new entries, which a server that
    ignores `offset` sends. Yields no entry twice, even if the list changes and moves it to a later page. Pages overlap
    by one entry. If the overlapping entry is missing, entries were removed and others may have moved to earlier pages,
    so the list is read again from the first page.

    :param read_page: called with offset and length; returns a wrapper object or an array
    :param entry_name: plural name of the entries, for messages
    :param key_field: field that identifies an entry
    """
    offset = restarts = 0
    last_key: str | None = None
    yielded: set[str] = set()
    seen: set[str] = set()
    while True:
        page = Page.from_wire(read_page(offset, PAGE_LENGTH), f"page of {entry_name}")
        entries = page.entries
        by_key = {_entry_key(as_object(entry, entry_name), key_field): entry for entry in entries}
        yield from (entry for key, entry in by_key.items() if key not in yielded)
        yielded.update(by_key)
        if last_key is not None and last_key not in by_key:
            restarts += 1
            if restarts <= _MAX_RESTARTS:
                offset, last_key = 0, None
                seen.clear()
                continue
            if restarts == _MAX_RESTARTS + 1:
                log.warning("The list of %s kept changing while it was read; some entries may be missing.", entry_name)
        if by_key.keys() <= seen or 0 < page.total <= offset + len(entries):
            return
        seen.update(by_key)
        # A page of one entry leaves no room for an overlap.
        overlap = 1 if len(entries) > 1 else 0
        last_key = _entry_key(entries[-1], key_field) if overlap else None
        offset += len(entries) - overlap


def _entry_key(entry: Mapping[str, Any], field: str) -> str:
    identifier = entry.get(field)
    return identifier if isinstance(identifier, str) else repr(checked_depth(entry, "an entry without an id"))


def chunked(items: list[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield `items` in lists of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
