"""Create the triggers of a strategy."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

from airflow.triggers.base import BaseTrigger

from airflow_provider_streamsets.control_hub import ControlHubError
from airflow_provider_streamsets.polling import sender
from airflow_provider_streamsets.polling.request_rate import RequestRate
from airflow_provider_streamsets.triggers.events import RunsWaitEvent
from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger
from tests.benchmarks.waiting.protocol import Event, WaitedRun, WaitRequest
from tests.benchmarks.waiting.strategies import Strategy
from tests.benchmarks.waiting.triggers import EmptyTrigger, PollingTrigger

_CONNECTION = "control_hub_bench"
_TRIGGERS: dict[Strategy, type[BaseTrigger]] = {
    Strategy.PROVIDER: ControlHubRunsTrigger,
    Strategy.BACKOFF: ControlHubRunsTrigger,
    Strategy.LOOPS: PollingTrigger,
    Strategy.EMPTY: EmptyTrigger,
}


def _use_backoff_only() -> None:
    """Send requests without a request rate, and delay them after a 429 as after any other failure."""

    class Outage(sender._Outage):
        def failed(self, error: ControlHubError) -> None:
            self._log.failed(error)
            self._backoff.failed(error)

    mock.patch.object(sender, "_Outage", Outage).start()
    mock.patch.object(RequestRate, "rejected").start()
    mock.patch.object(sender, "_MAX_ATTEMPTS", 1).start()


def create_triggers(request: WaitRequest) -> Iterator[BaseTrigger]:
    """Yield the triggers; each gets its own arguments, parsed from JSON as in Airflow."""
    connection = {
        "conn_type": "streamsets",
        "host": request.url,
        "login": request.credential_id,
        "password": request.token,
        "extra": {} if request.bulk_size is None else {"bulk_size": request.bulk_size},
    }
    os.environ[f"AIRFLOW_CONN_{_CONNECTION.upper()}"] = json.dumps(connection)
    if request.strategy is Strategy.BACKOFF:
        _use_backoff_only()
    for run in request.runs:
        yield create_trigger(request, run)


def create_trigger(request: WaitRequest, run: WaitedRun) -> BaseTrigger:
    """Return the trigger for one run; :func:`create_triggers` must have been called."""
    return _TRIGGERS[request.strategy](**json.loads(json.dumps(_arguments(request, run))))


def _arguments(request: WaitRequest, run: WaitedRun) -> dict[str, Any]:
    if request.strategy in (Strategy.PROVIDER, Strategy.BACKOFF):
        return {
            "control_hub_conn_id": _CONNECTION,
            "runs": [[run.job_id, run.run_count, None, None, run.job_name]],
            "poll_interval": request.interval,
            "metrics_timeout": request.metrics_timeout,
        }
    if request.strategy is Strategy.LOOPS:
        return {
            "url": request.url,
            "credential_id": request.credential_id,
            "token": request.token,
            "job_id": run.job_id,
            "poll_interval": request.interval,
        }
    return {}


def parse_event(payload: dict[str, Any]) -> Event:
    """Convert the payload of a trigger event to an event of the protocol."""
    now = time.time()
    if "status" in payload:
        return Event(payload["job_id"], now, payload["status"])
    event = RunsWaitEvent.from_payload(payload)
    try:
        report = event.report_or_raise()
        # A status alone has no count of stage errors.
        has_metrics = report.metrics is not None and report.metrics.stage_errors_count is not None
        is_complete = has_metrics and bool(report.events)
        return Event(event.runs[0].job_id, now, report.outcome.value, is_complete=is_complete)
    except ControlHubError as error:
        return Event(event.runs[0].job_id, now, None, str(error))
