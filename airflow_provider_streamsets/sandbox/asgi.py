"""Reading and replaying request bodies in ASGI middleware."""

from __future__ import annotations

from starlette.types import Message, Receive


async def read_body(receive: Receive) -> bytes | None:
    """Read the complete body of a request; return None if the client disconnected first."""
    chunks = []
    while (message := await receive())["type"] == "http.request":
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)
    return None


def replay_body(body: bytes, receive_next: Receive) -> Receive:
    """
    Return a receive channel that delivers a body that has already been read.

    :param body: the body.
    :param receive_next: the original channel, used after the body has been delivered.
    """
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await receive_next()

    return receive
