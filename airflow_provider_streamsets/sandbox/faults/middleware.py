"""Letting requests go wrong on purpose, as the network and what stands in front of Control Hub do now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_streamsets.sandbox.api.context import Hub
from airflow_provider_streamsets.sandbox.api.responses import answer, issues, nothing, unauthorized
from airflow_provider_streamsets.sandbox.asgi import read_body, whole
from airflow_provider_streamsets.sandbox.backend.caller import HEADER
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError
from airflow_provider_streamsets.sandbox.faults import disconnect
from airflow_provider_streamsets.sandbox.faults.rules import FaultRule

DRIPS = 20
GATEWAY_MESSAGE = "no Route matched with those values"

log = logging.getLogger(__name__)


class Injection:
    """
    Hits requests with the faults of a hub's rules; the sandbox's own calls never.

    :param app: where it leads to.
    :param hub: whose rules.
    """

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self._app = app
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it go wrong."""
        rule = None
        if scope["type"] == "http" and not scope["path"].startswith("/sandbox/"):
            caller = Headers(scope=scope).get(HEADER)
            rule = self._hub.faults.hit(scope["method"], scope["path"], caller, self._hub.world.clock.now())
        if rule is None:
            await self._app(scope, receive, send)
            return
        log.info("%s hits %s %s", rule.fault, scope["method"], scope["path"])
        # A server in trouble still has got the request: what becomes of it must not depend on the client's patience.
        body = await read_body(receive)
        if body is not None:
            await _INJECTED[rule.fault](rule, _Call(self._app, scope, body, receive, send))


class _Call:
    """A request that is hit, and what can be done with it."""

    def __init__(self, app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        self._app = app
        self._scope = scope
        self._request = body
        self._receive = receive
        self.send = send
        self.start: Message = {}
        self.body = b""

    async def process(self) -> None:
        """Let the request have its effect, and keep the answer."""
        pieces: list[bytes] = []

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.start = message
            else:
                pieces.append(message.get("body", b""))

        await self._app(self._scope, whole(self._request, self._receive), keep)
        self.body = b"".join(pieces)
        # An answer that came in pieces of its own goes out in others now.
        headers = MutableHeaders(raw=list(self.start["headers"]))
        headers["Content-Length"] = str(len(self.body))
        self.start = {**self.start, "headers": headers.raw}

    async def answer(self, body: bytes, *, more: bool = False) -> None:
        """Send a part of the answer's body."""
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer_instead(self, response: Response) -> None:
        """Send another answer."""
        await response(self._scope, self._receive, self.send)

    async def end(self, how: Callable[[Scope, Receive], Awaitable[None]]) -> None:
        """End the connection."""
        await how(self._scope, self._receive)


async def _delay(rule: FaultRule, call: _Call) -> None:
    if rule.processed:
        await call.process()
        await asyncio.sleep(rule.seconds)
    else:
        await asyncio.sleep(rule.seconds)
        await call.process()
    await call.send(call.start)
    await call.answer(call.body)


async def _too_many_requests(rule: FaultRule, call: _Call) -> None:
    response = issues(ProblemError(429, "SANDBOX_429", "Too many requests"))
    response.headers["Retry-After"] = str(rule.retry_after)
    await call.answer_instead(response)


async def _server_error(rule: FaultRule, call: _Call) -> None:
    """Answer an error: 500 is Control Hub's own, in its envelope; the others are a gateway's, as a page."""
    if rule.processed:
        await call.process()
    if rule.status == 500:
        await call.answer_instead(issues(ProblemError(500, "SANDBOX_500", "Internal Server Error")))
    else:
        await call.answer_instead(_page(rule.status, rule.status))


async def _gateway(rule: FaultRule, call: _Call) -> None:
    """Answer as something in front of Control Hub does: an ingress without a route, a firewall, a proxy."""
    if rule.processed:
        await call.process()
    if rule.body == "html":
        await call.answer_instead(_page(rule.status, rule.status))
    else:
        await call.answer_instead(answer({"message": GATEWAY_MESSAGE}, rule.status))


async def _unauthorized(rule: FaultRule, call: _Call) -> None:
    """Refuse a good credential, as Control Hub does while its security service fails."""
    await call.answer_instead(unauthorized())


async def _reset_before(rule: FaultRule, call: _Call) -> None:
    await call.end(disconnect.reset)


async def _reset_after(rule: FaultRule, call: _Call) -> None:
    await call.process()
    await call.end(disconnect.reset)


async def _truncated(rule: FaultRule, call: _Call) -> None:
    """Send half of the answer; of one without a body, nothing."""
    await call.process()
    if call.body:
        await call.send(call.start)
        await call.answer(call.body[: len(call.body) // 2], more=True)
    await call.end(disconnect.close)


async def _html(rule: FaultRule, call: _Call) -> None:
    await call.answer_instead(_page(200, 503))


async def _empty(rule: FaultRule, call: _Call) -> None:
    await call.answer_instead(nothing())


async def _late(rule: FaultRule, call: _Call) -> None:
    """Answer that the time is out, and deliver the request afterwards."""
    await call.answer_instead(_page(504, 504))
    # Cancelled when the server ends: the request is delivered then, so that its effect is not lost.
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(rule.seconds)
    await call.process()


async def _drip(rule: FaultRule, call: _Call) -> None:
    await call.process()
    await call.send(call.start)
    size = -(-len(call.body) // DRIPS) or 1
    drips = [call.body[at : at + size] for at in range(0, len(call.body), size)]
    for drip in drips:
        await asyncio.sleep(rule.seconds / len(drips))
        await call.answer(drip, more=True)
    await call.answer(b"")


async def _tls_close(rule: FaultRule, call: _Call) -> None:
    await call.end(disconnect.drop)


_INJECTED: dict[str, Callable[[FaultRule, _Call], Awaitable[None]]] = {
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


def _page(status: int, shown: int) -> Response:
    title = f"{shown} {HTTPStatus(shown).phrase}"
    page = f"<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center></body></html>\n"
    return HTMLResponse(page, status)
