"""The run of a task whose try is lost, killed, cleared or failed at any moment."""

from __future__ import annotations

import copy
import re
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout, TaskDeferred

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubJobStateError,
    ControlHubMetricsUnavailableError,
    ControlHubRunFailedError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from tests.unit.fakes.api_payloads import FORBIDDEN
from tests.unit.fakes.simulated_hub import OTHER_USER, SimulatedHub
from tests.unit.fakes.single_job_hub import HUB, JOB_ID, JOB_NAME, ME
from tests.unit.fakes.task_runner import TaskRunner, patch_clock

pytestmark = pytest.mark.usefixtures("connection")
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
STATUSES = f"{HUB}/jobrunner/rest/v1/jobs/status"


class LostError(BaseException):
    """The process is gone: nothing of it runs on."""


class Tries:
    """
    The tries of one task instance.

    :param clock: the time
    :param context: the context of the first try
    :param retries: how many tries there can be after the first
    """

    def __init__(self, clock: Any, context: Any, retries: int = 2) -> None:
        self.clock = clock
        self.context = context
        context["ti"].max_tries = retries
        self.retries = retries

    def run(self, **arguments: Any) -> Any:
        """Run one try to its end; if its process is lost, nothing that it did afterwards counts."""
        arguments = {"job_id": JOB_ID, "metrics_timeout": 0, **arguments}
        store = self.context["task_state_store"]
        kept: dict[str, Any] = {}

        def lose() -> None:
            kept.update(copy.deepcopy(store.values))
            raise LostError

        self.lose = lose
        try:
            return TaskRunner(
                self.clock, lambda: ControlHubRunJobOperator(task_id="run", **arguments), self.context
            ).run()
        except LostError:
            store.values = kept
            raise
        finally:
            self.context["ti"].try_number += 1

    def lost(self, **arguments: Any) -> None:
        """Run one try whose process is lost."""
        with pytest.raises(LostError):
            self.run(**arguments)

    def clear(self) -> None:
        """Clear the task as a person does."""
        self.context["ti"].max_tries = self.context["ti"].try_number - 1 + self.retries


@pytest.fixture
def clock(monkeypatch):
    return patch_clock(monkeypatch, shared_with_control_hub=True)


@pytest.fixture
def hub(http, clock):
    return SimulatedHub(http, clock)


@pytest.fixture
def tries(clock, context):
    return Tries(clock, context)


def lost_before(tries):
    """The process is lost before the start call is sent."""
    return lambda start: tries.lose()


def lost_after(tries):
    """The process is lost after the start call has had its effect."""

    def act(start):
        start()
        tries.lose()

    return act


def reset_after(start):
    start()
    raise requests.exceptions.ConnectionError("connection reset")


def reset_before(start):
    raise requests.exceptions.ConnectionError("connection reset")


@MODES
def test_try_lost_before_start_leaves_start_to_retry(hub, tries, deferrable, task_log):
    hub.run_duration = 100
    hub.on_start = [lost_before(tries)]
    tries.lost(deferrable=deferrable)
    assert tries.run(deferrable=deferrable)["run_count"] == 1
    assert len(hub.runs) == 1
    assert "run 1: requested by an earlier try" in task_log()


@MODES
def test_retry_joins_running_run(hub, tries, deferrable, task_log):
    hub.run_duration = 100
    hub.on_start = [lost_after(tries)]
    tries.lost(deferrable=deferrable)
    result = tries.run(deferrable=deferrable)
    assert (result["run_count"], result["outcome"]) == (1, "SUCCEEDED")
    assert hub.calls == ["start"]
    assert "run 1: resuming the wait, not starting another run" in task_log()


@MODES
def test_retry_delivers_finished_run_of_lost_try(hub, clock, tries, deferrable, task_log):
    hub.run_duration = 100
    hub.on_start = [lost_after(tries)]
    tries.lost(deferrable=deferrable)
    clock.now += 500
    assert tries.run(deferrable=deferrable)["outcome"] == "SUCCEEDED"
    assert hub.calls == ["start"]
    assert "The previous try's run succeeded; returning its result" in task_log()


@MODES
def test_retry_replaces_failed_run_of_lost_try(hub, clock, tries, deferrable, task_log):
    hub.on_start = [lost_after(tries)]
    tries.lost(deferrable=deferrable)
    hub.fail()
    hub.run_duration = 100
    assert tries.run(deferrable=deferrable)["run_count"] == 2
    assert "The previous try's run did not succeed; starting another run" in task_log()


@MODES
def test_retry_after_failed_run_starts_new_run(hub, tries, deferrable):
    hub.on_start = [lambda start: (start() and hub.fail()) or hub.latest]
    with pytest.raises(ControlHubRunFailedError):
        tries.run(deferrable=deferrable)
    hub.run_duration = 100
    assert tries.run(deferrable=deferrable)["run_count"] == 2


@pytest.mark.parametrize(
    ("deferrable", "limits", "error"),
    [
        (False, {"wait_timeout": 600}, ControlHubRunTimeoutError),
        (True, {"wait_timeout": 600}, ControlHubRunTimeoutError),
        # On a worker, Airflow itself keeps it.
        (True, {"wait_timeout": 900, "execution_timeout": timedelta(seconds=600)}, AirflowTaskTimeout),
    ],
)
def test_retry_of_ended_run_keeps_timeout(hub, http, clock, tries, deferrable, limits, error):
    hub.run_duration = 100
    hub.on_start = [lost_after(tries)]
    tries.lost(deferrable=deferrable)
    clock.now += 200
    began = clock.now
    http.post(STATUSES, exc=requests.exceptions.ConnectionError("gone"))
    with pytest.raises(error, match="within 600 s"):
        tries.run(deferrable=deferrable, **limits)
    assert clock.now - began == pytest.approx(600, abs=15)
    http.post(STATUSES, json=lambda *_: {JOB_ID: hub.latest})
    assert tries.run(deferrable=deferrable)["run_count"] == 1
    assert hub.calls == ["start"]


