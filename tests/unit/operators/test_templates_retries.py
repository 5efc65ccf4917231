"""Retries of a template fan-out: each instance is started once, and again only if it did not succeed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout, TaskDeferred

from airflow_provider_streamsets.control_hub import (
    ControlHubAmbiguousStartError,
    ControlHubBulkError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubRunFailedError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from tests.unit.fakes.multi_job_hub import (
    JR,
    TEMPLATE_ID,
    TEMPLATE_NAME,
    MultiJobHub,
    active,
    deactivating,
    errored,
    failed,
    job_id,
    succeeded,
)
from tests.unit.fakes.single_job_hub import HUB, ME, T0
from tests.unit.fakes.task_runner import TaskRunner, patch_clock

pytestmark = pytest.mark.usefixtures("connection")
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
CREATE = f"{HUB}/jobrunner/rest/v1/job/{TEMPLATE_ID}/createAndStartJobInstances"
HISTORY = f"{HUB}/jobrunner/rest/v1/job/{TEMPLATE_ID}/runHistory"
A_B_C = [{"REGION": "a"}, {"REGION": "b"}, {"REGION": "c"}]
REFUSAL = {"status_code": 400, "json": {"ISSUES": [{"code": "JOBRUNNER_36", "message": "no engine"}]}}


class LostError(BaseException):
    """The process is gone: nothing of it runs on."""


@pytest.fixture
def clock(monkeypatch):
    return patch_clock(monkeypatch)


@pytest.fixture
def hub(http):
    return MultiJobHub(http)


@pytest.fixture
def run(clock, context):
    """Runs one try of the task; the next one is a later try."""
    context["ti"].max_tries = 3

    def run_try(**arguments: Any) -> Any:
        try:
            return TaskRunner(clock, lambda: operator(**arguments), context).run()
        finally:
            context["ti"].try_number += 1

    return run_try


def operator(**arguments: Any) -> ControlHubRunJobTemplateOperator:
    if "number_of_instances" not in arguments:
        arguments.setdefault("runtime_parameters", A_B_C)
    arguments = {"job_id": TEMPLATE_ID, "metrics_timeout": 0, "deferrable": False, **arguments}
    return ControlHubRunJobTemplateOperator(task_id="task", **arguments)


def ids(result: dict[str, Any]) -> list[str]:
    return [instance["job_id"].removesuffix(":org") for instance in result["instances"]]


def regions(hub: MultiJobHub) -> list[list[str]]:
    """The regions of each start that was requested."""
    return [[values["REGION"] for values in body["runtimeParametersList"]] for body in hub.created]


def end(hub: MultiJobHub, **statuses: dict[str, Any]) -> None:
    """Let the runs of instances be in these states from now on."""
    for name, status in statuses.items():
        name = name.replace("_", "-")
        hub.latest[job_id(name)], hub.scripts[job_id(name)] = hub._status(name, status), []


def lose(http, hub, run, *, after: bool = True, **arguments: Any) -> None:
    """Run a try whose process is lost in the start call, after or before the call has its effect."""

    def lost(request, answer):
        if after:
            hub._create(request, answer)
        raise LostError

    http.post(CREATE, text=lost)
    with pytest.raises(LostError):
        run(**arguments)
    http.post(CREATE, json=hub._create)


def restarted_by_other_user(hub: MultiJobHub, name: str, own: dict[str, Any]) -> None:
    """Let another user's second run of an instance be active, after the instance's own run has ended."""
    hub.history[name] = [active(2, user="another-user@org"), own]
    end(hub, **{name: active(2, user="another-user@org")})


# What a retry starts


@MODES
def test_retry_starts_only_failed_instances(hub, run, context, deferrable, task_log):
    sets = [{"REGION": f"r{number}"} for number in range(40)]
    hub.instance_scripts = [[failed() if number in (3, 17, 39) else succeeded()] for number in range(40)]
    for number in range(1, 44):
        hub.saves(f"instance-{number}", outputCount=1)
    with pytest.raises(ControlHubRunFailedError, match="3 of 40 runs did not succeed"):
        run(runtime_parameters=sets, deferrable=deferrable)
    task_log()
    result = run(runtime_parameters=sets, deferrable=deferrable)
    assert [len(started) for started in regions(hub)] == [40, 3]
    assert regions(hub)[1] == ["r3", "r17", "r39"]
    expected = [f"instance-{number}" for number in range(1, 41)]
    expected[3], expected[17], expected[39] = "instance-41", "instance-42", "instance-43"
    assert ids(result) == expected
    assert {instance["outcome"] for instance in result["instances"]} == {"SUCCEEDED"}
    assert result["metrics"]["output_count"] == 40
    assert context["ti"].xcoms["job_ids"] == list(map(job_id, expected))
    assert context["ti"].xcoms["run_counts"] == {job_id(name): 1 for name in expected}
    log = task_log()
    assert "Keeping 37 of 40 instances" in log
    assert "'Regional orders - 1' (instance-1:org), " in log
    assert "and 27 more" in log
    assert "Starting new instances for 3 of 40 sets of parameters: numbers 4, 18, 40." in log
    assert "Instances not kept: 'Regional orders - 4' (instance-4:org), " in log


@MODES
def test_third_try_replaces_failed_instances_of_second(hub, run, deferrable):
    hub.instance_scripts = [[failed()], [succeeded()], [failed()], [succeeded()], [failed()], [succeeded()]]
    for _ in range(2):
        with pytest.raises(ControlHubRunFailedError):
            run(deferrable=deferrable)
    assert ids(run(deferrable=deferrable)) == ["instance-4", "instance-2", "instance-6"]
    assert regions(hub) == [["a", "b", "c"], ["a", "c"], ["c"]]


@MODES
def test_retry_all_restarts_all_instances(hub, run, deferrable):
    hub.instance_scripts = [[failed()], [succeeded()], [succeeded()]]
    with pytest.raises(ControlHubRunFailedError):
        run(deferrable=deferrable, retry="all")
    assert ids(run(deferrable=deferrable, retry="all")) == ["instance-4", "instance-5", "instance-6"]


def test_retry_all_waits_for_instances_of_lost_try(http, hub, run):
    hub.instance_scripts = [[failed()], [active(), succeeded()], [active(), succeeded()]]
    lose(http, hub, run, retry="all")
    end(hub, instance_1=failed())
    with pytest.raises(ControlHubRunFailedError, match="1 of 3"):
        run(retry="all")
    run(retry="all")
    assert [len(started) for started in regions(hub)] == [3, 3]


def test_failed_instance_is_replaced_without_acknowledgement(hub, run):
    hub.instance_scripts = [[errored()], [succeeded()], [succeeded()]]
    with pytest.raises(ControlHubRunFailedError):
        run()
    assert ids(run()) == ["instance-4", "instance-2", "instance-3"]
    assert hub.asked("acknowledgeErrors") == []
    assert hub.latest["instance-1:org"]["status"] == "INACTIVE_ERROR"


@MODES
@pytest.mark.parametrize("evidence", ["a user", "none"])
def test_retry_restarts_instances_stopped_by_task(hub, run, deferrable, evidence):
    hub.instance_scripts = [[failed()], [active()], [succeeded()]]
    hub.after_stop = {"instance-2": [succeeded()]}
    if evidence == "a user":
        hub.mark_stopped_by(ME, "instance-2")
    arguments = {"if_instance_fails": "stop_others", "accept_stopped": True, "deferrable": deferrable}
    with pytest.raises(ControlHubRunFailedError):
        run(**arguments)
    assert hub.asked("stopJobs") == [["instance-2"]]
    assert ids(run(**arguments)) == ["instance-4", "instance-5", "instance-3"]


def test_instance_finished_before_stop_is_kept(hub, run):
    hub.instance_scripts = [[failed()], [active()], [succeeded()]]
    hub.after_stop = {"instance-2": [succeeded()]}
    message = "Data Collector 'x' reported pipeline in status 'FINISHED'"
    hub.events["run-instance-2-1:org"] = [{"user": None, "time": T0, "message": message, "status": "DEACTIVATING"}]
    with pytest.raises(ControlHubRunFailedError):
        run(if_instance_fails="stop_others")
    assert ids(run(if_instance_fails="stop_others")) == ["instance-4", "instance-2", "instance-3"]


@pytest.mark.parametrize("accept_stopped", [True, False])
def test_keeps_instances_stopped_by_others_if_accepted(hub, run, accept_stopped):
    hub.instance_scripts = [[failed()], [succeeded()], [succeeded()]]
    hub.mark_stopped_by("another-user@org", "instance-2")
    with pytest.raises(ControlHubRunFailedError):
        run(accept_stopped=accept_stopped)
    replaced = "instance-2" if accept_stopped else "instance-5"
    assert ids(run(accept_stopped=accept_stopped))[:2] == ["instance-4", replaced]


def test_retry_after_kill_keeps_succeeded_instances(hub, clock, context, run, monkeypatch):
    hub.instance_scripts = [[succeeded()], [active()], [active()]]
    task = operator()
    monkeypatch.setattr("time.sleep", lambda seconds: task.on_kill())
    with pytest.raises(AirflowException, match="was killed while it waited"):
        task.execute(context)
    assert hub.asked("stopJobs") == [["instance-2", "instance-3"]]
    monkeypatch.setattr("time.sleep", clock.sleep)
    # Only the stop request of this task shows that they were stopped.
    end(hub, instance_2=succeeded(), instance_3=deactivating())
    assert ids(run()) == ["instance-1", "instance-4", "instance-5"]


@MODES
def test_retry_after_timeout_keeps_succeeded_instances(hub, run, deferrable):
    hub.instance_scripts = [[succeeded()], [active()], [succeeded()]]
    hub.after_stop = {"instance-2": [succeeded()]}
    with pytest.raises(ControlHubRunTimeoutError):
        run(wait_timeout=100, deferrable=deferrable)
    assert ids(run(wait_timeout=100, deferrable=deferrable)) == ["instance-1", "instance-4", "instance-3"]


def test_execution_timeout_on_worker_marks_stopped_instances(hub, context, run, monkeypatch, clock):
    hub.instance_scripts = [[succeeded()], [active()], [active()]]
    task = operator()

    def time_is_over(_):
        raise AirflowTaskTimeout

    monkeypatch.setattr("time.sleep", time_is_over)
    try:
        task.execute(context)
    except AirflowTaskTimeout:
        task.on_kill()
    monkeypatch.setattr("time.sleep", clock.sleep)
    end(hub, instance_2=succeeded(), instance_3=succeeded())
    assert ids(run()) == ["instance-1", "instance-4", "instance-5"]


@MODES
def test_retry_waits_for_active_instances(http, hub, run, deferrable):
    hub.instance_scripts = [[active(), active(), active(), succeeded()], [failed()], [active(), succeeded()]]
    lose(http, hub, run, deferrable=deferrable)
    end(hub, instance_2=failed())
    assert ids(run(deferrable=deferrable)) == ["instance-1", "instance-4", "instance-3"]
    assert hub.asked("stopJobs") == []


def test_retry_restarts_deleted_instance(hub, run):
    hub.instance_scripts = [[failed()], [succeeded()], [succeeded()]]
    with pytest.raises(ControlHubRunFailedError):
        run()
    hub._delete(["instance-2"], None)
    assert ids(run()) == ["instance-4", "instance-5", "instance-3"]


# Deleting


@MODES
def test_failed_try_with_retries_left_deletes_nothing(hub, run, deferrable):
    arguments = {"delete_after_completion": True, "deferrable": deferrable}
    hub.instance_scripts = [[failed()], [succeeded()], [succeeded()]]
    with pytest.raises(ControlHubRunFailedError):
        run(**arguments)
    assert hub.asked("deleteJobs") == []
    result = run(**arguments)
    assert hub.asked("deleteJobs") == [["instance-4", "instance-2", "instance-3"]]
    # Airflow has not noted the success, and so tries again.
    assert run(**arguments) == result


@pytest.mark.parametrize(("max_tries", "retry"), [(0, "failed"), (3, "all")])
def test_deletes_succeeded_instances_no_retry_keeps(hub, run, context, max_tries, retry):
    context["ti"].max_tries = max_tries
    hub.instance_scripts = [[failed()], [succeeded()], [succeeded()]]
    with pytest.raises(ControlHubRunFailedError):
        run(delete_after_completion=True, retry=retry)
    assert hub.asked("deleteJobs") == [["instance-2", "instance-3"]]


# What a person does


def test_clear_restarts_all_instances(hub, run, context):
    hub.instance_scripts = [[failed()], [succeeded()], [succeeded()]]
    with pytest.raises(ControlHubRunFailedError):
        run()
    context["ti"].max_tries = 6
    assert ids(run()) == ["instance-4", "instance-5", "instance-6"]
    assert hub.asked("stopJobs") == []


def test_clear_stops_active_instances_despite_failed_try(http, hub, run, context):
    hub.instance_scripts = [[active()], [succeeded()], [succeeded()]]
    lose(http, hub, run)
    end(hub, instance_1=active(), instance_2=succeeded(), instance_3=succeeded())
    context["ti"].max_tries = 6
    http.get(HISTORY, [{"json": hub._template_history}, {"status_code": 400, "json": REFUSAL["json"]}])
    with pytest.raises(ControlHubRejectedError):
        run()
    assert hub.asked("stopJobs") == [["instance-1"]]
    http.get(HISTORY, json=hub._template_history)
    hub.instance_scripts = []
    assert ids(run()) == ["instance-4", "instance-5", "instance-6"]


def test_clear_leaves_run_of_another_user(http, hub, run, context):
    lose(http, hub, run)
    restarted_by_other_user(hub, "instance-1", failed())
    end(hub, instance_2=succeeded(), instance_3=active())
    context["ti"].max_tries = 6
    run()
    assert hub.asked("stopJobs") == [["instance-3"]]


def test_retry_evaluates_own_run_despite_other_user(hub, run):
    hub.instance_scripts = [[failed()], [succeeded()], [succeeded()]]
    with pytest.raises(ControlHubRunFailedError):
        run()
    restarted_by_other_user(hub, "instance-1", failed())
    restarted_by_other_user(hub, "instance-2", succeeded())
    result = run()
    assert ids(result) == ["instance-4", "instance-2", "instance-3"]
    assert [instance["run_count"] for instance in result["instances"]] == [1, 1, 1]
    assert hub.asked("stopJobs") == []


@MODES
def test_retry_after_lost_try_waits_for_own_run(http, hub, run, deferrable):
    lose(http, hub, run, deferrable=deferrable)
    restarted_by_other_user(hub, "instance-2", succeeded())
    result = run(deferrable=deferrable)
    assert [(i["run_count"], i["outcome"]) for i in result["instances"]] == [(1, "SUCCEEDED")] * 3
    assert len(hub.created) == 1


@MODES
def test_timeout_leaves_run_of_another_user(http, hub, run, deferrable):
    hub.instance_scripts = [[active()], [active()], [active()]]
    lose(http, hub, run, deferrable=deferrable)
    end(hub, instance_1=active(), instance_3=active())
    restarted_by_other_user(hub, "instance-2", succeeded())
    with pytest.raises(ControlHubRunTimeoutError):
        run(wait_timeout=100, deferrable=deferrable)
    assert hub.asked("stopJobs") == [["instance-1", "instance-3"]]


def test_kill_leaves_run_of_another_user(hub, context, monkeypatch, clock):
    hub.instance_scripts = [[active()], [active()], [active()]]
    task = operator()

    def killed_meanwhile(_):
        restarted_by_other_user(hub, "instance-2", succeeded())
        task.on_kill()

    monkeypatch.setattr("time.sleep", killed_meanwhile)
    with pytest.raises(AirflowException, match="was killed"):
        task.execute(context)
    assert hub.asked("stopJobs") == [["instance-1", "instance-3"]]


def test_upgraded_instance_is_followed_and_kept(hub, run):
    hub.instance_scripts = [[failed()], [succeeded()], [succeeded()]]
    with pytest.raises(ControlHubRunFailedError):
        run()
    upgraded = {
        "previousJobStatusId": "run-instance-2-1:org",
        "currentJobStatusId": "run-instance-2-2:org",
        "status": "UPGRADE_SUCCESSFUL",
    }
    hub.history["instance-2"] = [succeeded(2, upgradeStatus=upgraded), succeeded()]
    end(hub, instance_2=succeeded(2, upgradeStatus=upgraded))
    result = run()
    assert ids(result) == ["instance-4", "instance-2", "instance-3"]
    assert [instance["run_count"] for instance in result["instances"]] == [1, 2, 1]


# A worker that is lost in the start call


@pytest.mark.parametrize(
    "values",
    [
        {"LIST": (1, 2), "NESTED": {1: "x", 2: {3: None}}},
        {"NUMBER": 1.0, "FLAG": True, "TEXT": "ü\ud800"},
        {"NUMBER": 1e3},
    ],
    ids=["tuples and numbers as names", "numbers and letters", "an exponent"],
)
def test_lost_start_is_matched_by_serialized_values(http, hub, run, values):
    sets = [{**values, "REGION": "a"}, {**values, "REGION": "b"}]
    lose(http, hub, run, runtime_parameters=sets)
    assert ids(run(runtime_parameters=sets)) == ["instance-1", "instance-2"]
    assert len(hub.created) == 1


@MODES
def test_lost_start_is_matched_despite_rerendered_values(http, hub, run, deferrable):
    def sets(attempt):
        return [{"REGION": region, "TRY": attempt} for region in ("north", "south", "west")]

    hub.instance_scripts = [[succeeded()], [failed()], [succeeded()]]
    lose(http, hub, run, runtime_parameters=sets(1), deferrable=deferrable)
    end(hub, instance_1=succeeded(), instance_2=failed(), instance_3=succeeded())
    hub.starts[-1]["jobInstanceIds"].reverse()
    result = run(runtime_parameters=sets(2), deferrable=deferrable)
    assert ids(result) == ["instance-1", "instance-4", "instance-3"]
    assert hub.created[1]["runtimeParametersList"] == [{"REGION": "south", "SIZE": "10", "TRY": 2}]


def test_lost_start_is_matched_despite_changed_template(http, hub, run):
    lose(http, hub, run)
    hub.template["runtimeParameters"] = '{"REGION": "apac", "SIZE": "99"}'
    assert ids(run()) == ["instance-1", "instance-2", "instance-3"]
    assert len(hub.created) == 1


@MODES
def test_worker_lost_during_retry_starts_nothing_twice(http, hub, run, deferrable):
    hub.instance_scripts = [[failed()], [succeeded()], [failed()], [succeeded()], [succeeded()]]
    with pytest.raises(ControlHubRunFailedError):
        run(deferrable=deferrable)
    lose(http, hub, run, deferrable=deferrable)
    assert ids(run(deferrable=deferrable)) == ["instance-4", "instance-2", "instance-5"]
    assert regions(hub) == [["a", "b", "c"], ["a", "c"]]


def test_retry_repeats_start_that_never_arrived(http, hub, run):
    hub.instance_scripts = [[failed()], [succeeded()], [failed()]]
    with pytest.raises(ControlHubRunFailedError):
        run()
    lose(http, hub, run, after=False)
    assert ids(run()) == ["instance-4", "instance-2", "instance-5"]


def test_waits_for_lost_start_executed_late(http, hub, run, clock):
    lose(http, hub, run, after=False)
    hub.create({"runtimeParametersList": [{**own, "SIZE": "10"} for own in A_B_C], "name": None})
    http.get(HISTORY, [{"json": []}] * 20 + [{"json": hub._template_history}])
    assert ids(run()) == ["instance-1", "instance-2", "instance-3"]
    assert len(hub.created) == 1


def test_kill_while_reading_earlier_instances_stops_them(http, hub, context, run):
    hub.instance_scripts = [[active()], [succeeded()], [active()]]
    lose(http, hub, run)
    end(hub, instance_1=active(), instance_2=succeeded(), instance_3=active())
    task = operator()
    events = hub.events

    def killed_meanwhile(request, _):
        task.on_kill()
        return events.get(hub._id_in(request), [])

    http.get(f"{JR}/job/run-instance-2-1:org/jobStatusHistory", json=killed_meanwhile)
    with pytest.raises(AirflowException, match="was killed"):
        task.execute(context)
    assert hub.asked("stopJobs")[0] == ["instance-1", "instance-3"]
    assert len(hub.created) == 1


def test_reordered_parameter_sets_keep_their_instances(hub, run):
    hub.instance_scripts = [[failed()], [succeeded()], [succeeded()]]
    with pytest.raises(ControlHubRunFailedError):
        run()
    result = run(runtime_parameters=[A_B_C[2], A_B_C[0], A_B_C[1]])
    assert ids(result) == ["instance-3", "instance-4", "instance-2"]
    assert regions(hub)[1] == ["a"]


def test_changed_number_of_sets_is_matched_by_values(http, hub, run):
    hub.instance_scripts = [[active()], [succeeded()], [succeeded()]]
    lose(http, hub, run)
    end(hub, instance_1=active(), instance_2=succeeded(), instance_3=succeeded())
    result = run(runtime_parameters=[{"REGION": "new"}, A_B_C[2], {"REGION": "newer"}, A_B_C[1]])
    assert ids(result) == ["instance-4", "instance-3", "instance-5", "instance-2"]
    # No task waits for it any more.
    assert hub.asked("stopJobs") == [["instance-1"]]


def test_fewer_equal_sets_keep_succeeded_instances(hub, run):
    hub.instance_scripts = [[failed()], [succeeded()], [succeeded()]]
    with pytest.raises(ControlHubRunFailedError):
        run(number_of_instances=3)
    assert ids(run(number_of_instances=2)) == ["instance-2", "instance-3"]
    assert len(hub.created) == 1


def test_task_state_is_small_and_holds_no_values(hub, run, context):
    sets = [{"PASSWORD": f"secret-{number}" * 100} for number in range(500)]
    with pytest.raises(TaskDeferred):
        operator(runtime_parameters=sets, deferrable=True).execute(context)
    record = json.dumps(context["task_state_store"].values)
    assert "secret" not in record
    ids_alone = sum(len(f'"instance-{n}:org"') for n in range(1, 501))
    assert len(record) < 3 * ids_alone + 70 * 500


# Starts that are not, or may not be, those of this task


def start_of_another_task(hub: MultiJobHub, request: Any) -> None:
    """Start the same template with the same parameters and credential."""
    hub.create(request.json())


@pytest.fixture
def refused(http, hub):
    """The start call is refused while another task's one, with the same parameters, is accepted."""

    def refuse(request, answer):
        start_of_another_task(hub, request)
        answer.status_code = REFUSAL["status_code"]
        return REFUSAL["json"]

    def begin() -> None:
        http.post(CREATE, json=refuse)

    return begin


