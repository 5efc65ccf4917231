from __future__ import annotations

import asyncio
import importlib
import json
import re
import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_streamsets.compat import HAS_SHARED_STREAMS
from airflow_provider_streamsets.control_hub.models import JobRun
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.triggers.job_events import ControlHubJobRunEventTrigger
from tests.unit.conftest import TOKEN
from tests.unit.fakes.multi_job_hub import JR, TS, MultiJobHub, active, failed, job_id, succeeded
from tests.unit.fakes.single_job_hub import T0
from tests.unit.fakes.task_factory import own_heavy_modules
from tests.unit.fakes.triggerer import AssetStore, StandaloneWatcher, Triggerer, show
from tests.unit.fakes.virtual_time import VirtualLoop, run_in_virtual_time, run_on_loop

pytestmark = pytest.mark.usefixtures("connection", "calm_jitter")

STATUS = f"{JR}/jobs/status"
EVENTS = re.compile("/jobStatusHistory")
ONE_JOB = {"job_id": "9aaf0c53-90d4-5fda-bc98-e94bcd501655:org"}
shared = pytest.mark.skipif(not HAS_SHARED_STREAMS, reason="this Airflow has no shared streams")


@pytest.fixture(autouse=True)
def read_connection_inline(monkeypatch):
    """Airflow reads connections in threads of its own, which virtual time does not wait for."""

    async def read(conn_id: str) -> tuple[Any, dict[str, Any]]:
        connection = BaseHook.get_connection(conn_id)
        return connection, connection.extra_dejson

    monkeypatch.setattr(connections, "get_connection_and_extra", read)


@pytest.fixture
def logged(caplog):
    """What was logged; once, whatever else an Airflow does with it."""
    caplog.set_level("INFO")
    return lambda: "\n".join(caplog.messages)


@pytest.fixture
def calm_jitter(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)


class TaggedRuns(MultiJobHub):
    """Jobs of which some have tags."""

    def __init__(self, http: Any, **jobs: list[dict[str, Any] | None]) -> None:
        self.tags: dict[str, list[str]] = {}
        self.lists = 0
        """Number of complete lists that were requested."""
        self.hides_changes = False
        super().__init__(http, **jobs)

    def job(self, identifier: str) -> dict[str, Any]:
        return {**super().job(identifier), "rawJobTags": self.tags.get(identifier.removesuffix(":org"), [])}

    def _list(self, request: Any, answer: Any) -> dict[str, Any]:
        if "jobtag" not in request.qs:
            return super()._list(request, answer)
        tag = request.qs["jobtag"][0].removesuffix(":org")
        jobs = [self.job(identifier) for identifier in self.latest]
        found = [job for job in jobs if any(f"{own}/".startswith(f"{tag}/") for own in job["rawJobTags"])]
        offset, length = int(request.qs["offset"][0]), int(request.qs["len"][0])
        self.lists += length > 1
        if self.hides_changes and length == 1:
            return self.newest
        page = {"totalCount": len(found), "data": found[offset : offset + length]}
        if length == 1:
            self.newest = page
        return page


@pytest.fixture
def hub(http) -> TaggedRuns:
    hub = TaggedRuns(http, orders=[succeeded(3)], invoices=[succeeded(7)])
    hub.saves("orders", 4)
    return hub


def trigger(name: str | None = "orders", **arguments: Any) -> ControlHubJobRunEventTrigger:
    chosen = {"job_id": job_id(name)} if name else {}
    return ControlHubJobRunEventTrigger(**{**chosen, "poll_interval": 30, **arguments})


def test_finished_run_is_reported_with_task_result(hub):
    async def scene() -> list[dict[str, Any]]:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(100)
        show(hub, "orders", active(4))
        await asyncio.sleep(100)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(200)
        return watcher.reports

    (facts,) = run_in_virtual_time(scene())
    run = JobRun.from_wire(hub.latest["orders:org"])
    report = RunReport.build(job_id="orders:org", job_name="orders", run=run, events=())
    assert facts == {**report.to_result(), "metrics": facts["metrics"], "metrics_final": True}
    assert facts["metrics"] == {
        "run_count": 4,
        "input_count": 100,
        "output_count": 90,
        "error_count": 7,
        "stage_errors_count": 3,
        "total_error_count": 10,
    }


def test_only_runs_finishing_later_are_reported(hub):
    async def scene() -> list[tuple[str, int]]:
        show(hub, "invoices", active(8))
        watchers = StandaloneWatcher(trigger()), StandaloneWatcher(trigger("invoices"))
        await asyncio.sleep(100)
        show(hub, "invoices", succeeded(8))
        await asyncio.sleep(500)
        return [*watchers[0].runs, *watchers[1].runs]

    assert run_in_virtual_time(scene()) == [("invoices", 8)]


def test_runs_between_polls_are_reported_oldest_first(hub):
    async def scene() -> list[dict[str, Any]]:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(100)
        show(hub, "orders", active(7), succeeded(6), failed(5), succeeded(4))
        await asyncio.sleep(500)
        return watcher.reports

    events = run_in_virtual_time(scene())
    assert [(event["run_count"], event["outcome"]) for event in events] == [
        (4, "SUCCEEDED"),
        (5, "FAILED"),
        (6, "SUCCEEDED"),
    ]


