"""What ``make chaos`` has brought to light, each in the smallest form that shows it."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.triggers import base as trigger_module
from airflow_provider_streamsets.triggers.runs import ControlHubJobRunTrigger
from tests.unit.scripted_hub import HUB, JOB_ID, ScriptedHub, run_json
from tests.unit.virtual_time import run_virtually

pytestmark = pytest.mark.usefixtures("connection")

CURRENT_STATUS = f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/currentStatus"
TROUBLE = {"status_code": 500, "json": {"ISSUES": [{"code": "JOBRUNNER_500", "message": "Internal Server Error"}]}}


@pytest.fixture
def killed_trigger(monkeypatch, pauses):
    """The trigger of a deferred task that a person has marked failed."""

    async def read(conn_id: str) -> tuple[Any, dict[str, Any]]:
        connection = BaseHook.get_connection(conn_id)
        return connection, connection.extra_dejson

    async def no(_: Any) -> bool:
        return False

    monkeypatch.setattr(connections, "get_connection_and_extra", read)
    monkeypatch.setattr(trigger_module, "is_still_deferred", no)
    return ControlHubJobRunTrigger(job_id=JOB_ID, job_name="Orders", run_count=4, poll_interval=30, stop_on_kill=True)


def test_a_killed_trigger_stops_its_run_although_control_hub_is_in_trouble_at_first(http, killed_trigger):
    hub = ScriptedHub(http, latest=run_json(4))
    http.get(CURRENT_STATUS, [TROUBLE, TROUBLE, TROUBLE, {"json": run_json(4)}])
    run_virtually(killed_trigger.on_kill())
    assert hub.stops == ["stop"]


def test_a_killed_trigger_gives_up_and_says_so_when_the_trouble_does_not_end(http, killed_trigger, task_log):
    hub = ScriptedHub(http, latest=run_json(4))
    http.get(CURRENT_STATUS, **TROUBLE)
    run_virtually(killed_trigger.on_kill())
    assert hub.stops == []
    assert "which may go on" in task_log()


def test_a_killed_trigger_does_not_ask_again_and_again_with_a_refused_credential(http, killed_trigger, task_log):
    hub = ScriptedHub(http, latest=run_json(4))
    asked = http.get(CURRENT_STATUS, status_code=401)
    run_virtually(killed_trigger.on_kill())
    assert hub.stops == []
    assert asked.call_count <= 16, "with back-off, for as long as credential_patience says"
    assert "which may go on" in task_log()
