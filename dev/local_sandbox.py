"""A sandbox in a separate process, for the demo and for tests over HTTP."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess  # nosec B404 # runs programs of this project and its tools
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import requests

START_TIMEOUT = 30.0


class SandboxProcess:
    """
    A sandbox process. Call :meth:`start`, or use it as a context manager.

    :param arguments: further arguments of the command, such as ``"--log-level", "info"``.
    :param port: port to listen on; 0 for a free one, which is kept by :meth:`restart`.
    :param time_scale: passed as ``--time-scale``.
    :param seed: passed as ``--seed``.
    :param state: passed as ``--state``.
    :param faults: passed as ``--faults``.
    :param variants: passed as ``--variant NAME=VALUE``.
    :param credential_id: with ``token``, the credential of an earlier process, so that its clients stay valid.
    :param token: see ``credential_id``.
    :param env: additional environment variables.
    :param verify: certificate that the methods of this class trust; pass the server's own in ``arguments``.
    """

    def __init__(
        self,
        *arguments: str,
        port: int = 0,
        time_scale: float | None = None,
        seed: Path | None = None,
        state: Path | None = None,
        faults: Path | None = None,
        variants: dict[str, Any] | None = None,
        credential_id: str | None = None,
        token: str | None = None,
        env: dict[str, str] | None = None,
        verify: bool | str = True,
    ) -> None:
        self._arguments = ["--json", *arguments]
        self._port = port
        if time_scale is not None:
            self._arguments += ["--time-scale", str(time_scale)]
        if seed is not None:
            self._arguments += ["--seed", str(seed)]
        if state is not None:
            self._arguments += ["--state", str(state)]
        if faults is not None:
            self._arguments += ["--faults", str(faults)]
        for name, value in (variants or {}).items():
            self._arguments += ["--variant", f"{name}={value}"]
        self._env = {**os.environ, **(env or {})}
        if credential_id and token:
            self._keep_credential(credential_id, token)
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None
        self._verify = verify
        self.url = self.login_url = self.credential_id = self.token = self.airflow_conn = ""

    def start(self) -> SandboxProcess:
        """Start the process and wait until the sandbox is ready."""
        if self._errors:
            self._errors.close()
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = subprocess.Popen(  # nosec B603 # no shell, and only trusted arguments
            [sys.executable, "-m", "airflow_provider_streamsets.sandbox", "--port", str(self._port), *self._arguments],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=self._env,
        )
        info = json.loads(self._read_first_line())
        self.url, self.login_url = info["url"], info["login_url"]
        self.credential_id, self.token = info["credential_id"], info["token"]
        self.airflow_conn = info["airflow_conn"]
        return self

    def restart(self) -> SandboxProcess:
        """Kill the process if it is running and start it again with the same port and credential."""
        self.kill()
        self._port = self.port
        self._keep_credential(self.credential_id, self.token)
        return self.start()

    def _keep_credential(self, credential_id: str, token: str) -> None:
        self._env["STREAMSETS_SANDBOX_CREDENTIAL_ID"] = credential_id
        self._env["STREAMSETS_SANDBOX_TOKEN"] = token

    def _read_first_line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_TIMEOUT)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self.kill()
            raise RuntimeError(f"The sandbox did not start:\n{self.errors}")
        return line

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def errors(self) -> str:
        """The output on standard error."""
        if self._errors is None:
            return ""
        self._errors.seek(0)
        return self._errors.read()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal to the process and return its exit code."""
        return self._terminate(number)

    def kill(self) -> int:
        """Kill the process and return its exit code."""
        return self._terminate(signal.SIGKILL)

    def pause(self) -> None:
        """Suspend the process: connections are accepted, but requests are not answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _terminate(self, number: int) -> int:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(number)
        try:
            code = process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait(timeout=10)
        if process.stdout:
            process.stdout.close()
        return code

    def __enter__(self) -> SandboxProcess:
        return self.start() if self._process is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._errors:
            self._errors.close()

    @property
    def headers(self) -> dict[str, str]:
        return {
            "X-SS-App-Component-Id": self.credential_id,
            "X-SS-App-Auth-Token": self.token,
            "X-Requested-By": "tests",
        }

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        """Send a request with the credential."""
        return requests.request(
            method,
            self.url + path,
            headers=self.headers,
            json=body,
            params=query,
            timeout=10,
            verify=self._verify,
        )

    def _admin(self, method: str, path: str, body: Any = None) -> Any:
        response = self.call(method, f"/sandbox/v1/{path}", body)
        assert response.ok, response.text
        return response.json()

    def state(self) -> dict[str, Any]:
        """Return the clock, the variants, the jobs and the log of starts."""
        return self._admin("GET", "state")

    def now(self) -> int:
        return int(self.state()["now"])

    def job_id(self, name: str) -> str:
        """Return the id of the only job with a name."""
        (job_id,) = (job["id"] for job in self.state()["jobs"] if job["name"] == name)
        return str(job_id)

    def job_state(self, name: str) -> dict[str, Any]:
        (job,) = (job for job in self.state()["jobs"] if job["name"] == name)
        return job

    def starts(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the log of starts of one job or of all jobs."""
        return [start for start in self._admin("GET", "starts") if name in (None, start["job_name"])]

    def stops(self) -> list[dict[str, Any]]:
        """Return the log of stops."""
        return list(self._admin("GET", "stops"))

    def freeze(self) -> None:
        self._admin("POST", "clock", {"freeze": True})

    def unfreeze(self) -> None:
        self._admin("POST", "clock", {"freeze": False})

    def set_clock(self, to_ms: int) -> None:
        self._admin("POST", "clock", {"set": to_ms})

    def advance(self, seconds: float) -> None:
        self._admin("POST", "clock", {"advance": seconds})

    def set_variants(self, **variants: Any) -> None:
        self._admin("POST", "variants", variants)

    def set_faults(self, *rules: dict[str, Any], seed: int = 0) -> None:
        """Replace the fault rules."""
        self._admin("PUT", "faults", {"seed": seed, "rules": list(rules)})

    def faults(self) -> list[dict[str, Any]]:
        """Return the fault rules with their numbers of matching (``matched``) and faulted (``hit``) requests."""
        return self._admin("GET", "faults")["rules"]

    def fault_hits(self) -> list[dict[str, Any]]:
        """Return the latest faulted requests: ``time``, ``method``, ``path``, ``fault`` and ``caller``."""
        return list(self._admin("GET", "faults")["hits"])

    def requests(self) -> dict[str, Any]:
        """Return the request log: ``total``, ``counts`` by method and path, ``requests``."""
        return self._admin("GET", "requests")

    def forget_requests(self) -> None:
        self._admin("DELETE", "requests")

    def start_job(self, name: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start a job and return its status."""
        response = self.call("POST", f"/jobrunner/rest/v1/job/{self.job_id(name)}/start", parameters)
        assert response.ok, response.text
        return response.json()

    def wait_for_status(self, name: str, *statuses: str, timeout: float = 60.0) -> dict[str, Any]:
        """Poll until a job has one of the given statuses."""
        deadline = time.monotonic() + timeout
        while (job := self.job_state(name))["status"] not in statuses:
            assert time.monotonic() < deadline, f"'{name}' is {job['status']} after {timeout} s, expected {statuses}"
            time.sleep(0.05)
        return job
