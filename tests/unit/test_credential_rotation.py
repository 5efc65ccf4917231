from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubClient,
    ControlHubRunTimeoutError,
)
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.models import RunRef
from airflow_provider_streamsets.control_hub.tracking.run_group import RunGroup
from airflow_provider_streamsets.control_hub.tracking.wait import wait_for_runs
from airflow_provider_streamsets.hooks.control_hub import ControlHubHook
from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.polling.connections import connection_settings
from airflow_provider_streamsets.polling.poller import SharedStatusPoller, shared_poller
from airflow_provider_streamsets.triggers.events import RunsWaitEvent
from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger
from tests.unit.conftest import TOKEN
from tests.unit.fakes.single_job_hub import HUB, LONG_AGO, run_json
from tests.unit.fakes.virtual_time import VirtualLoop, run_in_virtual_time, run_on_loop

JOBS = f"{HUB}/jobrunner/rest/v1"
OLD, NEW = TOKEN, "eyJhbGciOiJub25lIn0.eyJzIjoibmV3IiwibyI6Im9yZyJ9."
CONFIRM_TIMEOUT = 300.0
"""Seconds for which a refused credential is tried again by default."""
RETRIES = 16
"""Maximum number of attempts in that time."""


class TokenHub:
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
def token_hub(http: Any, monkeypatch: pytest.MonkeyPatch) -> TokenHub:
    return TokenHub(http, monkeypatch)


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that was logged; it never holds a token."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text


async def poller_of_connection() -> SharedStatusPoller:
    return shared_poller(await connection_settings("streamsets_default"))


def trigger(n: int, **arguments: Any) -> ControlHubRunsTrigger:
    return ControlHubRunsTrigger(runs=[[f"job-{n}", 1]], metrics_timeout=0, **arguments)


async def event_of(trigger: ControlHubRunsTrigger) -> RunsWaitEvent:
    (payload,) = [event.payload async for event in trigger.run()]
    return RunsWaitEvent.from_payload(json.loads(json.dumps(payload)))


async def started_waits(number: int) -> list[asyncio.Task[RunsWaitEvent]]:
    """Start so many waits, and let them poll for ten minutes."""
    tasks = [asyncio.create_task(event_of(trigger(n))) for n in range(number)]
    await asyncio.sleep(600)
    return tasks


def now() -> float:
    return asyncio.get_running_loop().time()


REFUSED = "The credential of connection 'streamsets_default' was rejected"
CREDENTIAL_ADOPTED = (
    "Control Hub rejected the credential of connection 'streamsets_default'; retrying with the changed one"
)


# In the triggerer


def test_new_token_costs_thousands_of_waits_one_refusal(token_hub, logged):
    async def scenario() -> None:
        tasks = await started_waits(2000)
        usual, readings = len(token_hub.asked), token_hub.readings
        token_hub.accepted = {NEW}
        token_hub.connect(NEW)
        replaced = now()
        await asyncio.sleep(600)
        assert len([when for when in token_hub.times(OLD) if when > replaced]) == 1
        assert token_hub.readings == readings + 1
        assert len(token_hub.asked) - usual == pytest.approx(usual, rel=0.1)
        token_hub.ended = {"job-7", "job-1999"}
        await asyncio.sleep(60)
        ended = [task.result() for task in tasks if task.done()]
        assert {(event.runs[0].job_id, event.report.outcome.value) for event in ended if event.report} == {
            ("job-7", "SUCCEEDED"),
            ("job-1999", "SUCCEEDED"),
        }

    run_in_virtual_time(scenario())
    assert logged().count(CREDENTIAL_ADOPTED) == 1


@pytest.mark.parametrize("duration", [1, 60, 200])
def test_temporary_refusals_end_no_wait(token_hub, logged, duration):
    """Control Hub answers 401 for any trouble of its security service."""

    async def scenario() -> None:
        tasks = await started_waits(2000)
        token_hub.accepted = set()
        refused = now()
        while token_hub.times(OLD)[-1] < refused:
            await asyncio.sleep(0.1)
        await asyncio.sleep(duration)
        token_hub.accepted = {OLD}
        assert len([when for when in token_hub.times(OLD) if when > refused]) <= RETRIES
        await asyncio.sleep(60)
        token_hub.ended = {"job-7"}
        await asyncio.sleep(60)
        (ended,) = [task.result() for task in tasks if task.done()]
        assert (ended.runs[0].job_id, ended.report.outcome.value) == ("job-7", "SUCCEEDED")

    run_in_virtual_time(scenario())
    assert logged().count(REFUSED) == 1
    assert "Retrying for up to 300 s" in logged()


