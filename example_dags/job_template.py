"""
Load every region with one job template: a fan-out whose width is determined at run time.

``regions`` returns the list of parameter sets. ``load_regions`` starts one template instance for each set in a single
request and waits for all of them in one task. ``load_region`` does the same as a mapped task with one task instance for
each region. Mapped instances have their own logs and retries, but Airflow has more tasks to schedule.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator

log = logging.getLogger(__name__)

with DAG("streamsets_job_template", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):

    @task
    def regions() -> list[dict[str, str]]:
        """Return the runtime parameters of each instance; in production, query a database, for example."""
        return [{"REGION": region, "RECORDS": "5000"} for region in ("north", "east", "south")]

    parameter_sets = regions()

    # [START howto_run_job_template]
    load_regions = ControlHubRunJobTemplateOperator(
        task_id="load_regions",
        job_name="Regional orders",
        runtime_parameters=parameter_sets,
        instance_name="Nightly region",
        suffix="PARAM_VALUE",
        suffix_parameter="REGION",
        if_instance_fails="stop_others",
        delete_after_completion=True,
        deferrable=True,
        poll_interval=5,
    )
    # [END howto_run_job_template]

    # [START howto_run_job_template_mapped]
    load_region = ControlHubRunJobTemplateOperator.partial(
        task_id="load_region",
        job_name="Regional orders",
        suffix="PARAM_VALUE",
        suffix_parameter="REGION",
        delete_after_completion=True,
        deferrable=True,
        poll_interval=5,
        map_index_template="{{ task.runtime_parameters[0]['REGION'] }}",
    ).expand(runtime_parameters=parameter_sets.map(lambda parameters: [parameters]))
    # [END howto_run_job_template_mapped]

    @task
    def report(combined: dict[str, Any], mapped: list[dict[str, Any]]) -> int:
        """Process the results of each instance and the totals."""
        for run in combined["instances"]:
            log.info("%s: %s, %s", run["job_name"], run["outcome"], run["metrics"])
        total: int = combined["metrics"]["output_count"]
        log.info(
            "%d records in one task, %d in mapped tasks", total, sum(run["metrics"]["output_count"] for run in mapped)
        )
        return total

    # The output of a mapped task is passed as a list.
    report(load_regions.output, load_region.output)
