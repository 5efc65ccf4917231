from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_streamsets.control_hub import ControlHubClient
from tests.unit.fakes.api_payloads import CREDENTIAL_ID, HUB, TOKEN, VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def make_client(clock: VirtualClock) -> Iterator[Callable[..., ControlHubClient]]:
    """Makes clients that wait on the virtual clock."""
    clients = []

    def make(base_url: str | None = HUB, **settings: Any) -> ControlHubClient:
        credential = {"credential_id": CREDENTIAL_ID, "token": TOKEN, "sleep": clock.sleep}
        clients.append(ControlHubClient(base_url, **{**credential, **settings}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make_client: Callable[..., ControlHubClient]) -> ControlHubClient:
    return make_client()


@pytest.fixture
def kill_client(make_client: Callable[..., ControlHubClient]) -> ControlHubClient:
    """Sends each request once."""
    return make_client(max_attempts=1)