@pytest.mark.parametrize("ends", ["end", "fail"])
def test_deferrable_retry_of_ended_run_defers_during_outage(hub, http, clock, context, tries, ends):
    hub.on_start = [lost_after(tries)]
    tries.lost(deferrable=True)
    getattr(hub, ends)()
    http.post(STATUSES, exc=requests.exceptions.ConnectionError("gone"))
    arguments = {"task_id": "run", "job_id": JOB_ID, "metrics_timeout": 0, "deferrable": True}
    with pytest.raises(TaskDeferred):
        ControlHubRunJobOperator(**arguments).execute(context)
    assert clock.slept == []
    outage = [{"exc": requests.exceptions.ConnectionError("gone")}] * 5
    http.post(STATUSES, [*outage, {"json": lambda *_: {JOB_ID: hub.latest}}])
    hub.run_duration = 50
    assert tries.run(deferrable=True)["run_count"] == (1 if ends == "end" else 2)
    assert hub.calls == (["start"] if ends == "end" else ["start", "start"])


@MODES
def test_short_run_is_delivered_before_first_interval(hub, clock, tries, deferrable):
    hub.run_duration = 0.3
    began = clock.now
    assert tries.run(deferrable=deferrable)["outcome"] == "SUCCEEDED"
    assert clock.now - began <= 10


def test_worker_polls_less_often_with_run_age(hub, http, tries):
    hub.run_duration = 200
    assert tries.run(deferrable=False)["outcome"] == "SUCCEEDED"
    assert 10 < len([request for request in http.request_history if request.url == STATUSES]) < 20


@MODES
def test_try_lost_after_delivery_starts_no_second_run(hub, clock, tries, deferrable):
    """Airflow has not noted the success, and so tries again."""
    hub.run_duration = 100
    first = tries.run(deferrable=deferrable)
    assert tries.run(deferrable=deferrable) == first
    assert len(hub.runs) == 1


@MODES
def test_clear_after_success_starts_new_run(hub, tries, deferrable, task_log):
    hub.run_duration = 100
    tries.run(deferrable=deferrable)
    tries.clear()
    assert tries.run(deferrable=deferrable)["run_count"] == 2
    assert "not resuming it because the task was cleared" in task_log()


def test_clear_while_deferred_stops_old_run_and_restarts(hub, clock, tries, context):
    with pytest.raises(TaskDeferred):
        ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=True).execute(context)
    context["ti"].try_number = 2
    tries.clear()

    def ends_later(start):
        run = start()
        hub.run_duration = 50
        return run

    hub.on_start = [ends_later]
    assert tries.run(deferrable=True)["run_count"] == 2
    assert hub.calls == ["start", "stop", "start"]


def test_kill_on_worker_stops_run_and_retry_restarts(hub, clock, tries, monkeypatch):
    context = tries.context
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False)
    monkeypatch.setattr("time.sleep", lambda seconds: task.on_kill())
    with pytest.raises(AirflowException, match="was killed while it waited"):
        task.execute(context)
    assert hub.calls == ["start", "stop"]
    monkeypatch.setattr("time.sleep", clock.sleep)
    context["ti"].try_number = 2
    hub.run_duration = 100
    assert tries.run(deferrable=False, accept_stopped=True)["run_count"] == 2


def test_retry_stops_run_that_kill_could_not(hub, http, clock, tries, monkeypatch):
    context = tries.context
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False)
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/currentStatus", status_code=503)
    monkeypatch.setattr("time.sleep", lambda seconds: task.on_kill())
    with pytest.raises(AirflowException, match="was killed while it waited"):
        task.execute(context)
    assert hub.calls == ["start"]
    monkeypatch.setattr("time.sleep", clock.sleep)
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/currentStatus", json=lambda *_: hub.latest)
    context["ti"].try_number = 2

    def ends_later(start):
        hub.run_duration = 50
        return start()

    hub.on_start = [ends_later]
    assert tries.run(deferrable=False)["run_count"] == 2
    assert hub.calls == ["start", "stop", "start"]


def test_kill_during_start_call_stops_run(hub, clock, context):
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False)

    def killed_before_the_answer(start):
        run = start()
        task.on_kill()
        return run

    hub.on_start = [killed_before_the_answer]
    with pytest.raises(AirflowException, match="was killed while it started run 1"):
        task.execute(context)
    assert hub.calls[:2] == ["start", "stop"]
    assert hub.latest["status"] == "INACTIVE"


def test_kill_during_restart_stops_new_run(hub, tries):
    hub.on_start = [lost_after(tries)]
    tries.lost(deferrable=False)
    hub.fail()
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False, metrics_timeout=0)

    def killed_before_its_effect(start):
        task.on_kill()
        return start()

    hub.on_start = [killed_before_its_effect]
    with pytest.raises(AirflowException, match="was killed while it started run 2"):
        task.execute(tries.context)
    assert hub.calls == ["start", "start", "stop"]


def test_kill_before_resumption_stops_run_of_previous_try(hub, http, clock, tries, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: tries.lose())
    tries.lost(deferrable=False)
    monkeypatch.setattr("time.sleep", clock.sleep)
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False, metrics_timeout=0)

    def killed_when_job_is_read(*_):
        task.on_kill()
        return hub._job()

    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", json=killed_when_job_is_read)
    with pytest.raises(AirflowException, match="was killed"):
        task.execute(tries.context)
    assert hub.calls == ["start", "stop"]


def test_clear_during_start_without_wait_starts_new_run(hub, clock, context):
    store = context["task_state_store"]
    refusing = context["task_state_store"] = RefusingStore(store)
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, wait_for_completion=False)

    def cleared_before_the_answer(start):
        run = start()
        refusing.refuses = True
        task.on_kill()
        return run

    hub.on_start = [cleared_before_the_answer]
    with pytest.raises(Exception, match=r"no such task instance|was killed"):
        task.execute(context)
    assert hub.calls == ["start", "stop"]
    context["task_state_store"] = store
    context["ti"].try_number = 2
    again = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, wait_for_completion=False).execute(context)
    assert (again["run_count"], hub.calls) == (2, ["start", "stop", "start"])


@MODES
def test_timeout_after_end_starts_no_second_run(hub, http, tries, deferrable):
    """Its events could not be read in time, so that it was unknown whether it was stopped."""
    hub.run_duration = 50
    history = re.compile(f"{HUB}/jobrunner/rest/v1/job/run-.*/jobStatusHistory")
    http.get(history, status_code=503)
    with pytest.raises(ControlHubRunTimeoutError, match="whether it was stopped could not be determined"):
        tries.run(deferrable=deferrable, wait_timeout=70)
    http.get(history, json=hub._history)
    assert tries.run(deferrable=deferrable, wait_timeout=70)["run_count"] == 1
    assert hub.calls == ["start"]


