"""The fixtures of the testing kit, in this process and in pytest runs of their own."""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import subprocess
import sys
import time

import pytest

from airflow_provider_streamsets.control_hub import ControlHubClient
from airflow_provider_streamsets.control_hub.errors import ControlHubRunTimeoutError
from airflow_provider_streamsets.testing.sandbox_process import SandboxError
from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger
from tests.documentation import ROOT
from tests.kit_plugin import MODULE, OPTIONS, PLUGINS

pytest_plugins = ("pytester", *PLUGINS)

SEED = {
    "organization": {"name": "Own org", "user": {"name": "Tests", "email": "tests@example.com"}},
    "engines": [{"name": "sdc", "url": "http://sdc.example.com:18630", "labels": ["all"]}],
    "pipelines": [
        {
            "name": "Load",
            "versions": [{"message": "First version", "committed": "1d"}],
            "behaviour": {"kind": "batch", "records": 8 * 3600, "rate": 1},
        }
    ],
    "jobs": [{"name": "Own job", "pipeline": "Load"}],
}


@pytest.fixture
def client(control_hub):
    """A client as a task creates it."""
    with ControlHubClient(control_hub.url, credential_id=control_hub.credential_id, token=control_hub.token) as client:
        yield client


@pytest.fixture
def skipped(control_hub):
    """Return the seconds of the sandbox's clock that have passed without a wait since the start of the test."""
    clock, real = control_hub.now(), time.time()
    return lambda: (control_hub.now() - clock) / 1000 - (time.time() - real)


