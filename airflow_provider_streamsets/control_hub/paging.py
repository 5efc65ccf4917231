"""Reading lists that come in pages (contract, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from airflow_provider_streamsets.control_hub.wire import Reader, as_list

PAGE_LENGTH = 250


def pages(read_page: Callable[[int, int], Any], what: str) -> Iterator[dict[str, Any]]:
    """
    Yield the entries of all pages, asking for a page when it is needed.

    Ends at an empty page, at the total that the server states, and at a page that brings nothing new, which is what
    a server that ignores `offset` sends.

    :param read_page: called with offset and length; returns a wrapper or a bare array
    :param what: name of the entries, for messages
    """
    offset = 0
    first_of_page: object = None
    while True:
        answer = read_page(offset, PAGE_LENGTH)
        if answer is None:
            return
        total = 0
        if isinstance(answer, list):
            entries = answer
        else:
            wrapper = Reader(answer, f"page of {what}")
            entries, total = wrapper.array("data"), wrapper.integer("totalCount")
        if not entries or entries[0] == first_of_page:
            return
        first_of_page = entries[0]
        yield from as_list(entries, what)
        offset += len(entries)
        if 0 < total <= offset:
            return


def batches(items: list[str], size: int) -> Iterator[list[str]]:
    """Yield `items` in lists of up to `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