def test_kill_before_start_request_claims_nothing(hub, context, tries, clock):
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False)
    store = context["task_state_store"]
    set_value = store.set

    def killed_while_it_is_recorded(*args, **kwargs):
        set_value(*args, **kwargs)
        hub.start(ME)
        task.on_kill()

    store.set = killed_while_it_is_recorded
    with pytest.raises(AirflowException, match="killed before it started"):
        task.execute(context)
    store.set = set_value
    context["ti"].try_number += 1
    with pytest.raises(ControlHubJobStateError, match="run 1, started by me@org"):
        tries.run(deferrable=False)
    assert hub.calls == []


@pytest.mark.parametrize("force_stop_after", [None, 0])
def test_kill_never_stops_later_foreign_run(hub, context, monkeypatch, force_stop_after):
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False, force_stop_after=force_stop_after)

    def killed_when_another_run_goes_on(_):
        hub.end()
        hub.start(OTHER_USER)
        task.on_kill()

    monkeypatch.setattr("time.sleep", killed_when_another_run_goes_on)
    with pytest.raises(AirflowException, match="was killed"):
        task.execute(context)
    assert hub.calls == ["start"]


def test_kill_with_force_stop_after_zero_forces_stop(hub, context, monkeypatch):
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False, force_stop_after=0)
    monkeypatch.setattr("time.sleep", lambda seconds: task.on_kill())
    with pytest.raises(AirflowException, match="was killed"):
        task.execute(context)
    assert hub.calls == ["start", "forceStop"]


# Calls that start


@MODES
@pytest.mark.parametrize("fault", [reset_after, reset_before])
def test_unanswered_start_creates_one_run(hub, tries, deferrable, fault):
    hub.run_duration = 200
    hub.on_start = [fault]
    assert tries.run(deferrable=deferrable)["run_count"] == 1
    assert len(hub.runs) == 1


@MODES
def test_retry_finds_run_of_unverified_start(hub, http, tries, deferrable):
    current = f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/currentStatus"

    def unreachable_after(start):
        start()
        http.get(current, status_code=503)
        raise requests.exceptions.ConnectionError("connection reset")

    hub.run_duration = 1000
    hub.on_start = [unreachable_after]
    with pytest.raises(ControlHubUnavailableError) as error:
        tries.run(deferrable=deferrable)
    assert error.value.maybe_executed
    http.get(current, json=lambda *_: hub.latest)
    assert tries.run(deferrable=deferrable)["run_count"] == 1
    assert len(hub.runs) == 1


def test_rejected_start_leaves_no_record(hub, http, tries, context):
    http.post(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/start", status_code=400, json={"ISSUES": []})
    with pytest.raises(Exception, match="400"):
        tries.run(deferrable=False)
    assert context["task_state_store"].values == {}


def test_nothing_starts_if_state_cannot_be_saved(hub, context, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no API server")

    monkeypatch.setattr(context["task_state_store"], "set", fails, raising=False)
    with pytest.raises(RuntimeError, match="no API server"):
        ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False).execute(context)
    assert hub.calls == []


# Runs of others


@MODES
def test_foreign_run_with_expected_count_is_not_claimed(hub, clock, tries, deferrable, task_log):
    hub.on_start = [lost_before(tries)]
    tries.lost(deferrable=deferrable)
    hub.start(OTHER_USER)
    with pytest.raises(ControlHubJobStateError, match=f"run 1, started by {OTHER_USER}"):
        tries.run(deferrable=deferrable)
    assert "Control Hub never created it" in task_log()
    assert hub.calls == ["start"]


@MODES
def test_run_started_much_later_is_not_claimed(hub, clock, tries, deferrable):
    hub.on_start = [lost_before(tries)]
    tries.lost(deferrable=deferrable)
    clock.now += 3600
    hub.start(ME)
    with pytest.raises(ControlHubJobStateError, match="run 1, started by me@org"):
        tries.run(deferrable=deferrable)


def test_running_job_fails_task_by_default(hub, tries):
    hub.start(OTHER_USER)
    with pytest.raises(ControlHubJobStateError, match=f"run 1, started by {OTHER_USER} at .*, is ACTIVE"):
        tries.run(deferrable=False)
    assert hub.calls == []


@MODES
def test_join_delivers_foreign_run(hub, tries, deferrable, task_log):
    hub.start(OTHER_USER)
    hub.run_duration = 100
    result = tries.run(deferrable=deferrable, if_running="join")
    assert (result["run_count"], result["outcome"]) == (1, "SUCCEEDED")
    assert hub.calls == []
    assert f"run 1, started by {OTHER_USER}" in task_log()


@MODES
def test_joined_run_is_never_stopped(hub, tries, deferrable):
    hub.start(OTHER_USER)
    with pytest.raises(ControlHubRunTimeoutError):
        tries.run(deferrable=deferrable, if_running="join", wait_timeout=100)
    assert hub.calls == []


@MODES
def test_retry_rejoins_joined_run(hub, http, tries, deferrable):
    hub.start(OTHER_USER)
    http.post(STATUSES, status_code=401)
    with pytest.raises(ControlHubAuthenticationError):
        tries.run(deferrable=deferrable, if_running="join")
    http.post(STATUSES, json=lambda *_: {JOB_ID: hub.latest})
    hub.run_duration = 1000
    assert tries.run(deferrable=deferrable, if_running="join")["run_count"] == 1
    assert hub.calls == []


@MODES
def test_restart_stops_foreign_run_and_starts_own(hub, tries, deferrable):
    hub.start(OTHER_USER)

    def ends_later(start):
        hub.run_duration = 50
        return start()

    hub.on_start = [ends_later]
    result = tries.run(deferrable=deferrable, if_running="restart")
    assert (result["run_count"], result["outcome"]) == (2, "SUCCEEDED")
    assert hub.calls == ["stop", "start"]


def test_restart_forces_stop_of_hanging_run(hub, tries):
    hub.start(OTHER_USER)
    hub.stops_immediately = False

    def ends_later(start):
        hub.run_duration = 50
        return start()

    hub.on_start = [ends_later]
    tries.run(deferrable=False, if_running="restart", force_stop_after=30)
    assert hub.calls == ["stop", "forceStop", "start"]


@MODES
def test_wait_then_start_waits_for_foreign_run(hub, tries, deferrable):
    hub.start(OTHER_USER)
    hub.run_duration = 200
    result = tries.run(deferrable=deferrable, if_running="wait_then_start")
    assert (result["run_count"], result["outcome"]) == (2, "SUCCEEDED")
    assert hub.runs[1]["startTime"] >= hub.runs[0]["startTime"] + 200_000


@MODES
@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"wait_timeout": 100}, ControlHubRunTimeoutError),
        ({"wait_timeout": 300, "execution_timeout": timedelta(seconds=100)}, AirflowTaskTimeout),
    ],
)
def test_wait_then_start_keeps_task_timeout(hub, clock, tries, deferrable, limits, error):
    if error is AirflowTaskTimeout and not deferrable:
        limits = {"wait_timeout": 100}
        error = ControlHubRunTimeoutError
    hub.start(OTHER_USER)
    with pytest.raises(error, match="nothing was started"):
        tries.run(deferrable=deferrable, if_running="wait_then_start", **limits)
    assert hub.calls == []
    assert clock.now - 1000 == pytest.approx(100, abs=10)


