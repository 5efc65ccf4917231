"""
Run a Control Hub job: start it, wait for the run without occupying a worker, and use its metrics.

If a worker or triggerer is lost, the next try resumes the active run.
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
        """Process the result: outcome, duration and record counts of the run."""
        written = (metrics or {}).get("output_count")
        logging.getLogger(__name__).info("%s after %.1f s, %s records out", outcome, duration, written)
        return written

    # `load_orders.output` is the complete result; each of its keys is also a separate XCom.
    report(load_orders.output["outcome"], load_orders.output["duration"], load_orders.output["metrics"])
