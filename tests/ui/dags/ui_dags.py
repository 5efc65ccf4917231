"""DAGs whose tasks reach every state that the pages show. Each test that changes a job has a task of its own."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

ARGUMENTS = {"schedule": None, "catchup": False, "default_args": {"poll_interval": 1, "deferrable": True}}

with DAG("warehouse", **ARGUMENTS):
    ControlHubRunJobOperator(task_id="load_orders", job_name="Orders to warehouse")
    ControlHubRunJobOperator(task_id="load_stock", job_name="Stock levels", deferrable=False)
    ControlHubRunJobOperator(task_id="load_customers", job_name="Customers nightly")
    ControlHubRunJobOperator(task_id="load_invoices", job_name="Invoices import")
    ControlHubRunJobOperator.partial(task_id="load_region").expand(
        job_name=["Returns Asia", "Returns Europe", "Returns America"]
    )

    @task
    def check_totals() -> str:
        """A task of another provider."""
        return "The totals are correct."

    check_totals()

with DAG("lake", **ARGUMENTS):
    ControlHubStartJobsOperator(
        task_id="load_payments", job_names=["Payments Asia", "Payments Europe", "Payments America"]
    )
    # More runs than a page of the list has rows.
    ControlHubStartJobsOperator(task_id="load_sensors", job_tag="sensors", metrics_timeout=0)

with DAG("actions", **ARGUMENTS):
    ControlHubRunJobOperator(task_id="stop", job_name="Clickstream to lake")
    ControlHubRunJobOperator(task_id="do_not_stop", job_name="Web logs to lake")
    ControlHubRunJobOperator(task_id="acknowledge", job_name="Ledger export")

with DAG("secret_payroll", **ARGUMENTS):
    ControlHubRunJobOperator(task_id="load_salaries", job_name="Salaries")
