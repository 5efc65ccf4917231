"""The bodies of answers: read up to a limit, and parsed without trusting them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of JSON, unpacked, that an answer can have. The largest real ones, such as pages of jobs, have a few MB."""
LARGEST_ERROR = 256 * 1024
"""Bytes that are read of an answer that is an error."""

# Half of a character outside the basic plane, alone or with its other half.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def first_bytes(chunks: Iterable[bytes], limit: int) -> tuple[bytearray, bool]:
    """
    Return the beginning of a body, and whether that is all of it.

    :param chunks: the body, unpacked
    :param limit: bytes to take at the most; of the rest, no more than the chunk that goes beyond it is read
    """
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > limit:
            del body[limit:]
            return body, False
    return body, True


def json_of(body: bytes | bytearray | str) -> Any:
    """
    Parse JSON.

    Halves of characters are replaced: nothing that writes text as UTF-8, such as an address, a log or a database, can
    take them.

    :raises ValueError: if it is no JSON, or holds a number of too many digits
    :raises RecursionError: if it is nested too deeply
    """
    text = body if isinstance(body, str) else body.decode("utf-8-sig")
    value = json.loads(text)
    if _SURROGATE.search(text):
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value
