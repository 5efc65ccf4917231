"""DAGs for the system tests with their own Control Hub, in addition to the example DAGs."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.jobs import ControlHubCreateJobOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from airflow_provider_streamsets.retry_policy import ControlHubRetryPolicy
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor

DEFAULTS = {"control_hub_conn_id": "streamsets_system", "poll_interval": 1, "poke_interval": 1}
ARGUMENTS = {"schedule": None, "catchup": False, "default_args": DEFAULTS}

with DAG("system_batch", **ARGUMENTS):
    ControlHubRunJobOperator(task_id="run", job_name="Orders to warehouse", deferrable=True)

with DAG("system_stream", **ARGUMENTS):
    ControlHubRunJobOperator(task_id="run", job_name="Clickstream to lake", deferrable=True)

with DAG("system_stream_sync", **ARGUMENTS):
    ControlHubRunJobOperator(task_id="run", job_name="Clickstream to lake", deferrable=False)

with DAG("system_failing", **ARGUMENTS):
    for deferrable in (True, False):
        ControlHubRunJobOperator(
            task_id="deferred" if deferrable else "sync",
            job_name="Customers nightly" if deferrable else "Invoices import",
            deferrable=deferrable,
        )

with DAG("system_retry_policy", **ARGUMENTS):
    policy = ControlHubRetryPolicy(delay=timedelta(seconds=1), retry_codes=["JDBC_*"])
    ControlHubRunJobOperator(task_id="missing", job_name="No such job", retries=2, retry_policy=policy)
    ControlHubRunJobOperator(
        task_id="failing", job_name="Customers nightly", retries=1, retry_policy=policy, deferrable=True
    )

with DAG("system_timeout", **ARGUMENTS):
    ControlHubRunJobOperator(task_id="run", job_name="Clickstream to lake", deferrable=True, wait_timeout=5)

with DAG("system_sensors", **ARGUMENTS):
    start = ControlHubRunJobOperator(task_id="start", job_name="Quick check", wait_for_completion=False)
    for mode in ("poke", "reschedule", "deferrable"):
        start >> ControlHubJobRunSensor(
            task_id=mode,
            job_name="Quick check",
            mode="poke" if mode == "deferrable" else mode,
            deferrable=mode == "deferrable",
            poke_interval=10 if mode == "reschedule" else 1,
            timeout=600,
        )

with DAG("system_mapped", **ARGUMENTS):
    ControlHubRunJobOperator.partial(task_id="run", deferrable=True).expand_kwargs(
        [{"job_name": "Quick check"}, {"job_name": "Inventory snapshot"}]
    )

with DAG("system_template", **ARGUMENTS):
    create = ControlHubCreateJobOperator(
        task_id="create",
        pipeline_name="Orders to warehouse",
        job_name="Orders template",
        template=True,
        needs_acknowledgement=False,
        if_exists="skip",
    )
    create >> ControlHubRunJobTemplateOperator(
        task_id="run",
        job_name="Orders template",
        runtime_parameters=[{"FAILS_AFTER": "5000"}, {"RECORDS": "100000000"}, {"RECORDS": "100000000"}],
        if_instance_fails="stop_others",
        metrics_timeout=0,
        deferrable=True,
    )

with DAG("system_many", **ARGUMENTS):
    ControlHubStartJobsOperator(
        task_id="run",
        job_names=["Clickstream to lake", "Legacy feed"],
        wait_for_completion=True,
        metrics_timeout=0,
        deferrable=True,
    )

with DAG("system_without_worker", params={"run": 1}, **ARGUMENTS):
    for job_name in ("Clickstream to lake", "Customers nightly"):
        ControlHubJobRunSensor(
            task_id="stream" if job_name.startswith("Click") else "failing",
            job_name=job_name,
            run_count=None if job_name.startswith("Click") else "{{ params.run }}",
            accept_stopped=True,
            start_from_trigger=True,
            end_from_trigger=True,
            timeout=600,
        )

with DAG("system_without_worker_timeout", **ARGUMENTS):
    ControlHubJobRunSensor(
        task_id="stream",
        job_name="Legacy feed",
        run_count=1000,
        start_from_trigger=True,
        end_from_trigger=True,
        timeout=5,
    )
