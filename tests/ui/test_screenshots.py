"""Makes the pictures of the documentation; the option ``--screenshots`` names their folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.ui.scene import DEFERRED, FAILED, MANY, Task, run_of

# Tall enough for the plots.
SIZE = {"width": 1366, "height": 1000}


@pytest.fixture
def folder(request, tmp_path) -> Path:
    folder: Path = request.config.getoption("--screenshots", default=None) or tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("task", "state", "color_scheme", "name"),
    [
        (DEFERRED, "deferred", "light", "ui-tab-deferred"),
        (DEFERRED, "deferred", "dark", "ui-tab-dark"),
        (FAILED, "failed", "light", "ui-tab-failed"),
    ],
)
def test_picture_of_tab(open_page, scene, folder, task: Task, state, color_scheme, name):
    page = open_page()
    page.set_viewport_size(SIZE)
    page.emulate_media(color_scheme=color_scheme)
    page.goto(scene.wait_for(task, state).tab)
    expect(run_of(page, task.job).get_by_role("img", name="Records over time")).to_be_visible(timeout=60_000)
    page.screenshot(path=folder / f"{name}.png", animations="disabled")
    assert (folder / f"{name}.png").stat().st_size > 10_000


def test_picture_of_page(page, scene, folder):
    scene.wait_for(MANY, "success")
    page.goto("/plugin/streamsets-runs")
    expect(page.get_by_role("table").get_by_role("row").nth(5)).to_be_visible()
    page.screenshot(path=folder / "ui-runs.png", animations="disabled")