def test_grace_period_comes_from_connection(token_hub):
    async def scenario() -> None:
        token_hub.connect(OLD, extra={"credential_grace_period": 20})
        tasks = await started_waits(10)
        token_hub.accepted = set()
        revoked = now()
        await asyncio.gather(*tasks)
        assert now() - revoked < 60

    run_in_virtual_time(scenario())


def test_revoked_token_fails_all_waits_with_one_error(token_hub, logged):
    async def scenario() -> list[RunsWaitEvent]:
        tasks = await started_waits(2000)
        token_hub.accepted = set()
        revoked = now()
        events = await asyncio.gather(*tasks)
        assert now() - revoked == pytest.approx(CONFIRM_TIMEOUT, abs=35)
        assert len([when for when in token_hub.times(OLD) if when > revoked]) == RETRIES
        return events

    errors = {(type(event.error), str(event.error)) for event in run_in_virtual_time(scenario())}
    ((kind, message),) = errors
    assert kind is ControlHubAuthenticationError
    assert REFUSED in message
    assert "SSO_01 - User not authenticated" in message
    assert "The connection has not changed. Set an active credential in the connection" in message
    assert logged().count(REFUSED) == 1


@pytest.mark.parametrize("late", [1, 40, 200])
def test_waits_adopt_token_edited_after_revocation(token_hub, logged, late):
    async def scenario() -> None:
        tasks = await started_waits(100)
        token_hub.accepted = {NEW}
        revoked = now()
        while token_hub.times(OLD)[-1] < revoked:
            await asyncio.sleep(0.1)
        await asyncio.sleep(late)
        token_hub.connect(NEW)
        await asyncio.sleep(60)
        assert len([when for when in token_hub.times(OLD) if when > revoked]) < RETRIES
        assert not any(task.done() for task in tasks)
        assert token_hub.times(NEW)

    run_in_virtual_time(scenario())
    assert logged().count(CREDENTIAL_ADOPTED) == 1


def test_new_waits_also_await_new_token(token_hub):
    async def scenario() -> None:
        tasks = await started_waits(10)
        token_hub.accepted = {NEW}
        revoked = now()
        await asyncio.sleep(45)
        tasks += [asyncio.create_task(event_of(trigger(n))) for n in range(10, 20)]
        await asyncio.sleep(15)
        assert len([when for when in token_hub.times(OLD) if when > revoked]) < RETRIES
        token_hub.connect(NEW)
        await asyncio.sleep(60)
        assert not any(task.done() for task in tasks)

    run_in_virtual_time(scenario())


def test_new_waits_fail_with_existing_ones(token_hub):
    async def scenario() -> None:
        tasks = await started_waits(10)
        token_hub.accepted = set()
        await asyncio.sleep(45)
        tasks.append(asyncio.create_task(event_of(trigger(10))))
        assert len({str(event.error) for event in await asyncio.gather(*tasks)}) == 1

    run_in_virtual_time(scenario())


@pytest.mark.parametrize("error", [OSError("the vault is sealed"), AirflowNotFoundException("isn't defined")])
def test_waits_survive_secrets_backend_outage(token_hub, logged, error):
    async def scenario() -> None:
        tasks = await started_waits(100)
        token_hub.accepted, token_hub.unreadable = {NEW}, error
        await asyncio.sleep(60)
        token_hub.connect(NEW)
        token_hub.unreadable = None
        await asyncio.sleep(60)
        assert not any(task.done() for task in tasks)
        assert token_hub.times(NEW)

    run_in_virtual_time(scenario())
    assert logged().count(f"Could not re-read the connection ({type(error).__name__}: {error})") == 1


def test_error_names_secrets_backend_outage(token_hub):
    async def scenario() -> list[RunsWaitEvent]:
        tasks = await started_waits(3)
        token_hub.accepted, token_hub.unreadable = {NEW}, OSError("the vault is sealed")
        return await asyncio.gather(*tasks)

    (message,) = {str(event.error) for event in run_in_virtual_time(scenario())}
    assert REFUSED in message
    assert "Could not re-read the connection (OSError: the vault is sealed)" in message


