"""What ``make chaos`` has brought to light, each in the smallest form that shows it."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.triggers import base as trigger_module
from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger
from tests.unit.fakes.single_job_hub import HUB, JOB_ID, SingleJobHub, run_json
from tests.unit.fakes.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.usefixtures("connection")

CURRENT_STATUS = f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/currentStatus"
TROUBLE = {"status_code": 500, "json": {"ISSUES": [{"code": "JOBRUNNER_500", "message": "Internal Server Error"}]}}


@pytest.fixture
def killed_trigger(monkeypatch, sleep_calls):
    """The trigger of a deferred task that a person has marked failed."""

    async def read(conn_id: str) -> tuple[Any, dict[str, Any]]:
        connection = BaseHook.get_connection(conn_id)
        return connection, connection.extra_dejson

    async def no(_: Any) -> bool:
        return False

    monkeypatch.setattr(connections, "get_connection_and_extra", read)
    monkeypatch.setattr(trigger_module, "is_still_deferred", no)
    return ControlHubRunsTrigger(runs=[[JOB_ID, 4, None, None, "Orders"]], poll_interval=30, stop_on_kill=True)


def test_kill_stops_run_after_transient_errors(http, killed_trigger):
    hub = SingleJobHub(http, latest=run_json(4))
    http.get(CURRENT_STATUS, [TROUBLE, TROUBLE, TROUBLE, {"json": run_json(4)}])
    run_in_virtual_time(killed_trigger.on_kill())
    assert hub.stops == ["stop"]


def test_kill_gives_up_with_warning_on_lasting_errors(http, killed_trigger, task_log):
    hub = SingleJobHub(http, latest=run_json(4))
    http.get(CURRENT_STATUS, **TROUBLE)
    run_in_virtual_time(killed_trigger.on_kill())
    assert hub.stops == []
    assert "which may still be active" in task_log()


def test_kill_backs_off_with_refused_credential(http, killed_trigger, task_log):
    hub = SingleJobHub(http, latest=run_json(4))
    asked = http.get(CURRENT_STATUS, status_code=401)
    run_in_virtual_time(killed_trigger.on_kill())
    assert hub.stops == []
    assert asked.call_count <= 16, "with back-off, for as long as credential_grace_period says"
    assert "which may still be active" in task_log()
