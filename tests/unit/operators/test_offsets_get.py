from __future__ import annotations

import json

import pytest

from airflow_provider_streamsets.control_hub import ControlHubNotFoundError
from airflow_provider_streamsets.operators.offsets import ControlHubGetOffsetsOperator
from tests.unit.fakes.single_job_hub import HUB, JOB_ID, JOB_NAME, SingleJobHub, offsets_json, run_json, succeeded

pytestmark = pytest.mark.usefixtures("connection")

FIRST = {"version": 2, "offsets": {"$com.streamsets.datacollector.pollsource.offset$": "orders.csv::100"}}
SECOND = {"version": 2, "offsets": {"table=orders": "id=7", "table=customers": None}}


def operator(**arguments):
    return ControlHubGetOffsetsOperator(task_id="get", **{"job_id": JOB_ID, **arguments})


def test_latest_offsets_are_returned_per_engine(http, context):
    SingleJobHub(http, latest={**succeeded(4), "pipelineOffsets": offsets_json(one=FIRST, two=SECOND)})
    result = operator().execute(context)
    assert result == {
        "job_id": JOB_ID,
        "run_count": 4,
        "engines": [{"engine_id": "one", "offset": FIRST}, {"engine_id": "two", "offset": SECOND}],
    }
    assert json.loads(json.dumps(result)) == result
    assert context["ti"].xcoms == {"job_id": JOB_ID, "streamsets_job_link": f"{HUB}/sch/jobs/detail/{JOB_ID}"}


def test_offsets_of_run_come_from_history(http, context):
    hub = SingleJobHub(http, latest={**succeeded(4), "pipelineOffsets": offsets_json(one=SECOND)})
    hub.history = [hub.latest, {**succeeded(3), "pipelineOffsets": offsets_json(one=FIRST)}]
    result = operator(job_id=None, job_name=JOB_NAME, run_count=3).execute(context)
    assert result == {"job_id": JOB_ID, "run_count": 3, "engines": [{"engine_id": "one", "offset": FIRST}]}


def test_unknown_run_raises(http, context):
    SingleJobHub(http, latest=succeeded(4))
    with pytest.raises(ControlHubNotFoundError, match=r"run 3 of job .* history does not contain the run"):
        operator(run_count=3).execute(context)


@pytest.mark.parametrize(
    ("latest", "run_count"),
    [(None, 0), (succeeded(4), 4), (run_json(4, pipelineOffsets=[{"sdcId": "one", "offset": None}]), 4)],
)
def test_job_without_offset_returns_no_engines(http, context, task_log, latest, run_count):
    SingleJobHub(http, latest=latest)
    assert operator().execute(context) == {"job_id": JOB_ID, "run_count": run_count, "engines": []}
    assert f"Job 'Orders' ({JOB_ID}): no offsets." in task_log()


def test_uploaded_offset_of_never_run_job_is_found(http, context):
    uploaded = run_json(0, "INACTIVE", "GRAY", startTime=0, pipelineOffsets=offsets_json(**{"": FIRST}))
    SingleJobHub(http, latest=uploaded)
    result = operator().execute(context)
    assert result == {"job_id": JOB_ID, "run_count": 0, "engines": [{"engine_id": "", "offset": FIRST}]}


def test_offsets_are_written_to_path(http, context, tmp_path):
    SingleJobHub(http, latest={**succeeded(4), "pipelineOffsets": offsets_json(one=FIRST, two=SECOND)})
    path = tmp_path / "offsets.json"
    path.write_text("what was there before")
    result = operator(path=str(path)).execute(context)
    assert result == {"job_id": JOB_ID, "run_count": 4, "engine_ids": ["one", "two"], "path": str(path)}
    assert json.loads(path.read_text()) == operator().execute(context)
    assert [entry.name for entry in tmp_path.iterdir()] == ["offsets.json"]


def test_run_count_accepts_rendered_string(http, context):
    hub = SingleJobHub(http, latest=succeeded(4))
    hub.history = [{**succeeded(3), "pipelineOffsets": offsets_json(one=FIRST)}]
    task = operator(run_count="{{ params.run }}")
    task.run_count = "3"
    assert task.execute(context)["run_count"] == 3


def test_rejects_invalid_arguments_at_parse():
    with pytest.raises(ValueError, match="'run_count' must be an integer >= 1"):
        operator(run_count=0)
    with pytest.raises(ValueError, match="'path'"):
        operator(path=7)
