from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_streamsets.control_hub import ControlHubMetricsUnavailableError
from airflow_provider_streamsets.operators.metrics import ControlHubJobMetricsOperator
from tests.unit.fakes.single_job_hub import HUB, JOB_ID, JOB_NAME, T0, SingleJobHub, counts_json, run_json, succeeded

pytestmark = pytest.mark.usefixtures("connection")

BATCHES, RATE = "pipeline.batchCount.counter", "pipeline.batchOutputRecords.meter.m1_rate"
REGISTRY = {
    "counters": {BATCHES: {"count": 60}, "stage.Origin_01.outputRecords.counter": {"count": 100}, "odd": {}},
    "meters": {"pipeline.batchOutputRecords.meter": {"count": 90, "m1_rate": 12.5}},
}


def operator(**arguments):
    return ControlHubJobMetricsOperator(task_id="metrics", **{"job_id": JOB_ID, **arguments})


def saves_counters(http, registry=REGISTRY):
    """Let Control Hub respond with counters, and return the run counts of the requests."""
    asked = []
    url = f"{HUB}/jobrunner/rest/v1/metrics/job/{JOB_ID}"
    http.get(url, json=lambda r, _: asked.append(int(r.qs["runcount"][0])) or registry)
    return asked


def serves_live_metrics(http, instance="instance-1"):
    """Let the engine of the running pipeline answer through the tunnel."""
    tunnel = f"{HUB}/tunneling/rest"
    http.get(f"{HUB}/jobrunner/rest/v1/sdc/engine-1", json={"id": "engine-1", "idSeparator": "__"})
    http.get(f"{tunnel}/connection/engine-1", json={"instanceId": instance})
    http.get(
        f"{tunnel}/engine-1/rest/v1/pipeline/Orders__uuid__org/metrics",
        json={
            "gauges": {"RuntimeStatsGauge.gauge": {"value": {"batchCount": 6, "idleBatchCount": 1}}},
            "meters": {
                f"pipeline.batch{kind}Records.meter": {"count": count}
                for kind, count in (("Input", 600), ("Output", 590), ("Error", 10))
            },
        },
    )


def running(run_count=5):
    return run_json(run_count, pipelineStatus=[{"sdcId": "engine-1", "name": "Orders:uuid:org", "status": "RUNNING"}])


def test_metrics_of_latest_run_are_returned(http, context):
    hub = SingleJobHub(http, latest=succeeded(4), counts=counts_json(4))
    hub.counts["0"].update(outputM1Rate=12.5, pipelineVersion="3")
    result = operator(job_id=None, job_name=JOB_NAME).execute(context)
    assert result == {
        "job_id": JOB_ID,
        "job_name": JOB_NAME,
        "run_count": 4,
        "input_count": 100,
        "output_count": 90,
        "error_count": 7,
        "stage_errors_count": 3,
        "total_error_count": 10,
        "last_updated": "2026-01-01T09:57:41Z",
        "pipeline_version": "3",
        "input_per_second": 0.0,
        "output_per_second": 12.5,
        "error_per_second": 0.0,
        "stage_errors_per_second": 0.0,
    }
    assert json.loads(json.dumps(result)) == result
    assert context["ti"].xcoms == {"job_id": JOB_ID, "streamsets_job_link": f"{HUB}/sch/jobs/detail/{JOB_ID}"}


def test_metrics_of_all_runs_are_returned_newest_first(http, context):
    SingleJobHub(http, latest=succeeded(4), counts=counts_json(4))
    assert [run["run_count"] for run in operator(runs="all").execute(context)] == [4, 3, 2, 1]
    assert [run["run_count"] for run in operator(runs="all", limit="2").execute(context)] == [4, 3]


def test_metrics_are_selected_by_run_count(http, context):
    SingleJobHub(http, latest=succeeded(4), counts=counts_json(4))
    assert operator(run_count=2).execute(context)["run_count"] == 2
    assert operator(run_count="2").execute(context)["run_count"] == 2


