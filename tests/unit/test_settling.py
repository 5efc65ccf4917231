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
from airflow_provider_streamsets.operators._stability import wait_until_stable
from tests.unit.conftest import TOKEN
from tests.unit.scripted_hub import HUB, run_json
from tests.unit.scripted_runs import JR

LOG = logging.getLogger(__name__)


@pytest.fixture
def client():
    return ControlHubClient(HUB, "credential-id", TOKEN, max_attempts=1)


def job(name, status):
    return Job.from_wire({"id": f"{name}:org", "name": name, "currentJobStatus": run_json(4, status)})


def reading(*looks):
    """Return a function that reads jobs as each look says, and the ids it was asked for."""
    asked = []

    def read(client, job_ids):
        asked.append(job_ids)
        return {found.job_id: found for found in looks[min(len(asked), len(looks)) - 1]}

    return read, asked


def test_jobs_on_their_way_are_looked_at_together_until_they_are_settled(client, pauses):
    read, asked = reading([job("a", "INACTIVE"), job("b", "DEACTIVATING")], [job("b", "INACTIVE")])
    found = wait_until_stable(
        client, [job("a", "DEACTIVATING"), job("b", "ACTIVATING")], read, pause=time.sleep, log=LOG
    )
    assert {name: found[name].current_run.status for name in found} == {"a:org": "INACTIVE", "b:org": "INACTIVE"}
    assert asked == [["a:org", "b:org"], ["b:org"]]
    assert pauses == [3.0, 3.0]


def test_settled_jobs_are_not_looked_at_again(client, pauses):
    read, asked = reading([])
    wait_until_stable(client, [job("a", "INACTIVE"), job("b", "ACTIVE")], read, pause=time.sleep, log=LOG)
    assert (asked, pauses) == ([], [])


@pytest.mark.parametrize("limit", [float("inf"), 1000])
def test_a_job_that_does_not_settle_is_given_up_after_five_minutes(client, pauses, limit):
    read, _ = reading([job("a", "DEACTIVATING")])
    with client.within(lambda: limit - sum(pauses)):
        found = wait_until_stable(client, [job("a", "DEACTIVATING")], read, pause=time.sleep, log=LOG)
    assert found["a:org"].current_run.status == "DEACTIVATING"
    assert sum(pauses) == 300


@pytest.mark.parametrize("limit", [0, 30, 31])
def test_a_job_that_does_not_settle_in_the_time_of_the_task_is_a_timeout(client, pauses, limit):
    read, _ = reading([job("a", "DEACTIVATING")])
    with client.within(lambda: limit - sum(pauses)), pytest.raises(ControlHubRunTimeoutError, match=r"'a' \(a:org\)"):
        wait_until_stable(client, [job("a", "DEACTIVATING")], read, pause=time.sleep, log=LOG)
    assert sum(pauses) == limit


@pytest.mark.parametrize("limit", [60, 100, 400])
def test_hanging_hub_does_not_keep_the_task_beyond_its_deadline(http, client, pauses, limit):
    def hang(request, _):
        time.sleep(request.timeout[1])
        raise requests.exceptions.ReadTimeout

    http.post(f"{JR}/jobs", json=hang)
    is_over = pytest.raises(ControlHubRunTimeoutError) if limit < 300 else contextlib.nullcontext()
    with client.within(lambda: limit - sum(pauses)), is_over:
        wait_until_stable(
            client,
            [job("a", "DEACTIVATING")],
            lambda client, job_ids: client.jobs.get_many(job_ids),
            pause=time.sleep,
            log=LOG,
        )
    assert min(limit, 300) <= sum(pauses) <= min(limit, 300 + 60) + 10


def test_outage_of_one_read_is_waited_out(http, client, pauses):
    http.post(f"{JR}/jobs", [{"status_code": 503}, {"json": [{"id": "a:org", "name": "a"}]}])
    found = wait_until_stable(
        client,
        [job("a", "DEACTIVATING")],
        lambda client, job_ids: client.jobs.get_many(job_ids),
        pause=time.sleep,
        log=LOG,
    )
    assert found["a:org"].current_run is None
    assert pauses == [3.0, 3.0]


def test_job_that_is_gone_ends_the_wait(client, pauses):
    def gone(client, job_ids):
        raise ControlHubNotFoundError("there is no such job")

    with pytest.raises(ControlHubNotFoundError):
        wait_until_stable(client, [job("a", "DEACTIVATING")], gone, pause=time.sleep, log=LOG)
