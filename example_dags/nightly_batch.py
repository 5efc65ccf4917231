"""
A nightly batch with a data-quality gate: what is published has been loaded in full and with few errors.

The load fails when too little has arrived or too much of it was wrong, and it is stopped as soon as that can be known.
So ``publish`` never sees a half-loaded table. An error that the run of the night before has left, and which would keep
the job from being started, is logged and acknowledged.

If the run of the night before is still going on, or somebody has started the job by hand, that run is waited for first.
"""

from __future__ import annotations

import datetime
import logging
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

log = logging.getLogger(__name__)

# In earnest, the schedule would be "0 2 * * *".
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
        """Let others use what was loaded; runs only if it has passed the gate."""
        loaded: int = run["metrics"]["output_count"]
        log.info("Publishing %d orders of run %d.", loaded, run["run_count"])
        return loaded

    @task(trigger_rule="one_failed")
    def hold_back() -> None:
        """Tell somebody that yesterday's orders are still what is published; runs only if the gate was shut."""
        log.warning("The orders of tonight are not published; the log of 'load_orders' has the numbers.")

    publish(load_orders.output)
    load_orders >> hold_back()
