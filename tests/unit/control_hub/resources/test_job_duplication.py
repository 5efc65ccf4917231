"""Duplicating a job: as many copies as requested, whatever happens to the request."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import (
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
    Job,
)
from tests.unit.fakes.api_payloads import (
    AMBIGUOUS_OUTCOMES,
    HOUR,
    JOB,
    JOB_ID,
    JOB_NAME,
    JOBS,
    JR,
    READ_TIMEOUT,
    REFUSED,
    REJECTIONS,
    T0,
    TEMPLATE_ID,
    UNDELIVERED,
    UNKNOWN,
    job_json,
    methods,
    page_json,
    paths,
    query,
    template_json,
)

DUPLICATE, RENAME = f"{JOB}/duplicate", f"{JOBS}/updateJobs"
FOUR_REQUESTS = [
    f"GET /jobrunner/rest/v1/job/{JOB_ID}",
    f"POST /jobrunner/rest/v1/job/{JOB_ID}/duplicate",
    "GET /jobrunner/rest/v1/jobs",
    "POST /jobrunner/rest/v1/jobs/updateJobs",
]
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class CopyingHub:
    """Copies jobs as Control Hub does, answers with nothing, and lists jobs in its own order."""

    def __init__(self, http, *others, source=None):
        self.source = source or job_json()
        self.jobs = [self.source, *others]
        self.now = T0 + HOUR
        self.hidden = 0
        self.answers = []
        self.rename_answers = []
        source_url = f"{JR}/job/{self.source['id']}"
        http.get(source_url, json=lambda *_: self.source)
        http.post(f"{source_url}/duplicate", json=self._duplicate)
        http.get(JOBS, json=self._list)
        http.post(JOBS, json=lambda r, _: [job for job in self.jobs if job["id"] in r.json()])
        http.post(RENAME, json=self._rename)

    def _duplicate(self, request, context):
        executed, answer = self.answers.pop(0) if self.answers else (True, {})
        body = request.json()
        count, prefix = body["numberOfCopies"], body["namePrefix"]
        names = [prefix] if count == 1 else [f"{prefix}{n}" for n in range(1, count + 1)]
        if executed:
            self.make(*names, description=body["description"])
        if "exc" in answer:
            raise answer["exc"]
        context.status_code = answer.get("status_code", 200)
        return answer.get("json")

    def make(self, *names, **fields):
        for name in names:
            job_id = f"copy-{len(self.jobs)}:o"
            self.jobs.insert(1, {**self.source, "id": job_id, "name": name, "createTime": self.now, **fields})

    def _list(self, request, _):
        asked = query(request)
        start, is_template = asked["jobSearchText"], asked["jobTemplate"] == "true"
        # Control Hub may compare without regard to case, or match more than a beginning.
        found = [
            job
            for job in self.jobs
            if start.lower() in job["name"].lower() and bool(job["jobTemplate"]) == is_template and job["id"] != "x"
        ]
        if self.hidden:
            self.hidden -= 1
            found = found[:1]
        offset = int(asked["offset"])
        return page_json(*found[offset : offset + int(asked["len"])], total=len(found))

    def _rename(self, request, context):
        executed, answer = self.rename_answers.pop(0) if self.rename_answers else (True, {})
        if executed:
            by_id = {job["id"]: job for job in request.json()}
            self.jobs = [by_id.get(job["id"], job) for job in self.jobs]
        if "exc" in answer:
            raise answer["exc"]
        context.status_code = answer.get("status_code", 200)
        return answer.get("json")

    @property
    def names(self):
        return sorted(job["name"] for job in self.jobs if job is not self.source)


@pytest.mark.parametrize("count", [2, 10, 40, 300])
def test_duplicate_uses_four_requests(http, make_client, count):
    hub = CopyingHub(http, job_json("other:o", "Night of orders 1"))
    copies = make_client(bulk_size=1000).jobs.duplicate(JOB_ID, number_of_copies=count, name="Night", description="D")
    # In the order of their numbers, which is neither that of the list nor that of the names.
    assert [copy.name for copy in copies] == [f"Night{n}" for n in range(1, count + 1)]
    assert sorted(copy.name for copy in copies) == [name for name in hub.names if name != "Night of orders 1"]
    assert len({copy.job_id for copy in copies}) == count
    assert {copy.description for copy in copies} == {"D"}
    assert {copy.current_run for copy in copies} == {None}
    without_pages = [path for n, path in enumerate(paths(http)) if n < 3 or path != FOUR_REQUESTS[2]]
    assert without_pages == FOUR_REQUESTS
    assert len(http.request_history) == (4 if count <= 250 else 5)


def test_copies_get_unique_names_before_final_names(http, client):
    CopyingHub(http)
    client.jobs.duplicate(JOB_ID, number_of_copies=2, name="Night")
    made, found, renamed = http.request_history[1:]
    assert made.json().keys() == {"namePrefix", "description", "numberOfCopies"}
    assert (made.json()["description"], made.json()["numberOfCopies"]) == (None, 2)
    prefix = made.json()["namePrefix"]
    assert re.fullmatch(f"Night:{UUID}:", prefix)
    assert query(found) == {
        "jobSearchOperation": "STARTS_WITH",
        "jobSearchText": prefix,
        "jobTemplate": "false",
        "removed": "false",
        "withWrapper": "true",
        "offset": "0",
        "len": "250",
    }
    assert [(job["name"], job["pipelineCommitId"]) for job in renamed.json()] == [
        (f"Night{n}", job_json()["pipelineCommitId"]) for n in (1, 2)
    ]


def test_rename_sends_whole_job(http, client):
    hub = CopyingHub(http, source=job_json(unknown={"a": [1]}))
    client.jobs.duplicate(JOB_ID, name="Night")
    (body,) = http.last_request.json()
    assert body == {**hub.source, "id": body["id"], "createTime": hub.now, "name": "Night", "description": None}


def test_duplicate_does_not_reload_job(http, client):
    hub = CopyingHub(http)
    client.jobs.duplicate(Job.from_wire(hub.source), name="N")
    assert paths(http) == FOUR_REQUESTS[1:]


def test_single_copy_has_no_number(http, client):
    hub = CopyingHub(http)
    (copy,) = client.jobs.duplicate(JOB_ID)
    assert copy.name == f"{JOB_NAME} copy"
    assert hub.names == [f"{JOB_NAME} copy"]
    assert paths(http) == FOUR_REQUESTS


def test_template_is_duplicated_as_template(http, client):
    hub = CopyingHub(http, source=template_json())
    copies = client.jobs.duplicate(TEMPLATE_ID, number_of_copies=2, name="T")
    assert [copy.is_template for copy in copies] == [True, True]
    assert query(http.request_history[2])["jobTemplate"] == "true"
    assert hub.names == ["T1", "T2"]


def test_copies_are_renamed_in_batches(http, make_client):
    hub = CopyingHub(http)
    make_client(bulk_size=2).jobs.duplicate(JOB_ID, number_of_copies=5, name="N")
    assert [len(r.json()) for r in http.request_history if r.url == RENAME] == [2, 2, 1]
    assert hub.names == ["N1", "N2", "N3", "N4", "N5"]


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "2", None])
def test_invalid_copy_count_is_rejected(http, client, count):
    hub = CopyingHub(http)
    with pytest.raises(ControlHubConfigurationError, match="'number_of_copies' must be an integer of at least 1, got"):
        client.jobs.duplicate(JOB_ID, number_of_copies=count)
    assert "POST" not in methods(http)
    assert hub.names == []


def test_unknown_job_is_not_duplicated(http, client):
    http.get(JOB, **UNKNOWN)
    with pytest.raises(ControlHubNotFoundError):
        client.jobs.duplicate(JOB_ID)
    assert methods(http) == ["GET"]


@pytest.mark.parametrize("end", AMBIGUOUS_OUTCOMES.values(), ids=AMBIGUOUS_OUTCOMES)
@pytest.mark.parametrize("count", [1, 3])
def test_lost_response_finds_copies(http, client, end, count):
    hub = CopyingHub(http)
    if "text" in end:
        make = hub._duplicate
        http.post(DUPLICATE, text=lambda request, context: make(request, context) or end["text"])
    else:
        hub.answers = [(True, end)]
    copies = client.jobs.duplicate(JOB_ID, number_of_copies=count, name="Night")
    assert len(copies) == count
    assert paths(http) == FOUR_REQUESTS
    assert len(hub.names) == count


def test_late_copies_are_awaited(http, client, clock):
    hub = CopyingHub(http)
    hub.hidden = 3
    assert len(client.jobs.duplicate(JOB_ID, number_of_copies=3)) == 3
    assert clock.slept == [3.0, 3.0, 3.0]
    assert methods(http).count("POST") == 2


@pytest.mark.parametrize("end", AMBIGUOUS_OUTCOMES.values(), ids=AMBIGUOUS_OUTCOMES)
def test_ambiguous_duplicate_without_copies_is_not_retried(http, client, clock, end):
    CopyingHub(http)
    http.post(DUPLICATE, **end)
    with pytest.raises(ControlHubError, match=f"Cannot duplicate job '{JOB_NAME}'"):
        client.jobs.duplicate(JOB_ID)
    assert methods(http).count("POST") == 1
    # A gateway may have given up on a call that Control Hub is still at.
    assert sum(clock.slept) >= 60


@pytest.mark.parametrize("search", [{"status_code": 503}, {"exc": REFUSED}, {"status_code": 401}, {"text": "<html>"}])
@pytest.mark.parametrize("end", [{"exc": READ_TIMEOUT}, {"status_code": 500}, {"content": b""}], ids=str)
def test_unconfirmed_duplicate_reports_search_name(http, client, end, search):
    CopyingHub(http)
    http.post(DUPLICATE, **end)
    http.get(JOBS, **search)
    with pytest.raises(
        ControlHubUnavailableError, match=rf"Could not determine whether .* named 'Night:{UUID}:\.\.\.'"
    ) as caught:
        client.jobs.duplicate(JOB_ID, name="Night")
    assert caught.value.maybe_executed is True
    assert methods(http).count("POST") == 1


@pytest.mark.parametrize("end", UNDELIVERED.values(), ids=UNDELIVERED)
def test_undelivered_duplicate_is_retried_under_same_name(http, client, end):
    hub = CopyingHub(http)
    hub.answers = [(False, end), (False, end)]
    client.jobs.duplicate(JOB_ID, name="Night")
    made = [request.json() for request in http.request_history if request.url == DUPLICATE]
    assert made == [made[0]] * 3
    assert hub.names == ["Night"]


@pytest.mark.parametrize("refusal", REJECTIONS.values(), ids=REJECTIONS)
def test_rejected_duplicate_is_not_searched(http, client, refusal):
    hub = CopyingHub(http)
    hub.answers = [(False, refusal)]
    with pytest.raises(ControlHubError, match=f"Cannot duplicate job '{JOB_NAME}'.*JOBRUNNER_7"):
        client.jobs.duplicate(JOB_ID)
    assert methods(http) == ["GET", "POST"]


def test_partial_copies_are_reported_and_not_renamed(http, client):
    hub = CopyingHub(http)

    def make_and_lose_one(request, context):
        hub._duplicate(request, context)
        hub.jobs.pop(1)

    http.post(DUPLICATE, json=make_and_lose_one)
    with pytest.raises(
        ControlHubUnexpectedResponseError, match=rf"Expected 3 copies.* found 2: 'N:{UUID}:1', 'N:{UUID}:2'"
    ):
        client.jobs.duplicate(JOB_ID, number_of_copies=3, name="N")
    assert http.last_request.method == "GET"
    assert len(hub.names) == 2


def test_missing_copies_report_search_name(http, client):
    CopyingHub(http)
    http.post(DUPLICATE, content=b"")
    with pytest.raises(
        ControlHubUnexpectedResponseError,
        match=rf"Cannot duplicate job .*accepted.*no copy appeared.* 'Night:{UUID}:\.\.\.'",
    ):
        client.jobs.duplicate(JOB_ID, name="Night")


def test_ambiguous_rename_is_retried(http, client):
    hub = CopyingHub(http)
    hub.rename_answers = [(True, {"exc": READ_TIMEOUT}), (True, {"status_code": 503})]
    client.jobs.duplicate(JOB_ID, number_of_copies=2, name="N")
    assert hub.names == ["N1", "N2"]


def test_rejected_rename_raises(http, client):
    hub = CopyingHub(http)
    hub.rename_answers = [(False, REJECTIONS["400"])]
    with pytest.raises(ControlHubRejectedError, match=r"Cannot rename 2 copies: .*JOBRUNNER_7"):
        client.jobs.duplicate(JOB_ID, number_of_copies=2, name="N")


KEYED = {"idempotency_key": "dag/task/run-1", "name": "N"}


class Notes(list):
    """The ids of the copies, saved before the copies are renamed."""

    @property
    def kept(self):
        return {"existing_ids": list(self), "on_created": self.write}

    def write(self, job_ids):
        self[:] = job_ids


@pytest.mark.parametrize("count", [1, 3])
def test_same_key_adopts_unrenamed_copies(http, client, count):
    hub = CopyingHub(http)
    hub.rename_answers = [(False, REJECTIONS["400"])]
    with pytest.raises(ControlHubRejectedError):
        client.jobs.duplicate(JOB_ID, number_of_copies=count, **KEYED)
    made = {job["id"] for job in hub.jobs if job is not hub.source}
    copies = client.jobs.duplicate(JOB_ID, number_of_copies=count, **KEYED)
    assert {copy.job_id for copy in copies} == made
    assert hub.names == (["N"] if count == 1 else ["N1", "N2", "N3"])
    assert len([r for r in http.request_history if r.url == DUPLICATE]) == 1


def test_same_key_completes_partial_rename(http, make_client):
    client = make_client(bulk_size=2)
    hub = CopyingHub(http)
    hub.rename_answers = [(True, {}), (False, REJECTIONS["400"])]
    notes = Notes()
    with pytest.raises(ControlHubRejectedError):
        client.jobs.duplicate(JOB_ID, number_of_copies=5, **KEYED, **notes.kept)
    made = {job["id"] for job in hub.jobs if job is not hub.source}
    renames = len([r for r in http.request_history if r.url == RENAME])
    copies = client.jobs.duplicate(JOB_ID, number_of_copies=5, **KEYED, **notes.kept)
    assert [copy.name for copy in copies] == ["N1", "N2", "N3", "N4", "N5"] == hub.names
    assert {copy.job_id for copy in copies} == made
    # Those that have their names already are left alone.
    again = [job["name"] for r in http.request_history if r.url == RENAME for job in r.json()][renames * 2 :]
    assert again == ["N3", "N4", "N5"]


@pytest.mark.parametrize("count", [1, 3])
def test_saved_ids_adopt_renamed_copies(http, client, count):
    hub = CopyingHub(http)
    notes = Notes()
    first = client.jobs.duplicate(JOB_ID, number_of_copies=count, **KEYED, **notes.kept)
    before = http.call_count
    assert client.jobs.duplicate(JOB_ID, number_of_copies=count, **KEYED, **notes.kept) == first
    assert methods(http)[before:] == ["GET", "POST", "GET"]
    assert len(hub.names) == count


def test_incomplete_copies_are_not_adopted(http, client):
    hub = CopyingHub(http)
    notes = Notes()
    gone, _ = client.jobs.duplicate(JOB_ID, number_of_copies=2, **KEYED, **notes.kept)
    hub.jobs = [job for job in hub.jobs if job["id"] != gone.job_id]
    assert len(client.jobs.duplicate(JOB_ID, number_of_copies=2, **KEYED, **notes.kept)) == 2
    assert len([r for r in http.request_history if r.url == DUPLICATE]) == 2


def test_same_names_alone_are_not_adopted(http, client):
    hub = CopyingHub(http)
    client.jobs.duplicate(JOB_ID, **KEYED)
    client.jobs.duplicate(JOB_ID, **KEYED)
    assert hub.names == ["N", "N"]


def test_key_prefix_of_other_key_is_distinguished(http, client):
    """As those of task instances that are mapped: 1 and 11."""
    hub = CopyingHub(http)
    hub.rename_answers = [(False, REJECTIONS["400"])]
    with pytest.raises(ControlHubRejectedError):
        client.jobs.duplicate(JOB_ID, idempotency_key="run/11", name="N")
    (copy,) = client.jobs.duplicate(JOB_ID, idempotency_key="run/1", name="N")
    assert copy.name == "N"
    assert hub.names == ["N", "N:run/11:"]


def test_search_uses_name_and_key(http, client):
    CopyingHub(http)
    client.jobs.duplicate(JOB_ID, number_of_copies=2, idempotency_key="k", name="Orders of 2024")
    assert query(http.request_history[1])["jobSearchText"] == "Orders of 2024:k:"


def test_different_copy_count_raises(http, client):
    hub = CopyingHub(http)
    hub.rename_answers = [(False, REJECTIONS["400"])]
    with pytest.raises(ControlHubRejectedError):
        client.jobs.duplicate(JOB_ID, number_of_copies=3, **KEYED)
    with pytest.raises(ControlHubUnexpectedResponseError, match=r"Expected 2 copies .* found 3: .*Delete them, then"):
        client.jobs.duplicate(JOB_ID, number_of_copies=2, **KEYED)
    assert len(hub.names) == 3


_ENDS = st.tuples(
    st.booleans(), st.sampled_from([{}, {"status_code": 500}, {"status_code": 504}, {"exc": READ_TIMEOUT}])
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(
    ends=st.lists(_ENDS, max_size=2),
    rename_ends=st.lists(_ENDS, max_size=3),
    count=st.integers(1, 12),
    calls=st.integers(1, 3),
)
def test_same_key_creates_one_set_of_copies(http, make_client, ends, rename_ends, count, calls):
    http.reset()
    hub = CopyingHub(http)
    hub.answers, hub.rename_answers = list(ends), list(rename_ends)
    client = make_client(max_attempts=1, bulk_size=5)
    notes = Notes()
    for _ in range(calls):
        try:
            copies = client.jobs.duplicate(JOB_ID, number_of_copies=count, **KEYED, **notes.kept)
        except ControlHubError:
            assert len(hub.names) in (0, count)
        else:
            assert [copy.name for copy in copies] == (["N"] if count == 1 else [f"N{n}" for n in range(1, count + 1)])
            assert {copy.job_id for copy in copies} == {job["id"] for job in hub.jobs if job is not hub.source}
