"""How a pipeline behaves when it is run, without regard to any one run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from airflow_provider_streamsets.sandbox.seed.document import Place

SANDBOX_METADATA_KEY = "sandbox"
"""Key in the metadata of a pipeline definition that holds the behaviour of the pipeline in a sandbox."""

VALIDATION_ERROR = "CONTAINER_0800 - Can't start pipeline due to validation errors"


@dataclass(frozen=True)
class Behaviour:
    """What a pipeline does. Durations are in seconds at time scale 1."""

    records: int | None = None
    """Records until it finishes by itself; None: it streams until it is stopped."""
    rate: float = 1000.0
    """Records per second."""
    error_share: float = 0.0
    """Share of the records that become error records."""
    stage_error_share: float = 0.0
    """Stage errors per record."""
    activation: float = 1.0
    """How long the engine takes to start it."""
    deactivation: float = 1.0
    """How long the job takes to become inactive after the pipeline's end."""
    stop_takes: float | None = None
    """How long the engine takes to stop it; None: no longer than the deactivation."""
    start_error: str | None = None
    """It fails at start, with this message."""
    fails_after: int | None = None
    """It fails after so many records, with :attr:`error`."""
    error: str = "JDBC_00 - Cannot connect to specified database"
    engine_lost_after: float | None = None
    """The engine stops responding so long after the pipeline was started."""
    engine_lost_for: float | None = None
    """The engine is back after so long; None: never."""
    saves_metrics: bool = True

    @property
    def ends_after(self) -> int | None:
        """Records until it ends by itself, well or not."""
        ends = [count for count in (self.records, self.fails_after) if count is not None]
        return min(ends, default=None)

    @property
    def fails_while_running(self) -> bool:
        """Whether its own end is a failure."""
        return self.fails_after is not None and (self.records is None or self.fails_after <= self.records)


TUNABLE = {
    "RECORDS": "records",
    "RATE": "rate",
    "ERROR_SHARE": "error_share",
    "STAGE_ERROR_SHARE": "stage_error_share",
    "FAILS_AFTER": "fails_after",
    "ACTIVATION": "activation",
}
"""Runtime parameters that change the behaviour of a pipeline which declares them, and what they change."""

LIMITS: dict[str, tuple[float, float]] = {
    "records": (0, 1e12),
    "rate": (1e-3, 1e9),
    "error_share": (0, 1),
    "stage_error_share": (0, 1),
    "fails_after": (0, 1e12),
    "activation": (0, 1e6),
}
"""The least and the greatest value that makes sense of each, such that all times and counts stay ones."""


def tuned(behaviour: Behaviour, parameters: dict[str, str]) -> Behaviour:
    """
    Return the behaviour as a run's parameters make it.

    A value that makes no sense is no refusal: as on a real engine, the pipeline fails its validation.

    :param behaviour: the pipeline's behaviour.
    :param parameters: the run's parameters, those of :data:`TUNABLE` among others.
    """
    for name, field in TUNABLE.items():
        text = parameters.get(name, "")
        if text == "":
            continue
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        whole = field in ("records", "fails_after")
        least, most = LIMITS[field]
        valid = least <= value <= most and (not whole or value.is_integer())
        if not valid:
            return dataclasses.replace(
                behaviour, start_error=f"{VALIDATION_ERROR}: parameter {name} cannot be '{text}'"
            )
        change: dict[str, Any] = {field: int(value) if whole else value}
        behaviour = dataclasses.replace(behaviour, **change)
    return behaviour


def read_behaviour(place: Place) -> Behaviour:
    """
    Return the behaviour that a document describes.

    :raises SeedError: if it describes none.
    """
    place.only(
        "kind", "records", "rate", "error_share", "stage_error_share", "activation", "deactivation", "stop_takes",
        "fails_at_start", "fails_after", "error", "engine_lost", "saves_metrics",
    )  # fmt: skip
    kind = place.text("kind")
    if kind not in ("batch", "streaming"):
        raise place.at("kind").wrong(f"must be batch or streaming, not '{kind}'")
    if kind == "streaming" and place.has("records"):
        raise place.wrong("is streaming, so it has no number of records")
    values: dict[str, Any] = {"records": place.whole("records") if kind == "batch" else None}
    if place.has("rate"):
        values["rate"] = place.number("rate", above=0)
    for share in ("error_share", "stage_error_share"):
        if place.has(share):
            values[share] = place.number(share, most=1)
    for seconds in ("activation", "deactivation", "stop_takes"):
        if place.has(seconds):
            values[seconds] = place.duration(seconds) / 1000
    if place.has("fails_at_start"):
        message = place.at("fails_at_start").value
        values["start_error"] = VALIDATION_ERROR if message is True else place.text("fails_at_start")
    if place.has("fails_after"):
        values["fails_after"] = place.whole("fails_after")
    if place.has("error"):
        values["error"] = place.text("error")
    if place.has("engine_lost"):
        lost = place.at("engine_lost")
        lost.only("after", "for")
        values["engine_lost_after"] = lost.duration("after") / 1000
        forever = lost.text("for") == "ever"
        values["engine_lost_for"] = None if forever else lost.duration("for") / 1000
    values["saves_metrics"] = place.flag("saves_metrics", True)
    return Behaviour(**values)


def write_behaviour(behaviour: Behaviour) -> dict[str, Any]:
    """Return the document that :func:`read_behaviour` makes the same behaviour of."""
    document: dict[str, Any] = {
        "kind": "streaming" if behaviour.records is None else "batch",
        "records": behaviour.records,
        "rate": behaviour.rate,
        "error_share": behaviour.error_share,
        "stage_error_share": behaviour.stage_error_share,
        "activation": _duration(behaviour.activation),
        "deactivation": _duration(behaviour.deactivation),
        "stop_takes": None if behaviour.stop_takes is None else _duration(behaviour.stop_takes),
        "fails_at_start": behaviour.start_error,
        "fails_after": behaviour.fails_after,
        "error": behaviour.error,
        "saves_metrics": behaviour.saves_metrics,
    }
    if behaviour.engine_lost_after is not None:
        lasts = behaviour.engine_lost_for
        document["engine_lost"] = {
            "after": _duration(behaviour.engine_lost_after),
            "for": "ever" if lasts is None else _duration(lasts),
        }
    return {key: value for key, value in document.items() if value is not None}


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
