from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from airflow_provider_streamsets.compat import HAS_PAGES
from airflow_provider_streamsets.plugins.streamsets import StreamSetsPlugin
from tests.unit.fakes.task_factory import leaves

STATIC = Path(sys.modules[StreamSetsPlugin.__module__].__file__ or "").parent / "static"
PAGES = pytest.mark.skipif(not HAS_PAGES, reason="pages in the user interface need Airflow 3.1.1")


def test_entry_point_loads_plugin():
    (entry,) = (e for e in entry_points(group="airflow.plugins") if e.value.startswith("airflow_provider_streamsets"))
    assert entry.load() is StreamSetsPlugin


def test_plugin_is_empty_without_pages():
    # Older versions do not declare the attributes.
    assert bool(getattr(StreamSetsPlugin, "fastapi_apps", [])) is HAS_PAGES
    assert bool(getattr(StreamSetsPlugin, "react_apps", [])) is HAS_PAGES


@PAGES
def test_files_of_apps_exist():
    for app in StreamSetsPlugin.react_apps:
        for url in (app["bundle_url"], app["icon"]):
            assert (STATIC / url.removeprefix("/streamsets/static/")).is_file()


@PAGES
def test_tab_applies_to_all_operators_and_sensors_with_jobs():
    (tab,) = (app for app in StreamSetsPlugin.react_apps if app["destination"] == "task_instance")
    without_jobs = {"ControlHubActiveJobsOperator", "ControlHubBalanceEnginesOperator"}
    assert set(tab["applies_to"]["operator_name"]) == {cls.__name__ for cls in leaves()} - without_jobs


def test_import_is_light():
    code = (
        "import sys, airflow.plugins_manager; before = set(sys.modules); "
        "import airflow_provider_streamsets.plugins.streamsets; "
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('airflow.')))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {m for m in loaded if m.startswith("airflow_provider_streamsets.")} == {
        "airflow_provider_streamsets.compat",
        "airflow_provider_streamsets.plugins",
        "airflow_provider_streamsets.plugins.streamsets",
    }
    assert not {m.partition(".")[0] for m in loaded} & {"fastapi", "requests", "cachetools", "starlette"}
