"""Read the metrics of a run, the run history, and the live metrics of a streaming job."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_streamsets.operators.metrics import (
    ControlHubJobMetricsOperator,
    ControlHubJobRunHistoryOperator,
)
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

with DAG("streamsets_metrics_and_history", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    run_check = ControlHubRunJobOperator(
        task_id="run_check",
        job_name="Daily check",
        deferrable=True,
        poll_interval=5,
    )
    # [START howto_job_metrics]
    metrics_of_run = ControlHubJobMetricsOperator(
        task_id="metrics_of_run",
        job_name="Daily check",
        run_count="{{ ti.xcom_pull('run_check', key='run_count') }}",
        metrics=["pipeline.batchCount.counter", "pipeline.batchOutputRecords.meter.mean_rate"],
    )
    # [END howto_job_metrics]
    # [START howto_run_history]
    runs_before = ControlHubJobRunHistoryOperator(
        task_id="runs_before",
        job_name="Customers nightly",
        limit=10,
        include_events=True,
    )
    # [END howto_run_history]
    metrics_before = ControlHubJobMetricsOperator(
        task_id="metrics_before",
        job_name="Customers nightly",
        runs="all",
        limit=10,
    )
    # [START howto_live_metrics]
    ControlHubJobMetricsOperator(
        task_id="live_metrics",
        job_name="Web logs to lake",
        realtime=True,
    )
    # [END howto_live_metrics]

    @task
    def report(run: dict[str, Any], runs: list[dict[str, Any]], metrics: list[dict[str, Any]]) -> None:
        """Process the results: each is a dict, or a list of dicts with the newest run first."""
        log = logging.getLogger(__name__)
        log.info("Run %s: %s records out, %s", run["run_count"], run["output_count"], run["metrics"])
        written = {entry["run_count"]: entry["output_count"] for entry in metrics}
        for entry in runs:
            log.info(
                "Run %s, started by %s: %s after %s s, %s records",
                entry["run_count"],
                entry["user"],
                entry["outcome"],
                entry["duration"],
                written.get(entry["run_count"], "unknown"),
            )

    run_check >> metrics_of_run
    report(metrics_of_run.output, runs_before.output, metrics_before.output)
