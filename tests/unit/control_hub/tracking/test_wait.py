from __future__ import annotations

import contextlib
import logging
import time

import pytest
import requests

from airflow_provider_streamsets.control_hub import (
    ControlHubClient,
    ControlHubNotFoundError,
    ControlHubRunTimeoutError,
    Job,
)
from airflow_provider_streamsets.control_hub.tracking.wait import wait_until_stable
from tests.unit.conftest import TOKEN
from tests.unit.fakes.multi_job_hub import JR
from tests.unit.fakes.single_job_hub import HUB, run_json

LOG = logging.getLogger(__name__)


@pytest.fixture
def client():
    return ControlHubClient(HUB, "credential-id", TOKEN, max_attempts=1)


def job(name, status):
    return Job.from_wire({"id": f"{name}:org", "name": name, "currentJobStatus": run_json(4, status)})


def make_reader(*polls):
    """Return a function that returns the jobs of each poll, and the list of the requested ids."""
    asked = []

    def read(client, job_ids):
        asked.append(job_ids)
        return {found.job_id: found for found in polls[min(len(asked), len(polls)) - 1]}

    return read, asked


def test_polls_transient_jobs_together_until_stable(client, sleep_calls):
    read, asked = make_reader([job("a", "INACTIVE"), job("b", "DEACTIVATING")], [job("b", "INACTIVE")])
    found = wait_until_stable(
        client, [job("a", "DEACTIVATING"), job("b", "ACTIVATING")], read, sleep=time.sleep, log=LOG
    )
    assert {name: found[name].current_run.status for name in found} == {"a:org": "INACTIVE", "b:org": "INACTIVE"}
    assert asked == [["a:org", "b:org"], ["b:org"]]
    assert sleep_calls == [3.0, 3.0]


def test_stable_jobs_are_not_polled(client, sleep_calls):
    read, asked = make_reader([])
    wait_until_stable(client, [job("a", "INACTIVE"), job("b", "ACTIVE")], read, sleep=time.sleep, log=LOG)
    assert (asked, sleep_calls) == ([], [])


@pytest.mark.parametrize("limit", [float("inf"), 1000])
def test_gives_up_unstable_job_after_five_minutes(client, sleep_calls, limit):
    read, _ = make_reader([job("a", "DEACTIVATING")])
    with client.within(lambda: limit - sum(sleep_calls)):
        found = wait_until_stable(client, [job("a", "DEACTIVATING")], read, sleep=time.sleep, log=LOG)
    assert found["a:org"].current_run.status == "DEACTIVATING"
    assert sum(sleep_calls) == 300


@pytest.mark.parametrize("limit", [0, 30, 31])
def test_unstable_job_times_out_at_task_deadline(client, sleep_calls, limit):
    read, _ = make_reader([job("a", "DEACTIVATING")])
    with (
        client.within(lambda: limit - sum(sleep_calls)),
        pytest.raises(ControlHubRunTimeoutError, match=r"'a' \(a:org\)"),
    ):
        wait_until_stable(client, [job("a", "DEACTIVATING")], read, sleep=time.sleep, log=LOG)
    assert sum(sleep_calls) == limit


@pytest.mark.parametrize("limit", [60, 100, 400])
def test_hanging_hub_does_not_exceed_deadline(http, client, sleep_calls, limit):
    def hang(request, _):
        time.sleep(request.timeout[1])
        raise requests.exceptions.ReadTimeout

    http.post(f"{JR}/jobs", json=hang)
    is_over = pytest.raises(ControlHubRunTimeoutError) if limit < 300 else contextlib.nullcontext()
    with client.within(lambda: limit - sum(sleep_calls)), is_over:
        wait_until_stable(
            client,
            [job("a", "DEACTIVATING")],
            lambda client, job_ids: client.jobs.get_many(job_ids),
            sleep=time.sleep,
            log=LOG,
        )
    assert min(limit, 300) <= sum(sleep_calls) <= min(limit, 300 + 60) + 10


def test_outage_of_one_read_is_tolerated(http, client, sleep_calls):
    http.post(f"{JR}/jobs", [{"status_code": 503}, {"json": [{"id": "a:org", "name": "a"}]}])
    found = wait_until_stable(
        client,
        [job("a", "DEACTIVATING")],
        lambda client, job_ids: client.jobs.get_many(job_ids),
        sleep=time.sleep,
        log=LOG,
    )
    assert found["a:org"].current_run is None
    assert sleep_calls == [3.0, 3.0]


def test_deleted_job_ends_wait(client, sleep_calls):
    def gone(client, job_ids):
        raise ControlHubNotFoundError("there is no such job")

    with pytest.raises(ControlHubNotFoundError):
        wait_until_stable(client, [job("a", "DEACTIVATING")], gone, sleep=time.sleep, log=LOG)
