from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset, AssetAlias
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_streamsets.assets.jobs import job_asset
from airflow_provider_streamsets.compat import HAS_OUTLET_PARTITIONS
from airflow_provider_streamsets.control_hub import ControlHubExpectationError, ControlHubRunFailedError
from airflow_provider_streamsets.operators import _asset_events
from airflow_provider_streamsets.operators._asset_events import emit_asset_events
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from tests.unit.fakes.single_job_hub import JOB_ID, SingleJobHub, counts_json, event_json, failed, succeeded

try:
    from airflow.sdk.execution_time.context import OutletEventAccessors
except ImportError:
    from airflow.utils.context import OutletEventAccessors  # type: ignore[no-redef,attr-defined]

has_partitions = pytest.mark.skipif(not HAS_OUTLET_PARTITIONS, reason="this Airflow has no partition keys of outlets")
pytestmark = pytest.mark.usefixtures("connection", "sleep_calls")

ORDERS = Asset(uri="s3://warehouse/orders")
ALIAS = AssetAlias("loaded")
DAY = "{{ params.day }}"


@pytest.fixture
def hub(http) -> SingleJobHub:
    return SingleJobHub(
        http,
        latest=succeeded(3),
        script=[succeeded(4)],
        events=[event_json(60, "INACTIVE", "Job finished")],
        counts=counts_json(4),
    )


@pytest.fixture
def events(context) -> Any:
    context["outlet_events"] = OutletEventAccessors()
    return context["outlet_events"]


def operator(**arguments: Any) -> ControlHubRunJobOperator:
    return ControlHubRunJobOperator(task_id="task", job_id=JOB_ID, deferrable=False, **arguments)


def test_outlet_event_holds_task_result(hub, context, events):
    result = operator(outlets=[ORDERS]).execute(context)
    assert events[ORDERS].extra == {"payload": {**result, "runs": [result]}}
    assert (result["job_id"], result["run_count"], result["outcome"]) == (JOB_ID, 4, "SUCCEEDED")
    assert result["metrics"]["input_count"] == 100


def test_keeps_existing_event_extra(hub, context, events):
    events[ORDERS].extra["team"] = "sales"
    operator(outlets=[ORDERS]).execute(context)
    assert set(events[ORDERS].extra) == {"team", "payload"}


def test_every_outlet_gets_payload(hub, context, events):
    other = Asset(uri="s3://warehouse/customers")
    operator(outlets=[ORDERS, other]).execute(context)
    assert events[ORDERS].extra["payload"] == events[other].extra["payload"]


def test_alias_gets_event_of_job_asset(hub, context, events):
    result = operator(outlets=[ALIAS]).execute(context)
    if AIRFLOW_V_3_0_PLUS:
        (event,) = events[ALIAS].asset_alias_events
        emitted = event.dest_asset_key.uri, event.extra
    else:
        (event,) = events[ALIAS].dataset_alias_events
        emitted = event["dest_dataset_uri"], event["extra"]
    assert emitted == (job_asset(JOB_ID).uri, {"payload": {**result, "runs": [result]}})


def test_invalid_job_id_is_logged_without_event(context, events, task_log):
    task = operator(outlets=[ALIAS])
    emit_asset_events(task, context, {"job_id": "orders"}, None)
    assert "'job_id' must have the form '<uuid>:<organization>'" in task_log()
    assert len(events) == 0


def test_ignores_outlets_that_are_not_assets(hub, context, events):
    result = operator(outlets=["a table"]).execute(context)
    assert result["outcome"] == "SUCCEEDED"
    assert len(events) == 0


def test_returns_result_without_outlet_events(hub, context):
    assert operator(outlets=[ORDERS]).execute(context)["run_count"] == 4


def test_event_without_wait_names_started_run(hub, context, events):
    operator(outlets=[ORDERS], wait_for_completion=False).execute(context)
    facts = events[ORDERS].extra["payload"]
    assert (facts["job_id"], facts["run_count"], facts["outcome"]) == (JOB_ID, 4, None)


