from __future__ import annotations

import inspect

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_provider_streamsets.operators.engines import (
    ControlHubBalanceEnginesOperator,
    ControlHubBalanceJobsOperator,
)
from airflow_provider_streamsets.operators.metrics import (
    ControlHubJobMetricsOperator,
    ControlHubJobRunHistoryOperator,
)
from airflow_provider_streamsets.operators.offsets import (
    ControlHubGetOffsetsOperator,
    ControlHubResetOffsetsOperator,
    ControlHubUploadOffsetOperator,
)
from airflow_provider_streamsets.operators.recovery import (
    ControlHubAcknowledgeErrorsOperator,
    ControlHubSyncJobsOperator,
)

ONE_JOB = [ControlHubGetOffsetsOperator, ControlHubJobMetricsOperator, ControlHubJobRunHistoryOperator]
MANY_JOBS = [
    ControlHubAcknowledgeErrorsOperator,
    ControlHubBalanceJobsOperator,
    ControlHubResetOffsetsOperator,
    ControlHubSyncJobsOperator,
]
EVERY = [*ONE_JOB, *MANY_JOBS, ControlHubBalanceEnginesOperator, ControlHubUploadOffsetOperator]


def parameters_of(operator):
    """The parameters that the operator and our bases of it declare."""
    ours = [cls for cls in operator.__mro__ if cls.__module__.startswith("airflow_provider_streamsets")]
    return {
        name
        for cls in ours
        if "__init__" in vars(cls)
        for name, parameter in inspect.signature(inspect.unwrap(cls.__init__)).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "multiple_outputs"
    }


@pytest.mark.parametrize("operator", EVERY)
def test_every_parameter_is_keyword_only_and_templated(operator):
    assert parameters_of(operator) == set(operator.template_fields)
    assert operator.__doc__ is not None
    assert all(f":param {name}:" in operator.__doc__ for name in operator.template_fields)
    assert issubclass(operator, BaseOperator)


@pytest.mark.parametrize(
    ("operator", "mapped"),
    [
        *((operator, {"job_id": ["a:org", "b:org"]}) for operator in ONE_JOB),
        *((operator, {"job_ids": [["a:org"], ["b:org", "c:org"]]}) for operator in MANY_JOBS),
        (ControlHubBalanceEnginesOperator, {"engine_labels": [["prod"], ["dev"]]}),
        (ControlHubUploadOffsetOperator, {"from_run_count": [1, 2]}),
    ],
)
def test_every_operator_can_be_mapped(operator, mapped):
    fixed = {"job_id": "a:org", "from_job_id": "a:org"} if operator is ControlHubUploadOffsetOperator else {}
    with DAG("mapped", schedule=None):
        task = operator.partial(task_id="task", **fixed).expand(**mapped)
    ((name, values),) = mapped.items()
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