def test_deleted_connection_fails_waits_after_grace_period(token_hub):
    async def scenario() -> list[RunsWaitEvent]:
        tasks = await started_waits(100)
        token_hub.accepted = set()
        token_hub.disconnect()
        gone = now()
        events = await asyncio.gather(*tasks)
        assert CONFIRM_TIMEOUT <= now() - gone < CONFIRM_TIMEOUT + 31
        return events

    (message,) = {str(event.error) for event in run_in_virtual_time(scenario())}
    assert REFUSED in message
    assert "Could not re-read the connection (AirflowNotFoundException: " in message


def test_waits_survive_malformed_new_credential(token_hub, logged):
    async def scenario() -> None:
        tasks = await started_waits(10)
        token_hub.accepted = {NEW}
        token_hub.connect("two words")
        await asyncio.sleep(50)
        token_hub.connect(NEW)
        await asyncio.sleep(60)
        assert not any(task.done() for task in tasks)
        assert token_hub.times(NEW)

    run_in_virtual_time(scenario())
    assert logged().count("The connection has changed, but its settings are invalid") == 1


def test_waits_adopt_next_token_after_second_refusal(token_hub):
    async def scenario() -> None:
        tasks = await started_waits(10)
        token_hub.accepted = {NEW}
        token_hub.connect(NEW.replace("bmV3", "YmFk"))
        await asyncio.sleep(50)
        token_hub.connect(NEW)
        await asyncio.sleep(60)
        assert not any(task.done() for task in tasks)
        assert token_hub.times(NEW)

    run_in_virtual_time(scenario())


def test_refused_query_is_retried_with_new_token(token_hub):
    async def scenario() -> None:
        with await poller_of_connection() as poller:
            await poller.run_query(lambda: poller.client.jobs.get("job-0"))
            token_hub.accepted = {NEW}
            asked = [asyncio.create_task(poller.run_query(lambda: poller.client.jobs.get("job-0"))) for _ in range(50)]
            await asyncio.sleep(20)
            assert len(token_hub.times(OLD)) <= 1 + 8 * 5, "as many as are asked at a time"
            token_hub.connect(NEW)
            assert {job.name for job in await asyncio.gather(*asked)} == {"Orders"}
            assert len(token_hub.times(NEW)) == 50

    run_in_virtual_time(scenario())


def test_query_awaiting_new_token_keeps_its_timeout(token_hub):
    async def scenario() -> None:
        with await poller_of_connection() as poller:
            token_hub.accepted = set()
            asked = [
                asyncio.create_task(poller.run_query(lambda: poller.client.jobs.get("job-0"), 10)) for _ in range(9)
            ]
            began = now()
            await asyncio.wait(asked)
            assert {type(question.exception()) for question in asked} == {asyncio.TimeoutError}
            assert now() - began <= 10

    run_in_virtual_time(scenario())


def test_refused_query_limits_further_requests(token_hub):
    async def scenario() -> None:
        with await poller_of_connection() as poller, poller.subscribe({"job-1": 1}, 5):
            await asyncio.sleep(301)
            token_hub.accepted, before = {NEW}, len(token_hub.asked)
            first = asyncio.create_task(poller.run_query(lambda: poller.client.jobs.get("job-0")))
            await asyncio.sleep(30)
            second = asyncio.create_task(poller.run_query(lambda: poller.client.jobs.get("job-0")))
            await asyncio.sleep(30)
            assert len(token_hub.asked) - before < 15, "two queries, the poll, and their retries"
            token_hub.connect(NEW)
            assert {(await question).name for question in (first, second)} == {"Orders"}

    run_in_virtual_time(scenario())


def test_late_refusal_is_attributed_to_old_token(token_hub, logged):
    loop = VirtualLoop(thread_latency=40)

    async def scenario() -> None:
        with await poller_of_connection() as poller:
            token_hub.accepted = {NEW}
            token_hub.connect(NEW)
            first = asyncio.create_task(poller.run_query(lambda: poller.client.jobs.get("job-0")))
            await asyncio.sleep(20)
            late = asyncio.create_task(poller.run_query(lambda: poller.client.jobs.get("job-0")))
            assert {(await question).name for question in (first, late)} == {"Orders"}

    run_on_loop(loop, scenario())
    assert logged().count(CREDENTIAL_ADOPTED) == 1