@MODES
def test_own_run_gets_time_left_after_wait(hub, clock, tries, deferrable):
    hub.start(OTHER_USER)
    hub.run_duration = 200

    def never_ends(start):
        hub.run_duration = None
        return start()

    hub.on_start = [never_ends]
    with pytest.raises(ControlHubRunTimeoutError):
        tries.run(deferrable=deferrable, if_running="wait_then_start", wait_timeout=600)
    assert hub.calls == ["start", "stop"]
    assert clock.now - 1000 == pytest.approx(600, abs=15)


@pytest.mark.parametrize("status", ["ACTIVATING", "DEACTIVATING"])
@pytest.mark.parametrize("if_running", ["fail", "join", "restart", "wait_then_start"])
def test_transitioning_job_is_awaited_before_decision(hub, http, clock, tries, status, if_running):
    hub.start(OTHER_USER)
    hub.runs[-1]["status"] = status
    stable_at = clock.now + 60
    job = f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}"

    def read_job(*_):
        if clock.now >= stable_at and len(hub.runs) == 1 and hub.runs[0]["status"] == status:
            hub.end()
            hub.run_duration = 10
        return hub._job()

    http.get(job, json=read_job)
    assert tries.run(deferrable=False, if_running=if_running)["run_count"] == 2
    assert hub.calls == ["start"]


def test_start_preempted_by_foreign_run_is_reevaluated(hub, tries):
    def refused(start):
        hub.start(OTHER_USER)
        hub.run_duration = 30
        raise requests.exceptions.ConnectionError("connection reset")

    hub.on_start = [refused]
    result = tries.run(deferrable=False, if_running="wait_then_start")
    assert result["run_count"] == 2
    assert [run["user"] for run in hub.runs] == [OTHER_USER, ME]


def preempt_starts(hub, times):
    """Each of the next runs is followed by one of another user, who also waited for its end."""
    left = [hub.start] * times

    def and_start(end):
        def act(*arguments, **options):
            end(*arguments, **options)
            if left:
                left.pop()(OTHER_USER)

        return act

    hub.end, hub.stop = and_start(hub.end), and_start(hub.stop)


@MODES
@pytest.mark.parametrize("if_running", ["wait_then_start", "restart"])
def test_repeatedly_preempted_task_gets_its_run(hub, tries, deferrable, if_running):
    hub.start(OTHER_USER)
    hub.run_duration = 100
    preempt_starts(hub, 7)
    result = tries.run(deferrable=deferrable, if_running=if_running)
    assert (result["run_count"], result["outcome"]) == (9, "SUCCEEDED")
    assert [run["user"] for run in hub.runs] == [OTHER_USER] * 8 + [ME]


def refuse_start_after(hub, user, *, ends=False):
    """Control Hub refuses the start, because another caller started the job a moment before."""

    def act(start):
        hub.run_duration = 30
        hub.start(user)
        if ends:
            hub.end()
        return {"ISSUES": [{"code": "JOBRUNNER_73", "message": "Job 'X' cannot be started: it is ACTIVE"}]}

    return act


