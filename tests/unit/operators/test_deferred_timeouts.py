"""A deferred task that times out: the triggerer stops its runs, because a worker may not be free for long."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_streamsets.control_hub import ControlHubRunTimeoutError
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from tests.unit.fakes.multi_job_hub import JR, MultiJobHub, active, deactivating, succeeded
from tests.unit.fakes.single_job_hub import JOB_ID, SingleJobHub, run_json
from tests.unit.fakes.task_runner import patch_clock, single_event

pytestmark = pytest.mark.usefixtures("connection")
A_AND_B: dict[str, Any] = {"job_ids": ["a:org", "b:org"]}


@pytest.fixture
def clock(monkeypatch):
    return patch_clock(monkeypatch)


@pytest.fixture
def wait_until_timeout(clock, context):
    """Runs a task until its trigger has fired; returns a function that resumes it."""

    def start(operator: type[Any], **arguments: Any) -> Any:
        arguments = {"task_id": "task", "deferrable": True, "wait_timeout": 100, "metrics_timeout": 0, **arguments}
        with pytest.raises(TaskDeferred) as deferred:
            operator(**arguments).execute(context)
        event = single_event(clock, deferred.value.trigger)
        return lambda: operator(**arguments).resume_execution(deferred.value.method_name, {"event": event}, context)

    return start


def test_triggerer_stops_run(http, wait_until_timeout, task_log):
    hub = SingleJobHub(http, latest=None, script=[run_json(1)])
    resume = wait_until_timeout(ControlHubRunJobOperator, job_id=JOB_ID)
    assert hub.stops == ["stop"]
    assert "Job 'Orders' run 1: stopping (wait_timeout of 100 s reached)." in task_log()
    with pytest.raises(ControlHubRunTimeoutError, match="run 1 has not ended within 100 s"):
        resume()
    assert hub.stops == ["stop"]
    assert "Job 'Orders' run 1: stopped by the triggerer (wait_timeout of 100 s reached)." in task_log()


def test_reached_limit_is_named(http, wait_until_timeout, task_log):
    SingleJobHub(http, latest=None, script=[run_json(1)])
    resume = wait_until_timeout(ControlHubRunJobOperator, job_id=JOB_ID, execution_timeout=timedelta(seconds=60))
    with pytest.raises(AirflowTaskTimeout):
        resume()
    assert "(execution_timeout of 60 s reached)" in task_log()


def test_triggerer_leaves_run_if_requested(http, wait_until_timeout):
    hub = SingleJobHub(http, latest=None, script=[run_json(1)])
    resume = wait_until_timeout(ControlHubRunJobOperator, job_id=JOB_ID, on_timeout="leave")
    with pytest.raises(ControlHubRunTimeoutError):
        resume()
    assert hub.stops == []


def test_triggerer_forces_stop_at_once_if_requested(http, wait_until_timeout):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [succeeded()]}
    wait_until_timeout(ControlHubStartJobsOperator, **A_AND_B, force_stop_after=0)
    assert [names for action, names in hub.done if action.startswith("forceStop")] == [["a"]]


@pytest.mark.parametrize("after_stop", [deactivating, succeeded], ids=["stopping", "stopped"])
def test_triggerer_stops_many_runs(http, wait_until_timeout, after_stop):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [succeeded()]}
    hub.after_stop = {"a": [after_stop()]}
    resume = wait_until_timeout(ControlHubStartJobsOperator, **A_AND_B)
    assert hub.asked("stopJobs") == [["a"]]
    with pytest.raises(ControlHubRunTimeoutError, match=r"1 of 2 runs have not ended within 100 s: job 'a'"):
        resume()
    assert hub.asked("stopJobs") == [["a"]]


def test_resumed_task_stops_run_that_triggerer_could_not_stop(http, wait_until_timeout, task_log):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [succeeded()]}
    stop = http.post(f"{JR}/jobs/stopJobs", status_code=403)
    resume = wait_until_timeout(ControlHubStartJobsOperator, **A_AND_B)
    assert "The resumed task stops the runs" in task_log()
    asked = stop.call_count
    with pytest.raises(ControlHubRunTimeoutError):
        resume()
    assert stop.call_count > asked
    assert hub.latest["a:org"]["status"] == "ACTIVE"


def test_next_try_replaces_run_that_triggerer_stopped(http, wait_until_timeout, context):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [succeeded()]}
    hub.after_stop = {"a": [succeeded()]}
    resume = wait_until_timeout(ControlHubStartJobsOperator, **A_AND_B)
    with pytest.raises(ControlHubRunTimeoutError):
        resume()
    hub.mark_stopped_by("me@org", "a")
    hub.after_start = {"a": [active(2)]}
    context["ti"].try_number = 2
    task = ControlHubStartJobsOperator(task_id="task", **A_AND_B, deferrable=False, wait_for_completion=False)
    assert [result["run_count"] for result in task.execute(context)] == [2, 1]
