"""Conditions in SAQL, the search language of Control Hub (contract section 5)."""

from __future__ import annotations

from collections.abc import Iterable


def equals(name: str, value: str) -> str | None:
    """
    Return a condition for equality; None if SAQL cannot express the value.

    The search ignores case and treats a leading or trailing ``*`` as a wildcard, so it can return more than exact
    matches.

    :param name: name of the property
    :param value: value of the property
    """
    quoted = _quoted(value)
    return f"{name}=={quoted}" if quoted else None


def one_of(name: str, values: Iterable[str]) -> str | None:
    """
    Return a condition for equality to one of several values; None if SAQL cannot express one of them.

    :param name: name of the property
    :param values: values of the property
    """
    quoted = [_quoted(value) for value in values]
    texts = [text for text in quoted if text]
    return f"{name}=in=({','.join(texts)})" if len(texts) == len(quoted) else None


def search_params(search: str, organization: str) -> dict[str, str]:
    """
    Return the query parameters of a search.

    The published definitions use one of the parameters for the organization, the SDK the other (contract section 5).

    :param search: the conditions
    :param organization: id of the organization
    """
    return {"search": search, "organization": organization, "orgId": organization}


def _quoted(value: str) -> str | None:
    # The escaping of quotation marks is unknown (contract section 18.40), so use a mark that the value lacks.
    mark = next((mark for mark in ('"', "'") if mark not in value), None)
    return None if mark is None or "\\" in value else f"{mark}{value}{mark}"
