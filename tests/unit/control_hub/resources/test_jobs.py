from __future__ import annotations

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubAmbiguousNameError,
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
)
from tests.unit.fakes.api_payloads import (
    FORBIDDEN,
    GATEWAY_PAGE,
    JOB,
    JOB_ID,
    JOB_NAME,
    JOBS,
    ORGANIZATION,
    STATUSES,
    UNKNOWN,
    issues_json,
    job_json,
    page_json,
    payload,
    query,
    run_json,
)


def _jobs(first: int, last: int, **fields):
    return [job_json(f"job-{n}:o", f"Job {n}", **fields) for n in range(first, last)]


def _served(jobs, *, longest=250, wrapped=True, total=True):
    """A server that pages as it should."""

    def answer(request, _):
        asked = query(request)
        offset, length = int(asked["offset"]), int(asked["len"])
        page = jobs[offset : offset + min(length, longest)]
        return page_json(*page, total=len(jobs) if total else 0) if wrapped else page

    return answer


def test_job_is_read_by_id(http, client):
    http.get(JOB, json=job_json(currentJobStatus=run_json(3)))
    job = client.jobs.get(JOB_ID)
    assert (job.job_id, job.name, job.last_run_count) == (JOB_ID, JOB_NAME, 3)
    assert job.runtime_parameters == {"DIRECTORY": "/data/in", "SIZE": "1000"}
    assert job.tags == ("nightly/orders",)
    assert job.engine_labels == ("prod",)
    assert job.pipeline_version == "2"
    assert job.label == f"'{JOB_NAME}' ({JOB_ID})"


UNCLEAR_ABSENCE = {
    "empty": {"content": b""},
    "null": {"json": None},
    "empty object": {"json": {}},
    "json without envelope": {"status_code": 404, "json": {"message": "no Route matched"}},
    "gateway page": GATEWAY_PAGE,
    "forbidden": FORBIDDEN,
    "rejected": {"status_code": 400, "json": issues_json(("JOBRUNNER_1", "no such job"))},
    "server error": {"status_code": 500, "json": issues_json(("JOBRUNNER_1", "no such job"))},
    "server error without code": {"status_code": 500, "json": issues_json((None, "no such job"))},
}


@pytest.mark.parametrize("answer", UNCLEAR_ABSENCE.values(), ids=UNCLEAR_ABSENCE)
def test_missing_job_is_confirmed_by_bulk_read(http, client, answer):
    http.get(JOB, **answer)
    http.post(JOBS, json=[])
    with pytest.raises(ControlHubNotFoundError, match=f"Cannot read job {JOB_ID}: it does not exist"):
        client.jobs.get(JOB_ID)


@pytest.mark.parametrize("answer", UNCLEAR_ABSENCE.values(), ids=UNCLEAR_ABSENCE)
def test_bulk_read_finds_existing_job(http, client, answer):
    http.get(JOB, **answer)
    http.post(JOBS, json=[job_json()])
    assert client.jobs.get(JOB_ID).job_id == JOB_ID


@pytest.mark.parametrize("bulk", [GATEWAY_PAGE, {"content": b""}, {"status_code": 503}], ids=["page", "empty", "503"])
@pytest.mark.parametrize("answer", UNCLEAR_ABSENCE.values(), ids=UNCLEAR_ABSENCE)
def test_unconfirmed_absence_is_not_reported(http, kill_client, answer, bulk):
    http.get(JOB, **answer)
    http.post(JOBS, **bulk)
    with pytest.raises(ControlHubError, match=f"Cannot read job {JOB_ID}") as caught:
        kill_client.jobs.get(JOB_ID)
    assert not isinstance(caught.value, ControlHubNotFoundError)


def test_not_found_issue_needs_no_confirmation(http, client):
    http.get(JOB, **UNKNOWN)
    with pytest.raises(ControlHubNotFoundError, match="JOBRUNNER_1"):
        client.jobs.get(JOB_ID)
    assert http.call_count == 1


def test_forbidden_job_error_names_both_causes(http, client):
    http.get(JOB, **FORBIDDEN)
    http.post(JOBS, **FORBIDDEN)
    with pytest.raises(ControlHubPermissionError, match="lacks the permission, or the object does not exist"):
        client.jobs.get(JOB_ID)