def test_rejected_start_claims_and_stops_nothing(http, hub, run, refused, context):
    hub.instance_scripts = [[active()]] * 3
    refused()
    context["ti"].max_tries = 1
    with pytest.raises(ControlHubRejectedError):
        run()
    assert context["task_state_store"].values == {}
    with pytest.raises(ControlHubRejectedError):
        run()
    assert hub.asked("stopJobs") == []
    http.post(CREATE, json=hub._create)
    context["ti"].max_tries = 4
    assert ids(run()) == ["instance-7", "instance-8", "instance-9"]


def test_kill_after_rejected_start_stops_nothing(http, hub, context, refused):
    hub.instance_scripts = [[active()]] * 3
    refused()
    task = operator()
    with pytest.raises(ControlHubRejectedError):
        task.execute(context)
    task.on_kill()
    assert hub.asked("stopJobs") == []


def test_kill_before_start_request_claims_nothing(http, hub, context, run, monkeypatch, clock):
    task = operator()
    store = context["task_state_store"]
    set_value = store.set

    def killed_while_it_is_recorded(*args, **kwargs):
        set_value(*args, **kwargs)
        task.on_kill()

    store.set = killed_while_it_is_recorded
    hub.instance_scripts = [[active()]] * 3
    http.get(HISTORY, [{"json": []}, {"json": hub._template_history}])
    with pytest.raises(AirflowException, match="killed before it started"):
        task.execute(context)
    store.set = set_value
    hub.create({"runtimeParametersList": [{**own, "SIZE": "10"} for own in A_B_C], "name": None})
    assert hub.asked("stopJobs") == []
    assert ids(run()) == ["instance-4", "instance-5", "instance-6"]


