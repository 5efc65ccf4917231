"""Starting instances of a job template: one set of them, whatever happens to the call that starts it."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import (
    ControlHubAmbiguousStartError,
    ControlHubBulkError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    Job,
)
from airflow_provider_streamsets.control_hub.choices import INSTANCE_SUFFIXES
from airflow_provider_streamsets.control_hub.submission import TemplateStartIntent, parameters_digest
from tests.unit.fakes.api_payloads import (
    AMBIGUOUS_OUTCOMES,
    JOBS,
    JR,
    ME,
    READ_TIMEOUT,
    REFUSED,
    REJECTIONS,
    SEC,
    T0,
    TEMPLATE_ID,
    TEMPLATE_NAME,
    UNDELIVERED,
    UNKNOWN,
    issues_json,
    job_json,
    methods,
    page_json,
    paths,
    payload,
    query,
    run_json,
    template_json,
)
from tests.unit.fakes.api_payloads import template_start_json as template_start_at_its_hour

START = f"{JR}/job/{TEMPLATE_ID}/createAndStartJobInstances"
HISTORY = f"{JR}/job/{TEMPLATE_ID}/runHistory"
TEMPLATE = Job.from_wire(template_json(runtimeParameters='{"REGION": "emea", "SIZE": "1000"}'))
USER = f"{SEC}/currentUser"
THREE_REQUESTS = [
    f"GET /jobrunner/rest/v1/job/{TEMPLATE_ID}/runHistory",
    f"POST /jobrunner/rest/v1/job/{TEMPLATE_ID}/createAndStartJobInstances",
    "POST /jobrunner/rest/v1/jobs",
]


def template_start_json(number, job_ids, **fields):
    """A start that is made now."""
    return template_start_at_its_hour(number, job_ids, **{"time": T0, **fields})


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr("airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: T0 / 1000)


class StartingHub:
    """A template whose start call can fail before or after it has had its effect."""

    def __init__(self, http, starts=0):
        self.starts = [[f"old-{n}:o"] for n in range(starts)]
        self.jobs = {}
        self.answers = []
        http.get(HISTORY, json=self._history)
        http.post(START, json=self._start)
        http.post(JOBS, json=lambda r, _: [self.jobs[job_id] for job_id in r.json() if job_id in self.jobs])
        http.get(USER, json={"principalId": ME})

    def start(self, *values, job_ids=None):
        """Start instances that have these parameters and no others."""
        ids = job_ids or [f"new-{len(self.starts)}-{n}:o" for n in range(len(values))]
        self.starts.append(ids)
        for job_id, parameters in zip(ids, values, strict=True):
            self.jobs[job_id] = job_json(
                job_id,
                "Instance",
                templateJobId=TEMPLATE_ID,
                runtimeParameters=json.dumps(parameters),
                currentJobStatus=run_json(1, "ACTIVATING", jobId=job_id),
            )
        return ids

    def _history(self, request, _):
        offset, length = int(query(request)["offset"]), int(query(request)["len"])
        starts = [template_start_json(number, ids) for number, ids in enumerate(self.starts, start=1)]
        return page_json(*starts[offset : offset + length], total=len(starts))

    def _start(self, request, context):
        executed, answer = self.answers.pop(0) if self.answers else (True, {})
        ids = self.start(*request.json()["runtimeParametersList"]) if executed else []
        if "exc" in answer:
            raise answer["exc"]
        context.status_code = answer.get("status_code", 200)
        return answer.get("json", [run_json(1, "ACTIVATING", jobId=job_id) for job_id in ids] if executed else None)


def test_start_uses_three_requests(http, client):
    hub = StartingHub(http)
    instances = client.templates.start(TEMPLATE, [{"REGION": "apac"}, {}, {"EXTRA": [1]}])
    assert [instance.job_id for instance in instances] == hub.starts[0]
    assert {(i.name, i.template_id, i.last_run_count) for i in instances} == {("Instance", TEMPLATE_ID, 1)}
    assert paths(http) == THREE_REQUESTS
    assert query(http.request_history[0]) == {"offset": "0", "len": "1000", "withTotalCount": "true"}
    assert query(http.request_history[1]) == {"inheritPermissions": "false"}
    assert http.request_history[1].json() == {
        "namePostfixType": "COUNTER",
        "paramName": None,
        "runtimeParametersList": [
            {"REGION": "apac", "SIZE": "1000"},
            {"REGION": "emea", "SIZE": "1000"},
            {"REGION": "emea", "SIZE": "1000", "EXTRA": [1]},
        ],
        "name": None,
        "description": None,
        "rawJobTags": None,
        "attachToTemplate": True,
        "deleteAfterCompletion": False,
    }


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_instances_keep_parameter_order(http, client, order):
    hub = StartingHub(http)
    values = [{"REGION": "apac"}, {"REGION": "emea"}, {"REGION": "amer"}]

    def start(request, _):
        ids = hub.start(*request.json()["runtimeParametersList"])
        return [run_json(1, jobId=ids[n]) for n in order]

    http.post(START, json=start)
    instances = client.templates.start(TEMPLATE, values)
    assert [instance.runtime_parameters["REGION"] for instance in instances] == ["apac", "emea", "amer"]


def test_unmatched_parameters_keep_response_order(http, client):
    hub = StartingHub(http)

    def start(request, _):
        ids = hub.start({"N": "1"}, {"N": "2"})
        return [run_json(1, jobId=job_id) for job_id in ids]

    http.post(START, json=start)
    assert [i.job_id for i in client.templates.start(TEMPLATE, [{"N": 1}, {"N": 2}])] == hub.starts[0]


def test_all_options_are_sent(http, client):
    StartingHub(http)
    client.templates.start(
        TEMPLATE,
        [{}],
        name="Night",
        description="Of the night",
        suffix="PARAM_VALUE",
        suffix_parameter="REGION",
        tags=("nightly/orders",),
        attach_to_template=False,
        delete_after_completion=True,
        inherit_permissions=True,
    )
    request = http.request_history[1]
    assert query(request) == {"inheritPermissions": "true"}
    assert request.json() == {
        "namePostfixType": "PARAM_VALUE",
        "paramName": "REGION",
        "runtimeParametersList": [{"REGION": "emea", "SIZE": "1000"}],
        "name": "Night",
        "description": "Of the night",
        "rawJobTags": ["nightly/orders"],
        "attachToTemplate": False,
        "deleteAfterCompletion": True,
    }


def test_empty_tags_are_sent(http, client):
    StartingHub(http)
    client.templates.start(TEMPLATE, [{}], tags=[])
    assert http.request_history[1].json()["rawJobTags"] == []


@pytest.mark.parametrize("suffix", ["COUNTER", "TIME_STAMP"])
def test_other_suffixes_need_no_parameter(http, client, suffix):
    StartingHub(http)
    client.templates.start(TEMPLATE, [{}], suffix=suffix)
    assert http.request_history[1].json()["namePostfixType"] == suffix


STATIC = Job.from_wire(template_json(staticParameters=["SIZE", "DIRECTORY"]))


@pytest.mark.parametrize(
    ("template", "values", "options", "message"),
    [
        (Job.from_wire(job_json()), [{}], {}, "it is a job, not a job template. Start the job itself"),
        (TEMPLATE, [], {}, "'runtime_parameters' is empty"),
        (
            TEMPLATE,
            [{}],
            {"suffix": "NUMBER"},
            "'suffix' must be one of COUNTER, TIME_STAMP, PARAM_VALUE, got 'NUMBER'",
        ),
        (TEMPLATE, [{}], {"suffix": "PARAM_VALUE"}, "must be set with suffix PARAM_VALUE, and only with it"),
        (TEMPLATE, [{}], {"suffix_parameter": "REGION"}, "must be set with suffix PARAM_VALUE, and only with it"),
        (
            TEMPLATE,
            [{"DAY": "1"}, {}],
            {"suffix": "PARAM_VALUE", "suffix_parameter": "DAY"},
            "parameter 'DAY' is missing in instance 2 of 2, which has REGION, SIZE",
        ),
        (
            STATIC,
            [{"REGION": "x"}, {"SIZE": "1", "DIRECTORY": "2"}],
            {},
            "instance 2 overrides DIRECTORY, SIZE, which the template does not allow",
        ),
    ],
)
def test_invalid_start_sends_nothing(http, client, template, values, options, message):
    with pytest.raises(ControlHubConfigurationError, match=message):
        client.templates.start(template, values, **options)
    assert http.call_count == 0


def test_static_parameters_keep_template_values(http, client):
    StartingHub(http)
    client.templates.start(STATIC, [{"REGION": "x"}])
    assert http.request_history[1].json()["runtimeParametersList"] == [
        {"DIRECTORY": "/data/in", "SIZE": "1000", "REGION": "x"}
    ]


@pytest.mark.parametrize("name", ["template-start-response", "template-start-async-response"])
def test_example_responses_name_instances(http, client, name):
    example = payload(name)
    StartingHub(http)
    http.post(START, json=example)
    instances = client.templates.start(TEMPLATE, [{}] * len(example))
    assert [i.job_id for i in instances] == [entry.get("jobId") or entry["id"] for entry in example]


def test_missing_instance_is_reported_by_id(http, client):
    hub = StartingHub(http)
    http.post(JOBS, json=lambda r, _: [hub.jobs[r.json()[0]]])
    first, second = client.templates.start(TEMPLATE, [{}, {}], delete_after_completion=True)
    assert (first.name, second.name) == ("Instance", "")
    assert (second.job_id, second.template_id) == (hub.starts[0][1], TEMPLATE_ID)


@pytest.mark.parametrize(
    "answer", [{"status_code": 503}, {"exc": READ_TIMEOUT}, {"status_code": 401}, {"text": "<html>"}]
)
def test_unreadable_instances_are_reported_by_id(http, client, answer):
    """They run: losing their ids would leave them to themselves, and a retry would start more."""
    hub = StartingHub(http)
    http.post(JOBS, **answer)
    instances = client.templates.start(TEMPLATE, [{}, {}])
    assert [instance.job_id for instance in instances] == hub.starts[0]
    assert len(hub.starts) == 1


@pytest.mark.parametrize("end", AMBIGUOUS_OUTCOMES.values(), ids=AMBIGUOUS_OUTCOMES)
@pytest.mark.parametrize("starts", [0, 3])
def test_lost_response_finds_instances(http, client, end, starts):
    hub = StartingHub(http, starts)
    if "text" in end:
        http.post(START, text=lambda request, context: hub._start(request, context) and end["text"])
    else:
        hub.answers = [(True, end)]
    instances = client.templates.start(TEMPLATE, [{}, {}])
    assert [instance.job_id for instance in instances] == hub.starts[-1]
    assert paths(http) == [
        *THREE_REQUESTS[:2],
        "GET /security/rest/v1/currentUser",
        THREE_REQUESTS[0],
        THREE_REQUESTS[2],
    ]
    assert len(hub.starts) == starts + 1


@pytest.mark.parametrize(
    "others",
    [
        {"values": [{"REGION": "apac", "SIZE": "1000"}]},
        {"values": [{"REGION": "apac", "SIZE": "1000"}, {"REGION": "amer", "SIZE": "1000"}]},
        {"values": [{"REGION": "apac"}, {"REGION": "emea", "SIZE": "1000"}]},
        {"values": [{"REGION": "apac", "SIZE": "1000"}, {"REGION": "emea", "SIZE": "1000"}], "user": "ann@org"},
    ],
    ids=["fewer", "another value", "fewer values", "another user"],
)
def test_concurrent_start_of_other_caller_is_ignored(http, client, others):
    hub = StartingHub(http)
    their_ids = [f"theirs-{n}:o" for n in range(len(others["values"]))]

    def start(request, _):
        hub.start(*request.json()["runtimeParametersList"])
        hub.start(*others["values"], job_ids=their_ids)
        raise READ_TIMEOUT

    users = {2: others["user"]} if "user" in others else {}
    http.post(START, json=start)
    http.get(
        HISTORY,
        json=lambda *_: page_json(
            *(template_start_json(n, ids, user=users.get(n, ME)) for n, ids in enumerate(hub.starts, start=1))
        ),
    )
    instances = client.templates.start(TEMPLATE, [{"REGION": "apac"}, {}])
    assert [instance.job_id for instance in instances] == hub.starts[0]


def test_identical_starts_are_ambiguous(http, client):
    hub = StartingHub(http)

    def start(request, _):
        hub.start(*request.json()["runtimeParametersList"])
        hub.start(*request.json()["runtimeParametersList"], job_ids=["theirs:o"])
        raise READ_TIMEOUT

    http.post(START, json=start)
    with pytest.raises(ControlHubUnavailableError, match="2 starts with the same parameters exist") as caught:
        client.templates.start(TEMPLATE, [{}])
    assert caught.value.maybe_executed is True


def test_start_without_user_is_matched(http, client):
    hub = StartingHub(http)
    hub.answers = [(True, {"exc": READ_TIMEOUT})]
    http.get(
        HISTORY,
        json=lambda *_: [template_start_json(n, ids, user=None) for n, ids in enumerate(hub.starts, start=1)],
    )
    assert client.templates.start(TEMPLATE, [{}])[0].job_id == hub.starts[0][0]


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("starts", [1001, 2500])
def test_latest_start_is_found_in_long_history(http, client, starts, direction):
    hub = StartingHub(http, starts)

    def history(request, _):
        offset, length = int(query(request)["offset"]), int(query(request)["len"])
        entries = [template_start_json(number, ids) for number, ids in enumerate(hub.starts, start=1)][::direction]
        return page_json(*entries[offset : offset + length], total=len(entries))

    http.get(HISTORY, json=history)
    hub.answers = [(True, {"exc": READ_TIMEOUT})]
    (instance,) = client.templates.start(TEMPLATE, [{}])
    assert [instance.job_id] == hub.starts[-1]
    assert len(hub.starts) == starts + 1


@pytest.mark.parametrize("wrapped", [True, False])
def test_history_wrapper_is_optional(http, client, wrapped):
    hub = StartingHub(http, 2)

    def history(request, _):
        entries = [template_start_json(number, ids) for number, ids in enumerate(hub.starts, start=1)]
        entries = entries[int(query(request)["offset"]) :]
        return {"data": entries} if wrapped else entries

    http.get(HISTORY, json=history)
    hub.answers = [(True, {"exc": READ_TIMEOUT})]
    client.templates.start(TEMPLATE, [{}])
    assert len(hub.starts) == 3


@pytest.mark.parametrize("history", [{"json": {}}, {"json": []}])
def test_empty_history_forms_are_accepted(http, client, history):
    hub = StartingHub(http)
    http.get(HISTORY, **history)
    client.templates.start(TEMPLATE, [{}])
    assert len(hub.starts) == 1


def test_late_start_is_awaited(http, client, clock):
    hub = StartingHub(http, 1)
    hub.answers = [(True, {"exc": READ_TIMEOUT})]
    old = template_start_json(1, ["old:o"])
    pages = [[old], [old], [old, template_start_json(2, [])], [template_start_json(2, ["new-1-0:o"]), old]]
    http.get(HISTORY, [{"json": page_json(*page)} for page in pages])
    assert client.templates.start(TEMPLATE, [{}])[0].job_id == "new-1-0:o"
    assert clock.slept == [3.0, 3.0]
    assert len(hub.starts) == 2


@pytest.mark.parametrize("end", AMBIGUOUS_OUTCOMES.values(), ids=AMBIGUOUS_OUTCOMES)
def test_ambiguous_start_without_instances_is_not_retried(http, client, clock, end):
    """Control Hub may still be at it; a second call would start more instances."""
    StartingHub(http, 1)
    http.post(START, **end)
    with pytest.raises(ControlHubUnavailableError, match=r"appeared within 120 s\. Check the runs of") as caught:
        client.templates.start(TEMPLATE, [{}])
    assert caught.value.maybe_executed is True
    assert methods(http).count("POST") == 1
    assert sum(clock.slept) >= 120


@pytest.mark.parametrize("end", [*AMBIGUOUS_OUTCOMES.values(), {"content": b""}], ids=[*AMBIGUOUS_OUTCOMES, "empty"])
@pytest.mark.parametrize("poll", [{"status_code": 503}, {"exc": REFUSED}, {"status_code": 401}, {"text": "<html>"}])
@pytest.mark.parametrize("where", [HISTORY, USER])
def test_unconfirmed_start_is_not_retried(http, client, end, poll, where):
    StartingHub(http)
    http.post(START, **end)
    http.get(**{"url": HISTORY, "response_list": [{"json": []}, poll]} if where == HISTORY else {"url": where, **poll})
    with pytest.raises(
        ControlHubUnavailableError, match="Could not determine whether instances were started"
    ) as caught:
        client.templates.start(TEMPLATE, [{}])
    assert caught.value.maybe_executed is True
    assert methods(http).count("POST") == 1


NAMELESS = [{"content": b""}, {"json": None}, {"json": []}]


@pytest.mark.parametrize("answer", NAMELESS, ids=str)
def test_unnamed_instances_are_searched(http, client, answer):
    hub = StartingHub(http)
    text = "" if "content" in answer else json.dumps(answer["json"])
    http.post(START, text=lambda request, _: hub.start(*request.json()["runtimeParametersList"]) and text)
    assert [instance.job_id for instance in client.templates.start(TEMPLATE, [{}])] == hub.starts[0]
    assert len(hub.starts) == 1


@pytest.mark.parametrize("answer", NAMELESS, ids=str)
def test_accepted_start_without_instances_is_not_retried(http, client, answer):
    StartingHub(http)
    http.post(START, **answer)
    with pytest.raises(
        ControlHubUnavailableError, match="accepted the request, but its response names no instance"
    ) as caught:
        client.templates.start(TEMPLATE, [{}])
    assert caught.value.maybe_executed is True
    assert methods(http).count("POST") == 1


@pytest.mark.parametrize("end", UNDELIVERED.values(), ids=UNDELIVERED)
def test_undelivered_start_is_retried(http, client, end):
    hub = StartingHub(http)
    hub.answers = [(False, end), (False, end)]
    client.templates.start(TEMPLATE, [{}])
    assert methods(http) == ["GET", "POST", "POST", "POST", "POST"]
    assert len(hub.starts) == 1


@pytest.mark.parametrize("refusal", REJECTIONS.values(), ids=REJECTIONS)
def test_rejected_start_is_not_retried(http, client, refusal):
    hub = StartingHub(http)
    hub.answers = [(False, refusal)]
    with pytest.raises(ControlHubError, match=rf"Cannot start 2 instances of job template '{TEMPLATE_NAME}'.*R_7"):
        client.templates.start(TEMPLATE, [{}, {}])
    assert methods(http) == ["GET", "POST"]


def test_start_error_500_is_not_retried(http, client):
    hub = StartingHub(http)
    hub.answers = [(False, {"status_code": 500, "json": issues_json(("JOBRUNNER_7", "no engine"))})]
    with pytest.raises(ControlHubRejectedError, match="JOBRUNNER_7 - no engine"):
        client.templates.start(TEMPLATE, [{}])
    assert methods(http).count("POST") == 1


def test_missing_template_prevents_start(http, client):
    StartingHub(http)
    http.get(HISTORY, **UNKNOWN)
    with pytest.raises(ControlHubNotFoundError, match=f"read the starts of job template '{TEMPLATE_NAME}'"):
        client.templates.start(TEMPLATE, [{}])
    assert methods(http) == ["GET"]


_ENDS = st.tuples(
    st.booleans(),
    st.sampled_from(
        [{}, {"json": None}, {"json": []}, {"status_code": 500}, {"status_code": 504}, {"exc": READ_TIMEOUT}]
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(ends=st.lists(_ENDS, max_size=4), starts=st.integers(0, 3), count=st.integers(1, 3))
def test_start_makes_at_most_one_set_of_instances(http, client, ends, starts, count):
    http.reset()
    hub = StartingHub(http, starts)
    hub.answers = list(ends)
    try:
        instances = client.templates.start(TEMPLATE, [{}] * count)
    except ControlHubError:
        assert len(hub.starts) == starts
    else:
        assert [instance.job_id for instance in instances] == hub.starts[-1]
        assert len(hub.starts) == starts + 1


def test_suffixes_match_control_hub():
    assert set(INSTANCE_SUFFIXES) == {"COUNTER", "TIME_STAMP", "PARAM_VALUE"}


def test_missing_instances_are_reported(http, client):
    StartingHub(http)
    http.post(START, json=[run_json(1, "ACTIVATING", jobId="only:o")])
    with pytest.raises(ControlHubBulkError, match=r"only 1 of 2 instances") as caught:
        client.templates.start(TEMPLATE, [{"REGION": "apac"}, {"REGION": "amer"}])
    assert caught.value.done == {"only:o": 1}


@pytest.mark.parametrize("value", [None, "", " "])
def test_empty_suffix_value_is_rejected(http, client, value):
    with pytest.raises(ControlHubConfigurationError, match=r"suffix parameter 'REGION' is empty in instance 2 of 2"):
        client.templates.start(
            TEMPLATE, [{"REGION": "apac"}, {"REGION": value}], suffix="PARAM_VALUE", suffix_parameter="REGION"
        )
    assert http.call_count == 0


def test_start_outside_time_window_is_ignored(http, client):
    hub = StartingHub(http)
    hub.start(dict(TEMPLATE.runtime_parameters))
    later = template_start_json(1, hub.starts[0], time=T0 + 400_000)
    http.get(HISTORY, json=[later])
    digests = (parameters_digest(TEMPLATE.runtime_parameters),)
    assert (
        client.templates.find_instances(TemplateStartIntent(TEMPLATE_ID, 0, ME, T0 / 1000, digests, T0 / 1000 + 300))
        == []
    )
    assert len(client.templates.find_instances(TemplateStartIntent(TEMPLATE_ID, 0, ME, parameters=digests))) == 1


@pytest.mark.parametrize("value", [{1, 2}, T0**0.5 * 1j], ids=["set", "complex"])
def test_non_json_values_are_rejected(http, client, value):
    StartingHub(http)
    with pytest.raises(ControlHubConfigurationError, match="runtime parameters REGION, SIZE: they are not valid JSON"):
        client.templates.start(TEMPLATE, [{"REGION": value}])
    assert methods(http).count("POST") == 0


@pytest.mark.parametrize(("age", "polls"), [(0, 41), (110, 5), (500, 1)])
def test_requested_start_is_polled_until_gateway_timeout(http, client, clock, age, polls):
    StartingHub(http)
    intent = TemplateStartIntent(TEMPLATE_ID, 0, ME, T0 / 1000 - age, (parameters_digest({}),))
    assert client.templates.find_instances(intent, wait=True) == []
    assert len(paths(http)) == polls


def test_late_requested_start_is_found(http, client, clock):
    hub = StartingHub(http)
    hub.start({"REGION": "apac"})
    late = template_start_json(1, hub.starts[0])
    http.get(HISTORY, [{"json": []}, {"json": []}, {"json": [late]}])
    intent = TemplateStartIntent(TEMPLATE_ID, 0, ME, T0 / 1000, (parameters_digest({"REGION": "apac"}),))
    assert [instance.job_id for instance in client.templates.find_instances(intent, wait=True)] == hub.starts[0]
    assert clock.slept == [3.0, 3.0]


@pytest.mark.parametrize(("gone", "found"), [([1], 1), ([0, 1], 0)])
def test_start_is_matched_by_remaining_instances(http, client, gone, found):
    """Control Hub deletes each instance when its run is over."""
    hub = StartingHub(http)
    ids = hub.start({"REGION": "apac"}, {"REGION": "emea"})
    for number in gone:
        del hub.jobs[ids[number]]
    digests = tuple(parameters_digest({"REGION": region}) for region in ("emea", "apac"))
    instances = client.templates.find_instances(TemplateStartIntent(TEMPLATE_ID, 0, ME, T0 / 1000, digests))
    # A start whose instances are all deleted cannot be distinguished from that of another caller.
    assert [instance.job_id for instance in instances] == ids[::-1] * found


def test_several_candidates_are_named(http, client):
    hub = StartingHub(http)
    for _ in range(2):
        hub.start(dict(TEMPLATE.runtime_parameters), dict(TEMPLATE.runtime_parameters))
    intent = TemplateStartIntent(TEMPLATE_ID, 0, ME, T0 / 1000, (parameters_digest(TEMPLATE.runtime_parameters),) * 2)
    named = r"start 1 \(new-0-0:o, new-0-1:o\); start 2 \(new-1-0:o, new-1-1:o\)\. Stop the surplus"
    with pytest.raises(ControlHubAmbiguousStartError, match=named):
        client.templates.find_instances(intent)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"A": (1, 2.0)}, {"A": [1.0, 2]}),
        ({"A": {1: {2: None}}}, {"A": {"1": {"2": None}}}),
        ({"A": 1, "B": 2}, {"B": 2, "A": 1}),
        ({"A": "\ud800"}, {"A": "?"}),
    ],
)
def test_digest_uses_wire_values(sent, read):
    assert parameters_digest(sent) == parameters_digest(read)


@pytest.mark.parametrize("other", [{"A": "1"}, {"A": True}, {"A": 1.5}, {"A": [1]}, {}, {"A": 1, "B": None}])
def test_different_values_change_digest(other):
    assert parameters_digest({"A": 1}) != parameters_digest(other)
