"""
Load every region with one job template: a fan-out whose width only an earlier task knows.

``regions`` makes the list of parameter sets. ``load_regions`` starts an instance of the template for each of them in
one request, and waits for all of them in one task. ``load_region`` does the same as a mapped task, with one task
instance for each region: more to look at and to retry on its own, but also more for Airflow to schedule.
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
        """Return the runtime parameters of each instance; in earnest, this would ask a database."""
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
    ).expand(runtime_parameters=parameter_sets.map(lambda parameters: [parameters]))
    # [END howto_run_job_template_mapped]

    @task
    def report(together: dict[str, Any], apart: list[dict[str, Any]]) -> int:
        """Use the results: those of each instance, and the sums."""
        for run in together["instances"]:
            log.info("%s: %s, %s", run["job_name"], run["outcome"], run["metrics"])
        total: int = together["metrics"]["output_count"]
        log.info("%d records, and %d apart", total, sum(run["metrics"]["output_count"] for run in apart))
        return total

    # A list is what the results of a mapped task become when they are passed on.
    report(load_regions.output, load_region.output)