def test_stopped_run_is_reported_as_stopped(hub):
    hub.events["run-orders-4:org"] = [{"user": "me@org", "time": 1, "message": "stopped", "status": "DEACTIVATING"}]

    async def scene() -> list[dict[str, Any]]:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(100)
        return watcher.reports

    assert [event["outcome"] for event in run_in_virtual_time(scene())] == ["STOPPED"]


def test_only_selected_outcomes_are_reported(hub):
    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger(outcomes=["FAILED"]))
        await asyncio.sleep(10)
        show(hub, "orders", failed(6), succeeded(5), failed(4))
        await asyncio.sleep(200)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders", 4), ("orders", 6)]


def test_final_metrics_are_awaited_until_timeout(hub):
    hub.counts = {}

    async def scene() -> list[dict[str, Any]]:
        watcher = StandaloneWatcher(trigger(metrics_timeout=60))
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(60)
        assert watcher.payloads == []
        hub.saves("orders", 4)
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(5))
        hub.counts = {}
        await asyncio.sleep(200)
        return watcher.reports

    first, second = run_in_virtual_time(scene())
    assert (first["metrics"]["run_count"], first["metrics_final"]) == (4, True)
    assert (second["run_count"], second["metrics"], second["metrics_final"]) == (5, None, False)


def test_job_is_watched_by_name(hub):
    async def scene() -> list[dict[str, Any]]:
        watcher = StandaloneWatcher(trigger(None, job_name="orders"))
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(200)
        return watcher.reports

    (facts,) = run_in_virtual_time(scene())
    assert (facts["job_id"], facts["job_name"], facts["run_count"]) == ("orders:org", "orders", 4)


def test_missing_job_name_is_watched_from_creation(hub, logged):
    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger(None, job_name="payments"))
        await asyncio.sleep(200)
        hub.add("payments", [active(1)])
        await asyncio.sleep(60)
        show(hub, "payments", succeeded(1))
        await asyncio.sleep(100)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("payments", 1)]
    assert logged().count("no job has that name") == 1


def test_new_job_of_same_name_replaces_deleted_one(hub):
    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger(None, job_name="orders"))
        await asyncio.sleep(100)
        for known in (hub.latest, hub.names):
            del known["orders:org"]
        hub.add("orders2", [active(1)], "orders")
        await asyncio.sleep(100)
        show(hub, "orders2", succeeded(1))
        await asyncio.sleep(100)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders2", 1)]


def test_metrics_of_superseded_run_are_not_awaited(hub):
    hub.counts = {}

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger(metrics_timeout=1000))
        await asyncio.sleep(10)
        show(hub, "orders", active(6), succeeded(5), succeeded(4))
        await asyncio.sleep(60)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders", 4), ("orders", 5)]


def test_recreated_job_is_not_confused_with_earlier_runs(hub, http):
    async def scene() -> list[dict[str, Any]]:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(10)
        http.get(EVENTS, status_code=503)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(100)
        # It is deleted and imported again before the run could be reported.
        again = [succeeded(count, startTime=T0 + 10**9, finishTime=T0 + 10**9 + 1) for count in (4, 3, 2, 1)]
        show(hub, "orders", again[-1])
        await asyncio.sleep(60)
        show(hub, "orders", *again)
        await asyncio.sleep(60)
        http.get(EVENTS, json=[])
        await asyncio.sleep(200)
        return watcher.reports

    events = run_in_virtual_time(scene())
    assert [event["run_count"] for event in events] == [1, 2, 3, 4]
    assert len({event["start_time"] for event in events}) == 1


def test_tagged_jobs_share_one_request_and_rare_listings(hub):
    hub.tags = {"orders": ["nightly"], "invoices": ["nightly/late"]}

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger(None, job_tag="nightly"))
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        show(hub, "invoices", succeeded(8))
        await asyncio.sleep(295)
        return watcher.runs

    assert sorted(run_in_virtual_time(scene())) == [("invoices", 8), ("orders", 4)]
    assert hub.lists == 2
    assert hub.polls == [["invoices:org", "orders:org"]] * 9


def test_job_replacing_tagged_job_is_watched_after_listing(hub):
    hub.tags = {"orders": ["nightly"]}

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger(None, job_tag="nightly"))
        await asyncio.sleep(10)
        hub.hides_changes = True
        hub.tags = {"invoices": ["nightly"]}
        show(hub, "invoices", active(8), succeeded(7))
        await asyncio.sleep(300)
        show(hub, "invoices", succeeded(8), succeeded(7))
        await asyncio.sleep(60)
        return watcher.runs

    assert run_in_virtual_time(scene())[-1] == ("invoices", 8)


def test_deleted_tagged_job_is_no_longer_polled(hub):
    hub.tags = {"orders": ["nightly"], "invoices": ["nightly"]}

    async def scene() -> None:
        StandaloneWatcher(trigger(None, job_tag="nightly"))
        await asyncio.sleep(40)
        assert hub.polls == [["invoices:org", "orders:org"]]
        for known in (hub.latest, hub.names):
            del known["invoices:org"]
        await asyncio.sleep(60)
        assert hub.polls[1:] == [["orders:org"]]

    run_in_virtual_time(scene())