def test_rejected_retry_keeps_earlier_instances(http, hub, run, refused):
    hub.instance_scripts = [[failed()], [succeeded()], [succeeded()], [active()]]
    with pytest.raises(ControlHubRunFailedError):
        run()
    refused()
    with pytest.raises(ControlHubRejectedError):
        run()
    http.post(CREATE, json=hub._create)
    assert ids(run()) == ["instance-5", "instance-2", "instance-3"]
    assert hub.asked("stopJobs") == []


def test_rejected_last_try_stops_only_kept_instances(http, hub, run, refused, context):
    hub.instance_scripts = [[failed()], [active()], [succeeded()], [active()]]
    lose(http, hub, run)
    end(hub, instance_1=failed(), instance_2=active())
    refused()
    context["ti"].try_number = 4
    with pytest.raises(ControlHubRejectedError):
        run()
    assert hub.asked("stopJobs") == [["instance-2"]]


@pytest.fixture
def ambiguous(http, hub):
    """The answer to the start call is lost while another task makes the same call."""

    def lose_answer(request, answer):
        start_of_another_task(hub, request)
        hub.create(request.json())
        raise requests.exceptions.ReadTimeout

    hub.instance_scripts = [[active()]] * 6
    http.post(CREATE, text=lose_answer)


AMBIGUOUS_STARTS = (
    r"2 starts .*: start 1 \(instance-1:org, instance-2:org, instance-3:org\); start 2 \(instance-4:org, "
)


