"""
Every option of operators and sensors in every mode: where a task waits must make no difference.

A case is a class of task, its options, and what happens when, in seconds; add it to the table of its class. End state,
error, XComs, log and requests of its modes are then compared.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import BaseSensorOperator

from airflow_provider_streamsets import operators, sensors
from tests.unit.fakes.mode_scenarios import (
    GIVEN,
    METRIC_SENSOR,
    RUN,
    RUN_SENSOR,
    START_MANY,
    STOP,
    STOP_MANY,
    TEMPLATE,
    a_is_acknowledged,
    all_succeed,
    b_cannot_be_started,
    becomes_active,
    begins,
    cannot_activate,
    cannot_start,
    case,
    counts,
    differences,
    ends,
    ends_in_error,
    fails,
    hangs,
    has_counter,
    has_counts,
    has_no_counts,
    is_red,
    is_reimported,
    is_stopped,
    is_unreachable,
    is_upgraded,
    many_hang,
    red,
    refuses_credential,
    results_by_mode,
    show,
    stopped_by_other_user,
)
from tests.unit.fakes.multi_job_hub import errored
from tests.unit.fakes.multi_job_hub import failed as failed_run
from tests.unit.fakes.multi_job_hub import succeeded as succeeded_run

pytestmark = pytest.mark.usefixtures("connection")

AIRFLOW_OPTIONS = {"execution_timeout", "do_xcom_push", "multiple_outputs", "retries"}
"""Options of Airflow's base operator that modes can treat differently."""
EXCLUDED_OPTIONS = {
    "silent_fail": "known only to Airflow's loop on a worker, as its documentation says",
    "control_hub_conn_id": "all modes read the same connection",
    "job_id": "given to all",
    "job_ids": "given to all",
    "job_name": "how jobs are found does not depend on the mode",
    "job_names": "as job_name",
    "job_tag": "as job_name",
    "search": "as job_name",
    "partition_key": "requires Airflow 3.3; the asset events are tested with it",
    "deferrable": "is the mode",
    "mode": "is the mode",
    "start_from_trigger": "is the mode",
    "end_from_trigger": "is the mode",
    **dict.fromkeys(
        (
            "number_of_instances",
            "instance_name",
            "description",
            "suffix",
            "suffix_parameter",
            "job_tags",
            "attach_to_template",
            "inherit_permissions",
            "openlineage_inject_parent_job_info",
        ),
        "part of the start call, which all modes send from the first leg",
    ),
}
"""Options that need no case, and why."""
LOST = "failed ControlHubRunLostError"
FAILED = "failed ControlHubRunFailedError"
TIMED_OUT = "failed ControlHubRunTimeoutError"
TASK_TIMEOUT = "failed AirflowTaskTimeout"
SENSOR_TIMEOUT = "failed AirflowSensorTimeout"
UNEXPECTED = "failed ControlHubExpectationError"
UNAVAILABLE = "failed ControlHubMetricsUnavailableError"
REFUSED = "failed ControlHubAuthenticationError"
BLOCKED = "failed ControlHubJobStateError"

TEN_MINUTES = {"execution_timeout": timedelta(seconds=600)}
OTHER_RUNS = (0, begins)
# The clock begins at 1000.
AFTER_100 = {"started_after": "1970-01-01T00:18:20Z"}
ENDED = (500, ends)
A_AND_B_ACTIVE = (10, show("a", "b"))
A_AND_B_END = (500, show(a=succeeded_run, b=succeeded_run))
INSTANCES_ACTIVE = (10, show("instance_1", "instance_2"))
INSTANCES_END = (500, show(instance_1=succeeded_run, instance_2=succeeded_run))
TWO = {"runtime_parameters": [{"REGION": "north"}, {"REGION": "south"}]}

