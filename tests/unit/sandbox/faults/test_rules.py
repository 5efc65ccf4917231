"""Fault rules: selection of requests and validation."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_provider_streamsets.sandbox.faults.rules import FaultRules, parse_faults
from airflow_provider_streamsets.sandbox.seed.document import SeedError
from tests.unit.fakes.sandbox_app import JR, T0, Hub

FAULTS = "/sandbox/v1/faults"
COUNT = f"{JR}/jobs/count"


def rules(*documents: dict[str, Any], seed: int = 0) -> FaultRules:
    return parse_faults({"seed": seed, "rules": list(documents)})


def hits(faults: FaultRules, requests: int, path: str = COUNT) -> list[bool]:
    return [faults.select("GET", path) is not None for _ in range(requests)]


def put(hub: Hub, *documents: dict[str, Any], seed: int = 0) -> None:
    response = hub.http.put(FAULTS, json={"seed": seed, "rules": list(documents)})
    assert response.status_code == 200, response.text


def test_hits_depend_on_seed_and_request_number():
    rule = {"path": "*", "fault": "html", "probability": 0.3}
    first = hits(rules(rule, seed=1), 1000)
    assert 250 < sum(first) < 350
    assert hits(rules(rule, seed=1), 1000) == first
    assert hits(rules(rule, seed=2), 1000) != first
    both = rules(rule, rule, seed=1)
    assert 460 < sum(hits(both, 1000)) < 560
    first_rule = both.to_dict()["rules"][0]
    assert (first_rule["matched"], first_rule["hit"]) == (1000, sum(first))


def test_other_requests_do_not_affect_hits():
    rule = {"path": f"{JR}/*", "method": "get", "fault": "html", "probability": 0.5}
    plain_rules, mixed_rules = rules(rule), rules(rule)
    mixed = []
    for _ in range(100):
        assert mixed_rules.select("GET", "/security/rest/v1/currentUser") is None
        assert mixed_rules.select("POST", COUNT) is None
        mixed.append(mixed_rules.select("GET", COUNT) is not None)
    assert mixed == hits(plain_rules, 100)


def test_rate_limit_refills_with_time(monkeypatch):
    now = 100.0
    monkeypatch.setattr("airflow_provider_streamsets.sandbox.faults.rules.monotonic", lambda: now)
    faults = rules({"path": "*", "fault": "too_many_requests", "per_second": 3.0})
    assert hits(faults, 5) == [False, False, False, True, True]
    now += 0.34
    assert hits(faults, 2) == [False, True]
    now += 60
    assert hits(faults, 5) == [False, False, False, True, True]
    rare = rules({"path": "*", "fault": "too_many_requests", "per_second": 0.5})
    assert hits(rare, 2) == [False, True]
    now += 2
    assert hits(rare, 2) == [False, True]


def test_after_and_times_limit_hits():
    faults = rules({"path": "*/count", "fault": "html", "after": 2, "times": 3})
    assert hits(faults, 8) == [False, False, True, True, True, False, False, False]
    assert hits(faults, 1, "/counted") == [False]
    assert hits(rules({"path": "*", "fault": "html", "probability": 0}), 50) == [False] * 50


def test_first_selected_rule_applies():
    faults = rules({"path": "*", "fault": "html", "times": 1}, {"path": "*", "fault": "drip", "times": 1})
    found = [faults.select("GET", COUNT) for _ in range(3)]
    assert [rule and rule.fault for rule in found] == ["html", "drip", None]


def test_admin_routes_replace_and_remove_rules(hub, caplog):
    caplog.set_level(logging.INFO)
    put(hub, {"path": COUNT, "method": "GET", "fault": "server_error", "status": 502, "times": 1}, seed=4)
    assert hub.http.get(COUNT).status_code == 502
    assert hub.http.get(COUNT).status_code == 200
    assert hub.get(FAULTS) == {
        "seed": 4,
        "rules": [
            {
                "fault": "server_error",
                "path": COUNT,
                "method": "GET",
                "probability": 1.0,
                "after": 0,
                "times": 1,
                "status": 502,
                "processed": False,
                "matched": 2,
                "hit": 1,
            }
        ],
        "hits": [{"time": T0, "method": "GET", "path": COUNT, "fault": "server_error", "caller": None}],
    }
    assert f"GET {COUNT}: injecting fault 'server_error'" in caplog.text
    put(hub, {"path": COUNT, "fault": "html"})
    assert hub.http.get(COUNT).headers["Content-Type"].startswith("text/html")
    assert hub.http.delete(FAULTS).json() == {"seed": 0, "rules": [], "hits": []}
    assert hub.http.get(COUNT).json()["count"] > 0


def test_added_rule_keeps_counts_of_others(hub):
    put(hub, {"path": COUNT, "fault": "html", "times": 1}, seed=4)
    assert hub.http.get(COUNT).headers["Content-Type"].startswith("text/html")
    added = hub.http.post(FAULTS, json={"rules": [{"path": COUNT, "fault": "server_error", "times": 1}]}).json()
    assert (added["seed"], [rule["hit"] for rule in added["rules"]]) == (4, [1, 0])
    assert [hub.http.get(COUNT).status_code for _ in range(2)] == [500, 200]
    assert hub.http.post(FAULTS, json={"rules": [{"path": COUNT, "fault": "nope"}]}).status_code == 400
    assert len(hub.get(FAULTS)["rules"]) == 2


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "faults: must be a mapping"),
        ({}, "faults: has no 'rules'"),
        ({"rules": [], "sead": 1}, "faults: has the unknown key 'sead'"),
        ({"rules": [], "seed": "x"}, "faults: seed must be an integer"),
        ({"rules": [{"path": "/x"}]}, "rules[0] has no 'fault'"),
        ({"rules": [{"fault": "html"}]}, "rules[0] has no 'path'"),
        ({"rules": [{"fault": "html", "path": "x"}]}, "rules[0].path must start with / or *"),
        ({"rules": [{"fault": "html", "path": "*", "seconds": 1}]}, "rules[0] has the unknown key 'seconds'"),
        ({"rules": [{"fault": "delay", "path": "*", "seconds": -1}]}, "rules[0].seconds must be a number"),
        ({"rules": [{"fault": "html", "path": "*", "probability": 2}]}, "rules[0].probability must not be greater"),
        ({"rules": [{"fault": "html", "path": "*", "times": 1.5}]}, "rules[0].times must be an integer"),
        ({"rules": [{"fault": "server_error", "path": "*", "status": 418}]}, "rules[0].status must be one of 500"),
        ({"rules": [{"fault": "server_error", "path": "*", "status": 404}]}, "rules[0].status must be one of 500"),
        ({"rules": [{"fault": "gateway", "path": "*", "status": 418}]}, "rules[0].status must be one of 404"),
        ({"rules": [{"fault": "gateway", "path": "*", "body": "xml"}]}, "rules[0].body must be one of html, json"),
        ({"rules": [{"fault": "late", "path": "*", "processed": True}]}, "rules[0] has the unknown key 'processed'"),
        ({"rules": [{"fault": "delay", "path": "*", "processed": "yes"}]}, "rules[0].processed must be true or false"),
    ],
)
def test_invalid_rules_raise_error_with_path(hub, document, message):
    with pytest.raises(SeedError) as caught:
        parse_faults(document)
    assert message in str(caught.value)
    response = hub.http.put(FAULTS, json=document)
    assert response.status_code == 400
    assert message in response.json()["ISSUES"][0]["message"]