def test_unreadable_tagged_job_does_not_hide_others(hub):
    hub.tags = {"orders": ["nightly"], "invoices": ["nightly"]}

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger(None, job_tag="nightly"))
        await asyncio.sleep(10)
        hub.bad = {"invoices:org": 403}
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(60)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders", 4)]


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, []),
        (200, {"data": [{"id": "orders:org"}]}),
        (400, {"ISSUES": [{"code": "JOBRUNNER_1"}]}),
        (500, {"ISSUES": [{"code": "JOBRUNNER_1"}]}),
    ],
)
def test_invisible_changes_cause_listing_at_each_poll(hub, http, status, answer):
    hub.tags = {"orders": ["nightly"]}
    http.get(re.compile("orderBy=LAST_MODIFIED_ON"), json=answer, status_code=status)

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger(None, job_tag="nightly"))
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(60)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders", 4)]
    assert (hub.lists, hub.polls) == (3, [])


FIVE = ["berlin", "lisbon", "madrid", "paris", "rome"]


def five_jobs(hub: TaggedRuns, count: int = 1) -> None:
    for name in FIVE:
        hub.add(name, [succeeded(count)])
        hub.tags[name] = ["cities"]


def test_runs_of_one_poll_share_one_event(hub):
    five_jobs(hub)

    async def scene() -> list[dict[str, Any]]:
        watcher = StandaloneWatcher(trigger(None, job_tag="cities", outcomes=["FAILED"]))
        await asyncio.sleep(10)
        for name in FIVE:
            show(hub, name, failed(2))
        await asyncio.sleep(100)
        return watcher.payloads

    (payload,) = run_in_virtual_time(scene())
    assert [(run["job_name"], run["run_count"], run["outcome"]) for run in payload["runs"]] == [
        (name, 2, "FAILED") for name in FIVE
    ]
    assert payload == {**payload["runs"][-1], "runs": payload["runs"]}


def test_single_run_payload_has_top_level_fields(hub):
    async def scene() -> list[dict[str, Any]]:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(100)
        return watcher.payloads

    (payload,) = run_in_virtual_time(scene())
    (facts,) = payload["runs"]
    assert (facts["job_id"], facts["run_count"]) == ("orders:org", 4)
    assert payload == {**facts, "runs": [facts]}


def test_runs_of_one_job_share_event_oldest_first(hub):
    async def scene() -> list[list[int]]:
        watcher = StandaloneWatcher(trigger(metrics_timeout=0))
        await asyncio.sleep(10)
        show(hub, "orders", *[succeeded(count) for count in range(12, 3, -1)])
        await asyncio.sleep(100)
        return [[run["run_count"] for run in payload["runs"]] for payload in watcher.payloads]

    assert run_in_virtual_time(scene()) == [list(range(4, 13))]


def test_events_of_one_asset_are_ten_seconds_apart(hub):
    async def scene() -> StandaloneWatcher:
        watcher = StandaloneWatcher(trigger(poll_interval=1, metrics_timeout=0))
        await asyncio.sleep(10)
        for count in range(4, 10):
            show(hub, "orders", *[succeeded(number) for number in range(count, 3, -1)])
            await asyncio.sleep(2)
        await asyncio.sleep(60)
        return watcher

    watcher = run_in_virtual_time(scene())
    assert watcher.runs == [("orders", count) for count in range(4, 10)]
    first, second = watcher.times
    assert 10 <= second - first < 12


def test_watchers_of_one_asset_space_their_events(hub):
    async def scene() -> list[float]:
        asset, other = AssetStore(), AssetStore()
        watchers = [
            StandaloneWatcher(trigger(name, metrics_timeout=0), store)
            for name, store in (("orders", asset), ("invoices", asset), ("orders", other))
        ]
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        show(hub, "invoices", succeeded(8))
        await asyncio.sleep(100)
        return [time for watcher in watchers for time in watcher.times]

    first, second, elsewhere = run_in_virtual_time(scene())
    assert 10 <= abs(first - second) < 12
    assert abs(min(first, second) - elsewhere) < 2


def test_unreadable_details_do_not_delay_other_runs(hub):
    five_jobs(hub)

    async def scene() -> tuple[float, list[tuple[str, int]]]:
        watcher = StandaloneWatcher(trigger(None, job_tag="cities", poll_interval=1))
        await asyncio.sleep(10)
        for name in FIVE:
            show(hub, name, succeeded(2))
            # The metrics of the one that is missing here are waited for.
            if name != "paris":
                hub.saves(name, 2)
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(60)
        return watcher.times[0] - began, watcher.runs

    waited, runs = run_in_virtual_time(scene())
    assert waited < 8
    assert runs[-1] == ("paris", 2)
    assert sorted(runs) == [(name, 2) for name in FIVE]


def test_large_event_is_split(hub):
    names = [f"job{number:02}" for number in range(60)]
    for name in names:
        hub.add(name, [succeeded(1)])
        hub.tags[name] = ["many"]

    async def scene() -> StandaloneWatcher:
        watcher = StandaloneWatcher(trigger(None, job_tag="many"))
        await asyncio.sleep(10)
        for name in names:
            show(hub, name, failed(2, message="x" * 4000))
        await asyncio.sleep(100)
        return watcher

    watcher = run_in_virtual_time(scene())
    assert sorted(watcher.runs) == [(name, 2) for name in names]
    assert max(len(json.dumps(payload["runs"])) for payload in watcher.payloads) < 101_000
    assert len(watcher.payloads) == 3
    assert all(10 <= later - sooner < 12 for sooner, later in zip(watcher.times, watcher.times[1:], strict=False))