RUN_CASES = {
    "strict parameters": case(RUN, {"runtime_parameters": {"A": 1}, "strict_parameters": True}, ENDED),
    "succeeds": case(RUN, {}, ENDED),
    "fails": case(RUN, {}, (500, fails), ends=FAILED),
    "fails at its start": case(RUN, {}, (20, cannot_start), ends=FAILED),
    "ends in error": case(RUN, {}, (500, ends_in_error), ends=FAILED),
    "is stopped": case(RUN, {}, (500, is_stopped), ends=FAILED),
    "stop accepted": case(RUN, {"accept_stopped": True}, (500, is_stopped)),
    "is upgraded": case(RUN, {}, (300, is_upgraded), ENDED),
    "is upgraded and fails": case(RUN, {}, (300, is_upgraded), (500, fails), ends=FAILED),
    "imported again": case(RUN, {}, (300, is_reimported), ends=LOST),
    "RED for a while": case(RUN, {"fail_on_red_after": 120}, (0, is_red(100, 180)), ENDED),
    "stays RED": case(RUN, {"fail_on_red_after": 120}, (0, is_red(100)), ends=FAILED),
    "stays RED, left": case(RUN, {"fail_on_red_after": 120, "on_error": "leave"}, (0, is_red(100)), ends=FAILED),
    "stays RED, no limit": case(RUN, {"wait_timeout": 400}, (0, is_red(100)), ends=TIMED_OUT),
    "unreachable for a while": case(RUN, {}, (200, is_unreachable(200)), ENDED),
    "unreachable at its end": case(RUN, {}, (450, is_unreachable(200)), ENDED),
    "credential refused": case(RUN, {}, (200, refuses_credential), ends=REFUSED),
    "credential refused, left": case(RUN, {"on_error": "leave"}, (200, refuses_credential), ends=REFUSED),
    "timeout": case(RUN, {"wait_timeout": 300}, ends=TIMED_OUT),
    "timeout, left": case(RUN, {"wait_timeout": 300, "on_timeout": "leave"}, ends=TIMED_OUT),
    "timeout while unreachable": case(RUN, {"wait_timeout": 300}, (200, is_unreachable(110)), ends=TIMED_OUT),
    "timeout, forced": case(RUN, {"wait_timeout": 300, "force_stop_after": 30}, (0, hangs), ends=TIMED_OUT),
    "timeout, forced at once": case(RUN, {"wait_timeout": 300, "force_stop_after": 0}, (0, hangs), ends=TIMED_OUT),
    "execution_timeout": case(RUN, TEN_MINUTES, ends=TASK_TIMEOUT),
    "execution_timeout, left": case(RUN, {**TEN_MINUTES, "on_timeout": "leave"}, ends=TASK_TIMEOUT),
    "timeout before execution_timeout": case(RUN, {**TEN_MINUTES, "wait_timeout": 300}, ends=TIMED_OUT),
    "expect satisfied": case(RUN, {"expect": ["output_count >= 9"]}, ENDED),
    "expect violated": case(RUN, {"expect": ["output_count >= 10"]}, ENDED, ends=UNEXPECTED),
    "expect unavailable": case(RUN, {"expect": ["output_count >= 9"]}, (0, has_no_counts), ENDED, ends=UNAVAILABLE),
    "stop_on_violation": case(
        RUN, {"expect": ["output_count < 100"], "stop_on_violation": True}, (300, counts(100)), ENDED, ends=UNEXPECTED
    ),
    "fail_fast of a run that keeps to it": case(
        RUN, {"expect": ["output_count < 100"], "stop_on_violation": True}, (300, counts(99)), ENDED
    ),
    "metrics missing": case(RUN, {}, (0, has_no_counts), ENDED),
    "metrics_wait of 0": case(RUN, {"metrics_timeout": 0}, ENDED),
    "metrics late": case(RUN, {"metrics_timeout": 60}, (0, has_no_counts), ENDED, (530, has_counts(9))),
    "metrics too late": case(RUN, {"metrics_timeout": 20}, (0, has_no_counts), ENDED, (600, has_counts(9))),
    "wait for active": case(RUN, {"wait_for": "active"}, (0, becomes_active(100))),
    "wait for active, fails": case(
        RUN, {"wait_for": "active"}, (0, becomes_active(100)), (60, cannot_start), ends=FAILED
    ),
    "wait for active, succeeds before": case(RUN, {"wait_for": "active"}, (0, becomes_active(100)), (60, ends)),
    "wait for active, timeout": case(
        RUN, {"wait_for": "active", "wait_timeout": 200}, (0, becomes_active(1000)), ends=TIMED_OUT
    ),
    "no wait": case(RUN, {"wait_for_completion": False}),
    "short polls": case(RUN, {"poll_interval": 5}, ENDED),
    "parameters and offsets": case(RUN, {"runtime_parameters": {"DAY": "1"}, "reset_offsets": True}, ENDED),
    "job runs": case(RUN, {}, OTHER_RUNS, ends=BLOCKED),
    "join": case(RUN, {"if_running": "join"}, OTHER_RUNS, ENDED),
    "join, fails": case(RUN, {"if_running": "join"}, OTHER_RUNS, (500, fails), ends=FAILED),
    "join, timeout": case(RUN, {"if_running": "join", "wait_timeout": 300}, OTHER_RUNS, ends=TIMED_OUT),
    "restart": case(RUN, {"if_running": "restart"}, OTHER_RUNS, ENDED),
    "wait then start": case(RUN, {"if_running": "wait_then_start"}, OTHER_RUNS, (200, ends), ENDED),
    "wait then start, other fails": case(RUN, {"if_running": "wait_then_start"}, OTHER_RUNS, (200, fails), ENDED),
    "wait then start, timeout": case(
        RUN, {"if_running": "wait_then_start", "wait_timeout": 300}, OTHER_RUNS, ends=TIMED_OUT
    ),
    "wait then start, timeout of the own run": case(
        RUN, {"if_running": "wait_then_start", "wait_timeout": 300}, OTHER_RUNS, (200, ends), ends=TIMED_OUT
    ),
    "wait then start, execution_timeout": case(
        RUN, {"if_running": "wait_then_start", **TEN_MINUTES}, OTHER_RUNS, ends=TASK_TIMEOUT
    ),
    "error not acknowledged": case(RUN, {}, OTHER_RUNS, (0, ends_in_error), ends=BLOCKED),
    "error acknowledged": case(RUN, {"acknowledge_errors": True}, OTHER_RUNS, (0, ends_in_error), ENDED),
    "second try": case(RUN, {"retries": 1}, (500, fails), (1500, ends)),
    "second try after the timeout": case(RUN, {"retries": 1, "wait_timeout": 300}, (1200, ends)),
    "second try joins": case(RUN, {"retries": 1, "wait_timeout": 300, "on_timeout": "leave"}, (1200, ends)),
    "second try finds the run ended": case(
        RUN, {"retries": 1, "wait_timeout": 300, "on_timeout": "leave"}, (800, ends)
    ),
    "second try finds the run failed": case(
        RUN, {"retries": 1, "wait_timeout": 300, "on_timeout": "leave"}, (800, fails), (1200, ends)
    ),
    "killed": case(RUN, {}, killed_at=300, ends="killed"),
    "killed, forced": case(RUN, {"force_stop_after": 0}, killed_at=300, ends="killed"),
    "killed, not stopped": case(RUN, {"stop_on_kill": False}, killed_at=300, ends="killed"),
    "cleared": case(RUN, {}, (1500, ends), killed_at=300, is_cleared=True),
    "cleared, not stopped": case(RUN, {"stop_on_kill": False}, (1500, ends), killed_at=300, is_cleared=True),
    "no XCom": case(RUN, {"do_xcom_push": False}, ENDED),
    "multiple outputs": case(RUN, {"multiple_outputs": True}, ENDED),
}

