"""The API over an in-process client and a clock that stands still until it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.unit.sandbox_hub import JR, OFFSET, SEED, T0, Hub


@pytest.fixture(scope="module")
def still() -> Hub:
    """A hub that is only read."""
    return Hub()


@pytest.fixture
def hub() -> Hub:
    return Hub()


# -- access


@pytest.mark.parametrize("missing", ["X-SS-App-Component-Id", "X-SS-App-Auth-Token", "X-Requested-By"])
def test_a_missing_header_is_a_401_on_every_kind_of_path(still, missing):
    headers = {name: value for name, value in still.headers.items() if name != missing}
    for path in (f"{JR}/jobs", "/security/rest/v1/currentUser", "/no/such/path", "/sandbox/v1/state"):
        response = TestClient(still.app, headers=headers).get(path)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "dpm"
        assert response.json() == {"ISSUES": [{"code": "SSO_01", "message": "User not authenticated"}]}


def test_the_token_ends_in_a_dot_and_names_the_organization(still):
    token = still.app.state.hub.credential.token
    _, payload, signature = token.split(".")
    assert signature == ""
    assert not set(payload) & set("-_+/=")
    assert token not in repr(still.app.state.hub)


def test_the_login_service_and_the_pages_need_no_credential(still):
    anyone = TestClient(still.app)
    organization = still.world.organization
    body = anyone.get(f"/login/api/security/public/v3/orgs/{organization}/info").json()
    assert body["data"]["landingUrl"] == "http://testserver/security/public-rest/v1/aster/landing"
    assert anyone.get("/login/api/security/public/v3/orgs/other/info").status_code == 404
    assert anyone.get("/healthz").status_code == 200
    assert anyone.get("/").status_code == 200


def test_what_is_not_served_says_so(still):
    response = still.http.post(f"{JR}/jobPolicy", json={})
    assert response.status_code == 404
    assert "the sandbox does not serve this yet" in response.json()["ISSUES"][0]["message"]


# -- finding jobs


def test_jobs_are_filtered_as_asked(still):
    org = still.world.organization
    assert still.names(jobSearchText="Quick check", jobSearchOperation="EQUALS") == ["Quick check"]
    assert still.names(jobSearchText="Quick", jobSearchOperation="EQUALS") == []
    assert still.names(jobSearchText="Quick", jobSearchOperation="STARTS_WITH") == ["Quick check"]
    assert still.names(filterText="stock") == ["Stock levels", "Stock levels"]
    assert still.names(jobTag=f"nightly/orders:{org}") == ["Orders to warehouse"]
    assert still.names(jobTag="nightly/orders") == []
    assert still.names(jobLabel="field") == ["Legacy feed", "Sensors archive"]
    assert still.names(jobStatus="ACTIVE") == ["Truck positions north", "Truck positions south", "Web logs to lake"]
    assert still.names(jobStatusColor="RED") == ["Customers nightly", "Ledger export"]
    assert still.names(jobTemplate="True") == ["Regional orders"]
    assert "Regional orders" not in still.names(jobTemplate="False")
    assert still.names(templateJobId=still.id("Regional orders")) == ["Regional orders - 1"]
    assert still.names(removed="true") == []
    assert still.names(executorType="TRANSFORMER") == []
    assert still.names(f"{JR}/jobs/byStatus", jobStatus="INACTIVE_ERROR") == ["Ledger export"]
    assert "Orders to warehouse" in still.names(f"{JR}/jobs/byStatus")
    assert still.names(f"{JR}/metrics/problematicJobs") == ["Customers nightly", "Ledger export"]


def test_empty_parameters_are_unset_and_unknown_ones_ignored(still):
    everything = still.names()
    assert still.names(jobSearchText="", jobStatus="", len="", whatever="x", project="p", removed="False") == everything


@pytest.mark.parametrize(
    "query", [{"len": "x"}, {"offset": "-1"}, {"jobTemplate": "maybe"}, {"orderBy": "SIZE"}, {"jobStatus": "DONE"}]
)
def test_nonsense_in_a_query_is_a_400(still, query):
    response = still.http.get(f"{JR}/jobs", params=query)
    assert response.status_code == 400
    assert next(iter(query)) in response.json()["ISSUES"][0]["message"]


def test_pages_end(still):
    total = len(still.world.jobs)
    first = still.get(f"{JR}/jobs", offset=0, len=5, withWrapper="True")
    assert (first["totalCount"], first["offset"], first["len"], len(first["data"])) == (total, 0, 5, 5)
    assert still.get(f"{JR}/jobs", offset=total, len=5, withWrapper="True")["data"] == []
    assert still.get(f"{JR}/sdcs", offset=250, len=250, withWrapper="True")["data"] == []
    pages = [still.names(offset=start, len=5) for start in range(0, total, 5)]
    assert [name for names in pages for name in names] == still.names()


def test_order_is_as_asked(still):
    names = still.names(orderBy="NAME", order="ASC")
    assert names == sorted(names)
    assert still.names(orderBy="NAME", order="DESC") == sorted(names, reverse=True)


def test_ids_are_accepted_with_an_escaped_colon(still):
    job_id = still.id("Quick check")
    assert still.get(f"{JR}/job/{job_id.replace(':', '%3A')}")["id"] == job_id


def test_jobs_are_read_by_ids_without_those_that_do_not_exist(still):
    ids = [still.id("Quick check"), "no:no", still.id("Legacy feed")]
    bodies = still.http.post(f"{JR}/jobs", json=ids).json()
    assert [body["name"] for body in bodies] == ["Quick check", "Legacy feed"]
    assert still.http.post(f"{JR}/jobs", json={"a": 1}).status_code == 400
    assert still.http.post(f"{JR}/jobs", content=b"{").status_code == 400


# -- running


def test_a_batch_run_from_start_to_final_metrics(hub):
    started = hub.do("Quick check", "start").json()
    assert (started["runCount"], started["status"], started["color"]) == (1, "ACTIVATING", "GREEN")
    assert (started["startTime"], started["finishTime"], started["user"]) == (T0, 0, hub.world.user)
    assert started["pipelineStatus"] == []
    hub.clock.advance(0.4)
    active = hub.status("Quick check")
    assert (active["status"], active["pipelineStatus"][0]["status"]) == ("ACTIVE", "RUNNING")
    hub.clock.advance(1)
    done = hub.status("Quick check")
    assert (done["status"], done["color"], done["pipelineStatus"]) == ("INACTIVE", "GRAY", [])
    assert (done["finishTime"], done["inputRecordCount"]) == (T0 + 1100, 0)
    assert hub.counts("Quick check") == {}
    hub.clock.advance(2)
    assert hub.status("Quick check")["inputRecordCount"] == 100
    counts = hub.counts("Quick check")
    assert list(counts) == ["0"]
    assert "runCount" not in counts["0"]
    assert counts["0"]["lastUpdatedOn"] == T0 + 2800
    document = hub.get(f"{JR}/job/{hub.id('Quick check')}/committedOffsets")
    assert document == {"version": 2, "offsets": {OFFSET: "100"}}
    assert json.loads(hub.status("Quick check")["pipelineOffsets"][0]["offset"]) == document


def test_record_counts_number_all_runs_but_the_latest(hub):
    counts = hub.counts("Orders to warehouse")
    assert [counts[key].get("runCount") for key in "012"] == [None, 2, 1]
    assert counts["1"]["inputCount"] == 21_000
    hub.do("Orders to warehouse", "start")
    assert [entry.get("runCount") for entry in hub.counts("Orders to warehouse").values()] == [None, 2, 1]
    hub.clock.advance(6)
    counts = hub.counts("Orders to warehouse")
    assert [counts[key].get("runCount") for key in "0123"] == [None, 3, 2, 1]
    assert (counts["0"]["inputCount"], counts["0"]["errorCount"]) == (20_000, 100)


def test_an_active_job_cannot_be_started_and_an_inactive_one_not_stopped(hub):
    refused = hub.do("Web logs to lake", "start")
    assert refused.status_code == 400
    assert refused.json()["ISSUES"][0]["code"].startswith("JOBRUNNER_")
    assert "ACTIVE" in refused.json()["ISSUES"][0]["message"]
    assert hub.do("Quick check", "stop").status_code == 400
    assert hub.do("Ledger export", "start").status_code == 400
    assert hub.do("Regional orders", "start").status_code == 400
    assert hub.do("Quick check", "sync").status_code == 400
    assert hub.do("Quick check", "start").status_code == 200
    assert hub.do("Quick check", "stop").status_code == 400
    assert [start.job_name for start in hub.world.starts] == ["Quick check"]


def test_a_stop_may_be_repeated(hub):
    assert hub.do("Web logs to lake", "stop").json()["status"] == "DEACTIVATING"
    assert hub.do("Web logs to lake", "stop").status_code == 200
    hub.clock.advance(1)
    assert (hub.status("Web logs to lake")["status"], hub.status("Web logs to lake")["color"]) == ("INACTIVE", "GRAY")


def test_an_acknowledged_error_lets_the_job_start_again(hub):
    assert hub.do("Ledger export", "acknowledgeError").json()["status"] == "INACTIVE"
    assert hub.do("Ledger export", "start").json()["runCount"] == 2


def test_errors_are_acknowledged_in_bulk_and_only_once(hub):
    hub.do("Payments reconciliation", "start")
    hub.clock.advance(30)
    ids = [hub.id("Ledger export"), hub.id("Payments reconciliation")]
    assert hub.http.post(f"{JR}/jobs/startJobs", json=ids).status_code == 400
    for _ in range(2):
        assert hub.http.post(f"{JR}/jobs/acknowledgeErrors", json=[*ids, hub.id("Quick check")]).status_code == 200
    for name in ("Ledger export", "Payments reconciliation"):
        status = hub.status(name)
        assert (status["status"], bool(status["errorMessage"])) == ("INACTIVE", True)
        events = hub.get(f"{JR}/job/{status['id']}/jobStatusHistory")
        acks = [event for event in events if event["message"] == "Job error acknowledged"]
        assert [event["user"] for event in acks] == [hub.world.user]
    assert hub.http.post(f"{JR}/jobs/startJobs", json=ids).status_code == 200


def test_bulk_actions_do_all_or_nothing_and_answer_without_a_body(hub):
    ids = [hub.id("Quick check"), hub.id("Inventory snapshot")]
    assert hub.http.post(f"{JR}/jobs/startJobs", json=[*ids, "no:no"]).status_code == 404
    assert hub.http.post(f"{JR}/jobs/startJobs", json=[*ids, hub.id("Web logs to lake")]).status_code == 400
    assert hub.world.starts == []
    response = hub.http.post(f"{JR}/jobs/startJobs", json=ids)
    assert (response.status_code, response.content) == (200, b"")
    assert [start.run_count for start in hub.world.starts] == [1, 1]


def test_runtime_parameters_of_a_start_tune_the_run(hub):
    assert hub.do("Quick check", "start", {"RECORDS": 7, "UNKNOWN": "x"}).status_code == 200
    hub.clock.advance(10)
    assert hub.counts("Quick check")["0"]["inputCount"] == 7
    hub.do("Quick check", "start", {"RECORDS": "lots"})
    hub.clock.advance(10)
    assert "RECORDS" in hub.status("Quick check")["errorMessage"]
    for wrong in ([], "text", 5):
        assert hub.do("Quick check", "start", wrong).status_code == 400


def test_a_lost_engine_shows_in_color_warnings_engine_and_tunnel(hub):
    hub.do("Sensors archive", "start")
    hub.clock.advance(6)
    lost = hub.status("Sensors archive")
    assert (lost["status"], lost["color"]) == ("ACTIVE", "RED")
    assert [warning.split(" - ")[0] for warning in lost["warnings"]] == ["JOBRUNNER_62", "JOBRUNNER_24"]
    engine = hub.get(f"{JR}/sdc/{lost['sdcIds'][0]}")
    assert engine["responding"] is False
    assert engine["lastReportedTime"] == lost["pipelineStatus"][0]["lastReportedTime"] == T0 + 4000
    assert hub.get(f"/tunneling/rest/connection/{engine['id']}") is None
    hub.clock.advance(4)
    assert hub.status("Sensors archive")["color"] == "GREEN"
    hub.clock.advance(20)
    assert hub.status("Sensors archive")["color"] == "GRAY"


@pytest.mark.parametrize("instances", [-1, 2])
def test_several_instances_run_on_several_engines(instances):
    jobs = tuple(replace(job, instances=instances) for job in SEED.jobs)
    hub = Hub(replace(SEED, jobs=jobs))
    hub.do("Quick check", "start")
    hub.clock.advance(0.5)
    reported = hub.status("Quick check")["pipelineStatus"]
    assert len({entry["sdcId"] for entry in reported}) == 2
    hub.clock.advance(5)
    assert hub.counts("Quick check")["0"]["inputCount"] == 200
    one = hub.get(
        f"/timeseries/rest/v1/metrics/job/{hub.id('Quick check')}/recordCountsForAllRuns",
        sdcId=reported[1]["sdcId"],
    )
    assert (one["0"]["inputCount"], one["0"]["sdcId"]) == (100, reported[1]["sdcId"])


def test_offsets_are_kept_reset_and_uploaded(hub):
    orders = hub.id("Orders to warehouse")
    assert hub.get(f"{JR}/job/{orders}/committedOffsets")["offsets"][OFFSET] == "orders.csv::141000"
    assert hub.http.post(f"{JR}/jobs/resetOffset", json=[orders]).status_code == 200
    assert hub.get(f"{JR}/job/{orders}/committedOffsets") is None
    assert hub.status("Orders to warehouse")["pipelineOffsets"] is None
    assert hub.get(f"{JR}/job/{orders}/history")[1]["pipelineOffsets"]
    hub.do("Orders to warehouse", "start")
    hub.clock.advance(60)
    assert hub.get(f"{JR}/job/{orders}/committedOffsets")["offsets"][OFFSET] == "orders.csv::60000"
    assert hub.do("Web logs to lake", "resetOffset").status_code == 400


def test_an_upload_gives_a_job_that_never_ran_a_status(hub):
    document = {"version": 2, "offsets": {OFFSET: "orders.csv::5"}}
    body = hub.do("Quick check", "uploadOffsetAsJson", document).json()
    assert body["currentJobStatus"]["runCount"] == 0
    assert len(body["currentJobStatus"]["pipelineOffsets"]) == 1
    upload = hub.http.post(
        f"{JR}/job/{hub.id('Quick check')}/uploadOffset", files={"file": ("o.json", json.dumps(document))}
    )
    assert upload.status_code == 200
    for wrong in (None, {}, {"version": 1, "offsets": {}}, {"version": 2, "offsets": {"a": 1}}):
        assert hub.do("Quick check", "uploadOffsetAsJson", wrong).status_code == 400


def test_live_metrics_come_through_the_tunnel(hub):
    status = hub.status("Web logs to lake")
    pipeline = status["pipelineStatus"][0]
    path = f"/tunneling/rest/{pipeline['sdcId']}/rest/v1/pipeline/{pipeline['name']}/metrics"
    instance = hub.get(f"/tunneling/rest/connection/{pipeline['sdcId']}")["instanceId"]
    live = hub.get(path, TUNNELING_INSTANCE_ID=instance, onlyIfExists="True")
    assert live["meters"]["pipeline.batchInputRecords.meter"]["count"] == 220 * 7199
    assert status["enginePipelineId"] == pipeline["name"]
    assert hub.http.get(path).status_code == 400
    unknown = hub.http.get(path.replace(pipeline["name"], "none"), params={"TUNNELING_INSTANCE_ID": instance})
    assert unknown.json() is None
    hub.do("Web logs to lake", "stop")
    hub.clock.advance(5)
    assert hub.http.get(path, params={"TUNNELING_INSTANCE_ID": instance}).status_code == 204


def test_job_sequences_are_an_array(still):
    assert still.get(f"/sequencing/rest/v1/sequencing/job/{still.id('Quick check')}/sequence") == []


def test_services_publish_swagger_and_openapi_documents(still):
    openapi = still.get("/jobrunner/rest/openapi.json")
    swagger = still.get("/jobrunner/rest/swagger.json")
    assert (openapi["openapi"], swagger["swagger"]) == ("3.0.1", "2.0")
    assert swagger["paths"] == openapi["paths"]
    assert swagger["definitions"].keys() == openapi["components"]["schemas"].keys()
    job = swagger["definitions"]["JobJson"]["properties"]
    assert job.keys() == openapi["components"]["schemas"]["JobJson"]["properties"].keys()
    assert job["currentJobStatus"] == {"$ref": "#/definitions/JobStatusJson"}
    for name in ("swagger", "openapi"):
        assert still.http.get(f"/nobody/rest/{name}.json").status_code == 404


def test_organization_is_accepted_in_header_and_searches(still):
    for name in ("organization", "orgId"):
        found = still.names(f"{JR}/saql/jobs/search", search='name=="Quick check"', **{name: still.world.organization})
        assert found == ["Quick check"]
    headers = {"X-SS-Org-Id": still.world.organization}
    assert still.http.get(f"{JR}/jobs/count", headers=headers).status_code == 200


def test_every_path_that_is_served_answers(hub):
    job = hub.get(f"{JR}/job/{hub.id('Web logs to lake')}")
    status = job["currentJobStatus"]
    engine_id = status["sdcIds"][0]
    known = {
        "job_id": job["id"],
        "run_id": status["id"],
        "template_id": hub.id("Regional orders"),
        "engine_id": engine_id,
        "pipeline_id": job["pipelineId"],
        "engine_pipeline_id": status["enginePipelineId"],
        "commit_id": job["pipelineCommitId"],
        "organization": job["organization"],
        "service": "jobrunner",
    }
    query = {
        "jobId": job["id"],
        "pipelineCommitId": job["pipelineCommitId"],
        "pipeline": status["enginePipelineId"],
        "TUNNELING_INSTANCE_ID": hub.get(f"/tunneling/rest/connection/{engine_id}")["instanceId"],
    }
    bulk = (
        "Jobs", "Errors", "SDCs", "/status", "/jobs", "/sdcs", "Bulk", "latestCommit", "jobs/resetOffset", "Templates",
        "OfDeletedJobs",
    )  # fmt: skip
    called = 0
    for route in hub.app.state.api_routes:
        path = route.path.format(**known)
        if "GET" in route.methods:
            response = hub.http.get(path, params=query)
        elif "POST" in route.methods and path.endswith(bulk) and not path.endswith("/importJobs"):
            response = hub.http.post(path, json=[])
        else:
            continue
        assert response.status_code == 200, (path, response.text)
        called += 1
    assert called > 60


# -- variants


@pytest.mark.parametrize(
    ("variant", "status", "code"),
    [
        ("404", 404, "JOBRUNNER_01"),
        ("400", 400, "JOBRUNNER_01"),
        ("403", 403, "JOBRUNNER_05"),
        ("500", 500, "JOBRUNNER_01"),
        ("foreign_code", 404, "RESTAPI_02"),
    ],
)
def test_variants_of_an_unknown_job(variant, status, code):
    hub = Hub(unknown_job=variant)
    for response in (
        hub.http.get(f"{JR}/job/no:no/currentStatus"),
        hub.http.post(f"{JR}/job/no:no/start"),
        hub.http.post(f"{JR}/jobs/startJobs", json=["no:no"]),
    ):
        assert response.status_code == status
        assert [issue["code"] for issue in response.json()["ISSUES"]] == [code]
    assert hub.http.post(f"{JR}/jobs/status", json=["no:no"]).json() == {}
    assert hub.http.post(f"{JR}/jobs", json=["no:no"]).json() == []


def test_unknown_job_is_answered_without_a_body_by_default(still):
    for path in (f"{JR}/job/no:no", f"{JR}/job/no:no/currentStatus", f"{JR}/job/logMessages?jobId=no:no"):
        response = still.http.get(path)
        assert (response.status_code, response.content) == (200, b"")
    assert still.http.post(f"{JR}/jobs/startJobs", json=["no:no"]).status_code == 404
    assert still.http.post(f"{JR}/jobs/status", json=["no:no"]).json() == {}


def test_variants_of_a_job_that_never_ran():
    path = f"{JR}/job/{Hub().id('Quick check')}/currentStatus"
    assert Hub(never_run_status="empty").http.get(path).content == b""
    assert Hub(never_run_status="null").http.get(path).content == b"null"
    assert Hub(never_run_status="object").get(path)["runCount"] == 0
    ids = [Hub().id("Quick check"), "no:no", Hub().id("Orders to warehouse")]
    assert set(Hub().http.post(f"{JR}/jobs/status", json=ids).json()) == {ids[2]}
    assert Hub(bulk_missing="null").http.post(f"{JR}/jobs/status", json=ids).json()[ids[0]] is None


def test_variants_of_starting():
    for status in ("400", "409", "500"):
        assert Hub(wrong_state=status).do("Web logs to lake", "start").status_code == int(status)
    assert Hub(start_body="empty").do("Quick check", "start").content == b""
    merging = Hub(start_parameters="merge", start_parameters_kept="stored")
    merging.do("Orders to warehouse", "start", {"RATE": "1"})
    expected = {"SOURCE_DIR": "/data/in", "BATCH_SIZE": "1000", "RATE": "1"}
    assert json.loads(merging.get(f"{JR}/job/{merging.id('Orders to warehouse')}")["runtimeParameters"]) == expected
    plain = Hub()
    plain.do("Orders to warehouse", "start", {"RATE": "1"})
    assert plain.world.job(plain.id("Orders to warehouse")).runs[-1].parameters == {"RATE": "1"}
    assert json.loads(plain.get(f"{JR}/job/{plain.id('Orders to warehouse')}")["runtimeParameters"]) != expected


def test_variant_of_a_status_that_lags_behind_the_start():
    hub = Hub(start_status_lag="previous")
    hub.do("Orders to warehouse", "start")
    assert (hub.status("Orders to warehouse")["runCount"], hub.status("Orders to warehouse")["status"]) == (
        3,
        "INACTIVE",
    )
    hub.clock.advance(0.5)
    assert hub.status("Orders to warehouse")["runCount"] == 4


def test_variants_of_lists_and_orders():
    runs = f"{JR}/saql/jobs/search/{Hub().id('Orders to warehouse')}/runs"
    assert [run["runCount"] for run in Hub().get(runs, len=-1)["data"]] == [3, 2, 1]
    assert [run["runCount"] for run in Hub(runs_order="asc").get(runs, len=-1)["data"]] == [1, 2, 3]
    assert len(Hub().get(runs)["data"]) == 3
    assert Hub(saql_len_zero="none").get(runs)["data"] == []
    assert Hub(filter_text="exact").names(filterText="Stock") == []
    assert "Regional orders" not in Hub(job_template_omitted="instances").names()


def test_variants_of_counts_while_the_latest_run_has_saved_nothing():
    for variant, keys in (("previous", "012"), ("absent", "123"), ("zeros", "0123")):
        hub = Hub(counts_of_latest=variant)
        hub.do("Orders to warehouse", "start")
        assert list(hub.counts("Orders to warehouse")) == list(keys)


def test_variants_of_the_user_of_run_events():
    for variant, users in (("person", {None, "user"}), ("starter_on_all", {"user"})):
        hub = Hub(event_users=variant)
        run = hub.status("Orders to warehouse")
        events = hub.get(f"{JR}/job/{run['id']}/jobStatusHistory")
        assert {event["user"] and "user" for event in events} == users
        assert {event["user"] for event in events} <= {None, run["user"]}
        assert len(hub.get(f"{JR}/job/logMessages", jobId=hub.id("Orders to warehouse"), runCount=3)) == 3


def test_variant_of_an_engine_whose_clock_is_behind():
    def times(seconds: float) -> dict[str, int]:
        hub = Hub(engine_clock_behind=seconds)
        hub.do("Truck positions north", "stop")
        hub.clock.advance(10)
        events = hub.get(f"{JR}/job/{hub.status('Truck positions north')['id']}/jobStatusHistory")
        return {event["message"]: event["time"] for event in events}

    punctual, behind = times(0), times(3)
    assert len(punctual) == 5
    for message, time in punctual.items():
        assert time - behind[message] == (3000 if "reported pipeline in status" in message else 0)
    assert max(behind, key=lambda message: behind[message]) == "Job stopped"


def test_variants_of_stopping():
    assert Hub(stop_inactive="accepted").do("Orders to warehouse", "stop").json()["status"] == "INACTIVE"
    hub = Hub(stop_while_activating="accepted")
    hub.do("Quick check", "start")
    assert hub.do("Quick check", "stop").json()["status"] == "DEACTIVATING"
    assert Hub(acknowledge_elsewhere="refused").do("Quick check", "acknowledgeError").status_code == 400
    assert Hub(color_in_transition="GRAY").do("Quick check", "start").json()["color"] == "GRAY"


# -- the sandbox's own calls


def test_clock_variants_and_request_log_are_under_control(hub):
    def post(path: str, body: Any) -> Any:
        return hub.http.post(f"/sandbox/v1/{path}", json=body)

    assert post("clock", {"advance": 1.5}).json()["now"] == T0 + 1500
    assert post("clock", {"set": T0 + 5000}).json() == {"now": T0 + 5000, "frozen": True}
    assert post("clock", {"freeze": False}).json()["frozen"] is False
    for wrong in ({"set": 1}, {"advance": -1}, {"set": "x"}, {}, [], {"freeze": 1}):
        assert post("clock", wrong).status_code == 400
    assert post("variants", {"unknown_job": "500"}).json()["unknown_job"] == "500"
    assert post("variants", {"unknown_job": "418"}).status_code == 400
    assert post("variants", {"nope": "1"}).status_code == 400
    assert hub.http.delete("/sandbox/v1/requests").json()["total"] == 0
    hub.get(f"{JR}/jobs/count", system="False")
    log = hub.get("/sandbox/v1/requests")
    assert (log["total"], log["counts"]) == (1, {f"GET {JR}/jobs/count": 1})
    assert log["requests"][0]["query"] == "system=False"
    state = hub.get("/sandbox/v1/state")
    assert state["variants"]["unknown_job"] == "500"
    assert hub.app.state.hub.credential.token not in json.dumps([log, state])


def test_the_pages_escape_what_they_show(hub):
    overview = hub.http.get("/").text
    assert "Orders to warehouse" in overview
    hub.do("Quick check", "start", {"X": "<script>alert(1)</script>"})
    page = hub.http.get(f"/sch/jobs/detail/{hub.id('Quick check')}").text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    missing = hub.http.get("/sch/jobs/detail/<b>no")
    assert missing.status_code == 404
    assert "<b>no" not in missing.text
    for job in hub.world.jobs.values():
        assert hub.http.get(f"/sch/jobs/detail/{job.id}").status_code == 200