def test_run_pending_at_kill_is_reported_after_restart(hub):
    store = AssetStore()

    async def scene() -> list[list[tuple[str, int]]]:
        watcher = StandaloneWatcher(trigger(poll_interval=1), store)
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(3)
        show(hub, "orders", succeeded(5), succeeded(4))
        await asyncio.sleep(3)
        await watcher.stop()
        again = StandaloneWatcher(trigger(poll_interval=1), store)
        await asyncio.sleep(60)
        return [watcher.runs, again.runs]

    assert run_in_virtual_time(scene()) == [[("orders", 4)], [("orders", 5)]]


def test_late_tagged_job_is_reported_from_then_on(hub):
    hub.tags = {"orders": ["nightly"]}
    store = AssetStore()
    past = {"startTime": 1_000, "finishTime": 2_000}

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger(None, job_tag="nightly"), store)
        await asyncio.sleep(3600)
        show(hub, "invoices", succeeded(7, **past), succeeded(6, **past))
        hub.tags["invoices"] = ["nightly"]
        await asyncio.sleep(100)
        assert watcher.runs == []
        assert store.reported == {"orders": 3, "invoices": 7}
        show(hub, "invoices", succeeded(8), succeeded(7, **past))
        await asyncio.sleep(100)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("invoices", 8)]


def test_late_tagged_job_is_saved_at_once(hub):
    hub.tags = {"orders": ["nightly"]}
    store = AssetStore()

    async def scene() -> None:
        watcher = StandaloneWatcher(trigger(None, job_tag="nightly"), store)
        await asyncio.sleep(3640)
        hub.add("payments", [succeeded(1, startTime=1_000, finishTime=2_000)])
        hub.tags["payments"] = ["nightly"]
        await asyncio.sleep(32)
        assert watcher.payloads == []

    run_in_virtual_time(scene())
    assert store.reported == {"orders": 3, "payments": 1}


def test_restart_loses_and_repeats_no_run(hub):
    store = AssetStore()

    async def scene() -> list[list[tuple[str, int]]]:
        watcher = StandaloneWatcher(trigger(), store)
        await asyncio.sleep(100)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(200)
        await watcher.stop()
        await asyncio.sleep(3600)
        show(hub, "orders", active(7), succeeded(6), succeeded(5), succeeded(4))
        again = StandaloneWatcher(trigger(), store)
        await asyncio.sleep(200)
        return [watcher.runs, again.runs]

    assert run_in_virtual_time(scene()) == [[("orders", 4)], [("orders", 5), ("orders", 6)]]
    assert store.reported == {"orders": 6}


def test_run_finished_while_stopped_is_reported(hub):
    store = AssetStore()

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger(), store)
        await asyncio.sleep(2)
        await watcher.stop()
        show(hub, "orders", succeeded(4))
        again = StandaloneWatcher(trigger(), store)
        await asyncio.sleep(200)
        return again.runs

    assert run_in_virtual_time(scene()) == [("orders", 4)]


def test_restart_without_store_reports_no_earlier_run(hub):
    async def scene() -> list[tuple[str, int]]:
        await StandaloneWatcher(trigger()).stop()
        show(hub, "orders", succeeded(4))
        again = StandaloneWatcher(trigger())
        await asyncio.sleep(200)
        return again.runs

    assert run_in_virtual_time(scene()) == []


def test_each_watcher_of_an_asset_has_own_cursor(hub):
    store = AssetStore()

    async def scene() -> None:
        watchers = [
            StandaloneWatcher(trigger(), store),
            StandaloneWatcher(trigger("invoices"), store),
            StandaloneWatcher(trigger(outcomes=["FAILED"]), store),
        ]
        await asyncio.sleep(100)
        assert len(store.values) == len(watchers)

    run_in_virtual_time(scene())


def test_unreadable_store_is_not_taken_for_empty(hub, logged):
    store = AssetStore()

    async def scene() -> list[tuple[str, int]]:
        await_first = StandaloneWatcher(trigger(), store)
        await asyncio.sleep(100)
        await await_first.stop()
        show(hub, "orders", succeeded(4))
        store.problem = RuntimeError("the api server is away")
        again = StandaloneWatcher(trigger(), store)
        await asyncio.sleep(200)
        assert again.runs == []
        store.problem = None
        await asyncio.sleep(200)
        return again.runs

    assert run_in_virtual_time(scene()) == [("orders", 4)]
    assert logged().count("Unexpected error while processing a poll") == 1


def test_unsaved_cursor_is_saved_later(hub, logged):
    store = AssetStore()

    async def scene() -> None:
        watcher = StandaloneWatcher(trigger(), store)
        await asyncio.sleep(20)
        store.problem = RuntimeError("the api server is away")
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(200)
        assert watcher.runs == [("orders", 4)]
        assert store.reported == {"orders": 3}
        store.problem = None
        await asyncio.sleep(60)

    run_in_virtual_time(scene())
    assert store.reported == {"orders": 4}
    assert logged().count("Could not save the watch position") == 1


