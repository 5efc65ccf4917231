"""Gathering what has happened, case by case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dev.local_sandbox import SandboxProcess
from tests.chaos.callers import Caller
from tests.chaos.history import SLOW, CaseHistory, End, LostCall, Run, Stop, TaskEnd
from tests.chaos.plan import INSTANCES, Case, Plan
from tests.chaos.task_table import Place, TaskTable, deliveries_of
from tests.chaos.weather import is_start

_HISTORY = "/jobrunner/rest/v1/job/{}/history"
_ENDED_BADLY = ("INACTIVE_ERROR", "ACTIVATION_ERROR")
# Such a request is answered before it can have an effect, and the answer says so.
_REFUSED = ("too_many_requests", "unauthorized")
# Seconds for which a slow call is under way, at the most.
_SLOWEST = 3.0


def collect(
    sandbox: SandboxProcess,
    table: TaskTable,
    plan: Plan,
    acted: Mapping[Place, float],
    lost: Sequence[LostCall],
) -> list[CaseHistory]:
    """
    Return the history of each case.

    :param acted: when a person has acted on a task
    :param lost: the start calls whose answers may not have reached their tasks
    """
    tasks, results, pushed = table.read(), table.results(), table.pushed()
    runs = _runs(sandbox)
    histories = []
    for case in plan.cases:
        row = tasks.get(case.place)
        deliveries = deliveries_of(results.get(case.place))
        end = TaskEnd("", 0) if row is None else TaskEnd(row.state, row.tries, deliveries, pushed.get(case.place, ()))
        of_case = [placed for run, values in runs if (placed := _of_case(run, values, case)) is not None]
        lost_by_case = [call for call in lost if call.caller.place == case.place]
        histories.append(CaseHistory(case, end, of_case, acted.get(case.place), lost_by_case))
    return histories


def _of_case(run: Run, values: Mapping[str, Any], case: Case) -> Run | None:
    """Return a run if it is one of a case's jobs, or of an instance of its template; None if it is not."""
    if case.kind not in INSTANCES:
        return run if run.job_name in case.job_names else None
    if not run.job_name.startswith(f"{case.name} - "):
        return None
    return Run(**{**vars(run), "instance": int(values["RECORDS"]) - case.records})


def _runs(sandbox: SandboxProcess) -> list[tuple[Run, Mapping[str, Any]]]:
    """Return the starts in the sandbox's log, in the order of time, each with the latest parameters of its job."""
    starts, parameters = sandbox.starts(), {job["id"]: job["parameters"] for job in sandbox.state()["jobs"]}
    stops: dict[tuple[str, int], list[Stop]] = {}
    for stop in sandbox.stops():
        asked = Stop(stop["time"] / 1000, Caller.parse(stop["caller"]))
        stops.setdefault((stop["job_id"], stop["run_count"]), []).append(asked)
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
        caller=Caller.parse(start["caller"]),
        stops=stops,
    )


def lost_calls(
    hits: Iterable[Mapping[str, Any]], sandbox_kills: Iterable[float], gateway_timeout: float
) -> list[LostCall]:
    """
    Return the start calls whose answers may not have reached their tasks.

    :param hits: the requests that faults have hit, as the sandbox's log has them
    :param sandbox_kills: when the sandbox was killed, in epoch seconds: it has answered no call that was under way then
    :param gateway_timeout: seconds after which a call has no effect any more
    """
    calls = []
    for hit in hits:
        caller, fault, at = Caller.parse(hit["caller"]), hit["fault"], hit["time"] / 1000
        if caller is None or fault in _REFUSED or not is_start(hit["path"]):
            continue
        if fault in SLOW and any(at <= kill <= at + _SLOWEST for kill in sandbox_kills):
            fault = f"{fault} until the sandbox was killed"
        calls.append(LostCall(caller, hit["path"], fault, at, at + gateway_timeout))
    return calls


def _read(sandbox: SandboxProcess, path: str, **query: Any) -> list[dict[str, Any]]:
    response = sandbox.call("GET", path, **query)
    assert response.ok, response.text
    return list(response.json())
