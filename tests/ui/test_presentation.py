from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.ui.scene import BULK, DEFERRED, FAILED, OpenPage, run_of

TAB = {"tab": FAILED.tab, "tab of a bulk task": BULK.tab}
STANDALONE = {"standalone page of a run": DEFERRED.standalone_page, "standalone page of all runs": "/streamsets/"}
PATHS = {**TAB, "page": "/plugin/streamsets-runs", **STANDALONE}
NARROW = {"width": 360, "height": 740}


def open_ready(open_page: OpenPage, scene: Any, path: str, **options: Any) -> Page:
    """Open one of the pages and wait for its tables."""
    scene.wait_for(DEFERRED, "deferred")
    scene.wait_for(BULK, "deferred")
    scene.wait_for(FAILED, "failed")
    page = open_page(**options)
    page.goto(path)
    expect(page.get_by_role("table").first).to_be_visible()
    return page


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_pages_are_accessible(open_page, scene, path, color_scheme):
    page = open_ready(open_page, scene, path, color_scheme=color_scheme)
    # Airflow's own elements are not ours to check.
    is_ours = path in STANDALONE.values()
    results = Axe().run(page, None if is_ours else ".streamsets")
    assert "color-contrast" in {rule["id"] for rule in results.response["passes"]}
    serious = [found for found in results.response["violations"] if found["impact"] in {"serious", "critical"}]
    assert not serious, results.generate_report()


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_pages_fit_narrow_screens(open_page, scene, path):
    page = open_ready(open_page, scene, path, size=NARROW)
    for element in page.locator(".streamsets").all():
        width, visible = element.evaluate("element => [element.scrollWidth, element.clientWidth]")
        assert width <= visible
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_pages_follow_dark_mode(open_page, scene, path):
    text = {}
    for color_scheme in ("light", "dark"):
        page = open_ready(open_page, scene, path, color_scheme=color_scheme)
        color = page.locator(".streamsets").last.evaluate("element => getComputedStyle(element).color")
        text[color_scheme] = sum(map(int, color.strip("rgb()").split(",")))
    assert text["light"] < 3 * 100
    assert text["dark"] > 3 * 150


def test_keyboard_reaches_runs_of_bulk_task(open_page, scene):
    page = open_ready(open_page, scene, BULK.tab)
    button = page.get_by_role("button", name="Payments Europe")
    page.get_by_role("region", name="Runs of this task").last.focus()
    while not button.evaluate("element => element === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(run_of(page, "Payments Europe").get_by_role("heading", level=2)).to_be_focused()