def test_ambiguous_starts_are_named_and_not_stopped(hub, run, ambiguous, context):
    for _ in range(2):
        with pytest.raises(ControlHubAmbiguousStartError, match=AMBIGUOUS_STARTS) as error:
            run()
        assert isinstance(error.value, ControlHubUnavailableError)
        assert error.value.maybe_executed
    context["ti"].try_number = 4
    with pytest.raises(ControlHubAmbiguousStartError, match=AMBIGUOUS_STARTS):
        run()
    assert hub.asked("stopJobs") == []
    assert len(hub.created) == 2


def test_kill_stops_no_ambiguous_start(hub, context, ambiguous, clock):
    task = operator()
    with pytest.raises(ControlHubAmbiguousStartError):
        task.execute(context)
    task.on_kill()
    assert hub.asked("stopJobs") == []


def test_clear_stops_no_ambiguous_start(http, hub, run, ambiguous, context, task_log):
    with pytest.raises(ControlHubAmbiguousStartError):
        run()
    http.post(CREATE, json=hub._create)
    context["ti"].max_tries = 6
    hub.instance_scripts = []
    assert ids(run()) == ["instance-7", "instance-8", "instance-9"]
    assert hub.asked("stopJobs") == []
    assert "Cannot determine which start" in task_log()


