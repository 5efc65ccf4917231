from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubClient,
    ControlHubRunTimeoutError,
)
from airflow_provider_streamsets.control_hub.tracking.run import RunTracker, wait_for_run
from airflow_provider_streamsets.control_hub.tracking.run_group import RunGroup, RunRef, wait_for_runs
from airflow_provider_streamsets.hooks.control_hub import ControlHubHook
from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.polling.connections import connection_settings
from airflow_provider_streamsets.polling.poller import SharedStatusPoller, shared_poller
from airflow_provider_streamsets.triggers.events import RunWaitEvent
from airflow_provider_streamsets.triggers.runs import ControlHubJobRunTrigger
from tests.unit.conftest import TOKEN
from tests.unit.scripted_hub import HUB, LONG_AGO, run_json
from tests.unit.virtual_time import VirtualLoop, run_on, run_virtually

JOBS = f"{HUB}/jobrunner/rest/v1"
OLD, NEW = TOKEN, "eyJhbGciOiJub25lIn0.eyJzIjoibmV3IiwibyI6Im9yZyJ9."
CONFIRM_TIMEOUT = 300.0
"""Seconds for which a refused credential is tried again by default."""
RETRIES = 16
"""How often, at the most, in that time."""


class World:
    """
    A Control Hub that accepts some tokens, and the Airflow connection to it.

    :param http: the mocker to answer through
    """

    def __init__(self, http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.accepted = {OLD}
        self.asked: list[tuple[float, str]] = []
        """When which token was sent."""
        self.ended: set[str] = set()
        self.now: Callable[[], float] = lambda: asyncio.get_running_loop().time()
        self.readings = 0
        self.unreadable: Exception | None = None
        self._monkeypatch = monkeypatch
        self.connect(OLD)
        monkeypatch.setattr(connections, "get_connection_and_extra", self._read)
        http.post(f"{JOBS}/jobs/status", json=self._checked(lambda ids: {job: self._run(job) for job in ids}))
        http.get(re.compile(f"{JOBS}/job/job-.*"), json=self._checked(lambda _: {"id": "job-0", "name": "Orders"}))
        http.get(f"{JOBS}/job/run-1:org/jobStatusHistory", json=self._checked(lambda _: []))
        http.get(re.compile(f"{HUB}/timeseries/rest/v1/metrics/job/.*"), json=self._checked(lambda _: {}))

    def connect(self, token: str, **fields: Any) -> None:
        """Edit the connection."""
        values = {"conn_type": "streamsets", "host": HUB, "login": "credential-id", "password": token, **fields}
        self._monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(values))

    def disconnect(self) -> None:
        """Delete the connection."""
        self._monkeypatch.delenv("AIRFLOW_CONN_STREAMSETS_DEFAULT")

    def times(self, token: str) -> list[float]:
        """Return when a token was sent."""
        return [when for when, sent in self.asked if sent == token]

    async def _read(self, conn_id: str) -> tuple[Any, dict[str, Any]]:
        self.readings += 1
        await asyncio.sleep(0.1)
        if self.unreadable is not None:
            raise self.unreadable
        connection = BaseHook.get_connection(conn_id)
        return connection, connection.extra_dejson

    def _run(self, job_id: str) -> dict[str, Any]:
        fields = {"jobId": job_id, "startTime": LONG_AGO}
        return run_json(1, "INACTIVE", "GRAY", **fields) if job_id in self.ended else run_json(1, **fields)

    def _checked(self, answer: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        def checked(request: Any, response: Any) -> Any:
            token = request.headers["X-SS-App-Auth-Token"]
            self.asked.append((self.now(), token))
            if token in self.accepted:
                return answer(request.json() if request.body else None)
            response.status_code = 401
            return {"ISSUES": [{"code": "SSO_01", "message": "User not authenticated"}]}

        return checked


@pytest.fixture
def world(http: Any, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(http, monkeypatch)


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that was logged; it never holds a token."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text


async def feed_of_connection() -> SharedStatusPoller:
    return shared_poller(await connection_settings("streamsets_default"))


def trigger(n: int, **arguments: Any) -> ControlHubJobRunTrigger:
    return ControlHubJobRunTrigger(job_id=f"job-{n}", run_count=1, metrics_timeout=0, **arguments)


async def event_of(trigger: ControlHubJobRunTrigger) -> RunWaitEvent:
    (payload,) = [event.payload async for event in trigger.run()]
    return RunWaitEvent.from_payload(json.loads(json.dumps(payload)))


async def begun(number: int) -> list[asyncio.Task[RunWaitEvent]]:
    """Begin so many waits, and let them look for ten minutes."""
    tasks = [asyncio.create_task(event_of(trigger(n))) for n in range(number)]
    await asyncio.sleep(600)
    return tasks


def now() -> float:
    return asyncio.get_running_loop().time()


REFUSED = "The credential of connection 'streamsets_default' was refused"
GOING_ON = "Control Hub refused the credential of connection 'streamsets_default', which has changed; using the new one"


# In the triggerer


def test_thousands_of_waits_go_on_with_a_new_token_at_the_cost_of_one_refused_request(world, logged):
    async def scene() -> None:
        tasks = await begun(2000)
        usual, readings = len(world.asked), world.readings
        world.accepted = {NEW}
        world.connect(NEW)
        replaced = now()
        await asyncio.sleep(600)
        assert len([when for when in world.times(OLD) if when > replaced]) == 1
        assert world.readings == readings + 1
        assert len(world.asked) - usual == pytest.approx(usual, rel=0.1)
        world.ended = {"job-7", "job-1999"}
        await asyncio.sleep(60)
        ended = [task.result() for task in tasks if task.done()]
        assert {(event.job_id, event.report.outcome.value) for event in ended if event.report} == {
            ("job-7", "SUCCEEDED"),
            ("job-1999", "SUCCEEDED"),
        }

    run_virtually(scene())
    assert logged().count(GOING_ON) == 1


@pytest.mark.parametrize("lasts", [1, 60, 200])
def test_refusals_that_pass_end_no_wait(world, logged, lasts):
    """Control Hub answers 401 for any trouble of its security service."""

    async def scene() -> None:
        tasks = await begun(2000)
        world.accepted = set()
        refused = now()
        while world.times(OLD)[-1] < refused:
            await asyncio.sleep(0.1)
        await asyncio.sleep(lasts)
        world.accepted = {OLD}
        assert len([when for when in world.times(OLD) if when > refused]) <= RETRIES
        await asyncio.sleep(60)
        world.ended = {"job-7"}
        await asyncio.sleep(60)
        (ended,) = [task.result() for task in tasks if task.done()]
        assert (ended.job_id, ended.report.outcome.value) == ("job-7", "SUCCEEDED")

    run_virtually(scene())
    assert logged().count(REFUSED) == 1
    assert "Retrying for up to 300 s" in logged()


def test_the_patience_is_that_of_the_connection(world):
    async def scene() -> None:
        world.connect(OLD, extra={"credential_grace_period": 20})
        tasks = await begun(10)
        world.accepted = set()
        revoked = now()
        await asyncio.gather(*tasks)
        assert now() - revoked < 60

    run_virtually(scene())


def test_a_token_that_is_revoked_for_good_fails_all_waits_with_one_clear_error(world, logged):
    async def scene() -> list[RunWaitEvent]:
        tasks = await begun(2000)
        world.accepted = set()
        revoked = now()
        events = await asyncio.gather(*tasks)
        assert now() - revoked == pytest.approx(CONFIRM_TIMEOUT, abs=35)
        assert len([when for when in world.times(OLD) if when > revoked]) == RETRIES
        return events

    errors = {(type(event.error), str(event.error)) for event in run_virtually(scene())}
    ((kind, said),) = errors
    assert kind is ControlHubAuthenticationError
    assert REFUSED in said
    assert "SSO_01 - User not authenticated" in said
    assert "The connection has not changed. Set an active credential in the connection" in said
    assert logged().count(REFUSED) == 1


@pytest.mark.parametrize("late", [1, 40, 200])
def test_a_connection_that_is_edited_some_time_after_the_token_was_revoked_is_waited_for(world, logged, late):
    async def scene() -> None:
        tasks = await begun(100)
        world.accepted = {NEW}
        revoked = now()
        while world.times(OLD)[-1] < revoked:
            await asyncio.sleep(0.1)
        await asyncio.sleep(late)
        world.connect(NEW)
        await asyncio.sleep(60)
        assert len([when for when in world.times(OLD) if when > revoked]) < RETRIES
        assert not any(task.done() for task in tasks)
        assert world.times(NEW)

    run_virtually(scene())
    assert logged().count(GOING_ON) == 1


def test_waits_that_begin_meanwhile_wait_for_the_new_token_too(world):
    async def scene() -> None:
        tasks = await begun(10)
        world.accepted = {NEW}
        revoked = now()
        await asyncio.sleep(45)
        tasks += [asyncio.create_task(event_of(trigger(n))) for n in range(10, 20)]
        await asyncio.sleep(15)
        assert len([when for when in world.times(OLD) if when > revoked]) < RETRIES
        world.connect(NEW)
        await asyncio.sleep(60)
        assert not any(task.done() for task in tasks)

    run_virtually(scene())


def test_waits_that_begin_meanwhile_fail_with_the_others(world):
    async def scene() -> None:
        tasks = await begun(10)
        world.accepted = set()
        await asyncio.sleep(45)
        tasks.append(asyncio.create_task(event_of(trigger(10))))
        assert len({str(event.error) for event in await asyncio.gather(*tasks)}) == 1

    run_virtually(scene())


def test_a_secrets_backend_that_is_down_meanwhile_is_waited_for(world, logged):
    async def scene() -> None:
        tasks = await begun(100)
        world.accepted, world.unreadable = {NEW}, OSError("the vault is sealed")
        await asyncio.sleep(60)
        world.connect(NEW)
        world.unreadable = None
        await asyncio.sleep(60)
        assert not any(task.done() for task in tasks)
        assert world.times(NEW)

    run_virtually(scene())
    assert logged().count("The connection could not be read again (OSError: the vault is sealed)") == 1


def test_a_secrets_backend_that_stays_down_is_part_of_the_error(world):
    async def scene() -> list[RunWaitEvent]:
        tasks = await begun(3)
        world.accepted, world.unreadable = {NEW}, OSError("the vault is sealed")
        return await asyncio.gather(*tasks)

    (said,) = {str(event.error) for event in run_virtually(scene())}
    assert REFUSED in said
    assert "The connection could not be read again (OSError: the vault is sealed)" in said


def test_a_connection_that_is_gone_fails_the_waits_at_once(world):
    async def scene() -> list[RunWaitEvent]:
        tasks = await begun(100)
        world.accepted = set()
        world.disconnect()
        gone = now()
        events = await asyncio.gather(*tasks)
        assert now() - gone < 31
        return events

    (said,) = {str(event.error) for event in run_virtually(scene())}
    assert REFUSED in said
    assert "Connection 'streamsets_default' does not exist any more." in said


def test_a_new_credential_that_cannot_be_one_is_waited_out_until_it_is_mended(world, logged):
    async def scene() -> None:
        tasks = await begun(10)
        world.accepted = {NEW}
        world.connect("two words")
        await asyncio.sleep(50)
        world.connect(NEW)
        await asyncio.sleep(60)
        assert not any(task.done() for task in tasks)
        assert world.times(NEW)

    run_virtually(scene())
    assert logged().count("The connection was changed, but cannot be used") == 1


def test_a_new_credential_that_is_refused_too_is_followed_by_the_next_one(world):
    async def scene() -> None:
        tasks = await begun(10)
        world.accepted = {NEW}
        world.connect(NEW.replace("bmV3", "YmFk"))
        await asyncio.sleep(50)
        world.connect(NEW)
        await asyncio.sleep(60)
        assert not any(task.done() for task in tasks)
        assert world.times(NEW)

    run_virtually(scene())


def test_a_question_whose_credential_was_refused_is_asked_again_with_the_new_one(world):
    async def scene() -> None:
        with await feed_of_connection() as poller:
            await poller.run_query(lambda: poller.client.jobs.get("job-0"))
            world.accepted = {NEW}
            asked = [asyncio.create_task(poller.run_query(lambda: poller.client.jobs.get("job-0"))) for _ in range(50)]
            await asyncio.sleep(20)
            assert len(world.times(OLD)) <= 1 + 8 * 5, "as many as are asked at a time"
            world.connect(NEW)
            assert {job.name for job in await asyncio.gather(*asked)} == {"Orders"}
            assert len(world.times(NEW)) == 50

    run_virtually(scene())


def test_a_question_that_waits_for_a_new_credential_keeps_its_time_limit(world):
    async def scene() -> None:
        with await feed_of_connection() as poller:
            world.accepted = set()
            asked = [
                asyncio.create_task(poller.run_query(lambda: poller.client.jobs.get("job-0"), 10)) for _ in range(9)
            ]
            began = now()
            await asyncio.wait(asked)
            assert {type(question.exception()) for question in asked} == {asyncio.TimeoutError}
            assert now() - began <= 10

    run_virtually(scene())


def test_little_is_sent_once_a_question_was_refused(world):
    async def scene() -> None:
        with await feed_of_connection() as poller, poller.subscribe({"job-1": 1}, 5):
            await asyncio.sleep(300)
            world.accepted, before = {NEW}, len(world.asked)
            first = asyncio.create_task(poller.run_query(lambda: poller.client.jobs.get("job-0")))
            await asyncio.sleep(30)
            second = asyncio.create_task(poller.run_query(lambda: poller.client.jobs.get("job-0")))
            await asyncio.sleep(30)
            assert len(world.asked) - before < 15, "two questions, the look, and how often they are repeated"
            world.connect(NEW)
            assert {(await question).name for question in (first, second)} == {"Orders"}

    run_virtually(scene())


def test_a_refusal_that_is_told_after_the_replacement_is_that_of_the_old_credential(world, logged):
    loop = VirtualLoop(thread_takes=40)

    async def scene() -> None:
        with await feed_of_connection() as poller:
            world.accepted = {NEW}
            world.connect(NEW)
            first = asyncio.create_task(poller.run_query(lambda: poller.client.jobs.get("job-0")))
            await asyncio.sleep(20)
            late = asyncio.create_task(poller.run_query(lambda: poller.client.jobs.get("job-0")))
            assert {(await question).name for question in (first, late)} == {"Orders"}

    run_on(loop, scene())
    assert logged().count(GOING_ON) == 1


def test_what_begins_just_after_the_replacement_has_the_new_token_such_as_the_stop_of_a_killed_task(world):
    async def scene() -> None:
        with await feed_of_connection() as poller:
            world.accepted = {NEW}
            world.connect(NEW)
            assert (await connection_settings("streamsets_default")).token == OLD, "it was read just before"
            await poller.run_query(lambda: poller.client.jobs.get("job-0"))
            assert (await connection_settings("streamsets_default")).token == NEW

    run_virtually(scene())


def test_a_question_that_is_refused_for_good_fails_the_waits_of_the_feed_too(world):
    async def scene() -> None:
        with await feed_of_connection() as poller, poller.subscribe({"job-1": 1}, 300) as subscription:
            await subscription.next()
            world.accepted = set()
            with pytest.raises(ControlHubAuthenticationError, match="has not changed"):
                await poller.run_query(lambda: poller.client.jobs.get("job-0"))
            with pytest.raises(ControlHubAuthenticationError, match="has not changed"):
                await subscription.next(1)

    run_virtually(scene())


def test_a_question_refused_for_good_fails_alone_while_statuses_are_read(world, http):
    async def scene() -> None:
        refusal = {"ISSUES": [{"code": "SSO_01", "message": "User not authenticated"}]}
        http.get(f"{JOBS}/job/job-0", status_code=401, json=refusal)
        with await feed_of_connection() as poller, poller.subscribe({"job-1": 1}, 20) as subscription:
            await subscription.next()
            with pytest.raises(ControlHubAuthenticationError, match="has not changed"):
                await poller.run_query(lambda: poller.client.jobs.get("job-0"))
            world.ended.add("job-1")
            assert (await subscription.next(60))["job-1"].status == "INACTIVE"

    run_virtually(scene())


def test_waits_that_begin_after_a_replacement_share_the_requests_of_those_that_went_on(world):
    async def scene() -> None:
        await begun(10)
        world.accepted = {NEW}
        world.connect(NEW)
        await asyncio.sleep(60)
        later = [asyncio.create_task(event_of(trigger(n))) for n in range(10, 20)]
        await asyncio.sleep(1)
        before = len(world.asked)
        await asyncio.sleep(300)
        assert len(world.asked) - before == pytest.approx(10, abs=1)
        assert not any(task.done() for task in later)

    run_virtually(scene())


def test_a_wait_that_begins_after_an_edit_brings_the_new_token_along_for_all(world, logged):
    async def scene() -> None:
        await begun(10)
        world.accepted = {OLD, NEW}
        world.connect(NEW)
        edited = now()
        later = asyncio.create_task(event_of(trigger(10)))
        await asyncio.sleep(300)
        assert not [when for when in world.times(OLD) if when > edited]
        assert len(world.times(NEW)) == pytest.approx(11, abs=2)
        assert not later.done()

    run_virtually(scene())
    assert REFUSED not in logged()


def test_an_edit_of_more_than_the_credential_is_followed_when_that_is_refused(world, http):
    async def scene() -> None:
        await begun(10)
        poller = await feed_of_connection()
        world.accepted = {NEW}
        http.post("https://moved.example.com/jobrunner/rest/v1/jobs/status", json={"job-0": None})
        world.connect(NEW, host="https://moved.example.com")
        await asyncio.sleep(60)
        request = http.request_history[-1]
        assert (request.hostname, request.headers["X-SS-App-Auth-Token"]) == ("moved.example.com", NEW)
        assert not world.times(NEW), "the new token is for the new address only"
        assert await feed_of_connection() is poller, "later waits share it"

    run_virtually(scene())


OTHER_HUB = "https://other.example.com"
FOREIGN = "eyJhbGciOiJub25lIn0.eyJzIjoibmV3IiwibyI6Im90aGVyIn0."
"""A token of organization `other`."""
FOREIGN_REASON = "changed to organization 'other', but the refused credential belongs to organization 'org'"
elsewhere = pytest.mark.parametrize("host", [HUB, OTHER_HUB])


@elsewhere
def test_waits_do_not_go_on_in_another_organization(world, http, host):
    async def scene() -> list[RunWaitEvent]:
        tasks = await begun(10)
        foreign = http.post(
            f"{OTHER_HUB}/jobrunner/rest/v1/jobs/status", json={"job-0": run_json(1, "INACTIVE", "GRAY")}
        )
        world.accepted = {FOREIGN}
        world.connect(FOREIGN, host=host)
        await asyncio.wait(tasks, timeout=600)
        assert not world.times(FOREIGN)
        assert not foreign.called
        return [task.result() for task in tasks]

    ((kind, said),) = {(type(event.error), str(event.error)) for event in run_virtually(scene())}
    assert kind is ControlHubAuthenticationError
    assert REFUSED in said
    assert FOREIGN_REASON in said


def test_waits_go_on_when_an_edit_to_another_organization_is_undone(world):
    async def scene() -> None:
        tasks = await begun(10)
        world.accepted = {FOREIGN, NEW}
        world.connect(FOREIGN)
        await asyncio.sleep(100)
        world.connect(NEW)
        await asyncio.sleep(60)
        assert not any(task.done() for task in tasks)
        assert not world.times(FOREIGN)
        assert world.times(NEW)

    run_virtually(scene())


def test_waits_that_begin_in_another_organization_do_not_take_those_that_go_on_along(world):
    async def scene() -> None:
        tasks = await begun(10)
        world.accepted = {FOREIGN}
        world.connect(FOREIGN)
        later = asyncio.create_task(event_of(trigger(10)))
        await asyncio.wait(tasks, timeout=600)
        assert all(task.done() for task in tasks)
        assert world.times(FOREIGN)
        assert not later.done()

    run_virtually(scene())


def test_the_end_of_the_last_wait_ends_the_waiting_for_a_new_token(world):
    async def scene() -> None:
        tasks = await begun(3)
        world.accepted = set()
        await asyncio.sleep(40)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.sleep(1)
        readings = world.readings
        await asyncio.sleep(300)
        assert world.readings == readings

    run_virtually(scene())


# On a worker


def tracker(client: ControlHubClient) -> RunTracker:
    return RunTracker(client, "job-0", 1, metrics_timeout=0)


def wait_on_a_worker(client: ControlHubClient) -> Any:
    return wait_for_run(tracker(client.with_options()), poll_interval=30, timeout=None)


@pytest.fixture
def clock(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, Callable[[], None]]]:
    """What happens when; time passes in sleeps only."""
    at = [1000.0]
    plan: list[tuple[float, Callable[[], None]]] = []

    def sleep(seconds: float) -> None:
        at[0] += seconds
        for due in [entry for entry in plan if entry[0] <= at[0]]:
            plan.remove(due)
            due[1]()

    world.now = lambda: at[0]
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: at[0])
    return plan


