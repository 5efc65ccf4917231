"""Plans of ``make chaos``, and detection of violated guarantees."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console

from airflow_provider_streamsets.sandbox.faults.rules import parse_faults
from airflow_provider_streamsets.sandbox.seed.models import load_seed
from tests.chaos.evaluation import Guarantee, find_violations
from tests.chaos.faults import fault_rules
from tests.chaos.history import CaseHistory, RunResult, RunState, Stop, TaskOutcome
from tests.chaos.plan import (
    CLUSTER,
    CLUSTER_FAULTS,
    CLUSTER_SHORT,
    KILL_PHASE,
    LONG,
    PAUSE,
    RIVALS,
    SHORT,
    Kind,
    Size,
    Target,
    is_pause,
    make_plan,
)
from tests.chaos.report import describe_violations, result_table
from tests.chaos.runner import Result
from tests.chaos.seed import write_seed
from tests.chaos.task_table import parse_results
from tests.chaos.user_actions import STOP_TIMEOUT
from tests.contract.chaos_histories import NOON, OWN, history, run, stopped_at, success

FAILED = TaskOutcome("failed", tries=3)
FIRST, SECOND = run(1), run(2, at=20)
TWO_JOBS = [run(job="Case 007 A"), run(job="Case 007 B")]
TWO_INSTANCES = [run(job="Case 007 - 1", instance=0), run(job="Case 007 - 2", instance=1)]
LATER_INSTANCE = run(job="Case 007 - 3", at=20, instance=1)
OTHERS = run(1, RunState.STOPPED, caller=None, stops=[Stop(NOON + 60, None)])
VALID = {
    "a job that ran once": history(Kind.RUN, success(FIRST), [FIRST]),
    "a stopped run and its replacement": history(Kind.RUN, success(SECOND), [run(1, RunState.STOPPED), SECOND]),
    "a failed run and its replacement": history(Kind.FAILS_OFTEN, success(SECOND), [run(1, RunState.FAILED), SECOND]),
    "a job that cannot succeed": history(
        Kind.ALWAYS_FAILS, FAILED, [run(1, RunState.FAILED), run(2, RunState.FAILED, at=20)]
    ),
    "two jobs": history(Kind.START_JOBS, success(*TWO_JOBS), TWO_JOBS),
    "two instances": history(Kind.TEMPLATE, success(*TWO_INSTANCES), TWO_INSTANCES),
    "two instances, one of them replaced": history(
        Kind.TEMPLATE,
        success(TWO_INSTANCES[0], LATER_INSTANCE),
        [TWO_INSTANCES[0], run(1, RunState.STOPPED, job="Case 007 - 2", instance=1), LATER_INSTANCE],
    ),
    "a run after a user's run": history(Kind.WAITS, success(SECOND), [replace(FIRST, caller=None), SECOND]),
    "a joined run": history(Kind.JOINS, success(OTHERS, outcome="STOPPED"), [OTHERS], acted_at=NOON + 60),
    "a task marked failed": history(Kind.MARKED_FAILED, FAILED, [stopped_at(70)], acted_at=NOON + 65),
    "a task cleared while waiting": history(
        Kind.CLEARED_WAITING, success(SECOND), [run(1, RunState.STOPPED), SECOND], acted_at=NOON + 10
    ),
    "a task cleared after success": history(Kind.CLEARED_DONE, success(SECOND), [FIRST, SECOND], acted_at=NOON + 10),
}
INVALID = {
    "a second run": (Guarantee.ONE_RUN, history(Kind.RUN, success(SECOND), [FIRST, SECOND])),
    "no run": (Guarantee.ONE_RUN, history(Kind.RUN, success(FIRST), [])),
    "an unexpected failed run": (
        Guarantee.ONE_RUN,
        history(Kind.RUN, success(SECOND), [run(1, RunState.FAILED), SECOND]),
    ),
    "more failed runs than failing tries": (
        Guarantee.ONE_RUN,
        history(
            Kind.FAILS_OFTEN, success(run(4)), [*(run(n, RunState.FAILED, at=20 * n) for n in (1, 2, 3)), run(4, at=80)]
        ),
    ),
    "more runs than tries": (
        Guarantee.ONE_RUN,
        history(Kind.ALWAYS_FAILS, FAILED, [run(number, RunState.FAILED, at=20 * number) for number in (1, 2, 3, 4)]),
    ),
    "one of two jobs started twice": (
        Guarantee.ONE_RUN,
        history(Kind.START_JOBS, success(*TWO_JOBS), [*TWO_JOBS, run(2, at=20, job="Case 007 B")]),
    ),
    "a third instance": (
        Guarantee.ONE_RUN,
        history(Kind.TEMPLATE, success(*TWO_INSTANCES), [*TWO_INSTANCES, run(job="Case 007 - 3", instance=2)]),
    ),
    "a repeated instance": (
        Guarantee.NO_REPEAT,
        history(Kind.TEMPLATE, success(TWO_INSTANCES[0], LATER_INSTANCE), [*TWO_INSTANCES, LATER_INSTANCE]),
    ),
    "a second run instead of a join": (
        Guarantee.ONE_RUN,
        history(Kind.JOINS, success(OTHERS, outcome="STOPPED"), [OTHERS, SECOND], acted_at=NOON + 60),
    ),
    "a user's run stopped by a joining task": (
        Guarantee.OWN_RUNS,
        history(
            Kind.JOINS,
            success(OTHERS, outcome="STOPPED"),
            [replace(OTHERS, stops=[Stop(NOON + 60, OWN)])],
            acted_at=NOON + 65,
        ),
    ),
    "a successful run of a failed task": (Guarantee.ONE_RUN, history(Kind.RUN, FAILED, [FIRST])),
    "no run after the clear": (
        Guarantee.ONE_RUN,
        history(Kind.CLEARED_WAITING, success(FIRST), [FIRST], acted_at=NOON + 10),
    ),
    "a run after the task was marked failed": (
        Guarantee.ONE_RUN,
        history(
            Kind.MARKED_FAILED, FAILED, [run(1, RunState.STOPPED), run(2, RunState.STOPPED, at=200)], acted_at=NOON
        ),
    ),
    "a success of a stopped run": (
        Guarantee.CORRECT_SUCCESS,
        history(Kind.RUN, success(SECOND), [FIRST, run(2, RunState.STOPPED)]),
    ),
    "a success of a missing run": (
        Guarantee.CORRECT_SUCCESS,
        history(Kind.RUN, success(SECOND), [FIRST]),
    ),
    "a success without a result": (Guarantee.CORRECT_SUCCESS, history(Kind.RUN, success(), [FIRST])),
    "a success of a job that always fails": (
        Guarantee.CORRECT_SUCCESS,
        history(Kind.ALWAYS_FAILS, success(FIRST), [run(1, RunState.FAILED)]),
    ),
    "a task that is still deferred": (Guarantee.ENDS, history(Kind.RUN, TaskOutcome("deferred", 2), [FIRST])),
    "a task that was never tried": (Guarantee.ENDS, history(Kind.RUN, TaskOutcome("", 0), [])),
    "a run that is still active": (
        Guarantee.NO_ORPHANS,
        history(Kind.RUN, success(FIRST), [FIRST, run(2, RunState.ACTIVE)]),
    ),
    "a run that was not stopped": (
        Guarantee.NO_ORPHANS,
        history(Kind.MARKED_FAILED, FAILED, [run(1, RunState.ACTIVE)], acted_at=NOON + 3),
    ),
    "a run stopped too late": (
        Guarantee.NO_ORPHANS,
        history(Kind.MARKED_FAILED, FAILED, [stopped_at(4 + STOP_TIMEOUT)], acted_at=NOON + 3),
    ),
    "a run that outlived a clear": (
        Guarantee.NO_ORPHANS,
        history(
            Kind.CLEARED_WAITING,
            success(SECOND),
            [run(1), run(2, at=100)],
            acted_at=NOON + 10,
        ),
    ),
    "a failed task": (Guarantee.NOT_LOST, history(Kind.RUN, FAILED, [run(1, RunState.STOPPED)])),
    "a failed task that joined a run": (
        Guarantee.NOT_LOST,
        history(Kind.JOINS, FAILED, [OTHERS], acted_at=NOON + 60),
    ),
    "a task that was not cleared": (
        Guarantee.NOT_LOST,
        history(Kind.CLEARED_WAITING, success(FIRST), [FIRST]),
    ),
}


def result_of(*histories: CaseHistory) -> Result:
    return Result(
        plan=make_plan(1, SHORT),
        histories=histories,
        kill_counts={Target.TASK: 3},
        fault_hits={"html": 2},
        rejected=1,
        kill_seconds=60,
        recovery_seconds=30,
        database="sqlite",
        logs={("run_deferrable", 0): ["last log line"]},
    )


@pytest.mark.parametrize("history", VALID.values(), ids=VALID.keys())
def test_valid_history_has_no_violations(history):
    assert find_violations([history]) == []


@pytest.mark.parametrize(("guarantee", "history"), INVALID.values(), ids=INVALID.keys())
def test_invalid_history_has_violation(guarantee, history):
    violations = find_violations([history])
    assert guarantee in {violation.guarantee for violation in violations}
    assert all(violation.history is history for violation in violations)


def test_every_guarantee_can_be_violated():
    assert {guarantee for guarantee, _ in INVALID.values()} == set(Guarantee)


def test_violation_appears_in_table_and_details():
    _, history = INVALID["a second run"]
    result = result_of(VALID["a job that ran once"], history)
    console = Console(width=140)
    with console.capture() as capture:
        console.print(result_table(result))
    held, violated = (
        next(line for line in capture.get().splitlines() if guarantee.value in line)
        for guarantee in (Guarantee.ENDS, Guarantee.ONE_RUN)
    )
    assert "held" in held
    assert "held" not in violated
    text = "\n".join(describe_violations(result))
    for part in (
        "run_deferrable[0]",
        "success after 3 tries",
        "run 1 of Case 007",
        "run 2 of Case 007",
        "last log line",
    ):
        assert part in text


def test_table_without_violations_shows_all_guarantees_held():
    console = Console(width=140)
    with console.capture() as capture:
        console.print(result_table(result_of(*VALID.values())))
    assert capture.get().count("held") == len(Guarantee)


def test_seed_determines_plan():
    assert make_plan(3, LONG) == make_plan(3, LONG)
    assert make_plan(3, LONG) != make_plan(4, LONG)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "size", [SHORT, LONG, CLUSTER_SHORT, CLUSTER], ids=["short", "long", "short cluster", "cluster"]
)
def test_plan_covers_all_kinds_and_modes(seed, size):
    plan = make_plan(seed, size)
    assert size.runs <= plan.logical_runs <= size.runs + 5
    assert {case.kind for case in plan.cases} == set(Kind)
    assert {case.mode for case in plan.cases} == {"sync", "deferrable"}
    places = [(case.task_id, case.map_index) for case in plan.cases]
    assert len(set(places)) == len(places)


def test_plan_can_be_restricted_to_kinds():
    kinds = [Kind.BULK_RIVAL, Kind.WAITER, Kind.FAN_OUT]
    plan = make_plan(1, Size(runs=40, minutes=1, kinds=kinds))
    assert {case.kind for case in plan.cases} == set(kinds)
    assert 30 <= plan.logical_runs <= 50


@pytest.mark.parametrize("seed", range(20))
def test_rivals_overlap_and_at_most_one_restarts(seed):
    cases = [case for case in make_plan(seed, LONG).cases if case.kind in RIVALS]
    starters = Counter(name for case in cases for name in case.job_names)
    assert min(starters.values()) >= 2
    assert {case.kind for case in cases} == set(RIVALS)
    groups = Counter(case.job_names[0].split()[1] for case in cases if case.if_running == "restart")
    assert all(count == 1 for count in groups.values())


@pytest.mark.parametrize("seed", range(20))
def test_waiters_share_job(seed):
    cases = [case for case in make_plan(seed, LONG).cases if case.kind is Kind.WAITER]
    assert all(count == 4 for count in Counter(case.job_names for case in cases).values())
    assert {case.if_running for case in cases} == {"wait_then_start", "restart"}


def test_short_plan_kills_targets_of_system_test():
    targets = {kill.target for kill in make_plan(1, SHORT).kills}
    assert {Target.TASK, Target.WORKER, Target.TRIGGERER, Target.SANDBOX} < targets


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("size", "targets"),
    [
        (LONG, {Target.TASK, Target.WORKER, Target.TRIGGERER, Target.SCHEDULER, Target.MACHINE, Target.SANDBOX}),
        (CLUSTER, {Target.TASK, Target.WORKER, Target.SANDBOX, Target.UPGRADE, *CLUSTER_FAULTS}),
    ],
    ids=["one machine", "cluster"],
)
def test_all_targets_are_killed_outside_pauses(size, targets, seed):
    plan = make_plan(seed, size)
    assert {kill.target for kill in plan.kills} == targets
    assert [kill.at for kill in plan.kills] == sorted(kill.at for kill in plan.kills)
    assert not any(is_pause(kill.at) for kill in plan.kills)
    assert all(0 <= kill.pick < 1 for kill in plan.kills)
    assert [is_pause(at) for at in (0, KILL_PHASE - 1, KILL_PHASE, KILL_PHASE + PAUSE - 1, KILL_PHASE + PAUSE)] == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_sandbox_accepts_seed_and_faults_of_plan(tmp_path):
    plan = make_plan(5, LONG)
    jobs = load_seed(write_seed(tmp_path / "seed.json", plan)).jobs
    assert {job.name for job in jobs} == {name for case in plan.cases for name in case.job_names}
    assert len(parse_faults({"seed": 5, "rules": fault_rules(LONG.late)}).to_dict()["rules"]) == len(
        fault_rules(LONG.late)
    )


def test_results_of_all_operators_are_parsed():
    entry = {"job_id": "a", "run_count": 2, "outcome": "SUCCEEDED"}
    for result in (entry, [entry], {"template_id": "t", "instances": [entry]}):
        assert parse_results(result) == [RunResult("a", 2, "SUCCEEDED")]
    assert parse_results(None) == []
