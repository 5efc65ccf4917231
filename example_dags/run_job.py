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
    def report(outcome: str, duration: float, metrics: dict[str, Any] | None) -> int | None:
        """Use the result: outcome, duration and record counts of the run."""
        written = (metrics or {}).get("output_count")
        logging.getLogger(__name__).info("%s after %.1f s, %s records out", outcome, duration, written)
        return written

    # The result as a whole is `load_orders.output`; each of its keys is an XCom of its own, too.
    report(load_orders.output["outcome"], load_orders.output["duration"], load_orders.output["metrics"])