STOP_CASES = {
    "stops": case(STOP, {}, OTHER_RUNS),
    "forces": case(STOP, {"force": True}, OTHER_RUNS),
    "forces later": case(STOP, {"force_stop_after": 60}, OTHER_RUNS, (0, hangs)),
    "hangs": case(STOP, {"wait_timeout": 300}, OTHER_RUNS, (0, hangs), ends=TIMED_OUT),
    "hangs until execution_timeout": case(STOP, TEN_MINUTES, OTHER_RUNS, (0, hangs), ends=TASK_TIMEOUT),
    "fails meanwhile": case(STOP, {}, OTHER_RUNS, (0, hangs), (100, fails), ends=FAILED),
    "ends meanwhile": case(STOP, {}, OTHER_RUNS, (0, hangs), (100, ends)),
    "has ended": case(STOP, {}, OTHER_RUNS, (0, ends)),
    "has never run": case(STOP),
    "no wait": case(STOP, {"wait_for_completion": False}, OTHER_RUNS),
    "metrics missing": case(STOP, {"metrics_timeout": 60}, OTHER_RUNS, (0, has_no_counts)),
    "unreachable for a while": case(STOP, {}, OTHER_RUNS, (0, hangs), (50, is_unreachable(100)), (200, ends)),
    "short polls": case(STOP, {"poll_interval": 5}, OTHER_RUNS, (0, hangs), (100, ends)),
    "second try": case(STOP, {"retries": 1, "wait_timeout": 300}, OTHER_RUNS, (0, hangs), (1100, ends)),
    "no XCom": case(STOP, {"do_xcom_push": False}, OTHER_RUNS),
    "multiple outputs": case(STOP, {"multiple_outputs": True}, OTHER_RUNS),
}

