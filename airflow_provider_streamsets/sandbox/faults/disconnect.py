"""Ending the connection of a request in ways that HTTP does not provide."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, cast

from starlette.types import Receive, Scope
from uvicorn.protocols.http.auto import AutoHTTPProtocol

_TRANSPORT_KEY = "connection"


class ConnectionProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """The server's HTTP protocol, which gives the application access to the connection of each request."""

    app_state: dict[str, Any]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport of a new connection in the state of its requests."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, _TRANSPORT_KEY: transport}


async def reset(scope: Scope, receive: Receive) -> None:
    """Reset the TCP connection; unread data is lost and the client receives an error."""
    transport = _transport(scope)
    # A linger time of zero makes the system send RST instead of FIN.
    linger = struct.pack("ii", 1, 0)
    cast("socket.socket", transport.get_extra_info("socket")).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    await _wait_for_disconnect(receive)


async def drop(scope: Scope, receive: Receive) -> None:
    """Close the TCP connection without the TLS close notification."""
    _transport(scope).abort()
    await _wait_for_disconnect(receive)


async def close(scope: Scope, receive: Receive) -> None:
    """Close the connection after the data sent so far."""
    _transport(scope).close()
    await _wait_for_disconnect(receive)


def _transport(scope: Scope) -> asyncio.Transport:
    transport = scope.get("state", {}).get(_TRANSPORT_KEY)
    if transport is None:
        raise ConnectionResetError("connection ended by fault injection")
    return cast("asyncio.Transport", transport)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