@pytest.fixture
def refusals(hub, http):
    """Start calls that return issues are answered with 400."""

    def answer(request, response):
        body = hub._start(request, response)
        response.status_code = 400 if "ISSUES" in body else 200
        return body

    http.post(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/start", json=answer)


@pytest.mark.parametrize("if_running", ["fail", "join", "restart", "wait_then_start"])
@pytest.mark.usefixtures("refusals")
def test_refused_start_does_not_claim_run_of_same_user(hub, tries, context, if_running):
    """Another task with the same credential was first: only the refusal distinguishes its run from the task's own."""
    hub.on_start = [refuse_start_after(hub, ME)]
    if if_running == "fail":
        for _ in range(2):
            with pytest.raises(ControlHubJobStateError, match=r"run 1, started by me@org at .*, is ACTIVE"):
                tries.run(deferrable=False)
        assert (hub.calls, hub.runs[0]["status"]) == (["start"], "ACTIVE")
        return
    result = tries.run(deferrable=False, if_running=if_running)
    assert result["outcome"] == "SUCCEEDED"
    assert result["run_count"] == (1 if if_running == "join" else 2)
    assert hub.calls == {"join": ["start"], "restart": ["start", "stop", "start"]}.get(if_running, ["start"] * 2)


@pytest.mark.parametrize("if_running", ["join", "restart", "wait_then_start"])
def test_refused_offset_reset_applies_if_running(hub, http, tries, if_running):
    """Control Hub resets no offsets of a job that another caller has just started."""

    def reset(request, answer):
        if not hub.runs:
            hub.run_duration = 30
            hub.start(OTHER_USER)
        if hub.latest["status"] != "ACTIVE":
            return {}
        answer.status_code = 400
        return {"ISSUES": [{"code": "JOBRUNNER_9", "message": "the job is active"}]}

    http.post(f"{HUB}/jobrunner/rest/v1/jobs/resetOffset", json=reset)
    result = tries.run(deferrable=False, if_running=if_running, reset_offsets=True)
    assert result["run_count"] == (1 if if_running == "join" else 2)


@pytest.mark.usefixtures("refusals")
def test_start_refused_for_ended_run_is_retried(hub, tries):
    hub.on_start = [refuse_start_after(hub, ME, ends=True)]
    assert tries.run(deferrable=False)["run_count"] == 2


@pytest.mark.parametrize("late", [False, True], ids=["lost", "delivered late"])
def test_start_is_not_repeated_before_gateway_timeout(hub, clock, tries, monkeypatch, late):
    """A gateway delivers the call after a minute; the run is shorter than the time between two polls."""
    sent = []

    def lost(start):
        sent.append(clock.now)
        raise requests.exceptions.ConnectionError("connection reset")

    hub.on_start = [lost]
    hub.run_duration = 1
    if late:
        sleep = clock.sleep

        def deliver(seconds):
            sleep(seconds)
            if sent and not hub.runs and clock.now >= sent[0] + 60:
                hub.start()

        monkeypatch.setattr("time.sleep", deliver)
    result = tries.run(deferrable=False)
    assert (result["run_count"], len(hub.runs)) == (1, 1)
    assert hub.calls == (["start"] if late else ["start", "start"])
    assert late or hub.runs[0]["startTime"] / 1000 >= sent[0] + 120


@pytest.mark.parametrize("late", [False, True], ids=["lost", "delivered late"])
@pytest.mark.parametrize("worker_lost", [False, True], ids=["no answer", "worker lost"])
def test_gateway_timeout_delays_repeat_after_foreign_run(hub, clock, tries, monkeypatch, late, worker_lost):
    """Another caller's run comes and goes before a gateway gives up the call, or delivers it."""
    sent = []

    def lost(start):
        sent.append(clock.now)
        hub.run_duration = 10
        hub.start(OTHER_USER)
        if worker_lost:
            tries.lose()
        raise requests.exceptions.ConnectionError("connection reset")

    hub.on_start = [lost]
    if late:
        sleep = clock.sleep

        def deliver(seconds):
            sleep(seconds)
            if len(hub.runs) == 1 and clock.now >= sent[0] + 60:
                hub.start()

        monkeypatch.setattr("time.sleep", deliver)
    if worker_lost:
        tries.lost(deferrable=False)
    result = tries.run(deferrable=False, if_running="wait_then_start")
    assert (result["run_count"], len(hub.runs)) == (2, 2)
    assert hub.calls == (["start"] if late else ["start", "start"])
    assert late or hub.runs[1]["startTime"] / 1000 >= sent[0] + 120


def test_last_try_stops_unanswered_start_after_lost_try(hub, http, context, clock):
    """The start comes in a later leg, after the wait for the run of another caller."""
    tries = Tries(clock, context, retries=1)
    hub.on_start = [lost_after(tries)]
    tries.lost(deferrable=True)
    hub.fail()
    hub.start(OTHER_USER)
    hub.run_duration = 100
    current = f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/currentStatus"

    def lost(start):
        hub.run_duration = None
        start()
        # For each of 41 polls in 120 seconds, 5 attempts.
        http.get(current, [{"status_code": 503}] * 41 * 5 + [{"json": lambda *_: hub.latest}])
        raise requests.exceptions.ConnectionError("connection reset")

    hub.on_start = [lost]
    with pytest.raises(ControlHubUnavailableError, match="Could not determine"):
        tries.run(deferrable=True, if_running="wait_then_start")
    assert hub.calls == ["start", "start", "stop"]


# Failures of the task's own


# Failures of the task's own


@MODES
def test_failure_unrelated_to_run_leaves_it_to_retry(hub, http, tries, deferrable):
    http.post(STATUSES, status_code=401)
    with pytest.raises(ControlHubAuthenticationError):
        tries.run(deferrable=deferrable)
    assert hub.calls == ["start"]
    http.post(STATUSES, json=lambda *_: {JOB_ID: hub.latest})
    hub.run_duration = 1000
    assert tries.run(deferrable=deferrable)["run_count"] == 1
    assert hub.calls == ["start"]


@MODES
@pytest.mark.parametrize(("on_error", "calls"), [("stop", ["start", "stop"]), ("leave", ["start"])])
def test_last_try_applies_on_error_to_run(hub, http, clock, context, deferrable, on_error, calls):
    http.post(STATUSES, status_code=401)
    with pytest.raises(ControlHubAuthenticationError):
        Tries(clock, context, retries=0).run(deferrable=deferrable, on_error=on_error)
    assert hub.calls == calls


@MODES
def test_timeout_stops_run_and_retry_restarts(hub, tries, deferrable):
    with pytest.raises(ControlHubRunTimeoutError):
        tries.run(deferrable=deferrable, wait_timeout=100)
    assert hub.calls == ["start", "stop"]
    hub.run_duration = 50
    assert tries.run(deferrable=deferrable, wait_timeout=100, accept_stopped=True)["run_count"] == 2


@MODES
def test_retry_joins_run_left_at_timeout(hub, tries, deferrable):
    with pytest.raises(ControlHubRunTimeoutError):
        tries.run(deferrable=deferrable, wait_timeout=100, on_timeout="leave")
    hub.run_duration = 150
    assert tries.run(deferrable=deferrable, wait_timeout=100)["run_count"] == 1
    assert hub.calls == ["start"]


@pytest.mark.parametrize(("on_timeout", "calls"), [("stop", ["start", "stop"]), ("leave", ["start"])])
def test_execution_timeout_applies_on_timeout(hub, clock, context, monkeypatch, on_timeout, calls):
    """On a worker, Airflow interrupts the task, and then calls its `on_kill`."""
    context["ti"].max_tries = 2
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False, on_timeout=on_timeout)

    def interrupted(_):
        raise AirflowTaskTimeout

    monkeypatch.setattr("time.sleep", interrupted)

    def run_as_airflow_does():
        try:
            task.execute(context)
        except AirflowTaskTimeout:
            task.on_kill()
            raise

    with pytest.raises(AirflowTaskTimeout):
        run_as_airflow_does()
    assert hub.calls == calls
    monkeypatch.setattr("time.sleep", clock.sleep)
    hub.run_duration = 100
    context["ti"].try_number = 2
    again = Tries(clock, context).run(deferrable=False, accept_stopped=True)
    assert again["run_count"] == (2 if on_timeout == "stop" else 1)


@MODES
def test_timeout_forces_stop_of_hanging_run(hub, tries, deferrable):
    hub.stops_immediately = False
    with pytest.raises(ControlHubRunTimeoutError):
        tries.run(deferrable=deferrable, wait_timeout=100, force_stop_after=30)
    assert hub.calls == ["start", "stop", "forceStop"]


@pytest.mark.parametrize("error", ["Trigger failure", "Trigger timeout"])
def test_failed_trigger_stops_run(hub, context, error):
    def task():
        return ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=True)

    with pytest.raises(TaskDeferred):
        task().execute(context)
    with pytest.raises(Exception, match=error):
        task().resume_execution("__fail__", {"error": error}, context)
    assert hub.calls == ["start", "stop"]


