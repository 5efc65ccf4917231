"""The triggers that wait as ordered."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

from airflow.triggers.base import BaseTrigger

from airflow_provider_streamsets.control_hub import ControlHubError
from airflow_provider_streamsets.triggers.events import RunWaitEvent
from airflow_provider_streamsets.triggers.runs import ControlHubJobRunTrigger
from tests.benchmarks.waiting.contenders import Contender
from tests.benchmarks.waiting.orders import Event, Orders, WaitedRun
from tests.benchmarks.waiting.triggers import EmptyTrigger, PollingTrigger

_CONNECTION = "control_hub_bench"
_KINDS: dict[Contender, type[BaseTrigger]] = {
    Contender.PROVIDER: ControlHubJobRunTrigger,
    Contender.LOOPS: PollingTrigger,
    Contender.EMPTY: EmptyTrigger,
}


def triggers_for(orders: Orders) -> Iterator[BaseTrigger]:
    """Make the triggers, one after the other; each with arguments of its own, read from JSON as in Airflow."""
    connection = {
        "conn_type": "streamsets",
        "host": orders.url,
        "login": orders.credential_id,
        "password": orders.token,
        "extra": {} if orders.bulk_size is None else {"bulk_size": orders.bulk_size},
    }
    os.environ[f"AIRFLOW_CONN_{_CONNECTION.upper()}"] = json.dumps(connection)
    kind = _KINDS[orders.contender]
    for run in orders.runs:
        yield kind(**json.loads(json.dumps(_arguments(orders, run))))


def _arguments(orders: Orders, run: WaitedRun) -> dict[str, Any]:
    if orders.contender is Contender.PROVIDER:
        return {
            "control_hub_conn_id": _CONNECTION,
            "job_id": run.job_id,
            "job_name": run.job_name,
            "run_count": run.run_count,
            "poll_interval": orders.interval,
            "metrics_wait": 0.0,
        }
    if orders.contender is Contender.LOOPS:
        return {
            "url": orders.url,
            "credential_id": orders.credential_id,
            "token": orders.token,
            "job_id": run.job_id,
            "poll_interval": orders.interval,
        }
    return {}


def event_of(payload: dict[str, Any]) -> Event:
    """Return what a trigger has told, as it is reported."""
    now = time.time()
    if "status" in payload:
        return Event(payload["job_id"], now, payload["status"])
    event = RunWaitEvent.from_payload(payload)
    try:
        return Event(event.job_id, now, event.report_or_raise().outcome.value)
    except ControlHubError as error:
        return Event(event.job_id, now, None, str(error))
