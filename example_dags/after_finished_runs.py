"""Schedule a DAG on finished runs of Control Hub jobs, whether Airflow started them or not."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_streamsets.assets.jobs import job_asset
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.triggers.job_events import ControlHubJobRunEventTrigger

# [START howto_watch_job]
# The id of the job "Inventory snapshot", from the URL of its page.
INVENTORY_JOB = "9de4c9f3-c9ce-5906-bbce-073c00880aac:bab21f86-74cd-5019-8714-cad83794eb01"

# Updated by every successful run, whether started by a user, by Control Hub's scheduler, or by Airflow.
inventory = job_asset(
    INVENTORY_JOB,
    name="inventory",
    watchers=[
        AssetWatcher(
            name="inventory_runs",
            trigger=ControlHubJobRunEventTrigger(job_id=INVENTORY_JOB, outcomes=["SUCCEEDED"], poll_interval=10),
        )
    ],
)
# [END howto_watch_job]

# [START howto_outlets]
# Updated by the task below after each of its runs.
checked_stock = Asset(name="checked_stock", uri="s3://warehouse/checked_stock")

with DAG("streamsets_check_stock", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    ControlHubRunJobOperator(task_id="check", job_name="Quick check", deferrable=True, outlets=[checked_stock])
# [END howto_outlets]

# [START howto_after_finished_runs]
with DAG(
    "streamsets_after_finished_runs",
    schedule=(inventory | checked_stock),
    catchup=False,
    tags=["streamsets"],
    doc_md=__doc__,
):

    @task
    def report(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        """Process the runs. A DAG run can have several events, and an event can contain several runs."""
        found = [event for events in triggering_asset_events.values() for event in events]
        runs = [run for event in found for run in event.extra["payload"]["runs"]]
        for run in runs:
            logging.getLogger(__name__).info(
                "Run %s of %s: %s, %s", run["run_count"], run["job_name"], run["outcome"], run["metrics"]
            )
        return runs

    report()
# [END howto_after_finished_runs]
