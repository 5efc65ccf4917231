"""The behaviour of a pipeline, independent of a particular run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from airflow_provider_streamsets.sandbox.seed.document import DocumentNode

SANDBOX_METADATA_KEY = "sandbox"
"""Key in the metadata of a pipeline definition that holds the behaviour of the pipeline in a sandbox."""

VALIDATION_ERROR = "CONTAINER_0800 - Can't start pipeline due to validation errors"


@dataclass(frozen=True)
class Behaviour:
    """The behaviour of a pipeline. Durations are in seconds at time scale 1."""

    records: int | None = None
    """Number of records until it finishes; None for a streaming pipeline, which runs until it is stopped."""
    rate: float = 1000.0
    """Records per second."""
    error_share: float = 0.0
    """Fraction of the records that become error records."""
    stage_error_share: float = 0.0
    """Number of stage errors per record."""
    activation: float = 1.0
    """Time until the engine has started the pipeline."""
    deactivation: float = 1.0
    """Time from the end of the pipeline until the job is inactive."""
    stop_takes: float | None = None
    """Time until the engine has stopped the pipeline; None for a part of the deactivation."""
    start_error: str | None = None
    """Error message if the pipeline fails at start."""
    fails_after: int | None = None
    """Number of records after which it fails with :attr:`error`."""
    error: str = "JDBC_00 - Cannot connect to specified database"
    engine_lost_after: float | None = None
    """Time from the start of the pipeline until the engine stops responding."""
    engine_lost_for: float | None = None
    """Time until the engine responds again; None for never."""
    saves_metrics: bool = True

    @property
    def ends_after(self) -> int | None:
        """Number of records until the pipeline finishes or fails; None if it does neither."""
        ends = [count for count in (self.records, self.fails_after) if count is not None]
        return min(ends, default=None)

    @property
    def fails_while_running(self) -> bool:
        """Whether the pipeline ends with a failure unless it is stopped."""
        return self.fails_after is not None and (self.records is None or self.fails_after <= self.records)


RUNTIME_PARAMETER_FIELDS = {
    "RECORDS": "records",
    "RATE": "rate",
    "ERROR_SHARE": "error_share",
    "STAGE_ERROR_SHARE": "stage_error_share",
    "FAILS_AFTER": "fails_after",
    "ACTIVATION": "activation",
}
"""Runtime parameters that override the behaviour of a pipeline that declares them, and the fields they override."""

FIELD_LIMITS: dict[str, tuple[float, float]] = {
    "records": (0, 1e12),
    "rate": (1e-3, 1e9),
    "error_share": (0, 1),
    "stage_error_share": (0, 1),
    "fails_after": (0, 1e12),
    "activation": (0, 1e6),
}
"""Minimum and maximum of each field, which keep all times and counts in a valid range."""


def apply_parameters(behaviour: Behaviour, parameters: dict[str, str]) -> Behaviour:
    """
    Apply the runtime parameters of a run to a behaviour.

    With an invalid value, the pipeline fails its validation at the start, as on a real engine.

    :param behaviour: the behaviour of the pipeline.
    :param parameters: the runtime parameters; those not in :data:`RUNTIME_PARAMETER_FIELDS` are ignored.
    """
    for name, field in RUNTIME_PARAMETER_FIELDS.items():
        text = parameters.get(name, "")
        if text == "":
            continue
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        is_count = field in ("records", "fails_after")
        minimum, maximum = FIELD_LIMITS[field]
        valid = minimum <= value <= maximum and (not is_count or value.is_integer())
        if not valid:
            return dataclasses.replace(
                behaviour, start_error=f"{VALIDATION_ERROR}: parameter {name} cannot be '{text}'"
            )
        change: dict[str, Any] = {field: int(value) if is_count else value}
        behaviour = dataclasses.replace(behaviour, **change)
    return behaviour


def read_behaviour(node: DocumentNode) -> Behaviour:
    """
    Parse a behaviour.

    :raises SeedError: if it is invalid.
    """
    node.check_keys(
        "kind", "records", "rate", "error_share", "stage_error_share", "activation", "deactivation", "stop_takes",
        "fails_at_start", "fails_after", "error", "engine_lost", "saves_metrics",
    )  # fmt: skip
    kind = node.string("kind")
    if kind not in ("batch", "streaming"):
        raise node.child("kind").error(f"must be batch or streaming, got '{kind}'.")
    if kind == "streaming" and node.has("records"):
        raise node.error("must not have 'records' with kind streaming.")
    values: dict[str, Any] = {"records": node.integer("records") if kind == "batch" else None}
    if node.has("rate"):
        values["rate"] = node.number("rate", above=0)
    for share in ("error_share", "stage_error_share"):
        if node.has(share):
            values[share] = node.number(share, maximum=1)
    for seconds in ("activation", "deactivation", "stop_takes"):
        if node.has(seconds):
            values[seconds] = node.duration(seconds) / 1000
    if node.has("fails_at_start"):
        message = node.child("fails_at_start").value
        values["start_error"] = VALIDATION_ERROR if message is True else node.string("fails_at_start")
    if node.has("fails_after"):
        values["fails_after"] = node.integer("fails_after")
    if node.has("error"):
        values["error"] = node.string("error")
    if node.has("engine_lost"):
        lost = node.child("engine_lost")
        lost.check_keys("after", "for")
        values["engine_lost_after"] = lost.duration("after") / 1000
        is_permanent = lost.string("for") == "ever"
        values["engine_lost_for"] = None if is_permanent else lost.duration("for") / 1000
    values["saves_metrics"] = node.boolean("saves_metrics", True)
    return Behaviour(**values)


def write_behaviour(behaviour: Behaviour) -> dict[str, Any]:
    """Serialize a behaviour in the format of :func:`read_behaviour`."""
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
        duration = behaviour.engine_lost_for
        document["engine_lost"] = {
            "after": _duration(behaviour.engine_lost_after),
            "for": "ever" if duration is None else _duration(duration),
        }
    return {key: value for key, value in document.items() if value is not None}


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
