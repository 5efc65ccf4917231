"""All cases as tasks: one mapped task for each kind and mode."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator

_OPERATORS = {
    operator.__name__: operator
    for operator in (ControlHubRunJobOperator, ControlHubStartJobsOperator, ControlHubRunJobTemplateOperator)
}

with DAG("chaos", schedule=None):
    for task in json.loads(Path(os.environ["CHAOS_TASKS"]).read_text(encoding="utf-8")):
        task["partial"]["retry_delay"] = timedelta(seconds=task["partial"]["retry_delay"])
        _OPERATORS[task["operator"]].partial(task_id=task["task_id"], **task["partial"]).expand_kwargs(task["mapped"])
