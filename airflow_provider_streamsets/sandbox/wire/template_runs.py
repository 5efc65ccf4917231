"""The history of a job template."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.job import Job, TemplateRun
from airflow_provider_streamsets.sandbox.schemas import Json, complete


def template_run_body(template: Job, run: TemplateRun) -> Json:
    """Return a ``JobTemplateRunHistoryJson``."""
    return complete(
        "JobTemplateRunHistoryJson",
        {
            "id": run.id,
            "jobTemplateId": template.id,
            "user": run.user,
            "time": run.at,
            "runCount": run.run_count,
            "configuration": run.configuration,
            "jobInstanceIds": list(run.job_ids),
        },
    )
