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
from tests.unit.scripted_hub import HUB
from tests.unit.scripted_jobs import JR, ScriptedJobs, job_json

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def hub(http):
    return ScriptedJobs(http, job_json("job:org", "Mine"))


def operator(**arguments):
    if "job_name" not in arguments:
        arguments.setdefault("job_id", "job:org")
    return ControlHubDuplicateJobOperator(task_id="duplicate", **arguments)


def names(hub, job_ids):
    return [hub.jobs[job_id]["name"] for job_id in job_ids]


def test_it_makes_copies_and_returns_their_ids_in_order(hub, context):
    copies = operator(number_of_copies=3, name="Region ", description="A copy").execute(context)
    assert names(hub, copies) == ["Region 1", "Region 2", "Region 3"]
    assert [(order["numberOfCopies"], order["description"]) for order in hub.duplicated] == [(3, "A copy")]
    assert context["ti"].xcoms == {
        "job_id": "job:org",
        "job_ids": copies,
        "streamsets_job_link": f"{HUB}/sch/jobs/detail/{copies[0]}",
    }
    assert json.loads(json.dumps(copies)) == copies


def test_one_copy_is_named_after_the_job(hub, context, new_context):
    assert names(hub, operator().execute(context)) == ["Mine copy"]
    assert names(hub, operator(job_name="Mine", name="Yours").execute(new_context())) == ["Yours"]


def test_a_job_template_can_be_named(http, context):
    hub = ScriptedJobs(http, job_json("job:org", "Mine"), job_json("template:org", "Mine", jobTemplate=True))
    (copy,) = operator(job_name="Mine", template=True).execute(context)
    assert hub.jobs[copy]["jobTemplate"] is True


def test_a_later_try_takes_over_the_copies_of_an_earlier_one(hub, context):
    first = operator(number_of_copies=2, name="Region ").execute(context)
    context["ti"].try_number = 2
    assert operator(number_of_copies=2, name="Region ").execute(context) == first
    assert len(hub.duplicated) == 1


def test_a_later_try_takes_over_copies_that_have_not_got_their_names_yet(http, hub, context, pauses):
    rename = f"{JR}/jobs/updateJobs"
    http.post(rename, exc=requests.exceptions.ConnectionError)
    with pytest.raises(ControlHubUnavailableError):
        operator(number_of_copies=2, name="Region ").execute(context)
    http.post(rename, json=lambda r, _: hub.jobs.update({job["id"]: job for job in r.json()}))
    context["ti"].try_number = 2
    assert names(hub, operator(number_of_copies=2, name="Region ").execute(context)) == ["Region 1", "Region 2"]
    assert len(hub.duplicated) == 1


def test_nothing_is_taken_over_for_its_name_alone(hub, context, new_context):
    first = operator().execute(context)
    assert operator().execute(new_context()) != first
    assert len(hub.named("Mine copy")) == 2


def test_when_a_person_clears_the_task_it_makes_new_copies(hub, context):
    first = operator().execute(context)
    context["ti"].max_tries = 5
    assert operator().execute(context) != first


@pytest.mark.parametrize(
    ("field", "value"), [("dag_id", "other"), ("run_id", "other"), ("task_id", "other"), ("map_index", 3)]
)
def test_copies_in_the_making_belong_to_one_task_of_one_dag_run(hub, new_context, field, value):
    operator().execute(new_context())
    operator().execute(new_context())
    context = new_context()
    setattr(context["ti"], field, value)
    operator().execute(context)
    prefixes = [order["namePrefix"] for order in hub.duplicated]
    assert prefixes[0] == prefixes[1] != prefixes[2]


