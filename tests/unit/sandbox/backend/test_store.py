"""Performance with ten thousand jobs."""

from __future__ import annotations

import time

from airflow_provider_streamsets.sandbox.seed.models import parse_seed
from tests.unit.fakes.sandbox_app import JR, Hub

JOBS = 10_000
DOCUMENT = {
    "organization": {"name": "Org", "user": {"name": "Me", "email": "me@example.com"}},
    "engines": [{"name": "sdc", "url": "http://sdc", "labels": ["all"]}],
    "pipelines": [
        {"name": "P", "versions": [{"message": "first", "committed": "3d"}], "behaviour": {"kind": "streaming"}}
    ],
    "jobs": [{"name": f"J {number}", "pipeline": "P"} for number in range(JOBS)],
}


def test_ten_thousand_jobs_start_within_seconds():
    began = time.process_time()
    hub = Hub(seed=parse_seed(DOCUMENT))
    ids = list(hub.backend.jobs)
    for first in range(0, JOBS, 250):
        assert hub.http.post(f"{JR}/jobs/startJobs", json=ids[first : first + 250]).status_code == 200
    started = time.process_time()
    statuses = hub.http.post(f"{JR}/jobs/status", json=ids[:250]).json()
    polled = time.process_time()
    assert {status["status"] for status in statuses.values()} == {"ACTIVATING"}
    assert list(statuses) == ids[:250]
    # Generous limits, which a call that iterates over all jobs for each id would still exceed.
    assert started - began < 15
    assert polled - started < 0.25
