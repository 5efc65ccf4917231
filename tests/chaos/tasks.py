"""Write the task definitions that the DAG file reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.chaos.plan import BETWEEN_TRIES, INSTANCES, RETRIES, RETRIES_IF_ALWAYS_FAILING, Case, Kind, Plan

DAG_ID = "chaos"
DAGS = Path(__file__).with_name("dags")
TASKS_VARIABLE = "CHAOS_TASKS"
# These must start early: the runs that they wait for end within seconds.
_HIGH_PRIORITY = (Kind.WAITS, Kind.WAITER)
_BULK = (Kind.START_JOBS, Kind.BULK_RIVAL)
_OPERATORS = {
    **dict.fromkeys(_BULK, "ControlHubStartJobsOperator"),
    **dict.fromkeys(INSTANCES, "ControlHubRunJobTemplateOperator"),
}
# Seconds between two tries in which a user acts.
_ACTION_DELAY = 15


def write_tasks(file: Path, plan: Plan) -> Path:
    """Write one mapped task for each kind and mode."""
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
        "retries": RETRIES_IF_ALWAYS_FAILING if case.kind is Kind.ALWAYS_FAILS else RETRIES,
        "retry_delay": _ACTION_DELAY if case.kind in BETWEEN_TRIES else 1,
        "priority_weight": 10 if case.kind in _HIGH_PRIORITY else 1,
    }
    if case.kind in _BULK:
        arguments["wait_for_completion"] = True
    elif case.kind is Kind.JOINS:
        arguments["accept_stopped"] = True
    return arguments
