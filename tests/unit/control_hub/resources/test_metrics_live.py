"""Counters of a run as Control Hub has saved them, and live from the engines through its tunnel."""

from __future__ import annotations

import pendulum
import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubMetricsUnavailableError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
    Job,
    MetricRegistry,
)
from airflow_provider_streamsets.control_hub.models import StageCounts
from tests.unit.fakes.api_payloads import (
    FORBIDDEN,
    HUB,
    JOB,
    JOB_ID,
    JR,
    ORGANIZATION,
    READ_TIMEOUT,
    REFUSED,
    REGISTRY,
    TUN,
    UNKNOWN,
    engine_json,
    issues_json,
    job_json,
    methods,
    paths,
    payload,
    pipeline_status_json,
    query,
    record_series_json,
    registry_json,
    run_json,
    succeeded,
)

SERIES = f"{HUB}/timeseries/rest/v1/metrics/job/{JOB_ID}/recordCount"
EMPTY = {"counters": {}, "meters": {}, "gauges": {}, "histograms": None}


def test_registry_of_latest_run_is_read(http, client):
    http.get(REGISTRY, json=registry_json(100))
    registry = client.metrics.registry(JOB_ID)
    assert registry.value("stage.Trash_01.inputRecords.counter") == 100
    assert paths(http) == [f"GET /jobrunner/rest/v1/metrics/job/{JOB_ID}"]
    assert query(http.last_request) == {}


def test_registry_of_run_and_engine_is_requested(http, client):
    http.get(REGISTRY, json=registry_json())
    client.metrics.registry(JOB_ID, 7, engine_id="engine-1")
    assert query(http.last_request) == {"runCount": "7", "sdcId": "engine-1"}


@pytest.mark.parametrize(
    "answer",
    [
        {"content": b""},
        {"json": None},
        {"json": {}},
        {"json": []},
        {"json": EMPTY},
        {"json": {**EMPTY, "gauges": registry_json()["gauges"]}},
        {"status_code": 204},
        {"status_code": 400},
        {"status_code": 404},
        {"status_code": 409},
        {"status_code": 404, "text": "<html>no such page</html>"},
        {"status_code": 500, "json": issues_json(("JOBRUNNER_9", "no metrics"))},
    ],
)
def test_missing_registry_is_none(http, kill_client, answer):
    http.get(REGISTRY, **answer)
    assert kill_client.metrics.registry(JOB_ID) is None
    assert http.call_count == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status_code": 401}, ControlHubAuthenticationError),
        (FORBIDDEN, ControlHubPermissionError),
        ({"status_code": 429}, ControlHubUnavailableError),
        ({"status_code": 503}, ControlHubUnavailableError),
        ({"exc": READ_TIMEOUT}, ControlHubUnavailableError),
        ({"exc": REFUSED}, ControlHubUnavailableError),
        ({"text": "<html>"}, ControlHubUnexpectedResponseError),
        ({"json": [1]}, ControlHubUnexpectedResponseError),
        ({"json": {"counters": []}}, ControlHubUnexpectedResponseError),
    ],
)
def test_failure_is_not_missing_registry(http, kill_client, answer, error):
    http.get(REGISTRY, **answer)
    with pytest.raises(error):
        kill_client.metrics.registry(JOB_ID)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pipeline.batchCount.counter", 25),
        ("stage.JDBCProducer_01.inputRecords.counter", 24740),
        ("pipeline.batchOutputRecords.meter", 24740),
        ("pipeline.batchCount", None),
        ("nothing", None),
        ("nothing.m1_rate", None),
        ("", None),
    ],
)
def test_example_registry_has_values_by_name(name, value):
    assert MetricRegistry.from_wire(payload("latest-metrics")).value(name) == value


def test_meter_has_rates_by_name():
    registry = MetricRegistry.from_wire(registry_json(120))
    assert registry.value("pipeline.batchInputRecords.meter") == 120
    assert registry.value("pipeline.batchInputRecords.meter.m1_rate") == 2.0
    assert registry.value("pipeline.batchInputRecords.meter.h24_rate") is None
    assert registry.value("stage.Trash_01.inputRecords.counter.m1_rate") is None


