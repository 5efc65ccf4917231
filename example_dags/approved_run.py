"""Start a run only after a person has approved it in Airflow (Airflow 3.1)."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG

from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

with DAG("streamsets_approved_run", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    # [START howto_approve_run]
    approve = ApprovalOperator(
        task_id="approve",
        subject="Run 'Approved check' for {{ (dag_run.logical_date or dag_run.run_after) | ds }}?",
        body="Records are **written to production**.",
        # Without a response in time, nothing is started.
        defaults="Reject",
        response_timeout=timedelta(hours=8),
    )
    run_check = ControlHubRunJobOperator(
        task_id="run_check",
        job_name="Approved check",
        deferrable=True,
        poll_interval=5,
    )
    approve >> run_check
    # [END howto_approve_run]
