"""Runtime parameters that the pipeline does not have: a warning, or refused before anything is done."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from airflow_provider_streamsets.control_hub import ControlHubConfigurationError
from airflow_provider_streamsets.operators.jobs import ControlHubCreateJobOperator, ControlHubUpdateJobOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from tests.unit.fakes.job_catalog_hub import PIPELINE_ID, JobCatalogHub, job_json
from tests.unit.fakes.multi_job_hub import TEMPLATE_ID, MultiJobHub
from tests.unit.fakes.single_job_hub import HUB, JOB_ID, SingleJobHub

pytestmark = pytest.mark.usefixtures("connection")

COMMIT = re.compile("/pipelinestore/rest/v1/pipelineCommit/")


def commit_json(*names: str, **fields: Any) -> dict[str, Any]:
    constants = {"name": "constants", "value": [{"key": name, "value": "x"} for name in names]}
    definition = {"configuration": [{"name": "executionMode", "value": "STANDALONE"}, constants]}
    return {"commitId": "c:org", "pipelineId": PIPELINE_ID, "pipelineDefinition": json.dumps(definition), **fields}


class Runs:
    """A job whose pipeline has the parameters REGION, of which the job has a value, and DAY."""

    def __init__(self, http: Any) -> None:
        hub = SingleJobHub(http, stored_parameters={"REGION": "emea"})
        http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", json=lambda *_: {**hub.job(), "pipelineCommitId": "c:org"})
        self.commits = http.get(COMMIT, json=commit_json("REGION", "DAY"))
        self.sent = hub.started_with
        self.hub = hub

    def run(self, context: Any, parameters: dict[str, Any] | None, **arguments: Any) -> None:
        given = {"runtime_parameters": parameters, "wait_for_completion": False, **arguments}
        ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, **given).execute(context)


@pytest.fixture
def runs(http):
    return Runs(http)


def test_warns_of_misspelled_parameter_with_suggestion(runs, context, task_log):
    runs.run(context, {"REGON": "apac", "DAY": "1", "XYZ": "1"})
    log = task_log()
    assert "has no runtime parameter 'REGON' (did you mean 'REGION'?), 'XYZ'." in log
    assert runs.commits.call_count == 1
    assert runs.sent == [{"REGION": "emea", "REGON": "apac", "DAY": "1", "XYZ": "1"}]


@pytest.mark.parametrize("arguments", [{}, {"reset_offsets": True, "if_running": "restart"}])
def test_rejects_misspelled_parameter_before_any_change(runs, context, arguments):
    with pytest.raises(ControlHubConfigurationError, match=r"'REGON' \(did you mean 'REGION'\?\)\. Nothing was done"):
        runs.run(context, {"REGON": "apac"}, strict_parameters="true", **arguments)
    assert runs.sent == runs.hub.resets == runs.hub.stops == []


@pytest.mark.parametrize("parameters", [None, {}, {"REGION": "apac"}])
def test_known_parameters_cost_no_request(runs, context, parameters):
    runs.run(context, parameters, strict_parameters=True)
    assert runs.commits.call_count == 0


@pytest.mark.parametrize(
    "answer",
    [
        {"json": commit_json(pipelineDefinition=None)},
        {"json": commit_json(pipelineDefinition="{")},
        {"json": commit_json(pipelineDefinition="[]")},
        {"json": commit_json(pipelineDefinition='{"configuration": [{"name": "constants"}]}')},
        {"json": commit_json(pipelineDefinition='{"configuration": [{"name": "constants", "value": [1]}]}')},
        {"json": commit_json(pipelineDefinition='{"configuration": []}')},
        {"status_code": 404, "json": {"ISSUES": [{"code": "X", "message": "unknown"}]}},
        {"status_code": 503},
        {"text": ""},
    ],
    ids=range(9),
)
@pytest.mark.parametrize("strict", [False, True])
def test_unreadable_pipeline_rejects_nothing(runs, http, context, sleep_calls, answer, strict):
    http.get(COMMIT, **answer)
    runs.run(context, {"REGON": "apac"}, strict_parameters=strict)
    assert len(runs.sent) == 1
    assert strict or not sleep_calls


def test_rejects_parameter_of_pipeline_without_any(runs, http, context):
    http.get(COMMIT, json=commit_json())
    with pytest.raises(ControlHubConfigurationError, match=r"no runtime parameter 'REGON'\. Nothing"):
        runs.run(context, {"REGON": "apac"}, strict_parameters=True)


def test_rejects_misspelled_instance_parameter(http, context):
    hub = MultiJobHub(http)
    hub.template["pipelineCommitId"] = "c:org"
    read = http.get(COMMIT, json=commit_json("REGION", "SIZE"))
    template = ControlHubRunJobTemplateOperator(
        task_id="run",
        job_id=TEMPLATE_ID,
        runtime_parameters=[{"REGION": "north"}, {"REGIN": "south"}],
        strict_parameters=True,
    )
    with pytest.raises(ControlHubConfigurationError, match=r"'REGIN' \(did you mean 'REGION'\?\)"):
        template.execute(context)
    assert hub.created == []
    assert read.call_count == 1


def test_create_rejects_misspelled_parameter(http, context, task_log):
    hub = JobCatalogHub(http)
    http.get(COMMIT, json=commit_json("REGION"))
    given = {"job_name": "Mine", "pipeline_id": PIPELINE_ID, "runtime_parameters": {"REGON": "apac"}}
    with pytest.raises(ControlHubConfigurationError, match=r"job 'Mine' .*'REGON' \(did you mean 'REGION'\?\)"):
        ControlHubCreateJobOperator(task_id="create", strict_parameters=True, **given).execute(context)
    assert hub.named("Mine") == []
    ControlHubCreateJobOperator(task_id="create", **given).execute(context)
    assert "no runtime parameter 'REGON'" in task_log()


@pytest.mark.parametrize("version", [{}, {"pipeline_version": "3"}])
def test_update_rejects_misspelled_parameter(http, context, version):
    hub = JobCatalogHub(http, job_json("job:org", "Mine"))
    http.get(COMMIT, json=commit_json("REGION"))
    given = {"job_id": "job:org", "runtime_parameters": {"REGON": "apac"}, "strict_parameters": True, **version}
    with pytest.raises(ControlHubConfigurationError, match=r"'REGON' \(did you mean 'REGION'\?\)"):
        ControlHubUpdateJobOperator(task_id="update", **given).execute(context)
    assert hub.updated == []
