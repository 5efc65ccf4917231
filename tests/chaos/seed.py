"""Seed of the sandbox: one pipeline and the jobs of all cases."""

from __future__ import annotations

import json
from pathlib import Path

from tests.chaos.plan import INSTANCES, RATE, Plan


def write_seed(file: Path, plan: Plan) -> Path:
    """Write the sandbox seed with the jobs of all cases."""
    constants = {"RECORDS": "", "FAILS_AFTER": ""}
    jobs = {name: case for case in plan.cases for name in case.job_names}
    seed = {
        "organization": {"name": "Chaos", "user": {"name": "Airflow", "email": "airflow@example.com"}},
        "engines": [{"name": "sdc", "url": "http://sdc.example.com:18630", "labels": ["all"]}],
        "pipelines": [
            {
                "name": "Batch",
                "versions": [{"message": "First version", "committed": "1d", "constants": constants}],
                "behaviour": {
                    "kind": "batch",
                    "records": 40,
                    "rate": RATE,
                    "activation": "500ms",
                    "deactivation": "500ms",
                },
            }
        ],
        "jobs": [
            {
                "name": name,
                "pipeline": "Batch",
                "stats_interval": "1s",
                "template": case.kind in INSTANCES,
                # Tasks retry jobs that fail deliberately.
                "needs_ack": False,
                "parameters": {"RECORDS": str(case.records), "FAILS_AFTER": ""},
            }
            for name, case in jobs.items()
        ],
    }
    file.write_text(json.dumps(seed), "utf-8")
    return file
