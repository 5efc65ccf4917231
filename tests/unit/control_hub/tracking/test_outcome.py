"""What a run's engines, events and users say about its outcome."""

from __future__ import annotations

import pytest

from airflow_provider_streamsets.control_hub import Outcome, RunReport
from airflow_provider_streamsets.control_hub.models import JobRun, RunEvent
from airflow_provider_streamsets.control_hub.tracking.outcome import decide_outcome
from tests.unit.fakes.api_payloads import failed, run_json, succeeded

STARTER, OTHER = "starter@org", "other@org"
T0 = 1_767_261_000_000


def event(seconds, status, message="", user=None):
    return {"user": user, "time": T0 + int(seconds * 1000), "message": message, "status": status}


def engine(status, number=0):
    return f"Data Collector 'http://sdc-{number}.example.com:18630' reported pipeline in status '{status}'"


STARTED = [event(0, "ACTIVATING", "Job started", STARTER), event(3, "ACTIVE", engine("RUNNING"))]
FINISHED = [
    *STARTED,
    event(93, "DEACTIVATING", engine("FINISHED")),
    event(95, "INACTIVE", "Job finished"),
]
STOPPED_BY_STARTER = [
    *STARTED,
    event(60, "DEACTIVATING", "Job stopped", STARTER),
    event(62, "DEACTIVATING", engine("STOPPED")),
    event(63, "INACTIVE", "Job stopped"),
]
CLOCK_BEHIND = [
    *STARTED,
    event(60, "DEACTIVATING", "Job stopped", STARTER),
    event(57.8, "DEACTIVATING", engine("STOPPED")),
    event(61, "INACTIVE", "Job stopped"),
]
COPIED_STARTER = [{**entry, "user": STARTER} for entry in FINISHED]
RECOVERED = [
    event(0, "ACTIVATING", "Job started", STARTER),
    event(2, "ACTIVATION_ERROR", "Engine did not confirm the start"),
    event(9, "ACTIVE", engine("RUNNING")),
    *FINISHED[2:],
]
AS_THE_GUIDE_PRINTS_THEM = [
    {"user": "admin@admin", "time": 1560367534056, "message": "", "status": "ACTIVATING"},
    {"user": "admin@admin", "time": 1560367540929, "message": "", "status": "DEACTIVATING"},
    {"user": None, "time": 1560367537771, "message": "", "status": "DEACTIVATING"},
    {"user": None, "time": 1560367537814, "message": "", "status": "DEACTIVATING"},
]


def without_messages(events):
    return [{**entry, "message": ""} for entry in events]


def decide(events, run=None, engines=()):
    body = {
        **(run or succeeded()),
        "user": STARTER,
        "pipelineStatus": [{"sdcId": f"engine-{n}", "status": status} for n, status in enumerate(engines)],
    }
    return decide_outcome(JobRun.from_wire(body), [RunEvent.from_wire(entry) for entry in events])


@pytest.mark.parametrize(
    ("events", "outcome", "stopped_by"),
    [
        (FINISHED, Outcome.SUCCEEDED, None),
        (FINISHED[::-1], Outcome.SUCCEEDED, None),
        (without_messages(FINISHED), Outcome.SUCCEEDED, None),
        (STOPPED_BY_STARTER, Outcome.STOPPED, STARTER),
        (CLOCK_BEHIND, Outcome.STOPPED, STARTER),
        (without_messages(CLOCK_BEHIND), Outcome.STOPPED, STARTER),
        (COPIED_STARTER, Outcome.SUCCEEDED, None),
        (without_messages(COPIED_STARTER), Outcome.SUCCEEDED, None),
        (without_messages(COPIED_STARTER[:1] + COPIED_STARTER[2:]), Outcome.SUCCEEDED, None),
        ([{**entry, "user": STARTER} for entry in CLOCK_BEHIND], Outcome.STOPPED, None),
        (RECOVERED, Outcome.SUCCEEDED, None),
        (without_messages(RECOVERED), Outcome.SUCCEEDED, None),
        (AS_THE_GUIDE_PRINTS_THEM, Outcome.STOPPED, "admin@admin"),
        ([], Outcome.SUCCEEDED, None),
        # Automatic events can carry the user of the hub itself.
        ([*STARTED[:1], *({**entry, "user": "hub@org"} for entry in FINISHED[1:])], Outcome.SUCCEEDED, None),
        # A user who is not the starter is no copy.
        ([*STARTED, event(9, "DEACTIVATING", "", OTHER), event(9, "INACTIVE", "", OTHER)], Outcome.STOPPED, OTHER),
        # The hub's own end can carry the starter where the engines' reports do not.
        ([*STARTED, event(9, "DEACTIVATING"), event(10, "INACTIVE", "", STARTER)], Outcome.SUCCEEDED, None),
        # Synchronized by the starter and stopped later on.
        (
            [*STARTED, event(5, "ACTIVE", "", STARTER), event(9, "DEACTIVATING", "", STARTER), event(9, "INACTIVE")],
            Outcome.STOPPED,
            STARTER,
        ),
        # What happens to a run after its end is no stop.
        ([*without_messages(FINISHED), event(99, "INACTIVE", "Reset", OTHER)], Outcome.SUCCEEDED, None),
    ],
)
def test_events_distinguish_stop_from_success(events, outcome, stopped_by):
    decision = decide(events)
    assert (decision.outcome, decision.stopped_by, decision.conflict) == (outcome, stopped_by, "")


