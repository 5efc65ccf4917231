from __future__ import annotations

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
    Engine,
)
from tests.unit.fakes.api_payloads import (
    AMBIGUOUS_OUTCOMES,
    GATEWAY_PAGE,
    JOBS,
    JR,
    UNDELIVERED,
    UNKNOWN,
    engine_json,
    issues_json,
    methods,
    page_json,
    paths,
    payload,
    query,
)

ENGINES = f"{JR}/sdcs"
ENGINE = f"{JR}/sdc/engine-1"
BALANCE = f"{JOBS}/balanceSDCs"


def test_engine_is_read_by_id(http, client):
    http.get(ENGINE, json=engine_json(idSeparator="--"))
    engine = client.engines.get("engine-1")
    assert engine.to_dict() == {
        "engine_id": "engine-1",
        "url": "http://engine-1.example.com:18630",
        "version": "5.10.0",
        "executor_type": "COLLECTOR",
        "labels": ["prod", "eu"],
        "is_responding": True,
        "pipelines_count": 4,
        "last_reported": engine.last_reported.to_iso8601_string(),
        "id_separator": "--",
    }
    assert query(http.last_request) == {}


@pytest.mark.parametrize("separator", [None, ""])
def test_id_separator_has_default(separator):
    assert Engine.from_wire(engine_json(idSeparator=separator)).id_separator == "__"


def test_sparse_engine_is_parsed():
    engine = Engine.from_wire({"id": "engine-1"})
    assert (engine.labels, engine.is_responding, engine.pipelines_count, engine.last_reported) == ((), False, 0, None)


@pytest.mark.parametrize("answer", [{"content": b""}, {"json": None}, {"json": {}}, UNKNOWN])
def test_unknown_engine_raises_not_found(http, client, answer):
    http.get(ENGINE, **answer)
    http.post(f"{JR}/sdcs", json={})
    with pytest.raises(ControlHubNotFoundError, match="engine-1"):
        client.engines.get("engine-1")


def test_empty_engine_response_needs_confirmation(http, kill_client):
    http.get(ENGINE, content=b"")
    http.post(f"{JR}/sdcs", **GATEWAY_PAGE)
    with pytest.raises(ControlHubUnavailableError, match="without Control Hub's error envelope"):
        kill_client.engines.get("engine-1")


def test_example_engine_is_parsed(http, client):
    example = payload("engine")
    http.get(f"{JR}/sdc/{example['id']}", json=example)
    engine = client.engines.get(example["id"])
    assert (engine.engine_id, engine.labels, engine.is_responding) == (example["id"], ("prod", "eu"), True)


def test_engines_are_listed_lazily(http, client):
    everything = [engine_json(f"engine-{n}") for n in range(300)]

    def answer(request, _):
        offset = int(query(request)["offset"])
        return page_json(*everything[offset : offset + 250], total=300)

    http.get(ENGINES, json=answer)
    engines = client.engines.list()
    assert http.call_count == 0
    assert [next(engines).engine_id for _ in range(3)] == ["engine-0", "engine-1", "engine-2"]
    assert http.call_count == 1
    assert len(list(engines)) == 297
    assert [query(request)["offset"] for request in http.request_history] == ["0", "249"]
    assert query(http.last_request) == {
        "executorType": "COLLECTOR",
        "orderBy": "HTTP_URL",
        "order": "ASC",
        "offset": "249",
        "len": "250",
        "withWrapper": "true",
    }


def test_engine_filters_are_sent_and_applied(http, client):
    http.get(
        ENGINES,
        json=page_json(
            engine_json("a", labels=["eu"], reportedLabels=None),
            engine_json("b", labels=["prod"], reportedLabels=[]),
            engine_json("c", labels=None, reportedLabels=["eu"]),
            engine_json("d", labels=["EU"], reportedLabels=["europe"]),
        ),
    )
    engines = client.engines.list(label="eu", executor_type="TRANSFORMER")
    assert [engine.engine_id for engine in engines] == ["a", "c"]
    assert query(http.last_request)["label"] == "eu"
    assert query(http.last_request)["executorType"] == "TRANSFORMER"


@pytest.mark.parametrize("answer", ["x", [5], [{}], {"data": [{"labels": ["a"]}]}])
def test_invalid_engine_list_raises(http, client, answer):
    http.get(ENGINES, json=answer)
    with pytest.raises(ControlHubUnexpectedResponseError):
        list(client.engines.list())


@pytest.mark.parametrize("answer", ["x", [], {"engine-1": 5}, {"engine-1": {"labels": []}}])
def test_invalid_engines_by_id_raise(http, client, answer):
    http.post(ENGINES, json=answer)
    with pytest.raises(ControlHubUnexpectedResponseError):
        client.engines.get_all(["engine-1"])


def test_balance_uses_one_request(http, make_client):
    http.post(BALANCE, content=b"")
    assert make_client(bulk_size=1).engines.balance(["a", "b", "a"]) is None
    assert paths(http) == ["POST /jobrunner/rest/v1/jobs/balanceSDCs"]
    assert http.last_request.json() == ["a", "b"]


def test_no_engines_need_no_request(http, client):
    client.engines.balance([])
    assert client.engines.get_all([]) == {}
    assert http.call_count == 0


@pytest.mark.parametrize("end", [end for name, end in AMBIGUOUS_OUTCOMES.items() if name != "200 with HTML"])
def test_ambiguous_balance_is_not_retried(http, client, end):
    http.post(BALANCE, **end)
    with pytest.raises(ControlHubUnavailableError, match="Cannot balance engine a") as caught:
        client.engines.balance(["a"])
    assert caught.value.maybe_executed is True
    assert http.call_count == 1


@pytest.mark.parametrize("end", UNDELIVERED.values(), ids=UNDELIVERED)
def test_undelivered_balance_is_retried(http, client, end):
    http.post(BALANCE, [end, {"content": b""}])
    client.engines.balance(["a"])
    assert methods(http) == ["POST", "POST"]


def test_rejected_balance_raises(http, client):
    http.post(BALANCE, status_code=400, json=issues_json(("JOBRUNNER_4", "no such engine")))
    with pytest.raises(ControlHubRejectedError, match=r"Cannot balance 2 engines: .*JOBRUNNER_4 - no such engine"):
        client.engines.balance(["a", "b"])


@pytest.mark.parametrize("status", [401, 403, 400, 503])
def test_failed_request_is_not_missing_engine(http, kill_client, status):
    http.get(ENGINE, status_code=status)
    http.get(ENGINES, status_code=status)
    for ask in (lambda: kill_client.engines.get("engine-1"), lambda: list(kill_client.engines.list())):
        with pytest.raises(ControlHubError, match=r"Cannot (read|list) engine") as caught:
            ask()
        assert not isinstance(caught.value, ControlHubNotFoundError)
