"""A real Airflow on this machine: scheduler, triggerer, dag processor and api server, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess  # nosec B404 # runs programs of this project and its tools
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import requests

COMPONENTS = ("api-server", "scheduler", "triggerer", "dag-processor")
_BIN = Path(sys.executable).parent
_REPEATS = 5


class LocalAirflowError(Exception):
    """Airflow did not do what was expected of it; the message names its log files."""


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], what: str, timeout: float, interval: float = 0.5) -> Any:
    """
    Return the first true value of `condition`; one that times out has none yet.

    :param what: what is waited for, for the message
    :param timeout: seconds after which to give up
    :raises LocalAirflowError: if it does not come true in time
    """
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(requests.Timeout):
            value = condition()
            if value:
                return value
        if time.monotonic() > deadline:
            raise LocalAirflowError(f"After {timeout:g} s, still waiting for: {what}")
        time.sleep(interval)


class LocalAirflow:
    """
    Airflow with the LocalExecutor in a home of its own.

    :param home: folder for everything it writes; made if missing
    :param dags: folder of the DAG files
    :param environment: further environment variables, such as ``AIRFLOW_CONN_...``
    :param port: port of the api server; a free one by default
    :param database: SQLAlchemy URL of an empty database, such as that of :mod:`dev.local_postgres`; by default, SQLite
        in the home
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
        database: str | None = None,
    ) -> None:
        self.home = home
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._processes: dict[str, psutil.Popen] = {}
        self._session = requests.Session()
        self._session.trust_env = False
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
        self.environment = {
            **inherited,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            # The triggers of a killed triggerer are taken over after this time instead of half a minute.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database or f"sqlite:///{home / 'airflow.db'}",
            **(environment or {}),
        }

    def __enter__(self) -> LocalAirflow:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout: float = 300) -> None:
        """
        Make the database, start all components, and return when all of them are healthy.

        :param timeout: seconds that may take
        """
        self.home.mkdir(parents=True, exist_ok=True)
        self.run_command("db", "migrate")
        for component in COMPONENTS:
            self.start_component(component)
        wait_until(self._is_healthy, f"Airflow to become healthy. {self._where_logs_are}", timeout)
        self._log_in()

    def run_command(self, *arguments: str) -> str:
        """Run an ``airflow`` command to its end and return what it printed."""
        done = subprocess.run(  # nosec B603 # no shell, and arguments of our own
            [str(_BIN / "airflow"), *arguments],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LocalAirflowError(f"'airflow {' '.join(arguments)}' failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def start_component(self, component: str) -> None:
        """Start one of :data:`COMPONENTS`; its output goes to ``<component>.log`` in the home."""
        with (self.home / f"{component}.log").open("ab") as output:
            self._processes[component] = psutil.Popen(
                [str(_BIN / "airflow"), component],
                env=self.environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill_component(self, component: str) -> None:
        """Kill a component and its children at once, as the loss of its machine would."""
        _end([self._processes.pop(component)], patience=0)

    def restart_component(self, component: str) -> None:
        """Ask a component to end, as for a new release, and start it again."""
        _end([self._processes.pop(component)], patience=20)
        self.start_component(component)

    def pid(self, component: str) -> int:
        """Return the process id of a component that runs."""
        return int(self._processes[component].pid)

    def stop(self) -> None:
        """Stop everything that was started, by force where asking does not help."""
        _end(list(self._processes.values()), patience=5)
        self._processes.clear()
        self._session.close()

    @property
    def _where_logs_are(self) -> str:
        return f"Its logs are in {self.home}: " + ", ".join(f"{component}.log" for component in COMPONENTS)

    def _is_healthy(self) -> bool:
        for component, process in self._processes.items():
            if process.poll() is not None:
                raise LocalAirflowError(f"The {component} has ended. {self._where_logs_are}")
        try:
            health = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        except (requests.RequestException, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    def _log_in(self) -> None:
        answer = self._session.get(f"{self.url}/auth/token", timeout=10)
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def api(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """
        Call Airflow's REST API and return the JSON of its answer.

        :param path: path below ``/api/v2``
        :raises LocalAirflowError: if Airflow answers with an error
        """
        answer = self._request(method, path, body, params, repeats=0 if method == "POST" else _REPEATS)
        if not answer.ok:
            raise LocalAirflowError(f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json() if answer.content else None

    def _request(
        self, method: str, path: str, body: Any, params: Mapping[str, Any], *, repeats: int
    ) -> requests.Response:
        """Send a request, and send it again while a busy database fails it, if it has the same effect however often."""
        answer = self._session.request(method, f"{self.url}/api/v2{path}", json=body, params=params, timeout=30)
        if answer.status_code < 500 or not repeats:
            return answer
        time.sleep(1)
        return self._request(method, path, body, params, repeats=repeats - 1)

    def knows_dag(self, dag_id: str) -> bool:
        """Return whether the dag processor has parsed a DAG; raise if it cannot be imported."""
        errors = self.api("GET", "/importErrors")["import_errors"]
        if errors:
            raise LocalAirflowError("\n".join(f"{e['filename']}: {e['stack_trace']}" for e in errors))
        return any(dag["dag_id"] == dag_id for dag in self.api("GET", "/dags", limit=100)["dags"])

    def trigger_dag(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a DAG run without a logical date and return its id, waiting first for the DAG to be parsed."""
        wait_until(lambda: self.knows_dag(dag_id), f"DAG {dag_id} to be parsed. {self._where_logs_are}", 180)
        path, run_id = f"/dags/{dag_id}/dagRuns", f"manual__{time.time_ns()}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        answer = self._request("POST", path, body, {}, repeats=_REPEATS)
        # There is one of that id already if a request that failed has had its effect.
        if not answer.ok and answer.status_code != 409:
            raise LocalAirflowError(f"POST {path} answered {answer.status_code}: {answer.text[:500]}")
        return run_id

    def task_instance(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return a task instance as the REST API gives it."""
        return dict(self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"))

    def task_state(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the state of a task, empty before it has one."""
        return str(self.task_instance(dag_id, run_id, task_id)["state"] or "")

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task as a person does in the user interface."""
        self.api("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": state})

    def hook_forms(self) -> list[dict[str, Any]]:
        """Return the connection forms as the user interface gets them."""
        answer = self._session.get(f"{self.url}/ui/connections/hook_meta", timeout=30)
        answer.raise_for_status()
        return list(answer.json())

    def dag_run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a DAG run."""
        return str(self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Return the value of an XCom, None if there is none."""
        entries = self.xcom_keys(dag_id, run_id, task_id)
        if key not in entries:
            return None
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.api("GET", path, deserialize=False)["value"]

    def xcom_keys(self, dag_id: str, run_id: str, task_id: str) -> list[str]:
        """Return the keys of a task's XComs."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries"
        return [entry["key"] for entry in self.api("GET", path)["xcom_entries"]]

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str]:
        """Return the extra links of a task as the user interface gets them."""
        return dict(self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links")["extra_links"])

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        """Return the log of a try as lines of text."""
        content = self.api(
            "GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}", full_content=True
        )["content"]
        return "\n".join(_log_line(line) for line in content)


def _log_line(line: Any) -> str:
    if not isinstance(line, dict):
        return str(line)
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or []]
    return "\n".join([str(line.get("event", line)), *errors])


def _end(processes: list[psutil.Popen], patience: float) -> None:
    """End processes and their children: politely for `patience` seconds, then by force."""
    family: list[psutil.Process] = []
    for process in processes:
        try:
            family += [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    if patience:
        for process in processes:
            try:
                process.terminate()
            except psutil.NoSuchProcess:
                continue
        _, family = psutil.wait_procs(family, timeout=patience)
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=5)


def pretty(value: Any) -> str:
    """Return JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)
