"""What cannot be right, or has no effect, is refused when the DAG is parsed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_streamsets.operators.bulk import (
    ControlHubDeleteJobsOperator,
    ControlHubStartJobsOperator,
    ControlHubStopJobsOperator,
)
from airflow_provider_streamsets.operators.engines import ControlHubBalanceEnginesOperator
from airflow_provider_streamsets.operators.jobs import (
    ControlHubDuplicateJobOperator,
    ControlHubListJobsOperator,
    ControlHubUpdateJobOperator,
)
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator, ControlHubStopJobOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from airflow_provider_streamsets.sensors.metrics import ControlHubJobMetricSensor
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from tests.unit.fakes.single_job_hub import JOB_ID
from tests.unit.fakes.task_factory import given, leaves, make_task

UNWAITED = {"wait_for_completion": False}
ID_FIELDS = ("job_id", "job_ids", "from_job_id", "template_id", "pipeline_id")
IDS = [(kind, field) for kind in leaves() for field in ID_FIELDS if field in kind.template_fields]


def with_id(kind, field, value):
    if field == "pipeline_id":
        return make_task(kind, pipeline_name=None, pipeline_id=value)
    return make_task(kind, **{field: [JOB_ID, value] if field == "job_ids" else value})


WITHOUT_EFFECT = [
    (ControlHubStartJobsOperator, {**UNWAITED, "deferrable": True}, "'deferrable'"),
    (
        ControlHubStartJobsOperator,
        {**UNWAITED, "metrics_timeout": 5, "accept_stopped": "true"},
        "'metrics_timeout' and 'accept_stopped'",
    ),
    (ControlHubRunJobOperator, {**UNWAITED, "deferrable": "true"}, "'deferrable'"),
    (ControlHubRunJobOperator, {"wait_for_completion": "False", "metrics_timeout": 5}, "'metrics_timeout'"),
    (ControlHubRunJobOperator, {"wait_for": "active", "metrics_timeout": 5}, "'metrics_timeout'"),
    (ControlHubRunJobOperator, {**UNWAITED, "fail_on_red_after": 60}, "'fail_on_red_after'"),
    (ControlHubRunJobTemplateOperator, {**UNWAITED, "if_instance_fails": "stop_others"}, "'if_instance_fails'"),
    (ControlHubStopJobOperator, {**UNWAITED, "wait_timeout": 60}, "'wait_timeout'"),
    (ControlHubStopJobsOperator, {**UNWAITED, "deferrable": True}, "'deferrable'"),
    (ControlHubStopJobsOperator, {**UNWAITED, "force_stop_after": 60}, "'force_stop_after'"),
    (ControlHubDeleteJobsOperator, {"force_stop_after": 60}, "'force_stop_after'"),
    (
        ControlHubDeleteJobsOperator,
        {"stop_timeout": 60, "force_stop_after": 9},
        "'stop_timeout' and 'force_stop_after'",
    ),
    (ControlHubUpdateJobOperator, {"template": True}, "'template'"),
    (ControlHubDuplicateJobOperator, {"template": "true"}, "'template'"),
    (
        ControlHubBalanceEnginesOperator,
        {"all_engines": False, "engine_ids": ["a"], "executor_type": "TRANSFORMER"},
        "'executor_type'",
    ),
    (ControlHubJobMetricSensor, {"join": "any"}, "'join'"),
    (
        ControlHubJobMetricSensor,
        {"metric": None, "threshold": None, "expect": ["output_count > 1"], "comparison": "<"},
        "'comparison'",
    ),
]


@pytest.mark.parametrize(("kind", "arguments", "names"), WITHOUT_EFFECT)
def test_rejects_option_without_effect(kind, arguments, names):
    with pytest.raises(ValueError, match=f"{names} (has|have) no effect without"):
        make_task(kind, **arguments)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ControlHubStartJobsOperator, {"deferrable": False}),
        (ControlHubStartJobsOperator, {"deferrable": True, "if_running": "wait_then_start"}),
        (ControlHubStartJobsOperator, {"deferrable": True, "if_running": "{{ params.x }}"}),
        (ControlHubStartJobsOperator, {"deferrable": True, "wait_for": "active"}),
        (ControlHubRunJobOperator, {"deferrable": True, "wait_for_completion": "{{ params.wait }}"}),
        (ControlHubStopJobsOperator, UNWAITED),
        (ControlHubDeleteJobsOperator, {"stop_first": "{{ params.x }}", "force_stop_after": 60}),
        (ControlHubUpdateJobOperator, {"template": "{{ params.x }}"}),
    ],
)
def test_accepts_option_that_may_have_effect(kind, arguments):
    make_task(kind, **arguments)


def test_accepts_defaults_without_effect(monkeypatch):
    with DAG("dag", schedule=None, default_args={"deferrable": True, "force_stop_after": 5, "metrics_timeout": 5}):
        assert make_task(ControlHubStartJobsOperator).deferrable is True
        assert make_task(ControlHubDeleteJobsOperator, task_id="delete").force_stop_after == 5
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    assert make_task(ControlHubStartJobsOperator).deferrable is True


@pytest.mark.parametrize(("kind", "arguments", "names"), WITHOUT_EFFECT)
def test_accepts_default_args_and_mapping_without_effect(kind, arguments, names):
    shared = {name: arguments[name] for name in names.replace("'", "").split(" and ")}
    own = {name: value for name, value in arguments.items() if name not in shared}
    with DAG("dag", schedule=None, default_args=shared):
        make_task(kind, **own)
    whole = {name: value for name, value in given(kind, **own).items() if value is not None}
    task_id = whole.pop("task_id")
    with DAG("mapped", schedule=None):
        mapped = kind.partial(task_id=task_id, **shared).expand_kwargs([whole])
    assert mapped.unmap(whole).task_id == "task"


@pytest.mark.parametrize("kind", [ControlHubJobRunSensor, ControlHubJobMetricSensor])
def test_reschedule_mode_requires_minimum_poke_interval(kind):
    for interval in (9.9, timedelta(seconds=5)):
        with pytest.raises(ValueError, match="'poke_interval' must be at least 10 s with mode='reschedule'"):
            make_task(kind, mode="reschedule", poke_interval=interval)
        make_task(kind, mode="reschedule", poke_interval=interval, deferrable=True)
        make_task(kind, poke_interval=interval)
    make_task(kind, mode="reschedule", poke_interval=10)


@pytest.mark.parametrize(
    "condition", ["rows > 5", "error_ratio < 1%", {"metric": "rows", "comparison": ">", "threshold": 5}]
)
def test_rejects_condition_that_cannot_hold(condition):
    for kind, others in (
        (ControlHubRunJobOperator, {}),
        (ControlHubJobMetricSensor, {"metric": None, "threshold": None}),
    ):
        with pytest.raises(ValueError, match=r"'expect' must contain conditions .*(Use one of|such as 0.01 for 1%)"):
            make_task(kind, **others, expect=[condition])


@pytest.mark.parametrize(("kind", "field"), IDS)
def test_rejects_malformed_id_at_parse(kind, field):
    for value in (
        "Orders to warehouse",
        "orders",
        JOB_ID.partition(":")[0],
        "nightly/orders:org",
        ":org",
        "a:",
        "a:b c",
    ):
        with pytest.raises(
            ValueError, match=f"'{field}' must be the id of a (job|pipeline|job template), '<uuid>:<organization>'"
        ):
            with_id(kind, field, value)
    for value in ("{{ params.id }}", f" {JOB_ID} ", JOB_ID.partition(":")[0] + ":My.Org-1"):
        with_id(kind, field, value)


@pytest.mark.parametrize(("kind", "field"), IDS)
def test_rejects_malformed_id_after_rendering(kind, field, context):
    task = with_id(kind, field, "{{ params.id }}")
    task.render_template_fields({"params": {"id": "Orders"}})
    with pytest.raises(ValueError, match=f"'{field}' must be the id of a"):
        task.execute(context)


def test_malformed_id_error_suggests_name_parameter():
    for kind, field, advice in (
        (ControlHubRunJobOperator, "job_id", " To use a name, set 'job_name'."),
        (ControlHubListJobsOperator, "template_id", ""),
    ):
        with pytest.raises(ValueError, match=f"got 'Orders'\\.{advice}$"):
            make_task(kind, **{field: "Orders"})


def test_id_error_names_missing_organization():
    with pytest.raises(ValueError, match="The organization is missing"):
        make_task(ControlHubRunJobOperator, job_id=JOB_ID.partition(":")[0])
