"""SAQL searches that users have saved."""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError

MODES = ("BASIC", "ADVANCED")


@dataclass(frozen=True)
class SavedFilter:
    """
    A saved search.

    :param id: its id.
    :param kind: what it searches for, such as ``JOB_INSTANCE``.
    :param name: its name; names need not be unique.
    :param mode: ``BASIC`` or ``ADVANCED``, which decides about the format of the query.
    :param query: the search in SAQL, or, in mode ``BASIC``, conditions as a JSON list.
    :param creator: the user who saved it.
    :param created_on: time at which it was saved.
    :param modified_by: the user who changed it last.
    :param modified_on: time of the last change.
    :param is_favorite: whether it is marked as a favorite.
    """

    id: str
    kind: str
    name: str
    mode: str
    query: str
    creator: str
    created_on: int
    modified_by: str
    modified_on: int
    is_favorite: bool = False


class SavedFilters:
    """
    The saved searches of one service.

    :param error_code: code of the error for an unknown id.
    """

    def __init__(self, error_code: str) -> None:
        self._error_code = error_code
        self._filters: dict[str, SavedFilter] = {}

    def find(self, kind: str | None, name: str | None) -> list[SavedFilter]:
        """Return the filters of a kind with a name, sorted by name; None matches all."""
        found = [entry for entry in self._filters.values() if kind in (None, entry.kind) and name in (None, entry.name)]
        return sorted(found, key=lambda entry: entry.name)

    def get(self, filter_id: str) -> SavedFilter:
        """
        Return a filter.

        :raises ApiError: if it does not exist.
        """
        try:
            return self._filters[filter_id]
        except KeyError:
            raise ApiError(404, self._error_code, f"Saved filter '{filter_id}' does not exist") from None

    def save(self, entry: SavedFilter) -> None:
        """Add a filter, or replace the one with the same id."""
        self._filters[entry.id] = entry

    def mark_as_favorite(self, filter_id: str) -> None:
        """
        Mark a filter as a favorite.

        :raises ApiError: if it does not exist.
        """
        self.save(replace(self.get(filter_id), is_favorite=True))

    def remove(self, filter_id: str) -> None:
        """
        Remove a filter.

        :raises ApiError: if it does not exist.
        """
        del self._filters[self.get(filter_id).id]