@pytest.mark.parametrize(("error", "policy"), [("Trigger failure", "on_error"), ("Trigger timeout", "on_timeout")])
def test_deferral_failure_applies_matching_policy(hub, context, error, policy):
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=True, **{policy: "leave"})
    with pytest.raises(TaskDeferred):
        task.execute(context)
    with pytest.raises(Exception, match=error):
        task.resume_execution("__fail__", {"error": error}, context)
    assert hub.calls == ["start"]


def test_task_without_wait_starts_once(hub, tries):
    hub.on_start = [lost_after(tries)]
    tries.lost(deferrable=False, wait_for_completion=False)
    assert tries.run(deferrable=False, wait_for_completion=False)["run_count"] == 1
    assert hub.calls == ["start"]


def test_changed_job_id_stops_run_of_previous_job(hub, http, tries):
    hub.on_start = [lost_after(tries)]
    tries.lost(deferrable=False)
    other = "another:org"
    jr = f"{HUB}/jobrunner/rest/v1/job/{other}"
    run = {"jobId": other, "runCount": 1, "status": "ACTIVE", "user": ME}
    http.get(jr, json={"id": other, "name": "Other", "currentJobStatus": None})
    http.post(f"{jr}/start", json=run)
    result = tries.run(job_id=other, deferrable=False, wait_for_completion=False)
    assert (result["job_id"], result["run_count"]) == (other, 1)
    assert hub.calls == ["start", "stop"]


def test_resume_decisions_are_counted_in_stats(hub, clock, tries, stats):
    hub.run_duration = 100
    hub.on_start = [lost_after(tries)]
    tries.lost(deferrable=False)
    tries.run(deferrable=False)
    tries.run(deferrable=False)
    counted = [(name, tags["operator"]) for name, _, tags in stats.emitted if name.startswith("resumable_job.")]
    assert counted == [
        (f"resumable_job.{decision}", "ControlHubRunJobOperator")
        for decision in (
            "fresh_submit",
            "reconnect_attempt",
            "reconnect_success",
            "reconnect_attempt",
            "already_succeeded",
        )
    ]


@MODES
def test_duration_of_own_run_is_emitted_once(hub, tries, stats, deferrable):
    hub.run_duration = 100
    tries.run(deferrable=deferrable)
    (duration,) = stats.values("streamsets.run.duration", outcome="SUCCEEDED")
    assert duration >= 100


@MODES
def test_run_of_other_caller_emits_no_metrics(hub, tries, stats, deferrable):
    hub.start(OTHER_USER)
    hub.run_duration = 100
    tries.run(deferrable=deferrable, if_running="join")
    assert not stats.values("streamsets.run.duration")


# Tries that end without a saved state, and runs that are not what they seem


class RefusingStore:
    """Takes nothing from a task that Airflow does not take for the running one any more."""

    def __init__(self, store):
        self._store = store
        self.refuses = False
        self.get, self.delete = store.get, store.delete

    def set(self, key, value, *, retention=None):
        if self.refuses:
            raise RuntimeError("404: no such task instance")
        self._store.set(key, value)


@pytest.mark.parametrize("stops_immediately", [True, False], ids=["stopped", "stopping"])
@pytest.mark.parametrize("accept_stopped", [True, False])
def test_clear_while_running_starts_new_run(
    hub, clock, context, monkeypatch, task_log, stops_immediately, accept_stopped
):
    """Airflow allows no more tries then, and takes nothing more from the try that it kills."""
    store = context["task_state_store"]
    refusing = context["task_state_store"] = RefusingStore(store)
    hub.stops_immediately = stops_immediately
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False, accept_stopped=accept_stopped)

    def cleared(_):
        refusing.refuses = True
        task.on_kill()

    monkeypatch.setattr("time.sleep", cleared)
    with pytest.raises(AirflowException, match="was killed while it waited"):
        task.execute(context)
    assert hub.calls == ["start", "stop"]
    assert "nothing needs to be done" in task_log()
    assert "error    ]" not in task_log()
    monkeypatch.setattr("time.sleep", clock.sleep)
    context["task_state_store"] = store
    context["ti"].try_number = 2

    def ends_later(start):
        hub.run_duration = 50
        return start()

    hub.on_start = [ends_later]
    hub.stops_immediately = True
    again = Tries(clock, context).run(deferrable=False, accept_stopped=accept_stopped, force_stop_after=30)
    assert (again["run_count"], again["outcome"]) == (2, "SUCCEEDED")


def cleared_while_waiting(clock, context, monkeypatch, operator, *, deferrable, **arguments):
    """Run a try that a person clears while it waits, as a deferred task or on a worker; Airflow 3 and 2 alike."""
    ti, store = context["ti"], context["task_state_store"]
    task = operator(task_id="run", deferrable=deferrable, **arguments)
    if deferrable:
        with pytest.raises(TaskDeferred):
            task.execute(context)
        # As of every task that is not running, Airflow allows more tries.
        ti.max_tries += ti.try_number
    else:
        refusing = context["task_state_store"] = RefusingStore(store)

        def cleared(_):
            refusing.refuses = True
            task.on_kill()

        with monkeypatch.context() as patched:
            patched.setattr("time.sleep", cleared)
            with pytest.raises(AirflowException, match="was killed while it waited"):
                task.execute(context)
        context["task_state_store"] = store
    ti.try_number += 1


@MODES
@pytest.mark.parametrize("ended", [None, "end", "fail"], ids=["active", "succeeded", "failed"])
def test_cleared_task_rejoins_left_run(hub, clock, tries, monkeypatch, task_log, deferrable, ended):
    arguments = {"job_id": JOB_ID, "stop_on_kill": False}
    cleared_while_waiting(
        clock, tries.context, monkeypatch, ControlHubRunJobOperator, deferrable=deferrable, **arguments
    )
    if ended:
        getattr(hub, ended)()
    hub.run_duration = 50
    assert tries.run(deferrable=deferrable, stop_on_kill=False)["run_count"] == (2 if ended == "fail" else 1)
    assert hub.calls == ["start"] * (2 if ended == "fail" else 1)
    assert ("clear the task after it has ended" in task_log()) is deferrable