STARTED = datetime.fromtimestamp(T0 / 1000 + 300, tz=timezone.utc)


@pytest.mark.parametrize(
    "start_time",
    [
        STARTED,
        STARTED.isoformat(),
        str(STARTED),
        STARTED.replace(tzinfo=None),
        STARTED.astimezone(timezone(timedelta(hours=9))).isoformat(),
        (STARTED + timedelta(seconds=99)).isoformat(),
    ],
)
def test_metrics_are_selected_by_start_time(http, context, start_time):
    hub = SingleJobHub(http, latest=succeeded(4), counts=counts_json(4))
    hub.history = [succeeded(2), succeeded(3), succeeded(4), succeeded(1)]
    assert operator(start_time=start_time).execute(context)["run_count"] == 3


@pytest.mark.parametrize(
    ("arguments", "latest", "said"),
    [
        ({}, succeeded(5), "run 5: Control Hub has no saved record counts"),
        ({}, None, "has never run"),
        ({"run_count": 9}, succeeded(4), "run 9: Control Hub has no saved record counts"),
        ({"start_time": "2020-01-01"}, succeeded(4), "had not run by 2020-01-01"),
    ],
)
def test_missing_metrics_are_none_unless_fail_if_missing(http, context, task_log, arguments, latest, said):
    hub = SingleJobHub(http, latest=latest, counts=counts_json(4) if latest else {})
    hub.history = [succeeded(4)]
    assert operator(**arguments).execute(context) is None
    assert said in task_log()
    with pytest.raises(ControlHubMetricsUnavailableError, match=said):
        operator(fail_if_missing=True, **arguments).execute(context)


def test_missing_metrics_of_all_runs_are_empty_list(http, context, task_log):
    SingleJobHub(http, latest=succeeded(4))
    assert operator(runs="all").execute(context) == []
    assert "has no saved metrics" in task_log()
    with pytest.raises(ControlHubMetricsUnavailableError, match="has no saved metrics"):
        operator(runs="all", fail_if_missing="true").execute(context)


def test_counters_are_added_on_demand(http, context):
    SingleJobHub(http, latest=succeeded(4), counts=counts_json(4))
    asked = saves_counters(http)
    result = operator(counters=True).execute(context)
    assert result["counters"] == {BATCHES: 60, "stage.Origin_01.outputRecords.counter": 100}
    assert result["output_count"] == 90
    operator(runs="all", limit=2, counters=True).execute(context)
    assert asked == [4, 4, 3]


def test_metrics_are_added_by_name(http, context, task_log):
    SingleJobHub(http, latest=succeeded(4), counts=counts_json(4))
    saves_counters(http)
    result = operator(metrics=[BATCHES, RATE, "nothing"]).execute(context)
    assert result["metrics"] == {BATCHES: 60, RATE: 12.5, "nothing": None}
    assert "counters" not in result
    assert "no metrics with the names ['nothing']" in task_log()
    with pytest.raises(ControlHubMetricsUnavailableError, match="nothing"):
        operator(metrics=[BATCHES, "nothing"], fail_if_missing=True).execute(context)


def test_missing_counters_keep_record_counts(http, context, task_log):
    SingleJobHub(http, latest=succeeded(4), counts=counts_json(4))
    saves_counters(http, registry={})
    result = operator(counters=True, metrics=[BATCHES]).execute(context)
    assert (result["output_count"], result["counters"], result["metrics"]) == (90, None, None)
    assert "run 4: Control Hub has no saved counters" in task_log()
    with pytest.raises(ControlHubMetricsUnavailableError, match="run 4: Control Hub has no saved counters"):
        operator(counters=True, fail_if_missing=True).execute(context)