START_MANY_CASES = {
    "succeed": case(START_MANY, {}, A_AND_B_ACTIVE, A_AND_B_END),
    "one fails": case(
        START_MANY, {}, A_AND_B_ACTIVE, (300, show(a=failed_run)), (500, show(b=succeeded_run)), ends=FAILED
    ),
    "one fails at its start": case(
        START_MANY, {}, (10, show("a", b=cannot_activate)), (500, show(a=succeeded_run)), ends=FAILED
    ),
    "stopped": case(START_MANY, {}, A_AND_B_ACTIVE, (0, stopped_by_other_user("a")), A_AND_B_END, ends=FAILED),
    "stop accepted": case(
        START_MANY, {"accept_stopped": True}, A_AND_B_ACTIVE, (0, stopped_by_other_user("a")), A_AND_B_END
    ),
    "one stays RED": case(
        START_MANY,
        {"fail_on_red_after": 120},
        A_AND_B_ACTIVE,
        (100, show(a=red)),
        (500, show(b=succeeded_run)),
        ends=FAILED,
    ),
    "one stays RED, left": case(
        START_MANY,
        {"fail_on_red_after": 120, "on_error": "leave"},
        A_AND_B_ACTIVE,
        (100, show(a=red)),
        (500, show(b=succeeded_run)),
        ends=FAILED,
    ),
    "unreachable for a while": case(START_MANY, {}, A_AND_B_ACTIVE, (200, is_unreachable(200)), A_AND_B_END),
    "credential refused": case(START_MANY, {}, A_AND_B_ACTIVE, (200, refuses_credential), ends=REFUSED),
    "credential refused, left": case(
        START_MANY, {"on_error": "leave"}, A_AND_B_ACTIVE, (200, refuses_credential), ends=REFUSED
    ),
    "timeout": case(START_MANY, {"wait_timeout": 300}, A_AND_B_ACTIVE, ends=TIMED_OUT),
    "timeout of one": case(
        START_MANY, {"wait_timeout": 300}, A_AND_B_ACTIVE, (200, show(a=succeeded_run)), ends=TIMED_OUT
    ),
    "timeout, left": case(START_MANY, {"wait_timeout": 300, "on_timeout": "leave"}, A_AND_B_ACTIVE, ends=TIMED_OUT),
    "timeout, forced": case(
        START_MANY, {"wait_timeout": 300, "force_stop_after": 30}, A_AND_B_ACTIVE, (0, many_hang), ends=TIMED_OUT
    ),
    "execution_timeout": case(START_MANY, TEN_MINUTES, A_AND_B_ACTIVE, ends=TASK_TIMEOUT),
    "wait for active": case(START_MANY, {"wait_for": "active"}, (10, show("a")), (100, show("b"))),
    "wait for active, one fails": case(
        START_MANY, {"wait_for": "active"}, (10, show("a")), (100, show(b=cannot_activate)), ends=FAILED
    ),
    "wait for active, timeout": case(
        START_MANY, {"wait_for": "active", "wait_timeout": 200}, (10, show("a")), ends=TIMED_OUT
    ),
    "wait for completion": case(START_MANY, {"wait_for": "completion"}, A_AND_B_ACTIVE, A_AND_B_END),
    "no wait": case(START_MANY, {"wait_for_completion": False}),
    "metrics_timeout": case(START_MANY, {"metrics_timeout": 60}, A_AND_B_ACTIVE, A_AND_B_END),
    "short polls": case(START_MANY, {"poll_interval": 5}, A_AND_B_ACTIVE, A_AND_B_END),
    "one runs": case(START_MANY, {}, (0, show("a")), ends=BLOCKED),
    "join": case(START_MANY, {"if_running": "join"}, (0, show("a")), (10, show("b")), A_AND_B_END),
    "join, timeout": case(
        START_MANY, {"if_running": "join", "wait_timeout": 300}, (0, show("a")), (10, show("b")), ends=TIMED_OUT
    ),
    "restart": case(START_MANY, {"if_running": "restart"}, (0, show("a")), (100, show("a", "b")), A_AND_B_END),
    "wait then start": case(
        START_MANY,
        {"if_running": "wait_then_start"},
        (0, show("a")),
        (200, show(a=succeeded_run)),
        (300, show("a", "b")),
        A_AND_B_END,
    ),
    "wait then start, timeout": case(
        START_MANY, {"if_running": "wait_then_start", "wait_timeout": 300}, (0, show("a")), ends=TIMED_OUT
    ),
    "error not acknowledged": case(START_MANY, {}, (0, show(a=errored)), ends=BLOCKED),
    "error acknowledged": case(
        START_MANY,
        {"acknowledge_errors": True},
        (0, show(a=errored)),
        (0, a_is_acknowledged),
        A_AND_B_ACTIVE,
        A_AND_B_END,
    ),
    "second try": case(
        START_MANY,
        {"retries": 1},
        A_AND_B_ACTIVE,
        (300, show(a=failed_run, b=succeeded_run)),
        (1100, show("a")),
        (1500, show(a=succeeded_run)),
    ),
    "killed": case(START_MANY, {}, A_AND_B_ACTIVE, killed_at=300, ends="killed"),
    "killed, not stopped": case(START_MANY, {"stop_on_kill": False}, A_AND_B_ACTIVE, killed_at=300, ends="killed"),
    "cleared, not stopped": case(
        START_MANY,
        {"stop_on_kill": False},
        A_AND_B_ACTIVE,
        (1100, show("a", "b")),
        (1500, show(a=succeeded_run, b=succeeded_run)),
        killed_at=300,
        is_cleared=True,
    ),
    "partly started": case(START_MANY, {}, (0, b_cannot_be_started), ends="failed ControlHubBulkError"),
    "partly started, left": case(
        START_MANY, {"on_error": "leave"}, (0, b_cannot_be_started), ends="failed ControlHubBulkError"
    ),
    "multiple outputs": case(
        START_MANY, {"multiple_outputs": True}, A_AND_B_ACTIVE, A_AND_B_END, ends="failed ValueError"
    ),
    "no XCom": case(START_MANY, {"do_xcom_push": False}, A_AND_B_ACTIVE, A_AND_B_END),
}

STOP_MANY_CASES = {
    "stop": case(STOP_MANY, {}, (0, show("a", "b"))),
    "one runs": case(STOP_MANY, {}, (0, show("a", b=succeeded_run))),
    "none runs": case(STOP_MANY),
    "force": case(STOP_MANY, {"force": True}, (0, show("a", "b"))),
    "force later": case(STOP_MANY, {"force_stop_after": 60}, (0, show("a", "b")), (0, many_hang)),
    "hang": case(STOP_MANY, {"wait_timeout": 300}, (0, show("a", "b")), (0, many_hang), ends=TIMED_OUT),
    "hang until execution_timeout": case(
        STOP_MANY, TEN_MINUTES, (0, show("a", "b")), (0, many_hang), ends=TASK_TIMEOUT
    ),
    "one fails meanwhile": case(
        STOP_MANY, {}, (0, show("a", "b")), (0, many_hang), (100, show(a=failed_run, b=succeeded_run)), ends=FAILED
    ),
    "no wait": case(STOP_MANY, {"wait_for_completion": False}, (0, show("a", "b"))),
    "metrics_timeout": case(STOP_MANY, {"metrics_timeout": 60}, (0, show("a", "b"))),
    "short polls": case(
        STOP_MANY,
        {"poll_interval": 5},
        (0, show("a", "b")),
        (0, many_hang),
        (100, show(a=succeeded_run, b=succeeded_run)),
    ),
    "second try": case(
        STOP_MANY,
        {"retries": 1, "wait_timeout": 300},
        (0, show("a", "b")),
        (0, many_hang),
        (1100, show(a=succeeded_run, b=succeeded_run)),
    ),
    "multiple outputs": case(STOP_MANY, {"multiple_outputs": True}, (0, show("a", "b")), ends="failed ValueError"),
    "no XCom": case(STOP_MANY, {"do_xcom_push": False}, (0, show("a", "b"))),
}

