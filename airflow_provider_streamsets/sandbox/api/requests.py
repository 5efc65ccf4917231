"""Reading requests."""

from __future__ import annotations

import io
from collections.abc import Container, Sequence
from typing import IO, Any

from fastapi import Request
from starlette.exceptions import HTTPException

from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.payload import parse_json


class Query:
    """The query of a request. An empty value is an unset one; unknown parameters are nobody's concern."""

    def __init__(self, request: Request) -> None:
        self._values = request.query_params

    def text(self, name: str) -> str | None:
        """Return a value, None if unset."""
        return self._values.get(name) or None

    def flag(self, name: str) -> bool | None:
        """
        Return a boolean in any case, None if unset.

        :raises ProblemError: if it is none.
        """
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in ("true", "false"):
            raise bad_request(f"{name} must be true or false, not '{value}'")
        return value.lower() == "true"

    def number(self, name: str, default: int) -> int:
        """
        Return a whole number.

        :raises ProblemError: if it is none.
        """
        value = self.text(name)
        if value is None:
            return default
        try:
            return int(value)
        except ValueError:
            raise bad_request(f"{name} must be a whole number, not '{value}'") from None

    def bounds(self, length: int) -> tuple[int, int]:
        """
        Return the offset and the length of a page.

        :param length: the length if it is unset.
        :raises ProblemError: if there is no such page.
        """
        offset, length = self.number("offset", 0), self.number("len", length)
        if offset < 0 or length < -1:
            raise bad_request("offset must be at least 0, len at least -1")
        return offset, length

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """
        Return one of some values, None if unset.

        :raises ProblemError: if it is another.
        """
        value = self.text(name)
        if value is not None and value not in choices:
            raise bad_request(f"{name} must be one of {', '.join(choices)}, not '{value}'")
        return value


def search_order(query: Query, default: str, known: Container[str]) -> tuple[str, bool]:
    """
    Return the property that orders a SAQL search, and whether it does so downwards.

    :param query: ``orderBy``.
    :param default: the property if that is unset.
    :param known: the properties there are.
    :raises ProblemError: if it is another.
    """
    # A plus sign in a query is a blank once it is decoded.
    text = (query.text("orderBy") or default).strip()
    name = text.rstrip("+-")
    if name not in known:
        raise bad_request(f"the sandbox cannot order by '{name}'")
    return name, text.endswith("-")


async def read_json(request: Request) -> Any:
    """
    Return the body of a request, None if it has none.

    :raises ProblemError: if it is no JSON.
    """
    content = await request.body()
    if not content.strip():
        return None
    try:
        return parse_json(content)
    except ValueError:
        raise bad_request("the body is not valid JSON") from None


async def read_ids(request: Request, what: str = "job") -> list[str]:
    """
    Return the ids that the body of a bulk call lists.

    :raises ProblemError: if it is not a list of text.
    """
    ids = await read_json(request)
    if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
        raise bad_request(f"the body must be a JSON array of {what} ids")
    return ids


async def read_file(request: Request) -> IO[bytes]:
    """
    Return the part ``file`` of a form, be it a file or text.

    :raises ProblemError: if it brings none.
    """
    try:
        part = (await request.form()).get("file")
    except HTTPException as error:
        raise bad_request(f"the body is no form: {error.detail}") from None
    if part is None:
        raise bad_request("the part 'file' is missing")
    return io.BytesIO(part.encode()) if isinstance(part, str) else part.file
