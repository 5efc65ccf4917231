"""Give each site's run a partition of an asset, and start a DAG for each partition (Airflow 3.3)."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, PartitionedAssetTimetable, task

from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

# [START howto_asset_partitions]
archive = Asset(name="sensor_archive", uri="s3://lake/sensors")

with DAG("streamsets_archive_sites", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    ControlHubRunJobOperator.partial(
        task_id="archive_site",
        job_name="Sensors archive",
        outlets=[archive],
        # One run of the job at a time.
        max_active_tis_per_dagrun=1,
        deferrable=True,
        poll_interval=5,
    ).expand_kwargs(
        [{"runtime_parameters": {"SITE": site}, "partition_key": site} for site in ("north", "south")],
    )

with DAG(
    "streamsets_after_site",
    schedule=PartitionedAssetTimetable(assets=archive),
    catchup=False,
    tags=["streamsets"],
    doc_md=__doc__,
):

    @task
    def report(dag_run: Any = None, triggering_asset_events: Any = None) -> dict[str, int]:
        """Return the number of records that were archived for this site."""
        runs = [event.extra["payload"] for events in triggering_asset_events.values() for event in events]
        return {dag_run.partition_key: sum(run["metrics"]["output_count"] for run in runs)}

    report()
# [END howto_asset_partitions]