TEMPLATE_CASES = {
    "strict parameters": case(TEMPLATE, {**TWO, "strict_parameters": True}, INSTANCES_ACTIVE, INSTANCES_END),
    "succeed": case(TEMPLATE, TWO, INSTANCES_ACTIVE, INSTANCES_END),
    "one fails": case(
        TEMPLATE,
        TWO,
        INSTANCES_ACTIVE,
        (300, show(instance_1=failed_run)),
        (500, show(instance_2=succeeded_run)),
        ends=FAILED,
    ),
    "one fails, others stopped": case(
        TEMPLATE,
        {**TWO, "if_instance_fails": "stop_others"},
        INSTANCES_ACTIVE,
        (300, show(instance_1=failed_run)),
        ends=FAILED,
    ),
    "stopped": case(
        TEMPLATE, TWO, INSTANCES_ACTIVE, (20, stopped_by_other_user("instance-1")), INSTANCES_END, ends=FAILED
    ),
    "stop accepted": case(
        TEMPLATE,
        {**TWO, "accept_stopped": True},
        INSTANCES_ACTIVE,
        (20, stopped_by_other_user("instance-1")),
        INSTANCES_END,
    ),
    "one stays RED": case(
        TEMPLATE,
        {**TWO, "fail_on_red_after": 120},
        INSTANCES_ACTIVE,
        (100, show(instance_1=red)),
        (500, show(instance_2=succeeded_run)),
        ends=FAILED,
    ),
    "unreachable for a while": case(TEMPLATE, TWO, INSTANCES_ACTIVE, (200, is_unreachable(200)), INSTANCES_END),
    "credential refused, left": case(
        TEMPLATE, {**TWO, "on_error": "leave"}, INSTANCES_ACTIVE, (200, refuses_credential), ends=REFUSED
    ),
    "timeout": case(TEMPLATE, {**TWO, "wait_timeout": 300}, INSTANCES_ACTIVE, ends=TIMED_OUT),
    "timeout, left": case(
        TEMPLATE, {**TWO, "wait_timeout": 300, "on_timeout": "leave"}, INSTANCES_ACTIVE, ends=TIMED_OUT
    ),
    "timeout, forced": case(
        TEMPLATE, {**TWO, "wait_timeout": 300, "force_stop_after": 30}, INSTANCES_ACTIVE, (0, many_hang), ends=TIMED_OUT
    ),
    "execution_timeout": case(TEMPLATE, {**TWO, **TEN_MINUTES}, INSTANCES_ACTIVE, ends=TASK_TIMEOUT),
    "wait for active": case(TEMPLATE, {**TWO, "wait_for": "active"}, INSTANCES_ACTIVE),
    "no wait": case(TEMPLATE, {**TWO, "wait_for_completion": False}),
    "deleted": case(TEMPLATE, {**TWO, "delete_after_completion": True}, INSTANCES_ACTIVE, INSTANCES_END),
    "succeeded one deleted": case(
        TEMPLATE,
        {**TWO, "delete_after_completion": True},
        INSTANCES_ACTIVE,
        (500, show(instance_1=failed_run, instance_2=succeeded_run)),
        ends=FAILED,
    ),
    "metrics_timeout": case(TEMPLATE, {**TWO, "metrics_timeout": 60}, INSTANCES_ACTIVE, INSTANCES_END),
    "short polls": case(TEMPLATE, {**TWO, "poll_interval": 5}, INSTANCES_ACTIVE, INSTANCES_END),
    "second try": case(
        TEMPLATE,
        {**TWO, "retries": 1},
        INSTANCES_ACTIVE,
        (300, show(instance_1=failed_run, instance_2=succeeded_run)),
        (1500, show(instance_3=succeeded_run)),
    ),
    "second try of all": case(
        TEMPLATE,
        {**TWO, "retries": 1, "retry": "all"},
        INSTANCES_ACTIVE,
        (300, show(instance_1=failed_run, instance_2=succeeded_run)),
        (1500, show(instance_3=succeeded_run, instance_4=succeeded_run)),
    ),
    "killed": case(TEMPLATE, TWO, INSTANCES_ACTIVE, killed_at=300, ends="killed"),
    "killed, not stopped": case(
        TEMPLATE, {**TWO, "stop_on_kill": False}, INSTANCES_ACTIVE, killed_at=300, ends="killed"
    ),
    "cleared, not stopped": case(
        TEMPLATE,
        {**TWO, "stop_on_kill": False},
        INSTANCES_ACTIVE,
        (1500, all_succeed),
        killed_at=300,
        is_cleared=True,
    ),
    "no XCom": case(TEMPLATE, {**TWO, "do_xcom_push": False}, INSTANCES_ACTIVE, INSTANCES_END),
    "multiple outputs": case(TEMPLATE, {**TWO, "multiple_outputs": True}, INSTANCES_ACTIVE, INSTANCES_END),
}