def test_watcher_of_several_assets_logs_missing_state(hub, logged):
    store = AssetStore()
    store.problem = ValueError("Task has 2 concrete inlets and outlets")

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger(), store)
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(200)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders", 4)]
    assert logged().count("Several assets have identical watchers") == 1


def test_invalid_cursor_is_logged_and_watch_restarts(hub, logged):
    store = AssetStore()

    async def scene() -> list[tuple[str, int]]:
        await asyncio.sleep(0)
        watcher = StandaloneWatcher(trigger(), store)
        await asyncio.sleep(10)
        await watcher.stop()
        store.values = dict.fromkeys(store.values, '"something else"')
        show(hub, "orders", succeeded(4))
        again = StandaloneWatcher(trigger(), store)
        await asyncio.sleep(100)
        show(hub, "orders", succeeded(5), succeeded(4))
        await asyncio.sleep(100)
        return again.runs

    assert run_in_virtual_time(scene()) == [("orders", 5)]
    assert "saved watch position is unreadable" in logged()


def test_outage_is_survived_and_logged_once(hub, http, logged):
    requested = []

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(100)
        kinds = [
            {"exc": requests.exceptions.ConnectTimeout},
            {"status_code": 503},
            {"text": "<html>"},
        ]
        outage = http.post(STATUS, kinds * 100)
        await asyncio.sleep(7200)
        requested.append(outage.call_count)
        show(hub, "orders", succeeded(5), succeeded(4))
        http.post(STATUS, json=hub._poll)
        await asyncio.sleep(300)
        assert watcher.is_alive
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders", 4), ("orders", 5)]
    # After 30 s, 60 s, and then every two minutes.
    assert requested == [62]
    assert logged().count("retrying at the next poll") == 1
    assert logged().count("Control Hub responds again after 62 failed polls") == 1


def test_rejections_for_rate_slow_polls_and_are_logged_once(hub, http, caplog):
    async def scene() -> int:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(100)
        rejected = http.post(STATUS, status_code=429)
        await asyncio.sleep(3600)
        count = rejected.call_count
        http.post(STATUS, json=hub._poll)
        show(hub, "orders", succeeded(5), succeeded(4))
        await asyncio.sleep(150)
        assert watcher.runs == [("orders", 4), ("orders", 5)]
        return count

    with caplog.at_level("INFO"):
        assert run_in_virtual_time(scene()) < 80
    assert caplog.text.count("limits the rate of requests (429)") == 1
    assert "Still waiting" not in caplog.text


def test_retry_after_delays_next_poll(hub, http):
    async def scene() -> list[int]:
        polls = http.post(STATUS, status_code=503, headers={"Retry-After": "250"})
        StandaloneWatcher(trigger())
        await asyncio.sleep(245)
        before = polls.call_count
        await asyncio.sleep(10)
        return [before, polls.call_count]

    assert run_in_virtual_time(scene()) == [1, 2]


def test_refused_credential_is_logged_once_and_retried_rarely(hub, http, logged):
    async def scene() -> int:
        polls = http.post(STATUS, status_code=401)
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(3500)
        refused = polls.call_count
        http.post(STATUS, json=hub._poll)
        await asyncio.sleep(301)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(100)
        assert watcher.runs == [("orders", 4)]
        return refused

    assert run_in_virtual_time(scene()) < 40
    assert logged().count("Asset events are paused until this is fixed") == 1


def test_new_token_is_noticed_soon_after_refusal(hub, http, connection, monkeypatch):
    async def scene() -> list[tuple[str, int]]:
        http.post(STATUS, status_code=401)
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(1000)
        http.post(STATUS, json=hub._poll)
        connection["login"] = "another-credential"
        monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(connection))
        await asyncio.sleep(31)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(40)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders", 4)]


def test_token_replaced_before_refusal_is_used_at_once(hub, http, connection, monkeypatch):
    def answer(request: Any, response: Any) -> Any:
        if request.headers["X-SS-App-Component-Id"] == "another-credential":
            return hub._poll(request, response)
        response.status_code = 401
        return {}

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(100)
        http.post(STATUS, json=answer)
        connection["login"] = "another-credential"
        monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(connection))
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(45)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders", 4)]


def test_running_watcher_picks_up_edited_connection(hub, http, connection, monkeypatch, logged):
    async def scene() -> list[str]:
        StandaloneWatcher(trigger())
        await asyncio.sleep(100)
        connection["login"] = "another-credential"
        monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(connection))
        await asyncio.sleep(400)
        return [request.headers["X-SS-App-Component-Id"] for request in http.request_history]

    used = run_in_virtual_time(scene())
    assert (used[0], used[-1]) == ("credential-id", "another-credential")
    assert TOKEN not in logged()


@pytest.mark.parametrize("problem", ["no such connection", "a backend that fails", "a field that cannot be right"])
def test_unusable_connection_is_awaited(hub, connection, monkeypatch, logged, problem):
    read = connections.get_connection_and_extra

    async def fail(conn_id: str) -> Any:
        raise OSError("the vault is sealed")

    if problem == "a backend that fails":
        monkeypatch.setattr(connections, "get_connection_and_extra", fail)
    elif problem == "no such connection":
        monkeypatch.delenv("AIRFLOW_CONN_STREAMSETS_DEFAULT")
    else:
        monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps({**connection, "host": "ftp://hub"}))

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(1500)
        monkeypatch.setattr(connections, "get_connection_and_extra", read)
        monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(connection))
        await asyncio.sleep(400)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(100)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders", 4)]
    assert logged().count("Asset events are paused until this is fixed") == 1


