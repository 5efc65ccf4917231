"""Wrong settings of connection and network, over real sockets: one sentence each that says what to change."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubClient,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubUnavailableError,
    ControlHubUntrustedCertificateError,
)

trustme = pytest.importorskip("trustme", reason="makes the certificates of the TLS servers")

HUBS = ["http://hub.example.com", "https://hub.example.com"]
VARIABLES = pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])

MakeClient = Callable[..., ControlHubClient]
Serve = Callable[..., int]


class _QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that answer any request, and CONNECT, with a status; returns the port."""
    with contextlib.ExitStack() as servers:

        def start(status: int, context: ssl.SSLContext | None = None) -> int:
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

                def do_CONNECT(self) -> None:
                    self.do_GET()

                def log_message(self, *_: object) -> None:
                    pass

            server = servers.enter_context(_QuietServer(("127.0.0.1", 0), Handler))
            if context is not None:
                server.socket = context.wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            servers.callback(thread.join)
            servers.callback(server.shutdown)
            return server.server_port

        yield start


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


@pytest.fixture
def tls_port(serve: Serve, tmp_path: Path) -> int:
    """Port of a TLS server; ``ca.pem`` is its authority, ``other.pem`` another one."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return serve(200, context)


def proxy(port: int, scheme: str = "http", user: str = "user:pa55word@") -> dict[str, str]:
    return dict.fromkeys(("http", "https"), f"{scheme}://{user}127.0.0.1:{port}")


def error_of(make_client: MakeClient, address: str, *, accepted: bool = False, **settings: Any) -> ControlHubError:
    """Return the error of a first request, which is a whole sentence without secrets and raw texts of libraries."""
    client = make_client(address, max_attempts=1, timeout=5, **settings)
    if accepted:
        client.mark_accepted()
    with pytest.raises(ControlHubError) as caught:
        client.current_user()
    said = str(caught.value)
    assert said.startswith("Cannot read the current user: ")
    assert said.endswith((".", "?"))
    assert "pa55word" not in said
    assert not any(raw in said for raw in ("HTTPConnection", "HTTPSConnection", "Max retries", "WRONG_VERSION"))
    return caught.value


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize(
    ("user", "wants"),
    [
        ("", "requires a user name and password in its URL"),
        ("user:pa55word@", "rejects the user name and password"),
    ],
    ids=["none given", "wrong"],
)
def test_proxy_authentication_error_is_configuration_error(make_client, serve, hub, user, wants):
    port = serve(407)
    error = error_of(make_client, hub, proxies=proxy(port, user=user))
    assert type(error) is ControlHubConfigurationError
    assert error.http_status == 407
    assert f"the proxy http://127.0.0.1:{port} {wants}" in str(error)


@pytest.mark.parametrize("hub", HUBS)
def test_later_proxy_authentication_error_is_outage(make_client, serve, hub):
    error = error_of(make_client, hub, proxies=proxy(serve(407)), accepted=True)
    assert type(error) is ControlHubUnavailableError
    assert error.maybe_executed is False


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize("place", ["connection", "environment"])
def test_unreachable_proxy_is_named(make_client, closed_port, monkeypatch, hub, place):
    settings = {"proxies": proxy(closed_port)} if place == "connection" else {}
    if place == "environment":
        for scheme, address in proxy(closed_port).items():
            monkeypatch.setenv(f"{scheme}_proxy", address)
    error = error_of(make_client, hub, **settings)
    assert type(error) is ControlHubUnavailableError
    assert error.maybe_executed is False
    assert f"the proxy http://127.0.0.1:{closed_port} cannot connect to {hub} (" in str(error)
    assert "Connection refused). The proxy is set by 'Proxies' (extra 'proxies') of the connection or by" in str(error)


def test_proxy_refusing_tunnel_is_named(make_client, serve):
    port = serve(403)
    error = error_of(make_client, "https://hub.example.com", proxies=proxy(port))
    assert type(error) is ControlHubUnavailableError
    assert error.maybe_executed is False
    assert f"the proxy http://127.0.0.1:{port} cannot connect to https://hub.example.com" in str(error)
    assert "403 Forbidden" in str(error)


def test_proxy_with_wrong_scheme_is_configuration_error(make_client, serve):
    port = serve(200)
    error = error_of(make_client, "https://hub.example.com", proxies=proxy(port, "https"))
    assert type(error) is ControlHubConfigurationError
    assert f"the proxy https://127.0.0.1:{port} does not speak TLS" in str(error)
    assert str(error).endswith(f"use the proxy http://127.0.0.1:{port} instead.")


def test_untrusted_proxy_certificate_is_attributed_to_proxy(make_client, tls_port):
    error = error_of(make_client, "https://hub.example.com", proxies=proxy(tls_port, "https"))
    assert type(error) is ControlHubUntrustedCertificateError
    assert f"the TLS certificate of the proxy https://127.0.0.1:{tls_port} is not trusted" in str(error)


@pytest.mark.parametrize(
    ("accepted", "kind"), [(False, ControlHubConfigurationError), (True, ControlHubUnavailableError)]
)
def test_https_on_http_port_is_reported(make_client, serve, accepted, kind):
    port = serve(200)
    error = error_of(make_client, f"https://127.0.0.1:{port}", accepted=accepted)
    assert type(error) is kind
    assert str(error).endswith(
        f": https://127.0.0.1:{port} does not speak TLS. The port may expect http: use http://127.0.0.1:{port} instead."
    )


@pytest.mark.parametrize("accepted", [False, True])
def test_http_on_https_port_is_reported(make_client, tls_port, accepted):
    error = error_of(make_client, f"http://127.0.0.1:{tls_port}", accepted=accepted)
    assert type(error) is ControlHubUnavailableError
    assert (f"The port may expect https: use https://127.0.0.1:{tls_port} instead." in str(error)) is not accepted


def test_http_400_suggests_https(make_client, serve):
    port = serve(400)
    error = error_of(make_client, f"http://127.0.0.1:{port}")
    assert type(error) is ControlHubUnavailableError
    assert str(error).endswith(f"The port may expect https: use https://127.0.0.1:{port} instead.")


@VARIABLES
@pytest.mark.parametrize("content", [None, "", "no certificate"], ids=["missing", "empty", "nonsense"])
@pytest.mark.parametrize(
    ("accepted", "kind"), [(False, ControlHubConfigurationError), (True, ControlHubUnavailableError)]
)
def test_unusable_ca_file_in_environment_is_named(
    make_client, tls_port, tmp_path, monkeypatch, variable, content, accepted, kind
):
    ca_file = tmp_path / "wrong.pem"
    if content is not None:
        ca_file.write_text(content)
    monkeypatch.setenv(variable, str(ca_file))
    error = error_of(make_client, f"https://127.0.0.1:{tls_port}", accepted=accepted)
    assert type(error) is kind
    assert f"'{ca_file}', named by the environment variable {variable}, is not a CA file" in str(error)


@VARIABLES
def test_untrusting_ca_file_in_environment_is_named(make_client, tls_port, tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, str(tmp_path / "other.pem"))
    error = error_of(make_client, f"https://127.0.0.1:{tls_port}")
    assert type(error) is ControlHubUntrustedCertificateError
    assert f"The CA file is set by the environment variable {variable}." in str(error)


@VARIABLES
def test_unused_ca_file_is_not_blamed(make_client, closed_port, monkeypatch, variable):
    monkeypatch.setenv(variable, "/nowhere/ca.pem")
    error = error_of(make_client, f"http://127.0.0.1:{closed_port}")
    assert type(error) is ControlHubUnavailableError
    assert "Connection refused" in str(error)