RUN_SENSOR_CASES = {
    "succeeds": case(RUN_SENSOR, {}, OTHER_RUNS, ENDED),
    "has succeeded": case(RUN_SENSOR, {}, OTHER_RUNS, (0, ends)),
    "has failed": case(RUN_SENSOR, {}, OTHER_RUNS, (0, fails), ends=FAILED),
    "fails": case(RUN_SENSOR, {}, OTHER_RUNS, (500, fails), ends=FAILED),
    "fails softly": case(RUN_SENSOR, {"soft_fail": True}, OTHER_RUNS, (500, fails), ends="skipped"),
    "never fails": case(RUN_SENSOR, {"never_fail": True}, OTHER_RUNS, (500, fails), ends="skipped"),
    "fails at its start": case(RUN_SENSOR, {}, OTHER_RUNS, (100, cannot_start), ends=FAILED),
    "ends in error": case(RUN_SENSOR, {}, OTHER_RUNS, (500, ends_in_error), ends=FAILED),
    "is stopped": case(RUN_SENSOR, {}, OTHER_RUNS, (500, is_stopped), ends=FAILED),
    "stop accepted": case(RUN_SENSOR, {"accept_stopped": True}, OTHER_RUNS, (500, is_stopped)),
    "is upgraded": case(RUN_SENSOR, {}, OTHER_RUNS, (300, is_upgraded), ENDED),
    "imported again": case(RUN_SENSOR, {}, OTHER_RUNS, (300, is_reimported), ends=LOST),
    "imported again, soft": case(RUN_SENSOR, {"soft_fail": True}, OTHER_RUNS, (300, is_reimported), ends=LOST),
    "imported again, never fails": case(
        RUN_SENSOR, {"never_fail": True}, OTHER_RUNS, (300, is_reimported), ends="skipped"
    ),
    "RED for a while": case(RUN_SENSOR, {"fail_on_red_after": 120}, OTHER_RUNS, (0, is_red(100, 180)), ENDED),
    "stays RED": case(RUN_SENSOR, {"fail_on_red_after": 120}, OTHER_RUNS, (0, is_red(100)), ends=FAILED),
    "wait for active": case(RUN_SENSOR, {"wait_for": "active"}, OTHER_RUNS, (0, becomes_active(100))),
    "wait for active, fails": case(
        RUN_SENSOR, {"wait_for": "active"}, OTHER_RUNS, (0, becomes_active(100)), (60, cannot_start), ends=FAILED
    ),
    "run_count": case(RUN_SENSOR, {"run_count": 2}, OTHER_RUNS, (100, ends), (200, begins), ENDED),
    "started after": case(RUN_SENSOR, AFTER_100, OTHER_RUNS, (100, ends), (200, begins), ENDED),
    "started after, first too early": case(
        RUN_SENSOR, AFTER_100, OTHER_RUNS, (50, ends), (70, begins), (150, ends), (200, begins), ENDED
    ),
    "started after, restarted": case(
        RUN_SENSOR, AFTER_100, OTHER_RUNS, (100, ends), (202, begins), (203, fails), (204, begins), ends=FAILED
    ),
    "started after, never": case(
        RUN_SENSOR, {**AFTER_100, "timeout": 300}, OTHER_RUNS, (50, ends), ends=SENSOR_TIMEOUT
    ),
    "next run": case(RUN_SENSOR, {"next_run": True}, OTHER_RUNS, (100, ends), (200, begins), ENDED),
    "next run, never": case(RUN_SENSOR, {"next_run": True, "timeout": 300}, OTHER_RUNS, ends=SENSOR_TIMEOUT),
    "run_count of an earlier run": case(RUN_SENSOR, {"run_count": 1}, OTHER_RUNS, (0, ends), (0, begins)),
    "never runs": case(RUN_SENSOR, {"timeout": 300}, ends=SENSOR_TIMEOUT),
    "first run": case(RUN_SENSOR, {}, (100, begins), ENDED),
    "unreachable for a while": case(RUN_SENSOR, {}, OTHER_RUNS, (200, is_unreachable(200)), ENDED),
    "credential refused": case(RUN_SENSOR, {}, OTHER_RUNS, (200, refuses_credential), ends=REFUSED),
    "credential refused, soft": case(
        RUN_SENSOR, {"soft_fail": True}, OTHER_RUNS, (200, refuses_credential), ends=REFUSED
    ),
    "credential refused, never fails": case(
        RUN_SENSOR, {"never_fail": True}, OTHER_RUNS, (200, refuses_credential), ends="skipped"
    ),
    "timeout": case(RUN_SENSOR, {"timeout": 300}, OTHER_RUNS, ends=SENSOR_TIMEOUT),
    "timeout, soft": case(RUN_SENSOR, {"timeout": 300, "soft_fail": True}, OTHER_RUNS, ends="skipped"),
    "timeout, never fails": case(RUN_SENSOR, {"timeout": 300, "never_fail": True}, OTHER_RUNS, ends="skipped"),
    "timeout is not retried": case(RUN_SENSOR, {"timeout": 300, "retries": 1}, OTHER_RUNS, ends=SENSOR_TIMEOUT),
    "second try": case(RUN_SENSOR, {"retries": 1}, OTHER_RUNS, (500, fails), (700, begins), (1500, ends)),
    "execution_timeout": case(RUN_SENSOR, TEN_MINUTES, OTHER_RUNS, ends=TASK_TIMEOUT),
    "execution_timeout, soft": case(RUN_SENSOR, {**TEN_MINUTES, "soft_fail": True}, OTHER_RUNS, ends=TASK_TIMEOUT),
    "execution_timeout, never fails": case(
        RUN_SENSOR, {**TEN_MINUTES, "never_fail": True}, OTHER_RUNS, ends=TASK_TIMEOUT
    ),
    "timeout before execution_timeout": case(
        RUN_SENSOR, {**TEN_MINUTES, "timeout": 500}, OTHER_RUNS, ends=SENSOR_TIMEOUT
    ),
    "short polls": case(RUN_SENSOR, {"poke_interval": 10}, OTHER_RUNS, ENDED),
    "short polls, by the operators' name": case(RUN_SENSOR, {"poll_interval": 10}, OTHER_RUNS, ENDED),
    "exponential": case(RUN_SENSOR, {"exponential_backoff": True, "max_wait": 40}, OTHER_RUNS, ENDED),
    "no XCom": case(RUN_SENSOR, {"do_xcom_push": False}, OTHER_RUNS, ENDED),
    "no XCom, fails": case(RUN_SENSOR, {"do_xcom_push": False}, OTHER_RUNS, (500, fails), ends=FAILED),
    "multiple outputs": case(RUN_SENSOR, {"multiple_outputs": True}, OTHER_RUNS, ENDED),
}