def test_run_with_unreadable_details_is_reported_later(hub, http):
    async def scene() -> list[dict[str, Any]]:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(10)
        events = f"{JR}/job/run-orders-4:org/jobStatusHistory"
        failing = http.get(events, status_code=503)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(200)
        assert watcher.payloads == []
        assert failing.call_count < 15
        http.get(events, json=[{"user": "me@org", "time": 1, "message": "stopped", "status": "DEACTIVATING"}])
        await asyncio.sleep(100)
        return watcher.reports

    (facts,) = run_in_virtual_time(scene())
    assert facts["outcome"] == "STOPPED"


def test_many_pending_details_do_not_overload_failing_hub(hub, http):
    names = [f"job{number}" for number in range(200)]
    for name in names:
        hub.add(name, [succeeded(1)])
        hub.tags[name] = ["many"]

    async def scene() -> tuple[int, int]:
        watcher = StandaloneWatcher(trigger(None, job_tag="many", metrics_timeout=0))
        await asyncio.sleep(10)
        for name in names:
            show(hub, name, succeeded(2))
        metrics = http.get(f"{TS}/metrics/job/job0:org/recordCountsForAllRuns", json={})
        down = http.get(EVENTS, status_code=503)
        await asyncio.sleep(240)
        pressed = down.call_count
        http.get(EVENTS, json=[])
        await asyncio.sleep(120)
        assert metrics.called
        return pressed, len(set(watcher.runs))

    pressed, reported = run_in_virtual_time(scene())
    # At each poll a few are tried.
    assert pressed < 60
    assert reported == 200


def test_run_missing_from_history_does_not_delay_others(hub, logged):
    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(6), succeeded(5))
        await asyncio.sleep(300)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders", 5), ("orders", 6)]
    assert "its history does not contain run 4. It gets no asset event." in logged()


def test_upgraded_run_is_reported_once_as_successor(hub, logged):
    upgrade = {"upgradeStatus": {"previousJobStatusId": "run-orders-4:org"}}

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(10)
        show(hub, "orders", active(5, **upgrade), succeeded(4))
        await asyncio.sleep(300)
        show(hub, "orders", succeeded(5, **upgrade), succeeded(4))
        await asyncio.sleep(300)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders", 5)]
    assert "Run 4 of job orders:org was replaced by run 5" in logged()


def test_internal_error_does_not_end_watch(hub, monkeypatch, logged):
    from airflow_provider_streamsets.polling.watcher_query import WatcherQuery

    poll = WatcherQuery.poll
    errors = [ZeroDivisionError("oops")] * 3

    def sometimes(self: Any, wanted: Any) -> Any:
        if errors:
            raise errors.pop()
        return poll(self, wanted)

    async def scene() -> list[tuple[str, int]]:
        watcher = StandaloneWatcher(trigger())
        await asyncio.sleep(1)
        monkeypatch.setattr(WatcherQuery, "poll", sometimes)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(600)
        return watcher.runs

    assert run_in_virtual_time(scene()) == [("orders", 4)]
    assert logged().count("Unexpected error while polling for finished runs") == 1


def test_requests_are_sent_off_the_event_loop(hub):
    threads = set()
    hub.on_poll = lambda: threads.add(threading.current_thread())

    async def scene() -> None:
        watcher = StandaloneWatcher(trigger(poll_interval=0.05))
        while len(hub.polls) < 3:
            await asyncio.sleep(0.01)
        await watcher.stop()

    asyncio.run(asyncio.wait_for(scene(), 20))
    assert threads
    assert threading.main_thread() not in threads


@shared
def test_watchers_of_one_connection_share_requests(hub):
    for number in range(40):
        hub.add(f"job{number}", [succeeded(1)])

    async def scene() -> list[list[tuple[str, int]]]:
        triggerer = Triggerer()
        for number in range(40):
            triggerer.start(number, trigger(f"job{number}"))
        await asyncio.sleep(100)
        for number in range(40):
            show(hub, f"job{number}", succeeded(2))
        await asyncio.sleep(200)
        return [triggerer.runs(number) for number in range(40)]

    assert run_in_virtual_time(scene()) == [[(f"job{number}", 2)] for number in range(40)]
    assert {len(poll) for poll in hub.polls} == {40}
    assert len(hub.polls) == 10


@shared
def test_watchers_of_one_job_share_detail_requests(hub, http):
    async def scene() -> list[tuple[str, int]]:
        triggerer = Triggerer()
        triggerer.start(1, trigger())
        triggerer.start(2, trigger(outcomes=["SUCCEEDED"]))
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(100)
        return [*triggerer.runs(1), *triggerer.runs(2)]

    assert run_in_virtual_time(scene()) == [("orders", 4)] * 2
    events = [request for request in http.request_history if "jobStatusHistory" in request.url]
    assert len(events) == 1