@pytest.mark.parametrize("late", [0, 40, 200])
def test_a_wait_on_a_worker_goes_on_with_the_new_token(world, clock, logged, late):
    clock += [
        (1300, lambda: world.accepted.symmetric_difference_update({OLD, NEW})),
        (1300 + late, lambda: world.connect(NEW)),
        (1600, lambda: world.ended.add("job-0")),
    ]
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    assert wait_on_a_worker(client).outcome.value == "SUCCEEDED"
    assert len([when for when in world.times(OLD) if when >= 1300]) < RETRIES
    assert logged().count(GOING_ON) == 1
    assert client.jobs.get("job-0").name == "Orders"


@pytest.mark.parametrize("lasts", [1, 60, 200])
def test_a_refusal_that_passes_does_not_end_a_wait_on_a_worker(world, clock, logged, lasts):
    clock += [(1300, world.accepted.clear), (1300 + lasts, lambda: world.accepted.add(OLD))]
    clock.append((1800, lambda: world.ended.add("job-0")))
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    assert wait_on_a_worker(client).outcome.value == "SUCCEEDED"
    assert logged().count(REFUSED) == 1


def test_a_worker_and_the_triggerer_say_the_same_of_a_token_that_is_revoked_for_good(world, clock):
    async def on_the_triggerer() -> str:
        world.now = now
        (wait,) = await begun(1)
        world.accepted = set()
        return str((await wait).error)

    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    clock.append((1300, world.accepted.clear))
    with pytest.raises(ControlHubAuthenticationError) as raised:
        wait_on_a_worker(client)
    assert world.now() == pytest.approx(1300 + CONFIRM_TIMEOUT, abs=1)
    world.accepted = {OLD}
    assert run_virtually(on_the_triggerer()) == str(raised.value)


