from __future__ import annotations

import re

import pytest

from airflow_provider_streamsets.control_hub import ControlHubJobStateError, ControlHubNotFoundError
from airflow_provider_streamsets.operators.engines import (
    ControlHubBalanceEnginesOperator,
    ControlHubBalanceJobsOperator,
)
from tests.unit.fakes.bulk_actions_hub import BulkActionsHub, job_with_status
from tests.unit.fakes.single_job_hub import HUB

pytestmark = pytest.mark.usefixtures("connection")

SDCS = f"{HUB}/jobrunner/rest/v1/sdcs"


def engine_json(name, *, labels=("all",), responding=True):
    return {
        "id": name,
        "httpUrl": f"http://{name}.example.com:18630",
        "version": "5.11.0",
        "executorType": "COLLECTOR",
        "labels": list(labels),
        "reportedLabels": [],
        "responding": responding,
    }


@pytest.fixture
def hub(http):
    """Two engines that respond, and one that does not."""
    engines = [
        engine_json("one", labels=("all", "prod")),
        engine_json("two"),
        engine_json("lost", labels=("all", "field"), responding=False),
    ]
    by_id = {engine["id"]: engine for engine in engines}
    http.get(SDCS, json={"totalCount": 3, "offset": 0, "len": 250, "data": engines})
    http.post(SDCS, json=lambda r, _: {name: by_id[name] for name in r.json() if name in by_id})
    return BulkActionsHub(http)


def balance_engines(**arguments):
    return ControlHubBalanceEnginesOperator(task_id="balance", **arguments)


def balance_jobs(**arguments):
    return ControlHubBalanceJobsOperator(task_id="balance", **{"job_ids": ["a:org", "b:org"], **arguments})


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"engine_ids": ["two", " one "]}, ["two", "one"]),
        ({"engine_ids": "['two', 'one']"}, ["two", "one"]),
        ({"engine_labels": ["prod"]}, ["one"]),
        ({"all_engines": True}, ["one", "two"]),
        ({"all_engines": "True"}, ["one", "two"]),
    ],
)
def test_selected_engines_are_balanced_in_one_request(hub, context, chosen, expected):
    task = balance_engines(all_engines=True)
    task.all_engines = False
    for name, rendered in chosen.items():
        setattr(task, name, rendered)
    assert task.execute(context) == expected
    assert hub.asked == [("balanceSDCs", expected)]
    assert context["ti"].xcoms == {}


def test_unresponsive_engine_is_skipped_with_warning(hub, context, task_log):
    assert balance_engines(engine_ids=["one", "lost"]).execute(context) == ["one"]
    assert "Engine lost (http://lost.example.com:18630) does not respond; skipping it." in task_log()


@pytest.mark.parametrize("label", ["field", "unused"])
def test_labels_without_responding_engine_raise(hub, context, label):
    with pytest.raises(ControlHubNotFoundError, match="no engine with the labels"):
        balance_engines(engine_labels=[label]).execute(context)
    assert hub.asked == []


def test_unknown_engine_ids_raise(hub, context):
    with pytest.raises(ControlHubNotFoundError, match=re.escape("Cannot read engines missing, unknown: not found.")):
        balance_engines(engine_ids=["missing", "one", "unknown"]).execute(context)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "is required, got none"),
        ({"all_engines": False}, "is required, got none"),
        ({"engine_labels": ["prod"], "all_engines": True}, "got 'engine_labels' and 'all_engines'"),
        ({"engine_ids": "one"}, "'engine_ids' must be a list of strings"),
        ({"engine_ids": [7]}, "'engine_ids' must be a list of non-empty strings"),
        ({"all_engines": 1}, "'all_engines' must be true or false"),
    ],
)
def test_engine_selection_is_validated_at_parse(arguments, said):
    with pytest.raises(ValueError, match=said):
        balance_engines(**arguments)


def test_engine_selection_is_validated_after_rendering(hub, context):
    task = balance_engines(all_engines="{{ params.all }}")
    task.all_engines = "False"
    with pytest.raises(ValueError, match="is required, got none"):
        task.execute(context)
    assert hub.asked == []


def test_active_failover_jobs_are_balanced_in_one_request(http, context):
    hub = BulkActionsHub(
        http, job_with_status("a", "ACTIVE", migrateOffsets=True), job_with_status("b", "ACTIVE", migrateOffsets=True)
    )
    assert balance_jobs().execute(context) == ["a:org", "b:org"]
    assert hub.asked == [("balanceJobs", ["a:org", "b:org"])]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (job_with_status("b", "INACTIVE", migrateOffsets=True), "'b' \\(b:org\\) is INACTIVE"),
        (job_with_status("b", "ACTIVE"), "'b' \\(b:org\\) has failover disabled"),
    ],
)
def test_unbalanceable_job_raises_unless_skipped(http, context, other, why):
    hub = BulkActionsHub(http, job_with_status("a", "ACTIVE", migrateOffsets=True), other)
    with pytest.raises(ControlHubJobStateError, match=f"Cannot balance jobs: {why}.*skip_inactive=True"):
        balance_jobs().execute(context)
    assert hub.asked == []
    assert balance_jobs(skip_inactive=True).execute(context) == ["a:org"]
    assert hub.asked == [("balanceJobs", ["a:org"])]
