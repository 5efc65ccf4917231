"""``make chaos`` tells whose run is whose: what tasks may do with runs of others, and what they may start again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import requests
import structlog

from airflow_provider_streamsets.sandbox.backend.caller import CALLER_HEADER
from tests.chaos.callers import Caller, send_callers
from tests.chaos.collecting import lost_calls
from tests.chaos.history import CaseHistory, End, LostCall, Run, Stop, TaskEnd
from tests.chaos.plan import Kind
from tests.chaos.verdict import Promise, ambiguous, judge
from tests.contract.chaos_histories import NOON, history, run, success, tried

JOB = "Shared 00 A"
START = f"/jobrunner/rest/v1/job/id of {JOB}/start"
START_MANY = "/jobrunner/rest/v1/jobs/startJobs"
FAILED = TaskEnd("failed", tries=3)
DONE = TaskEnd("success", tries=3)
FIRST_TASK, SECOND_TASK = (tried(Kind.SINGLE_RIVAL, 1, map_index) for map_index in (0, 1))
THIRD_TRY = replace(SECOND_TASK, try_number=3)


def first(run_count: int = 1, end: End = End.SUCCEEDED, at: float = 0.0, **more: Any) -> Run:
    return run(run_count, end, at, JOB, **{"caller": FIRST_TASK, **more})


def second(run_count: int = 2, end: End = End.SUCCEEDED, at: float = 20.0, **more: Any) -> Run:
    return run(run_count, end, at, JOB, **{"caller": SECOND_TASK, **more})


def lost(fault: str = "reset_after", at: float = -1.0, *, path: str = START, caller: Caller = SECOND_TASK) -> LostCall:
    return LostCall(caller, path, fault, NOON + at, NOON + at + 28)


def rivals(
    runs: Sequence[Run],
    *,
    reports: Run | None = None,
    if_running: str = "fail",
    calls: Sequence[LostCall] = (),
    task: TaskEnd | None = None,
) -> list[CaseHistory]:
    """Return what happened to two tasks that run one job, of which the second one is as the arguments say."""
    own = [[item for item in runs if item.caller and item.caller.place == t.place] for t in (FIRST_TASK, SECOND_TASK)]
    ends = [success(*(item for item in of_task if item.end is End.SUCCEEDED)) for of_task in own]
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


def instance(number: int, position: int, end: End = End.SUCCEEDED, at: float = 0.0, **more: Any) -> Run:
    return run(1, end, at, f"Case 007 - {number}", instance=position, **more)


STOPPED_BY_SECOND = first(1, End.STOPPED, stops=[Stop(NOON + 4, SECOND_TASK)])
AFTER_STOP = [STOPPED_BY_SECOND, second(), first(3, at=40, caller=replace(FIRST_TASK, try_number=2))]
FAN_OUT = [instance(1, 0), instance(2, 1, End.FAILED), instance(3, 2)]
RETRIED = instance(4, 1, at=20)
BY_HAND = run(1, job="Awaited 00 A", caller=None)
LEGAL = {
    "one after the other": rivals([first(), second()]),
    "a restart": rivals(AFTER_STOP, if_running="restart"),
    "a joined run": rivals([first()], reports=first(), if_running="join"),
    "waiters after a person's run": [
        history(
            Kind.WAITER,
            success(mine),
            [BY_HAND, *waiting],
            map_index=number,
            shared_jobs=("Awaited 00 A",),
            if_running="wait_then_start",
        )
        for waiting in [
            [run(2 + n, job="Awaited 00 A", at=20.0 * (1 + n), caller=tried(Kind.WAITER, 1, n)) for n in (0, 1)]
        ]
        for number, mine in enumerate(waiting)
    ],
    "the failed instance of a fan-out started again": [
        history(Kind.FAN_OUT, success(FAN_OUT[0], RETRIED, FAN_OUT[2]), [*FAN_OUT, RETRIED])
    ],
    "a task cleared between two tries": [
        history(Kind.CLEARED_BETWEEN, success(run(2, at=20)), [run(1, End.FAILED), run(2, at=20)], acted=NOON + 9)
    ],
    "a task marked between two tries": [history(Kind.MARKED_BETWEEN, FAILED, [run(1, End.FAILED)], acted=NOON + 9)],
    "a run of a killed try of a task that was marked before the next": [
        history(Kind.MARKED_BETWEEN, FAILED, [run(1, End.GOES_ON)], acted=NOON + 9)
    ],
    "a start call of a killed try that comes late": [
        history(
            Kind.MARKED_BETWEEN,
            FAILED,
            [run(1, End.FAILED, at=70)],
            acted=NOON + 20,
            lost_calls=[lost("late", 45, path="/jobrunner/rest/v1/job/id of Case 007/start")],
        )
    ],
}
ILLEGAL: dict[str, tuple[Promise, list[CaseHistory]]] = {
    "reporting another task's run": (Promise.OWN_RUNS, rivals([first()], reports=first())),
    "reporting another task's run beside an own one": (
        Promise.OWN_RUNS,
        rivals([first(), second()], task=replace(success(second()), pushed=[(f"id of {JOB}", 1)])),
    ),
    "reporting a run with an answered call": (
        Promise.OWN_RUNS,
        rivals([first()], reports=first(), calls=[lost("delay", caller=THIRD_TRY)]),
    ),
    "reporting a run that began after the call": (
        Promise.OWN_RUNS,
        rivals([first()], reports=first(), calls=[lost(at=-60)]),
    ),
    "reporting a run that began long before the call": (
        Promise.OWN_RUNS,
        rivals([first()], reports=first(), calls=[lost(at=60)]),
    ),
    "reporting a run of another job than the call's": (
        Promise.OWN_RUNS,
        rivals([first()], reports=first(), calls=[lost(path="/jobrunner/rest/v1/job/id of Other/start")]),
    ),
    "stopping another task's run": (Promise.OWN_RUNS, rivals(AFTER_STOP)),
    "stopping another task's run to wait": (Promise.OWN_RUNS, rivals(AFTER_STOP, if_running="wait_then_start")),
    "a stop by nobody": (
        Promise.OWN_RUNS,
        rivals([first(1, End.STOPPED, stops=[Stop(NOON + 4, None)]), second(), AFTER_STOP[2]]),
    ),
    "a second start within one try": (
        Promise.ONE_RUN,
        rivals([first(), second(2, End.FAILED, at=20), second(3, at=40)]),
    ),
    "a second start after a success": (
        Promise.NO_REPEAT,
        rivals([first(), second(), second(3, at=40, caller=THIRD_TRY)], reports=second(3)),
    ),
    "all instances of a fan-out started again": (
        Promise.NO_REPEAT,
        [
            history(
                Kind.FAN_OUT,
                success(*(later := [instance(4 + position, position, at=20) for position in range(3)])),
                [*FAN_OUT, *later],
            )
        ],
    ),
    "an instance started again that goes on": (
        Promise.NO_REPEAT,
        [
            history(
                Kind.FAN_OUT,
                success(instance(5, 0), RETRIED, FAN_OUT[2]),
                [replace(instance(1, 0, End.FAILED), ended=NOON + 60), *FAN_OUT[1:], RETRIED, instance(5, 0, at=20)],
            )
        ],
    ),
    "no run of its own": (Promise.ONE_RUN, rivals([first()])),
    "a run of no task": (Promise.ONE_RUN, rivals([first(), second(), second(3, at=40, caller=tried(Kind.RUN, 1))])),
    "a run of a person": (Promise.ONE_RUN, rivals([first(), second(), second(3, at=40, caller=None)])),
    "a run of a failed task that goes on": (
        Promise.NOTHING_LEFT,
        rivals([first(), second(2, End.GOES_ON)], task=FAILED),
    ),
    "a run that was started after the task was marked": (
        Promise.ONE_RUN,
        [history(Kind.MARKED_BETWEEN, FAILED, [run(1, End.FAILED, at=70)], acted=NOON + 20)],
    ),
    "no run after the clear": (
        Promise.ONE_RUN,
        [history(Kind.CLEARED_BETWEEN, success(run(1)), [run(1)], acted=NOON + 9)],
    ),
}
AMBIGUOUS = {
    "a lost answer": rivals([first()], reports=first(), calls=[lost()]),
    "a lost answer of a bulk start": rivals([first()], reports=first(), calls=[lost(path=START_MANY)]),
    "a call that is delivered late": rivals([first()], reports=first(), calls=[lost("late", -20)]),
    "a call that is delivered after another run was taken for it": rivals(
        [first(), second(end=End.GOES_ON, at=29)], reports=first(), calls=[lost("late")]
    ),
    "a slow call of a try that was killed": rivals([first()], reports=first(), calls=[lost("delay")]),
    "a kill during the call": rivals(
        [first()], reports=first(), calls=[lost("killed", path=f'{{"intents": {{"id of {JOB}": 1}}}}')]
    ),
    "a stop after a lost answer": rivals(AFTER_STOP, calls=[lost()]),
}


@pytest.mark.parametrize("histories", LEGAL.values(), ids=LEGAL.keys())
def test_legal_history_breaks_no_promise(histories):
    assert judge(histories) == []
    assert ambiguous(histories) == []


@pytest.mark.parametrize(("promise", "histories"), ILLEGAL.values(), ids=ILLEGAL.keys())
def test_violation_is_found(promise, histories):
    assert promise in {violation.promise for violation in judge(histories)}
    assert ambiguous(histories) == []


@pytest.mark.parametrize("histories", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguity_is_counted_apart(histories):
    assert judge(histories) == []
    (found,) = ambiguous(histories)
    assert found.history is histories[1]


@pytest.mark.parametrize("name", ["reporting another task's run", "stopping another task's run"])
def test_violation_names_job_run_and_both_callers(name):
    _, histories = ILLEGAL[name]
    (text,) = [violation.text for violation in judge(histories) if violation.promise is Promise.OWN_RUNS]
    for part in (f"run 1 of {JOB}", "single_rival_deferrable[0] try 1", "single_rival_deferrable[1] try"):
        assert part in text


def test_lost_calls_are_start_calls_whose_answer_may_be_missing():
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
    """The requests that are sent, while processes of Airflow name their callers."""
    requests_sent: list[Any] = []
    monkeypatch.setattr(requests.Session, "send", lambda _, request, **options: requests_sent.append(request))
    send_callers()
    return requests_sent


def test_requests_carry_the_task_instance_of_the_log(sent):
    session, bound = (
        requests.Session(),
        {"dag_id": "chaos", "run_id": "manual__1+00:00", "task_id": "run", "try_number": 2},
    )
    with structlog.contextvars.bound_contextvars(**bound, map_index=-1):
        session.send(requests.Request("GET", "http://hub").prepare())
    session.send(requests.Request("GET", "http://hub").prepare())
    callers = [Caller.parse(request.headers.get(CALLER_HEADER)) for request in sent]
    assert callers == [Caller("chaos", "manual__1+00:00", "run", -1, 2), None]
