"""In a DAG with ``render_template_as_native_obj=True``, text stays text."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pendulum
import pytest
from airflow.exceptions import AirflowException
from airflow.providers.common.compat.sdk import DAG
from jinja2 import UndefinedError

from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.jobs import ControlHubListJobsOperator
from airflow_provider_streamsets.operators.metrics import ControlHubJobRunHistoryOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from tests.unit.fakes.task_factory import leaves, make_task

TEXTS = ["1.10", "2024", "20260101", "007", "1e3", "None", "True", "[1]", "{'a': 1}", "", " 1 ", "'quoted'"]
ID = UUID(int=7)
VALUES = {"version": "1.10", "number": 7, "ratio": 0.5, "nothing": None, "names": ["a", "2024"], "hour": timedelta(1)}
VALUES |= {"id": ID, "decimal": Decimal("1.10"), "time": pendulum.datetime(2026, 1, 2), "lazy": (name for name in "ab")}


def rendered(field: str, value: Any, *, native: bool = True, kind: Any = ControlHubListJobsOperator) -> Any:
    with DAG("dag", schedule=None, render_template_as_native_obj=native):
        task = make_task(kind)
    setattr(task, field, value)
    task.render_template_fields({"params": VALUES})
    return getattr(task, field)


@pytest.mark.parametrize("kind", leaves())
def test_template_fields_keep_strings(kind):
    with DAG("dag", schedule=None, render_template_as_native_obj=True):
        task = make_task(kind)
    for value, expected in (
        ("1.10", "1.10"),
        ({"key": TEXTS}, {"key": TEXTS}),
        ([f"{{{{ {text!r} }}}}" for text in TEXTS], TEXTS),
    ):
        for field in kind.template_fields:
            setattr(task, field, value)
        task.render_template_fields({"params": VALUES})
        assert {field: getattr(task, field) for field in kind.template_fields} == dict.fromkeys(
            kind.template_fields, expected
        )


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ params.version }}", "1.10"),
        ("{{ params.number }}", "7"),
        ("{{ params.number > 5 }}", "True"),
        ("{{ params.ratio }}", "0.5"),
        ("{{ params.version }}{{ params.number }}", "1.107"),
        ("v{{ params.version }}", "v1.10"),
        ("{{ params.id }}", str(ID)),
        ("{{ params.decimal }}", "1.10"),
        ("{{ params.time }}", "2026-01-02 00:00:00+00:00"),
        ("{% if params.number %}{{ params.version }}{% endif %}", "1.10"),
    ],
)
def test_string_and_number_expressions_render_to_strings(template, text):
    for native in (True, False):
        assert rendered("name", template, native=native) == text
        assert rendered("name", {"VERSION": [template]}, native=native) == {"VERSION": [text]}


@pytest.mark.parametrize("name", ["names", "nothing", "hour", "lazy"])
def test_single_expression_keeps_other_types(name):
    assert rendered("name", f"{{{{ params.{name} }}}}") == VALUES[name]


@pytest.mark.parametrize("text", TEXTS)
def test_plain_string_is_kept(text):
    assert rendered("name", text) == text
    assert rendered("name", f"{{{{ {text!r} }}}}") == text


@pytest.mark.parametrize("value", [2024, 1.5, ["a", 7], {"N": 1}, True])
def test_values_without_templates_are_kept(value):
    assert rendered("name", value) == value


def test_undefined_name_raises():
    with pytest.raises((UndefinedError, AirflowException)):
        rendered("name", "{{ unknown }}")


def test_mapped_tasks_keep_strings(context):
    with DAG("dag", schedule=None, render_template_as_native_obj=True) as dag:
        mapped = ControlHubRunJobOperator.partial(task_id="task", runtime_parameters={"VERSION": "1.10"}).expand(
            job_name=["1.10", "2024"]
        )
    context.update(task=mapped, dag=dag, dag_run=SimpleNamespace(conf={}), run_id="manual", params=VALUES)
    context["ti"].map_index, context["ti"].task = 0, mapped
    mapped.render_template_fields(context)
    assert (context["task"].job_name, context["task"].runtime_parameters) == ("1.10", {"VERSION": "1.10"})


def test_natively_rendered_values_pass_validation():
    with DAG("dag", schedule=None, render_template_as_native_obj=True):
        start = ControlHubStartJobsOperator(task_id="start", job_names=["2024"], wait_for_completion=False)
        listed = ControlHubStartJobsOperator(
            task_id="listed", job_names="{{ params.names }}", wait_for_completion=False
        )
        history = ControlHubJobRunHistoryOperator(task_id="history", job_name="1.10", since="20260101")
    for task in (start, listed, history):
        task.render_template_fields({"params": VALUES})
    start.check_parameters()
    listed.check_parameters()
    assert (listed.job_names, history.since) == (["a", "2024"], "20260101")
