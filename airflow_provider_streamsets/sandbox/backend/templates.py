"""Starting instances of job templates."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.deletion import check_template
from airflow_provider_streamsets.sandbox.backend.editing import as_new
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError, bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import Job, TemplateRun
from airflow_provider_streamsets.sandbox.backend.payload import Fields
from airflow_provider_streamsets.sandbox.seed.models import make_id

SUFFIXES = ("COUNTER", "TIME_STAMP", "PARAM_VALUE")
# In wall time whatever the time scale, so that clients get to see instances that have not started.
LATER_MS = 500


@dataclass(frozen=True)
class CreationInfo:
    """What a ``JobTemplateCreationInfoJson`` asks for; ``parameters`` are whole, one mapping per instance."""

    suffix: str
    parameter: str | None
    parameters: list[dict[str, Any]]
    name: str
    description: str | None
    tags: tuple[str, ...]
    attach: bool
    delete_after_completion: bool
    configuration: str


def start_instances(world: World, template: Job, body: Any, *, inherit_permissions: bool, later: bool) -> list[Job]:
    """
    Create instances of a template and start them.

    :param world: the world.
    :param template: the template.
    :param body: a ``JobTemplateCreationInfoJson``.
    :param inherit_permissions: give them the template's permissions, not the default ones.
    :param later: start them a moment later.
    :return: the instances.
    :raises ProblemError: if the body asks for what cannot be, or no engine could run them; then there are none.
    """
    check_template(template)
    if template.seed.archived:
        raise ProblemError(400, "JOBRUNNER_36", f"Job template '{template.seed.name}' is archived")
    info = _read(template, body)
    world.check_engines(template)
    instances = []
    for name, parameters in zip(_names(world, info), info.parameters, strict=True):
        job = world.add_job(
            replace(
                as_new(template.seed),
                id=world.new_job_id(),
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
    now = world.clock.now()
    count = len(template.template_runs) + 1
    template.template_runs.append(
        TemplateRun(
            id=f"{make_id('template run', template.id, str(count))}:{world.organization}",
            user=world.user,
            at=now,
            run_count=count,
            configuration=info.configuration,
            job_ids=tuple(job.id for job in instances),
        )
    )
    for job in instances:
        if later:
            world.start_later(job, now + LATER_MS)
        else:
            world.start(job)
    return instances


def _read(template: Job, body: Any) -> CreationInfo:
    if body is None:
        raise bad_request("the body is missing")
    fields, seed = Fields(body, "a template start"), template.seed
    suffix, parameter = fields.text("namePostfixType") or "COUNTER", fields.text("paramName")
    if suffix not in SUFFIXES:
        raise fields.wrong("namePostfixType", f"one of {', '.join(SUFFIXES)}")
    if suffix == "PARAM_VALUE" and not parameter:
        raise bad_request("paramName is missing, which namePostfixType PARAM_VALUE needs")
    asked = fields.value("runtimeParametersList")
    if asked is None:
        asked = [{}]
    if not isinstance(asked, list) or not asked or not all(isinstance(item, dict) for item in asked):
        raise fields.wrong("runtimeParametersList", "a list of objects, one for each instance")
    attach = fields.flag("attachToTemplate")
    tags = fields.texts("rawJobTags")
    whole = [_instance_parameters(template, item) for item in asked]
    if suffix == "PARAM_VALUE" and not all(parameter in item for item in whole):
        raise bad_request(f"paramName names no runtime parameter of every instance: '{parameter}'")
    return CreationInfo(
        suffix=suffix,
        parameter=parameter,
        parameters=whole,
        name=fields.text("name") or seed.name,
        description=fields.text("description") or seed.description,
        tags=seed.tags if tags is None else tags,
        attach=attach is None or attach,
        delete_after_completion=fields.flag("deleteAfterCompletion") or False,
        configuration=json.dumps(body),
    )


def _instance_parameters(template: Job, given: dict[str, Any]) -> dict[str, Any]:
    own = template.parameters
    for name, value in given.items():
        if isinstance(value, (dict, list)):
            raise bad_request(f"runtime parameter '{name}' must be a single value")
        if name in template.seed.static_parameters and str(value) != str(own.get(name, value)):
            raise ProblemError(
                400, "JOBRUNNER_37", f"Parameter '{name}' of job template '{template.seed.name}' is static"
            )
    return {**own, **given}


def _names(world: World, info: CreationInfo) -> list[str]:
    if info.suffix == "PARAM_VALUE":
        suffixes = [str(parameters[info.parameter or ""]) for parameters in info.parameters]
    elif info.suffix == "TIME_STAMP":
        day = datetime.fromtimestamp(world.clock.now() / 1000, tz=timezone.utc).strftime("%Y-%m-%d")
        suffixes = [day] * len(info.parameters)
    else:
        first = 1 if world.variants.counter == "restart" else _highest(world, info.name) + 1
        suffixes = [str(number) for number in range(first, first + len(info.parameters))]
    return [f"{info.name} - {suffix}" for suffix in suffixes]


def _highest(world: World, name: str) -> int:
    counted = re.compile(rf"{re.escape(name)} - (\d+)")
    numbers = [int(match[1]) for job in world.jobs.values() if (match := counted.fullmatch(job.seed.name))]
    return max(numbers, default=0)
