"""A sandbox in a separate process, to control from tests and programs."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess  # nosec B404 # runs the sandbox only
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import requests

START_TIMEOUT = 60.0
REQUEST_TIMEOUT = 10.0
STATUS_CHANGE_PAYLOAD = '{"job_id": "{{JOB_ID}}", "from_status": "{{FROM_STATUS}}", "to_status": "{{TO_STATUS}}"}'


class SandboxError(RuntimeError):
    """The sandbox did not start, or rejected a call of its own API."""


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
    :param start_timeout: maximum seconds until the sandbox is ready; more are needed for tens of thousands of jobs.
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
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        self._arguments = ["--json", *arguments]
        self._port = port
        self._start_timeout = start_timeout
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
        """
        Start the process and wait until the sandbox is ready.

        :raises SandboxError: if it does not start, for example because of an invalid seed or a missing requirement.
        """
        if self._errors:
            self._errors.close()
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = subprocess.Popen(  # noqa: S603 # nosec B603 # no shell, and only trusted arguments
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
        output = cast("IO[str]", self._running.stdout)
        ready, _, _ = select.select([output], [], [], self._start_timeout)
        line = output.readline() if ready else ""
        if not line:
            self.kill()
            raise SandboxError(f"The sandbox did not start: {self.errors.strip() or 'it wrote no error'}")
        return line

    @property
    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise SandboxError("The sandbox has not been started.")
        return self._process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def port(self) -> int:
        """The port on which the sandbox listens."""
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
        """Resume the suspended process."""
        os.kill(self.pid, signal.SIGCONT)

    def _terminate(self, number: int) -> int:
        process = self._running
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
        """The headers that authenticate a request."""
        return {
            "X-SS-App-Component-Id": self.credential_id,
            "X-SS-App-Auth-Token": self.token,
            "X-Requested-By": "tests",
        }

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        """
        Send a request with the credential.

        :param method: HTTP method.
        :param path: path of the URL.
        :param body: body, sent as JSON.
        :param query: query parameters.
        """
        with requests.Session() as session:
            # The settings of a proxy are for other hosts. Without them, `verify` is effective in any environment, too.
            session.trust_env = False
            return session.request(
                method,
                self.url + path,
                headers=self.headers,
                json=body,
                params=query,
                timeout=REQUEST_TIMEOUT,
                verify=self._verify,
            )

    def _admin(self, method: str, path: str, body: Any = None) -> Any:
        return _json_of(self.call(method, f"/sandbox/v1/{path}", body))

    def reset(self) -> None:
        """Reset jobs, clock, variants, faults and logs to the state after the start."""
        self._admin("POST", "reset")

    def state(self) -> dict[str, Any]:
        """Return the clock, the variants, the jobs and the log of starts."""
        return dict(self._admin("GET", "state"))

    def now(self) -> int:
        """Return the time of the sandbox's clock in epoch milliseconds."""
        return int(self.state()["now"])

    def job_id(self, name: str) -> str:
        """Return the id of the only job with a name."""
        return str(self.job_state(name)["id"])

    def job_state(self, name: str) -> dict[str, Any]:
        """
        Return the state of the only job with a name.

        :param name: name of the job.
        :returns: ``id``, ``name``, ``status``, ``color``, ``running``, ``run_count`` and ``parameters``, among others.
        :raises SandboxError: if there is no such job, or more than one.
        """
        jobs = self.state()["jobs"]
        found = [job for job in jobs if job["name"] == name]
        if len(found) != 1:
            names = ", ".join(sorted(repr(job["name"]) for job in jobs))
            raise SandboxError(f"The sandbox has {len(found)} jobs named {name!r}, expected one. Its jobs: {names}.")
        return cast("dict[str, Any]", found[0])

    def starts(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the log of starts of one job or of all jobs."""
        return [start for start in self._admin("GET", "starts") if name in (None, start["job_name"])]

    def stops(self) -> list[dict[str, Any]]:
        """Return the log of stops."""
        return list(self._admin("GET", "stops"))

    def freeze(self) -> None:
        """Stop the clock."""
        self._admin("POST", "clock", {"freeze": True})

    def unfreeze(self) -> None:
        """Resume the clock."""
        self._admin("POST", "clock", {"freeze": False})

    def set_clock(self, to_ms: int) -> None:
        """Set the clock to a later time in epoch milliseconds."""
        self._admin("POST", "clock", {"set": to_ms})

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self._admin("POST", "clock", {"advance": seconds})

    def set_variants(self, **variants: Any) -> None:
        """Change variants."""
        self._admin("POST", "variants", variants)

    def set_faults(self, *rules: dict[str, Any], seed: int = 0) -> None:
        """Replace the fault rules."""
        self._admin("PUT", "faults", {"seed": seed, "rules": list(rules)})

    def add_fault(self, rule: dict[str, Any]) -> int:
        """Add a fault rule and return its index; the others keep their counts."""
        return len(self._admin("POST", "faults", {"rules": [rule]})["rules"]) - 1

    def faults(self) -> list[dict[str, Any]]:
        """Return the fault rules with their numbers of matching (``matched``) and faulted (``hit``) requests."""
        return list(self._admin("GET", "faults")["rules"])

    def fault_hits(self) -> list[dict[str, Any]]:
        """Return the latest faulted requests: ``time``, ``method``, ``path``, ``fault`` and ``caller``."""
        return list(self._admin("GET", "faults")["hits"])

    def requests(self) -> dict[str, Any]:
        """Return the request log: ``total``, ``counts`` by method and path, ``requests``."""
        return dict(self._admin("GET", "requests"))

    def forget_requests(self) -> None:
        """Clear the request log."""
        self._admin("DELETE", "requests")

    def start_job(self, name: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start a job, with runtime parameters or the stored ones, and return its status."""
        return dict(_json_of(self.call("POST", f"/jobrunner/rest/v1/job/{self.job_id(name)}/start", parameters)))

    def subscribe(self, uri: str, bearer_token: str, payload: str = STATUS_CHANGE_PAYLOAD) -> None:
        """
        Subscribe to the status changes of all jobs.

        :param uri: URL that each change is posted to.
        :param bearer_token: token for the receiver.
        :param payload: JSON with placeholders such as ``{{JOB_ID}}``.
        """
        config = {
            "uri": uri,
            "method": "POST",
            "contentType": "application/json",
            "payload": payload,
            "bearerToken": bearer_token,
        }
        subscription = {
            "name": "Airflow",
            "events": [{"eventType": "JOB_STATUS_CHANGE", "filter": ""}],
            "externalActions": [{"eventType": "WEBHOOKV1", "config": json.dumps(config)}],
        }
        _json_of(self.call("PUT", "/notification/rest/v1/eventsub/createEventSub", subscription))

    def webhooks(self) -> list[dict[str, Any]]:
        """Return the calls of subscriptions: ``time``, ``subscription``, ``uri``, ``body``, ``status``, ``error``."""
        return list(self._admin("GET", "webhooks"))

    def wait_for_status(self, name: str, *statuses: str, timeout: float = 60.0) -> dict[str, Any]:
        """
        Poll until a job has one of the given statuses, and return its state.

        :param name: name of the job.
        :param statuses: the statuses to wait for.
        :param timeout: timeout in seconds.
        :raises SandboxError: if the job has none of them in time.
        """
        deadline = time.monotonic() + timeout
        while (job := self.job_state(name))["status"] not in statuses:
            if time.monotonic() > deadline:
                raise SandboxError(f"Job {name!r} is {job['status']} after {timeout:g} s, expected {statuses}.")
            time.sleep(0.05)
        return job


def _json_of(response: requests.Response) -> Any:
    if not response.ok:
        raise SandboxError(
            f"The sandbox rejected {response.request.method} {response.request.path_url} with status "
            f"{response.status_code}: {_message_of(response)}"
        )
    return response.json()


def _message_of(response: requests.Response) -> str:
    try:
        return "; ".join(issue["message"] for issue in response.json()["ISSUES"])
    except (ValueError, LookupError, TypeError):
        return response.text
