"""Each flag of each class is true or false, whatever form it comes in."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_streamsets.get_provider_info import get_provider_info
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from airflow_provider_streamsets.triggers.base import ControlHubTrigger
from tests.unit.fakes.single_job_hub import JOB_ID
from tests.unit.fakes.task_factory import leaves, make_task, parameter_defaults

# Boolean parameters whose default is not a boolean.
_WITHOUT_DEFAULT = {"deferrable", "failover", "multiple_outputs", "needs_acknowledgement", "time_series"}
# What goes with a flag that is true.
_WITH = {
    "stop_on_violation": {"expect": ["error_count < 5"]},
    "template": {"job_id": None, "job_name": "name"},
}


def booleans_of(kind: Any) -> dict[str, Any]:
    """The defaults of all flags of a class, by name."""
    found = parameter_defaults(kind)
    return {n: d for n, d in found.items() if isinstance(d, bool) or n in _WITHOUT_DEFAULT | {"wait_for_completion"}}


BOOLEANS = [(kind, name, default) for kind in leaves() for name, default in booleans_of(kind).items()]
TRIGGERS = sorted(
    {
        found
        for entry in get_provider_info()["triggers"]
        for module in entry["python-modules"]
        for _, found in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if found.__module__.startswith("airflow_provider_streamsets.") and issubclass(found, BaseTrigger)
    },
    key=lambda found: found.__name__,
)


def given(kind: Any, name: str, value: Any) -> Any:
    more = _WITH.get(name, {})
    if name == "accept_stopped" and "wait_for_completion" in kind.template_fields:
        more = {"wait_for_completion": True}
    if "pipeline_name" in kind.template_fields:
        more = {}
    if name == "all_engines" and str(value).lower() == "false":
        more = {"engine_ids": ["a"]}
    return make_task(kind, **more, **{name: value})


def test_parameters_of_every_kind_are_covered():
    names = {name for _, name, _ in BOOLEANS}
    assert {"accept_stopped", "deferrable", "stop_on_kill", "start_from_trigger", "failover", "skip_inactive"} <= names
    assert len(BOOLEANS) > 80


@pytest.mark.parametrize("value", [0, 1, "maybe", "", "0", "yes", [], {}])
@pytest.mark.parametrize(("kind", "name", "default"), BOOLEANS)
def test_non_boolean_raises_at_parse(kind, name, default, value):
    with pytest.raises(ValueError, match=f"'{name}' must be true or false"):
        given(kind, name, value)


@pytest.mark.parametrize(("kind", "name", "default"), BOOLEANS)
def test_none_is_valid_only_as_default(kind, name, default):
    if default is None:
        given(kind, name, None)
    else:
        with pytest.raises(ValueError, match=f"'{name}' must be true or false"):
            given(kind, name, None)


@pytest.mark.parametrize(("kind", "name", "default"), BOOLEANS)
def test_template_is_accepted_only_for_template_fields(kind, name, default):
    if name in kind.template_fields:
        assert getattr(given(kind, name, "{{ params.flag }}"), name) == "{{ params.flag }}"
    else:
        with pytest.raises(ValueError, match=f"'{name}' must be true or false, and cannot be a template"):
            given(kind, name, "{{ params.flag }}")


@pytest.mark.parametrize("value", [False, "False", "false"])
@pytest.mark.parametrize(("kind", "name", "default"), BOOLEANS)
def test_string_false_is_accepted_at_parse(kind, name, default, value):
    found = getattr(given(kind, name, value), name)
    # Templated ones are read when they are rendered.
    assert found is False or (name in kind.template_fields and found == value)


@pytest.mark.parametrize(("value", "succeeds"), [("False", False), ("false", False), (False, False), ("true", True)])
def test_sensor_reads_boolean_after_rendering(value, succeeds):
    sensor = ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, accept_stopped="{{ params.flag }}")
    sensor.render_template_fields({"params": {"flag": value}})
    assert sensor.rendered.accept_stopped is succeeds


def _trigger_booleans() -> list[tuple[Any, str]]:
    return [
        (kind, name)
        for kind in TRIGGERS
        for name, parameter in inspect.signature(kind).parameters.items()
        if isinstance(parameter.default, bool)
    ]


@pytest.mark.parametrize(("kind", "name"), _trigger_booleans())
def test_trigger_validates_booleans_before_waiting(kind, name):
    trigger = kind(**{name: "False"})
    trigger._parse_booleans()
    assert getattr(trigger, name) is False
    for value in (0, None, "maybe", "{{ params.flag }}"):
        with pytest.raises(ValueError, match=f"'{name}' must be true or false"):
            kind(**{name: value})._parse_booleans()
    assert issubclass(kind, ControlHubTrigger)
