"""A way to the sandbox that can be shut, and counts who comes meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

_CHUNK = 1 << 16
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PATIENCE = 10.0


class Passage(enum.Enum):
    """What becomes of a connection."""

    OPEN = "open"
    """It is led to the sandbox."""
    UNAVAILABLE = "unavailable"
    """Its first request is answered with status 503, and it is closed."""
    RESET = "reset"
    """It is reset at once."""


class Gate:
    """
    A relay of TCP connections on a port of its own, in a thread; a context manager.

    :param port: where the sandbox listens
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._passage = Passage.OPEN
        self._relays: set[asyncio.Task[Any]] = set()
        self.turned_away = 0
        """How many connections were not led to the sandbox; each of them carries one request at the most."""

    def __enter__(self) -> Gate:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where the sandbox is to be found through the gate."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def turn(self, passage: Passage) -> None:
        """Let this become of all further connections; those that are there are reset unless it is open."""
        self._do(self._turn(passage))

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    async def _turn(self, passage: Passage) -> None:
        self._passage = passage
        if passage is not Passage.OPEN:
            await self._end_relays()

    async def _close(self) -> None:
        self._server.close()
        await self._end_relays()

    async def _end_relays(self) -> None:
        relays = list(self._relays)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        # A client that goes is no concern of the gate.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if self._passage is Passage.OPEN:
                await self._relay(reader, writer)
            else:
                self.turned_away += 1
                if self._passage is Passage.UNAVAILABLE:
                    await self._refuse(reader, writer)
                else:
                    _reset(writer)
        self._relays.discard(task)
        writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_sandbox, from_sandbox = None, None
        from_sandbox, to_sandbox = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(_copy(reader, to_sandbox), _copy(from_sandbox, writer))
        except asyncio.CancelledError:
            _reset(writer)
            raise
        finally:
            to_sandbox.close()

    @staticmethod
    async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (
                int(line.partition(b":")[2])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            ),
            0,
        )
        await reader.readexactly(length)
        writer.write(_UNAVAILABLE)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()