def test_kill_during_retry_stops_new_and_kept_instances(http, hub, run, context):
    hub.instance_scripts = [[failed()], [active()], [succeeded()], [active()]]
    lose(http, hub, run)
    end(hub, instance_1=failed(), instance_2=active(), instance_3=succeeded())
    task = operator()

    def killed_meanwhile(request, _):
        hub.create(request.json())
        end(hub, instance_4=active())
        task.on_kill()
        raise LostError

    http.post(CREATE, text=killed_meanwhile)
    with pytest.raises(LostError):
        task.execute(context)
    assert hub.asked("stopJobs") == [["instance-2", "instance-4"]]


@pytest.mark.parametrize("too_many", [False, True])
def test_start_of_wrong_number_is_stopped_and_repeated(http, hub, run, task_log, too_many):
    hub.instance_scripts = [[failed()], [succeeded()], [failed()], *[[active()]] * 3]
    hub.after_stop = {f"instance-{number}": [succeeded()] for number in (4, 5, 6)}
    with pytest.raises(ControlHubRunFailedError):
        run()

    def other_number(request, _):
        body = request.json()
        sets = body["runtimeParametersList"]
        body["runtimeParametersList"] = [*sets, sets[0]] if too_many else sets[:1]
        made = hub.create(body)
        end(hub, **{status["jobId"].removesuffix(":org"): active() for status in made})
        return made

    http.post(CREATE, json=other_number)
    with pytest.raises(ControlHubBulkError, match="Hub started 3 of 2" if too_many else "Hub started only 1 of 2"):
        run()
    stopped = ["instance-4", "instance-5", "instance-6"] if too_many else ["instance-4"]
    assert hub.asked("stopJobs") == [stopped]
    assert "for the next try" not in task_log()
    http.post(CREATE, json=hub._create)
    hub.instance_scripts = []
    result = run()
    assert ids(result)[1] == "instance-2"
    assert regions(hub)[-1] == ["a", "c"]


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("on_error", ["stop", "leave"])
def test_partial_start_of_last_try_is_stopped_once(http, hub, run, context, task_log, on_error, deferrable):
    def one_too_few(request, _):
        body = request.json()
        body["runtimeParametersList"].pop()
        made = hub.create(body)
        end(hub, **{status["jobId"].removesuffix(":org"): active() for status in made})
        return made

    http.post(CREATE, json=one_too_few)
    context["ti"].max_tries = 0
    with pytest.raises(ControlHubBulkError, match="Hub started only 2 of 3"):
        run(on_error=on_error, deferrable=deferrable)
    assert hub.asked("stopJobs") == [["instance-1", "instance-2"]]
    assert "Leaving" not in task_log()