@pytest.mark.parametrize(
    ("engines", "outcome"),
    [
        (["FINISHED"], Outcome.SUCCEEDED),
        (["STOPPED"], Outcome.STOPPED),
        (["STOPPING", "STOPPED"], Outcome.STOPPED),
        (["FINISHED", "FINISHED"], Outcome.SUCCEEDED),
        (["RUNNING"], Outcome.SUCCEEDED),
        (["STOPPED", "RUNNING"], Outcome.STOPPED),
    ],
)
def test_engine_statuses_complement_events(engines, outcome):
    assert decide(without_messages(COPIED_STARTER), engines=engines).outcome is outcome


def test_stop_after_partial_finish_is_a_stop():
    decision = decide(without_messages(STOPPED_BY_STARTER), engines=["FINISHED", "RUNNING"])
    assert (decision.outcome, decision.conflict) == (Outcome.STOPPED, "")


@pytest.mark.parametrize(
    ("events", "engines", "said"),
    [
        (
            [*FINISHED[:3], event(94, "DEACTIVATING", "Job stopped", OTHER), FINISHED[3]],
            [],
            f"event messages: SUCCEEDED; a stop by user {OTHER}: STOPPED",
        ),
        (FINISHED, ["STOPPED"], "engines: STOPPED; event messages: SUCCEEDED"),
        ([], ["FINISHED", "STOPPED"], "engines: STOPPED and SUCCEEDED"),
        (
            [
                *STARTED,
                event(50, "ACTIVE", engine("STOPPED")),
                event(90, "DEACTIVATING", engine("FINISHED", 1)),
                event(95, "INACTIVE"),
            ],
            [],
            "event messages: STOPPED and SUCCEEDED",
        ),
    ],
)
def test_conflicting_evidence_follows_status(events, engines, said):
    decision = decide(events, engines=engines)
    assert (decision.outcome, decision.conflict) == (Outcome.SUCCEEDED, said)


@pytest.mark.parametrize(
    ("run", "events"),
    [
        (failed(), FINISHED),
        (failed(), STOPPED_BY_STARTER),
        (run_json(1, "INACTIVE_ERROR", "RED"), STOPPED_BY_STARTER),
        (run_json(1, "ACTIVATION_ERROR", "GRAY"), []),
        # Acknowledged since.
        (succeeded(), [*STARTED, event(9, "INACTIVE_ERROR"), event(99, "INACTIVE", "Acknowledged", OTHER)]),
        # An engine's late report, by a clock ahead, is no recovery.
        (succeeded(), [event(9, "INACTIVE_ERROR"), event(10, "ACTIVE", engine("RUNNING")), event(99, "INACTIVE")]),
        (succeeded(), [event(9, "ACTIVATION_ERROR"), event(10, "DEACTIVATING"), event(11, "INACTIVE")]),
    ],
)
def test_failure_stays_failure(run, events):
    assert decide(events, run).outcome is Outcome.FAILED


def test_repeated_activation_error_is_failure():
    assert decide([*RECOVERED[:3], event(20, "ACTIVATION_ERROR"), event(99, "INACTIVE")]).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("events", "by_task", "text"),
    [
        (STOPPED_BY_STARTER, True, "was stopped by this task"),
        (STOPPED_BY_STARTER, False, f"by {STARTER}, with the credential that started it (perhaps another task)"),
        ([*STARTED, event(9, "DEACTIVATING", "", OTHER)], False, f"was stopped by user {OTHER}"),
        ([event(9, "DEACTIVATING", engine("STOPPED"))], False, "was stopped"),
    ],
)
def test_report_names_user_who_stopped_run(events, by_task, text):
    report = RunReport.build(
        job_id="job:org",
        job_name="Orders",
        run=JobRun.from_wire({**succeeded(), "user": STARTER}),
        events=[RunEvent.from_wire(entry) for entry in events],
    )
    report = RunReport.from_dict({**report.to_dict(), "stopped_by_task": by_task})
    assert text in report.summary
    assert report.details().count("by user") == (OTHER in text)
