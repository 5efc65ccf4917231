"""Finding many jobs at once: by ids, by names, and by searches of Control Hub."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import (
    ControlHubAmbiguousNameError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubNotFoundError,
    Job,
)
from airflow_provider_streamsets.control_hub.saql import equals, one_of
from tests.unit.fakes.api_payloads import (
    JOBS,
    ORGANIZATION,
    SEARCH,
    job_json,
    page_json,
    paths,
    query,
    run_json,
    succeeded,
    template_json,
)


class SearchableJobs:
    """Jobs that are found by a search for names, without regard to case, or by the list."""

    def __init__(self, http, *names):
        self.jobs = [job_json(f"job-{n}:o", name) for n, name in enumerate(names)]
        http.get(SEARCH, json=self._search)
        http.get(JOBS, json=self._list)

    def _search(self, request, _):
        # What stands between the marks, which no name in this search has itself.
        asked = query(request)["search"]
        names = [one or other for one, other in re.findall(r"\"([^\"]*)\"|'([^']*)'", asked.removeprefix("name=in="))]
        found = [job for job in self.jobs if job["name"].lower() in {name.lower() for name in names}]
        offset = int(query(request)["offset"])
        return page_json(*found[offset : offset + int(query(request)["len"])], total=len(found))

    def _list(self, request, _):
        return page_json(*(job for job in self.jobs if job["name"] == query(request)["jobSearchText"]))


def test_find_by_names_uses_one_request(http, client):
    SearchableJobs(http, *(f"Job {n}" for n in range(30)), "job 3", "Other")
    names = [f"Job {n}" for n in range(29, -1, -1)]
    found = client.jobs.find_by_names([*names, *names])
    assert [job.name for job in found] == names
    assert paths(http) == ["GET /jobrunner/rest/v1/saql/jobs/search"]
    assert query(http.last_request) == {
        "search": "name=in=(" + ",".join(f'"{name}"' for name in names) + ")",
        "orderBy": "created_on",
        "organization": ORGANIZATION,
        "orgId": ORGANIZATION,
        "offset": "0",
        "len": "250",
    }


def test_single_name_uses_job_list(http, client):
    SearchableJobs(http, "Orders", "orders")
    (job,) = client.jobs.find_by_names(["Orders"])
    assert job.job_id == "job-0:o"
    assert paths(http) == ["GET /jobrunner/rest/v1/jobs"]


def test_no_names_need_no_request(http, client):
    assert client.jobs.find_by_names([]) == []
    assert http.call_count == 0


NAMES = ["It's new", 'The "new" one', "Größe, 100% (a or b)", "a=in=b", "*", "Orders"]


def test_names_with_quotes_are_found(http, client):
    SearchableJobs(http, *NAMES)
    assert [job.name for job in client.jobs.find_by_names(NAMES)] == NAMES
    assert query(http.last_request)["search"] == (
        'name=in=("It\'s new",\'The "new" one\',"Größe, 100% (a or b)","a=in=b","*","Orders")'
    )


def test_unsearchable_names_use_job_list(http, client):
    names = ['It\'s "new"', "a\\b", "Orders"]
    SearchableJobs(http, *names)
    assert [job.name for job in client.jobs.find_by_names(names)] == names
    assert set(paths(http)) == {"GET /jobrunner/rest/v1/jobs"}
    assert sorted(query(request)["jobSearchText"] for request in http.request_history) == sorted(names)


@pytest.mark.parametrize("name", ["Job {}", "Jöb " + "ü" * 150 + " {}"], ids=["short", "long"])
def test_name_searches_have_bounded_url_length(http, client, name):
    names = [name.format(n) for n in range(120)]
    SearchableJobs(http, *names)
    assert [job.name for job in client.jobs.find_by_names(names)] == names
    addresses = [request.url for request in http.request_history]
    assert max(map(len, addresses)) <= 6000
    assert sum(map(len, addresses)) / len(addresses) > 1000


@pytest.mark.parametrize("missing", [["Missing"], ["Missing", "Not there"]])
def test_missing_names_are_all_reported(http, client, missing):
    SearchableJobs(http, "Orders", "missing", "Customers")
    names = ", ".join(f"'{name}'" for name in missing)
    with pytest.raises(ControlHubNotFoundError, match=f"Cannot find jobs named {names}. Check their spelling"):
        client.jobs.find_by_names(["Orders", *missing, "Customers"])


def test_case_variants_find_each_job_once(http, client):
    names = ["Orders", *(f"{n} " + "x" * 200 for n in range(40)), "orders"]
    SearchableJobs(http, *names)
    assert [job.name for job in client.jobs.find_by_names(names)] == names
    assert http.call_count > 1


@pytest.mark.parametrize("search", [None, 'name=="*"'])
@pytest.mark.parametrize(("color", "names"), [("GRAY", ["Ended", "Never"]), ("RED", ["Failed"])])
def test_never_run_job_is_gray(http, client, search, color, names):
    jobs = [
        job_json("a:o", "Ended", currentJobStatus=run_json(1, "INACTIVE", "GRAY")),
        job_json("b:o", "Never", currentJobStatus=None),
        job_json("c:o", "Failed", currentJobStatus=run_json(1, "INACTIVE", "RED")),
    ]

    def listed(request, _):
        asked = query(request).get("jobStatusColor")
        found = [job for job in jobs if asked in {None, (job["currentJobStatus"] or {}).get("color")}]
        return page_json(*found)

    http.get(JOBS, json=listed)
    http.get(SEARCH, json=page_json(*jobs))
    assert [job.name for job in client.jobs.list(color=color, search=search)] == names


def test_duplicate_name_is_ambiguous(http, client):
    SearchableJobs(http, "Orders", "Stock", "Stock")
    with pytest.raises(ControlHubAmbiguousNameError, match=r"'Stock': 2 jobs have it \(job-1:o, job-2:o\)"):
        client.jobs.find_by_names(["Orders", "Stock"])


def test_template_name_is_ignored(http, client):
    jobs = SearchableJobs(http, "Orders", "Stock")
    jobs.jobs.append({**template_json(), "name": "Orders"})
    assert [job.job_id for job in client.jobs.find_by_names(["Orders", "Stock"])] == ["job-0:o", "job-1:o"]


@pytest.mark.parametrize("status", [400, 401, 403, 503])
def test_failed_search_is_not_missing_job(http, kill_client, status):
    http.get(SEARCH, status_code=status)
    with pytest.raises(ControlHubError, match="search jobs by") as caught:
        kill_client.jobs.find_by_names(["a", "b"])
    assert not isinstance(caught.value, ControlHubNotFoundError)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("Orders", 'name=="Orders"'),
        ("", 'name==""'),
        ("It's", 'name=="It\'s"'),
        ('5" disk', "name=='5\" disk'"),
        ("It's 5\"", None),
        ("a\\b", None),
    ],
)
def test_saql_text_is_quoted(value, written):
    assert equals("name", value) == written
    assert one_of("name", [value]) == (written and written.replace("==", "=in=(") + ")")


def test_unquotable_text_invalidates_list():
    assert one_of("name", ["a", "b"]) == 'name=in=("a","b")'
    assert one_of("name", ["a", 'It\'s "b"']) is None


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_saql_quoting_preserves_any_text(values):
    search = one_of("name", values)
    if search is None:
        assert any("\\" in value or {"'", '"'} <= set(value) for value in values)
        return
    texts = re.findall(r"\"[^\"]*\"|'[^']*'", search.removeprefix("name=in=("))
    assert [text[1:-1] for text in texts] == values


def _jobs():
    return [
        job_json("a:o", "Orders", currentJobStatus=run_json(1), rawJobTags=["nightly", "eu"], labels=["prod"]),
        job_json("b:o", "Customers", currentJobStatus=succeeded(2), rawJobTags=["nightly/orders"], executorType="EDGE"),
        job_json("c:o", "Orders old", pipelineCommitLabel="v1", templateJobId="t:o", rawJobTags=None, labels=None),
        template_json(rawJobTags=["nightly"], pipelineCommitLabel=None),
    ]


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ({}, "abc"),
        ({"name": "Orders"}, "a"),
        ({"name_starts_with": "Orders"}, "ac"),
        ({"status": "ACTIVE"}, "a"),
        ({"status": "INACTIVE"}, "bc"),
        ({"color": "GRAY"}, "bc"),
        ({"color": "RED"}, ""),
        ({"tag": "nightly"}, "ab"),
        ({"tag": "night"}, ""),
        ({"tag": "nightly/"}, ""),
        ({"tag": "nightly/orders"}, "b"),
        ({"engine_label": "prod"}, "ab"),
        ({"executor_type": "EDGE"}, "b"),
        ({"pipeline_version": "v1"}, "c"),
        ({"pipeline_version": "2"}, "ab"),
        ({"template_id": "t:o"}, "c"),
        ({"status": "INACTIVE", "pipeline_version": "2"}, "b"),
    ],
)
def test_search_filters_are_applied_locally(http, client, conditions, found):
    http.get(SEARCH, json=page_json(*_jobs()))
    jobs = list(client.jobs.list(search="id==*", **conditions))
    assert [job.job_id for job in jobs] == [f"{name}:o" for name in found]
    assert query(http.last_request).keys() == {
        "search",
        "orderBy",
        "organization",
        "orgId",
        "offset",
        "len",
    }
    assert query(http.last_request)["search"] == "id==*"


def test_template_search_uses_own_endpoint(http, client):
    http.get(f"{SEARCH}/templates", json=page_json(*_jobs()))
    assert [job.name for job in client.jobs.list(search="tag==nightly", templates=True)] == ["Regional orders"]


def test_search_reads_all_pages(http, client):
    everything = [job_json(f"job-{n}:o") for n in range(600)]

    def answer(request, _):
        offset, length = int(query(request)["offset"]), int(query(request)["len"])
        return page_json(*everything[offset : offset + length], total=600)

    http.get(SEARCH, json=answer)
    assert len(list(client.jobs.list(search="id==*"))) == 600
    assert http.call_count == 3


def test_search_without_matches_is_empty(http, client):
    http.get(SEARCH, json=page_json())
    assert list(client.jobs.list(search="name==missing")) == []


def test_empty_search_is_sent_unchanged(http, client):
    """Control Hub decides what it means."""
    http.get(SEARCH, json=page_json())
    assert list(client.jobs.list(search="")) == []
    assert query(http.last_request)["search"] == ""


def test_name_filters_are_exclusive(http, client):
    with pytest.raises(ControlHubConfigurationError, match="by both 'name' and 'name_starts_with'"):
        list(client.jobs.list(name="a", name_starts_with="b"))
    assert http.call_count == 0


@pytest.mark.parametrize("version", ["2", "v2"])
def test_pipeline_version_is_filtered_locally(http, client, version):
    http.get(JOBS, json=page_json(*_jobs()))
    assert [job.job_id for job in client.jobs.list(pipeline_version=version)] == ["a:o", "b:o"]
    assert "2" not in query(http.last_request).values()


def test_get_all_reports_missing_jobs(http, client):
    http.post(JOBS, json=lambda request, _: [job_json(job_id) for job_id in request.json() if "x" not in job_id])
    assert list(client.jobs.get_all(["b:o", "a:o", "b:o"])) == ["b:o", "a:o"]
    with pytest.raises(ControlHubNotFoundError, match=r"No jobs with these ids exist: x:o, xy:o\. Nothing was done"):
        client.jobs.get_all(["x:o", "a:o", "xy:o"])
    with pytest.raises(ControlHubNotFoundError, match=r"x9:o, and \d+ more\. Nothing"):
        client.jobs.get_all([f"x{n}:o" for n in range(12)])


def test_only_ids_are_loaded(http, client):
    http.post(JOBS, json=lambda request, _: [job_json(job_id) for job_id in request.json()])
    given_job = Job.from_wire(job_json("b:o", "As given"))
    jobs = client.jobs.ensure_loaded(["a:o", given_job, "c:o"])
    assert list(jobs) == ["a:o", "b:o", "c:o"]
    assert jobs["b:o"] is given_job
    assert http.last_request.json() == ["a:o", "c:o"]
    assert client.jobs.ensure_loaded([given_job]) == {"b:o": given_job}
    assert http.call_count == 1