@shared
def test_watcher_of_empty_tag_starts_at_first_poll(hub):
    """Also if another one has listed the jobs, so that they are not listed again for this one."""

    async def scene() -> list[list[tuple[str, int]]]:
        triggerer = Triggerer()
        for number in (1, 2):
            triggerer.start(number, trigger(None, job_tag="nightly"))
            await asyncio.sleep(40)
        hub.tags = {"payments": ["nightly"]}
        hub.add("payments", [succeeded(1)])
        await asyncio.sleep(100)
        return [triggerer.runs(number) for number in (1, 2)]

    assert run_in_virtual_time(scene()) == [[("payments", 1)]] * 2


@shared
def test_joining_and_leaving_watchers_change_polled_jobs(hub):
    async def scene() -> None:
        triggerer = Triggerer()
        triggerer.start(1, trigger())
        await asyncio.sleep(100)
        triggerer.start(2, trigger("invoices"))
        await asyncio.sleep(1)
        assert hub.polls[-1] == ["invoices:org", "orders:org"]
        triggerer.cancel(1)
        await asyncio.sleep(60)
        assert hub.polls[-1] == ["invoices:org"]
        triggerer.cancel(2)
        await asyncio.sleep(60)
        count = len(hub.polls)
        await asyncio.sleep(600)
        assert len(hub.polls) == count

    run_in_virtual_time(scene())


@shared
def test_watcher_joining_during_poll_is_polled_next(hub):
    async def scene() -> None:
        triggerer = Triggerer()
        triggerer.start(1, trigger())
        await asyncio.sleep(12)
        assert hub.polls == [["orders:org"]]
        triggerer.start(2, trigger("invoices"))
        await asyncio.sleep(20)

    run_on_loop(VirtualLoop(thread_latency=5.0), scene())
    assert hub.polls == [["orders:org"], ["invoices:org", "orders:org"]]


@shared
def test_unreadable_job_does_not_affect_other_watchers(hub, logged):
    hub.bad = {"secret:org": 403}

    async def scene() -> list[tuple[str, int]]:
        triggerer = Triggerer()
        triggerer.start(1, trigger())
        triggerer.start(2, trigger("secret"))
        await asyncio.sleep(100)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(300)
        assert triggerer.errors == {}
        return triggerer.runs(1)

    assert run_in_virtual_time(scene()) == [("orders", 4)]
    assert logged().count("Asset events of job secret:org are paused until this is fixed") == 1


@shared
def test_cursor_is_saved_once_event_is_stored(hub):
    store = AssetStore()
    cursors = []

    def stores(number: int, payload: Any) -> bool:
        cursors.append(store.reported)
        return True

    async def scene() -> None:
        triggerer = Triggerer(stores)
        triggerer.start(1, trigger(), store)
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        while not triggerer.events[1]:
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        cursors.append(store.reported)

    run_in_virtual_time(scene())
    assert cursors == [{"orders": 3}, {"orders": 4}]


@shared
def test_unstored_events_are_reported_after_kill(hub):
    store = AssetStore()

    async def scene() -> list[list[tuple[str, int]]]:
        triggerer = Triggerer(lambda *_: False)
        triggerer.start(1, trigger(), store)
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(5), succeeded(4))
        await asyncio.sleep(60)
        await triggerer.kill()
        show(hub, "orders", succeeded(6), succeeded(5), succeeded(4))
        again = Triggerer()
        again.start(1, trigger(), store)
        await asyncio.sleep(200)
        return [triggerer.runs(1), again.runs(1)]

    assert run_in_virtual_time(scene()) == [[], [("orders", 4), ("orders", 5), ("orders", 6)]]


@shared
def test_stored_events_are_not_repeated_after_kill(hub):
    store = AssetStore()

    async def scene() -> list[list[tuple[str, int]]]:
        triggerer = Triggerer()
        triggerer.start(1, trigger(), store)
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(5), succeeded(4))
        await asyncio.sleep(60)
        await triggerer.kill()
        show(hub, "orders", active(7), succeeded(6), succeeded(5), succeeded(4))
        again = Triggerer()
        again.start(1, trigger(), store)
        await asyncio.sleep(200)
        return [triggerer.runs(1), again.runs(1)]

    assert run_in_virtual_time(scene()) == [[("orders", 4), ("orders", 5)], [("orders", 6)]]


@shared
def test_lost_event_moves_only_other_cursors(hub):
    stores = AssetStore(), AssetStore()
    lossy = {2}

    async def scene() -> list[list[tuple[str, int]]]:
        triggerer = Triggerer(lambda number, _: number not in lossy, ack_timeout=100)
        triggerer.start(1, trigger(), stores[0])
        triggerer.start(2, trigger(outcomes=["SUCCEEDED"]), stores[1])
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(60)
        assert [store.reported for store in stores] == [{"orders": 3}, {"orders": 3}]
        await asyncio.sleep(300)
        # Airflow has given up the second one. It starts it again, and that one reports the run.
        assert list(triggerer.errors) == [2]
        assert [store.reported for store in stores] == [{"orders": 4}, {"orders": 3}]
        lossy.clear()
        triggerer.start(2, trigger(outcomes=["SUCCEEDED"]), stores[1])
        await asyncio.sleep(100)
        return [triggerer.runs(1), triggerer.runs(2)]

    assert run_in_virtual_time(scene()) == [[("orders", 4)], [("orders", 4)]]
    assert [store.reported for store in stores] == [{"orders": 4}, {"orders": 4}]


