"""The part of HashiCorp Vault's API that Airflow's ``VaultBackend`` uses: reading secrets of a KV engine, version 2."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from tests.ecosystem.local_server import JsonHandler, LocalServer

PREFIX = "/v1/secret/data/connections/"


class LocalVault(LocalServer):
    """
    A vault with connections.

    :param connections: fields of the connections, by id
    """

    def __init__(self, connections: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(self._handler())
        self._connections = connections
        self.token = secrets.token_hex(16)
        self.sealed = False
        """Refuses all requests, as after a restart."""
        self.delay = 0.0
        """Seconds before each response."""
        self.reads: list[tuple[str, int]] = []
        """Ids of all connections read, with the status of the response."""

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
        elif not path.startswith(PREFIX) or conn_id not in self._connections:
            status, body = 404, {"errors": []}
        else:
            status, body = 200, {"data": {"data": self._connections[conn_id], "metadata": {"version": 1}}}
        self.reads.append((conn_id, status))
        return status, body

    def _handler(self) -> type[JsonHandler]:
        vault = self

        class Handler(JsonHandler):
            def do_GET(self) -> None:
                self.answer(*vault._read(self.path.partition("?")[0], self.headers["X-Vault-Token"]))

        return Handler
