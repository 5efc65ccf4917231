"""Starting instances of job templates."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import check_template, without_history
from airflow_provider_streamsets.sandbox.backend.payload import Payload
from airflow_provider_streamsets.sandbox.backend.store import Job, TemplateRun
from airflow_provider_streamsets.sandbox.seed.models import make_id

SUFFIXES = ("COUNTER", "TIME_STAMP", "PARAM_VALUE")
# Wall time, not scaled, so that clients can observe instances that have not started.
DEFERRED_START_MS = 500


@dataclass(frozen=True)
class TemplateStart:
    """The content of a ``JobTemplateCreationInfoJson``; ``parameters`` holds the complete mapping of each instance."""

    suffix: str
    parameter: str | None
    parameters: list[dict[str, Any]]
    name: str
    description: str | None
    tags: tuple[str, ...]
    attach: bool
    delete_after_completion: bool
    configuration: str


def start_instances(
    backend: ControlHubBackend, template: Job, body: Any, *, inherit_permissions: bool, deferred: bool
) -> list[Job]:
    """
    Create and start instances of a job template.

    :param backend: the simulated Control Hub.
    :param template: the template.
    :param body: a ``JobTemplateCreationInfoJson``.
    :param inherit_permissions: copy the permissions of the template.
    :param deferred: start the instances after a short delay.
    :return: the instances.
    :raises ApiError: if the body is invalid or no engine can run the instances; none are created then.
    """
    check_template(template)
    if template.seed.archived:
        raise ApiError(400, "JOBRUNNER_36", f"Job template '{template.seed.name}' is archived")
    info = _parse(template, body)
    backend.check_engines(template)
    instances = []
    for name, parameters in zip(_names(backend, info), info.parameters, strict=True):
        job = backend.add_job(
            replace(
                without_history(template.seed),
                id=backend.new_job_id(),
                name=name,
                description=info.description,
                tags=info.tags,
                parameters=parameters,
                is_template=False,
                template_id=template.id if info.attach else None,
                static_parameters=(),
                delete_after_completion=info.delete_after_completion,
            )
        )
        if inherit_permissions:
            job.permissions = template.permissions
        instances.append(job)
    now = backend.clock.now()
    count = len(template.template_runs) + 1
    template.template_runs.append(
        TemplateRun(
            id=f"{make_id('template run', template.id, str(count))}:{backend.organization}",
            user=backend.user,
            at=now,
            run_count=count,
            configuration=info.configuration,
            job_ids=tuple(job.id for job in instances),
        )
    )
    for job in instances:
        if deferred:
            backend.schedule_start(job, now + DEFERRED_START_MS)
        else:
            backend.start(job)
    return instances


def _parse(template: Job, body: Any) -> TemplateStart:
    if body is None:
        raise bad_request("The body is missing.")
    fields, seed = Payload(body, "a template start"), template.seed
    suffix, parameter = fields.string("namePostfixType") or "COUNTER", fields.string("paramName")
    if suffix not in SUFFIXES:
        raise fields.invalid("namePostfixType", f"one of {', '.join(SUFFIXES)}")
    if suffix == "PARAM_VALUE" and not parameter:
        raise bad_request("'paramName' is required with namePostfixType PARAM_VALUE.")
    given = fields.value("runtimeParametersList")
    if given is None:
        given = [{}]
    if not isinstance(given, list) or not given or not all(isinstance(item, dict) for item in given):
        raise fields.invalid("runtimeParametersList", "a list of objects, one per instance")
    attach = fields.boolean("attachToTemplate")
    tags = fields.strings("rawJobTags")
    parameters = [_instance_parameters(template, item) for item in given]
    if suffix == "PARAM_VALUE" and not all(parameter in item for item in parameters):
        raise bad_request(f"'paramName' must be a runtime parameter of all instances, got '{parameter}'.")
    return TemplateStart(
        suffix=suffix,
        parameter=parameter,
        parameters=parameters,
        name=fields.string("name") or seed.name,
        description=fields.string("description") or seed.description,
        tags=seed.tags if tags is None else tags,
        attach=attach is None or attach,
        delete_after_completion=fields.boolean("deleteAfterCompletion") or False,
        configuration=json.dumps(body),
    )


def _instance_parameters(template: Job, given: dict[str, Any]) -> dict[str, Any]:
    stored = template.parameters
    for name, value in given.items():
        if isinstance(value, (dict, list)):
            raise bad_request(f"Runtime parameter '{name}' must be a scalar.")
        if name in template.seed.static_parameters and str(value) != str(stored.get(name, value)):
            raise ApiError(400, "JOBRUNNER_37", f"Parameter '{name}' of job template '{template.seed.name}' is static")
    return {**stored, **given}


def _names(backend: ControlHubBackend, info: TemplateStart) -> list[str]:
    if info.suffix == "PARAM_VALUE":
        suffixes = [str(parameters[info.parameter or ""]) for parameters in info.parameters]
    elif info.suffix == "TIME_STAMP":
        day = datetime.fromtimestamp(backend.clock.now() / 1000, tz=timezone.utc).strftime("%Y-%m-%d")
        suffixes = [day] * len(info.parameters)
    else:
        first = 1 if backend.variants.counter == "restart" else _highest_suffix(backend, info.name) + 1
        suffixes = [str(number) for number in range(first, first + len(info.parameters))]
    return [f"{info.name} - {suffix}" for suffix in suffixes]


def _highest_suffix(backend: ControlHubBackend, name: str) -> int:
    pattern = re.compile(rf"{re.escape(name)} - (\d+)")
    numbers = [int(match[1]) for job in backend.jobs.values() if (match := pattern.fullmatch(job.seed.name))]
    return max(numbers, default=0)
