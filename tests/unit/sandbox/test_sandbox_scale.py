"""Ten thousand jobs, the server of whoever measures how many runs can be waited for."""

from __future__ import annotations

import time

from airflow_provider_streamsets.sandbox.seed.loader import parse_seed
from tests.unit.sandbox_hub import JR, Hub

JOBS = 10_000
DOCUMENT = {
    "organization": {"name": "Org", "user": {"name": "Me", "email": "me@example.com"}},
    "engines": [{"name": "sdc", "url": "http://sdc", "labels": ["all"]}],
    "pipelines": [
        {"name": "P", "versions": [{"message": "first", "committed": "3d"}], "behaviour": {"kind": "streaming"}}
    ],
    "jobs": [{"name": f"J {number}", "pipeline": "P"} for number in range(JOBS)],
}


def test_ten_thousand_jobs_are_seeded_and_started_in_seconds_and_their_statuses_read_at_once():
    began = time.process_time()
    hub = Hub(seed=parse_seed(DOCUMENT))
    ids = list(hub.world.jobs)
    for first in range(0, JOBS, 250):
        assert hub.http.post(f"{JR}/jobs/startJobs", json=ids[first : first + 250]).status_code == 200
    started = time.process_time()
    statuses = hub.http.post(f"{JR}/jobs/status", json=ids[:250]).json()
    looked = time.process_time()
    assert {status["status"] for status in statuses.values()} == {"ACTIVATING"}
    assert list(statuses) == ids[:250]
    # Many times what it takes, and far less than if each call went through all jobs for each id.
    assert started - began < 15
    assert looked - started < 0.25
