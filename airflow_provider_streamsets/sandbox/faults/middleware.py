"""Fault injection: errors of the network and of gateways in front of Control Hub."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from airflow_provider_streamsets.sandbox.api.requests import AppContext, read_body, replay_body
from airflow_provider_streamsets.sandbox.api.responses import (
    empty_response,
    error_response,
    json_response,
    unauthorized_response,
)
from airflow_provider_streamsets.sandbox.backend.credentials import CALLER_HEADER
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError
from airflow_provider_streamsets.sandbox.faults.rules import (
    DelayFault,
    FaultRule,
    GatewayFault,
    RateLimitFault,
    ServerErrorFault,
    SlowFault,
)

DRIP_CHUNKS = 20
GATEWAY_MESSAGE = "no Route matched with those values"
_TRANSPORT_KEY = "connection"

log = logging.getLogger(__name__)


class ConnectionProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """The server's HTTP protocol, which gives the application access to the connection of each request."""

    app_state: dict[str, Any]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport of a new connection in the state of its requests."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, _TRANSPORT_KEY: transport}


class FaultMiddleware:
    """
    Applies the fault rules to requests, except to the sandbox's own admin routes.

    :param app: the wrapped application.
    :param context: holds the rules.
    """

    def __init__(self, app: ASGIApp, context: AppContext) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or inject a fault."""
        rule = None
        if scope["type"] == "http" and not scope["path"].startswith("/sandbox/"):
            caller = Headers(scope=scope).get(CALLER_HEADER)
            rule = self._context.faults.select(
                scope["method"], scope["path"], caller, self._context.backend.clock.now()
            )
        if rule is None:
            await self._app(scope, receive, send)
            return
        log.info("%s %s: injecting fault '%s'.", scope["method"], scope["path"], rule.fault)
        # Read the complete request first: its processing must not depend on how long the client waits.
        body = await read_body(receive)
        if body is not None:
            await _HANDLERS[rule.fault](rule, _FaultedRequest(self._app, self._context, scope, body, receive, send))


class _FaultedRequest:
    """A request to which a fault applies."""

    def __init__(
        self, app: ASGIApp, context: AppContext, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        self._app = app
        self._context = context
        self._backend = context.backend
        self._scope = scope
        self._request = body
        self._receive = receive
        self.send = send
        self.start: Message = {}
        self.body = b""

    async def process(self) -> None:
        """Process the request and store the response."""
        chunks: list[bytes] = []

        async def store(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.start = message
            else:
                chunks.append(message.get("body", b""))

        # A request that was delayed must not change the sandbox after a reset.
        was_reset = self._context.backend is not self._backend
        app = _reject_after_reset if was_reset else self._app
        await app(self._scope, replay_body(self._request, self._receive), store)
        self.body = b"".join(chunks)
        # The length of a streamed response is known now.
        headers = MutableHeaders(raw=list(self.start["headers"]))
        headers["Content-Length"] = str(len(self.body))
        self.start = {**self.start, "headers": headers.raw}

    async def send_body(self, body: bytes, *, more: bool = False) -> None:
        """Send a part of the response body."""
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def respond(self, response: Response) -> None:
        """Send another response."""
        await response(self._scope, self._receive, self.send)

    async def disconnect(self, end: Callable[[asyncio.Transport], None]) -> None:
        """
        End the connection.

        :param end: ends the transport.
        """
        transport = self._scope.get("state", {}).get(_TRANSPORT_KEY)
        if transport is None:
            raise ConnectionResetError("connection ended by fault injection")
        end(transport)
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _reject_after_reset(scope: Scope, receive: Receive, send: Send) -> None:
    response = error_response(ApiError(500, "SANDBOX_500", "The sandbox was reset before it processed the request"))
    await response(scope, receive, send)


def _close(transport: asyncio.Transport) -> None:
    """Close the connection after the data sent so far."""
    transport.close()


def _drop(transport: asyncio.Transport) -> None:
    """Close the TCP connection without the TLS close notification."""
    transport.abort()


def _reset(transport: asyncio.Transport) -> None:
    """Reset the TCP connection; unread data is lost and the client receives an error."""
    # A linger time of zero makes the system send RST instead of FIN.
    linger = struct.pack("ii", 1, 0)
    cast("socket.socket", transport.get_extra_info("socket")).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()


async def _delay(rule: DelayFault, request: _FaultedRequest) -> None:
    if rule.processed:
        await request.process()
        await asyncio.sleep(rule.seconds)
    else:
        await asyncio.sleep(rule.seconds)
        await request.process()
    await request.send(request.start)
    await request.send_body(request.body)


async def _too_many_requests(rule: RateLimitFault, request: _FaultedRequest) -> None:
    response = error_response(ApiError(429, "SANDBOX_429", "Too many requests"))
    if rule.retry_after:
        response.headers["Retry-After"] = str(rule.retry_after)
    await request.respond(response)


async def _server_error(rule: ServerErrorFault, request: _FaultedRequest) -> None:
    """Respond with an error: 500 in the envelope of Control Hub, the others as the HTML page of a gateway."""
    if rule.processed:
        await request.process()
    if rule.status == 500:
        await request.respond(error_response(ApiError(500, "SANDBOX_500", "Internal Server Error")))
    else:
        await request.respond(_error_page(rule.status, rule.status))


async def _gateway(rule: GatewayFault, request: _FaultedRequest) -> None:
    """Respond like an ingress without a route, a firewall or a proxy in front of Control Hub."""
    if rule.processed:
        await request.process()
    if rule.body == "html":
        await request.respond(_error_page(rule.status, rule.status))
    else:
        await request.respond(json_response({"message": GATEWAY_MESSAGE}, rule.status))


async def _unauthorized(rule: FaultRule, request: _FaultedRequest) -> None:
    """Reject a valid credential, as Control Hub does while its security service fails."""
    await request.respond(unauthorized_response())


async def _reset_before(rule: FaultRule, request: _FaultedRequest) -> None:
    await request.disconnect(_reset)


async def _reset_after(rule: FaultRule, request: _FaultedRequest) -> None:
    await request.process()
    await request.disconnect(_reset)


async def _truncated(rule: FaultRule, request: _FaultedRequest) -> None:
    """Send half of the response, or nothing of a response without a body."""
    await request.process()
    if request.body:
        await request.send(request.start)
        await request.send_body(request.body[: len(request.body) // 2], more=True)
    await request.disconnect(_close)


async def _html(rule: FaultRule, request: _FaultedRequest) -> None:
    await request.respond(_error_page(200, 503))


async def _empty(rule: FaultRule, request: _FaultedRequest) -> None:
    await request.respond(empty_response())


async def _late(rule: SlowFault, request: _FaultedRequest) -> None:
    """Respond with a gateway timeout and process the request afterwards."""
    await request.respond(_error_page(504, 504))
    # Cancelled when the server shuts down: the request is processed then, so that its effect is not lost.
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(rule.seconds)
    await request.process()


async def _drip(rule: SlowFault, request: _FaultedRequest) -> None:
    await request.process()
    await request.send(request.start)
    size = -(-len(request.body) // DRIP_CHUNKS) or 1
    chunks = [request.body[at : at + size] for at in range(0, len(request.body), size)]
    for chunk in chunks:
        await asyncio.sleep(rule.seconds / len(chunks))
        await request.send_body(chunk, more=True)
    await request.send_body(b"")


async def _tls_close(rule: FaultRule, request: _FaultedRequest) -> None:
    await request.disconnect(_drop)


_HANDLERS: dict[str, Callable[[Any, _FaultedRequest], Awaitable[None]]] = {
    "delay": _delay,
    "too_many_requests": _too_many_requests,
    "server_error": _server_error,
    "gateway": _gateway,
    "unauthorized": _unauthorized,
    "reset_before": _reset_before,
    "reset_after": _reset_after,
    "truncated": _truncated,
    "html": _html,
    "empty": _empty,
    "late": _late,
    "drip": _drip,
    "tls_close": _tls_close,
}


def _error_page(status: int, title_status: int) -> Response:
    title = f"{title_status} {HTTPStatus(title_status).phrase}"
    page = f"<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center></body></html>\n"
    return HTMLResponse(page, status)
