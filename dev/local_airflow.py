"""A local Airflow: scheduler, triggerer, DAG processor and API server, each in its own process."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess  # nosec B404 # runs only programs of this project
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import requests

IS_AIRFLOW_2 = version("apache-airflow").startswith("2.")
if IS_AIRFLOW_2:
    # With SQLite, the scheduler processes the DAGs.
    COMPONENTS: tuple[str, ...] = ("webserver", "scheduler", "triggerer")
    _API, _HEALTH, _HEALTHY_PARTS = "/api/v1", "/health", {"metadatabase", "scheduler", "triggerer"}
    _SETTINGS = {
        "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
        # The only one that SQLite allows.
        "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor",
        "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
        "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
        "AIRFLOW__WEBSERVER__WORKERS": "1",
    }
else:
    COMPONENTS = ("api-server", "scheduler", "triggerer", "dag-processor")
    _API, _HEALTH = "/api/v2", "/monitor/health"
    _HEALTHY_PARTS, _SETTINGS = {"metadatabase", "scheduler", "triggerer", "dag_processor"}, {}
_BIN = Path(sys.executable).parent
_RETRIES = 5
# Seconds to wait for a response. A busy machine can delay the first ones by half a minute.
_REQUEST_TIMEOUT = 120
# Seconds to wait for a lock. After SQLite's default of 5, a scheduler on a slow machine exits.
_SQLITE_TIMEOUT = 120


class LocalAirflowError(Exception):
    """An Airflow command, component or API call failed; the message names the log files."""


def check_port(port: int) -> None:
    """
    Check that a port of the loopback interface is free.

    :raises LocalAirflowError: if it is in use, or not a port that this user can listen on
    """
    with socket.socket() as probe:
        # As servers do: connections that a previous server has closed do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise LocalAirflowError(f"Cannot listen on port {port} ({error}).") from None


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sqlite_url(home: Path) -> str:
    """Return the SQLAlchemy URL of a SQLite database in a folder."""
    return f"sqlite:///{home / 'airflow.db'}?timeout={_SQLITE_TIMEOUT}"


def wait_until(condition: Callable[[], Any], description: str, timeout: float, interval: float = 0.5) -> Any:
    """
    Poll until `condition` returns a true value, and return it; request time-outs are ignored.

    :param condition: the condition
    :param description: description of the condition for the error message
    :param timeout: timeout in seconds
    :param interval: poll interval in seconds
    :raises LocalAirflowError: on a timeout
    """
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(requests.Timeout):
            value = condition()
            if value:
                return value
        if time.monotonic() > deadline:
            raise LocalAirflowError(f"Timed out after {timeout:g} s waiting for {description}")
        time.sleep(interval)


class LocalAirflow:
    """
    Airflow with the LocalExecutor in its own home; Airflow 2 with SQLite, the SequentialExecutor and no users.

    :param home: Airflow's home; created if missing
    :param dags: folder of the DAG files
    :param environment: further environment variables, such as ``AIRFLOW_CONN_...``
    :param port: port of the API server; by default a free port
    :param database: SQLAlchemy URL of an empty database, such as that of :mod:`dev.local_postgres`; by default SQLite
        in the home
    :param programs: folder with the program ``airflow``; by default that of this environment
    :param users: roles by name of the users who log in with a password, first an admin, who calls the API in this
        class; by default, every visitor is an admin
    :param components: arguments of ``airflow`` by name of the component; by default one of each of :data:`COMPONENTS`
    :param restarts_components: whether to restart components that exit by themselves, as a service manager does,
        instead of raising an error
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
        database: str | None = None,
        programs: Path = _BIN,
        users: Mapping[str, str] | None = None,
        components: Mapping[str, Sequence[str]] | None = None,
        restarts_components: bool = False,
    ) -> None:
        self.home = home
        self.components = dict(components or {component: (component,) for component in COMPONENTS})
        self.component_environments: dict[str, dict[str, str]] = {}
        """Further environment variables of single components, effective when they are started."""
        self.exits: Counter[str] = Counter()
        """Number of components that have exited by themselves and were restarted, by name."""
        self._restarts_components = restarts_components
        self._program = str(programs / "airflow")
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._processes: dict[str, psutil.Popen] = {}
        self._session = requests.Session()
        self._session.trust_env = False
        self.passwords = {name: secrets.token_hex(16) for name in users or {}}
        """Passwords by user name."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
        self.environment = {
            **inherited,
            # The SequentialExecutor runs `airflow` from there.
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": str(not users),
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
            # Reassign the triggers of a killed triggerer after 8 instead of 30 seconds.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database or sqlite_url(home),
            **_SETTINGS,
            **(environment or {}),
        }
        if IS_AIRFLOW_2:
            self.environment["AIRFLOW__WEBSERVER__WEB_SERVER_PORT"] = str(self.port)
        if users:
            self.environment |= {
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in users.items()),
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
            }

    def __enter__(self) -> LocalAirflow:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout: float = 300, connections: Mapping[str, str] | None = None) -> None:
        """
        Create the database, start all components, and wait until they are healthy.

        :param timeout: timeout in seconds
        :param connections: connections to store in the database, in JSON, by id
        """
        self.home.mkdir(parents=True, exist_ok=True)
        if self.passwords:
            (self.home / "passwords.json").write_text(json.dumps(self.passwords), "utf-8")
        if IS_AIRFLOW_2:
            (self.home / "webserver_config.py").write_text("AUTH_ROLE_PUBLIC = 'Admin'\n", "utf-8")
        self.run_command("db", "migrate")
        if connections:
            self._import_connections(connections)
        for component in self.components:
            self.start_component(component)
        wait_until(self._is_healthy, f"Airflow to become healthy. {self._log_locations}", timeout)
        if not IS_AIRFLOW_2:
            self._log_in()

    def _import_connections(self, connections: Mapping[str, str]) -> None:
        # In a file: every user of the machine can read the arguments of a command.
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({conn_id: json.loads(connection) for conn_id, connection in connections.items()}, file)
            file.flush()
            self.run_command("connections", "import", file.name)

    def run_command(self, *arguments: str) -> str:
        """Run an ``airflow`` command and return its output."""
        done = subprocess.run(  # nosec B603 # no shell, trusted arguments
            [self._program, *arguments],
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
        """Start a component; its output goes to ``<component>.log`` in the home."""
        with (self.home / f"{component}.log").open("ab") as output:
            self._processes[component] = psutil.Popen(
                [self._program, *self.components[component]],
                env={**self.environment, **self.component_environments.get(component, {})},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill_component(self, component: str) -> None:
        """Kill a component and its children without warning, like the loss of its machine."""
        _terminate([self._processes.pop(component)], timeout=0)

    def restart_component(self, component: str) -> None:
        """Shut down a component gracefully, as for a new release, and restart it."""
        _terminate([self._processes.pop(component)], timeout=20)
        self.start_component(component)

    def pid(self, component: str) -> int:
        """Return the process id of a running component."""
        return int(self._processes[component].pid)

    def processes(self, component: str) -> list[psutil.Process]:
        """Return the process of a running component and all its children."""
        process = psutil.Process(self.pid(component))
        return [process, *process.children(recursive=True)]

    def stop(self) -> None:
        """Stop all components, by force if necessary."""
        _terminate(list(self._processes.values()), timeout=5)
        self._processes.clear()
        self._session.close()

    @property
    def _log_locations(self) -> str:
        return f"Logs are in {self.home}: " + ", ".join(f"{component}.log" for component in self.components)

    def log_tail(self, component: str, lines: int = 40) -> str:
        """Return the last lines that a component has printed."""
        path = self.home / f"{component}.log"
        text = path.read_text("utf-8", errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def check_components(self) -> None:
        """Restart components that have exited by themselves, or raise: whatever is waited for would not happen."""
        for component, process in list(self._processes.items()):
            if process.poll() is None:
                continue
            if not self._restarts_components:
                raise LocalAirflowError(f"The {component} has exited. Its last lines:\n{self.log_tail(component)}")
            self.exits[component] += 1
            self.start_component(component)

    def _is_healthy(self) -> bool:
        self.check_components()
        try:
            health = self._session.get(f"{self.url}{_API}{_HEALTH}", timeout=5).json()
        except (requests.RequestException, ValueError):
            return False
        return all((health.get(part) or {}).get("status") == "healthy" for part in _HEALTHY_PARTS)

    def _log_in(self) -> None:
        self._session.headers["Authorization"] = f"Bearer {self.token(next(iter(self.passwords), None))}"

    def token(self, user: str | None = None) -> str:
        """
        Return an access token, for the header ``Authorization`` or a browser's cookie ``_token``.

        :param user: name of one of the users; None without users
        """
        if user is None:
            response = self._session.get(f"{self.url}/auth/token", timeout=_REQUEST_TIMEOUT)
        else:
            body = {"username": user, "password": self.passwords[user]}
            response = self._session.post(f"{self.url}/auth/token", json=body, timeout=_REQUEST_TIMEOUT)
        response.raise_for_status()
        return str(response.json()["access_token"])

    def api(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """
        Call Airflow's REST API and return the parsed response.

        :param method: HTTP method
        :param path: path below ``/api/v2``, in Airflow 2 ``/api/v1``
        :param body: JSON body
        :param params: query parameters
        :raises LocalAirflowError: on an error response
        """
        response = self._request(method, path, body, params, retries=0 if method == "POST" else _RETRIES)
        if not response.ok:
            raise LocalAirflowError(f"{method} {path} returned {response.status_code}: {response.text[:500]}")
        return response.json() if response.content else None

    def _request(
        self, method: str, path: str, body: Any, params: Mapping[str, Any], *, retries: int
    ) -> requests.Response:
        """Send a request, and retry server errors, which a busy database can cause; only for idempotent requests."""
        self.check_components()
        response = self._session.request(
            method, f"{self.url}{_API}{path}", json=body, params=params, timeout=_REQUEST_TIMEOUT
        )
        if response.status_code < 500 or not retries:
            return response
        time.sleep(1)
        return self._request(method, path, body, params, retries=retries - 1)

    def knows_dag(self, dag_id: str) -> bool:
        """Return whether the DAG processor has parsed a DAG; raise on import errors."""
        errors = self.api("GET", "/importErrors")["import_errors"]
        if errors:
            raise LocalAirflowError("\n".join(f"{e['filename']}: {e['stack_trace']}" for e in errors))
        return any(dag["dag_id"] == dag_id for dag in self.api("GET", "/dags", limit=100)["dags"])

    def trigger_dag(self, dag_id: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """Wait until the DAG is parsed, unpause it, start a run without a logical date, and return its id."""
        wait_until(lambda: self.knows_dag(dag_id), f"DAG {dag_id} to be parsed. {self._log_locations}", 180)
        self.api("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        path, run_id = f"/dags/{dag_id}/dagRuns", run_id or f"manual__{time.time_ns()}"
        body = {"dag_run_id": run_id, "conf": dict(conf or {}), **({} if IS_AIRFLOW_2 else {"logical_date": None})}
        response = self._request("POST", path, body, {}, retries=_RETRIES)
        # A conflict means that an earlier attempt took effect despite its error.
        if not response.ok and response.status_code != 409:
            raise LocalAirflowError(f"POST {path} returned {response.status_code}: {response.text[:500]}")
        return run_id

    def task_instance(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return a task instance from the REST API."""
        return dict(self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"))

    def task_state(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the state of a task, or an empty string if it has none."""
        return str(self.task_instance(dag_id, run_id, task_id)["state"] or "")

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Set the state of a task, as a user does in the user interface."""
        self.api("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": state})

    def hook_forms(self) -> list[dict[str, Any]]:
        """Return the connection forms that the user interface receives."""
        response = self._session.get(f"{self.url}/ui/connections/hook_meta", timeout=_REQUEST_TIMEOUT)
        response.raise_for_status()
        return list(response.json())

    def dag_run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a DAG run."""
        return str(self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Return the value of an XCom, or None if it does not exist."""
        entries = self.xcom_keys(dag_id, run_id, task_id)
        if key not in entries:
            return None
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.api("GET", path, deserialize=False, stringify=False)["value"]

    def xcom_keys(self, dag_id: str, run_id: str, task_id: str) -> list[str]:
        """Return the keys of a task's XComs."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries"
        return [entry["key"] for entry in self.api("GET", path)["xcom_entries"]]

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str]:
        """Return the extra links of a task that the user interface receives."""
        return dict(self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links")["extra_links"])

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of a try as text."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self.api("GET", path, full_content=True, map_index=map_index)["content"]
        return "\n".join(_log_line(line) for line in content)


def _log_line(line: Any) -> str:
    if not isinstance(line, dict):
        return str(line)
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or []]
    return "\n".join([str(line.get("event", line)), *errors])


def _terminate(processes: list[psutil.Popen], timeout: float) -> None:
    """Terminate processes and their children; kill them after `timeout` seconds."""
    family: list[psutil.Process] = []
    for process in processes:
        try:
            family += [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    if timeout:
        for process in processes:
            try:
                process.terminate()
            except psutil.NoSuchProcess:
                continue
        _, family = psutil.wait_procs(family, timeout=timeout)
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=5)


def pretty(value: Any) -> str:
    """Return readable JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)
