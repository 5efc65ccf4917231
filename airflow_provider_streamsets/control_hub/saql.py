"""Conditions of Control Hub's search language, SAQL (contract, section 5)."""

from __future__ import annotations

from collections.abc import Iterable


def equals(name: str, value: str) -> str | None:
    """
    Return the condition that a property is equal to a text; None if no search can express it.

    A ``*`` at the ends of a text stands for anything, and case does not count, so that more may be found.

    :param name: name of the property
    :param value: the text
    """
    quoted = _quoted(value)
    return f"{name}=={quoted}" if quoted else None


def one_of(name: str, values: Iterable[str]) -> str | None:
    """
    Return the condition that a property is equal to one of several texts; None if no search can express it.

    :param name: name of the property
    :param values: the texts
    """
    quoted = [_quoted(value) for value in values]
    texts = [text for text in quoted if text]
    return f"{name}=in=({','.join(texts)})" if len(texts) == len(quoted) else None


def _quoted(value: str) -> str | None:
    # How a search escapes a quotation mark is not known, so a text is put between marks that it does not have.
    mark = next((mark for mark in ('"', "'") if mark not in value), None)
    return None if mark is None or "\\" in value else f"{mark}{value}{mark}"