@pytest.mark.parametrize("many", [False, True])
def test_deadline_of_a_wait_on_a_worker_ends_retries_of_a_refused_token(world, clock, many):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    clock.append((1010, world.accepted.clear))
    waited: Any = RunGroup(client, [RunRef("job-0", 1), RunRef("job-1", 1)]) if many else tracker(client)
    wait = wait_for_runs if many else wait_for_run
    with pytest.raises(ControlHubRunTimeoutError, match="within 60 s"):
        wait(waited, poll_interval=10, timeout=60)
    assert world.now() == 1060
    with pytest.raises(ControlHubAuthenticationError):
        client.jobs.get("job-0")
    assert world.now() == 1060 + CONFIRM_TIMEOUT


def test_a_worker_waits_for_a_new_token_once_and_not_again_at_the_next_request(world, clock):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    clock.append((1300, world.accepted.clear))
    with pytest.raises(ControlHubAuthenticationError):
        wait_on_a_worker(client)
    failed_at = world.now()
    with pytest.raises(ControlHubAuthenticationError, match="has not changed"):
        client.jobs.get("job-0")
    assert world.now() == failed_at
    world.connect(NEW)
    world.accepted = {NEW}
    assert client.jobs.get("job-0").name == "Orders"


def test_a_confirmed_refusal_of_one_request_does_not_shorten_later_confirmations(world, clock):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    world.accepted = set()
    with pytest.raises(ControlHubAuthenticationError):
        client.jobs.get("job-0")
    world.accepted = {OLD}
    clock += [(3000, world.accepted.clear), (3060, lambda: world.accepted.add(OLD))]
    clock.append((4000, lambda: world.ended.add("job-0")))
    assert wait_on_a_worker(client).outcome.value == "SUCCEEDED"


