"""The server and its command, without a process."""

from __future__ import annotations

import asyncio
import socket

from click.testing import CliRunner

from airflow_provider_streamsets.control_hub.choices import DEFAULT_POLL_INTERVAL
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.server import Server, command, server_config
from tests.unit.fakes.sandbox_app import Hub


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be advanced."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


def test_idle_connection_outlives_poll_interval():
    loop = SkippingLoop()

    async def poll_twice() -> None:
        ready = asyncio.Event()
        server = Server(server_config(Hub().app), ready.set)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await ready.wait()
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            for _ in range(2):
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: sandbox\r\n\r\n")
                await reader.readuntil(b'{"status":"ok"}')
                loop.skipped += 2 * DEFAULT_POLL_INTERVAL
                # Timers that have become due run before the next request.
                await asyncio.sleep(0)
            writer.close()
            server.should_exit = True
            await serving

    try:
        loop.run_until_complete(poll_twice())
    finally:
        loop.close()


def test_list_variants_describes_each_variant():
    result = CliRunner().invoke(command, ["--list-variants"])
    assert result.exit_code == 0
    paragraphs = [paragraph.split("\n") for paragraph in result.output.strip().split("\n\n")]
    described = {line.partition(" = ")[0]: lines for line, *lines in paragraphs}
    assert list(described) == list(Variants.choices())
    assert "wrong_state = 400 (default) | 409 | 500" in result.output
    assert "metrics_lag = 2.0 (default) | any other number\n    Seconds between" in result.output
    for lines in described.values():
        meaning = " ".join(line.strip() for line in lines)
        assert meaning.endswith(".")
        assert ". " not in meaning
