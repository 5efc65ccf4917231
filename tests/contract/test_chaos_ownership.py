"""``make chaos`` attributes each run to its owner, and detects foreign runs and repeated starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import requests
import structlog

from airflow_provider_streamsets.sandbox.backend.credentials import CALLER_HEADER
from tests.chaos.callers import Caller, send_caller_header
from tests.chaos.collector import lost_calls
from tests.chaos.evaluation import Guarantee, find_ambiguities, find_violations
from tests.chaos.history import CaseHistory, LostCall, Run, RunState, Stop, TaskOutcome
from tests.chaos.plan import Kind
from tests.chaos.user_actions import STOP_TIMEOUT
from tests.contract.chaos_histories import NOON, history, make_caller, run, success

JOB = "Shared 00 A"
START = f"/jobrunner/rest/v1/job/id of {JOB}/start"
START_MANY = "/jobrunner/rest/v1/jobs/startJobs"
FAILED = TaskOutcome("failed", tries=3)
DONE = TaskOutcome("success", tries=3)
FIRST_TASK, SECOND_TASK = (make_caller(Kind.SINGLE_RIVAL, 1, map_index) for map_index in (0, 1))
THIRD_TRY = replace(SECOND_TASK, try_number=3)


def first(run_count: int = 1, state: RunState = RunState.SUCCEEDED, at: float = 0.0, **more: Any) -> Run:
    return run(run_count, state, at, JOB, **{"caller": FIRST_TASK, **more})


def second(run_count: int = 2, state: RunState = RunState.SUCCEEDED, at: float = 20.0, **more: Any) -> Run:
    return run(run_count, state, at, JOB, **{"caller": SECOND_TASK, **more})


def lost(fault: str = "reset_after", at: float = -1.0, *, path: str = START, caller: Caller = SECOND_TASK) -> LostCall:
    return LostCall(caller, path, fault, NOON + at, NOON + at + 28)


def rivals(
    runs: Sequence[Run],
    *,
    reports: Run | None = None,
    if_running: str = "fail",
    calls: Sequence[LostCall] = (),
    task: TaskOutcome | None = None,
) -> list[CaseHistory]:
    """Return the histories of two tasks that run the same job; the arguments describe the second task."""
    own = [
        [item for item in runs if item.caller and item.caller.task_key == t.task_key] for t in (FIRST_TASK, SECOND_TASK)
    ]
    ends = [success(*(item for item in of_task if item.state is RunState.SUCCEEDED)) for of_task in own]
    ends[1] = task or (success(reports) if reports else ends[1])
    return [
        history(Kind.SINGLE_RIVAL, ends[0], runs, shared_jobs=(JOB,)),
        history(
            Kind.SINGLE_RIVAL,
            ends[1],
            runs,
            shared_jobs=(JOB,),
            map_index=1,
            if_running=if_running,
            lost_calls=calls,
        ),
    ]


def instance(number: int, position: int, state: RunState = RunState.SUCCEEDED, at: float = 0.0, **more: Any) -> Run:
    return run(1, state, at, f"Case 007 - {number}", instance=position, **more)


STOPPED_BY_SECOND = first(1, RunState.STOPPED, stops=[Stop(NOON + 4, SECOND_TASK)])
AFTER_STOP = [STOPPED_BY_SECOND, second(), first(3, at=40, caller=replace(FIRST_TASK, try_number=2))]
FAN_OUT = [instance(1, 0), instance(2, 1, RunState.FAILED), instance(3, 2)]
RETRIED = instance(4, 1, at=20)
STARTED_BY_USER = run(1, job="Awaited 00 A", caller=None)
LEGAL = {
    "sequential runs": rivals([first(), second()]),
    "a restart": rivals(AFTER_STOP, if_running="restart"),
    "a joined run": rivals([first()], reports=first(), if_running="join"),
    "waiters after a user's run": [
        history(
            Kind.WAITER,
            success(mine),
            [STARTED_BY_USER, *waiting],
            map_index=number,
            shared_jobs=("Awaited 00 A",),
            if_running="wait_then_start",
        )
        for waiting in [
            [run(2 + n, job="Awaited 00 A", at=20.0 * (1 + n), caller=make_caller(Kind.WAITER, 1, n)) for n in (0, 1)]
        ]
        for number, mine in enumerate(waiting)
    ],
    "restart of the failed fan-out instance": [
        history(Kind.FAN_OUT, success(FAN_OUT[0], RETRIED, FAN_OUT[2]), [*FAN_OUT, RETRIED])
    ],
    "a task cleared between two tries": [
        history(
            Kind.CLEARED_BETWEEN, success(run(2, at=20)), [run(1, RunState.FAILED), run(2, at=20)], acted_at=NOON + 9
        )
    ],
    "a task marked between two tries": [
        history(Kind.MARKED_BETWEEN, FAILED, [run(1, RunState.FAILED)], acted_at=NOON + 9)
    ],
    "an active run of a killed try whose task was marked": [
        history(Kind.MARKED_BETWEEN, FAILED, [run(1, RunState.ACTIVE)], acted_at=NOON + 9)
    ],
    "a late start call of a killed try": [
        history(
            Kind.MARKED_BETWEEN,
            FAILED,
            [run(1, RunState.FAILED, at=70)],
            acted_at=NOON + 20,
            lost_calls=[lost("late", 45, path="/jobrunner/rest/v1/job/id of Case 007/start")],
        )
    ],
}
ILLEGAL: dict[str, tuple[Guarantee, list[CaseHistory]]] = {
    "reporting another task's run": (Guarantee.OWN_RUNS, rivals([first()], reports=first())),
    "reporting another task's run and its own": (
        Guarantee.OWN_RUNS,
        rivals([first(), second()], task=replace(success(second()), pushed=[(f"id of {JOB}", 1)])),
    ),
    "reporting a run after a completed call": (
        Guarantee.OWN_RUNS,
        rivals([first()], reports=first(), calls=[lost("delay", caller=THIRD_TRY)]),
    ),
    "reporting a run started after the call": (
        Guarantee.OWN_RUNS,
        rivals([first()], reports=first(), calls=[lost(at=-60)]),
    ),
    "reporting a run started long before the call": (
        Guarantee.OWN_RUNS,
        rivals([first()], reports=first(), calls=[lost(at=60)]),
    ),
    "reporting a run of another job": (
        Guarantee.OWN_RUNS,
        rivals([first()], reports=first(), calls=[lost(path="/jobrunner/rest/v1/job/id of Other/start")]),
    ),
    "stopping another task's run": (Guarantee.OWN_RUNS, rivals(AFTER_STOP)),
    "stopping another task's run to wait": (Guarantee.OWN_RUNS, rivals(AFTER_STOP, if_running="wait_then_start")),
    "an unplanned stop": (
        Guarantee.OWN_RUNS,
        rivals([first(1, RunState.STOPPED, stops=[Stop(NOON + 4, None)]), second(), AFTER_STOP[2]]),
    ),
    "a second start within one try": (
        Guarantee.ONE_RUN,
        rivals([first(), second(2, RunState.FAILED, at=20), second(3, at=40)]),
    ),
    "a second start after a success": (
        Guarantee.NO_REPEAT,
        rivals([first(), second(), second(3, at=40, caller=THIRD_TRY)], reports=second(3)),
    ),
    "restart of all fan-out instances": (
        Guarantee.NO_REPEAT,
        [
            history(
                Kind.FAN_OUT,
                success(*(later := [instance(4 + position, position, at=20) for position in range(3)])),
                [*FAN_OUT, *later],
            )
        ],
    ),
    "restart of an active instance": (
        Guarantee.NO_REPEAT,
        [
            history(
                Kind.FAN_OUT,
                success(instance(5, 0), RETRIED, FAN_OUT[2]),
                [
                    replace(instance(1, 0, RunState.FAILED), ended=NOON + 60),
                    *FAN_OUT[1:],
                    RETRIED,
                    instance(5, 0, at=20),
                ],
            )
        ],
    ),
    "no run of its own": (Guarantee.ONE_RUN, rivals([first()])),
    "a run of an unknown task": (
        Guarantee.ONE_RUN,
        rivals([first(), second(), second(3, at=40, caller=make_caller(Kind.RUN, 1))]),
    ),
    "an unplanned user run": (Guarantee.ONE_RUN, rivals([first(), second(), second(3, at=40, caller=None)])),
    "an active run of a failed task": (
        Guarantee.NO_ORPHANS,
        rivals([first(), second(2, RunState.ACTIVE)], task=FAILED),
    ),
    "a run started after the task was marked": (
        Guarantee.ONE_RUN,
        [history(Kind.MARKED_BETWEEN, FAILED, [run(1, RunState.FAILED, at=21 + STOP_TIMEOUT)], acted_at=NOON + 20)],
    ),
    "no run after the clear": (
        Guarantee.ONE_RUN,
        [history(Kind.CLEARED_BETWEEN, success(run(1)), [run(1)], acted_at=NOON + 9)],
    ),
}
AMBIGUOUS = {
    "a lost response": rivals([first()], reports=first(), calls=[lost()]),
    "a lost bulk start response": rivals([first()], reports=first(), calls=[lost(path=START_MANY)]),
    "a late call": rivals([first()], reports=first(), calls=[lost("late", -20)]),
    "a late call after another run was reported": rivals(
        [first(), second(state=RunState.ACTIVE, at=29)], reports=first(), calls=[lost("late")]
    ),
    "a slow call of a killed try": rivals([first()], reports=first(), calls=[lost("delay")]),
    "a kill during the call": rivals(
        [first()], reports=first(), calls=[lost("killed", path=f'{{"intents": {{"id of {JOB}": 1}}}}')]
    ),
    "a stop after a lost response": rivals(AFTER_STOP, calls=[lost()]),
}


@pytest.mark.parametrize("histories", LEGAL.values(), ids=LEGAL.keys())
def test_legal_history_has_no_violations(histories):
    assert find_violations(histories) == []
    assert find_ambiguities(histories) == []


@pytest.mark.parametrize(("guarantee", "histories"), ILLEGAL.values(), ids=ILLEGAL.keys())
def test_violation_is_found(guarantee, histories):
    assert guarantee in {violation.guarantee for violation in find_violations(histories)}
    assert find_ambiguities(histories) == []


@pytest.mark.parametrize("histories", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguity_is_no_violation(histories):
    assert find_violations(histories) == []
    (found,) = find_ambiguities(histories)
    assert found.history is histories[1]


@pytest.mark.parametrize("name", ["reporting another task's run", "stopping another task's run"])
def test_violation_names_job_run_and_both_callers(name):
    _, histories = ILLEGAL[name]
    (text,) = [violation.text for violation in find_violations(histories) if violation.guarantee is Guarantee.OWN_RUNS]
    for part in (f"run 1 of {JOB}", "single_rival_deferrable[0] try 1", "single_rival_deferrable[1] try"):
        assert part in text


def test_lost_calls_are_unanswered_start_calls():
    text = "chaos/manual/single_rival_deferrable/1/1"
    start = {"method": "POST", "path": START, "caller": text}
    hits = [
        {**start, "fault": "late", "time": NOON * 1000},
        {**start, "fault": "delay", "time": (NOON + 10) * 1000},
        {**start, "fault": "delay", "time": (NOON + 20) * 1000},
        {**start, "fault": "too_many_requests", "time": NOON * 1000},
        {**start, "fault": "late", "time": NOON * 1000, "caller": None},
        {**start, "fault": "html", "time": NOON * 1000, "path": "/jobrunner/rest/v1/jobs/status"},
    ]
    late, delayed, killed = lost_calls(hits, [NOON + 21], 28)
    assert late == LostCall(SECOND_TASK, START, "late", NOON, NOON + 28)
    run_of_other = first(at=22)
    assert [call.may_have_started(run_of_other, 1) for call in (late, delayed, killed)] == [True, False, True]


@pytest.fixture
def sent(monkeypatch) -> list[Any]:
    """Requests sent with the caller header enabled."""
    requests_sent: list[Any] = []
    monkeypatch.setattr(requests.Session, "send", lambda _, request, **options: requests_sent.append(request))
    send_caller_header()
    return requests_sent


def test_requests_carry_the_logged_task_instance(sent):
    session, bound = (
        requests.Session(),
        {"dag_id": "chaos", "run_id": "manual__1+00:00", "task_id": "run", "try_number": 2},
    )
    with structlog.contextvars.bound_contextvars(**bound, map_index=-1):
        session.send(requests.Request("GET", "http://hub").prepare())
    session.send(requests.Request("GET", "http://hub").prepare())
    callers = [Caller.parse(request.headers.get(CALLER_HEADER)) for request in sent]
    assert callers == [Caller("chaos", "manual__1+00:00", "run", -1, 2), None]