def test_failed_run_emits_no_event(hub, context, events):
    hub.script = [failed(4)]
    with pytest.raises(ControlHubRunFailedError):
        operator(outlets=[ORDERS]).execute(context)
    assert len(events) == 0


def test_violated_expectation_emits_no_event(hub, context, events):
    with pytest.raises(ControlHubExpectationError):
        operator(outlets=[ORDERS], expect=["input_count > 1000000"]).execute(context)
    assert len(events) == 0


def test_resumed_task_emits_event(hub, context, events):
    from airflow_provider_streamsets.control_hub import RunReport
    from airflow_provider_streamsets.control_hub.models import JobRun, RunRef
    from airflow_provider_streamsets.triggers.events import RunsWaitEvent

    report = RunReport.build(job_id=JOB_ID, job_name="Orders", run=JobRun.from_wire(succeeded(4)), events=())
    key = "2026-11-23" if HAS_OUTLET_PARTITIONS else None
    task = operator(outlets=[ORDERS], partition_key=key)
    event = RunsWaitEvent((RunRef(JOB_ID, 4, "Orders"),), reports={JOB_ID: report})
    result = task.execute_complete(context, event.to_payload())
    assert events[ORDERS].extra == {"payload": {**result, "runs": [result]}}
    assert getattr(events[ORDERS], "partition_keys", set()) == ({key} if key else set())


def test_asset_reference_gets_event(hub, context, events, monkeypatch):
    references = pytest.importorskip("airflow.sdk.definitions.asset", reason="Airflow 2 has no references to assets")
    # Airflow looks up what a reference stands for at its supervisor.
    monkeypatch.setattr(type(events), "_get_asset_from_db", staticmethod(lambda **_: ORDERS))
    result = operator(outlets=[references.Asset.ref(name="orders")]).execute(context)
    assert events[ORDERS].extra == {"payload": {**result, "runs": [result]}}


@has_partitions
@pytest.mark.parametrize(("given", "keys"), [(DAY, {"2026-11-23"}), (None, set())])
def test_event_has_rendered_partition_key(hub, context, events, given, keys):
    task = operator(outlets=[ORDERS], partition_key=given)
    task.render_template_fields({**context, "params": {"day": "2026-11-23"}})
    result = task.execute(context)
    assert events[ORDERS].partition_keys == keys
    assert events[ORDERS].extra == {"payload": {**result, "runs": [result]}}


@has_partitions
@pytest.mark.parametrize(
    ("key", "message"), [("", "a non-empty string"), ("x" * 251, "at most 250 characters, got 251")]
)
def test_rejects_invalid_partition_key_before_start(http, context, key, message):
    with pytest.raises(ValueError, match=f"'partition_key' must .*{message}"):
        operator(outlets=[ORDERS], partition_key=key)
    task = operator(outlets=[ORDERS], partition_key=DAY)
    task.render_template_fields({**context, "params": {"day": key}})
    with pytest.raises(ValueError, match=f"'partition_key' must .*{message}"):
        task.execute(context)
    assert not http.request_history


@has_partitions
def test_rejects_partition_key_that_no_event_can_have():
    with pytest.raises(ValueError, match="'partition_key' has no effect without an asset in 'outlets'"):
        operator(partition_key=DAY)
    with pytest.raises(ValueError, match="'partition_key' cannot be combined with an asset alias in 'outlets'"):
        operator(partition_key=DAY, outlets=[ORDERS, ALIAS])
    with DAG("dag", schedule=None, default_args={"partition_key": DAY}):
        assert operator().partition_key == DAY


def test_partition_key_requires_airflow_with_partitions(monkeypatch):
    monkeypatch.setattr(_asset_events, "HAS_OUTLET_PARTITIONS", False)
    with pytest.raises(ValueError, match=r"'partition_key' requires Airflow 3\.3"):
        operator(outlets=[ORDERS], partition_key=DAY)
    assert operator(outlets=[ORDERS]).partition_key is None