# The runs of the record


def test_recorded_runs_need_no_template_or_parameter(http, hub, run, context):
    hub.instance_scripts = [[failed()], [active()], [active()], [active()]]
    lose(http, hub, run)
    end(hub, instance_1=failed(), instance_2=active(), instance_3=active())
    lose(http, hub, run)
    restarted_by_other_user(hub, "instance-3", succeeded())
    end(hub, instance_4=active())
    http.get(f"{JR}/job/{TEMPLATE_ID}", status_code=500)
    task = operator(job_id=None, job_name="{{ undefined }}", runtime_parameters="{{ broken }}")
    before = len(http.request_history)
    assert task.ownership.find_recorded_runs(context) == {"instance-2:org": 1, "instance-4:org": 1}
    assert not [
        r for r in http.request_history[before:] if r.path.endswith((TEMPLATE_ID, "/jobs")) and r.method == "GET"
    ]


@pytest.mark.parametrize(("max_tries", "stopped"), [(1, [["instance-1", "instance-3"]]), (3, [])])
def test_last_try_without_template_stops_earlier_instances(http, hub, run, context, max_tries, stopped):
    hub.instance_scripts = [[active()], [succeeded()], [active()]]
    lose(http, hub, run)
    end(hub, instance_1=active(), instance_2=succeeded(), instance_3=active())
    context["ti"].max_tries = max_tries
    store = context["task_state_store"]
    store.set("control_hub", {**store.get("control_hub"), "max_tries": max_tries})
    with pytest.raises(ControlHubNotFoundError):
        run(job_id=None, job_name="Renamed")
    assert hub.asked("stopJobs") == stopped


