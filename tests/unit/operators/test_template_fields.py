from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_provider_streamsets.operators.engines import ControlHubBalanceEnginesOperator
from airflow_provider_streamsets.operators.metrics import (
    ControlHubJobMetricsOperator,
    ControlHubJobRunHistoryOperator,
)
from airflow_provider_streamsets.operators.offsets import (
    ControlHubGetOffsetsOperator,
    ControlHubResetOffsetsOperator,
    ControlHubUploadOffsetOperator,
)
from airflow_provider_streamsets.operators.recovery import ControlHubSyncJobsOperator
from tests.unit.fakes.task_factory import given, leaves, parameter_defaults

# Evaluated when the DAG is parsed, or by Airflow itself.
NOT_TEMPLATED = {
    "deferrable",
    "end_from_trigger",
    "multiple_outputs",
    "next_run",
    "poke_interval",
    "poll_interval",
    "start_from_trigger",
    "stop_on_kill",
}


@pytest.mark.parametrize("operator", leaves())
def test_every_parameter_is_keyword_only_and_templated(operator):
    assert set(parameter_defaults(operator)) - NOT_TEMPLATED == set(operator.template_fields) - NOT_TEMPLATED
    assert issubclass(operator, BaseOperator)


@pytest.mark.parametrize("operator", leaves())
def test_every_operator_can_be_mapped(operator):
    fixed = given(operator, control_hub_conn_id="a")
    name = next(name for name in ("job_ids", "job_id", "path", "control_hub_conn_id") if name in fixed)
    values = [["a:org"], ["b:org", "c:org"]] if name == "job_ids" else ["a:org", "b:org"]
    del fixed[name]
    with DAG("mapped", schedule=None):
        task = operator.partial(**fixed).expand(**{name: values})
    del fixed["task_id"]
    for value in values:
        unmapped = task.unmap({**fixed, name: value})
        assert getattr(unmapped, name) == value


@pytest.mark.parametrize(
    ("operator", "arguments", "rendered"),
    [
        (
            ControlHubGetOffsetsOperator,
            {"job_id": "{{ id }}", "path": "/tmp/{{ id }}.json"},
            {"path": "/tmp/a:org.json"},
        ),
        (
            ControlHubUploadOffsetOperator,
            {"job_id": "b:org", "offset": {"offsets": {"p": "{{ n }}"}}},
            {"job_id": "b:org"},
        ),
        (ControlHubJobMetricsOperator, {"job_id": "{{ id }}", "run_count": "{{ n }}"}, {"run_count": "7"}),
        (ControlHubJobRunHistoryOperator, {"job_id": "{{ id }}", "limit": "{{ n }}"}, {"limit": "7"}),
        (ControlHubResetOffsetsOperator, {"job_ids": "{{ [id] }}"}, {"job_ids": "['a:org']"}),
        (
            ControlHubSyncJobsOperator,
            {"job_ids": ["{{ id }}"], "skip_inactive": "{{ n > 1 }}"},
            {"skip_inactive": "True"},
        ),
        (ControlHubBalanceEnginesOperator, {"all_engines": "{{ n > 1 }}"}, {"all_engines": "True"}),
    ],
)
def test_template_fields_are_rendered(operator, arguments, rendered):
    with DAG("rendered", schedule=None):
        task = operator(task_id="task", **arguments)
    task.render_template_fields({"id": "a:org", "n": 7})
    assert {name: getattr(task, name) for name in rendered} == rendered
