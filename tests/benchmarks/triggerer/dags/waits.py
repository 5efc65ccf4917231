"""Wait for each of the running jobs with a mapped, deferred task."""

from __future__ import annotations

import json
import os
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor

_SETTINGS = json.loads(Path(os.environ["BENCH_TRIGGERER_SETTINGS"]).read_text(encoding="utf-8"))

with DAG("waits", schedule=None):
    ControlHubJobRunSensor.partial(
        task_id="wait",
        deferrable=True,
        accept_stopped=True,
        poke_interval=_SETTINGS["interval"],
        run_count=1,
    ).expand(job_id=_SETTINGS["job_ids"])