def test_job_without_id_raises(http, client):
    http.get(JOB, json={"name": JOB_NAME})
    with pytest.raises(ControlHubUnexpectedResponseError, match="'id' of the job"):
        client.jobs.get(JOB_ID)


def test_get_many_sends_batches_and_keeps_order(http, make_client):
    http.post(JOBS, json=lambda request, _: [job_json(job_id) for job_id in reversed(request.json())])
    wanted = [f"job-{n}:o" for n in range(7)]
    found = make_client(bulk_size=3).jobs.get_many(wanted)
    assert list(found) == wanted
    assert all(job.job_id == job_id for job_id, job in found.items())
    assert [len(r.json()) for r in http.request_history] == [3, 3, 1]


def test_duplicate_id_is_requested_once(http, client):
    http.post(JOBS, json=[job_json("a:o")])
    assert list(client.jobs.get_many(["a:o", "a:o"])) == ["a:o"]
    assert http.last_request.json() == ["a:o"]


def test_no_ids_need_no_request(http, client):
    assert client.jobs.get_many([]) == {}
    assert client.runs.statuses([]) == {}
    client.offsets.reset([])
    assert http.call_count == 0


@pytest.mark.parametrize("answer", [[], [None], [job_json("b:o"), None]])
def test_unknown_ids_are_missing(http, client, answer):
    http.post(JOBS, json=answer)
    assert "a:o" not in client.jobs.get_many(["a:o", "b:o"])


def test_list_reads_pages_up_to_total(http, client):
    http.get(JOBS, json=_served(_jobs(0, 600)))
    assert [job.name for job in client.jobs.list()] == [f"Job {n}" for n in range(600)]
    assert [query(r)["offset"] for r in http.request_history] == ["0", "249", "498"]
    assert {query(r)["len"] for r in http.request_history} == {"250"}


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("count", [0, 1, 249, 250, 251, 500])
def test_list_without_total_reads_to_empty_page(http, client, wrapped, count):
    http.get(JOBS, json=_served(_jobs(0, count), wrapped=wrapped, total=False))
    assert len(list(client.jobs.list())) == count


def test_short_pages_are_read_to_end(http, client):
    http.get(JOBS, json=_served(_jobs(0, 25), longest=10))
    assert len(list(client.jobs.list())) == 25
    assert [query(r)["offset"] for r in http.request_history] == ["0", "9", "18"]


@pytest.mark.parametrize("wrapped", [True, False])
def test_ignored_offset_yields_no_duplicates(http, client, wrapped):
    jobs = _jobs(0, 3)
    http.get(JOBS, json=page_json(*jobs, total=0) if wrapped else jobs)
    assert [job.name for job in client.jobs.list()] == ["Job 0", "Job 1", "Job 2"]
    assert http.call_count == 2


def test_ignored_offset_is_detected_for_running_jobs(http, client):
    records = iter(range(100))
    http.get(
        JOBS,
        json=lambda *_: [job_json("a:o", currentJobStatus=run_json(inputRecordCount=next(records))), job_json("b:o")],
    )
    assert [job.job_id for job in client.jobs.list()] == ["a:o", "b:o"]
    assert http.call_count == 2


def test_job_moving_between_pages_is_listed_once(http, client):
    http.get(JOBS, [{"json": _jobs(0, 3)}, {"json": _jobs(2, 5)}, {"json": []}])
    assert [job.name for job in client.jobs.list()] == [f"Job {n}" for n in range(5)]


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("created", [0, 1, 3])
@pytest.mark.parametrize("deleted", [[0], [249], [3, 4, 5], list(range(250))], ids=["first", "last", "three", "all"])
def test_deletion_between_pages_skips_no_other_job(http, client, wrapped, deleted, created):
    jobs = _jobs(0, 600)
    remaining = [job for n, job in enumerate(jobs) if n not in deleted] + _jobs(1000, 1000 + created)

    def answer(request, context):
        served = jobs if http.call_count == 1 else remaining
        return _served(served, wrapped=wrapped)(request, context)

    http.get(JOBS, json=answer)
    names = [job.name for job in client.jobs.list()]
    assert len(names) == len(set(names))
    assert {job["name"] for job in remaining} <= set(names)
    assert http.call_count <= 7


def test_constantly_changing_list_is_read_to_end(http, client, caplog):
    jobs = _jobs(0, 1000)

    def answer(request, context):
        del jobs[0]
        return _served(jobs)(request, context)

    http.get(JOBS, json=answer)
    assert len(list(client.jobs.list())) >= 990
    assert len([record for record in caplog.records if "kept changing while it was read" in record.message]) == 1
    assert http.call_count < 20