def test_metric_without_number_has_no_value():
    registry = MetricRegistry.from_wire({"counters": {"a.counter": {"count": None}, "b.counter": {}}})
    assert (registry.value("a.counter"), registry.value("b.counter")) == (None, None)
    assert registry.counts() == {}


@pytest.mark.parametrize("counter", [5, [], {"count": "5"}, {"count": True}, None])
def test_invalid_metric_raises(counter):
    registry = MetricRegistry.from_wire({"counters": {"a.counter": counter}})
    with pytest.raises(ControlHubUnexpectedResponseError, match=r"metric 'a\.counter'"):
        registry.value("a.counter")


def running(*pipelines, **fields):
    return job_json(currentJobStatus=run_json(4, pipelineStatus=list(pipelines), **fields))


def connection_url(engine_id="engine-1"):
    return f"{TUN}/connection/{engine_id}"


NAME_ON_ENGINE = f"Orders__{JOB_ID.replace(':', '__')}"


def metrics_url(engine_id="engine-1", pipeline=NAME_ON_ENGINE):
    return f"{TUN}/{engine_id}/rest/v1/pipeline/{pipeline}/metrics"


def connect(http, engine_id="engine-1", registry=None, **engine):
    """Register a connected engine, with what it reports about the pipeline."""
    http.get(f"{JR}/sdc/{engine_id}", json=engine_json(engine_id, **engine))
    http.get(connection_url(engine_id), json={"instanceId": f"tunnel-{engine_id}"})
    http.get(metrics_url(engine_id), json=registry)


def test_realtime_uses_engine_tunnel(http, client):
    http.get(JOB, json=running(pipeline_status_json()))
    connect(http, registry=registry_json(100, batches=5, idle=2, errors=3))
    live = client.metrics.realtime(JOB_ID)
    parts = {"batch_count": 5, "idle_batch_count": 2, "input_count": 100, "output_count": 97, "error_count": 3}
    assert live.to_dict() == {
        **parts,
        "job_id": JOB_ID,
        "run_count": 4,
        "engines": [{"engine_id": "engine-1", **parts}],
        "engines_without": {},
    }
    assert paths(http) == [
        f"GET /jobrunner/rest/v1/job/{JOB_ID}",
        "GET /jobrunner/rest/v1/sdc/engine-1",
        "GET /tunneling/rest/connection/engine-1",
        f"GET /tunneling/rest/engine-1/rest/v1/pipeline/{NAME_ON_ENGINE}/metrics",
    ]
    assert query(http.last_request) == {"onlyIfExists": "true", "TUNNELING_INSTANCE_ID": "tunnel-engine-1"}


def test_realtime_does_not_reload_job(http, client):
    connect(http, registry=registry_json())
    assert client.metrics.realtime(Job.from_wire(running(pipeline_status_json()))).input_count == 100
    assert http.call_count == 3


def test_realtime_example_is_summed(http, client):
    connect(http, registry=payload("realtime-metrics"))
    live = client.metrics.realtime(Job.from_wire(running(pipeline_status_json())))
    assert (live.batch_count, live.idle_batch_count) == (364, 0)
    assert (live.input_count, live.output_count, live.error_count) == (17535770, 17535770, 0)


@pytest.mark.parametrize(("separator", "name"), [("__", f"P__{ORGANIZATION}"), ("--", f"P:{ORGANIZATION}")])
def test_pipeline_colons_are_replaced_for_engine(http, client, separator, name):
    connect(http, idSeparator=separator)
    http.get(metrics_url(pipeline=name), json=registry_json())
    job = Job.from_wire(running(pipeline_status_json(name=f"P:{ORGANIZATION}")))
    assert client.metrics.realtime(job).input_count == 100


def test_tunnel_takes_no_project(http, make_client):
    connect(http, registry=registry_json())
    make_client(project_id="p1").metrics.realtime(Job.from_wire(running(pipeline_status_json())))
    assert ["project" in query(request) for request in http.request_history] == [True, False, False]


TWO = running(pipeline_status_json("engine-1"), pipeline_status_json("engine-2"))


