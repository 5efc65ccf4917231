"""Gathering what has happened, case by case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dev.local_sandbox import SandboxProcess
from tests.chaos.history import CaseHistory, End, Run, TaskEnd
from tests.chaos.plan import Case, Kind
from tests.chaos.task_table import Place, TaskTable, deliveries_of

_HISTORY = "/jobrunner/rest/v1/job/{}/history"
_EVENTS = "/jobrunner/rest/v1/job/{}/jobStatusHistory"
_ENDED_BADLY = ("INACTIVE_ERROR", "ACTIVATION_ERROR")


def collect(
    sandbox: SandboxProcess, table: TaskTable, cases: Iterable[Case], acted: Mapping[Place, float]
) -> list[CaseHistory]:
    """
    Return the history of each case.

    :param acted: when a person has acted on a task
    """
    tasks, results = table.read(), table.results()
    runs = _runs_by_case(sandbox)
    histories = []
    for case in cases:
        place = (case.task_id, case.map_index)
        row = tasks.get(place)
        end = TaskEnd("", 0) if row is None else TaskEnd(row.state, row.tries, deliveries_of(results.get(place)))
        of_case = [_with_owner(run, case) for run in sorted(runs.get(case.name, []), key=lambda run: run.started)]
        histories.append(CaseHistory(case, end, of_case, acted.get(place)))
    return histories


def _with_owner(run: Run, case: Case) -> Run:
    # The first run of these jobs was started by hand.
    if case.kind in (Kind.WAITS, Kind.JOINS) and run.run_count == 1:
        return Run(**{**vars(run), "is_foreign": True})
    return run


def _runs_by_case(sandbox: SandboxProcess) -> dict[str, list[Run]]:
    """Return the starts in the sandbox's log by the name of their case, with which the names of its jobs begin."""
    starts = sandbox.starts()
    bodies: dict[tuple[str, int], dict[str, Any]] = {}
    for job_id in {start["job_id"] for start in starts}:
        for body in _read(sandbox, _HISTORY.format(job_id), len=1000):
            bodies[job_id, body["runCount"]] = body
    runs: dict[str, list[Run]] = {}
    for start in starts:
        name = " ".join(start["job_name"].split()[:2])
        runs.setdefault(name, []).append(_run(sandbox, start, bodies[start["job_id"], start["run_count"]]))
    return runs


def _run(sandbox: SandboxProcess, start: Mapping[str, Any], body: Mapping[str, Any]) -> Run:
    stops = [
        event["time"] / 1000
        for event in _read(sandbox, _EVENTS.format(body["id"]), len=1000)
        if event["status"] == "DEACTIVATING" and event["user"] is not None
    ]
    if body["status"] in _ENDED_BADLY or (body["status"] == "INACTIVE" and body["color"] == "RED"):
        end = End.FAILED
    elif body["status"] != "INACTIVE":
        end = End.GOES_ON
    else:
        end = End.STOPPED if stops else End.SUCCEEDED
    finished = body["finishTime"]
    return Run(
        job_id=start["job_id"],
        job_name=start["job_name"],
        run_count=start["run_count"],
        started=start["time"] / 1000,
        end=end,
        ended=finished / 1000 if finished else None,
        stop_asked=min(stops, default=None),
    )


def _read(sandbox: SandboxProcess, path: str, **query: Any) -> list[dict[str, Any]]:
    response = sandbox.call("GET", path, **query)
    assert response.ok, response.text
    return list(response.json())