def test_a_token_that_was_never_accepted_on_a_worker_is_an_error_at_once(world, clock):
    world.accepted = set()
    with pytest.raises(ControlHubAuthenticationError, match=REFUSED):
        ControlHubHook().get_conn().jobs.get("job-0")
    assert world.now() == 1000


def test_a_connection_that_is_gone_fails_the_wait_on_a_worker_at_once(world, clock):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    clock += [(1300, world.accepted.clear), (1300, world.disconnect)]
    with pytest.raises(ControlHubAuthenticationError, match="does not exist any more"):
        wait_on_a_worker(client)
    assert world.now() == 1300


@elsewhere
def test_a_wait_on_a_worker_does_not_go_on_in_another_organization(world, clock, host):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    clock += [(1300, lambda: world.accepted.symmetric_difference_update({OLD, FOREIGN}))]
    clock += [(1300, lambda: world.connect(FOREIGN, host=host))]
    with pytest.raises(ControlHubAuthenticationError, match=FOREIGN_REASON):
        wait_on_a_worker(client)
    assert world.now() == pytest.approx(1300 + CONFIRM_TIMEOUT, abs=1)
    assert not world.times(FOREIGN)


def test_a_request_in_a_hurry_does_not_wait_for_a_new_token(world, clock):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    world.accepted = set()
    with pytest.raises(ControlHubAuthenticationError):
        client.with_options(timeout=5).jobs.get("job-0")
    assert world.now() == 1000


def test_no_token_is_in_any_message_or_repr(world, clock, logged):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    world.accepted = set()
    world.connect(NEW + " ")
    with pytest.raises(ControlHubAuthenticationError) as raised:
        client.jobs.get("job-0")
    for token in (OLD, NEW):
        assert token not in logged() + str(raised.value) + repr(client)
