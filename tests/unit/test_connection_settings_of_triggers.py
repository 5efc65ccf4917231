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
from tests.unit.virtual_time import run_virtually


class Backend:
    """Where connections are read from; records what was asked for."""

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


def test_triggers_that_begin_together_read_their_connection_once(backend):
    async def scene() -> list[ConnectionSettings]:
        return await asyncio.gather(*(connection_settings("streamsets_default") for _ in range(1000)))

    read = run_virtually(scene())
    assert backend.asked == ["streamsets_default"]
    assert {settings.fingerprint for settings in read} == {read[0].fingerprint}


def test_an_edited_connection_is_picked_up_by_those_that_begin_later(backend, monkeypatch):
    async def scene() -> tuple[str, str]:
        before = await connection_settings("streamsets_default")
        monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", '{"conn_type": "streamsets", "login": "other"}')
        await asyncio.sleep(11)
        return before.credential_id, (await connection_settings("streamsets_default")).credential_id

    assert run_virtually(scene()) == ("credential-id", "other")


def test_the_end_of_the_trigger_that_came_first_does_not_end_the_reading_of_the_others(backend):
    async def scene() -> ConnectionSettings:
        first = asyncio.create_task(connection_settings("streamsets_default"))
        second = asyncio.create_task(connection_settings("streamsets_default"))
        await asyncio.sleep(0.5)
        first.cancel()
        return await second

    assert run_virtually(scene()).credential_id == "credential-id"
    assert len(backend.asked) == 1


def test_a_reading_that_fails_for_a_reason_that_may_pass_is_repeated(backend):
    backend.errors = [RuntimeError("the vault is sealed")] * 3

    async def scene() -> ConnectionSettings:
        return await connection_settings("streamsets_default")

    assert run_virtually(scene()).credential_id == "credential-id"
    assert len(backend.asked) == 4


def test_an_error_is_told_to_all_who_wait_and_is_not_kept(backend):
    backend.errors = [AirflowNotFoundException("no such connection"), ControlHubConfigurationError("not right")]

    async def scene() -> None:
        results = await asyncio.gather(
            *(connection_settings("streamsets_default") for _ in range(3)), return_exceptions=True
        )
        assert [type(result) for result in results] == [AirflowNotFoundException] * 3
        with pytest.raises(ControlHubConfigurationError):
            await connection_settings("streamsets_default")
        assert (await connection_settings("streamsets_default")).credential_id == "credential-id"

    run_virtually(scene())


def test_two_connections_are_two(backend, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", '{"conn_type": "streamsets", "login": "other"}')

    async def scene() -> list[ConnectionSettings]:
        return await asyncio.gather(connection_settings("streamsets_default"), connection_settings("other"))

    assert [settings.credential_id for settings in run_virtually(scene())] == ["credential-id", "other"]


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

    assert run_virtually(scene()) == "other"


def test_cancelled_trigger_leaves_no_old_error_behind(backend, caplog):
    backend.errors = [AirflowNotFoundException("no such connection")]

    async def scene() -> str:
        await cancel_only_reader()
        return (await connection_settings("streamsets_default")).credential_id

    assert run_virtually(scene()) == "credential-id"
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"], (
        "the error of a reading that nobody awaits any more is not logged as never retrieved"
    )