@shared
def test_lost_event_moves_no_cursor_with_slow_airflow(hub):
    store = AssetStore()
    yielded = []

    def slow_from_the_second_on(number: int) -> float:
        yielded.append(number)
        return 500.0 if len(yielded) > 1 else 0.0

    async def scene() -> None:
        triggerer = Triggerer(lambda *_: False, ack_timeout=100)
        triggerer.before_accept = slow_from_the_second_on
        triggerer.start(1, trigger(), store)
        await asyncio.sleep(10)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(40)
        show(hub, "orders", succeeded(5), succeeded(4))
        await asyncio.sleep(360)
        assert yielded == [1, 1]
        await asyncio.sleep(400)
        assert list(triggerer.errors) == [1]

    run_in_virtual_time(scene())
    assert store.reported == {"orders": 3}


@shared
def test_untaken_event_moves_no_cursor_at_cancellation(hub):
    store = AssetStore()

    async def scene() -> None:
        triggerer = Triggerer()
        triggerer.start(1, trigger(), store)
        await asyncio.sleep(10)
        triggerer.before_accept = triggerer.cancel
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(100)
        assert triggerer.events[1] == []

    run_in_virtual_time(scene())
    assert store.reported == {"orders": 3}


@shared
def test_stream_key_depends_on_connection_and_interval():
    key = trigger().shared_stream_key()
    assert key == trigger("invoices", outcomes=["FAILED"]).shared_stream_key()
    assert key != trigger(poll_interval=60).shared_stream_key()
    assert key != trigger(control_hub_conn_id="other").shared_stream_key()


def test_trigger_survives_serialization():
    made = ControlHubJobRunEventTrigger(
        **ONE_JOB, poll_interval=timedelta(minutes=1), outcomes=("STOPPED", "FAILED"), metrics_timeout=0
    )
    path, arguments = made.serialize()
    assert path == "airflow_provider_streamsets.triggers.job_events.ControlHubJobRunEventTrigger"
    assert arguments["poll_interval"] == 60
    assert arguments["outcomes"] == ["FAILED", "STOPPED"]
    assert ControlHubJobRunEventTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


def test_trigger_of_other_version_can_be_created():
    made = ControlHubJobRunEventTrigger(poll_interval="often", outcomes=5, metrics_timeout="long")
    made.trigger_id = 1
    assert made.serialize()[1]["poll_interval"] == 30
    hash(made.shared_stream_key())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Exactly one of 'job_id', 'job_name', 'job_tag' is required, got none"),
        ({**ONE_JOB, "job_name": "Orders"}, "is required, got 'job_id' and 'job_name'"),
        ({"job_id": "orders"}, "'job_id' must have the form '<uuid>:<organization>'"),
        ({"job_name": " "}, "'job_name' must be a non-empty string"),
        ({"job_name": "{{ params.job }}"}, "'job_name' cannot be a template"),
        ({**ONE_JOB, "poll_interval": 0}, "'poll_interval' must be a number of seconds above 0"),
        ({**ONE_JOB, "metrics_timeout": -1}, "'metrics_timeout' must be a number of seconds from 0"),
        ({**ONE_JOB, "outcomes": "FAILED"}, "'outcomes' must be a list of SUCCEEDED, FAILED, STOPPED"),
        ({**ONE_JOB, "outcomes": 3}, "'outcomes' must be a list of SUCCEEDED, FAILED, STOPPED"),
        ({**ONE_JOB, "outcomes": []}, "'outcomes' must be a list of SUCCEEDED, FAILED, STOPPED"),
        ({**ONE_JOB, "outcomes": ["WON"]}, "'outcomes' must be one of 'SUCCEEDED', 'FAILED', 'STOPPED'"),
        ({**ONE_JOB, "control_hub_conn_id": ""}, "'control_hub_conn_id' must be a non-empty string"),
    ],
)
def test_invalid_arguments_raise_at_serialization(arguments, message):
    made = ControlHubJobRunEventTrigger(**arguments)
    with pytest.raises(ValueError, match=message):
        made.serialize()


def test_dag_with_invalid_watcher_cannot_be_serialized():
    sdk = pytest.importorskip("airflow.sdk", reason="Airflow 2 has no watchers")
    serialized_objects = importlib.import_module("airflow.serialization.serialized_objects")
    # The second before Airflow 3.2.
    serialization = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG
    watcher = sdk.AssetWatcher(name="runs", trigger=ControlHubJobRunEventTrigger(job_id="orders"))
    with sdk.DAG("dag", schedule=sdk.Asset("orders", watchers=[watcher])) as dag:
        pass
    with pytest.raises(Exception, match="'job_id' must have the form"):
        serialization.to_dict(dag)


def test_dag_parse_loads_no_heavy_modules():
    command = (
        "import sys; from airflow.triggers.base import BaseTrigger;"
        "from airflow.providers.common.compat.sdk import Asset;"
        "before = set(sys.modules); import airflow_provider_streamsets.triggers.job_events;"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", command], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.strip().splitlines()[-1].split())
    assert "airflow_provider_streamsets.triggers.job_events" in loaded
    assert not own_heavy_modules(name for name in loaded if ".triggers." not in name)
    assert not {name for name in loaded if name.partition(".")[0] == "requests" or name.endswith("shared_stream")}
