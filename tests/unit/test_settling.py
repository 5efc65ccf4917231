from __future__ import annotations

import logging
import time

import pytest

from airflow_provider_streamsets.control_hub import Job
from airflow_provider_streamsets.operators.settling import settled
from tests.unit.scripted_hub import run_json

LOG = logging.getLogger(__name__)


@pytest.fixture
def pauses(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def job(name, status):
    return Job.from_wire({"id": f"{name}:org", "name": name, "currentJobStatus": run_json(4, status)})


def reading(*looks):
    """Return a function that reads jobs as each look says, and the ids it was asked for."""
    asked = []

    def read(job_ids):
        asked.append(job_ids)
        return {found.job_id: found for found in looks[min(len(asked), len(looks)) - 1]}

    return read, asked


def test_jobs_on_their_way_are_looked_at_together_until_they_are_settled(pauses):
    read, asked = reading([job("a", "INACTIVE"), job("b", "DEACTIVATING")], [job("b", "INACTIVE")])
    found = settled([job("a", "DEACTIVATING"), job("b", "ACTIVATING")], read, pause=time.sleep, log=LOG)
    assert {name: found[name].current_run.status for name in found} == {"a:org": "INACTIVE", "b:org": "INACTIVE"}
    assert asked == [["a:org", "b:org"], ["b:org"]]
    assert pauses == [3.0, 3.0]


def test_settled_jobs_are_not_looked_at_again(pauses):
    read, asked = reading([])
    settled([job("a", "INACTIVE"), job("b", "ACTIVE")], read, pause=time.sleep, log=LOG)
    assert (asked, pauses) == ([], [])


@pytest.mark.parametrize(("patience", "waited"), [(float("inf"), 300), (1000, 300), (30, 30), (0, 0)])
def test_a_job_that_does_not_settle_is_given_up_after_five_minutes_or_before(pauses, patience, waited):
    read, _ = reading([job("a", "DEACTIVATING")])
    found = settled([job("a", "DEACTIVATING")], read, pause=time.sleep, log=LOG, patience=patience)
    assert found["a:org"].current_run.status == "DEACTIVATING"
    assert sum(pauses) == waited
