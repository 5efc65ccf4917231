"""Ids that the hub makes of other ids."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.world import Job

ID_SEPARATOR = "__"


def engine_pipeline_id(job: Job) -> str:
    """Return the id that a job's pipeline has on its engine."""
    title = "".join(character for character in job.seed.pipeline.name if character.isalnum())[:9]
    return f"{title}{ID_SEPARATOR}{job.id.replace(':', ID_SEPARATOR)}"
