"""Settings of jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError
from airflow_provider_streamsets.control_hub.models.base import Model
from airflow_provider_streamsets.control_hub.models.pipelines import PipelineVersion


@dataclass(frozen=True)
class JobSettings(Model):
    """
    Settings for creating or changing a job. None keeps the current value, or Control Hub's default.

    :param name: name of the job; names are not unique
    :param description: free text
    :param engine_labels: labels that an engine must all have to run the job
    :param tags: tags without the organization, for example ``nightly/orders``
    :param runtime_parameters: values of the runtime parameters of the pipeline
    :param number_of_instances: number of pipeline instances; -1 for one on every engine with the labels
    :param failover: restart the pipeline on another engine if its engine is lost
    :param failover_retries: failover retries over all engines; -1 for unlimited
    :param failover_retries_per_engine: failover retries per engine; -1 for unlimited
    :param needs_acknowledgement: require acknowledgement of an error before the job can run again
    :param statistics_interval: seconds between saves of metrics
    :param force_stop_after: seconds that Control Hub waits for the engines to confirm a stop
    :param static_parameters: names of parameters that instances of this template cannot override
    :param time_series: save metrics as time series
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
            if value is not None and not _SPECS[setting.name][1](value):
                expected = _SPECS[setting.name][2]
                raise ControlHubConfigurationError(f"'{setting.name}' must be {expected}, got {value!r}.")

    @property
    def specified(self) -> dict[str, Any]:
        """The settings that are not None, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def to_wire(self, organization: str) -> dict[str, Any]:
        """
        Return the settings as fields of a ``JobJson``.

        :param organization: id of the organization, which is part of the tag ids
        """
        wire = {_SPECS[name][0]: _WRITERS.get(name, _identity)(value) for name, value in self.specified.items()}
        if self.tags is not None:
            wire["jobTags"] = [_tag(tag, organization) for tag in self.tags]
        return wire

    def to_create_request(self, pipeline: PipelineVersion, organization: str, *, template: bool) -> dict[str, Any]:
        """
        Return the body of the request that creates a job.

        Settings that are None take the defaults of the official SDK (contract section 6.1).

        :param pipeline: version of the pipeline to run
        :param organization: id of the organization
        :param template: create a job template
        """
        body = {
            **_NEW_JOB_DEFAULTS.to_wire(organization),
            **self.to_wire(organization),
            **pipeline.to_job_fields(),
            "jobTemplate": template,
        }
        del body["jobTags"]
        return body


def _tag(tag: str, organization: str) -> dict[str, Any]:
    parent, _, last = tag.rpartition("/")
    return {
        "id": f"{tag}:{organization}",
        "tag": last,
        "parentId": f"{parent}:{organization}" if parent else None,
        "organization": organization,
    }


def _identity(value: Any) -> Any:
    return value


def _to_millis(seconds: float) -> int:
    return round(seconds * 1000)


_WRITERS: dict[str, Callable[[Any], Any]] = {
    "engine_labels": list,
    "tags": list,
    "static_parameters": list,
    "runtime_parameters": lambda value: json.dumps(dict(value)),
    "statistics_interval": _to_millis,
    "force_stop_after": _to_millis,
}


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _is_non_empty_string(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_string_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_non_empty_string, value))


def _is_boolean(value: object) -> bool:
    return isinstance(value, bool)


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def _is_count_or_all(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (value >= 1 or value == -1)


def _is_count_or_unlimited(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= -1


def _is_json_object(value: object) -> bool:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


# Field name in the API, validator and expected value of each setting.
_SPECS: dict[str, tuple[str, Callable[[object], bool], str]] = {
    "name": ("name", _is_non_empty_string, "a non-empty string"),
    "description": ("description", _is_string, "a string"),
    "engine_labels": ("labels", _is_string_list, "a list of non-empty strings"),
    "tags": ("rawJobTags", _is_string_list, "a list of non-empty strings"),
    "runtime_parameters": ("runtimeParameters", _is_json_object, "a JSON object"),
    "number_of_instances": ("numInstances", _is_count_or_all, "an integer of at least 1, or -1 for all engines"),
    "failover": ("migrateOffsets", _is_boolean, "a boolean"),
    "failover_retries": ("globalMaxRetries", _is_count_or_unlimited, "an integer of at least 0, or -1 for unlimited"),
    "failover_retries_per_engine": (
        "maxRetriesForFailedJob",
        _is_count_or_unlimited,
        "an integer of at least 0, or -1 for unlimited",
    ),
    "needs_acknowledgement": ("needsManualAck", _is_boolean, "a boolean"),
    "statistics_interval": ("statsRefreshInterval", _is_seconds, "a positive number of seconds"),
    "force_stop_after": ("forceStopTimeout", _is_seconds, "a positive number of seconds"),
    "static_parameters": ("staticParameters", _is_string_list, "a list of non-empty strings"),
    "time_series": ("timeSeries", _is_boolean, "a boolean"),
}

_NEW_JOB_DEFAULTS = JobSettings(
    engine_labels=("all",),
    tags=(),
    runtime_parameters={},
    number_of_instances=1,
    statistics_interval=60,
    force_stop_after=120,
)
