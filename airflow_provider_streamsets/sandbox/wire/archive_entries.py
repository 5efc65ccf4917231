"""What an archive of jobs says about one of them."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.schemas import FIELDS, Json, complete
from airflow_provider_streamsets.sandbox.wire.jobs import job_body
from airflow_provider_streamsets.sandbox.wire.pipelines import pipeline_body
from airflow_provider_streamsets.sandbox.world import Job, World


def archive_entry_body(world: World, job: Job, now: int) -> Json:
    """Return a ``JobEnvelopeWithConnectionsMetadataJson``: the job and the pipeline version that it runs."""
    seed = job.seed
    body = job_body(world, job, now)
    pipeline = pipeline_body(world, seed.pipeline, seed.version, definitions=True)
    return complete(
        "JobEnvelopeWithConnectionsMetadataJson",
        {
            "minimalJobJson": {field: body[field] for field in FIELDS["MinimalJobJson"]},
            "commitPipelineJson": complete(
                "CommitPipelineJson",
                {
                    "name": pipeline["name"],
                    "commitMessage": pipeline["commitMessage"],
                    "pipelineDefinition": pipeline["pipelineDefinition"],
                    "rulesDefinition": pipeline["currentRules"]["rulesDefinition"],
                    "fragment": False,
                    "sdcId": pipeline["sdcId"],
                    "failIfExists": False,
                    "executorType": pipeline["executorType"],
                },
            ),
            "connectionsMetadata": {},
        },
    )
