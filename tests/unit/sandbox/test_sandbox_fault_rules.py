"""Fault rules: what they hit, what they do, and what is refused."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_provider_streamsets.sandbox.faults.rules import Faults, parse_faults
from airflow_provider_streamsets.sandbox.seed.document import SeedError
from tests.unit.sandbox_hub import JR, T0, Hub

FAULTS = "/sandbox/v1/faults"
COUNT = f"{JR}/jobs/count"


def rules(*documents: dict[str, Any], seed: int = 0) -> Faults:
    return parse_faults({"seed": seed, "rules": list(documents)})


def hits(faults: Faults, requests: int, path: str = COUNT) -> list[bool]:
    return [faults.hit("GET", path) is not None for _ in range(requests)]


@pytest.fixture
def hub() -> Hub:
    return Hub()


def put(hub: Hub, *documents: dict[str, Any], seed: int = 0) -> None:
    response = hub.http.put(FAULTS, json={"seed": seed, "rules": list(documents)})
    assert response.status_code == 200, response.text


def test_the_hits_follow_from_the_seed_and_the_number_of_the_request_alone():
    rule = {"path": "*", "fault": "html", "probability": 0.3}
    first = hits(rules(rule, seed=1), 1000)
    assert 250 < sum(first) < 350
    assert hits(rules(rule, seed=1), 1000) == first
    assert hits(rules(rule, seed=2), 1000) != first
    both = rules(rule, rule, seed=1)
    assert 460 < sum(hits(both, 1000)) < 560
    first_rule = both.document()["rules"][0]
    assert (first_rule["matched"], first_rule["hit"]) == (1000, sum(first))


def test_requests_in_between_that_do_not_match_change_nothing():
    rule = {"path": f"{JR}/*", "method": "get", "fault": "html", "probability": 0.5}
    alone, among = rules(rule), rules(rule)
    mixed = []
    for _ in range(100):
        assert among.hit("GET", "/security/rest/v1/currentUser") is None
        assert among.hit("POST", COUNT) is None
        mixed.append(among.hit("GET", COUNT) is not None)
    assert mixed == hits(alone, 100)


def test_the_first_are_let_through_and_no_more_are_hit_than_asked_for():
    faults = rules({"path": "*/count", "fault": "html", "after": 2, "times": 3})
    assert hits(faults, 8) == [False, False, True, True, True, False, False, False]
    assert hits(faults, 1, "/counted") == [False]
    assert hits(rules({"path": "*", "fault": "html", "probability": 0}), 50) == [False] * 50


def test_of_several_rules_the_first_one_that_hits_does():
    faults = rules({"path": "*", "fault": "html", "times": 1}, {"path": "*", "fault": "drip", "times": 1})
    found = [faults.hit("GET", COUNT) for _ in range(3)]
    assert [rule and rule.fault for rule in found] == ["html", "drip", None]


def test_rules_are_replaced_told_and_removed_by_calls(hub, caplog):
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
    assert f"server_error hits GET {COUNT}" in caplog.text
    put(hub, {"path": COUNT, "fault": "html"})
    assert hub.http.get(COUNT).headers["Content-Type"].startswith("text/html")
    assert hub.http.delete(FAULTS).json() == {"seed": 0, "rules": [], "hits": []}
    assert hub.http.get(COUNT).json()["count"] > 0


def test_the_sandboxs_own_calls_are_never_hit(hub):
    put(hub, {"path": "*", "fault": "server_error"})
    assert hub.http.get("/healthz").status_code == 500
    assert hub.http.get("/sandbox/v1/state").status_code == 200
    assert hub.get(FAULTS)["rules"][0]["matched"] == 1


def test_a_request_that_is_not_processed_is_not_in_the_request_log(hub):
    put(hub, {"path": COUNT, "fault": "html", "times": 1})
    hub.http.get(COUNT)
    hub.http.get(COUNT)
    assert hub.get("/sandbox/v1/requests")["counts"] == {f"GET {COUNT}": 1}


GATEWAY_STATUSES = (400, 403, 404, 405, 407, 410, 413, 502, 503, 504)


@pytest.mark.parametrize("status", GATEWAY_STATUSES)
def test_gateway_answers_with_a_page(hub, status):
    put(hub, {"path": "*/start", "fault": "gateway", "status": status})
    response = hub.do("Quick check", "start")
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/html")
    assert str(status) in response.text
    assert hub.get("/sandbox/v1/starts") == []


@pytest.mark.parametrize("status", GATEWAY_STATUSES)
def test_gateway_answers_with_json_that_is_no_envelope(hub, status):
    put(hub, {"path": "*/start", "fault": "gateway", "status": status, "body": "json", "processed": True})
    response = hub.do("Quick check", "start")
    assert response.status_code == status
    assert response.json() == {"message": "no Route matched with those values"}
    assert len(hub.get("/sandbox/v1/starts")) == 1


def test_gateway_answers_404_with_a_page_by_default(hub):
    put(hub, {"path": COUNT, "fault": "gateway"})
    assert hub.http.get(COUNT).status_code == 404
    (rule,) = hub.get(FAULTS)["rules"]
    assert (rule["status"], rule["body"], rule["processed"]) == (404, "html", False)


def test_empty_answer_has_status_200_and_no_effect(hub):
    put(hub, {"path": "*/start", "fault": "empty"})
    response = hub.do("Quick check", "start")
    assert (response.status_code, response.content) == (200, b"")
    assert hub.get("/sandbox/v1/starts") == []


def test_good_credential_is_refused_once(hub):
    put(hub, {"path": COUNT, "fault": "unauthorized", "times": 1})
    response = hub.http.get(COUNT)
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "dpm")
    (issue,) = response.json()["ISSUES"]
    assert (issue["code"], issue["message"]) == ("SSO_01", "User not authenticated")
    assert response.json() == hub.http.get(COUNT, headers={"X-SS-App-Auth-Token": "wrong"}).json()
    assert hub.http.get(COUNT).status_code == 200


def test_late_request_is_answered_504_and_processed_afterwards(hub):
    put(hub, {"path": "*/start", "fault": "late", "seconds": 0})
    response = hub.do("Quick check", "start")
    assert response.status_code == 504
    assert response.headers["Content-Type"].startswith("text/html")
    assert len(hub.get("/sandbox/v1/starts")) == 1


@pytest.mark.parametrize("fault", ["reset_after", "truncated"])
def test_without_a_connection_to_end_the_call_fails_after_its_effect(hub, fault):
    put(hub, {"path": "*/start", "fault": fault})
    with pytest.raises(ConnectionResetError):
        hub.do("Quick check", "start")
    assert len(hub.get("/sandbox/v1/starts")) == 1


def test_an_answer_in_pieces_is_hit_too(hub):
    put(hub, {"path": f"{JR}/jobs/exportAllJobs", "fault": "drip", "seconds": 0})
    response = hub.http.post(f"{JR}/jobs/exportAllJobs")
    assert response.content.startswith(b"PK")
    assert int(response.headers["Content-Length"]) == len(response.content)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "faults: must be a mapping"),
        ({}, "faults: lacks 'rules'"),
        ({"rules": [], "sead": 1}, "faults: has the unknown key 'sead'"),
        ({"rules": [], "seed": "x"}, "faults: seed must be a whole number"),
        ({"rules": [{"path": "/x"}]}, "rules[0] lacks 'fault'"),
        ({"rules": [{"fault": "html"}]}, "rules[0] lacks 'path'"),
        ({"rules": [{"fault": "html", "path": "x"}]}, "rules[0].path must begin with / or *"),
        ({"rules": [{"fault": "html", "path": "*", "seconds": 1}]}, "rules[0] has the unknown key 'seconds'"),
        ({"rules": [{"fault": "delay", "path": "*", "seconds": -1}]}, "rules[0].seconds must be a number"),
        ({"rules": [{"fault": "html", "path": "*", "probability": 2}]}, "rules[0].probability must not be greater"),
        ({"rules": [{"fault": "html", "path": "*", "times": 1.5}]}, "rules[0].times must be a whole number"),
        ({"rules": [{"fault": "server_error", "path": "*", "status": 418}]}, "rules[0].status must be one of 500"),
        ({"rules": [{"fault": "server_error", "path": "*", "status": 404}]}, "rules[0].status must be one of 500"),
        ({"rules": [{"fault": "gateway", "path": "*", "status": 418}]}, "rules[0].status must be one of 404"),
        ({"rules": [{"fault": "gateway", "path": "*", "body": "xml"}]}, "rules[0].body must be one of html, json"),
        ({"rules": [{"fault": "late", "path": "*", "processed": True}]}, "rules[0] has the unknown key 'processed'"),
        ({"rules": [{"fault": "delay", "path": "*", "processed": "yes"}]}, "rules[0].processed must be true or false"),
    ],
)
def test_rules_that_are_wrong_are_refused_with_the_place(hub, document, said):
    with pytest.raises(SeedError) as caught:
        parse_faults(document)
    assert said in str(caught.value)
    response = hub.http.put(FAULTS, json=document)
    assert response.status_code == 400
    assert said in response.json()["ISSUES"][0]["message"]
