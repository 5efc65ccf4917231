"""Starts of job templates (contract section 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pendulum

from airflow_provider_streamsets.control_hub._json import JsonReader
from airflow_provider_streamsets.control_hub.models.base import Model


@dataclass(frozen=True)
class TemplateStart(Model):
    """One start of a job template, from its run history."""

    number: int
    user: str | None
    time: pendulum.DateTime | None
    job_ids: tuple[str, ...]
    """Ids of the instances."""

    @classmethod
    def from_wire(cls, value: object) -> TemplateStart:
        """Parse an entry of the run history of a template."""
        read = JsonReader(value, "start of a template")
        return cls(
            number=read.integer("runCount"),
            user=read.optional_string("user"),
            time=read.timestamp("time"),
            job_ids=read.strings("jobInstanceIds"),
        )


def template_start_request(
    runtime_parameters: Sequence[Mapping[str, Any]],
    *,
    suffix: str,
    suffix_parameter: str | None,
    name: str | None,
    description: str | None,
    tags: Sequence[str] | None,
    attach_to_template: bool,
    delete_after_completion: bool,
) -> dict[str, Any]:
    """
    Return the body of the request that creates and starts instances of a job template.

    The parameters are those of :meth:`~airflow_provider_streamsets.control_hub.resources.templates.Templates.start`.

    :param runtime_parameters: for each instance all its runtime parameters
    """
    return {
        "namePostfixType": suffix,
        "paramName": suffix_parameter,
        "runtimeParametersList": runtime_parameters,
        "name": name,
        "description": description,
        "rawJobTags": None if tags is None else list(tags),
        "attachToTemplate": attach_to_template,
        "deleteAfterCompletion": delete_after_completion,
    }


def started_instance_id(value: object) -> str:
    """Return the id of an instance from its status or its job; the response to a start has either."""
    read = JsonReader(value, "instance of a job template")
    return read.optional_string("jobId") or read.required_string("id")
