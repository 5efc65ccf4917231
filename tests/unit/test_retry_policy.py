from __future__ import annotations

import inspect
from datetime import timedelta

import pytest

pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="retry policies need Airflow 3.3")

from airflow_provider_streamsets.control_hub import errors
from airflow_provider_streamsets.control_hub.errors import ControlHubRunFailedError, ControlHubUnavailableError
from airflow_provider_streamsets.control_hub.models import JobRun, Outcome
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.retry_policy import ControlHubRetryPolicy
from tests.unit.fakes.api_payloads import JOB_ID, JOB_NAME, run_json

DELAY = timedelta(minutes=10)
RETRIED = {"ControlHubUnavailableError"}
AS_WITHOUT_POLICY = {
    "ControlHubError",
    "ControlHubBulkError",
    "ControlHubConflictError",
    "ControlHubJobStateError",
    "ControlHubMetricsUnavailableError",
    "ControlHubRunFailedError",
    "ControlHubRunLostError",
    "ControlHubRunTimeoutError",
    "ControlHubUnexpectedResponseError",
}


def decide(error, **options):
    decision = ControlHubRetryPolicy(**options).evaluate(error, 1, 3)
    return decision.action.value, decision.retry_delay


def failed_run(message="", warnings=(), outcome=Outcome.FAILED):
    run = JobRun.from_wire(
        run_json(4, status="INACTIVE", color="RED", errorMessage=message, warnings=list(warnings), pipelineStatus=[])
    )
    return RunReport(JOB_ID, JOB_NAME, run, outcome).failure()


@pytest.mark.parametrize(
    "kind", [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
)
def test_every_error_has_a_decision(kind):
    action, _ = decide(kind("message"))
    name = kind.__name__
    assert action == ("retry" if name in RETRIED else "default" if name in AS_WITHOUT_POLICY else "fail")


def test_invalid_parameter_is_not_retried():
    assert decide(ValueError("'limit' must be an integer")) == ("fail", None)


def test_error_of_user_code_is_decided_by_airflow():
    assert decide(KeyError("day")) == ("default", None)


@pytest.mark.parametrize(
    ("delay", "retry_after", "expected"),
    [
        (None, None, None),
        (DELAY, None, DELAY),
        (DELAY, 30.0, DELAY),
        (DELAY, 3600.0, timedelta(hours=1)),
        (None, 30.0, timedelta(seconds=30)),
    ],
)
def test_outage_waits_as_long_as_control_hub_requests(delay, retry_after, expected):
    error = ControlHubUnavailableError("unavailable", retry_after=retry_after)
    assert decide(error, delay=delay) == ("retry", expected)


@pytest.mark.parametrize("code", ["JOBRUNNER_62 - Not responding engines", "JOBRUNNER_24 - Cannot failover"])
def test_lost_engine_is_retried(code):
    assert decide(failed_run("", [code]), delay=DELAY) == ("retry", DELAY)


@pytest.mark.parametrize(
    ("options", "action"),
    [
        ({}, "default"),
        ({"retry_codes": ["JDBC_34"]}, "retry"),
        ({"retry_codes": ["KAFKA_*", "JDBC_*"]}, "retry"),
        ({"retry_codes": ["KAFKA_*"]}, "fail"),
        ({"retry_stages": ["JDBCQueryConsumer_*"]}, "retry"),
        ({"retry_stages": ["Kafka*"]}, "fail"),
        ({"retry_codes": ["KAFKA_*"], "retry_stages": ["JDBCQueryConsumer_01"]}, "retry"),
    ],
)
def test_failed_run_is_retried_by_code_and_stage(options, action):
    error = failed_run("RUN_ERROR in stage JDBCQueryConsumer_01: JDBC_34 - Query failed")
    assert decide(error, **options) == (action, None)


def test_stopped_run_is_not_started_again():
    assert decide(failed_run(outcome=Outcome.STOPPED), retry_codes=["*"]) == ("fail", None)


def test_one_of_several_runs_decides():
    jdbc, kafka = failed_run("JDBC_34 - Query failed"), failed_run("KAFKA_01 - No broker")
    both = ControlHubRunFailedError("2 of 9 runs failed", failures=[jdbc, kafka])
    assert decide(both, retry_codes=["KAFKA_*"])[0] == "retry"
    assert decide(both, retry_codes=["HADOOPFS_*"])[0] == "fail"
    assert decide(both)[0] == "default"


def test_patterns_are_lists():
    with pytest.raises(ValueError, match="must be lists"):
        ControlHubRetryPolicy(retry_codes="JDBC_*")


def test_policy_is_a_parameter_of_operators():
    policy = ControlHubRetryPolicy()
    task = ControlHubRunJobOperator(task_id="task", job_name=JOB_NAME, retries=2, retry_policy=policy)
    assert task.retry_policy is policy
