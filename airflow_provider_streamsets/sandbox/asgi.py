"""The body of a request as ASGI middleware reads it and hands it on."""

from __future__ import annotations

from starlette.types import Message, Receive


async def read_body(receive: Receive) -> bytes | None:
    """Return the whole body of a request, None if the client went away before it had sent it."""
    pieces = []
    while (message := await receive())["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)
    return None


def whole(body: bytes, after: Receive) -> Receive:
    """
    Return what an application receives a body from that has been read already.

    :param body: the body.
    :param after: what was received from, and is again once the application has the body.
    """
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await after()

    return receive