def test_settings_after_replacement_hold_new_token(token_hub):
    async def scenario() -> None:
        with await poller_of_connection() as poller:
            token_hub.accepted = {NEW}
            token_hub.connect(NEW)
            assert (await connection_settings("streamsets_default")).token == OLD, "it was read just before"
            await poller.run_query(lambda: poller.client.jobs.get("job-0"))
            assert (await connection_settings("streamsets_default")).token == NEW

    run_in_virtual_time(scenario())


def test_confirmed_query_refusal_fails_waits_of_poller(token_hub):
    async def scenario() -> None:
        with await poller_of_connection() as poller, poller.subscribe({"job-1": 1}, 300) as subscription:
            await subscription.next()
            token_hub.accepted = set()
            with pytest.raises(ControlHubAuthenticationError, match="has not changed"):
                await poller.run_query(lambda: poller.client.jobs.get("job-0"))
            with pytest.raises(ControlHubAuthenticationError, match="has not changed"):
                await subscription.next(1)

    run_in_virtual_time(scenario())


def test_query_refusal_fails_alone_if_polls_succeed(token_hub, http):
    async def scenario() -> None:
        refusal = {"ISSUES": [{"code": "SSO_01", "message": "User not authenticated"}]}
        http.get(f"{JOBS}/job/job-0", status_code=401, json=refusal)
        with await poller_of_connection() as poller, poller.subscribe({"job-1": 1}, 20) as subscription:
            await subscription.next()
            with pytest.raises(ControlHubAuthenticationError, match="has not changed"):
                await poller.run_query(lambda: poller.client.jobs.get("job-0"))
            token_hub.ended.add("job-1")
            assert (await subscription.next(60))["job-1"].status == "INACTIVE"

    run_in_virtual_time(scenario())


def test_waits_after_replacement_share_requests(token_hub):
    async def scenario() -> None:
        await started_waits(10)
        token_hub.accepted = {NEW}
        token_hub.connect(NEW)
        await asyncio.sleep(60)
        later = [asyncio.create_task(event_of(trigger(n))) for n in range(10, 20)]
        await asyncio.sleep(1)
        before = len(token_hub.asked)
        await asyncio.sleep(300)
        assert len(token_hub.asked) - before == pytest.approx(10, abs=1)
        assert not any(task.done() for task in later)

    run_in_virtual_time(scenario())


def test_new_wait_brings_edited_token_to_all(token_hub, logged):
    async def scenario() -> None:
        await started_waits(10)
        token_hub.accepted = {OLD, NEW}
        token_hub.connect(NEW)
        edited = now()
        later = asyncio.create_task(event_of(trigger(10)))
        await asyncio.sleep(300)
        assert not [when for when in token_hub.times(OLD) if when > edited]
        assert len(token_hub.times(NEW)) == pytest.approx(11, abs=2)
        assert not later.done()

    run_in_virtual_time(scenario())
    assert REFUSED not in logged()


def test_refusal_also_adopts_edited_host(token_hub, http):
    async def scenario() -> None:
        await started_waits(10)
        poller = await poller_of_connection()
        token_hub.accepted = {NEW}
        http.post("https://moved.example.com/jobrunner/rest/v1/jobs/status", json={"job-0": None})
        token_hub.connect(NEW, host="https://moved.example.com")
        await asyncio.sleep(60)
        request = http.request_history[-1]
        assert (request.hostname, request.headers["X-SS-App-Auth-Token"]) == ("moved.example.com", NEW)
        assert not token_hub.times(NEW), "the new token is for the new address only"
        assert await poller_of_connection() is poller, "later waits share it"

    run_in_virtual_time(scenario())


OTHER_HUB = "https://other.example.com"
FOREIGN = "eyJhbGciOiJub25lIn0.eyJzIjoibmV3IiwibyI6Im90aGVyIn0."
"""A token of organization `other`."""
FOREIGN_REASON = "changed to organization 'other', but the rejected credential belongs to organization 'org'"
OTHER_HOSTS = pytest.mark.parametrize("host", [HUB, OTHER_HUB])


