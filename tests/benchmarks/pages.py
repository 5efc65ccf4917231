"""
``make bench-pages``: measures the page of all runs in Airflow's user interface.

The page is asked in process, with Airflow's database in SQLite and a sandbox in another process, once without and once
with answers that are cached. Each figure is the median of several answers. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from typing import Any

from rich.console import Console
from rich.table import Table

_home = tempfile.TemporaryDirectory(prefix="bench-pages-", ignore_cleanup_errors=True)
os.environ.update(AIRFLOW_HOME=_home.name, AIRFLOW__CORE__LOAD_EXAMPLES="False")

from airflow.api_fastapi.app import init_auth_manager  # noqa: E402 - reads the environment
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from airflow_provider_streamsets.plugins import app as pages_app  # noqa: E402
from airflow_provider_streamsets.plugins.sources import Sources  # noqa: E402
from tests.benchmarks.waiting.environment import WaitingEnvironment, waiting_environment  # noqa: E402
from tests.integration.airflow_rows import create_tables, store_tasks  # noqa: E402

_RUNS = 5_000
_ENDED = 4_000
"""Runs of tasks that have ended, besides."""
_REPEATS = 5
_LIMIT = 1.0
"""Seconds."""
_CONN_ID = "streamsets_bench"
_RENDERED = {"control_hub_conn_id": _CONN_ID}
_LIST = "/api/runs"
_REQUESTS = {
    "first 50 runs": (_LIST, {}),
    "page 50 of the waiting runs": (_LIST, {"state": "waiting", "offset": 2500}),
    "runs of a job by name": (_LIST, {"job": "Job 17"}),
    "health": ("/api/health", {}),
}


def _store(environment: WaitingEnvironment) -> None:
    marker = {"streamsets_conn_id": _CONN_ID}
    waiting = [{**marker, "job_id": run.job_id, "run_count": run.run_count} for run in environment.runs]
    store_tasks("waiting", waiting, state="deferred", rendered=_RENDERED)
    results = [
        {"job_id": f"{n}:bench", "job_name": f"Job {n}", "run_count": 1, "outcome": "SUCCEEDED", "duration": 60.0}
        for n in range(_ENDED)
    ]
    ended = [{**marker, "job_id": one["job_id"], "run_count": 1, "return_value": one} for one in results]
    store_tasks("ended", ended, state="success", rendered=_RENDERED)


def _ask(client: TestClient, environment: WaitingEnvironment, path: str, query: dict[str, Any]) -> tuple[float, int]:
    """Return the seconds of an answer, and the requests that it needed."""
    environment.reset_requests()
    began = time.perf_counter()
    client.get(path, params=query).raise_for_status()
    return time.perf_counter() - began, environment.requests_served()


def main() -> int:
    """Print the figures and return the exit code."""
    create_tables()
    token = init_auth_manager().generate_jwt(SimpleAuthManagerUser(username="admin", role="admin"))
    client = TestClient(pages_app.create_app(), headers={"Authorization": f"Bearer {token}"})
    table = Table("Request", "s, first", "s, again", "Requests, first", "Requests, again")
    is_met = True
    with waiting_environment(_RUNS, provider_only=True) as environment:
        os.environ[f"AIRFLOW_CONN_{_CONN_ID.upper()}"] = environment.sandbox.airflow_conn
        _store(environment)
        limit = 20 + _RUNS // 100
        for name, (path, query) in _REQUESTS.items():
            first: list[tuple[float, int]] = []
            again: list[tuple[float, int]] = []
            for _ in range(_REPEATS):
                pages_app._sources = Sources()
                first.append(_ask(client, environment, path, query))
                again.append(_ask(client, environment, path, query))
            seconds, requests = (statistics.median(values) for values in zip(*first, strict=True))
            seconds_again, requests_again = (statistics.median(values) for values in zip(*again, strict=True))
            is_met = is_met and (seconds <= _LIMIT or path != _LIST) and requests <= limit
            table.add_row(name, f"{seconds:.2f}", f"{seconds_again:.2f}", f"{requests:.0f}", f"{requests_again:.0f}")
    console = Console(highlight=False)
    console.print(f"{_RUNS:,} waiting runs, {_ENDED:,} ended ones. Goals: {limit} requests; lists in {_LIMIT:g} s.")
    console.print(table)
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
