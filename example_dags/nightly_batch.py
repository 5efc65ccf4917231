"""
A nightly batch with a data-quality gate: data is published only after a complete load with few errors.

The load fails if there are too few records or too many errors, and it is stopped as soon as this is certain. So
``publish`` never processes a partially loaded table. If the previous run left an unacknowledged error, which would
prevent the start, the error is logged and acknowledged.

If the previous run is still active, or a user has started the job, the task waits for that run first.
"""

from __future__ import annotations

import datetime
import logging
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

log = logging.getLogger(__name__)

# In production, use a schedule such as "0 2 * * *".
with DAG("streamsets_nightly_batch", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    # [START howto_run_job_expect]
    load_orders = ControlHubRunJobOperator(
        task_id="load_orders",
        job_name="Nightly orders",
        runtime_parameters={"BATCH_SIZE": "2000"},
        acknowledge_errors=True,
        expect=[
            "output_count >= 50000",
            "error_ratio < 0.01",
            {"metric": "error_count", "comparison": "<", "threshold": 1000},
        ],
        stop_on_violation=True,
        if_running="wait_then_start",
        wait_timeout=datetime.timedelta(hours=2),
        force_stop_after=datetime.timedelta(minutes=3),
        deferrable=True,
        poll_interval=5,
    )
    # [END howto_run_job_expect]

    @task
    def publish(run: dict[str, Any]) -> int:
        """Publish the loaded data; runs only if the load has passed the gate."""
        loaded: int = run["metrics"]["output_count"]
        log.info("Publishing %d orders of run %d.", loaded, run["run_count"])
        return loaded

    @task(trigger_rule="one_failed")
    def hold_back() -> None:
        """Report that yesterday's orders remain published; runs only if the load has not passed the gate."""
        log.warning("Tonight's orders are not published; see the log of 'load_orders' for the metrics.")

    publish(load_orders.output)
    load_orders >> hold_back()
