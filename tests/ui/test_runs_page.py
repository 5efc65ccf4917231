from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.scene import (
    ACKNOWLEDGE,
    ACTIVE,
    CONNECTION_ID,
    DEFERRED,
    ENDED,
    FAILED,
    RUN_ID,
    RUNNING,
    SENSORS,
    STOP,
    fact,
    run_of,
)

# All tasks have one run, except bulk tasks, and the task of another provider.
NUMBER_OF_RUNS = len(ACTIVE) - 1 + 3 + len(ENDED) - 2 + SENSORS


@pytest.fixture(params=["/plugin/streamsets-runs", "/streamsets/"], ids=["in Airflow", "standalone"])
def runs(request, page, scene) -> Page:
    """The page of all runs, after they have been started."""
    for task in ENDED:
        scene.wait_for(task, "failed" if task in (FAILED, ACKNOWLEDGE) else "success")
    for task in {*ACTIVE} - {STOP}:
        scene.wait_for(task, "running" if task is RUNNING else "deferred")
    page.goto(request.param)
    return page


def rows_of(page: Page) -> Locator:
    table = page.get_by_role("table", name="Runs that this Airflow has started or waits for")
    return table.locator("tbody").get_by_role("row")


def test_menu_leads_to_page(page, scene):
    page.goto("/")
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="StreamSets runs").click()
    expect(page.get_by_role("heading", name="StreamSets runs")).to_be_visible()


def test_page_lists_runs(runs, sandbox):
    expect(runs.get_by_text(f"{NUMBER_OF_RUNS} runs, 1 to 50 shown")).to_be_visible()
    runs.get_by_role("searchbox", name="Job").fill("orders TO ware")
    expect(runs.get_by_text("1 run, 1 to 1 shown")).to_be_visible()
    row = rows_of(runs)
    for text in ("warehouse", RUN_ID, "load_orders", "Running"):
        expect(row).to_contain_text(text)
    url = f"{sandbox.url}/sch/jobs/detail/{sandbox.job_id(DEFERRED.job)}"
    expect(row.get_by_role("link", name=DEFERRED.job).first).to_have_attribute("href", url)
    row.get_by_role("link", name=f"Run 4 of job {DEFERRED.job}").click()
    expect(run_of(runs, DEFERRED.job)).to_be_visible()


def test_page_updates_counts(page, scene):
    scene.wait_for(DEFERRED, "deferred")
    page.goto("/streamsets/?job=orders to ware")
    count = rows_of(page).locator("[data-title='Records in']")
    expect(count).to_have_text(re.compile(r"^[\d,]{4,}$"))
    expect(count).not_to_have_text(count.inner_text())


def test_filters(runs):
    rows = rows_of(runs)
    expect(rows).to_have_count(50)
    state, dag = (runs.get_by_role("combobox", name=name) for name in ("State", "DAG"))
    state.select_option("Failed")
    expect(rows.filter(has_text="Succeeded")).to_have_count(0)
    expect(rows.filter(has_text=FAILED.job)).to_have_count(1)
    state.select_option("Waiting")
    expect(rows.filter(has_text=FAILED.job)).to_have_count(0)
    expect(rows.filter(has_text=DEFERRED.job)).to_have_count(1)
    state.select_option("All")
    dag.select_option("warehouse")
    expect(rows).to_have_count(7)
    for index in range(3):
        expect(rows.get_by_role("link", name=f"load_region [{index}]")).to_be_visible()
    state.select_option("Succeeded")
    expect(rows).to_have_count(4)
    # The filters are in the address.
    runs.reload()
    expect(rows).to_have_count(4)
    runs.get_by_role("searchbox", name="Job").fill("no such job")
    expect(runs.get_by_text("No runs match these filters.")).to_be_visible()


def test_paging(runs):
    rows, pages = rows_of(runs), runs.get_by_role("navigation", name="Pages of runs")
    expect(rows).to_have_count(50)
    first = rows.first.locator("[data-title='Job']").inner_text()
    pages.get_by_role("button", name="Next").click()
    expect(runs.get_by_text(f"{NUMBER_OF_RUNS} runs, 51 to {NUMBER_OF_RUNS} shown")).to_be_visible()
    expect(rows).to_have_count(NUMBER_OF_RUNS - 50)
    expect(pages.get_by_role("button", name="Next")).to_be_disabled()
    pages.get_by_role("button", name="Previous").click()
    expect(rows).to_have_count(50)
    expect(rows.first.locator("[data-title='Job']")).to_have_text(first)


def test_health_of_connections(runs):
    connection = runs.get_by_role("listitem").filter(has=runs.get_by_role("heading", name=CONNECTION_ID))
    expect(connection).to_contain_text("Answers")
    expect(fact(connection, "Waiting runs")).to_have_text(re.compile("[5-9]"))
    expect(fact(connection, "Last answer").get_by_role("time")).to_be_visible()
