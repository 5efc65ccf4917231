from __future__ import annotations

import json
import re

import pytest
import requests

from airflow_provider_streamsets.control_hub import (
    ControlHubConfigurationError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.operators.jobs import ControlHubDuplicateJobOperator
from tests.unit.fakes.job_catalog_hub import JR, JobCatalogHub, job_json
from tests.unit.fakes.single_job_hub import HUB

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def hub(http):
    return JobCatalogHub(http, job_json("job:org", "Mine"))


def operator(**arguments):
    if "job_name" not in arguments:
        arguments.setdefault("job_id", "job:org")
    return ControlHubDuplicateJobOperator(task_id="duplicate", **arguments)


def names(hub, job_ids):
    return [hub.jobs[job_id]["name"] for job_id in job_ids]


def test_copies_are_created_and_ids_returned_in_order(hub, context):
    copies = operator(number_of_copies=3, name="Region ", description="A copy").execute(context)
    assert names(hub, copies) == ["Region 1", "Region 2", "Region 3"]
    assert [(order["numberOfCopies"], order["description"]) for order in hub.duplicated] == [(3, "A copy")]
    assert context["ti"].xcoms == {
        "job_id": "job:org",
        "job_ids": copies,
        "streamsets_job_link": f"{HUB}/sch/jobs/detail/{copies[0]}",
    }
    assert json.loads(json.dumps(copies)) == copies


def test_one_copy_is_named_after_the_job(hub, context, make_context):
    assert names(hub, operator().execute(context)) == ["Mine copy"]
    assert names(hub, operator(job_name="Mine", name="Yours").execute(make_context())) == ["Yours"]


def test_template_is_selected_by_name(http, context):
    hub = JobCatalogHub(http, job_json("job:org", "Mine"), job_json("template:org", "Mine", jobTemplate=True))
    (copy,) = operator(job_name="Mine", template=True).execute(context)
    assert hub.jobs[copy]["jobTemplate"] is True


def test_retry_adopts_copies_of_previous_try(hub, context):
    first = operator(number_of_copies=2, name="Region ").execute(context)
    context["ti"].try_number = 2
    assert operator(number_of_copies=2, name="Region ").execute(context) == first
    assert len(hub.duplicated) == 1


def test_retry_adopts_copies_not_yet_renamed(http, hub, context, sleep_calls):
    rename = f"{JR}/jobs/updateJobs"
    http.post(rename, exc=requests.exceptions.ConnectionError)
    with pytest.raises(ControlHubUnavailableError):
        operator(number_of_copies=2, name="Region ").execute(context)
    http.post(rename, json=lambda r, _: hub.jobs.update({job["id"]: job for job in r.json()}))
    context["ti"].try_number = 2
    assert names(hub, operator(number_of_copies=2, name="Region ").execute(context)) == ["Region 1", "Region 2"]
    assert len(hub.duplicated) == 1


def test_copies_are_not_adopted_by_name_alone(hub, context, make_context):
    first = operator().execute(context)
    assert operator().execute(make_context()) != first
    assert len(hub.named("Mine copy")) == 2


def test_cleared_task_creates_new_copies(hub, context):
    first = operator().execute(context)
    context["ti"].max_tries = 5
    assert operator().execute(context) != first


@pytest.mark.parametrize(
    ("field", "value"), [("dag_id", "other"), ("run_id", "other"), ("task_id", "other"), ("map_index", 3)]
)
def test_idempotency_key_identifies_task_instance(hub, make_context, field, value):
    operator().execute(make_context())
    operator().execute(make_context())
    context = make_context()
    setattr(context["ti"], field, value)
    operator().execute(context)
    prefixes = [order["namePrefix"] for order in hub.duplicated]
    assert prefixes[0] == prefixes[1] != prefixes[2]


def test_lost_response_creates_no_second_copies(http, hub, context, sleep_calls):
    def lose(request, answer):
        hub._duplicate(request, answer)
        raise requests.exceptions.ReadTimeout

    http.post(f"{JR}/job/job:org/duplicate", text=lose)
    assert names(hub, operator(number_of_copies=2, name="Region ").execute(context)) == ["Region 1", "Region 2"]
    assert len(hub.duplicated) == 1


class LostError(BaseException):
    """The process is gone."""


class LateCalls:
    """
    Duplicate calls of which the first gets no answer.

    :param hub: executes the calls
    :param sleep_calls: the clock, which waiting moves
    :param monkeypatch: lets time pass
    """

    def __init__(self, hub, sleep_calls, monkeypatch):
        self.hub = hub
        self.sleep_calls = sleep_calls
        self.late = None
        self.end = LostError
        hub.http.post(f"{JR}/job/job:org/duplicate", text=self._lose)
        hub.http.get(re.compile(f"^{re.escape(JR)}/jobs[?]"), json=self._list)
        monkeypatch.setattr(
            "airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: 1000.0 + sum(sleep_calls)
        )
        self.due = None
        """When the first call is executed, in seconds of waiting."""

    def deliver(self):
        """Execute the first call."""
        late, self.late = self.late, None
        self.hub._duplicate(late, None)

    def _lose(self, request, answer):
        self.late = request
        self.hub.http.post(f"{JR}/job/job:org/duplicate", json=self.hub._duplicate)
        raise self.end

    def _list(self, request, answer):
        if self.late is not None and self.due is not None and sum(self.sleep_calls) >= self.due:
            self.deliver()
        return self.hub._list(request, answer)


@pytest.fixture
def calls(hub, sleep_calls, monkeypatch):
    return LateCalls(hub, sleep_calls, monkeypatch)


TWO = {"number_of_copies": 2, "name": "Region "}


@pytest.mark.parametrize("cleared", [False, True])
@pytest.mark.parametrize("due", [0, 30, 119])
def test_retry_waits_for_copies_of_unanswered_request(hub, calls, context, due, cleared):
    with pytest.raises(LostError):
        operator(**TWO).execute(context)
    calls.due = due
    context["ti"].try_number, context["ti"].max_tries = 2, 5 if cleared else 0
    assert names(hub, operator(**TWO).execute(context)) == ["Region 1", "Region 2"]
    assert calls.late is None
    assert len(hub.duplicated) == 1
    assert len(hub.jobs) == 3


def test_retry_waits_only_remaining_time(hub, calls, sleep_calls, context):
    with pytest.raises(LostError):
        operator(**TWO).execute(context)
    sleep_calls.append(100.0)
    assert len(operator(**TWO).execute(context)) == 2
    assert sum(sleep_calls[1:]) == pytest.approx(20, abs=3)
    assert len(hub.jobs) == 3


def test_retry_does_not_wait_after_rejection(http, hub, context, sleep_calls):
    http.post(f"{JR}/job/job:org/duplicate", status_code=400, json={"ISSUES": [{"code": "JOBRUNNER_7"}]})
    with pytest.raises(ControlHubRejectedError):
        operator(**TWO).execute(context)
    http.post(f"{JR}/job/job:org/duplicate", json=hub._duplicate)
    assert len(operator(**TWO).execute(context)) == 2
    assert sleep_calls == []


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("when", ["before the second call", "after the renaming"])
def test_surplus_copies_of_late_request_are_deleted(http, hub, calls, context, task_log, count, when):
    arguments = {"number_of_copies": count, "name": "Region "}
    calls.end = requests.exceptions.ReadTimeout
    with pytest.raises(ControlHubUnavailableError):
        operator(**arguments).execute(context)

    def duplicate(request, answer):
        calls.deliver()
        hub._duplicate(request, answer)

    def rename(request, answer):
        hub.jobs.update({job["id"]: job for job in request.json()})
        calls.deliver()

    if when == "before the second call":
        http.post(f"{JR}/job/job:org/duplicate", json=duplicate)
    else:
        http.post(f"{JR}/jobs/updateJobs", json=rename)
    copies = operator(**arguments).execute(context)
    assert len(hub.duplicated) == 2
    assert set(hub.jobs) == {"job:org", *copies}
    assert names(hub, copies) == (["Region "] if count == 1 else ["Region 1", "Region 2"])
    assert f"deleted its {count} surplus copies" in task_log()


def test_undeletable_surplus_copies_are_only_logged(http, hub, calls, context, task_log):
    calls.end = requests.exceptions.ReadTimeout
    with pytest.raises(ControlHubUnavailableError):
        operator(**TWO).execute(context)
    http.post(f"{JR}/jobs/deleteJobs", status_code=400, json={"ISSUES": [{"code": "JOBRUNNER_7", "message": "no"}]})
    http.post(f"{JR}/job/job:org/duplicate", json=lambda r, a: calls.deliver() or hub._duplicate(r, a))
    assert names(hub, operator(**TWO).execute(context)) == ["Region 1", "Region 2"]
    assert "could not delete surplus copies" in task_log()
    assert "Delete jobs named 'Region :" in task_log()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"job_id": None}, "is required, got none"),
        ({"number_of_copies": 0}, "'number_of_copies' must be an integer >= 1"),
        ({"name": ""}, "'name' must be a non-empty string"),
        ({"description": 7}, "'description' must be a string"),
        ({"template": "perhaps"}, "'template' must be true or false"),
    ],
)
def test_rejects_invalid_arguments_at_parse(arguments, said):
    with pytest.raises(ValueError, match=said):
        operator(**arguments)


def test_parameters_are_validated_after_rendering(http, hub, context):
    task = operator(number_of_copies="{{ copies }}", name="{{ name }}", template="{{ template }}")
    task.render_template_fields({"copies": 2, "name": "Region ", "template": False})
    assert len(task.execute(context)) == 2
    task = operator(number_of_copies="{{ copies }}")
    task.render_template_fields({"copies": "many"})
    before = len(http.request_history)
    with pytest.raises(ValueError, match="'number_of_copies' must be an integer"):
        task.execute(context)
    assert len(http.request_history) == before


def test_none_is_invalid_number_of_copies(hub, context):
    with pytest.raises(ControlHubConfigurationError, match="'number_of_copies' must be an integer"):
        operator(number_of_copies=None).execute(context)
    assert hub.duplicated == []
