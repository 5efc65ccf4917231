"""
Compress the arguments of a trigger that waits for many runs.

MySQL stores at most 65,535 bytes of trigger arguments. Events have no such limit, as they are stored as JSON.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import uuid
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

# Arguments of up to so many bytes of JSON (some 100 runs) stay uncompressed, and so readable in the database.
_MAX_PLAIN_SIZE = 20_000
_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Placeholder for a UUID; the character does not occur in JSON.
_PLACEHOLDER = "\0"
_SET_COLUMNS = ("forced", "joined", "active")
_TIMES_PER_SECOND = {"started": 1000, "red_since": 10}
# What `unpack` can raise for a malformed string.
UNPACK_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, zlib.error)


def pack(arguments: dict[str, Any]) -> dict[str, Any]:
    """
    Compress the arguments about the runs, without the names of jobs, into `packed`, unless they are short.

    :param arguments: arguments of the trigger by name
    """
    if len(json.dumps(arguments)) <= _MAX_PLAIN_SIZE:
        return arguments
    runs = [[*run, None, None][:4] for run in arguments["runs"]]
    job_ids, run_counts, run_ids, started = zip(*runs, strict=True)
    red_since = arguments["red_since"] or {}
    # By column, as similar values side by side compress well.
    columns: dict[str, Any] = {
        "job_ids": job_ids,
        "run_counts": run_counts,
        "run_ids": run_ids,
        "started": _short_times("started", started),
        "red_since": _short_times("red_since", [red_since.get(job_id) for job_id in job_ids]),
        "red": arguments["red"],
        "kept": arguments["kept"],
    }
    for name in _SET_COLUMNS:
        members = set(arguments[name] or ())
        columns[name] = "".join(str(int(job_id in members)) for job_id in job_ids)
    others = {name: value for name, value in arguments.items() if name not in {"runs", *columns}}
    return {**others, "packed": _packed_text(columns)}


def unpack(packed: str) -> dict[str, Any]:
    """
    Return the arguments that :func:`pack` compressed.

    :raises UNPACK_ERRORS: if `packed` is malformed
    """
    columns = json.loads(_unpacked_text(packed))
    job_ids = columns["job_ids"]
    runs = zip(job_ids, columns["run_counts"], columns["run_ids"], _times("started", columns["started"]), strict=True)
    red_since = zip(job_ids, _times("red_since", columns["red_since"]), strict=True)
    return {
        "runs": [list(run) if run[2] is not None else list(run[:2]) for run in runs],
        "red_since": {job_id: at for job_id, at in red_since if at is not None},
        "red": columns["red"],
        "kept": columns["kept"],
        **{
            name: [job_id for job_id, flag in zip(job_ids, columns[name], strict=True) if flag == "1"]
            for name in _SET_COLUMNS
        },
    }


def _short_times(name: str, times: Sequence[float | None]) -> list[int | None]:
    """Return times as integers: the earliest time, then the offset of each time from it."""
    ticks = [None if time is None else round(time * _TIMES_PER_SECOND[name]) for time in times]
    first = min((tick for tick in ticks if tick is not None), default=0)
    return [first, *(None if tick is None else tick - first for tick in ticks)]


def _times(name: str, ticks: Sequence[int | None]) -> list[float | None]:
    first, *others = ticks
    return [None if later is None else (first + later) / _TIMES_PER_SECOND[name] for later in others]  # type: ignore[operator]


def _packed_text(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, separators=(",", ":"))
    # Random digits do not compress, so each UUID is stored once, as bytes.
    ids = list(dict.fromkeys(_UUID.findall(text)))
    numbers = {match_text: number for number, match_text in enumerate(ids)}
    seen: set[str] = set()

    def place(match: re.Match[str]) -> str:
        match_text = match[0]
        if match_text in seen:
            return f"{_PLACEHOLDER}{numbers[match_text]}{_PLACEHOLDER}"
        seen.add(match_text)
        return _PLACEHOLDER * 2

    short = zlib.compress(_UUID.sub(place, text).encode(), 9)
    return base64.b85encode(short + b"".join(uuid.UUID(match_text).bytes for match_text in ids)).decode()


def _unpacked_text(packed: str) -> str:
    inflate = zlib.decompressobj()
    text = inflate.decompress(base64.b85decode(packed)) + inflate.flush()
    rest = inflate.unused_data
    ids = [str(uuid.UUID(bytes=rest[start : start + 16])) for start in range(0, len(rest), 16)]
    new = itertools.count()
    return re.sub(
        f"{_PLACEHOLDER}([0-9]*){_PLACEHOLDER}",
        lambda match: ids[int(match[1]) if match[1] else next(new)],
        text.decode(),
    )
