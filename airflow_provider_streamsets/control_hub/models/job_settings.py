"""What can be set of a job."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError
from airflow_provider_streamsets.control_hub.models.base import Model


@dataclass(frozen=True)
class JobSettings(Model):
    """
    Settings of a job to create or to change. None leaves a setting as it is, or to Control Hub's default.

    :param name: name of the job; names are not unique
    :param description: free text
    :param engine_labels: labels that an engine must have, all of them, to run the job
    :param tags: tags without organization, for example ``nightly/orders``
    :param runtime_parameters: the job's values of the pipeline's parameters
    :param number_of_instances: pipeline instances; -1 is one on every engine with the labels
    :param failover: restart a pipeline on another engine when its engine is lost
    :param failover_retries: failover retries over all engines; -1 is endless
    :param failover_retries_per_engine: failover retries on each engine; -1 is endless
    :param needs_acknowledgement: whether an error must be acknowledged before the job can run again
    :param statistics_interval: seconds between two saves of metrics
    :param force_stop_after: seconds that Control Hub waits for engines to confirm a stop
    :param static_parameters: names of parameters that instances of this template may not override
    :param time_series: keep metrics as time series
    """

    name: str | None = None
    description: str | None = None
    engine_labels: Sequence[str] | None = None
    tags: Sequence[str] | None = None
    runtime_parameters: Mapping[str, Any] | None = None
    number_of_instances: int | None = None
    failover: bool | None = None
    failover_retries: int | None = None
    failover_retries_per_engine: int | None = None
    needs_acknowledgement: bool | None = None
    statistics_interval: float | None = None
    force_stop_after: float | None = None
    static_parameters: Sequence[str] | None = None
    time_series: bool | None = None

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            if value is not None and not _CHECKS[setting.name][1](value):
                expected = _CHECKS[setting.name][2]
                raise ControlHubConfigurationError(f"'{setting.name}' of a job must be {expected}, but is {value!r}.")

    @property
    def given(self) -> dict[str, Any]:
        """The settings that are not None, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def to_wire(self, organization: str) -> dict[str, Any]:
        """
        Return the fields of a ``JobJson`` that these settings stand for.

        :param organization: id of the organization, which is part of a tag's id
        """
        wire = {_CHECKS[name][0]: _WRITERS.get(name, _as_it_is)(value) for name, value in self.given.items()}
        if self.tags is not None:
            wire["jobTags"] = [_tag(tag, organization) for tag in self.tags]
        return wire


def _tag(tag: str, organization: str) -> dict[str, Any]:
    parent, _, last = tag.rpartition("/")
    return {
        "id": f"{tag}:{organization}",
        "tag": last,
        "parentId": f"{parent}:{organization}" if parent else None,
        "organization": organization,
    }


def _as_it_is(value: Any) -> Any:
    return value


def _millis(seconds: float) -> int:
    return round(seconds * 1000)


_WRITERS: dict[str, Callable[[Any], Any]] = {
    "engine_labels": list,
    "tags": list,
    "static_parameters": list,
    "runtime_parameters": lambda value: json.dumps(dict(value)),
    "statistics_interval": _millis,
    "force_stop_after": _millis,
}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_name, value))


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def _is_count_or_all(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (value >= 1 or value == -1)


def _is_count_or_endless(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= -1


def _is_json_object(value: object) -> bool:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


# For each setting its name on the wire, what it must be, and that in words.
_CHECKS: dict[str, tuple[str, Callable[[object], bool], str]] = {
    "name": ("name", _is_name, "a text that is not empty"),
    "description": ("description", _is_text, "a text"),
    "engine_labels": ("labels", _is_list_of_names, "a list of texts"),
    "tags": ("rawJobTags", _is_list_of_names, "a list of texts"),
    "runtime_parameters": ("runtimeParameters", _is_json_object, "a JSON object of names and values"),
    "number_of_instances": ("numInstances", _is_count_or_all, "a whole number from 1, or -1 for all engines"),
    "failover": ("migrateOffsets", _is_flag, "true or false"),
    "failover_retries": ("globalMaxRetries", _is_count_or_endless, "a whole number from 0, or -1 for endless"),
    "failover_retries_per_engine": (
        "maxRetriesForFailedJob",
        _is_count_or_endless,
        "a whole number from 0, or -1 for endless",
    ),
    "needs_acknowledgement": ("needsManualAck", _is_flag, "true or false"),
    "statistics_interval": ("statsRefreshInterval", _is_seconds, "a number of seconds above 0"),
    "force_stop_after": ("forceStopTimeout", _is_seconds, "a number of seconds above 0"),
    "static_parameters": ("staticParameters", _is_list_of_names, "a list of texts"),
    "time_series": ("timeSeries", _is_flag, "true or false"),
}
