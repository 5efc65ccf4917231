"""Balancing of pipelines across engines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.fakes.sandbox_app import JR, SEED, Hub

NORTH, SOUTH, LOGS = "Truck positions north", "Truck positions south", "Web logs to lake"


def engine_id(name: str) -> str:
    return next(engine.id for engine in SEED.engines if engine.name == name)


PROD, DEV = engine_id("sdc-prod"), engine_id("sdc-dev")


def loads(hub: Hub) -> dict[str, int]:
    """Return the number of pipelines of each engine, checked against the list of its pipelines."""
    counts = {}
    for engine in (PROD, DEV):
        counts[engine] = hub.get(f"{JR}/sdc/{engine}")["pipelinesCount"]
        assert len(hub.get(f"{JR}/sdc/{engine}/pipelines")) == counts[engine]
    return counts


def messages(hub: Hub, name: str) -> list[tuple[str | None, str, str]]:
    events = hub.get(f"{JR}/job/{hub.status(name)['id']}/jobStatusHistory")
    return [(event["user"], event["status"], event["message"]) for event in events]


def test_balancing_moves_pipeline_to_idle_engine(hub):
    assert loads(hub) == {PROD: 3, DEV: 0}
    before = hub.status(NORTH)
    assert hub.http.post(f"{JR}/jobs/balanceSDCs", json=[PROD]).status_code == 200
    assert loads(hub) == {PROD: 2, DEV: 1}
    moved = hub.status(NORTH)
    assert (before["sdcIds"], moved["sdcIds"]) == ([PROD], [DEV])
    assert [(entry["sdcId"], entry["status"]) for entry in moved["pipelineStatus"]] == [(DEV, "STARTING")]
    hub.clock.advance(1)
    moved = hub.status(NORTH)
    assert [(entry["sdcId"], entry["status"]) for entry in moved["pipelineStatus"]] == [(DEV, "RUNNING")]
    same = ("id", "runCount", "status", "color", "startTime", "finishTime")
    assert [moved[field] for field in same] == [before[field] for field in same]
    assert [hub.status(name)["sdcIds"] for name in (SOUTH, LOGS)] == [[PROD], [PROD]]


def test_run_events_report_move(hub):
    hub.do(NORTH, "balance")
    events = messages(hub, NORTH)
    assert (hub.backend.user, "ACTIVE", "Job balanced") in events
    (move,) = [message for user, _, message in events if user is None and "moved" in message]
    assert "from Data Collector 'http://sdc-prod." in move
    assert "to Data Collector 'http://sdc-dev." in move
    hub.clock.advance(5)
    hub.do(NORTH, "stop")
    hub.clock.advance(5)
    stopped = next(message for _, _, message in messages(hub, NORTH) if "'STOPPED'" in message)
    assert "sdc-dev" in stopped


@pytest.mark.parametrize("path", ["job/{north}/balance", "jobs/balanceJobs", "jobs/balanceSDCs"])
def test_even_load_moves_nothing(hub, path):
    bodies: dict[str, Any] = {"jobs/balanceJobs": [hub.id(NORTH), hub.id(SOUTH)], "jobs/balanceSDCs": [PROD, DEV]}
    for _ in range(3):
        assert hub.http.post(f"{JR}/{path.format(north=hub.id(NORTH))}", json=bodies.get(path)).status_code == 200
        assert loads(hub) == {PROD: 2, DEV: 1}
        hub.clock.advance(2)
    assert sum("moved" in message for _, _, message in messages(hub, NORTH) + messages(hub, SOUTH)) == 1


def test_job_without_failover_is_not_moved(hub):
    assert hub.do(LOGS, "balance").status_code == 200
    assert loads(hub) == {PROD: 3, DEV: 0}
    assert "Job balanced" not in [message for _, _, message in messages(hub, LOGS)]
    rejected = Hub(balance_without_failover="refused").do(LOGS, "balance")
    assert (rejected.status_code, rejected.json()["ISSUES"][0]["code"]) == (400, "JOBRUNNER_25")


def test_inactive_job_or_unknown_engine_is_rejected(hub):
    assert hub.do("Sensors archive", "balance").status_code == 400
    assert hub.http.post(f"{JR}/jobs/balanceJobs", json=[hub.id(NORTH), "no:no"]).status_code == 404
    assert hub.http.post(f"{JR}/jobs/balanceSDCs", json=["none"]).status_code == 404
    assert loads(hub) == {PROD: 3, DEV: 0}


def test_other_engines_are_not_balanced(hub):
    assert hub.http.post(f"{JR}/jobs/balanceSDCs", json=[DEV]).status_code == 200
    assert loads(hub) == {PROD: 3, DEV: 0}


def test_instances_of_job_never_share_engine():
    jobs = tuple(replace(job, instances=2) if job.name == NORTH else job for job in SEED.jobs)
    hub = Hub(replace(SEED, jobs=jobs))
    hub.do(NORTH, "balance")
    assert hub.status(NORTH)["sdcIds"] == [PROD, DEV]


def test_pipeline_of_lost_engine_is_not_moved():
    engines = tuple(replace(engine, labels=("field",)) for engine in SEED.engines)
    jobs = tuple(replace(job, past=()) for job in SEED.jobs)
    hub = Hub(replace(SEED, engines=engines, jobs=jobs))
    for name in ("Legacy feed", "Sensors archive"):
        hub.do(name, "start")
    hub.clock.advance(6)
    before = hub.status("Legacy feed")["sdcIds"]
    hub.do("Legacy feed", "balance")
    assert hub.status("Legacy feed")["sdcIds"] == before


def test_offset_and_counts_follow_moved_pipeline(hub):
    hub.do(NORTH, "balance")
    hub.clock.advance(10)
    assert hub.counts(NORTH)["0"]["sdcId"] == DEV
    hub.do(NORTH, "stop")
    hub.clock.advance(10)
    assert hub.status(NORTH)["pipelineOffsets"][0]["sdcId"] == DEV
