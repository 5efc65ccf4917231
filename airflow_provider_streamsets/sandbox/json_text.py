"""Reading JSON that a client sent."""

from __future__ import annotations

import json
from typing import Any


def read(text: str | bytes) -> Any:
    """
    Return the value of a JSON text.

    What Python would read and no client could be sent is refused: numbers without end, halves of characters.

    :raises ValueError: if it is none.
    """
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise ValueError("too deep") from None
    return value
