"""Reading lists that come in pages (contract, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from airflow_provider_streamsets.control_hub.wire import Reader, as_object, handed_on

PAGE_LENGTH = 250

_Item = TypeVar("_Item")


def pages(read_page: Callable[[int, int], Any], what: str, *, identity: str = "id") -> Iterator[dict[str, Any]]:
    """
    Yield the entries of all pages, asking for a page when it is needed.

    Ends at an empty page, at the total that the server states, and at a page that brings nothing new, which is what
    a server that ignores `offset` sends. No entry is given twice, not even one that a change to the list has moved to
    a later page.

    :param read_page: called with offset and length; returns a wrapper or a bare array
    :param what: name of the entries, for messages
    :param identity: the field that tells two entries apart
    """
    offset = 0
    seen: set[str] = set()
    while True:
        answer = read_page(offset, PAGE_LENGTH)
        total = 0
        if isinstance(answer, list):
            entries = answer
        else:
            wrapper = Reader(answer, f"page of {what}")
            entries, total = wrapper.array("data"), wrapper.integer("totalCount")
        new = {key: entry for entry in entries if (key := _identity(as_object(entry, what), identity)) not in seen}
        if not new:
            return
        seen.update(new)
        yield from new.values()
        offset += len(entries)
        if 0 < total <= offset:
            return


def _identity(entry: Mapping[str, Any], field: str) -> str:
    identifier = entry.get(field)
    return identifier if isinstance(identifier, str) else repr(handed_on(entry, "an entry without an id"))


def batches(items: list[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield `items` in lists of up to `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
