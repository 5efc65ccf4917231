"""A DAG whose OpenLineage events are tested."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_streamsets.assets.jobs import job_asset
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator, ControlHubStopJobOperator

ORDERS = job_asset("9aaf0c53-90d4-5fda-bc98-e94bcd501655:bab21f86-74cd-5019-8714-cad83794eb01", name="orders")

with DAG("system_lineage", schedule=None, catchup=False, default_args={"poll_interval": 1}):
    ControlHubRunJobOperator(task_id="load_orders", job_name="Orders to warehouse", deferrable=True, outlets=[ORDERS])
    ControlHubRunJobOperator(task_id="load_customers", job_name="Customers nightly", deferrable=True)
    ControlHubStartJobsOperator(task_id="checks", job_names=["Ad clicks check", "Daily check"], deferrable=False)
    ControlHubRunJobOperator(
        task_id="stream", job_name="Clickstream to lake", wait_for="active", deferrable=True
    ) >> ControlHubStopJobOperator(task_id="stop", job_name="Clickstream to lake", deferrable=True)