@OTHER_HOSTS
def test_waits_do_not_move_to_another_organization(token_hub, http, host):
    async def scenario() -> list[RunsWaitEvent]:
        tasks = await started_waits(10)
        foreign = http.post(
            f"{OTHER_HUB}/jobrunner/rest/v1/jobs/status", json={"job-0": run_json(1, "INACTIVE", "GRAY")}
        )
        token_hub.accepted = {FOREIGN}
        token_hub.connect(FOREIGN, host=host)
        await asyncio.wait(tasks, timeout=600)
        assert not token_hub.times(FOREIGN)
        assert not foreign.called
        return [task.result() for task in tasks]

    ((kind, message),) = {(type(event.error), str(event.error)) for event in run_in_virtual_time(scenario())}
    assert kind is ControlHubAuthenticationError
    assert REFUSED in message
    assert FOREIGN_REASON in message


def test_waits_resume_when_organization_edit_is_undone(token_hub):
    async def scenario() -> None:
        tasks = await started_waits(10)
        token_hub.accepted = {FOREIGN, NEW}
        token_hub.connect(FOREIGN)
        await asyncio.sleep(100)
        token_hub.connect(NEW)
        await asyncio.sleep(60)
        assert not any(task.done() for task in tasks)
        assert not token_hub.times(FOREIGN)
        assert token_hub.times(NEW)

    run_in_virtual_time(scenario())


def test_waits_of_another_organization_do_not_move_others(token_hub):
    async def scenario() -> None:
        tasks = await started_waits(10)
        token_hub.accepted = {FOREIGN}
        token_hub.connect(FOREIGN)
        later = asyncio.create_task(event_of(trigger(10)))
        await asyncio.wait(tasks, timeout=600)
        assert all(task.done() for task in tasks)
        assert token_hub.times(FOREIGN)
        assert not later.done()

    run_in_virtual_time(scenario())


def test_last_cancelled_wait_stops_rereading_connection(token_hub):
    async def scenario() -> None:
        tasks = await started_waits(3)
        token_hub.accepted = set()
        await asyncio.sleep(40)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.sleep(1)
        readings = token_hub.readings
        await asyncio.sleep(300)
        assert token_hub.readings == readings

    run_in_virtual_time(scenario())


# On a worker


def wait_on_worker(client: ControlHubClient) -> Any:
    group = RunGroup(client.with_options(), [RunRef("job-0", 1)], metrics_timeout=0)
    wait_for_runs(group, Deadline(None), poll_interval=30)
    return group.reports["job-0"]


@pytest.fixture
def clock(token_hub: TokenHub, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, Callable[[], None]]]:
    """What happens when; time passes in sleeps only."""
    at = [1000.0]
    plan: list[tuple[float, Callable[[], None]]] = []

    def sleep(seconds: float) -> None:
        at[0] += seconds
        for due in [entry for entry in plan if entry[0] <= at[0]]:
            plan.remove(due)
            due[1]()

    token_hub.now = lambda: at[0]
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: at[0])
    return plan


@pytest.mark.parametrize("late", [0, 40, 200])
def test_worker_wait_adopts_new_token(token_hub, clock, logged, late):
    clock += [
        (1300, lambda: token_hub.accepted.symmetric_difference_update({OLD, NEW})),
        (1300 + late, lambda: token_hub.connect(NEW)),
        (1600, lambda: token_hub.ended.add("job-0")),
    ]
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    assert wait_on_worker(client).outcome.value == "SUCCEEDED"
    assert len([when for when in token_hub.times(OLD) if when >= 1300]) < RETRIES
    assert logged().count(CREDENTIAL_ADOPTED) == 1
    assert client.jobs.get("job-0").name == "Orders"


@pytest.mark.parametrize("duration", [1, 60, 200])
def test_temporary_refusal_does_not_end_worker_wait(token_hub, clock, logged, duration):
    clock += [(1300, token_hub.accepted.clear), (1300 + duration, lambda: token_hub.accepted.add(OLD))]
    clock.append((1800, lambda: token_hub.ended.add("job-0")))
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    assert wait_on_worker(client).outcome.value == "SUCCEEDED"
    assert logged().count(REFUSED) == 1