def test_engine_metrics_are_summed(http, client):
    connect(http, "engine-1", registry_json(100, batches=5, idle=2, errors=3))
    connect(http, "engine-2", registry_json(1000, batches=50, idle=20, errors=0))
    live = client.metrics.realtime(Job.from_wire(TWO))
    assert (live.batch_count, live.idle_batch_count, live.error_count) == (55, 22, 3)
    assert (live.input_count, live.output_count) == (1100, 1097)
    assert [(engine.engine_id, engine.input_count) for engine in live.engines] == [
        ("engine-1", 100),
        ("engine-2", 1000),
    ]


NO_INSTANCE = [
    {"content": b""},
    {"json": None},
    {"json": {}},
    {"json": {"instanceId": None}},
    {"json": {"instanceId": ""}},
]
NO_CONNECTION = [
    *NO_INSTANCE,
    {"json": ["x"]},
    {"status_code": 404},
    {"status_code": 500, "json": {"RemoteException": {"message": "gone"}}},
    {"status_code": 503},
    {"exc": READ_TIMEOUT},
    {"text": "<html>"},
    {"status_code": 403},
]
NO_METRICS = [{"status_code": 204}, {"content": b""}, {"json": None}, {"json": {}}, *NO_CONNECTION[5:]]


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        *((connection_url("engine-2"), answer) for answer in NO_CONNECTION),
        *((metrics_url("engine-2"), answer) for answer in NO_METRICS),
        (f"{JR}/sdc/engine-2", {"status_code": 404}),
        (f"{JR}/sdc/engine-2", {"content": b""}),
    ],
)
def test_unresponsive_engine_does_not_block_others(http, kill_client, url, answer):
    connect(http, "engine-1", registry_json(100))
    connect(http, "engine-2", registry_json(1000))
    http.get(url, **answer)
    http.post(f"{JR}/sdcs", json={})
    live = kill_client.metrics.realtime(Job.from_wire(TWO))
    assert [engine.engine_id for engine in live.engines] == ["engine-1"]
    assert live.input_count == 100
    assert list(live.engines_without) == ["engine-2"]
    assert live.engines_without["engine-2"]
    assert live.to_dict()["engines_without"] == live.engines_without


@pytest.mark.parametrize("answer", NO_INSTANCE)
def test_disconnected_engine_is_reported(http, client, answer):
    connect(http)
    http.get(connection_url(), **answer)
    with pytest.raises(ControlHubMetricsUnavailableError, match="engine-1: the engine is not connected to"):
        client.metrics.realtime(Job.from_wire(running(pipeline_status_json())))
    assert methods(http) == ["GET", "GET"]


@pytest.mark.parametrize("answer", [{"status_code": 204}, {"content": b""}, {"json": None}])
def test_inactive_pipeline_is_reported(http, client, answer):
    connect(http)
    http.get(metrics_url(), **answer)
    with pytest.raises(ControlHubMetricsUnavailableError, match="engine-1: the pipeline is not active on the engine"):
        client.metrics.realtime(Job.from_wire(running(pipeline_status_json())))


def test_unavailable_metrics_name_every_reason(http, client):
    connect(http, "engine-1")
    connect(http, "engine-2")
    http.get(connection_url("engine-2"), content=b"")
    with pytest.raises(
        ControlHubMetricsUnavailableError, match=r"engine-1: the pipeline .*engine-2: the engine is not conn"
    ):
        client.metrics.realtime(Job.from_wire(TWO))


def test_unauthorized_request_fails_at_once(http, client):
    http.get(f"{JR}/sdc/engine-1", status_code=401)
    with pytest.raises(ControlHubAuthenticationError):
        client.metrics.realtime(Job.from_wire(TWO))
    assert http.call_count == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (None, "never run"),
        (succeeded(4), "INACTIVE/GRAY"),
        (run_json(4, "ACTIVATING"), "ACTIVATING/GREEN"),
        (run_json(4, pipelineStatus=None), "ACTIVE/GREEN"),
        (run_json(4, pipelineStatus=[{"sdcId": None, "name": "x"}]), "ACTIVE/GREEN"),
    ],
)
def test_job_without_engine_has_no_live_metrics(http, client, status, message):
    http.get(JOB, json=job_json(currentJobStatus=status))
    with pytest.raises(
        ControlHubMetricsUnavailableError, match=f"no engine runs it \\({message}\\). Only running jobs have"
    ):
        client.metrics.realtime(JOB_ID)
    assert http.call_count == 1


