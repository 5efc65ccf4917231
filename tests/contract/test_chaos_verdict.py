"""What ``make chaos`` plans, and that each promise is found broken by a history that breaks it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console

from airflow_provider_streamsets.sandbox.faults.rules import parse_faults
from airflow_provider_streamsets.sandbox.seed.loader import load_seed
from tests.chaos.history import CaseHistory, Delivery, End, Stop, TaskEnd
from tests.chaos.performance import Result
from tests.chaos.plan import LONG, LULL, RIVALS, SHORT, STORM, Kind, Size, Target, is_lull, make_plan
from tests.chaos.table import table, told
from tests.chaos.task_table import deliveries_of
from tests.chaos.verdict import Promise, judge
from tests.chaos.weather import fault_rules, write_seed
from tests.contract.chaos_histories import NOON, OWN, history, run, stopped_at, success

FAILED = TaskEnd("failed", tries=3)
FIRST, SECOND = run(1), run(2, at=20)
TWO_JOBS = [run(job="Case 007 A"), run(job="Case 007 B")]
TWO_INSTANCES = [run(job="Case 007 - 1", instance=0), run(job="Case 007 - 2", instance=1)]
LATER_INSTANCE = run(job="Case 007 - 3", at=20, instance=1)
OTHERS = run(1, End.STOPPED, caller=None, stops=[Stop(NOON + 60, None)])
GOOD = {
    "a job that ran once": history(Kind.RUN, success(FIRST), [FIRST]),
    "a run that was stopped, and one instead": history(Kind.RUN, success(SECOND), [run(1, End.STOPPED), SECOND]),
    "a run that failed, and one instead": history(Kind.FAILS_OFTEN, success(SECOND), [run(1, End.FAILED), SECOND]),
    "a job that cannot succeed": history(Kind.HOPELESS, FAILED, [run(1, End.FAILED), run(2, End.FAILED, at=20)]),
    "two jobs": history(Kind.START_JOBS, success(*TWO_JOBS), TWO_JOBS),
    "two instances": history(Kind.TEMPLATE, success(*TWO_INSTANCES), TWO_INSTANCES),
    "two instances after one of two was stopped": history(
        Kind.TEMPLATE,
        success(TWO_INSTANCES[0], LATER_INSTANCE),
        [TWO_INSTANCES[0], run(1, End.STOPPED, job="Case 007 - 2", instance=1), LATER_INSTANCE],
    ),
    "a run after somebody else's": history(Kind.WAITS, success(SECOND), [replace(FIRST, caller=None), SECOND]),
    "a run that was joined": history(Kind.JOINS, success(OTHERS, outcome="STOPPED"), [OTHERS], acted=NOON + 60),
    "a task that was marked failed": history(Kind.MARKED_FAILED, FAILED, [stopped_at(70)], acted=NOON + 65),
    "a task that was cleared while it waited": history(
        Kind.CLEARED_WAITING, success(SECOND), [run(1, End.STOPPED), SECOND], acted=NOON + 10
    ),
    "a task that was cleared when it was done": history(
        Kind.CLEARED_DONE, success(SECOND), [FIRST, SECOND], acted=NOON + 10
    ),
}
BAD = {
    "a second run": (Promise.ONE_RUN, history(Kind.RUN, success(SECOND), [FIRST, SECOND])),
    "no run": (Promise.ONE_RUN, history(Kind.RUN, success(FIRST), [])),
    "a run that failed for no reason": (
        Promise.ONE_RUN,
        history(Kind.RUN, success(SECOND), [run(1, End.FAILED), SECOND]),
    ),
    "more failed runs than tries that fail": (
        Promise.ONE_RUN,
        history(
            Kind.FAILS_OFTEN, success(run(4)), [*(run(n, End.FAILED, at=20 * n) for n in (1, 2, 3)), run(4, at=80)]
        ),
    ),
    "more runs than tries": (
        Promise.ONE_RUN,
        history(Kind.HOPELESS, FAILED, [run(number, End.FAILED, at=20 * number) for number in (1, 2, 3, 4)]),
    ),
    "one of two jobs started twice": (
        Promise.ONE_RUN,
        history(Kind.START_JOBS, success(*TWO_JOBS), [*TWO_JOBS, run(2, at=20, job="Case 007 B")]),
    ),
    "a third instance": (
        Promise.ONE_RUN,
        history(Kind.TEMPLATE, success(*TWO_INSTANCES), [*TWO_INSTANCES, run(job="Case 007 - 3", instance=2)]),
    ),
    "an instance started again": (
        Promise.NO_REPEAT,
        history(Kind.TEMPLATE, success(TWO_INSTANCES[0], LATER_INSTANCE), [*TWO_INSTANCES, LATER_INSTANCE]),
    ),
    "a run beside one to join": (
        Promise.ONE_RUN,
        history(Kind.JOINS, success(OTHERS, outcome="STOPPED"), [OTHERS, SECOND], acted=NOON + 60),
    ),
    "a run of a person that a joining task stopped": (
        Promise.OWN_RUNS,
        history(
            Kind.JOINS,
            success(OTHERS, outcome="STOPPED"),
            [replace(OTHERS, stops=[Stop(NOON + 60, OWN)])],
            acted=NOON + 65,
        ),
    ),
    "a run that succeeded unnoticed": (Promise.ONE_RUN, history(Kind.RUN, FAILED, [FIRST])),
    "no run after the clear": (
        Promise.ONE_RUN,
        history(Kind.CLEARED_WAITING, success(FIRST), [FIRST], acted=NOON + 10),
    ),
    "a run after the task was marked failed": (
        Promise.ONE_RUN,
        history(Kind.MARKED_FAILED, FAILED, [run(1, End.STOPPED), run(2, End.STOPPED, at=200)], acted=NOON),
    ),
    "a success of a stopped run": (
        Promise.TRUE_SUCCESS,
        history(Kind.RUN, success(SECOND), [FIRST, run(2, End.STOPPED)]),
    ),
    "a success of a run that is not there": (
        Promise.TRUE_SUCCESS,
        history(Kind.RUN, success(SECOND), [FIRST]),
    ),
    "a success without a result": (Promise.TRUE_SUCCESS, history(Kind.RUN, success(), [FIRST])),
    "a success of what always fails": (
        Promise.TRUE_SUCCESS,
        history(Kind.HOPELESS, success(FIRST), [run(1, End.FAILED)]),
    ),
    "a task that is still deferred": (Promise.ENDS, history(Kind.RUN, TaskEnd("deferred", 2), [FIRST])),
    "a task that was never tried": (Promise.ENDS, history(Kind.RUN, TaskEnd("", 0), [])),
    "a run that goes on": (
        Promise.NOTHING_LEFT,
        history(Kind.RUN, success(FIRST), [FIRST, run(2, End.GOES_ON)]),
    ),
    "a run that was not stopped": (
        Promise.NOTHING_LEFT,
        history(Kind.MARKED_FAILED, FAILED, [run(1, End.GOES_ON)], acted=NOON + 3),
    ),
    "a run that was stopped late": (
        Promise.NOTHING_LEFT,
        history(Kind.MARKED_FAILED, FAILED, [stopped_at(90)], acted=NOON + 3),
    ),
    "a run that outlived a clear": (
        Promise.NOTHING_LEFT,
        history(
            Kind.CLEARED_WAITING,
            success(SECOND),
            [run(1), run(2, at=100)],
            acted=NOON + 10,
        ),
    ),
    "a task that gave up": (Promise.NOT_LOST, history(Kind.RUN, FAILED, [run(1, End.STOPPED)])),
    "a task that failed although the run it joined did not": (
        Promise.NOT_LOST,
        history(Kind.JOINS, FAILED, [OTHERS], acted=NOON + 60),
    ),
    "a task that nobody could clear": (
        Promise.NOT_LOST,
        history(Kind.CLEARED_WAITING, success(FIRST), [FIRST]),
    ),
}


def result_of(*histories: CaseHistory) -> Result:
    return Result(
        plan=make_plan(1, SHORT),
        histories=histories,
        kills={Target.TASK: 3},
        fault_hits={"html": 2},
        refused=1,
        stormed=60,
        settled=30,
        database="sqlite",
        logs={("run_deferrable", 0): ["the last line"]},
    )


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD.keys())
def test_what_keeps_the_promises_breaks_none(history):
    assert judge([history]) == []


@pytest.mark.parametrize(("promise", "history"), BAD.values(), ids=BAD.keys())
def test_what_breaks_a_promise_is_told(promise, history):
    violations = judge([history])
    assert promise in {violation.promise for violation in violations}
    assert all(violation.history is history for violation in violations)


def test_every_promise_can_be_broken():
    assert {promise for promise, _ in BAD.values()} == set(Promise)


def test_a_broken_promise_is_in_the_table_and_told_with_all_that_is_known():
    _, history = BAD["a second run"]
    result = result_of(GOOD["a job that ran once"], history)
    console = Console(width=140)
    with console.capture() as capture:
        console.print(table(result))
    kept, broken = (
        next(line for line in capture.get().splitlines() if promise.value in line)
        for promise in (Promise.ENDS, Promise.ONE_RUN)
    )
    assert "kept" in kept
    assert "kept" not in broken
    text = "\n".join(told(result))
    for part in (
        "run_deferrable[0]",
        "success after 3 tries",
        "run 1 of Case 007",
        "run 2 of Case 007",
        "the last line",
    ):
        assert part in text


def test_a_result_without_violations_has_only_kept_promises():
    console = Console(width=140)
    with console.capture() as capture:
        console.print(table(result_of(*GOOD.values())))
    assert capture.get().count("kept") == len(Promise)


def test_the_same_seed_makes_the_same_plan_and_another_seed_another_one():
    assert make_plan(3, LONG) == make_plan(3, LONG)
    assert make_plan(3, LONG) != make_plan(4, LONG)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [SHORT, LONG], ids=["short", "long"])
def test_a_plan_has_enough_runs_of_every_kind_in_both_modes(seed, size):
    plan = make_plan(seed, size)
    assert size.runs <= plan.logical_runs <= size.runs + 5
    assert {case.kind for case in plan.cases} == set(Kind)
    assert {case.mode for case in plan.cases} == {"sync", "deferrable"}
    places = [(case.task_id, case.map_index) for case in plan.cases]
    assert len(set(places)) == len(places)


def test_plan_of_some_kinds_has_only_those():
    kinds = [Kind.BULK_RIVAL, Kind.WAITER, Kind.FAN_OUT]
    plan = make_plan(1, Size(runs=40, minutes=1, kinds=kinds))
    assert {case.kind for case in plan.cases} == set(kinds)
    assert 30 <= plan.logical_runs <= 50


@pytest.mark.parametrize("seed", range(20))
def test_rivals_start_overlapping_jobs_and_one_of_a_group_at_most_restarts(seed):
    cases = [case for case in make_plan(seed, LONG).cases if case.kind in RIVALS]
    starters = Counter(name for case in cases for name in case.job_names)
    assert min(starters.values()) >= 2
    assert {case.kind for case in cases} == set(RIVALS)
    groups = Counter(case.job_names[0].split()[1] for case in cases if case.if_running == "restart")
    assert all(count == 1 for count in groups.values())


@pytest.mark.parametrize("seed", range(20))
def test_waiters_share_a_job_that_a_person_has_started(seed):
    cases = [case for case in make_plan(seed, LONG).cases if case.kind is Kind.WAITER]
    assert all(count == 4 for count in Counter(case.job_names for case in cases).values())
    assert {case.if_running for case in cases} == {"wait_then_start", "restart"}


def test_the_short_plan_of_the_system_test_kills_everything_that_it_expects():
    targets = {blow.target for blow in make_plan(1, SHORT).blows}
    assert {Target.TASK, Target.WORKER, Target.TRIGGERER, Target.SANDBOX} < targets


@pytest.mark.parametrize("seed", range(20))
def test_everything_is_killed_and_nothing_in_a_lull(seed):
    plan = make_plan(seed, LONG)
    assert {blow.target for blow in plan.blows} == set(Target)
    assert [blow.at for blow in plan.blows] == sorted(blow.at for blow in plan.blows)
    assert not any(is_lull(blow.at) for blow in plan.blows)
    assert all(0 <= blow.pick < 1 for blow in plan.blows)
    assert [is_lull(at) for at in (0, STORM - 1, STORM, STORM + LULL - 1, STORM + LULL)] == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_the_sandbox_takes_the_jobs_and_the_faults_of_a_plan(tmp_path):
    plan = make_plan(5, LONG)
    jobs = load_seed(write_seed(tmp_path / "seed.json", plan)).jobs
    assert {job.name for job in jobs} == {name for case in plan.cases for name in case.job_names}
    assert len(parse_faults({"seed": 5, "rules": fault_rules(LONG.late)}).to_dict()["rules"]) == len(
        fault_rules(LONG.late)
    )


def test_the_runs_in_the_results_of_all_operators_are_found():
    entry = {"job_id": "a", "run_count": 2, "outcome": "SUCCEEDED"}
    for result in (entry, [entry], {"template_id": "t", "instances": [entry]}):
        assert deliveries_of(result) == [Delivery("a", 2, "SUCCEEDED")]
    assert deliveries_of(None) == []
