"""Goals and reports of ``make bench-triggerer``, and its database server."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console
from sqlalchemy import create_engine, text

from dev.local_postgres import LocalPostgres, LocalPostgresError
from tests.benchmarks.triggerer.finish_time import unbiased_finish_time
from tests.benchmarks.triggerer.plan import Plan
from tests.benchmarks.triggerer.processes import Usage
from tests.benchmarks.triggerer.results import Delays, Result, document, table

USED = {"runner": Usage(1.5, 150.0, 20), "supervisor": Usage(3.0, 160.0, 1050)}
GOOD = Result(
    plan=Plan(waits=1000, finishing=500, interval=30, intervals=3),
    idle=USED,
    waiting=USED,
    requests=Counter({"POST /jobrunner/rest/v1/jobs/status": 12}),
    finish_spread=0.2,
    to_event=Delays([3.0, 15.0, 31.0]),
    to_database=Delays([4.0, 18.0, 40.0]),
    to_success=Delays([10.0, 30.0, 90.0]),
    states=Counter(deferred=500, success=500),
    tries=1,
    durations={"defer": 300.0},
)


def missed(result: Result) -> set[str]:
    return {goal for goal, met in result.goals.items() if not met}


def test_good_result_meets_all_goals():
    assert missed(GOOD) == set()
    assert document(GOOD)["goals_met"] is True


@pytest.mark.parametrize(
    ("goal", "change"),
    [
        (
            "requests",
            {"requests": Counter({"POST /jobrunner/rest/v1/jobs/status": 12, "GET /jobrunner/rest/v1/jobs": 1})},
        ),
        ("median", {"to_event": Delays([3.0, 16.0, 31.0])}),
        ("worst", {"to_event": Delays([3.0, 15.0, 32.0])}),
        ("worst", {"to_event": Delays([3.0, 15.0, float("inf")])}),
        ("finish_spread", {"finish_spread": 1.1}),
        ("no_task_lost", {"states": Counter(deferred=500, success=499, failed=1)}),
        ("no_task_lost", {"states": Counter(deferred=499, success=501)}),
        ("no_task_lost", {"tries": 2}),
    ],
)
def test_each_goal_can_be_missed(goal, change):
    result = replace(GOOD, **change)
    assert missed(result) == {goal}
    assert document(result)["goals_met"] is False
    console = Console(width=130)
    with console.capture() as capture:
        console.print(table(result))
    assert capture.get().count("MISSED") == 1


def test_document_is_json():
    written = json.loads(json.dumps(document(GOOD)))
    assert written["requests_per_interval"] == 4
    assert (written["to_success"]["median"], written["tasks_per_second"]) == (30.0, 0.03)
    assert written["to_event"] == {"median": 15.0, "worst": 31.0, "all": [3.0, 15.0, 31.0]}


@pytest.mark.parametrize("polls", [[100.0], [100.0, 107.5, 115.0, 122.5], [100.0, 100.1, 100.2, 100.3], [70.0, 77.5]])
def test_finish_time_is_half_an_interval_before_polls(polls):
    finish = unbiased_finish_time(polls, 30.0, earliest=130.0)
    assert 130 <= finish < 160
    waits = [(poll - finish) % 30 for poll in polls]
    assert sum(waits) / len(waits) == pytest.approx(15, abs=0.2)


def test_postgres_server_removes_its_folder():
    try:
        server = LocalPostgres()
    except LocalPostgresError as error:
        pytest.skip(str(error))
    with server:
        folder = server.folder
        engine = create_engine(server.url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE kept (number int)"))
            connection.execute(text("INSERT INTO kept VALUES (42)"))
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT number FROM kept")) == 42
        engine.dispose()
    assert not folder.exists()


def test_missing_postgres_names_package_to_install(tmp_path):
    with pytest.raises(LocalPostgresError, match="apt-get install postgresql"):
        LocalPostgres(tmp_path)
