"""Redirects to another host are not followed."""

from __future__ import annotations

import http.server
import io
import threading
from collections.abc import Iterator

import pytest

from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubUnexpectedResponseError
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess

JOB_ID = "job:org"


class _Recorder(http.server.BaseHTTPRequestHandler):
    seen: list[tuple[str, dict[str, str]]]
    status = 200
    location = ""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((f"{self.command} {self.path}", {k.lower(): v for k, v in self.headers.items()}))
        self.send_response(self.status)
        if self.location:
            self.send_header("Location", self.location + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def __getattr__(self, name: str):
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        pass


def _serve(address: str) -> Iterator[type[_Recorder]]:
    handler = type("Handler", (_Recorder,), {"seen": []})
    server = http.server.ThreadingHTTPServer((address, 0), handler)
    handler.url = f"http://{address}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def elsewhere() -> Iterator[type[_Recorder]]:
    yield from _serve("127.0.0.2")


@pytest.fixture
def hub() -> Iterator[type[_Recorder]]:
    yield from _serve("127.0.0.1")


CALLS = {
    "a read": lambda client: client.runs.current(JOB_ID),
    "a stop": lambda client: client.runs.stop(JOB_ID),
    "a call that is never repeated": lambda client: client.runs.balance([JOB_ID]),
    "an export": lambda client: client.archives.export_jobs([JOB_ID], io.BytesIO()),
    "an import": lambda client: client.archives.import_jobs(io.BytesIO(b"PK\x05\x06" + bytes(18))),
    "a login": lambda client: client.current_user(),
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_redirect_to_other_host_is_not_followed(hub, elsewhere, sandbox_process: SandboxProcess, status, call):
    hub.status, hub.location = status, elsewhere.url
    with (
        ControlHubClient(hub.url, sandbox_process.credential_id, sandbox_process.token) as client,
        pytest.raises(ControlHubUnexpectedResponseError) as caught,
    ):
        call(client)
    assert len(hub.seen) == 1
    assert hub.seen[0][1]["x-ss-app-auth-token"] == sandbox_process.token
    assert elsewhere.seen == []
    assert sandbox_process.token not in str(caught.value)
    assert elsewhere.url in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_login_redirect_is_not_followed(hub, elsewhere, sandbox_process: SandboxProcess, status):
    hub.status, hub.location = status, elsewhere.url
    with (
        ControlHubClient(
            None, sandbox_process.credential_id, sandbox_process.token, login_url=hub.url, max_attempts=1
        ) as client,
        pytest.raises(ControlHubUnexpectedResponseError),
    ):
        client.current_user()
    assert not {"x-ss-app-auth-token", "x-ss-app-component-id", "authorization"} & hub.seen[0][1].keys()
    assert elsewhere.seen == []
