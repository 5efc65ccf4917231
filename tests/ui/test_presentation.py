from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.ui.conftest import SIZE
from tests.ui.scene import BULK, DEFERRED, FAILED, OpenPage, Scene, run_of

PATHS = {
    "tab": FAILED.tab,
    "tab of a bulk task": BULK.tab,
    # With few rows: each is checked.
    "page of all runs": "/plugin/streamsets-runs?dag=warehouse",
    "standalone page of a run": DEFERRED.standalone_page,
    "standalone page of all runs": "/streamsets/?dag=warehouse",
}
# Each page shows one of them when it is complete.
CAPTIONS = re.compile("^(Events of the run in Control Hub|Runs of this task|Runs that this Airflow has started)")
NARROW = {"width": 360, "height": 740}


@pytest.fixture(scope="module", params=PATHS.values(), ids=PATHS)
def opened(request, open_shared_page: OpenPage, scene: Scene) -> Page:
    """Each of the pages. They are loaded once, as that takes seconds."""
    for task, state in ((DEFERRED, "deferred"), (BULK, "deferred"), (FAILED, "failed")):
        scene.wait_for(task, state)
    page = open_shared_page()
    page.goto(request.param)
    expect(page.get_by_text(CAPTIONS).first).to_be_visible()
    return page


@pytest.fixture
def shown(opened: Page) -> Page:
    """Each of the pages, as a user with default settings sees it."""
    opened.emulate_media(color_scheme="light")
    opened.set_viewport_size(SIZE)
    return opened


def switch_to_dark(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_class(re.compile(r"\bdark\b"))


def check_accessibility(page: Page) -> None:
    # Elements of Airflow are not checked.
    results = Axe().run(page, ".streamsets" if "/streamsets/" not in page.url else None)
    assert "color-contrast" in {rule["id"] for rule in results.response["passes"]}
    serious = [found for found in results.response["violations"] if found["impact"] in {"serious", "critical"}]
    assert not serious, results.generate_report()


def test_page_is_accessible(shown):
    check_accessibility(shown)


def test_page_is_accessible_in_dark_mode(shown):
    switch_to_dark(shown)
    check_accessibility(shown)


def test_page_is_accessible_on_narrow_screen(shown):
    shown.set_viewport_size(NARROW)
    check_accessibility(shown)


def test_page_fits_narrow_screen(shown):
    shown.set_viewport_size(NARROW)
    for element in shown.locator(".streamsets").all():
        width, visible = element.evaluate("element => [element.scrollWidth, element.clientWidth]")
        assert width <= visible
    assert shown.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def brightness_of_text(page: Page) -> float:
    """Return the mean of the color's parts, from 0 to 255."""
    color = page.locator(".streamsets").last.evaluate("element => getComputedStyle(element).color")
    return sum(map(int, re.findall(r"\d+", color)[:3])) / 3


def test_page_follows_dark_mode(shown):
    assert brightness_of_text(shown) < 100
    switch_to_dark(shown)
    assert brightness_of_text(shown) > 150


def test_keyboard_reaches_runs_of_bulk_task(page, scene):
    page.goto(scene.wait_for(BULK, "deferred").standalone_page)
    button = page.get_by_role("button", name="Payments Europe")
    page.get_by_role("region", name="Runs of this task").focus()
    while not button.evaluate("element => element === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(run_of(page, "Payments Europe").get_by_role("heading", level=2)).to_be_focused()
