"""The tasks that the pages show, and the addresses of their pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import requests
from playwright.sync_api import Locator, Page

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import LocalAirflow, wait_until

OpenPage = Callable[..., Page]
Send = Callable[..., requests.Response]

CONNECTION_ID = "streamsets_default"
# As Airflow's own ids, with characters that must be quoted.
RUN_ID = "manual__2026-01-05T06:00:00.000000+00:00"
DAG_RUNS = dict.fromkeys(("warehouse", "lake", "actions", "secret_payroll"), RUN_ID)
SENSORS = 60
TIMEOUT = 120.0


@dataclass(frozen=True)
class Task:
    """A task instance, and its job if it has exactly one."""

    dag_id: str
    task_id: str
    map_index: int = -1
    job: str = ""

    @property
    def query(self) -> dict[str, Any]:
        """The parameters that identify it in the API of the plugin."""
        return {
            "dag_id": self.dag_id,
            "run_id": DAG_RUNS[self.dag_id],
            "task_id": self.task_id,
            "map_index": self.map_index,
        }

    @property
    def page(self) -> str:
        """The path of its page in Airflow."""
        mapped = f"/mapped/{self.map_index}" if self.map_index >= 0 else ""
        return f"/dags/{self.dag_id}/runs/{quote(DAG_RUNS[self.dag_id])}/tasks/{self.task_id}{mapped}"

    @property
    def tab(self) -> str:
        """The path of its tab "StreamSets"."""
        return f"{self.page}/plugin/streamsets"

    @property
    def standalone_page(self) -> str:
        """The path of the plugin's own page."""
        return f"/streamsets/run?{urlencode(self.query, quote_via=quote)}"


DEFERRED = Task("warehouse", "load_orders", job="Orders to warehouse")
RUNNING = Task("warehouse", "load_stock", job="Stock levels")
FAILED = Task("warehouse", "load_customers", job="Customers nightly")
SUCCEEDED = Task("warehouse", "load_invoices", job="Invoices import")
MAPPED = [
    Task("warehouse", "load_region", index, f"Returns {region}")
    for index, region in enumerate(("Asia", "Europe", "America"))
]
OTHER = Task("warehouse", "check_totals")
BULK = Task("lake", "load_payments")
MANY = Task("lake", "load_sensors")
STOP = Task("actions", "stop", job="Clickstream to lake")
DO_NOT_STOP = Task("actions", "do_not_stop", job="Web logs to lake")
ACKNOWLEDGE = Task("actions", "acknowledge", job="Ledger export")
SECRET = Task("secret_payroll", "load_salaries", job="Salaries")
"""A task that the viewer may not read."""
ACTIVE = (DEFERRED, RUNNING, BULK, STOP, DO_NOT_STOP, SECRET)
ENDED = (FAILED, SUCCEEDED, *MAPPED, OTHER, MANY, ACKNOWLEDGE)


class Scene:
    """
    The task instances of all DAG runs.

    :param airflow: the Airflow that runs them
    :param sandbox: their Control Hub
    """

    def __init__(self, airflow: LocalAirflow, sandbox: SandboxProcess) -> None:
        self.airflow = airflow
        self.sandbox = sandbox

    def state(self, task: Task) -> str:
        """Return the state of a task instance."""
        path = f"/dags/{task.dag_id}/dagRuns/{quote(DAG_RUNS[task.dag_id])}/taskInstances/{task.task_id}"
        if task.map_index >= 0:
            path += f"/{task.map_index}"
        return str(self.airflow.api("GET", path)["state"] or "")

    def wait_for(self, task: Task, state: str) -> Task:
        """Wait until a task instance has a state, and return it."""

        def has_state() -> bool:
            current = self.state(task)
            assert current == state or current not in {"success", "failed"}, f"{task} is {current}, not {state}"
            return current == state

        wait_until(has_state, f"{task} to be {state}", TIMEOUT)
        return task


def run_of(page: Page, job: str) -> Locator:
    """Return the view of a run of a job."""
    return page.get_by_role("article", name=re.compile(rf"^{re.escape(job)}.*, run \d+$"))


def fact(run: Locator, name: str) -> Locator:
    """Return the value of a named fact about a run."""
    return run.get_by_role("definition").and_(run.locator(f"dt:text-is({name!r}) + dd"))


def number(cell: Locator) -> int:
    """Return the number that an element shows."""
    return int(cell.inner_text().replace(",", ""))