ENOUGH = {"metric": "output_count", "threshold": 1000}
MANY_ERRORS = {"expect": ["output_count >= 1000", "error_count >= 5"]}
METRIC_SENSOR_CASES = {
    "satisfied": case(METRIC_SENSOR, ENOUGH, OTHER_RUNS, (100, counts(999)), (300, counts(1000)), (900, ends)),
    "comparison": case(
        METRIC_SENSOR, {**ENOUGH, "comparison": "<"}, OTHER_RUNS, (0, counts(1000)), (300, counts(999)), (900, ends)
    ),
    "expect": case(METRIC_SENSOR, MANY_ERRORS, OTHER_RUNS, (100, counts(1000, 4)), (300, counts(1000, 5))),
    "any condition": case(METRIC_SENSOR, {**MANY_ERRORS, "join": "any"}, OTHER_RUNS, (100, counts(1, 5))),
    "counter": case(
        METRIC_SENSOR, {"metric": "stage.Trash.inputRecords.counter", "threshold": 5}, OTHER_RUNS, (100, has_counter(5))
    ),
    "ended before": case(METRIC_SENSOR, ENOUGH, OTHER_RUNS, (0, has_counts(999)), ENDED, ends=UNEXPECTED),
    "ended satisfied": case(METRIC_SENSOR, ENOUGH, OTHER_RUNS, (0, has_counts(1000)), ENDED),
    "evaluated": case(
        METRIC_SENSOR,
        {**ENOUGH, "comparison": "<", "on_run_end": "evaluate"},
        OTHER_RUNS,
        (0, counts(1000)),
        (0, has_counts(999)),
        ENDED,
    ),
    "skipped": case(
        METRIC_SENSOR, {**ENOUGH, "on_run_end": "skip"}, OTHER_RUNS, (0, has_counts(999)), ENDED, ends="skipped"
    ),
    "soft": case(METRIC_SENSOR, {**ENOUGH, "soft_fail": True}, OTHER_RUNS, (0, has_counts(999)), ENDED, ends="skipped"),
    "never fails": case(
        METRIC_SENSOR, {**ENOUGH, "never_fail": True}, OTHER_RUNS, (0, has_counts(999)), ENDED, ends="skipped"
    ),
    "metrics missing": case(METRIC_SENSOR, ENOUGH, OTHER_RUNS, (0, has_no_counts), ENDED, ends=UNAVAILABLE),
    "metrics missing, soft": case(
        METRIC_SENSOR, {**ENOUGH, "soft_fail": True}, OTHER_RUNS, (0, has_no_counts), ENDED, ends=UNAVAILABLE
    ),
    "metrics late": case(
        METRIC_SENSOR, {**ENOUGH, "metrics_timeout": 60}, OTHER_RUNS, (0, has_no_counts), ENDED, (530, has_counts(1000))
    ),
    "run fails": case(METRIC_SENSOR, ENOUGH, OTHER_RUNS, (0, has_counts(999)), (500, fails), ends=UNEXPECTED),
    "has ended": case(METRIC_SENSOR, ENOUGH, OTHER_RUNS, (0, has_counts(1000)), (0, ends)),
    "run_count": case(
        METRIC_SENSOR, {**ENOUGH, "run_count": 2}, OTHER_RUNS, (100, ends), (200, begins), (300, counts(1000))
    ),
    "started after": case(
        METRIC_SENSOR, {**ENOUGH, **AFTER_100}, OTHER_RUNS, (100, ends), (200, begins), (300, counts(1000))
    ),
    "next run": case(
        METRIC_SENSOR, {**ENOUGH, "next_run": True}, OTHER_RUNS, (100, ends), (200, begins), (300, counts(1000))
    ),
    "is upgraded": case(METRIC_SENSOR, ENOUGH, OTHER_RUNS, (300, is_upgraded), (400, counts(1000)), (900, ends)),
    "imported again": case(METRIC_SENSOR, ENOUGH, OTHER_RUNS, (300, is_reimported), ends=LOST),
    "unreachable for a while": case(
        METRIC_SENSOR, ENOUGH, OTHER_RUNS, (200, is_unreachable(200)), (300, counts(1000)), (900, ends)
    ),
    "credential refused": case(METRIC_SENSOR, ENOUGH, OTHER_RUNS, (200, refuses_credential), ends=REFUSED),
    "timeout": case(METRIC_SENSOR, {**ENOUGH, "timeout": 300}, OTHER_RUNS, (100, counts(9)), ends=SENSOR_TIMEOUT),
    "timeout, soft": case(METRIC_SENSOR, {**ENOUGH, "timeout": 300, "soft_fail": True}, OTHER_RUNS, ends="skipped"),
    "execution_timeout": case(METRIC_SENSOR, {**ENOUGH, **TEN_MINUTES}, OTHER_RUNS, ends=TASK_TIMEOUT),
    "short polls": case(METRIC_SENSOR, {**ENOUGH, "poke_interval": 10}, OTHER_RUNS, (300, counts(1000))),
    "short polls, by the operators' name": case(
        METRIC_SENSOR, {**ENOUGH, "poll_interval": 10}, OTHER_RUNS, (300, counts(1000))
    ),
    "exponential": case(
        METRIC_SENSOR, {**ENOUGH, "exponential_backoff": True, "max_wait": 40}, OTHER_RUNS, (300, counts(1000))
    ),
    "second try": case(
        METRIC_SENSOR,
        {**ENOUGH, "retries": 1},
        OTHER_RUNS,
        (0, has_counts(9)),
        ENDED,
        (700, begins),
        (1500, counts(1000)),
    ),
    "no XCom": case(METRIC_SENSOR, {**ENOUGH, "do_xcom_push": False}, OTHER_RUNS, (300, counts(1000))),
    "multiple outputs": case(METRIC_SENSOR, {**ENOUGH, "multiple_outputs": True}, OTHER_RUNS, (300, counts(1000))),
}

