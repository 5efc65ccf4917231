"""How much of an answer is read: as much as an answer can have, whatever is sent."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
    transport,
)
from airflow_provider_streamsets.control_hub._json import MAX_ERROR_BYTES, MAX_RESPONSE_BYTES
from tests.unit.fakes.api_payloads import CURRENT, JOB, JOB_ID, finished_events, issues_json, run_id, run_json

MB = 1024 * 1024


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = 200
    headers_sent: dict[str, str] = {}  # noqa: RUF012
    pieces: Callable[[], Iterator[bytes]]
    """The body; chunked unless a length is among the headers."""
    connections: set[int]
    sent = 0

    def do_GET(self) -> None:
        kind = type(self)
        kind.connections.add(self.client_address[1])
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(kind.status)
        is_chunked = "Content-Length" not in kind.headers_sent
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        for name, value in kind.headers_sent.items():
            self.send_header(name, value)
        self.end_headers()
        kind.sent = 0
        for piece in kind.pieces():
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
            kind.sent += len(piece)
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


class _QuietServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, type[_Handler]]]:
    """Address of a server, and what says how it answers."""
    handler = type("Handler", (_Handler,), {"connections": set()})
    server = _QuietServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.contextmanager
def memory_limit(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / MB:.0f} MB were needed"


def _endless(piece: bytes) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        while True:
            yield piece

    return pieces


def _once(*pieces: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(pieces)


def _events_of(size: int) -> bytes:
    event = json.dumps({**finished_events()[0], "message": "m" * 400})
    return f"[{','.join([event] * (size // len(event)))}]".encode()


def test_large_response_uses_bounded_memory(hub, make_client):
    address, handler = hub
    body = _events_of(10 * MB)
    handler.pieces = staticmethod(_once(body))
    with make_client(address) as client, memory_limit(6 * len(body)):
        events = client.runs.events(run_id(1))
    assert len(events) > 10_000


@pytest.mark.parametrize("kind", ["text", "nothing", "numbers"])
def test_large_invalid_response_uses_bounded_memory(hub, make_client, kind):
    address, handler = hub
    piece = {"text": b'"' + b"x" * (10 * MB) + b'"', "nothing": b" " * (10 * MB) + b"x", "numbers": b"9" * (10 * MB)}
    handler.pieces = staticmethod(_once(piece[kind]))
    with make_client(address) as client, memory_limit(60 * MB):  # noqa: SIM117
        with pytest.raises(ControlHubUnexpectedResponseError) as caught:
            client.jobs.get(JOB_ID)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("piece", [b'"' + b"x" * MB, b"[" * MB, b" " * MB])
def test_endless_response_is_rejected(hub, make_client, clock, piece):
    address, handler = hub
    handler.pieces = staticmethod(_endless(piece))
    with make_client(address) as client, memory_limit(2 * MAX_RESPONSE_BYTES):  # noqa: SIM117
        with pytest.raises(ControlHubUnexpectedResponseError, match=f"exceeds {MAX_RESPONSE_BYTES} bytes"):
            client.runs.current(JOB_ID)
    assert clock.slept == []


def test_decompressed_size_is_limited(hub, make_client, monkeypatch):
    # Before urllib3 2.6, the time grows with the square of the size.
    largest = 8 * MB
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", largest)
    address, handler = hub
    packed = _bomb(2 * largest)
    handler.headers_sent = {"Content-Encoding": "gzip", "Content-Length": str(len(packed))}
    handler.pieces = staticmethod(_once(packed))
    with make_client(address) as client, memory_limit(6 * largest):  # noqa: SIM117
        with pytest.raises(ControlHubUnexpectedResponseError, match=f"exceeds {largest} bytes"):
            client.runs.current(JOB_ID)


def _bomb(size: int) -> bytes:
    """So many blanks, packed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(b" " * MB) for _ in range(size // MB)), packer.flush()])


def test_gzip_response_is_read(hub, make_client):
    address, handler = hub
    packed = gzip.compress(json.dumps(run_json(5)).encode())
    handler.headers_sent = {"Content-Encoding": "gzip"}
    handler.pieces = staticmethod(_once(packed))
    assert make_client(address).runs.current(JOB_ID).run_count == 5


@pytest.mark.parametrize(("status", "error"), [(401, ControlHubAuthenticationError), (503, ControlHubUnavailableError)])
def test_endless_error_body_is_truncated(hub, make_client, status, error):
    address, handler = hub
    handler.status = status
    handler.pieces = staticmethod(_endless(b"<html>" * 10_000))
    with make_client(address, max_attempts=1) as client, memory_limit(8 * MB):  # noqa: SIM117
        with pytest.raises(error, match=f"returned {status}"):
            client.runs.current(JOB_ID)


def test_long_issue_list_is_parsed(http, client):
    issues = issues_json(*[("A_1", "no " * 10)] * 2000)
    assert len(json.dumps(issues)) < MAX_ERROR_BYTES
    http.get(CURRENT, status_code=400, json=issues)
    with pytest.raises(ControlHubRejectedError) as caught:
        client.runs.current(JOB_ID)
    assert caught.value.codes[0] == "A_1"


@pytest.mark.parametrize("status", [200, 404])
def test_connection_is_reused(hub, make_client, status):
    address, handler = hub
    handler.status = status
    handler.pieces = staticmethod(_once(json.dumps(run_json(5)).encode()))
    with make_client(address) as client:
        for _ in range(5):
            with contextlib.suppress(Exception):
                client.runs.current(JOB_ID)
    assert len(handler.connections) == 1


def test_truncated_response_is_retried(make_client, clock):
    """The headers have come, so that only reading the body fails."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = []

        def serve() -> None:
            for _ in range(2):
                connection, _address = server.accept()
                with connection:
                    asked.append(connection.recv(65536))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")

        thread = threading.Thread(target=serve)
        thread.start()
        client = make_client(f"http://127.0.0.1:{server.getsockname()[1]}", max_attempts=2)
        with pytest.raises(ControlHubUnavailableError, match="no response from") as caught:
            client.runs.current(JOB_ID)
        thread.join()
    assert len(asked) == 2
    assert len(clock.slept) == 1
    assert caught.value.maybe_executed is True


@pytest.mark.parametrize("content", [b'{"id": "\\ud800", "name": "\\ud83d\\ude00 \\udfff"}'])
def test_lone_surrogates_are_replaced(http, client, content):
    http.get(JOB, content=content)
    job = client.jobs.get(JOB_ID)
    assert (job.job_id, job.name) == ("?", "\U0001f600 ?")


def dripping(byte: bytes = b" ") -> Iterator[bytes]:
    """Bytes at intervals that are shorter than the read time-out of the tests."""
    for _ in range(200):
        threading.Event().wait(0.05)
        yield byte


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "200"}], ids=["chunked", "with length"])
@pytest.mark.parametrize("status", [200, 503])
def test_slow_body_ends_after_three_read_timeouts(make_client, hub, headers, status):
    url, handler = hub
    handler.headers_sent, handler.status, handler.pieces = headers, status, staticmethod(dripping)
    client = make_client(url, timeout=(5, 0.3), max_attempts=1)
    began = time.monotonic()
    with pytest.raises(ControlHubUnavailableError) as error:
        client.runs.current(JOB_ID)
    assert 0.8 < time.monotonic() - began < 4
    assert error.value.maybe_executed


def test_slow_headers_end_after_three_read_timeouts(make_client, hub, monkeypatch):
    url, handler = hub

    def drip_headers(self):
        self.flush_headers()
        for byte in dripping(b"x"):
            self.wfile.write(byte)

    monkeypatch.setattr(handler, "end_headers", drip_headers)
    handler.pieces = staticmethod(lambda: iter(()))
    began = time.monotonic()
    with pytest.raises(ControlHubUnavailableError, match=r"exceeded the total time limit|timed out"):
        make_client(url, timeout=(5, 0.3), max_attempts=1).runs.current(JOB_ID)
    assert time.monotonic() - began < 4


def test_slow_body_ends_with_wait_deadline(make_client, hub):
    url, handler = hub
    handler.pieces = staticmethod(dripping)
    client = make_client(url, timeout=(5, 60), max_attempts=1)
    began = time.monotonic()
    with client.within(lambda: -60.0), pytest.raises(ControlHubUnavailableError):
        client.runs.current(JOB_ID)
    assert time.monotonic() - began < 4


def test_reused_connection_resets_timeouts(make_client, hub):
    url, handler = hub
    body = json.dumps(run_json()).encode()
    handler.pieces = staticmethod(lambda: (body[at : at + 100] for at in range(0, len(body), 100)))
    client = make_client(url, timeout=(5, 2), max_attempts=1)
    for _ in range(3):
        assert client.runs.current(JOB_ID) is not None
    assert len(handler.connections) == 1