@MODES
@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_clear_after_end_of_left_run_restarts(hub, clock, tries, deferrable, outcome):
    """Also if it was cleared before, while the run was active."""
    arguments = {"deferrable": deferrable, "stop_on_kill": False, "accept_stopped": outcome == "succeeded"}
    hub.on_start = [lost_after(tries)]
    tries.lost(**arguments)
    tries.clear()
    hub.run_duration = 50
    if outcome == "succeeded":
        tries.run(**arguments)
    else:
        # The task fails and leaves its run active.
        with pytest.raises(ControlHubRunTimeoutError):
            tries.run(**arguments, wait_timeout=10, on_timeout="leave")
    assert hub.calls == ["start"]
    tries.clear()
    assert tries.run(**arguments)["run_count"] == 2


@MODES
def test_clear_restarts_after_stop_on_kill_was_disabled(hub, tries, task_log, deferrable):
    """The DAG was edited between the end of the task and the clear."""
    hub.run_duration = 50
    tries.run(deferrable=deferrable)
    tries.clear()
    assert tries.run(deferrable=deferrable, stop_on_kill=False)["run_count"] == 2
    assert "before it had ended" not in task_log()


@MODES
def test_marked_and_cleared_task_rejoins_left_run(hub, clock, tries, monkeypatch, deferrable):
    arguments = {"job_id": JOB_ID, "stop_on_kill": False}
    cleared_while_waiting(
        clock, tries.context, monkeypatch, ControlHubRunJobOperator, deferrable=deferrable, **arguments
    )
    tries.clear()
    hub.run_duration = 50
    assert tries.run(deferrable=deferrable, stop_on_kill=False)["run_count"] == 1
    assert hub.calls == ["start"]


@MODES
def test_cleared_task_stops_run_by_default(hub, clock, tries, monkeypatch, deferrable):
    cleared_while_waiting(
        clock, tries.context, monkeypatch, ControlHubRunJobOperator, deferrable=deferrable, job_id=JOB_ID
    )

    def ends_later(start):
        hub.run_duration = 50
        return start()

    hub.on_start = [ends_later]
    assert tries.run(deferrable=deferrable)["run_count"] == 2
    assert hub.calls == ["start", "stop", "start"]


def test_deleted_job_does_not_block_cleared_task(hub, http, tries):
    hub.run_duration = 50
    tries.run(deferrable=False)
    jr = f"{HUB}/jobrunner/rest/v1/job"
    for path in (JOB_ID, f"{JOB_ID}/currentStatus"):
        http.get(f"{jr}/{path}", status_code=404, json={"ISSUES": [{"code": "JOBRUNNER_1", "message": "unknown"}]})
    tries.clear()
    http.get(f"{jr}/new:org", json={"id": "new:org", "name": "New", "currentJobStatus": None})
    http.post(f"{jr}/new:org/start", json={"jobId": "new:org", "runCount": 1, "status": "ACTIVE", "user": ME})
    result = tries.run(job_id="new:org", deferrable=False, wait_for_completion=False)
    assert (result["job_id"], result["run_count"]) == ("new:org", 1)


def test_earlier_foreign_run_is_not_taken_for_own(hub, tries):
    def after_other_user(start):
        hub.start(OTHER_USER)
        hub.end()
        hub.run_duration = 400
        return start()

    hub.on_start = [after_other_user]
    with pytest.raises(ControlHubRunTimeoutError):
        tries.run(deferrable=False, wait_timeout=100, on_timeout="leave")
    assert tries.run(deferrable=False)["run_count"] == 2
    assert hub.calls == ["start"]


def test_retry_finds_run_of_unanswered_start(hub, clock, tries):
    hub.on_start = [reset_before] * 3
    with pytest.raises(ControlHubUnavailableError) as error:
        tries.run(deferrable=False)
    assert error.value.maybe_executed
    hub.start(ME)
    hub.run_duration = 100
    assert tries.run(deferrable=False)["run_count"] == 1


def test_kill_during_metrics_wait_starts_no_second_run(hub, clock, tries, monkeypatch):
    context = tries.context
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False, metrics_timeout=100)
    hub.on_start = [lambda start: (start() and hub.end()) or hub.latest]
    monkeypatch.setattr("time.sleep", lambda seconds: task.on_kill())
    with pytest.raises(AirflowException, match="was killed while it waited"):
        task.execute(context)
    monkeypatch.setattr("time.sleep", clock.sleep)
    context["ti"].try_number = 2
    assert tries.run(deferrable=False)["run_count"] == 1
    assert hub.calls == ["start"]


def test_kill_while_joined_starts_no_own_run(hub, clock, tries, monkeypatch):
    context = tries.context
    hub.start(OTHER_USER)
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False, if_running="join")
    monkeypatch.setattr("time.sleep", lambda seconds: task.on_kill())
    with pytest.raises(AirflowException, match="was killed while it waited"):
        task.execute(context)
    monkeypatch.setattr("time.sleep", clock.sleep)
    hub.end()
    context["ti"].try_number = 2
    result = tries.run(deferrable=False, if_running="join")
    assert (result["run_count"], result["outcome"]) == (1, "SUCCEEDED")
    assert hub.calls == []


def test_kill_during_poll_yields_no_outcome(hub, http, context):
    task = ControlHubRunJobOperator(
        task_id="run", job_id=JOB_ID, deferrable=False, accept_stopped=True, metrics_timeout=0
    )

    def killed_during_poll(*_):
        task.on_kill()
        return {JOB_ID: hub.latest}

    http.post(STATUSES, json=killed_during_poll)
    with pytest.raises(AirflowException, match="was killed while it waited"):
        task.execute(context)
    assert hub.calls == ["start", "stop"]


def test_last_try_stops_run_of_unanswered_start(hub, http, clock, context):
    current = f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/currentStatus"

    def unreachable_for_a_while(start):
        start()
        # For each of 41 polls in 120 seconds, 5 attempts.
        answers = [{"status_code": 503}] * 41 * 5 + [{"json": lambda *_: hub.latest}]
        http.get(current, answers)
        raise requests.exceptions.ConnectionError("connection reset")

    hub.on_start = [unreachable_for_a_while]
    with pytest.raises(ControlHubUnavailableError):
        Tries(clock, context, retries=0).run(deferrable=False)
    assert hub.calls == ["start", "stop"]