CASES = {
    f"{task.__name__.removeprefix('ControlHub')}: {name}": one
    for task, cases in {
        RUN: RUN_CASES,
        STOP: STOP_CASES,
        START_MANY: START_MANY_CASES,
        STOP_MANY: STOP_MANY_CASES,
        TEMPLATE: TEMPLATE_CASES,
        RUN_SENSOR: RUN_SENSOR_CASES,
        METRIC_SENSOR: METRIC_SENSOR_CASES,
    }.items()
    for name, one in cases.items()
}


@pytest.mark.parametrize("name", CASES)
def test_modes_agree(name, monkeypatch, make_context):
    # The contexts have a task state store, also before Airflow 3.3.
    monkeypatch.setattr(sensors.base, "HAS_TASK_STATE_STORE", True)
    accounts = results_by_mode(CASES[name], monkeypatch, make_context)
    first, *others = accounts.items()
    assert {mode: account.ends for mode, account in accounts.items()} == {
        mode: CASES[name].ends if " " in account.ends else CASES[name].ends.split()[0]
        for mode, account in accounts.items()
    }
    found = {f"{first[0]} / {mode}": differences(first[1], account) for mode, account in others}
    text = "\n".join(
        "\n    ".join([f"{modes}: {what}", *map(str, values)])
        for modes, one in found.items()
        for what, values in one.items()
    )
    assert not text, text


def options_of(task: type) -> dict[str, inspect.Parameter]:
    """Return the options of a task, without those of Airflow that have nothing to do with modes."""
    found: dict[str, inspect.Parameter] = {}
    for base in task.__mro__:
        if base.__module__.startswith("airflow_provider_streamsets") or base is BaseSensorOperator:
            parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
            found = {**{one.name: one for one in parameters if one.kind is one.KEYWORD_ONLY}, **found}
    return found


def waiting_tasks() -> set[type]:
    """Return the classes of tasks that can wait in several modes."""
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for package in (operators, sensors)
        for module in pkgutil.iter_modules(package.__path__)
    ]
    classes = {
        one
        for module in modules
        for one in vars(module).values()
        if inspect.isclass(one) and one.__module__ == module.__name__ and one.__name__.startswith("ControlHub")
    }
    return {
        one
        for one in classes
        if "deferrable" in options_of(one) and not any(issubclass(other, one) for other in classes - {one})
    }


def choices_of(option: inspect.Parameter) -> set[str]:
    """Return the values between which an option chooses, without its default."""
    literal = re.search(r"Literal\[(.*?)\]", str(option.annotation))
    return set(re.findall(r"[\"'](\w+)[\"']", literal[1])) - {option.default} if literal else set()


def test_every_waiting_task_has_cases():
    assert waiting_tasks() == set(GIVEN), "Add the class to GIVEN, and cases for it."


@pytest.mark.parametrize("task", GIVEN, ids=lambda task: task.__name__)
def test_every_option_has_a_case(task):
    options = options_of(task)
    cases = [case for case in CASES.values() if case.task is task]
    tried = {(name, str(value)) for case in cases for name, value in case.options.items()}
    names = {name for name, _ in tried} | GIVEN[task].keys() | EXCLUDED_OPTIONS.keys()
    missing = sorted((options.keys() | AIRFLOW_OPTIONS) - names)
    assert not missing, f"Add a case of {task.__name__} with {missing} to CASES, or say in EXCLUDED_OPTIONS why not."
    choices = {
        (name, choice)
        for name, option in options.items()
        if name not in EXCLUDED_OPTIONS
        for choice in choices_of(option)
    }
    left = sorted(choices - tried - {(name, str(value)) for name, value in GIVEN[task].items()})
    assert not left, f"Add cases of {task.__name__} with these values to CASES: {left}."


def test_excluded_options_exist():
    options = set().union(*(options_of(task) for task in GIVEN))
    assert EXCLUDED_OPTIONS.keys() <= options, "Remove from EXCLUDED_OPTIONS what is no option."