def test_last_try_failing_to_render_stops_earlier_instances(http, hub, run, context):
    hub.instance_scripts = [[active()], [succeeded()], [active()]]
    lose(http, hub, run)
    end(hub, instance_1=active(), instance_2=succeeded(), instance_3=active())
    context["ti"].try_number = 4
    task = operator(runtime_parameters="{{ 1 / 0 }}", retry="{{ 'all' }}")
    with pytest.raises(ZeroDivisionError):
        task.render_template_fields(context)
    assert hub.asked("stopJobs") == [["instance-1", "instance-3"]]


def test_recorded_runs_are_empty_before_first_start(hub, context):
    assert operator().ownership.find_recorded_runs(context) == {}


def test_recorded_runs_exclude_ambiguous_starts(hub, run, ambiguous, context):
    with pytest.raises(ControlHubAmbiguousStartError):
        run()
    assert operator().ownership.find_recorded_runs(context) == {}


def test_recorded_runs_raise_during_outage(http, hub, run, context):
    lose(http, hub, run)
    http.get(HISTORY, status_code=503)
    with pytest.raises(ControlHubError):
        operator().ownership.find_recorded_runs(context)


def test_task_with_other_template_stops_earlier_instances(http, hub, run):
    hub.instance_scripts = [[active()], [succeeded()], [active()]]
    lose(http, hub, run)
    end(hub, instance_1=active(), instance_2=succeeded(), instance_3=active())
    other = "other:org"
    http.get(f"{JR}/job/{other}", json={**hub.template, "id": other})
    http.get(f"{JR}/job/{other}/runHistory", json=[])
    http.post(f"{JR}/job/{other}/createAndStartJobInstances", json=hub._create)
    hub.instance_scripts = []
    assert ids(run(job_id=other)) == ["instance-4", "instance-5", "instance-6"]
    assert hub.asked("stopJobs") == [["instance-1", "instance-3"]]


