from __future__ import annotations

import logging

import pytest
import requests

from airflow_provider_streamsets.polling.watcher_query import JobSelector, WatcherQuery
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.integration.conftest import client_of

log = logging.getLogger(__name__)

JOBS = 200
TAGGED = JobSelector(job_tag="many")
PARAMETERS = '{"TABLE": "orders", "CONDITION": "%s"}' % ("updated_at > current_date - 1 and " * 60)


@pytest.fixture
def hub():
    """A separate Control Hub with many tagged jobs that have realistic parameters."""
    with SandboxProcess() as process:
        process.freeze()
        orders = process.job_id("Orders to warehouse")
        body = {"namePrefix": "Copy ", "description": None, "numberOfCopies": JOBS}
        assert process.call("POST", f"/jobrunner/rest/v1/job/{orders}/duplicate", body).ok
        jobs = process.call("GET", "/jobrunner/rest/v1/jobs", jobTemplate="false", len=-1).json()
        copies = [
            {**job, "rawJobTags": ["many"], "runtimeParameters": PARAMETERS}
            for job in jobs
            if job["name"].startswith("Copy ")
        ]
        assert process.call("POST", "/jobrunner/rest/v1/jobs/updateJobs", copies).ok
        assert process.call("POST", "/jobrunner/rest/v1/jobs/startJobs", [job["id"] for job in copies]).ok
        process.advance(600)
        yield process


@pytest.fixture
def traffic(monkeypatch):
    """Size of each response in bytes."""
    sizes: list[int] = []
    send = requests.Session.send

    def counted(self, request, **arguments):
        response = send(self, request, **arguments)
        sizes.append(int(response.headers["Content-Length"]))
        return response

    monkeypatch.setattr(requests.Session, "send", counted)
    return sizes


def test_poll_of_unchanged_jobs_is_small(hub, traffic):
    query = WatcherQuery(client_of(hub), list_every=10)
    first = query.poll({TAGGED})
    assert len(first.statuses[TAGGED]) == JOBS
    assert first.complete == {TAGGED}
    listed = list(traffic[-2:])
    traffic.clear()
    second = query.poll({TAGGED})
    assert second.statuses == first.statuses
    assert second.names == first.names
    assert second.complete == set()
    log.info("Listed: %s bytes. Else: %s.", listed, traffic)
    assert len(traffic) == 2
    assert sum(traffic) < sum(listed) / 2
    # The next poll detects jobs that gained or lost the tag.
    for name, tags, count in (("Quick check", ["many"], JOBS + 1), ("Copy 7", [], JOBS)):
        path = f"/jobrunner/rest/v1/job/{hub.job_id(name)}"
        assert hub.call("POST", path, {**hub.call("GET", path).json(), "rawJobTags": tags}).ok
        result = query.poll({TAGGED})
        assert result.complete == {TAGGED}
        assert (len(result.statuses[TAGGED]), hub.job_id(name) in result.statuses[TAGGED]) == (count, bool(tags))
