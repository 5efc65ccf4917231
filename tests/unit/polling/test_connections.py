from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_streamsets.control_hub import ControlHubConfigurationError
from airflow_provider_streamsets.hooks.connection import ConnectionSettings
from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.polling.connections import connection_settings
from tests.unit.fakes.virtual_time import run_in_virtual_time


class Backend:
    """Where connections are read from; records what was requested."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.takes = 1.0
        self.errors: list[Exception] = []

    async def read(self, conn_id: str) -> tuple[Any, dict[str, Any]]:
        self.asked.append(conn_id)
        await asyncio.sleep(self.takes)
        if self.errors:
            raise self.errors.pop(0)
        connection = BaseHook.get_connection(conn_id)
        return connection, connection.extra_dejson


@pytest.fixture
def backend(connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Backend:
    backend = Backend()
    monkeypatch.setattr(connections, "get_connection_and_extra", backend.read)
    return backend


def test_concurrent_triggers_read_connection_once(backend):
    async def scene() -> list[ConnectionSettings]:
        return await asyncio.gather(*(connection_settings("streamsets_default") for _ in range(1000)))

    read = run_in_virtual_time(scene())
    assert backend.asked == ["streamsets_default"]
    assert {settings.fingerprint for settings in read} == {read[0].fingerprint}


def test_later_trigger_reads_edited_connection(backend, monkeypatch):
    async def scene() -> tuple[str, str]:
        before = await connection_settings("streamsets_default")
        monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", '{"conn_type": "streamsets", "login": "other"}')
        await asyncio.sleep(11)
        return before.credential_id, (await connection_settings("streamsets_default")).credential_id

    assert run_in_virtual_time(scene()) == ("credential-id", "other")


def test_cancelled_first_trigger_keeps_read_of_others(backend):
    async def scene() -> ConnectionSettings:
        first = asyncio.create_task(connection_settings("streamsets_default"))
        second = asyncio.create_task(connection_settings("streamsets_default"))
        await asyncio.sleep(0.5)
        first.cancel()
        return await second

    assert run_in_virtual_time(scene()).credential_id == "credential-id"
    assert len(backend.asked) == 1


def test_transient_read_error_is_retried(backend):
    backend.errors = [RuntimeError("the vault is sealed")] * 3

    async def scene() -> ConnectionSettings:
        return await connection_settings("streamsets_default")

    assert run_in_virtual_time(scene()).credential_id == "credential-id"
    assert len(backend.asked) == 4


def test_silent_secrets_backend_is_retried(backend):
    """Airflow hides the errors of secrets backends, and reports that the connection does not exist."""
    backend.errors = [AirflowNotFoundException("isn't defined")] * 7

    async def scene() -> ConnectionSettings:
        return await connection_settings("streamsets_default")

    assert run_in_virtual_time(scene()).credential_id == "credential-id"


def test_error_reaches_all_waiters_and_is_not_cached(backend):
    backend.errors = [*[AirflowNotFoundException("no such connection")] * 8, ControlHubConfigurationError("not right")]

    async def scene() -> None:
        results = await asyncio.gather(
            *(connection_settings("streamsets_default") for _ in range(3)), return_exceptions=True
        )
        assert [type(result) for result in results] == [AirflowNotFoundException] * 3
        with pytest.raises(ControlHubConfigurationError):
            await connection_settings("streamsets_default")
        assert (await connection_settings("streamsets_default")).credential_id == "credential-id"

    run_in_virtual_time(scene())


def test_different_connections_are_read_separately(backend, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", '{"conn_type": "streamsets", "login": "other"}')

    async def scene() -> list[ConnectionSettings]:
        return await asyncio.gather(connection_settings("streamsets_default"), connection_settings("other"))

    assert [settings.credential_id for settings in run_in_virtual_time(scene())] == ["credential-id", "other"]


async def cancel_only_reader() -> None:
    """Begin to read, be cancelled meanwhile, and let hours pass."""
    reader = asyncio.create_task(connection_settings("streamsets_default"))
    await asyncio.sleep(0.5)
    reader.cancel()
    await asyncio.wait({reader})
    await asyncio.sleep(3 * 3600)


def test_cancelled_trigger_leaves_no_old_settings_behind(backend, monkeypatch):
    async def scene() -> str:
        await cancel_only_reader()
        monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", '{"conn_type": "streamsets", "login": "other"}')
        return (await connection_settings("streamsets_default")).credential_id

    assert run_in_virtual_time(scene()) == "other"


def test_cancelled_trigger_leaves_no_old_error_behind(backend, caplog):
    backend.errors = [AirflowNotFoundException("no such connection")] * 8

    async def scene() -> str:
        await cancel_only_reader()
        return (await connection_settings("streamsets_default")).credential_id

    assert run_in_virtual_time(scene()) == "credential-id"
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"], (
        "the error of a reading that no one awaits any more is not logged as never retrieved"
    )
