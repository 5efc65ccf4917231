"""Collect the history of each case from the sandbox and Airflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.chaos.callers import Caller
from tests.chaos.faults import is_start
from tests.chaos.history import SLOW, CaseHistory, LostCall, Run, RunState, Stop, TaskOutcome
from tests.chaos.plan import INSTANCES, Case, Plan
from tests.chaos.task_table import TaskKey, TaskTable, parse_results

_HISTORY = "/jobrunner/rest/v1/job/{}/history"
_ERROR_STATUSES = ("INACTIVE_ERROR", "ACTIVATION_ERROR")
# These faults reject the request before it takes effect, and the response says so.
_REJECTED = ("too_many_requests", "unauthorized")
# Maximum duration of a slow call, in seconds.
_MAX_SLOW_CALL_SECONDS = 3.0


def collect(
    sandbox: SandboxProcess,
    table: TaskTable,
    plan: Plan,
    acted_at: Mapping[TaskKey, float],
    lost: Sequence[LostCall],
) -> list[CaseHistory]:
    """
    Return the history of each case.

    :param acted_at: times of user actions, by task
    :param lost: start calls whose responses may not have reached their tasks
    """
    tasks, results, pushed = table.read(), table.results(), table.pushed()
    runs = _runs(sandbox)
    histories = []
    for case in plan.cases:
        row = tasks.get(case.task_key)
        reported, other = parse_results(results.get(case.task_key)), pushed.get(case.task_key, ())
        outcome = TaskOutcome("", 0) if row is None else TaskOutcome(row.state, row.tries, reported, other)
        case_runs = [matched for run, values in runs if (matched := _match_case(run, values, case)) is not None]
        lost_by_case = [call for call in lost if call.caller.task_key == case.task_key]
        histories.append(CaseHistory(case, outcome, case_runs, acted_at.get(case.task_key), lost_by_case))
    return histories


def _match_case(run: Run, values: Mapping[str, Any], case: Case) -> Run | None:
    """Return the run if it belongs to a job or template instance of the case, otherwise None."""
    if case.kind not in INSTANCES:
        return run if run.job_name in case.job_names else None
    if not run.job_name.startswith(f"{case.name} - "):
        return None
    return Run(**{**vars(run), "instance": int(values["RECORDS"]) - case.records})


def _runs(sandbox: SandboxProcess) -> list[tuple[Run, Mapping[str, Any]]]:
    """Return the runs in the sandbox's start log in chronological order, each with the current job parameters."""
    starts, parameters = sandbox.starts(), {job["id"]: job["parameters"] for job in sandbox.state()["jobs"]}
    stops: dict[tuple[str, int], list[Stop]] = {}
    for stop in sandbox.stops():
        request = Stop(stop["time"] / 1000, Caller.parse(stop["caller"]))
        stops.setdefault((stop["job_id"], stop["run_count"]), []).append(request)
    bodies = {
        (job_id, body["runCount"]): body
        for job_id in {start["job_id"] for start in starts}
        for body in _read(sandbox, _HISTORY.format(job_id), len=1000)
    }
    runs = [
        (_run(start, bodies[key], stops.get(key, ())), parameters[start["job_id"]])
        for start in starts
        for key in [(start["job_id"], start["run_count"])]
    ]
    return sorted(runs, key=lambda pair: pair[0].started)


def _run(start: Mapping[str, Any], body: Mapping[str, Any], stops: Iterable[Stop]) -> Run:
    stops = tuple(stops)
    if body["status"] in _ERROR_STATUSES or (body["status"] == "INACTIVE" and body["color"] == "RED"):
        state = RunState.FAILED
    elif body["status"] != "INACTIVE":
        state = RunState.ACTIVE
    else:
        state = RunState.STOPPED if stops else RunState.SUCCEEDED
    finished = body["finishTime"]
    return Run(
        job_id=start["job_id"],
        job_name=start["job_name"],
        run_count=start["run_count"],
        started=start["time"] / 1000,
        state=state,
        ended=finished / 1000 if finished else None,
        caller=Caller.parse(start["caller"]),
        stops=stops,
    )


def lost_calls(
    hits: Iterable[Mapping[str, Any]], sandbox_kills: Iterable[float], gateway_timeout: float
) -> list[LostCall]:
    """
    Return the start calls whose responses may not have reached their tasks.

    :param hits: entries of the sandbox's fault log
    :param sandbox_kills: times at which the sandbox was killed, in epoch seconds; calls in progress got no response
    :param gateway_timeout: seconds after which a call can no longer take effect
    """
    calls = []
    for hit in hits:
        caller, fault, at = Caller.parse(hit["caller"]), hit["fault"], hit["time"] / 1000
        if caller is None or fault in _REJECTED or not is_start(hit["path"]):
            continue
        if fault in SLOW and any(at <= kill <= at + _MAX_SLOW_CALL_SECONDS for kill in sandbox_kills):
            fault = f"{fault} until the sandbox was killed"
        calls.append(LostCall(caller, hit["path"], fault, at, at + gateway_timeout))
    return calls


def _read(sandbox: SandboxProcess, path: str, **query: Any) -> list[dict[str, Any]]:
    response = sandbox.call("GET", path, **query)
    assert response.ok, response.text
    return list(response.json())
