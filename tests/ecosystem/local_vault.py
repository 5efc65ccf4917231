"""The part of HashiCorp Vault's API that Airflow's ``VaultBackend`` uses: reading secrets of a KV engine, version 2."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PREFIX = "/v1/secret/data/connections/"


class LocalVault:
    """
    A vault with connections; use it as a context manager.

    :param connections: fields of the connections, by id
    """

    def __init__(self, connections: Mapping[str, Mapping[str, Any]]) -> None:
        self.connections = connections
        self.token = secrets.token_hex(16)
        self.sealed = False
        """Refuses all requests, as after a restart."""
        self.delay = 0.0
        """Seconds before each response."""
        self.reads: list[tuple[str, int]] = []
        """Ids of all connections read, with the status of the response."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LocalVault:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def backend_kwargs(self) -> str:
        """The option ``[secrets] backend_kwargs``."""
        return json.dumps({"url": self.url, "token": self.token, "connections_path": "connections"})

    def statuses(self, conn_id: str) -> list[int]:
        """Return the status of each response about a connection."""
        return [status for read, status in list(self.reads) if read == conn_id]

    def _read(self, path: str, token: str | None) -> tuple[int, dict[str, Any]]:
        conn_id = path.removeprefix(PREFIX)
        time.sleep(self.delay)
        if self.sealed:
            status, body = 503, {"errors": ["Vault is sealed"]}
        elif token != self.token:
            status, body = 403, {"errors": ["permission denied"]}
        elif not path.startswith(PREFIX) or conn_id not in self.connections:
            status, body = 404, {"errors": []}
        else:
            status, body = 200, {"data": {"data": self.connections[conn_id], "metadata": {"version": 1}}}
        self.reads.append((conn_id, status))
        return status, body

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        vault = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                """Log nothing."""

            def do_GET(self) -> None:
                status, body = vault._read(self.path.partition("?")[0], self.headers["X-Vault-Token"])
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        return Handler
