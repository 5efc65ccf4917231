from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Locator, Page, expect

from dev.local_airflow import LocalAirflow, wait_until
from tests.ui.scene import ACKNOWLEDGE, DO_NOT_STOP, RUN_ID, STOP, Scene, Task, run_of


def show(page: Page, scene: Scene, task: Task, state: str) -> Locator:
    page.goto(scene.wait_for(task, state).tab)
    return run_of(page, task.job)


def audit_entries(airflow: LocalAirflow, task: Task) -> list[dict[str, Any]]:
    """Return the entries of the audit log about actions of the plugin on a task."""
    entries = airflow.api("GET", "/eventLogs", dag_id=task.dag_id, task_id=task.task_id)["event_logs"]
    return [entry for entry in entries if entry["event"].startswith("streamsets_")]


def test_stop_stops_run(page, scene, sandbox, airflow):
    run = show(page, scene, STOP, "deferred")
    run.get_by_role("button", name="Stop run").click()
    dialog = page.get_by_role("dialog", name=f"Stop run: {STOP.job}, run 1")
    expect(dialog).to_contain_text("Task 'stop', which waits for it, will fail")
    dialog.get_by_role("button", name="Stop run").click()
    expect(run.get_by_text("Stop of run 1 requested.")).to_be_visible()
    expect(run).to_contain_text("Stopped")
    expect(run.get_by_role("button", name="Stop run")).to_have_count(0)
    assert sandbox.wait_for_status(STOP.job, "INACTIVE")["run_count"] == 1
    scene.wait_for(STOP, "failed")
    (entry,) = audit_entries(airflow, STOP)
    assert (entry["event"], entry["owner"], entry["run_id"]) == ("streamsets_stop_run", "admin", RUN_ID)
    assert json.loads(entry["extra"])["job_id"] == sandbox.job_id(STOP.job)


def test_cancelled_confirmation_does_nothing(page, scene, sandbox, airflow):
    run = show(page, scene, DO_NOT_STOP, "deferred")
    button = run.get_by_role("button", name="Stop run")
    dialog = page.get_by_role("dialog", name="Stop run")
    for cancel in (dialog.get_by_role("button", name="Go back").click, lambda: page.keyboard.press("Escape")):
        button.press("Enter")
        expect(dialog).to_be_visible()
        cancel()
        expect(dialog).to_be_hidden()
        expect(button).to_be_focused()
        expect(button).to_be_enabled()
    assert sandbox.job_state(DO_NOT_STOP.job)["status"] == "ACTIVE"
    assert not audit_entries(airflow, DO_NOT_STOP)


def test_acknowledge_acknowledges_error(page, scene, sandbox, airflow):
    run = show(page, scene, ACKNOWLEDGE, "failed")
    expect(run.get_by_text("REMOTE_14 - Cannot connect to host").first).to_be_visible()
    assert sandbox.job_state(ACKNOWLEDGE.job)["status"] == "INACTIVE_ERROR"
    run.get_by_role("button", name="Acknowledge error").click()
    dialog = page.get_by_role("dialog", name=f"Acknowledge error: {ACKNOWLEDGE.job}, run 1")
    dialog.get_by_role("button", name="Acknowledge error").click()
    expect(run.get_by_text("Error of run 1 acknowledged.")).to_be_visible()
    expect(run.get_by_role("button", name="Acknowledge error")).to_have_count(0)
    assert sandbox.job_state(ACKNOWLEDGE.job)["status"] == "INACTIVE"
    (entry,) = wait_until(lambda: audit_entries(airflow, ACKNOWLEDGE), "the entry in the audit log", 10)
    assert (entry["event"], entry["owner"], entry["run_id"]) == ("streamsets_acknowledge_error", "admin", RUN_ID)


def test_action_that_is_not_possible_is_refused(scene, send, sandbox):
    job_id = sandbox.job_id(DO_NOT_STOP.job)
    scene.wait_for(DO_NOT_STOP, "deferred")
    response = send("admin", "POST", "api/acknowledge", **DO_NOT_STOP.query, job_id=job_id)
    assert response.status_code == 409
    assert "has no error to acknowledge" in response.json()["detail"]
