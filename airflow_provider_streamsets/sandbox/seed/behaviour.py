"""The behaviour of a pipeline, independent of a particular run."""

from __future__ import annotations

import dataclasses
from dataclasses import InitVar, dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from airflow_provider_streamsets.sandbox.seed.document import (
    Count,
    Derived,
    Flag,
    Name,
    Seconds,
    Share,
    check_keys,
    invalid,
    must,
    write_duration,
)

SANDBOX_METADATA_KEY = "sandbox"
"""Key in the metadata of a pipeline definition that holds the behaviour of the pipeline in a sandbox."""

VALIDATION_ERROR = "CONTAINER_0800 - Can't start pipeline due to validation errors"


@dataclass(frozen=True)
class EngineLoss:
    """The loss of an engine, in seconds."""

    lost_after: Annotated[Seconds, Field(alias="after")]
    lost_for: Annotated[
        Seconds | None, Field(alias="for"), BeforeValidator(lambda value: None if value == "ever" else value)
    ]

    _keys = model_validator(mode="before")(check_keys)


@dataclass(frozen=True)
class Behaviour:
    """
    The behaviour of a pipeline. Durations are in seconds at time scale 1.

    :param kind: in a document, ``batch`` or ``streaming``: whether it has a number of records.
    :param engine_lost: in a document, :attr:`engine_lost_after` and :attr:`engine_lost_for`.
    """

    records: Count | None = None
    """Number of records until it finishes; None for a streaming pipeline, which runs until it is stopped."""
    rate: Annotated[float, Field(strict=True, gt=0)] = 1000.0
    """Records per second."""
    error_share: Share = 0.0
    """Fraction of the records that become error records."""
    stage_error_share: Share = 0.0
    """Number of stage errors per record."""
    output_share: Annotated[float, Field(strict=True, ge=0)] = 1.0
    """Records written per record that is no error record."""
    activation: Seconds = 1.0
    """Time until the engine has started the pipeline."""
    deactivation: Seconds = 1.0
    """Time from the end of the pipeline until the job is inactive."""
    stop_takes: Seconds | None = None
    """Time until the engine has stopped the pipeline; None for a part of the deactivation."""
    start_error: Annotated[
        Name | None,
        Field(alias="fails_at_start"),
        BeforeValidator(lambda value: VALIDATION_ERROR if value is True else value),
    ] = None
    """Error message if the pipeline fails at start."""
    fails_after: Count | None = None
    """Number of records after which it fails with :attr:`error`."""
    error: Name = "JDBC_00 - Cannot connect to specified database"
    engine_lost_after: Derived[float | None] = None
    """Time from the start of the pipeline until the engine stops responding."""
    engine_lost_for: Derived[float | None] = None
    """Time until the engine responds again; None for never."""
    saves_metrics: Flag = True
    kind: InitVar[Annotated[Literal["batch", "streaming"], must("be batch or streaming")] | None] = None
    engine_lost: InitVar[EngineLoss | None] = None

    def __post_init__(self, kind: str | None, engine_lost: EngineLoss | None) -> None:
        if engine_lost is not None:
            object.__setattr__(self, "engine_lost_after", engine_lost.lost_after)
            object.__setattr__(self, "engine_lost_for", engine_lost.lost_for)

    @model_validator(mode="before")
    @classmethod
    def _check_kind(cls, value: Any) -> dict[str, Any]:
        values = check_keys(cls, value)
        for key in ("kind", "records") if values.get("kind") == "batch" else ("kind",):
            if key not in values:
                raise invalid(f"has no '{key}'")
        if values["kind"] == "streaming" and "records" in values:
            raise invalid("must not have 'records' with kind streaming")
        return values

    @property
    def ends_after(self) -> int | None:
        """Number of records until the pipeline finishes or fails; None if it does neither."""
        ends = [count for count in (self.records, self.fails_after) if count is not None]
        return min(ends, default=None)

    @property
    def fails_while_running(self) -> bool:
        """Whether the pipeline ends with a failure unless it is stopped."""
        return self.fails_after is not None and (self.records is None or self.fails_after <= self.records)


@dataclass(frozen=True)
class PipelineMetadata:
    """The part of the metadata of a pipeline definition from which a sandbox restores the behaviour of the pipeline."""

    origin: Name
    destination: Name
    offset: Name
    behaviour: Behaviour

    _keys = model_validator(mode="before")(check_keys)


_PARAMETERS = {
    "RECORDS": ("records", 0, 1e12),
    "RATE": ("rate", 1e-3, 1e9),
    "ERROR_SHARE": ("error_share", 0, 1),
    "STAGE_ERROR_SHARE": ("stage_error_share", 0, 1),
    "FAILS_AFTER": ("fails_after", 0, 1e12),
    "ACTIVATION": ("activation", 0, 1e6),
}
"""
Runtime parameters that override the behaviour of a pipeline that declares them.

The fields they override, with limits that keep all times and counts in a valid range.
"""


def apply_parameters(behaviour: Behaviour, parameters: dict[str, str]) -> Behaviour:
    """
    Apply the runtime parameters of a run to a behaviour.

    With an invalid value, the pipeline fails its validation at the start, as on a real engine.

    :param behaviour: the behaviour of the pipeline.
    :param parameters: the runtime parameters; unknown ones are ignored.
    """
    for name, (field, minimum, maximum) in _PARAMETERS.items():
        text = parameters.get(name, "")
        if text == "":
            continue
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        is_count = field in ("records", "fails_after")
        if not minimum <= value <= maximum or (is_count and not value.is_integer()):
            return dataclasses.replace(
                behaviour, start_error=f"{VALIDATION_ERROR}: parameter {name} cannot be '{text}'"
            )
        change: dict[str, Any] = {field: int(value) if is_count else value}
        behaviour = dataclasses.replace(behaviour, **change)
    return behaviour


_ADAPTER = TypeAdapter(Behaviour)
_ENGINE_LOSS = {"engine_lost_after", "engine_lost_for"}


def write_behaviour(behaviour: Behaviour) -> dict[str, Any]:
    """Serialize a behaviour in the format of a seed file."""
    values = _ADAPTER.dump_python(behaviour, by_alias=True, exclude_none=True, exclude=_ENGINE_LOSS)
    document = {"kind": "streaming" if behaviour.records is None else "batch", **values}
    if behaviour.engine_lost_after is not None:
        lost_for = behaviour.engine_lost_for
        document["engine_lost"] = {
            "after": write_duration(behaviour.engine_lost_after),
            "for": "ever" if lost_for is None else write_duration(lost_for),
        }
    return document
