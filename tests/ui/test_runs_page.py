from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.ui.scene import (
    ACTIVE,
    BULK,
    CONNECTION_ID,
    DEFERRED,
    ENDED,
    FAILED,
    MANY,
    MAPPED,
    RUN_ID,
    SENSORS,
    fact,
    run_of,
)

PATHS = {"page of Airflow": "/plugin/streamsets-runs", "standalone page": "/streamsets/"}
# All tasks have one run, except bulk tasks, and the task of another provider.
NUMBER_OF_RUNS = len(ACTIVE) - 1 + 3 + len(ENDED) - 2 + SENSORS


@pytest.fixture(params=PATHS.values(), ids=PATHS)
def runs(request, page, scene) -> Page:
    """The page of all runs, after they have been started."""
    for task, state in (
        (DEFERRED, "deferred"),
        (BULK, "deferred"),
        (MANY, "success"),
        *((t, "success") for t in MAPPED),
    ):
        scene.wait_for(task, state)
    page.goto(request.param)
    return page


def table_of(page: Page):
    return page.get_by_role("table", name="Runs that this Airflow has started or waits for")


def test_menu_leads_to_page(page, scene):
    page.goto("/")
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="StreamSets runs").or_(
        page.get_by_role("link", name="StreamSets runs")
    ).first.click()
    expect(page.get_by_role("heading", name="StreamSets runs")).to_be_visible()


def test_page_lists_runs(runs, sandbox):
    expect(runs.get_by_text(f"{NUMBER_OF_RUNS} runs, 1 to 50 shown")).to_be_visible()
    runs.get_by_role("searchbox", name="Job").fill("orders TO ware")
    expect(runs.get_by_text("1 run, 1 to 1 shown")).to_be_visible()
    row = table_of(runs).get_by_role("row").nth(1)
    for text in ("warehouse", RUN_ID, "load_orders", "Running"):
        expect(row).to_contain_text(text)
    url = f"{sandbox.url}/sch/jobs/detail/{sandbox.job_id(DEFERRED.job)}"
    expect(row.get_by_role("link", name=DEFERRED.job).first).to_have_attribute("href", url)
    row.get_by_role("link", name=f"Run 4 of job {DEFERRED.job}").click()
    expect(run_of(runs, DEFERRED.job)).to_be_visible()


def test_page_updates_counts(page, scene):
    scene.wait_for(DEFERRED, "deferred")
    page.goto("/plugin/streamsets-runs?job=orders to ware")
    count = table_of(page).locator("td[data-title='Records in']")
    expect(count).to_have_text(re.compile(r"^[\d,]{4,}$"))
    expect(count).not_to_have_text(count.inner_text())


def test_filter_by_state(runs, scene):
    scene.wait_for(FAILED, "failed")
    runs.get_by_role("combobox", name="State").select_option("Failed")
    rows = table_of(runs).get_by_role("row")
    expect(rows.filter(has_text="Succeeded")).to_have_count(0)
    expect(rows.filter(has_text=FAILED.job)).to_have_count(1)
    runs.get_by_role("combobox", name="State").select_option("Waiting")
    expect(rows.filter(has_text=DEFERRED.job)).to_have_count(1)
    expect(rows.filter(has_text=FAILED.job)).to_have_count(0)


def test_filter_by_dag(runs):
    runs.get_by_role("combobox", name="DAG").select_option("warehouse")
    rows = table_of(runs).get_by_role("row")
    expect(rows).to_have_count(8)
    for index in range(3):
        expect(rows.get_by_role("link", name=f"load_region [{index}]")).to_be_visible()
    runs.reload()
    expect(rows).to_have_count(8)


def test_filter_without_match(runs):
    runs.get_by_role("searchbox", name="Job").fill("no such job")
    expect(runs.get_by_text("No runs match these filters.")).to_be_visible()


def test_paging(runs):
    rows = table_of(runs).get_by_role("row")
    expect(rows).to_have_count(51)
    first = rows.nth(1).inner_text()
    pages = runs.get_by_role("navigation", name="Pages of runs")
    pages.get_by_role("button", name="Next").click()
    expect(runs.get_by_text(f"{NUMBER_OF_RUNS} runs, 51 to {NUMBER_OF_RUNS} shown")).to_be_visible()
    expect(rows).to_have_count(NUMBER_OF_RUNS - 50 + 1)
    expect(pages.get_by_role("button", name="Next")).to_be_disabled()
    pages.get_by_role("button", name="Previous").click()
    expect(rows).to_have_count(51)
    assert rows.nth(1).inner_text().split()[:2] == first.split()[:2]


def test_health_of_connections(runs):
    heading = runs.get_by_role("heading", name=CONNECTION_ID)
    connection = runs.get_by_role("listitem").filter(has=heading)
    expect(connection).to_contain_text("Answers")
    assert int(fact(connection, "Waiting runs").inner_text()) >= 5
    expect(fact(connection, "Last answer").get_by_role("time")).to_be_visible()