def test_single_entry_pages_are_read_to_end(http, client):
    http.get(JOBS, json=_served(_jobs(0, 5), longest=1))
    assert len(list(client.jobs.list())) == 5
    assert http.call_count == 5


def test_pages_are_read_lazily(http, client):
    http.get(JOBS, json=_served(_jobs(0, 600)))
    jobs = client.jobs.list()
    assert http.call_count == 0
    assert next(jobs).name == "Job 0"
    assert http.call_count == 1
    for _ in range(250):
        next(jobs)
    assert http.call_count == 2


@pytest.mark.parametrize("answer", [[], {}, {"data": None}, {"totalCount": 5, "data": []}])
def test_empty_list_forms_are_accepted(http, client, answer):
    http.get(JOBS, json=answer)
    assert list(client.jobs.list()) == []
    assert http.call_count == 1


@pytest.mark.parametrize("answer", [{"content": b""}, {"json": None}])
def test_empty_body_is_not_empty_list(http, kill_client, answer):
    http.get(JOBS, **answer)
    http.post(JOBS, **answer)
    http.post(STATUSES, **answer)
    for read in (
        lambda: list(kill_client.jobs.list()),
        lambda: kill_client.jobs.get_many([JOB_ID]),
        lambda: kill_client.runs.statuses([JOB_ID]),
    ):
        with pytest.raises(ControlHubUnavailableError, match="returned 200 with an empty body"):
            read()


@pytest.mark.parametrize(
    "answer", ["x", 5, {"data": {}}, {"data": "x"}, {"data": [5]}, [None], {"totalCount": "x", "data": [job_json()]}]
)
def test_invalid_list_raises(http, client, answer):
    http.get(JOBS, json=answer)
    with pytest.raises(ControlHubUnexpectedResponseError):
        list(client.jobs.list())


def test_example_page_is_parsed(http, client):
    page = payload("jobs-page")
    http.get(JOBS, json=page)
    assert [job.job_id for job in client.jobs.list()] == [entry["id"] for entry in page["data"]]


def test_list_filters_are_sent(http, client):
    http.get(JOBS, json=[])
    list(
        client.jobs.list(
            name_starts_with="Ord",
            status="ACTIVE",
            color="RED",
            tag="nightly/orders",
            engine_label="prod",
            executor_type="COLLECTOR",
            template_id="t:o",
        )
    )
    assert query(http.last_request) == {
        "jobSearchOperation": "STARTS_WITH",
        "jobSearchText": "Ord",
        "jobStatus": "ACTIVE",
        "jobStatusColor": "RED",
        "jobTag": f"nightly/orders:{ORGANIZATION}",
        "jobLabel": "prod",
        "executorType": "COLLECTOR",
        "templateJobId": "t:o",
        "jobTemplate": "false",
        "removed": "false",
        "withWrapper": "true",
        "orderBy": "CREATE_TIME",
        "order": "ASC",
        "offset": "0",
        "len": "250",
    }


def test_count_reads_total_of_page(http, client):
    http.get(JOBS, json={"totalCount": 7, "data": [{"id": "a:org"}]})
    assert client.jobs.count() == 7
    asked = query(http.last_request)
    assert (asked["len"], asked["jobTemplate"]) == ("1", "false")
    http.get(JOBS, json=[{"id": "a:org"}])
    assert client.jobs.count() is None


def test_change_key_combines_total_and_newest_job(http, client):
    newest = {"id": "a:org", "lastModifiedOn": 5}
    http.get(JOBS, json={"totalCount": 7, "data": [newest]})
    assert client.jobs.change_key(tag="nightly") == (7, "a:org", 5)
    asked = query(http.last_request)
    assert (asked["orderBy"], asked["order"], asked["len"]) == ("LAST_MODIFIED_ON", "DESC", "1")
    assert asked["jobTag"] == f"nightly:{ORGANIZATION}"
    http.get(JOBS, json={"totalCount": 0, "data": []})
    assert client.jobs.change_key(tag="nightly") == (0, "", 0)


@pytest.mark.parametrize("answer", [[], [{"id": "a:org"}], {"data": [{"id": "a:org"}]}])
def test_change_key_needs_total(http, client, answer):
    http.get(JOBS, json=answer)
    assert client.jobs.change_key(tag="nightly") is None


