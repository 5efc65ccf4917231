"""All classes that users use in DAGs, and how each is made with as little as it needs."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_streamsets import operators, sensors
from tests.unit.fakes.single_job_hub import JOB_ID

# Modules of the layers below that may be loaded, apart from packages whose contents are loaded on first use.
_LIGHT_MODULES = (
    "control_hub._json",
    "control_hub._lazy",
    "control_hub._messages",
    "control_hub.choices",
    "control_hub.deadline",
    "control_hub.errors",
    "control_hub.job_state",
    "control_hub.models.base",
    "control_hub.models.runs",
    "control_hub.paging",
    "control_hub.services",
    "control_hub.submission",
)
_LAZY_PACKAGES = ("control_hub", "control_hub.models", "control_hub.tracking", "hooks", "triggers")
_LEAST: dict[str, dict[str, Any]] = {
    "ControlHubBalanceEnginesOperator": {"all_engines": True},
    "ControlHubCreateJobOperator": {"job_name": "name", "pipeline_name": "pipeline"},
    "ControlHubExportJobsOperator": {"job_ids": [JOB_ID], "path": "/tmp/a.zip"},
    "ControlHubImportJobsOperator": {"path": "/tmp/a.zip"},
    "ControlHubJobMetricSensor": {"job_id": JOB_ID, "metric": "output_count", "threshold": 1},
    "ControlHubListJobsOperator": {},
    "ControlHubRunJobTemplateOperator": {"job_id": JOB_ID, "number_of_instances": 1},
    "ControlHubUpdateJobOperator": {"job_id": JOB_ID, "description": "text"},
    "ControlHubUploadOffsetOperator": {"job_id": JOB_ID, "from_job_id": JOB_ID},
}


def leaves() -> list[Any]:
    """All classes that users use."""
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for package in (operators, sensors)
        for module in pkgutil.iter_modules(package.__path__)
    ]
    found = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, BaseOperator) and kind.__module__ == module.__name__
    }
    return sorted(
        (k for k in found if not any(issubclass(o, k) and o is not k for o in found)), key=lambda k: k.__name__
    )


def given(kind: Any, **arguments: Any) -> dict[str, Any]:
    """
    Return the arguments of a task: what it must have, and more.

    :param kind: the class
    :param arguments: what else, or instead, it is given
    """
    chosen = {"job_ids": [JOB_ID]} if "job_ids" in kind.template_fields else {"job_id": JOB_ID}
    return {"task_id": "task", **_LEAST.get(kind.__name__, chosen), **arguments}


def make_task(kind: Any, **arguments: Any) -> Any:
    """Return a task with the arguments that :func:`given` returns."""
    return kind(**given(kind, **arguments))


def parameter_defaults(kind: Any) -> dict[str, Any]:
    """Return the defaults of all parameters that the class and our bases of it declare, by name."""
    return {
        name: parameter.default
        for base in reversed(kind.__mro__)
        if base.__module__.startswith("airflow_provider_streamsets.") and "__init__" in vars(base)
        for name, parameter in inspect.signature(inspect.unwrap(base.__init__)).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def own_heavy_modules(loaded: Iterable[str]) -> set[str]:
    """Return those of the loaded modules of the lower layers that DAG parsing must not load."""
    light = {f"airflow_provider_streamsets.{module}" for module in (*_LIGHT_MODULES, *_LAZY_PACKAGES)}
    ours = {name for name in loaded if name.startswith("airflow_provider_streamsets.")} - light
    return {name for name in ours if name.split(".")[1] in {"control_hub", "hooks", "triggers", "sandbox"}}
