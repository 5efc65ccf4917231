"""How a behaviour is written down, in a seed file and in the pipelines of an archive of jobs."""

from __future__ import annotations

from typing import Any

from airflow_provider_streamsets.sandbox.behaviours import VALIDATION_ERROR, Behaviour
from airflow_provider_streamsets.sandbox.seed_place import Place


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