def test_plugin_is_declared_and_imports_pytest_only():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options.entry_points"]["pytest11"].split() == ["streamsets", "=", MODULE]
    heavy = {"airflow", "fastapi", "pydantic", "requests", "yaml"}
    code = f"import sys, {MODULE}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_parallel_workers_have_sandboxes_of_their_own(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_start(control_hub, assert_started_once, number):
            control_hub.start_job("Quick check")
            assert_started_once("Quick check")
        """
    )
    result = pytester.runpytest_subprocess(*OPTIONS, "-n", "2", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=4)


def test_sandbox_is_reset_and_connections_are_removed(pytester):
    pytester.makepyfile(
        """
        import json, os, time

        COUNT = "/jobrunner/rest/v1/jobs/count"
        urls = set()

        def test_changes(control_hub, control_hub_connection, inject_fault, assert_started_once):
            control_hub.start_job("Quick check")
            assert assert_started_once("Quick check")["run_count"] == 1
            control_hub.advance(3600)
            control_hub.set_variants(unknown_job="500")
            html = inject_fault("html", "*/count", times=1)
            assert control_hub.call("GET", COUNT).headers["Content-Type"].startswith("text/html")
            error = inject_fault("server_error", "*/count", method="GET", times=1)
            assert [control_hub.call("GET", COUNT).status_code for _ in range(2)] == [500, 200]
            assert (html.hits, html.matches, error.hits, error.matches) == (1, 3, 1, 2)
            assert control_hub_connection("emea", project_id="p") == "emea"
            default, emea = (json.loads(os.environ[f"AIRFLOW_CONN_{name}"]) for name in ("STREAMSETS_DEFAULT", "EMEA"))
            assert default["host"] == emea["host"] == control_hub.url
            assert emea["extra"] == {"project_id": "p"}
            assert "127.0.0.1" in os.environ["NO_PROXY"]
            urls.add(control_hub.url)

        def test_initial_state(control_hub):
            assert urls == {control_hub.url}
            assert control_hub.starts() == control_hub.faults() == []
            assert control_hub.state()["variants"]["unknown_job"] != "500"
            assert abs(control_hub.now() / 1000 - time.time()) < 600
            assert not [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]
        """
    )
    pytester.runpytest(*OPTIONS, "-p", "no:randomly").assert_outcomes(passed=2)


def test_seed_and_time_scale_are_settings_and_fixture(pytester):
    pytester.path.joinpath("seed.json").write_text(json.dumps(SEED), "utf-8")
    pytester.makeini("[pytest]\nstreamsets_seed = seed.json\nstreamsets_time_scale = 7")
    jobs = "[job['name'] for job in control_hub.state()['jobs']]"
    pytester.makepyfile(
        test_setting=f"""
        def test_setting(control_hub):
            assert {jobs} == ["Own job"]
            assert control_hub.state()["time_scale"] == 7
        """,
        test_fixture=f"""
        import pytest

        @pytest.fixture(scope="module")
        def control_hub_seed():
            return {{**{SEED}, "jobs": [{{"name": "Other job", "pipeline": "Load"}}]}}

        def test_override(control_hub):
            assert {jobs} == ["Other job"]
        """,
        test_invalid="""
        import pytest

        @pytest.fixture
        def control_hub_seed():
            return {"jobs": []}

        def test_invalid(control_hub):
            pass
        """,
    )
    result = pytester.runpytest(*OPTIONS)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*The sandbox did not start: *seed*organization*"])


def test_missing_extra_fails_only_tests_that_use_it(pytester, monkeypatch):
    pytester.makepyfile(
        **{
            "without/fastapi": """raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")""",
            "test_missing": """
            def test_unrelated():
                pass

            def test_first(control_hub):
                pass

            def test_second(fast_forward):
                pass
            """,
        }
    )
    paths = (str(pytester.path / "without"), str(ROOT), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    result = pytester.runpytest(*OPTIONS)
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(["*needs fastapi*pip install 'airflow-provider-streamsets?sandbox?'*"])


def test_assertion_lists_starts(control_hub, assert_started_once):
    with pytest.raises(AssertionError, match=r"^Job 'Quick check' was not started, expected once\. No job was started"):
        assert_started_once("Quick check")
    control_hub.start_job("Inventory snapshot")
    with pytest.raises(AssertionError, match=r"not started.* Starts of other jobs:\n  'Inventory snapshot' run 1: 2"):
        assert_started_once("Quick check")
    for _ in range(2):
        control_hub.start_job("Quick check")
        control_hub.advance(60)
    listed = r"was started 2 times, expected once:\n  'Quick check' run 1: \S+ \S+\+00:00\n  'Quick check' run 2: "
    with pytest.raises(AssertionError, match=listed):
        assert_started_once("Quick check")
    with pytest.raises(AssertionError, match=r"^The sandbox has no job 'Quick chek'\. Its jobs: .*'Quick check', "):
        assert_started_once("Quick chek")


def test_invalid_fault_is_rejected(inject_fault):
    with pytest.raises(SandboxError, match=r"rejected POST /sandbox/v1/faults with status 400: .*must be one of"):
        inject_fault("nope")


def test_fast_forward_advances_clocks(control_hub, fast_forward, client, skipped):
    control_hub.start_job("Orders to warehouse")
    assert control_hub.job_state("Orders to warehouse")["running"]
    fast_forward(10, minutes=1)
    fast_forward(hours=1)
    assert 3600 < skipped() - 50 < 3630
    assert control_hub.job_state("Orders to warehouse")["status"] == "INACTIVE"
    # Another start is not mistaken for the one an hour ago.
    run = client.runs.start(control_hub.job_id("Orders to warehouse"))
    assert run.run_count == 5
    assert client.clock_skew == 0


def test_client_waits_without_waiting(control_hub, fast_forward, client, skipped):
    run = client.runs.start(control_hub.job_id("Orders to warehouse"))
    assert client.runs.wait(run).outcome == "SUCCEEDED"
    assert 10 < skipped() < 60
    stream = client.runs.start(control_hub.job_id("Clickstream to lake"))
    with pytest.raises(ControlHubRunTimeoutError, match="within 7200 s"):
        client.runs.wait(stream, timeout=7200, poll_interval=600)
    assert 7200 < skipped() < 7320


def test_trigger_waits_without_waiting(control_hub, control_hub_connection, fast_forward, skipped):
    started = control_hub.start_job("Orders to warehouse")
    runs = [[started["jobId"], started["runCount"]]]

    async def first_event():
        event = await anext(ControlHubRunsTrigger(runs=runs, poll_interval=30.0).run())
        # Real time again.
        assert abs(asyncio.get_running_loop().time() - time.monotonic()) < 5
        return event.payload

    assert asyncio.run(first_event())["reason"] == "ended"
    assert 10 < skipped() < 60


def test_real_time_without_fast_forward(client):
    assert client.sleep is time.sleep
    assert time.sleep.__module__ == "time"
