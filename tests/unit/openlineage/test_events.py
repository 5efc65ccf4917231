"""What happens if OpenLineage is inactive, refused or broken, and the parent of a run."""

from __future__ import annotations

import json
import sys
import threading
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowConfigException

from airflow_provider_streamsets import openlineage
from airflow_provider_streamsets.assets.jobs import convert_asset_to_openlineage, job_asset
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from tests.unit.fakes.single_job_hub import HUB, JOB_ID, SingleJobHub, counts_json, event_json, succeeded

events = pytest.importorskip("airflow_provider_streamsets.openlineage.events")

pytestmark = pytest.mark.usefixtures("connection", "sleep_calls")


@pytest.fixture
def hub(http) -> SingleJobHub:
    hub = SingleJobHub(
        http,
        latest=succeeded(3),
        script=[succeeded(4)],
        events=[event_json(60, "INACTIVE", "Job finished")],
        counts=counts_json(4),
        stored_parameters={"OPENLINEAGE_CONTEXT": ""},
    )
    http.post(f"{HUB}/jobrunner/rest/v1/jobs", json=lambda *_: [hub.job()])
    return hub


@pytest.fixture(autouse=True)
def task_instance(context) -> Any:
    ti = context["ti"]
    # Of the task instance in Airflow 2.
    ti.logical_date = datetime(2026, 7, 1, tzinfo=timezone.utc)
    ti.dag_run = SimpleNamespace(logical_date=ti.logical_date, clear_number=0, conf={})
    ti.get_template_context = lambda: context
    return ti


@pytest.fixture
def emitted(monkeypatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr("airflow.providers.openlineage.conf.is_disabled", lambda: False)
    monkeypatch.setattr(events, "emit", found.append)
    return found


def run(context: Any, **arguments: Any) -> Any:
    task = ControlHubRunJobOperator(task_id="task", job_id=JOB_ID, deferrable=False, **arguments)
    result = task.execute(context)
    task.get_openlineage_facets_on_complete(context["ti"])
    return result


def test_run_has_start_and_end(hub, context, emitted):
    run(context)
    assert [event.eventType.value for event in emitted] == ["START", "COMPLETE"]


def test_inactive_provider_is_not_loaded_and_costs_no_request(hub, http, context, monkeypatch):
    monkeypatch.setitem(sys.modules, events.__name__, None)
    monkeypatch.setattr("airflow.providers.openlineage.conf.is_disabled", lambda: True)
    assert run(context, openlineage_inject_parent_job_info=True)["outcome"] == "SUCCEEDED"
    assert not any(request.path == "/jobrunner/rest/v1/jobs" for request in http.request_history)


def test_old_provider_gets_no_events(hub, context, emitted, monkeypatch):
    monkeypatch.delitem(sys.modules, events.__name__)
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.utils.emission_policy", None)
    assert run(context)["outcome"] == "SUCCEEDED"
    assert emitted == []


def test_missing_provider_does_not_fail_task(hub, context, monkeypatch):
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.conf", None)
    assert run(context, openlineage_inject_parent_job_info=True)["outcome"] == "SUCCEEDED"
    assert hub.started_with[0].get("OPENLINEAGE_CONTEXT") in (None, "")


def test_invalid_configuration_does_not_fail_task(hub, context, monkeypatch, caplog):
    def fail() -> bool:
        raise AirflowConfigException("the transport is no JSON")

    monkeypatch.setattr("airflow.providers.openlineage.conf.is_disabled", fail)
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__SPARK_INJECT_PARENT_JOB_INFO", "perhaps")
    assert run(context)["outcome"] == "SUCCEEDED"
    assert "the transport is no JSON" in caplog.text


def test_emission_policy_excludes_task(hub, context, emitted):
    from airflow.providers.openlineage.api.emission_policy import extend_global_openlineage_emission_policy

    task = ControlHubRunJobOperator(task_id="task", job_id=JOB_ID, deferrable=False)
    extend_global_openlineage_emission_policy(task, emit=False)
    task.execute(context)
    assert emitted == []


def test_failed_emission_does_not_fail_task(hub, context, emitted, monkeypatch, caplog):
    def fail(event: Any) -> None:
        raise RuntimeError("no broker")

    monkeypatch.setattr(events, "emit", fail)
    task = ControlHubRunJobOperator(task_id="task", job_id=JOB_ID, deferrable=False)
    assert task.execute(context)["outcome"] == "SUCCEEDED"
    assert "Could not emit OpenLineage events of started runs: no broker" in caplog.text


def test_blocked_emission_does_not_hold_up_task(hub, context, emitted, monkeypatch, caplog):
    released = threading.Event()
    monkeypatch.setattr(openlineage, "_START_MAX_WAIT", 0.01)
    monkeypatch.setattr(events, "emit", lambda event: released.wait(60))
    task = ControlHubRunJobOperator(task_id="task", job_id=JOB_ID, deferrable=False)
    assert task.execute(context)["outcome"] == "SUCCEEDED"
    released.set()
    assert "take too long; continuing without" in caplog.text


def test_unreachable_job_is_named_by_what_is_known(hub, http, context, emitted):
    http.post(f"{HUB}/jobrunner/rest/v1/jobs", status_code=503, text="down")
    run(context)
    assert [event.job.name for event in emitted] == ["Orders", "Orders"]
    assert [event.outputs for event in emitted] == [[], []]


def test_parent_is_injected_into_declared_parameter(hub, context, emitted):
    run(context, openlineage_inject_parent_job_info=True, runtime_parameters={"DAY": "1"})
    parent = json.loads(hub.started_with[0]["OPENLINEAGE_CONTEXT"])["parent"]
    assert parent["run"]["runId"] == emitted[0].run.facets["parent"].run.runId
    assert parent["job"] == {"namespace": "default", "name": "dag.task"}
    assert parent["root"]["job"] == {"namespace": "default", "name": "dag"}
    assert hub.started_with[0]["DAY"] == "1"


def test_parent_is_injected_as_configured(hub, context, emitted, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__SPARK_INJECT_PARENT_JOB_INFO", "True")
    run(context)
    assert json.loads(hub.started_with[0]["OPENLINEAGE_CONTEXT"])


@pytest.mark.parametrize(
    ("stored", "arguments"),
    [
        ({"OPENLINEAGE_CONTEXT": ""}, {}),
        ({"OPENLINEAGE_CONTEXT": ""}, {"openlineage_inject_parent_job_info": False}),
        ({}, {"openlineage_inject_parent_job_info": True}),
        (
            {"OPENLINEAGE_CONTEXT": ""},
            {"openlineage_inject_parent_job_info": True, "runtime_parameters": {"OPENLINEAGE_CONTEXT": "mine"}},
        ),
    ],
    ids=["not wanted", "refused", "not declared", "given"],
)
def test_parent_is_not_injected(hub, context, emitted, stored, arguments):
    hub.stored_parameters = stored
    run(context, **arguments)
    assert "parent" not in (hub.started_with[0] or {}).get("OPENLINEAGE_CONTEXT", "")


def test_asset_of_job_is_dataset():
    job_id = "9aaf0c53-90d4-5fda-bc98-e94bcd501655:example"
    dataset = convert_asset_to_openlineage(job_asset(job_id), None)
    assert dataset.namespace == "streamsets://example"
    assert dataset.name == "jobs/9aaf0c53-90d4-5fda-bc98-e94bcd501655"