# The parameter


@pytest.mark.parametrize("retry", ["failed", "all", "{{ mode }}"])
def test_renders_retry(hub, retry):
    task = operator(retry=retry)
    task.render_template_fields({"mode": "all"})
    assert task.retry == retry.replace("{{ mode }}", "all")


@pytest.mark.parametrize("retry", ["some", "", None, True])
def test_rejects_invalid_retry_at_parse(retry):
    with pytest.raises(ValueError, match="'retry' must be one of 'failed', 'all'"):
        operator(retry=retry)


def test_rejects_invalid_rendered_retry_before_requests(http, hub, context):
    task = operator(retry="{{ 'some' }}")
    task.render_template_fields({})
    with pytest.raises(ValueError, match="'retry' must be one of 'failed', 'all'"):
        task.execute(context)
    assert not http.request_history


def test_clear_during_start_without_wait_replaces_stopped_instance(http, hub, run):
    lose(http, hub, run, wait_for_completion=False)
    end(hub, instance_1=succeeded())
    hub.mark_stopped_by(ME, "instance-1")
    result = run(wait_for_completion=False)
    assert ids(result) == ["instance-4", "instance-2", "instance-3"]


def test_retry_without_wait_keeps_all_instances(hub, run):
    hub.instance_scripts = [[failed()], [succeeded()], [active()]]
    first = run(wait_for_completion=False)
    end(hub, instance_1=failed())
    hub._delete(["instance-2"], None)
    second = run(wait_for_completion=False)
    assert ids(second) == ids(first)
    assert second["template_name"] == TEMPLATE_NAME
    assert len(hub.created) == 1