def test_a_call_that_loses_its_answer_makes_no_second_copies(http, hub, context, pauses):
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
    :param pauses: the clock, which waiting moves
    :param monkeypatch: lets time pass
    """

    def __init__(self, hub, pauses, monkeypatch):
        self.hub = hub
        self.pauses = pauses
        self.late = None
        self.end = LostError
        hub.http.post(f"{JR}/job/job:org/duplicate", text=self._lose)
        hub.http.get(re.compile(f"^{re.escape(JR)}/jobs[?]"), json=self._list)
        monkeypatch.setattr(
            "airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: 1000.0 + sum(pauses)
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
        if self.late is not None and self.due is not None and sum(self.pauses) >= self.due:
            self.deliver()
        return self.hub._list(request, answer)


@pytest.fixture
def calls(hub, pauses, monkeypatch):
    return LateCalls(hub, pauses, monkeypatch)


TWO = {"number_of_copies": 2, "name": "Region "}


@pytest.mark.parametrize("cleared", [False, True])
@pytest.mark.parametrize("due", [0, 30, 119])
def test_a_later_try_waits_for_copies_of_a_call_without_an_answer(hub, calls, context, due, cleared):
    with pytest.raises(LostError):
        operator(**TWO).execute(context)
    calls.due = due
    context["ti"].try_number, context["ti"].max_tries = 2, 5 if cleared else 0
    assert names(hub, operator(**TWO).execute(context)) == ["Region 1", "Region 2"]
    assert calls.late is None
    assert len(hub.duplicated) == 1
    assert len(hub.jobs) == 3


def test_a_later_try_waits_for_the_rest_of_the_time_only(hub, calls, pauses, context):
    with pytest.raises(LostError):
        operator(**TWO).execute(context)
    pauses.append(100.0)
    assert len(operator(**TWO).execute(context)) == 2
    assert sum(pauses[1:]) == pytest.approx(20, abs=3)
    assert len(hub.jobs) == 3


def test_a_later_try_does_not_wait_after_a_refusal(http, hub, context, pauses):
    http.post(f"{JR}/job/job:org/duplicate", status_code=400, json={"ISSUES": [{"code": "JOBRUNNER_7"}]})
    with pytest.raises(ControlHubRejectedError):
        operator(**TWO).execute(context)
    http.post(f"{JR}/job/job:org/duplicate", json=hub._duplicate)
    assert len(operator(**TWO).execute(context)) == 2
    assert pauses == []


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("when", ["before the second call", "after the renaming"])
def test_copies_of_a_call_that_is_executed_later_than_any_gateway_are_deleted(
    http, hub, calls, context, task_log, count, when
):
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
    assert f"deleting its {count} surplus copies of job 'Mine'" in task_log()


def test_surplus_copies_that_cannot_be_deleted_are_named_and_fail_no_task(http, hub, calls, context, task_log):
    calls.end = requests.exceptions.ReadTimeout
    with pytest.raises(ControlHubUnavailableError):
        operator(**TWO).execute(context)
    http.post(f"{JR}/jobs/deleteJobs", status_code=400, json={"ISSUES": [{"code": "JOBRUNNER_7", "message": "no"}]})
    http.post(f"{JR}/job/job:org/duplicate", json=lambda r, a: calls.deliver() or hub._duplicate(r, a))
    assert names(hub, operator(**TWO).execute(context)) == ["Region 1", "Region 2"]
    assert "Could not delete surplus copies of job 'Mine'" in task_log()
    assert "delete jobs named 'Region :" in task_log()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"job_id": None}, "given are none of them"),
        ({"number_of_copies": 0}, "'number_of_copies' must be a whole number from 1"),
        ({"name": ""}, "'name' must be a text that is not empty"),
        ({"description": 7}, "'description' must be a text"),
        ({"template": "perhaps"}, "'template' must be true or false"),
    ],
)
def test_bad_arguments_are_refused_when_the_dag_is_parsed(arguments, said):
    with pytest.raises(ValueError, match=said):
        operator(**arguments)


def test_parameters_are_checked_again_when_they_are_rendered(http, hub, context):
    task = operator(number_of_copies="{{ copies }}", name="{{ name }}", template="{{ template }}")
    task.render_template_fields({"copies": 2, "name": "Region ", "template": False})
    assert len(task.execute(context)) == 2
    task = operator(number_of_copies="{{ copies }}")
    task.render_template_fields({"copies": "many"})
    before = len(http.request_history)
    with pytest.raises(ValueError, match="'number_of_copies' must be a whole number"):
        task.execute(context)
    assert len(http.request_history) == before


def test_none_is_no_number_of_copies(hub, context):
    with pytest.raises(ControlHubConfigurationError, match="'number_of_copies' must be a whole number"):
        operator(number_of_copies=None).execute(context)
    assert hub.duplicated == []