def test_worker_and_triggerer_report_same_revocation_error(token_hub, clock):
    async def error_on_triggerer() -> str:
        token_hub.now = now
        (wait,) = await started_waits(1)
        token_hub.accepted = set()
        return str((await wait).error)

    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    clock.append((1300, token_hub.accepted.clear))
    with pytest.raises(ControlHubAuthenticationError) as raised:
        wait_on_worker(client)
    assert token_hub.now() == pytest.approx(1300 + CONFIRM_TIMEOUT, abs=1)
    token_hub.accepted = {OLD}
    assert run_in_virtual_time(error_on_triggerer()) == str(raised.value)


@pytest.mark.parametrize("number", [1, 2])
def test_worker_deadline_ends_retries_of_refused_token(token_hub, clock, number):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    clock.append((1010, token_hub.accepted.clear))
    group = RunGroup(client, [RunRef(f"job-{n}", 1) for n in range(number)])
    with pytest.raises(ControlHubRunTimeoutError, match="within 60 s"):
        wait_for_runs(group, Deadline(60), poll_interval=10)
    assert token_hub.now() == 1060
    with pytest.raises(ControlHubAuthenticationError):
        client.jobs.get("job-0")
    assert token_hub.now() == 1060 + CONFIRM_TIMEOUT


def test_worker_awaits_new_token_only_once(token_hub, clock):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    clock.append((1300, token_hub.accepted.clear))
    with pytest.raises(ControlHubAuthenticationError):
        wait_on_worker(client)
    failed_at = token_hub.now()
    with pytest.raises(ControlHubAuthenticationError, match="has not changed"):
        client.jobs.get("job-0")
    assert token_hub.now() == failed_at
    token_hub.connect(NEW)
    token_hub.accepted = {NEW}
    assert client.jobs.get("job-0").name == "Orders"


def test_confirmed_refusal_keeps_later_grace_periods(token_hub, clock):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    token_hub.accepted = set()
    with pytest.raises(ControlHubAuthenticationError):
        client.jobs.get("job-0")
    token_hub.accepted = {OLD}
    clock += [(3000, token_hub.accepted.clear), (3060, lambda: token_hub.accepted.add(OLD))]
    clock.append((4000, lambda: token_hub.ended.add("job-0")))
    assert wait_on_worker(client).outcome.value == "SUCCEEDED"


def test_token_never_accepted_fails_worker_at_once(token_hub, clock):
    token_hub.accepted = set()
    with pytest.raises(ControlHubAuthenticationError, match=REFUSED):
        ControlHubHook().get_conn().jobs.get("job-0")
    assert token_hub.now() == 1000


def test_deleted_connection_fails_worker_wait_after_grace_period(token_hub, clock):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    clock += [(1300, token_hub.accepted.clear), (1300, token_hub.disconnect)]
    with pytest.raises(ControlHubAuthenticationError, match=r"Could not re-read the connection \(AirflowNotFound"):
        wait_on_worker(client)
    assert token_hub.now() == 1300 + CONFIRM_TIMEOUT


@OTHER_HOSTS
def test_worker_wait_does_not_move_to_another_organization(token_hub, clock, host):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    clock += [(1300, lambda: token_hub.accepted.symmetric_difference_update({OLD, FOREIGN}))]
    clock += [(1300, lambda: token_hub.connect(FOREIGN, host=host))]
    with pytest.raises(ControlHubAuthenticationError, match=FOREIGN_REASON):
        wait_on_worker(client)
    assert token_hub.now() == pytest.approx(1300 + CONFIRM_TIMEOUT, abs=1)
    assert not token_hub.times(FOREIGN)


def test_request_with_timeout_does_not_await_new_token(token_hub, clock):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    token_hub.accepted = set()
    with pytest.raises(ControlHubAuthenticationError):
        client.with_options(timeout=5).jobs.get("job-0")
    assert token_hub.now() == 1000


def test_messages_and_reprs_hold_no_token(token_hub, clock, logged):
    client = ControlHubHook().get_conn()
    client.jobs.get("job-0")
    token_hub.accepted = set()
    token_hub.connect(NEW + " ")
    with pytest.raises(ControlHubAuthenticationError) as raised:
        client.jobs.get("job-0")
    for token in (OLD, NEW):
        assert token not in logged() + str(raised.value) + repr(client)
