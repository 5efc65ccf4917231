"""The connection that a request came over, and ways to end it that HTTP does not provide for."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, cast

from starlette.types import Receive, Scope
from uvicorn.protocols.http.auto import AutoHTTPProtocol

_KEY = "connection"


class Protocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """The server's protocol, telling the application the connection of each request."""

    app_state: dict[str, Any]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a new connection."""
        super().connection_made(transport)
        # What every request over it finds as its state.
        self.app_state = {**self.app_state, _KEY: transport}


async def reset(scope: Scope, receive: Receive) -> None:
    """Reset a connection: whatever was not read yet is lost, and the client gets an error."""
    transport = _transport(scope)
    # Not to linger is what makes the system send a reset instead of an orderly end.
    linger = struct.pack("ii", 1, 0)
    cast("socket.socket", transport.get_extra_info("socket")).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    await _gone(receive)


async def drop(scope: Scope, receive: Receive) -> None:
    """End the TCP connection as it is; over TLS, without the notice that belongs to an end."""
    _transport(scope).abort()
    await _gone(receive)


async def close(scope: Scope, receive: Receive) -> None:
    """End a connection in order, after what has been sent so far."""
    _transport(scope).close()
    await _gone(receive)


def _transport(scope: Scope) -> asyncio.Transport:
    transport = scope.get("state", {}).get(_KEY)
    if transport is None:
        raise ConnectionResetError("the sandbox ends the connection here")
    return cast("asyncio.Transport", transport)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
