"""The DAG's tasks as the DAG file reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.chaos.plan import BETWEEN_TRIES, INSTANCES, RETRIES, RETRIES_OF_HOPELESS, Case, Kind, Plan

DAG_ID = "chaos"
DAGS = Path(__file__).with_name("dags")
TASKS_VARIABLE = "CHAOS_TASKS"
# Seconds after the start of the DAG run, there is no run of somebody else to wait for any more.
_URGENT = (Kind.WAITS, Kind.WAITER)
_BULK = (Kind.START_JOBS, Kind.BULK_RIVAL)
_OPERATORS = {
    **dict.fromkeys(_BULK, "ControlHubStartJobsOperator"),
    **dict.fromkeys(INSTANCES, "ControlHubRunJobTemplateOperator"),
}
# Seconds between two tries in which a person acts.
_TIME_TO_ACT = 15


def write_tasks(file: Path, plan: Plan) -> Path:
    """Write one mapped task for the cases of each kind and mode."""
    by_task: dict[str, list[Case]] = {}
    for case in plan.cases:
        by_task.setdefault(case.task_id, []).append(case)
    tasks = [
        {
            "task_id": task_id,
            "operator": _OPERATORS.get(cases[0].kind, "ControlHubRunJobOperator"),
            "partial": _partial(cases[0]),
            "mapped": [case.arguments for case in sorted(cases, key=lambda case: case.map_index)],
        }
        for task_id, cases in by_task.items()
    ]
    file.write_text(json.dumps(tasks), "utf-8")
    return file


def _partial(case: Case) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "deferrable": case.deferrable,
        "poll_interval": 2,
        "metrics_timeout": 2,
        "retries": RETRIES_OF_HOPELESS if case.kind is Kind.HOPELESS else RETRIES,
        "retry_delay": _TIME_TO_ACT if case.kind in BETWEEN_TRIES else 1,
        "priority_weight": 10 if case.kind in _URGENT else 1,
    }
    if case.kind in _BULK:
        arguments["wait_for_completion"] = True
    elif case.kind is Kind.JOINS:
        arguments["accept_stopped"] = True
    return arguments
