"""
Decide the outcome of an ended run by evidence (contract sections 10.3 and 18.32).

A stopped run ends ``INACTIVE`` and ``GRAY``, like a finished one. The evidence that distinguishes them is, in this
order, the last status of the pipeline on each engine, the pipeline statuses in the messages of the run's events, and
the user of the event that ended its active states.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_provider_streamsets.control_hub.models import JobRun, Outcome, RunEvent

_RUNNING_STATUSES = frozenset({"ACTIVATING", "ACTIVE"})
_ENGINE_REPORT = re.compile(r"^(.*?)\bstatus\b\W{0,3}([A-Z_]+)\b", re.DOTALL)
_PIPELINE_OUTCOMES = {"FINISHED": Outcome.SUCCEEDED, "STOPPED": Outcome.STOPPED, "STOPPING": Outcome.STOPPED}
# Statuses of unfinished pipelines; with such an engine, the outcome remains open.
_UNENDED_PIPELINES = frozenset({"STARTING", "RUNNING", "RETRY", "CONNECTING", "DISCONNECTING", "DISCONNECTED"})


@dataclass(frozen=True)
class OutcomeDecision:
    """
    Outcome of a run and its evidence.

    :param outcome: the outcome
    :param stopped_by: id of the user who requested a stop, if the events name one; the run may have succeeded before
        the stop took effect
    :param conflict: the contradicting evidence; empty if it agrees
    :param is_confirmed: whether there is evidence besides the status of the run
    """

    outcome: Outcome
    stopped_by: str | None = None
    conflict: str = ""
    is_confirmed: bool = True


def sort_events(events: Iterable[RunEvent]) -> list[RunEvent]:
    """Return events oldest first, keeping the order of events with the same time."""
    return sorted(events, key=lambda event: event.time.timestamp() if event.time else 0.0)


def decide_outcome(run: JobRun, events: Iterable[RunEvent]) -> OutcomeDecision:
    """
    Decide the outcome of an ended run.

    If the evidence contradicts itself, StreamSets' own rule decides: ``INACTIVE`` and not ``RED`` is a success.

    :param run: the run, with the last known engine pipelines
    :param events: its events, as far as Control Hub still has them
    """
    events = sort_events(events)
    stopped_by = stopping_user(run, events)
    if not run.is_success or _has_failed(events):
        return OutcomeDecision(Outcome.FAILED, stopped_by)
    evidence = {
        "engines": _pipeline_outcomes({pipeline.engine_id: pipeline.status for pipeline in run.engine_pipelines}),
        "event messages": _pipeline_outcomes(_reported_statuses(events)),
        f"a stop by user {stopped_by}": {Outcome.STOPPED} if stopped_by else set(),
    }
    outcomes = set().union(*evidence.values())
    if len(outcomes) < 2:
        outcome = next(iter(outcomes), Outcome.SUCCEEDED)
        return OutcomeDecision(outcome, stopped_by, is_confirmed=bool(outcomes))
    conflict = "; ".join(
        f"{source}: {' and '.join(sorted(outcome.value for outcome in found))}"
        for source, found in evidence.items()
        if found
    )
    return OutcomeDecision(Outcome.SUCCEEDED, stopped_by, conflict)


def stopping_user(run: JobRun, events: Iterable[RunEvent]) -> str | None:
    """
    Return the id of the user who ended the active states of a run, None if no event names one.

    Whether Control Hub adds the user who started a run to automatic events, too, is unknown (contract section 18.32).
    If that cannot be distinguished from a stop, no user is returned.

    :param run: the run, ended or not
    :param events: its events
    """
    events = sort_events(events)
    leaving = _leaving_events(events)
    active = [event.user for event in events if event.status == "ACTIVE"]
    automatic = set(active) if active and all(active) else set()
    starter = run.user or next((event.user for event in events if event.status == "ACTIVATING"), None)
    if len(leaving) > 1 and all(event.user and event.user == (starter or event.user) for event in leaving):
        return None
    # A stop request precedes the end, which Control Hub raises itself, unless the end is the only event.
    requests = leaving if len(leaving) == 1 else [event for event in leaving if event.status == "DEACTIVATING"]
    return next((event.user for event in requests if event.user and event.user not in automatic), None)


def _leaving_events(events: Sequence[RunEvent]) -> list[RunEvent]:
    """Return the events from the end of the active states to the end of the run, without a later acknowledgement."""
    leaving = []
    for event in events:
        if event.status not in _RUNNING_STATUSES and event.status != "ACTIVATION_ERROR":
            leaving.append(event)
        if event.status in {"INACTIVE", "INACTIVE_ERROR"}:
            break
    return leaving


def _has_failed(events: Sequence[RunEvent]) -> bool:
    """Return whether the run failed although its status does not show it, as after an acknowledgement."""
    statuses = [event.status for event in events]
    if "INACTIVE_ERROR" in statuses:
        return True
    if "ACTIVATION_ERROR" not in statuses:
        return False
    last = len(statuses) - 1 - statuses[::-1].index("ACTIVATION_ERROR")
    has_recovered = not _RUNNING_STATUSES.isdisjoint(statuses[last:]) or any(
        match and match[2] in _PIPELINE_OUTCOMES for match in map(_engine_report, events[last:])
    )
    return not has_recovered


def _engine_report(event: RunEvent) -> re.Match[str] | None:
    return _ENGINE_REPORT.search(event.message)


def _reported_statuses(events: Iterable[RunEvent]) -> dict[str, str]:
    """Return the last status in the messages of the events, by reporting engine."""
    return {match[1]: match[2] for match in map(_engine_report, events) if match}


def _pipeline_outcomes(statuses: Mapping[str, str]) -> set[Outcome]:
    found = {_PIPELINE_OUTCOMES[status] for status in statuses.values() if status in _PIPELINE_OUTCOMES}
    # One engine can finish while another one runs on until a user stops it.
    if found == {Outcome.SUCCEEDED} and not _UNENDED_PIPELINES.isdisjoint(statuses.values()):
        return set()
    return found