def test_unset_filters_are_not_sent(http, client):
    http.get(JOBS, json=[])
    list(client.jobs.list())
    assert query(http.last_request).keys() == {
        "jobTemplate",
        "removed",
        "withWrapper",
        "orderBy",
        "order",
        "offset",
        "len",
    }


def test_jobs_and_templates_are_filtered_locally(http, client):
    http.get(JOBS, json=_served([job_json("j:o"), job_json("t:o", jobTemplate=True)]))
    assert [job.job_id for job in client.jobs.list()] == ["j:o"]
    assert [job.job_id for job in client.jobs.list(templates=True)] == ["t:o"]
    assert query(http.last_request)["jobTemplate"] == "true"


def test_name_prefix_is_filtered_locally(http, client):
    http.get(JOBS, json=_served([job_json("a:o", "My Orders"), job_json("b:o", "Orders")]))
    assert [job.job_id for job in client.jobs.list(name_starts_with="Ord")] == ["b:o"]


def test_find_by_name_requires_exact_match(http, client):
    others = ["Orders", f"{JOB_NAME} 2", f"My {JOB_NAME}", JOB_NAME.upper(), f"{JOB_NAME} "]
    jobs = [job_json(f"job-{n}:o", name) for n, name in enumerate(others)]
    http.get(JOBS, json=_served([*jobs, job_json()]))
    assert client.jobs.find_by_name(JOB_NAME).job_id == JOB_ID
    assert query(http.last_request)["jobSearchOperation"] == "EQUALS"
    assert query(http.last_request)["jobSearchText"] == JOB_NAME


def test_find_by_name_reads_all_pages(http, client):
    http.get(JOBS, json=_served([*_jobs(0, 300), job_json()]))
    assert client.jobs.find_by_name(JOB_NAME).job_id == JOB_ID


def test_special_characters_in_name_are_sent(http, client):
    name = "Größe & Co: 100% #1 + 'x' = ?"
    http.get(JOBS, json=_served([job_json(name=name)]))
    assert client.jobs.find_by_name(name).name == name
    assert query(http.last_request)["jobSearchText"] == name


def test_unknown_name_is_not_found(http, client):
    http.get(JOBS, json=_served([job_json(name="Orders to warehouse 2")]))
    with pytest.raises(ControlHubNotFoundError, match=f"'{JOB_NAME}': no job has that name"):
        client.jobs.find_by_name(JOB_NAME)


def test_template_name_is_reported(http, client):
    template = job_json(jobTemplate=True)
    http.get(JOBS, json=lambda r, _: [template] if query(r)["jobTemplate"] == "true" else [])
    with pytest.raises(ControlHubNotFoundError, match="only a job template has that name"):
        client.jobs.find_by_name(JOB_NAME)


def test_find_by_name_ignores_templates(http, client):
    http.get(JOBS, json=_served([job_json("t:o", jobTemplate=True), job_json()]))
    assert client.jobs.find_by_name(JOB_NAME).job_id == JOB_ID


@pytest.mark.parametrize(("count", "shown"), [(2, "job-0:o, job-1:o\\)"), (9, "job-4:o, ...\\)")])
def test_duplicate_name_is_ambiguous(http, client, count, shown):
    http.get(JOBS, json=_served([job_json(f"job-{n}:o") for n in range(count)]))
    with pytest.raises(ControlHubAmbiguousNameError, match=f"{count} jobs have it.*{shown}.*Set the id"):
        client.jobs.find_by_name(JOB_NAME)


@pytest.mark.parametrize("status", [401, 403, 400, 503])
def test_failed_search_is_not_missing_job(http, kill_client, status):
    http.get(JOBS, status_code=status)
    with pytest.raises(ControlHubError, match="list jobs by the name") as caught:
        kill_client.jobs.find_by_name(JOB_NAME)
    assert not isinstance(caught.value, ControlHubNotFoundError)


@pytest.mark.parametrize("status", [401, 503])
def test_forbidden_job_raises_bulk_read_error(http, kill_client, status):
    http.get(JOB, status_code=403, json=issues_json(("X_1", "No")))
    http.post(JOBS, status_code=status)
    with pytest.raises(ControlHubAuthenticationError if status == 401 else ControlHubUnavailableError):
        kill_client.jobs.get(JOB_ID)
