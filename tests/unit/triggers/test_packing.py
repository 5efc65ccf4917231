"""The short form of the arguments of a trigger that waits for many runs."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

import pytest
from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from airflow_provider_streamsets.compat import MAX_TRIGGER_SIZE, trigger_size
from airflow_provider_streamsets.control_hub import (
    ControlHubClient,
    ControlHubError,
    ControlHubRunFailedError,
    Outcome,
)
from airflow_provider_streamsets.control_hub.models import JobRun, RunIdentity
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.triggers.events import RunsWaitEvent
from airflow_provider_streamsets.triggers.packing import pack, unpack
from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger
from tests.unit.conftest import TOKEN
from tests.unit.fakes.multi_job_hub import MultiJobHub, active, succeeded
from tests.unit.fakes.single_job_hub import HUB
from tests.unit.fakes.task_runner import Clock, TaskRunner, patch_clock, read_connection_inline, single_event

pytestmark = pytest.mark.usefixtures("connection")
NOW = 1_796_000_000.123


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def virtual_connection(monkeypatch):
    monkeypatch.setattr(connections, "get_connection_and_extra", read_connection_inline)


def ids(count: int, seed: str, organization: str = "bab21f86-3d1c-11ee-be56-0242ac120002") -> list[str]:
    """Ids like real ones."""
    chance = random.Random(seed)
    return [f"{uuid.UUID(int=chance.getrandbits(128))}:{organization}" for _ in range(count)]


def worst(count: int) -> dict[str, Any]:
    """Arguments of a trigger with all that it can have to remember."""
    chance = random.Random("worst")
    job_ids, run_ids = ids(count, "jobs"), ids(count, "runs")
    times = {job_id: round(NOW - chance.randrange(3_600_000) / 1000, 3) for job_id in job_ids}
    return {
        "control_hub_conn_id": "streamsets_default",
        "runs": [
            [job_id, chance.randrange(1, 1000), run_id, times[job_id]]
            for job_id, run_id in zip(job_ids, run_ids, strict=True)
        ],
        "timeout": 86_400.0,
        "deadline": NOW,
        "force_at": NOW,
        "metrics_timeout": 75.0,
        "forced": [job_id for job_id in job_ids if chance.random() < 0.5],
        "active": [job_id for job_id in job_ids if chance.random() < 0.5],
        "joined": [job_id for job_id in job_ids if chance.random() < 0.5],
        "wait_for": "active",
        "fail_on_red_after": 600.0,
        "red_since": {job_id: round(at + 30, 1) for job_id, at in times.items()},
    }


def stored(arguments: dict[str, Any]) -> dict[str, Any]:
    """What Airflow stores of a trigger."""
    return json.loads(json.dumps(ControlHubRunsTrigger(**arguments).serialize()[1]))


def test_thousand_runs_fit_into_mysql_row():
    nothing_happened = dict.fromkeys(("forced", "active", "joined", "red_since"))
    assert trigger_size(stored({**worst(1000), **nothing_happened})) <= MAX_TRIGGER_SIZE
    # Airflow 2 encrypts the arguments, which makes them longer.
    most = 1200 if Version(airflow_version) >= Version("3.0.0") else 900
    assert trigger_size(stored(worst(most))) <= MAX_TRIGGER_SIZE


def test_packed_trigger_survives_storage():
    arguments = worst(300)
    kept = stored(arguments)
    assert set(kept) >= {"packed", "deadline", "force_at"}
    assert "runs" not in kept
    trigger = ControlHubRunsTrigger(**kept)
    # Also before it is unpacked, as when it is moved.
    assert trigger.serialize()[1]["packed"] == kept["packed"]
    trigger._unpack()
    assert {name: getattr(trigger, name) for name in arguments} == arguments
    assert trigger.serialize()[1]["packed"] == kept["packed"]


def test_few_runs_are_not_packed():
    kept = stored({**worst(60), "red_since": None, "active": None, "joined": None})
    assert "packed" not in kept or kept["packed"] is None
    assert len(kept["runs"]) == 60


@pytest.mark.parametrize("packed", ["nonsense", "", "é", "c$@", 5, [], {}, "c-n=v2mk&C4gi{4"])
def test_unreadable_packed_arguments_end_wait_with_error(http, clock, packed):
    MultiJobHub(http)
    payload = single_event(clock, ControlHubRunsTrigger(packed=packed))
    with pytest.raises(ControlHubError, match="stored trigger arguments are unreadable"):
        RunsWaitEvent.from_payload(payload).raise_error()


def test_packed_trigger_waits_and_stops(http, clock):
    job_ids = ids(400, "jobs", "org")
    hub = MultiJobHub(http, **{job_id.removesuffix(":org"): [succeeded()] for job_id in job_ids})
    arguments = stored({"runs": [[job_id, 1] for job_id in job_ids], "joined": job_ids[1:]})
    assert arguments["packed"]
    event = RunsWaitEvent.from_payload(single_event(clock, ControlHubRunsTrigger(**arguments)))
    assert (event.error, event.run_counts) == (None, dict.fromkeys(job_ids, 1))
    for job_id in job_ids:
        hub.latest[job_id] = hub._status(job_id.removesuffix(":org"), active())
    with ControlHubClient(HUB, "credential-id", TOKEN) as client:
        assert ControlHubRunsTrigger(**arguments).description == "many runs"
        ControlHubRunsTrigger(**arguments).stop(client)
    assert hub.asked("stopJobs") == [[job_ids[0].removesuffix(":org")]]


def test_packed_trigger_without_connection_names_its_runs(clock, monkeypatch):
    async def gone(conn_id):
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

    monkeypatch.setattr(connections, "get_connection_and_extra", gone)
    runs = [[job_id, 1] for job_id in ids(600, "jobs", "org")]
    arguments = stored({"runs": runs})
    assert arguments["packed"]
    event = RunsWaitEvent.from_payload(single_event(clock, ControlHubRunsTrigger(**arguments)))
    assert "isn't defined" in str(event.error)
    assert event.run_counts == dict(runs)


TIMES = st.none() | st.integers(0, 2**42).map(lambda ms: ms / 1000)
IDS = st.one_of(
    st.uuids().map(lambda one: f"{one}:org"), st.text(max_size=8), st.uuids().map(lambda one: f"{one}1{one}")
)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        IDS,
        st.tuples(
            st.integers(0, 10**6), st.none() | st.tuples(IDS, TIMES), TIMES, st.booleans(), st.booleans(), st.booleans()
        ),
        min_size=1,
        max_size=20,
    )
)
def test_unpack_reverses_pack(runs):
    arguments = {
        "runs": [[job_id, one[0], *(one[1] or ())] for job_id, one in runs.items()],
        "red_since": {job_id: round(one[2], 1) for job_id, one in runs.items() if one[2] is not None},
        "red": {"spare": "x" * 30_000},
        "kept": {job_id: one[0] for job_id, one in runs.items() if one[3]},
        **{
            name: [job_id for job_id, one in runs.items() if one[number]]
            for number, name in ((3, "forced"), (4, "joined"), (5, "active"))
        },
    }
    packed = pack(dict(arguments))
    assert set(packed) == {"packed"}
    assert unpack(packed["packed"]) == arguments


def test_red_run_reports_are_short_failures(http, clock):
    MultiJobHub(http)
    run = JobRun("run:org", "a:org", 1, "ACTIVE", "RED", error_message="x" * 4000, warnings=("y" * 500,) * 20)
    short = RunReport.from_red_run(job_id="a:org", job_name="a", run=run, red_for=70.0).truncated().to_dict()
    assert len(json.dumps(short)) < 2000
    runs = [["a:org", 1], ["b:org", 2, "run-b:org", 1.0]]
    trigger = ControlHubRunsTrigger(runs=runs, red={"a:org": short, "b:org": 65.0})
    event = RunsWaitEvent.from_payload(single_event(clock, trigger))
    assert [report.outcome for report in event.reports.values()] == [Outcome.FAILED] * 2
    assert [report.red_for for report in event.reports.values()] == [70.0, 65.0]
    assert (event.reports["b:org"].run.run_id, event.reports["b:org"].run.run_count) == ("run-b:org", 2)


def test_event_of_red_runs_reads_identities_few_times(http, clock, monkeypatch):
    """Not all of them for each run: that kept the event loop for more than a second."""
    MultiJobHub(http)
    job_ids, read, from_json = ids(100, "jobs"), [], RunIdentity.from_json
    monkeypatch.setattr(RunIdentity, "from_json", lambda value: read.append(value) or from_json(value))
    runs = [[job_id, 1, f"run-{job_id}", 1.0] for job_id in job_ids]
    trigger = ControlHubRunsTrigger(runs=runs, red=dict.fromkeys(job_ids, 65.0))
    event = RunsWaitEvent.from_payload(single_event(clock, trigger))
    assert [report.run.run_id for report in event.reports.values()] == [f"run-{job_id}" for job_id in job_ids]
    assert len(read) <= 5 * len(job_ids)


def test_redeferral_with_many_red_runs_keeps_few_reports(http, clock, context, monkeypatch):
    clock = patch_clock(monkeypatch)
    names = [f"job{number:02}" for number in range(30)]
    hub = MultiJobHub(http, **{name: [None] for name in [*names, "green"]})
    hub.after_start = {name: [active(color="RED", errorMessage="RUN_ERROR: " + "x" * 2000)] for name in names}
    hub.after_start["green"] = [*[active()] * 10, succeeded()]
    arguments = {"job_ids": list(hub.latest), "wait_for_completion": True, "metrics_timeout": 0, "on_error": "leave"}
    legs = TaskRunner(
        clock,
        lambda: ControlHubStartJobsOperator(task_id="task", deferrable=True, fail_on_red_after=60, **arguments),
        context,
    )
    with pytest.raises(ControlHubRunFailedError, match="30 of 31 runs did not succeed") as error:
        legs.run()
    assert len(error.value.failures) == 30
    red = legs.triggers[1].serialize()[1]["red"]
    assert [type(value) for value in red.values()] == [dict] * 5 + [float] * 25
