from __future__ import annotations

import json

import pytest

from airflow_provider_streamsets.control_hub import ControlHubNotFoundError
from airflow_provider_streamsets.operators.offsets import ControlHubGetOffsetsOperator
from tests.unit.scripted_hub import HUB, JOB_ID, JOB_NAME, ScriptedHub, offsets_json, run_json, succeeded

pytestmark = pytest.mark.usefixtures("connection")

FIRST = {"version": 2, "offsets": {"$com.streamsets.datacollector.pollsource.offset$": "orders.csv::100"}}
SECOND = {"version": 2, "offsets": {"table=orders": "id=7", "table=customers": None}}


def operator(**arguments):
    return ControlHubGetOffsetsOperator(task_id="get", **{"job_id": JOB_ID, **arguments})


def test_the_offsets_that_the_next_run_continues_from_are_returned_for_each_engine(http, context):
    ScriptedHub(http, latest={**succeeded(4), "pipelineOffsets": offsets_json(one=FIRST, two=SECOND)})
    result = operator().execute(context)
    assert result == {
        "job_id": JOB_ID,
        "run_count": 4,
        "engines": [{"engine_id": "one", "offset": FIRST}, {"engine_id": "two", "offset": SECOND}],
    }
    assert json.loads(json.dumps(result)) == result
    assert context["ti"].xcoms == {"job_id": JOB_ID, "streamsets_job_link": f"{HUB}/sch/jobs/detail/{JOB_ID}"}


def test_the_offsets_of_a_run_are_those_in_the_history(http, context):
    hub = ScriptedHub(http, latest={**succeeded(4), "pipelineOffsets": offsets_json(one=SECOND)})
    hub.history = [hub.latest, {**succeeded(3), "pipelineOffsets": offsets_json(one=FIRST)}]
    result = operator(job_id=None, job_name=JOB_NAME, run_count=3).execute(context)
    assert result == {"job_id": JOB_ID, "run_count": 3, "engines": [{"engine_id": "one", "offset": FIRST}]}


def test_a_run_that_control_hub_does_not_know_is_an_error(http, context):
    ScriptedHub(http, latest=succeeded(4))
    with pytest.raises(ControlHubNotFoundError, match=r"run 3 of job .* history does not have the run"):
        operator(run_count=3).execute(context)


@pytest.mark.parametrize(
    ("latest", "run_count"),
    [(None, 0), (succeeded(4), 4), (run_json(4, pipelineOffsets=[{"sdcId": "one", "offset": None}]), 4)],
)
def test_a_job_without_offset_is_no_error(http, context, task_log, latest, run_count):
    ScriptedHub(http, latest=latest)
    assert operator().execute(context) == {"job_id": JOB_ID, "run_count": run_count, "engines": []}
    assert f"Control Hub has no offset of job 'Orders' ({JOB_ID})." in task_log()


def test_offsets_that_were_uploaded_to_a_job_that_has_never_run_are_found(http, context):
    uploaded = run_json(0, "INACTIVE", "GRAY", startTime=0, pipelineOffsets=offsets_json(**{"": FIRST}))
    ScriptedHub(http, latest=uploaded)
    result = operator().execute(context)
    assert result == {"job_id": JOB_ID, "run_count": 0, "engines": [{"engine_id": "", "offset": FIRST}]}


def test_with_a_path_they_are_written_there_instead(http, context, tmp_path):
    ScriptedHub(http, latest={**succeeded(4), "pipelineOffsets": offsets_json(one=FIRST, two=SECOND)})
    path = tmp_path / "offsets.json"
    path.write_text("what was there before")
    result = operator(path=str(path)).execute(context)
    assert result == {"job_id": JOB_ID, "run_count": 4, "engine_ids": ["one", "two"], "path": str(path)}
    assert json.loads(path.read_text()) == operator().execute(context)
    assert [entry.name for entry in tmp_path.iterdir()] == ["offsets.json"]


def test_a_run_count_may_be_rendered_from_a_text(http, context):
    hub = ScriptedHub(http, latest=succeeded(4))
    hub.history = [{**succeeded(3), "pipelineOffsets": offsets_json(one=FIRST)}]
    task = operator(run_count="{{ params.run }}")
    task.run_count = "3"
    assert task.execute(context)["run_count"] == 3


def test_wrong_types_are_refused_when_the_dag_is_parsed():
    with pytest.raises(ValueError, match="'run_count' must be a whole number from 1"):
        operator(run_count=0)
    with pytest.raises(ValueError, match="'path'"):
        operator(path=7)
