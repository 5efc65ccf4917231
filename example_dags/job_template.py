"""
Fan out over a job template, with dynamic task mapping or without.

What is to be loaded is found out by a task. One task can start an instance of the template for each, wait for all of
them with one request at each look, and sum up their metrics; or each gets an Airflow task of its own, with a log, a
retry and a link of its own.
"""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator

ARGUMENTS = {"schedule": None, "catchup": False, "tags": ["streamsets"], "doc_md": __doc__}


@task
def regions() -> list[dict[str, str]]:
    """Return the runtime parameters of each instance."""
    return [{"REGION": region} for region in ("emea", "apac", "amer")]


with DAG("streamsets_job_template", **ARGUMENTS):
    # [START howto_job_template]
    ControlHubRunJobTemplateOperator(
        task_id="load_regions",
        job_name="Regional orders",
        runtime_parameters=regions(),
        suffix="PARAM_VALUE",
        suffix_parameter="REGION",
        job_tags=["regional"],
        on_failure="stop_others",
        delete_after_completion=True,
        poll_interval=5,
        deferrable=True,
    )
    # [END howto_job_template]


@task
def one_by_one(region: dict[str, str]) -> list[dict[str, str]]:
    """Return what one mapped task is to start: a list with one element."""
    return [region]


with DAG("streamsets_mapped_job_template", **ARGUMENTS):
    # [START howto_mapped_job_template]
    ControlHubRunJobTemplateOperator.partial(
        task_id="load_region",
        job_name="Regional orders",
        delete_after_completion=True,
        poll_interval=5,
        deferrable=True,
        map_index_template="{{ task.runtime_parameters[0]['REGION'] }}",
    ).expand(runtime_parameters=one_by_one.expand(region=regions()))
    # [END howto_mapped_job_template]
