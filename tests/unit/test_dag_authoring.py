from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, task

from airflow_provider_streamsets import operators, sensors
from airflow_provider_streamsets.operators.bulk import (
    ControlHubDeleteJobsOperator,
    ControlHubStartJobsOperator,
    ControlHubStopJobsOperator,
)
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator, ControlHubStopJobOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from tests.unit.fakes.task_factory import own_heavy_modules

MODULES = sorted(
    f"{package.__name__}.{module.name}"
    for package in (operators, sensors)
    for module in pkgutil.iter_modules(package.__path__)
)
CLASSES = sorted(
    {
        found
        for name in MODULES
        for _, found in inspect.getmembers(importlib.import_module(name), inspect.isclass)
        if issubclass(found, BaseOperator) and found.__module__.startswith("airflow_provider_streamsets.")
    },
    key=lambda found: found.__name__,
)

ONE_JOB = {
    ControlHubRunJobOperator: {},
    ControlHubStopJobOperator: {},
    ControlHubRunJobTemplateOperator: {"number_of_instances": 2},
}
MANY_JOBS = {
    ControlHubStartJobsOperator: {"wait_for_completion": True},
    ControlHubStopJobsOperator: {},
    ControlHubDeleteJobsOperator: {"stop_first": True},
}


def parameters_of(operator, package=""):
    """Names of all parameters that the constructors of a class and its bases in a package have."""
    return {
        name
        for base in operator.__mro__
        if base.__module__.startswith(package) and "__init__" in vars(base)
        for name, parameter in inspect.signature(base.__init__).parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def dag(**arguments):
    return DAG("dag", schedule=None, **arguments)


_IMPORT = """
import importlib, json, sys
from airflow.providers.common.compat.sdk import (
    BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator, ObjectStoragePath, XCom, conf
)
BaseOperator(task_id="t")
before = set(sys.modules)
loaded = {}
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    loaded[name] = sorted(set(sys.modules) - before)
print(json.dumps(loaded))
"""


_HEAVY_PACKAGES = {"requests", "urllib3", "tenacity", "fastapi", "uvicorn", "yaml"}


def modules_loaded_by(names):
    """Return for each module what is loaded, besides Airflow's own modules, after it and those before it."""
    command = [sys.executable, "-W", "ignore", "-c", _IMPORT, json.dumps(names)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_modules_import_nothing_heavy():
    for name, loaded in modules_loaded_by(MODULES).items():
        assert not {module for module in loaded if module.partition(".")[0] in _HEAVY_PACKAGES}, name
        # Its models take as long as all operators and sensors together.
        assert "airflow.triggers.base" not in loaded, name
        assert not own_heavy_modules(loaded), name


# Loading a trigger must not block the triggerer's event loop.
def test_triggers_import_no_http_client():
    names = ("runs", "sensors", "job_events")
    for name, loaded in modules_loaded_by([f"airflow_provider_streamsets.triggers.{name}" for name in names]).items():
        assert not {module for module in loaded if module.partition(".")[0] in _HEAVY_PACKAGES}, name


@pytest.mark.parametrize("operator", CLASSES)
def test_template_fields_are_unique_parameters(operator):
    assert len(set(operator.template_fields)) == len(operator.template_fields)
    assert set(operator.template_fields) <= parameters_of(operator)
    assert set(operator.template_fields_renderers) <= set(operator.template_fields)
    assert "control_hub_conn_id" in operator.template_fields


@pytest.mark.parametrize("operator", [c for c in CLASSES if not any(issubclass(o, c) and o is not c for o in CLASSES)])
def test_class_docstring_describes_every_parameter(operator):
    described = inspect.getdoc(operator)
    # Airflow's own, of which only the default differs; the XCom keys say so.
    own = parameters_of(operator, "airflow_provider_streamsets.") - {"multiple_outputs"}
    assert not {name for name in own if f":param {name}:" not in described}


@pytest.mark.parametrize(("operator", "arguments"), {**ONE_JOB, **MANY_JOBS}.items())
def test_parameters_and_template_fields_are_attributes(operator, arguments):
    chosen = {"job_id": "x:org"} if operator in ONE_JOB else {"job_ids": ["x:org"]}
    made = operator(task_id="task", **chosen, **arguments)
    own = parameters_of(operator, "airflow_provider_streamsets.")
    assert not {name for name in own | set(operator.template_fields) if not hasattr(made, name)}


@pytest.mark.parametrize(("operator", "arguments"), ONE_JOB.items())
def test_single_job_operators_map_over_jobs(operator, arguments):
    with dag():
        mapped = operator.partial(task_id="task", deferrable=True, poll_interval=5, **arguments).expand(
            job_id=["a:org", "b:org"]
        )
        by_name = operator.partial(task_id="by_name", **arguments).expand_kwargs(
            [{"job_name": "a:org"}, {"job_name": "b:org"}]
        )
    made = mapped.unmap({"job_id": "a:org"})
    assert (made.job_id, made.job_name, made.deferrable, made.poll_interval) == ("a:org", None, True, 5)
    assert by_name.unmap({"job_name": "b:org"}).job_name == "b:org"


def test_single_job_operators_map_over_task_output():
    with dag():

        @task
        def job_ids():
            return ["a:org", "b:org"]

        @task
        def regions():
            return [{"REGION": "north"}]

        run = ControlHubRunJobOperator.partial(task_id="run", expect=["error_count < 5"]).expand(job_id=job_ids())
        template = ControlHubRunJobTemplateOperator.partial(task_id="template", job_name="t").expand(
            runtime_parameters=[[{"REGION": "north"}], [{"REGION": "south"}]]
        )
        at_once = ControlHubRunJobTemplateOperator(task_id="at_once", job_name="t", runtime_parameters=regions())
    assert run.upstream_task_ids == {"job_ids"}
    assert at_once.upstream_task_ids == {"regions"}
    made = template.unmap({"runtime_parameters": [{"REGION": "north"}]})
    assert made.runtime_parameters == [{"REGION": "north"}]


@pytest.mark.parametrize(("operator", "arguments"), ONE_JOB.items())
def test_mapped_task_renders_its_templates(operator, arguments, context):
    with dag():
        mapped = operator.partial(task_id="task", poll_interval="{{ 2 + 3 }}", **arguments).expand(
            job_id=["a:org", "b:org"]
        )
    context.update(task=mapped, dag=mapped.dag, dag_run=SimpleNamespace(conf={}), run_id="manual")
    context["ti"].map_index, context["ti"].task = 1, mapped
    mapped.render_template_fields(context)
    assert (context["task"].job_id, context["task"].poll_interval) == ("b:org", "5")


def test_unmapping_validates_values():
    with dag():
        mapped = ControlHubRunJobOperator.partial(task_id="task", job_id="a:org").expand(wait_timeout=[5, -1])
    assert mapped.unmap({"wait_timeout": 5}).wait_timeout == 5
    with pytest.raises(ValueError, match="'wait_timeout' must be a number of seconds"):
        mapped.unmap({"wait_timeout": -1})


@pytest.mark.parametrize(("operator", "arguments"), MANY_JOBS.items())
def test_bulk_operators_accept_task_output(operator, arguments):
    with dag():

        @task
        def job_ids():
            return ["a:org", "b:org"]

        made = operator(task_id="task", job_ids=job_ids(), **arguments)
    assert made.upstream_task_ids == {"job_ids"}


@pytest.mark.parametrize(("operator", "arguments"), {**ONE_JOB, **MANY_JOBS}.items())
def test_default_args_reach_inherited_parameters(operator, arguments):
    defaults = {
        "control_hub_conn_id": "production",
        "deferrable": True,
        "poll_interval": 7,
        "timeout": 60,
        "metrics_timeout": 5,
        "stop_on_kill": False,
        "force_stop_after": 9,
        "on_timeout": "leave",
        "wait_for_completion": True,
        "retries": 3,
    }
    chosen = {"job_id": "x:org"} if operator in ONE_JOB else {"job_ids": ["x:org"]}
    arguments = {name: value for name, value in arguments.items() if name not in defaults}
    with dag(default_args=defaults):
        made = operator(task_id="task", **chosen, **arguments)
    known = [name for name in defaults if name in parameters_of(operator)]
    assert {name: getattr(made, name) for name in known} == {name: defaults[name] for name in known}
    assert {"control_hub_conn_id", "poll_interval", "force_stop_after"} & set(known)


@pytest.mark.parametrize(("operator", "arguments"), {**ONE_JOB, **MANY_JOBS}.items())
def test_task_arguments_override_default_args(operator, arguments):
    chosen = {"job_id": "x:org"} if operator in ONE_JOB else {"job_ids": ["x:org"]}
    with dag(default_args={"control_hub_conn_id": "production", "poll_interval": 7}):
        made = operator(task_id="task", control_hub_conn_id="test", poll_interval=8, **chosen, **arguments)
    assert (made.control_hub_conn_id, made.poll_interval) == ("test", 8)