def test_missing_record_counts_keep_counters(http, context):
    SingleJobHub(http, latest=succeeded(4))
    saves_counters(http)
    result = operator(metrics=[BATCHES]).execute(context)
    assert (result["run_count"], result["output_count"], result["metrics"]) == (4, None, {BATCHES: 60})
    assert set(result) > {"input_per_second", "pipeline_version", "last_updated"}


LIVE = {"batch_count": 6, "idle_batch_count": 1, "input_count": 600, "output_count": 590, "error_count": 10}


def test_live_metrics_of_running_job_are_added(http, context):
    SingleJobHub(http, latest=running(5), counts=counts_json(5))
    serves_live_metrics(http)
    result = operator(realtime=True).execute(context)
    assert result["realtime"] == {
        **LIVE,
        "job_id": JOB_ID,
        "run_count": 5,
        "engines": [{"engine_id": "engine-1", **LIVE}],
        "engines_without": {},
    }
    assert result["output_count"] == 90
    assert json.loads(json.dumps(result)) == result


def test_record_counts_fall_back_to_status_or_counters(http, context):
    saves_counters(http, {"counters": {f"pipeline.batch{n}Records.counter": {"count": 7} for n in RECORDS}})
    SingleJobHub(http, latest=run_json(5))
    result = operator().execute(context)
    assert (result["run_count"], result["output_count"], result["stage_errors_count"]) == (5, 7, None)
    SingleJobHub(http, latest=run_json(5, outputRecordCount=6, lastReportedMetricTime=T0))
    assert operator(fail_if_missing=True).execute(context)["output_count"] == 6


RECORDS = ("Input", "Output", "Error")


def test_live_metrics_belong_to_running_run_only(http, context):
    SingleJobHub(http, latest=running(5), counts=counts_json(4))
    serves_live_metrics(http)
    latest = operator(realtime=True).execute(context)
    assert (latest["run_count"], latest["output_count"], latest["realtime"]["output_count"]) == (5, None, 590)
    runs = operator(realtime=True, runs="all").execute(context)
    assert [run["run_count"] for run in runs][:2] == [5, 4]
    assert [run["realtime"] is None for run in runs[:2]] == [False, True]
    assert operator(realtime=True, run_count=3).execute(context)["realtime"] is None


@pytest.mark.parametrize(
    ("latest", "said"), [(succeeded(4), "no engine runs it"), (running(4), "not connected to Control Hub's tunnel")]
)
def test_missing_live_metrics_are_logged(http, context, task_log, latest, said):
    SingleJobHub(http, latest=latest, counts=counts_json(4))
    serves_live_metrics(http, instance=None)
    result = operator(realtime=True).execute(context)
    assert (result["output_count"], result["realtime"]) == (90, None)
    assert said in task_log()
    with pytest.raises(ControlHubMetricsUnavailableError, match=said):
        operator(realtime=True, fail_if_missing=True).execute(context)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"runs": "some"}, "'runs' must be one of 'last', 'all'"),
        ({"limit": 3}, "'limit' requires runs='all'"),
        ({"run_count": 3, "start_time": STARTED}, "At most one of 'run_count', 'start_time'"),
        ({"run_count": 3, "runs": "all"}, "cannot be combined with runs='all'"),
        ({"start_time": "yesterday"}, "'start_time' must be a datetime or an ISO 8601 string"),
        ({"run_count": 0}, "'run_count' must be an integer"),
        ({"metrics": BATCHES}, "'metrics' must be a list of strings"),
        ({"counters": "yes"}, "'counters' must be true or false"),
        ({"realtime": 1}, "'realtime' must be true or false"),
    ],
)
def test_rejects_invalid_arguments_at_parse(arguments, said):
    with pytest.raises(ValueError, match=said):
        operator(**arguments)


def test_rendered_arguments_are_validated(http, context):
    task = operator(runs="{{ params.runs }}", limit="{{ params.limit }}")
    task.runs, task.limit = "last", "3"
    with pytest.raises(ValueError, match="'limit' requires runs='all'"):
        task.execute(context)
    assert http.request_history == []
