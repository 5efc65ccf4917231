"""A TCP proxy for the sandbox that can reject connections and counts the rejections."""

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
_TIMEOUT = 10.0


class ProxyMode(enum.Enum):
    """How the proxy handles connections."""

    OPEN = "open"
    """Relay to the sandbox."""
    UNAVAILABLE = "unavailable"
    """Respond to the first request with status 503 and close the connection."""
    RESET = "reset"
    """Reset the connection immediately."""
    SILENT = "silent"
    """Accept the connection and never respond, as if packets were lost."""


class FaultProxy:
    """
    A TCP proxy on its own port, in a background thread; a context manager.

    :param port: port of the sandbox
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._mode = ProxyMode.OPEN
        self._relays: set[asyncio.Task[Any]] = set()
        self.rejected = 0
        """Number of rejected connections, each of which carries at most one request."""

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """URL of the proxy."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def set_mode(self, mode: ProxyMode) -> None:
        """Set the mode for new connections; existing ones are reset unless they are relayed and the mode is `OPEN`."""
        self._run(self._set_mode(mode))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_TIMEOUT)

    async def _set_mode(self, mode: ProxyMode) -> None:
        ends_silence = self._mode is ProxyMode.SILENT
        self._mode = mode
        if mode is not ProxyMode.OPEN or ends_silence:
            await self._cancel_relays()

    async def _close(self) -> None:
        self._server.close()
        await self._cancel_relays()

    async def _cancel_relays(self) -> None:
        relays = list(self._relays)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        # Ignore clients that disconnect.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if self._mode is ProxyMode.OPEN:
                await self._relay(reader, writer)
            else:
                self.rejected += 1
                if self._mode is ProxyMode.UNAVAILABLE:
                    await self._respond_unavailable(reader, writer)
                elif self._mode is ProxyMode.SILENT:
                    await asyncio.Event().wait()
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
    async def _respond_unavailable(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
