"""
Run a Control Hub job: start it, wait for that run without holding a worker, and use its metrics.

A worker or triggerer that is lost costs nothing: the next try joins the run that goes on.
"""

from __future__ import annotations

import datetime
import logging
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

with DAG("streamsets_run_job", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    # [START howto_run_job]
    load_orders = ControlHubRunJobOperator(
        task_id="load_orders",
        job_name="Orders to warehouse",
        deferrable=True,
        poll_interval=5,
        retries=2,
        retry_delay=datetime.timedelta(minutes=1),
    )
    # [END howto_run_job]

    @task
    def report(run: dict[str, Any]) -> int | None:
        """Use the result: outcome, duration and record counts of the run."""
        metrics = run["metrics"] or {}
        logging.getLogger(__name__).info(
            "Run %s of %s: %s after %.1f s, %s records out",
            run["run_count"],
            run["job_name"],
            run["outcome"],
            run["duration"],
            metrics.get("output_count", "unknown"),
        )
        return metrics.get("output_count")

    report(load_orders.output)
