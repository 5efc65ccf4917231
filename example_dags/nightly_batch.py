"""
A nightly batch job with a gate for data quality.

The job runs every night. The task fails, with the numbers in its message, when the run has written too few records or
had too many errors; tasks after it do not run then. An error of the night before is acknowledged before the start, and
a run whose errors go beyond any hope is stopped at once.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

with DAG("streamsets_nightly_batch", schedule="0 2 * * *", catchup=False, tags=["streamsets"], doc_md=__doc__):
    # [START howto_expect]
    load_orders = ControlHubRunJobOperator(
        task_id="load_orders",
        job_name="Orders to warehouse",
        acknowledge_errors=True,
        expect=["output_count >= 1000", "error_ratio < 0.01", "total_error_count < 5000"],
        fail_fast=True,
        timeout=timedelta(hours=3),
        poll_interval=5,
        deferrable=True,
    )
    # [END howto_expect]

    @task
    def publish(run: dict[str, Any]) -> int:
        """Stands for what uses the records; it sees only runs that have passed the gate."""
        written = run["metrics"]["output_count"]
        logging.getLogger(__name__).info("%d good records, loaded by run %d", written, run["run_count"])
        return int(written)

    publish(load_orders.output)
