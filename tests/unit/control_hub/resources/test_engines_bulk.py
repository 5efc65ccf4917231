from __future__ import annotations

import pytest

from airflow_provider_streamsets.control_hub import ControlHubNotFoundError
from tests.unit.fakes.api_payloads import JR

SDCS = f"{JR}/sdcs"


def answers_with(http, *engine_ids, unknown=()):
    """Register these engines; the unknown ones are null in the answers. Returns the requested ids."""
    asked = []

    def answer(request, _):
        asked.append(request.json())
        known = {engine_id: {"id": engine_id} for engine_id in request.json() if engine_id in engine_ids}
        return {**known, **{engine_id: None for engine_id in request.json() if engine_id in unknown}}

    http.post(SDCS, json=answer)
    return asked


def test_get_all_sends_batches(http, make_client):
    asked = answers_with(http, "a", "b", "c")
    engines = make_client(bulk_size=2).engines.get_all(["c", "a", "c", "b"])
    assert list(engines) == ["c", "a", "b"]
    assert [engine.engine_id for engine in engines.values()] == ["c", "a", "b"]
    assert asked == [["c", "a"], ["b"]]


def test_get_all_names_every_missing_engine(http, client):
    answers_with(http, "a", unknown=["b"])
    with pytest.raises(ControlHubNotFoundError, match="Cannot read engines b, c: not found"):
        client.engines.get_all(["a", "b", "c"])


def test_empty_response_means_no_engines(http, client):
    http.post(SDCS, json={})
    with pytest.raises(ControlHubNotFoundError, match="Cannot read engines a: not found"):
        client.engines.get_all(["a"])
