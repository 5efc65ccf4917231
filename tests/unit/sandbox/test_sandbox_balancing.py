"""Pipelines move from more to less loaded engines, and every answer about them follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.sandbox_hub import JR, SEED, Hub

NORTH, SOUTH, LOGS = "Truck positions north", "Truck positions south", "Web logs to lake"


@pytest.fixture
def hub() -> Hub:
    return Hub()


def engine_named(name: str) -> str:
    return next(engine.id for engine in SEED.engines if engine.name == name)


PROD, DEV = engine_named("sdc-prod"), engine_named("sdc-dev")


def loads(hub: Hub) -> dict[str, int]:
    """Return how many pipelines each engine says it runs, checked against those that it lists."""
    counts = {}
    for engine in (PROD, DEV):
        counts[engine] = hub.get(f"{JR}/sdc/{engine}")["pipelinesCount"]
        assert len(hub.get(f"{JR}/sdc/{engine}/pipelines")) == counts[engine]
    return counts


def messages(hub: Hub, name: str) -> list[tuple[str | None, str, str]]:
    events = hub.get(f"{JR}/job/{hub.status(name)['id']}/jobStatusHistory")
    return [(event["user"], event["status"], event["message"]) for event in events]


def test_an_engine_gives_away_what_makes_the_load_even(hub):
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


def test_the_move_is_told_by_the_run_events(hub):
    hub.do(NORTH, "balance")
    told = messages(hub, NORTH)
    assert (hub.world.user, "ACTIVE", "Job balanced") in told
    (move,) = [message for user, _, message in told if user is None and "moved" in message]
    assert "from Data Collector 'http://sdc-prod." in move
    assert "to Data Collector 'http://sdc-dev." in move
    hub.clock.advance(5)
    hub.do(NORTH, "stop")
    hub.clock.advance(5)
    stopped = next(message for _, _, message in messages(hub, NORTH) if "'STOPPED'" in message)
    assert "sdc-dev" in stopped


@pytest.mark.parametrize("path", ["job/{north}/balance", "jobs/balanceJobs", "jobs/balanceSDCs"])
def test_where_the_load_is_even_nothing_moves(hub, path):
    bodies: dict[str, Any] = {"jobs/balanceJobs": [hub.id(NORTH), hub.id(SOUTH)], "jobs/balanceSDCs": [PROD, DEV]}
    for _ in range(3):
        assert hub.http.post(f"{JR}/{path.format(north=hub.id(NORTH))}", json=bodies.get(path)).status_code == 200
        assert loads(hub) == {PROD: 2, DEV: 1}
        hub.clock.advance(2)
    assert sum("moved" in message for _, _, message in messages(hub, NORTH) + messages(hub, SOUTH)) == 1


def test_a_job_without_failover_stays(hub):
    assert hub.do(LOGS, "balance").status_code == 200
    assert loads(hub) == {PROD: 3, DEV: 0}
    assert "Job balanced" not in [message for _, _, message in messages(hub, LOGS)]
    refused = Hub(balance_without_failover="refused").do(LOGS, "balance")
    assert (refused.status_code, refused.json()["ISSUES"][0]["code"]) == (400, "JOBRUNNER_25")


def test_an_inactive_job_and_an_unknown_engine_are_refused(hub):
    assert hub.do("Sensors archive", "balance").status_code == 400
    assert hub.http.post(f"{JR}/jobs/balanceJobs", json=[hub.id(NORTH), "no:no"]).status_code == 404
    assert hub.http.post(f"{JR}/jobs/balanceSDCs", json=["none"]).status_code == 404
    assert loads(hub) == {PROD: 3, DEV: 0}


def test_only_what_runs_on_the_engines_asked_for_moves(hub):
    assert hub.http.post(f"{JR}/jobs/balanceSDCs", json=[DEV]).status_code == 200
    assert loads(hub) == {PROD: 3, DEV: 0}


def test_an_instance_never_joins_another_of_its_own_job():
    jobs = tuple(replace(job, instances=2) if job.name == NORTH else job for job in SEED.jobs)
    hub = Hub(replace(SEED, jobs=jobs))
    hub.do(NORTH, "balance")
    assert hub.status(NORTH)["sdcIds"] == [PROD, DEV]


def test_a_pipeline_whose_engine_is_lost_stays_with_it():
    engines = tuple(replace(engine, labels=("field",)) for engine in SEED.engines)
    jobs = tuple(replace(job, past=()) for job in SEED.jobs)
    hub = Hub(replace(SEED, engines=engines, jobs=jobs))
    for name in ("Legacy feed", "Sensors archive"):
        hub.do(name, "start")
    hub.clock.advance(6)
    before = hub.status("Legacy feed")["sdcIds"]
    hub.do("Legacy feed", "balance")
    assert hub.status("Legacy feed")["sdcIds"] == before


def test_the_offset_goes_with_the_pipeline_and_records_are_counted_on(hub):
    hub.do(NORTH, "balance")
    hub.clock.advance(10)
    assert hub.counts(NORTH)["0"]["sdcId"] == DEV
    hub.do(NORTH, "stop")
    hub.clock.advance(10)
    assert hub.status(NORTH)["pipelineOffsets"][0]["sdcId"] == DEV