@pytest.mark.parametrize("on_error", ["stop", "leave"])
@pytest.mark.parametrize("failure", ["renamed job", "forbidden", "template", "template of a mapped task"])
def test_early_failure_of_last_try_applies_on_error(hub, http, context, clock, tries, failure, on_error):
    jobs = f"{HUB}/jobrunner/rest/v1/jobs"
    http.get(jobs, json=lambda *_: {"totalCount": 1, "offset": 0, "len": 250, "data": [hub._job()]})
    hub.on_start = [lost_after(tries)]
    arguments = {"job_id": None, "job_name": JOB_NAME, "deferrable": False, "on_error": on_error}
    tries.lost(**arguments)
    context["ti"].max_tries = 1
    context["task_state_store"].set("control_hub", {**context["task_state_store"].get("control_hub"), "max_tries": 1})
    if failure == "renamed job":
        http.get(jobs, json={"totalCount": 0, "offset": 0, "len": 250, "data": []})
    elif failure == "forbidden":
        http.get(jobs, **FORBIDDEN)
    if "template" in failure:
        task = ControlHubRunJobOperator(task_id="run", job_name="{{ 1 / 0 }}", on_error=on_error)
        mapped = (task, task.template_fields, context, task.get_template_env(), set())
        render = task._do_render_template_fields if "mapped" in failure else task.render_template_fields
        with pytest.raises(ZeroDivisionError):
            render(*(mapped if "mapped" in failure else (context,)))
    else:
        with pytest.raises(ControlHubError):
            tries.run(**arguments)
    assert hub.calls == (["start", "stop"] if on_error == "stop" else ["start"])


def test_rendering_outside_task_stops_nothing(hub, http, context, tries):
    """``airflow tasks render`` shows what a template becomes, while the task itself may be running."""
    hub.on_start = [lost_after(tries)]
    tries.lost(deferrable=False)
    context["ti"].max_tries = 1
    del context["task_state_store"]
    task = ControlHubRunJobOperator(task_id="run", job_name="{{ 1 / 0 }}")
    with pytest.raises(ZeroDivisionError):
        task.render_template_fields(context)
    assert hub.calls == ["start"]


@pytest.mark.parametrize(("action", "calls"), [("fail", ["start", "stop"]), ("retry", ["start"])])
def test_retry_policy_determines_last_try(hub, http, clock, context, action, calls):
    class Policy:
        def evaluate(self, exception, try_number, max_tries, context):
            assert isinstance(exception, ControlHubAuthenticationError)
            return SimpleNamespace(action=SimpleNamespace(value=action))

    context["ti"].task = SimpleNamespace(retry_policy=Policy())
    http.post(STATUSES, status_code=401)
    with pytest.raises(ControlHubAuthenticationError):
        Tries(clock, context).run(deferrable=False)
    assert hub.calls == calls


def test_clear_of_other_task_starts_no_run(hub, tries):
    """Its worker was lost after it had delivered, before Airflow has noted that."""
    hub.run_duration = 50
    tries.context["dag_run"] = SimpleNamespace(clear_number=0)
    first = tries.run(deferrable=False)
    tries.context["dag_run"] = SimpleNamespace(clear_number=1)
    assert tries.run(deferrable=False) == first
    assert hub.calls == ["start"]


@MODES
def test_retry_delivers_joined_run_stopped_by_own_user(hub, http, tries, deferrable):
    hub.start(ME)
    http.post(STATUSES, status_code=401)
    with pytest.raises(ControlHubAuthenticationError):
        tries.run(deferrable=deferrable, if_running="join", accept_stopped=True)
    http.post(STATUSES, json=lambda *_: {JOB_ID: hub.latest})
    hub.stop(ME)
    result = tries.run(deferrable=deferrable, if_running="join", accept_stopped=True)
    assert (result["run_count"], result["outcome"]) == (1, "STOPPED")
    assert hub.calls == []


COUNTS = f"{HUB}/timeseries/rest/v1/metrics/job/{JOB_ID}/recordCountsForAllRuns"
SAVED = {"inputCount": 1, "outputCount": 1, "errorCount": 0, "stageErrorsCount": 0, "runCount": 1}


@MODES
@pytest.mark.parametrize(
    "first", [{"status_code": 404}, {"json": {}}, {"json": {"0": {**SAVED, "outputCount": 0, "lastUpdatedOn": 1}}}]
)
def test_unavailable_metrics_start_no_second_run(hub, http, tries, task_log, deferrable, first):
    arguments = {"deferrable": deferrable, "expect": ["output_count >= 1", "error_count < 1"]}
    hub.run_duration = 50
    http.get(COUNTS, **first)
    with pytest.raises(ControlHubMetricsUnavailableError):
        tries.run(**arguments)
    http.get(COUNTS, json={"0": {**SAVED, "lastUpdatedOn": hub.runs[0]["finishTime"] + 1}})
    assert tries.run(**arguments)["run_count"] == 1
    assert hub.calls == ["start"]
    assert "for the next try" not in task_log()


@MODES
def test_unavailable_metrics_on_last_try_stop_nothing(hub, http, tries, task_log, deferrable):
    hub.run_duration = 50
    tries.context["ti"].max_tries = 0
    with pytest.raises(ControlHubMetricsUnavailableError):
        tries.run(deferrable=deferrable, expect=["output_count >= 1"])
    assert hub.calls == ["start"]
    assert "top" not in task_log().replace("Waiting to", "")


def test_kill_while_activating_stops_once_allowed(hub, http, context, monkeypatch):
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False)
    refusal = {"status_code": 400, "json": {"ISSUES": [{"code": "JOBRUNNER_2", "message": "is ACTIVATING"}]}}
    http.post(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/stop", [refusal, {"json": lambda *_: hub._stop("stop")}])

    def killed(_):
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        task.on_kill()

    monkeypatch.setattr("time.sleep", killed)
    with pytest.raises(AirflowException, match="was killed"):
        task.execute(context)
    assert hub.calls == ["start", "stop"]


def test_adopted_run_count_is_pushed_without_wait(hub, tries, context):
    hub.on_start = [lost_after(tries)]
    tries.lost(deferrable=False, wait_for_completion=False)
    tries.run(deferrable=False, wait_for_completion=False)
    assert context["ti"].xcoms["run_count"] == 1


def test_failed_quick_stop_is_retried_at_end(hub, http, context, monkeypatch):
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False)
    current = f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/currentStatus"
    http.get(current, [{"status_code": 500}, {"json": lambda *_: hub.latest}])
    monkeypatch.setattr("time.sleep", lambda seconds: task.on_kill())
    with pytest.raises(AirflowException, match="was killed while it waited"):
        task.execute(context)
    assert hub.calls == ["start", "stop"]
