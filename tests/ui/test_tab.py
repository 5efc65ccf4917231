from __future__ import annotations

import re

import pytest
import requests
from playwright.sync_api import Locator, Page, Route, expect

from tests.ui.scene import (
    BULK,
    DEFERRED,
    FAILED,
    MAPPED,
    OTHER,
    RUNNING,
    SUCCEEDED,
    Scene,
    Task,
    fact,
    number,
    run_of,
)


def show(page: Page, scene: Scene, task: Task, state: str, *, standalone: bool = False) -> Locator:
    """
    Open the tab of a task that has a state, and return the view of its run.

    The same view on the standalone page loads faster.
    """
    scene.wait_for(task, state)
    page.goto(task.standalone_page if standalone else task.tab)
    return run_of(page, task.job)


def expect_plots(run: Locator, source: str | re.Pattern[str]) -> None:
    for title in ("Records over time", "Throughput over time"):
        expect(run.get_by_role("img", name=title)).to_be_visible(timeout=60_000)
    expect(run.get_by_text(source).first).to_be_visible()


def test_tab_is_offered_on_task_page(page, scene):
    page.goto(scene.wait_for(DEFERRED, "deferred").page)
    page.get_by_role("link", name="StreamSets").or_(page.get_by_role("tab", name="StreamSets")).first.click()
    expect(run_of(page, DEFERRED.job)).to_be_visible()


def test_deferred_task_shows_run(page, scene):
    run = show(page, scene, DEFERRED, "deferred")
    expect(run).to_contain_text("Running")
    expect(run.get_by_text("refreshes by itself")).to_be_visible()
    expect(fact(run, "Status in Control Hub")).to_have_text("ACTIVE/GREEN")
    expect(fact(run, "Pipeline")).to_contain_text("Orders to warehouse, version 2")
    expect(fact(run, "Engine")).to_contain_text("sdc-prod.example.com")
    expect_plots(run, "Time series of Control Hub")
    expect(run.get_by_role("row", name="SOURCE_DIR /data/in")).to_be_visible()
    events = run.get_by_role("table", name="Events of the run in Control Hub")
    expect(events.get_by_role("row", name=re.compile("Job started"))).to_be_visible()
    earlier = run.get_by_role("table", name="3 earlier runs of this job")
    expect(earlier.get_by_role("row")).to_have_count(4)
    failed = earlier.get_by_role("row").filter(has=page.get_by_role("rowheader", name="2", exact=True))
    expect(failed).to_contain_text("Failed")
    expect(failed).to_contain_text("21,000")


def test_links_lead_to_control_hub(page, scene, sandbox):
    run = show(page, scene, DEFERRED, "deferred", standalone=True)
    job = run.get_by_role("heading").get_by_role("link", name=DEFERRED.job)
    expect(job).to_have_attribute("href", f"{sandbox.url}/sch/jobs/detail/{sandbox.job_id(DEFERRED.job)}")
    expect(job).to_have_attribute("target", "_blank")
    expect(job).to_have_attribute("rel", re.compile("noopener"))
    assert requests.get(job.get_attribute("href"), timeout=10).ok


def expect_growth(run: Locator) -> None:
    expect(run).to_contain_text("Running")
    counts = {name: fact(run, name) for name in ("Records in", "Records out")}
    first = {name: number(count) for name, count in counts.items()}
    for name, count in counts.items():
        expect(count).not_to_have_text(f"{first[name]:,}")
        assert number(count) > first[name]


def test_run_of_deferred_task_is_live(page, scene):
    expect_growth(show(page, scene, DEFERRED, "deferred", standalone=True))


def test_counts_of_active_run_never_fall(page, scene):
    def answer_late(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "input": 1, "output": 1})

    page.route("**/api/run?*", answer_late)
    run = show(page, scene, DEFERRED, "deferred", standalone=True)
    # What only the details have.
    expect(run.get_by_role("heading", name="Events")).to_be_visible()
    expect(fact(run, "Records in")).not_to_have_text("1")
    expect(fact(run, "Records out")).not_to_have_text("1")


def test_run_of_task_on_worker_is_live(page, scene):
    run = show(page, scene, RUNNING, "running")
    expect_growth(run)
    # It has no time series.
    expect_plots(run, re.compile("What the task logged while it waited|What this page has seen"))


def test_succeeded_task_shows_final_counts(page, scene):
    run = show(page, scene, SUCCEEDED, "success")
    expect(run).to_contain_text("Succeeded")
    for name, count in (("Records in", "12,000"), ("Records out", "11,988"), ("Error records", "12")):
        expect(fact(run, name)).to_have_text(count)
    expect(fact(run, "Finished").get_by_role("time")).to_be_visible()
    expect(run.get_by_text("refreshes by itself")).to_be_hidden()
    expect(run.get_by_role("button", name=re.compile("Stop|Acknowledge"))).to_have_count(0)


def test_failed_task_shows_error_and_stages(page, scene):
    run = show(page, scene, FAILED, "failed")
    expect(run).to_contain_text("Failed")
    expect(run.get_by_text(re.compile("JDBC_34 - Query failed to execute.*column 'address_2'")).first).to_be_visible()
    stages = run.get_by_role("table", name="Records and errors of each stage")
    expect(stages.get_by_role("row", name="JdbcMultitable_01 0 18,000 0 0")).to_be_visible()
    expect(stages.get_by_role("row", name="JDBCProducer_01 Errors 18,000 17,640 360 72")).to_be_visible()


@pytest.mark.parametrize("task", MAPPED, ids=lambda task: task.job)
def test_mapped_task_shows_its_own_run(page, scene, task):
    run = show(page, scene, task, "success", standalone=task is not MAPPED[1])
    expect(run).to_contain_text("Succeeded")
    region = task.job.rpartition(" ")[2].lower()
    expect(run.get_by_role("row", name=f"REGION {region}")).to_be_visible()


def test_bulk_task_lists_runs(page, scene):
    page.goto(scene.wait_for(BULK, "deferred").tab)
    table = page.get_by_role("table", name="Runs of this task")
    expect(table.get_by_role("row")).to_have_count(4)
    expect(page.get_by_role("article")).to_have_count(0)
    table.get_by_role("button", name="Payments Europe").click()
    expect(run_of(page, "Payments Europe")).to_contain_text("Running")
    table.get_by_role("button", name="Payments Asia").click()
    expect(run_of(page, "Payments Asia")).to_be_visible()
    expect(run_of(page, "Payments Europe")).to_have_count(0)
    page.reload()
    expect(run_of(page, "Payments Asia")).to_be_visible()


def test_task_of_other_provider_has_no_run(page, scene):
    page.goto(scene.wait_for(OTHER, "success").tab)
    expect(page.get_by_text("This task has no StreamSets run.")).to_be_visible()


def test_standalone_page_shows_run(page, scene):
    page.goto(scene.wait_for(DEFERRED, "deferred").standalone_page)
    run = run_of(page, DEFERRED.job)
    expect(run).to_contain_text("Running")
    expect_plots(run, "Time series of Control Hub")