def test_unknown_job_is_not_found(http, client):
    http.get(JOB, **UNKNOWN)
    with pytest.raises(ControlHubNotFoundError):
        client.metrics.realtime(JOB_ID)


@pytest.mark.parametrize(
    "registry",
    [
        {**registry_json(), "gauges": {}},
        {**registry_json(), "gauges": None},
        {**registry_json(), "gauges": {"RuntimeStatsGauge.gauge": None}},
        {**registry_json(), "gauges": {"RuntimeStatsGauge.gauge": {"value": None}}},
    ],
)
def test_registry_without_batches_counts_zero(http, client, registry):
    connect(http, registry=registry)
    live = client.metrics.realtime(Job.from_wire(running(pipeline_status_json())))
    assert (live.batch_count, live.idle_batch_count, live.input_count) == (0, 0, 100)


@pytest.mark.parametrize("registry", [[1], "x", {**registry_json(), "gauges": {"RuntimeStatsGauge.gauge": 5}}])
def test_invalid_registry_is_unavailable(http, client, registry):
    connect(http, registry=registry)
    with pytest.raises(ControlHubMetricsUnavailableError, match="Unexpected response from Control Hub") as caught:
        client.metrics.realtime(Job.from_wire(running(pipeline_status_json())))
    assert isinstance(caught.value, ControlHubError)


# Time series and stages


def test_series_joins_counts_by_time(http, client):
    later, earlier = "2026-07-01T10:01:00Z", "2026-07-01T10:00:00Z"
    http.get(SERIES, json=record_series_json({later: (30, 20, 10), earlier: (10, 8, 2)}))
    since = pendulum.datetime(2026, 7, 1, 9)
    samples = client.metrics.series(JOB_ID, since, since.add(hours=2))
    assert [sample.to_dict() for sample in samples] == [
        {"time": time, "input_count": counts[0], "output_count": counts[1], "error_count": counts[2]}
        for time, counts in ((earlier, (10, 8, 2)), (later, (30, 20, 10)))
    ]
    assert query(http.last_request) == {"startTime": "1782896400000", "endTime": "1782903600000", "limit": "1000"}


@pytest.mark.parametrize("answer", [[], None, [{"series": [], "error": None}], [{"series": None}]])
def test_job_without_series_has_no_samples(http, client, answer):
    http.get(SERIES, json=answer)
    assert client.metrics.series(JOB_ID, pendulum.datetime(2026, 7, 1)) == []


def test_series_accepts_epoch_milliseconds_and_ignores_others(http, client):
    body = record_series_json({1782900000000: (10, 8, 2), "no time": (1, 1, 1)})
    body[0]["series"].append({"name": "pipeline_batchCount_meter", "columns": ["time", "count"], "values": [[1, 2]]})
    http.get(SERIES, json=body)
    (sample,) = client.metrics.series(JOB_ID, pendulum.datetime(2026, 7, 1))
    assert sample.time == pendulum.datetime(2026, 7, 1, 10)
    assert (sample.input_count, sample.output_count, sample.error_count) == (10, 8, 2)


def test_stages_have_counts_of_counters_and_meters():
    counters = {
        "stage.Reader_01.outputRecords.counter": {"count": 9},
        "stage.Reader_01:lane.outputRecords.counter": {"count": 5},
        "stage.Writer_01.inputRecords.counter": {"count": 9},
        "stage.Writer_01.stageErrors.counter": {"count": 1},
        "pipeline.batchCount.counter": {"count": 3},
    }
    meters = {"stage.Writer_01.errorRecords.meter": {"count": 2, "m1_rate": 0.1}}
    registry = MetricRegistry.from_wire({"counters": counters, "meters": meters})
    assert registry.stages() == [
        StageCounts("Reader_01", output_count=9),
        StageCounts("Writer_01", input_count=9, error_count=2, stage_errors_count=1),
    ]
