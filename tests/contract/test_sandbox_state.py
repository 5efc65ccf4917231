"""A sandbox process that is killed and restarted with its state file."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter

import pytest
import requests

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess

JR = "/jobrunner/rest/v1"


@pytest.fixture
def sandbox(tmp_path):
    with SandboxProcess(time_scale=20, state=tmp_path / "hub.state") as process:
        yield process


def test_start_survives_kill(sandbox):
    streaming = sandbox.start_job("Clickstream to lake")
    started = sandbox.start_job("Orders to warehouse", {"DAY": "2026-11-23"})
    sandbox.kill()
    url, token = sandbox.url, sandbox.token
    sandbox.restart()
    assert (sandbox.url, sandbox.token) == (url, token)
    job = sandbox.job_state("Orders to warehouse")
    assert (job["run_count"], job["parameters"]) == (started["runCount"], {"DAY": "2026-11-23"})
    current = sandbox.call("GET", f"{JR}/job/{job['id']}/currentStatus").json()
    assert (current["id"], current["startTime"]) == (started["id"], started["startTime"])
    assert [(start["job_name"], start["run_count"], start["user"]) for start in sandbox.starts()] == [
        ("Clickstream to lake", streaming["runCount"], streaming["user"]),
        ("Orders to warehouse", started["runCount"], started["user"]),
    ]
    assert sandbox.wait_for_status("Orders to warehouse", "INACTIVE")["run_count"] == started["runCount"]
    assert sandbox.wait_for_status("Clickstream to lake", "ACTIVE")["run_count"] == streaming["runCount"]
    assert sandbox.errors == ""


def test_clock_variants_and_jobs_survive_restart(sandbox):
    sandbox.set_variants(unknown_job="400")
    sandbox.freeze()
    sandbox.advance(86_400)
    quick = f"{JR}/job/{sandbox.job_id('Quick check')}"
    assert sandbox.call("POST", f"{quick}/duplicate", {"namePrefix": "Copy"}).ok
    before = sandbox.state()
    sandbox.restart()
    assert sandbox.state() == before
    assert sandbox.call("GET", f"{JR}/job/no:no").status_code == 400
    sandbox.unfreeze()
    sandbox.start_job("Copy")
    sandbox.wait_for_status("Copy", "INACTIVE")


def test_repeated_kills_lose_no_acknowledged_start(sandbox):
    sandbox.set_variants(start_parameters_kept="stored")
    template = sandbox.job_id("Regional orders")
    acknowledged: list[str] = []
    rejected: list[int] = []

    def start_instances(worker: int) -> None:
        for number in range(25):
            name = f"w{worker}-{number}"
            body = {"name": name, "namePostfixType": "COUNTER", "runtimeParametersList": [{"REGION": name}]}
            try:
                response = sandbox.call("POST", f"{JR}/job/{template}/createAndStartJobInstances", body)
            except requests.RequestException:
                continue
            if response.ok:
                acknowledged.append(f"{name} - 1")
            else:
                rejected.append(response.status_code)

    workers = [threading.Thread(target=start_instances, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    kills = 0
    while any(worker.is_alive() for worker in workers):
        workers[0].join(timeout=0.05)
        if kills < 3 and len(acknowledged) >= 5 * (kills + 1):
            sandbox.restart()
            kills += 1
    for worker in workers:
        worker.join()
    sandbox.restart()
    found = Counter(start["job_name"] for start in sandbox.starts())
    assert rejected == []
    assert len(acknowledged) >= 5
    assert set(acknowledged) <= set(found)
    assert set(found.values()) == {1}
    jobs = Counter(job["name"] for job in sandbox.state()["jobs"] if job["name"].startswith("w"))
    assert jobs == found


def test_incomplete_line_is_removed_with_warning(sandbox, tmp_path):
    sandbox.start_job("Quick check")
    sandbox.kill()
    with (tmp_path / "hub.state").open("ab") as file:
        file.write(b'{"time": 1767261000000, "method": "PO')
    sandbox.restart()
    assert "Removed the incomplete line 3" in sandbox.errors
    assert len(sandbox.starts()) == 1


def test_state_file_has_no_token(sandbox, tmp_path):
    sandbox.start_job("Quick check")
    content = (tmp_path / "hub.state").read_text()
    assert "/start" in content
    assert sandbox.token not in content


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("something else\n", [], "is not a state file of a sandbox"),
        (None, [], "in use by another sandbox"),
    ],
)
def test_unusable_state_file_prints_one_line(sandbox, tmp_path, content, arguments, message):
    path = tmp_path / "hub.state"
    if content is not None:
        path = tmp_path / "other"
        path.write_text(content)
    command = [sys.executable, "-m", "airflow_provider_streamsets.sandbox", "--port", "0", "--state", str(path)]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
