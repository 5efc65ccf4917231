"""A trigger is created from whatever row Airflow has stored, also by another version of the provider."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_streamsets.control_hub import errors
from airflow_provider_streamsets.get_provider_info import get_provider_info
from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.triggers import sensors
from airflow_provider_streamsets.triggers.events import MetricWaitEvent, RunsWaitEvent
from airflow_provider_streamsets.triggers.job_events import ControlHubJobRunEventTrigger
from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger
from airflow_provider_streamsets.triggers.sensors import ControlHubJobMetricSensorTrigger, ControlHubJobRunSensorTrigger
from tests.unit.fakes.single_job_hub import JOB_ID, SingleJobHub, counts_json, succeeded
from tests.unit.fakes.task_runner import read_connection_inline
from tests.unit.fakes.triggerer import StandaloneWatcher
from tests.unit.fakes.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.usefixtures("connection")

TRIGGERS = sorted(
    {
        found
        for entry in get_provider_info()["triggers"]
        for module in entry["python-modules"]
        for _, found in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if found.__module__ == module and issubclass(found, BaseTrigger)
    },
    key=lambda found: found.__name__,
)
ONE_RUN = {"job_id": JOB_ID, "job_name": "Orders", "run_count": 4, "metrics_timeout": 0, "deadline": 9000.0}
# For each trigger that yields one event, a row with which it does so, and the class that parses the event.
ROWS: dict[Any, tuple[dict[str, Any], Any]] = {
    ControlHubRunsTrigger: ({"runs": [[JOB_ID, 4]], "deadline": 9000.0}, RunsWaitEvent),
    ControlHubJobRunSensorTrigger: ({**ONE_RUN, "starts": True, "ends": True}, RunsWaitEvent),
    ControlHubJobMetricSensorTrigger: (
        {**ONE_RUN, "expect": ["output_count > 0"], "starts": True, "ends": True},
        MetricWaitEvent,
    ),
}
WRONG = (None, "wrong", "", -1, 3.5, True, [], ["wrong"], [["wrong", 1]], {}, {"wrong": 1}, {JOB_ID: None})


def arguments_of(kind: Any) -> dict[str, Any]:
    """Defaults of the arguments, by name."""
    return {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}


CASES = [(kind, name) for kind in ROWS for name in arguments_of(kind)]


class TaskInstance:
    dag_id, task_id, run_id, map_index, try_number = "dag", "wait", "run", -1, 1


@pytest.fixture(autouse=True)
def triggerer(monkeypatch):
    """Connections are read at once, and XComs exist on every version of Airflow."""

    async def push(task_instance: Any, **values: Any) -> bool:
        json.dumps(values)
        return True

    async def read(task_instance: Any, key: str) -> None:
        return None

    monkeypatch.setattr(connections, "get_connection_and_extra", read_connection_inline)
    # Virtual time cannot advance by the last bits of a random delay.
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)
    monkeypatch.setattr(sensors, "push_xcoms", push)
    monkeypatch.setattr(sensors, "xcom_of_own_task", read)


def stored(kind: Any, **arguments: Any) -> Any:
    """A trigger created from a row, as the triggerer does."""
    made = kind(**json.loads(json.dumps(arguments)))
    made.trigger_id = 1
    made.timeout_after = None
    return made


def run_to_end(trigger: Any) -> list[Any]:
    # Its setter wants more of a task instance than there is here.
    setattr(trigger, "_task_instance" if hasattr(type(trigger), "task_instance") else "task_instance", TaskInstance())

    async def collect() -> list[Any]:
        return [event async for event in trigger.run()]

    async def scenario() -> list[Any]:
        return await asyncio.wait_for(collect(), 20_000)

    return list(run_in_virtual_time(scenario()))


def check_single_event(trigger: Any, parser: Any) -> None:
    """Run a trigger; it must end the task itself, or pass it one event that the task can read."""
    (event,) = run_to_end(trigger)
    if hasattr(event, "task_instance_state"):
        json.dumps(event.xcoms)
        return
    with contextlib.suppress(errors.ControlHubUnexpectedResponseError):
        parser.from_payload(json.loads(json.dumps(event.payload)))


@pytest.fixture
def hub(http) -> SingleJobHub:
    hub = SingleJobHub(http, latest=succeeded(4), counts=counts_json(4))
    hub.history = [succeeded(4)]
    return hub


def test_rows_cover_all_triggers():
    assert {kind for kind in TRIGGERS if kind.__name__.startswith("ControlHub")} == {
        *ROWS,
        ControlHubJobRunEventTrigger,
    }


@pytest.mark.parametrize("kind", TRIGGERS)
def test_arguments_are_keyword_only_with_attributes_and_defaults(kind):
    parameters = inspect.signature(kind).parameters.values()
    assert {parameter.kind for parameter in parameters} == {inspect.Parameter.KEYWORD_ONLY}
    made = stored(kind)
    assert {name: getattr(made, name) for name in arguments_of(kind)} == arguments_of(kind)
    assert made.serialize()[1] == arguments_of(kind)


@pytest.mark.parametrize("kind", TRIGGERS)
def test_triggers_are_compared_by_identity_and_shown_as_by_airflow(kind):
    first, second = stored(kind), stored(kind)
    assert len({first, second}) == 2
    assert (kind.__eq__, kind.__hash__, kind.__repr__) == (object.__eq__, object.__hash__, BaseTrigger.__repr__)


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("kind", TRIGGERS)
def test_row_with_wrong_values_is_created(kind, value):
    made = stored(kind, **dict.fromkeys(arguments_of(kind), value))
    made.serialize()
    repr(made)


@pytest.mark.parametrize("kind", TRIGGERS)
def test_unknown_argument_is_ignored(kind):
    made = stored(kind, control_hub_conn_id="other", added_later=[1], also_added=None)
    assert made.control_hub_conn_id == "other"
    assert not {"added_later", "also_added"} & {*made.serialize()[1], *vars(made)}


@pytest.mark.parametrize("kind", ROWS)
def test_unknown_argument_is_logged_when_trigger_runs(hub, kind, task_log):
    row, parser = ROWS[kind]
    check_single_event(stored(kind, **row), parser)
    assert "unknown" not in task_log()
    check_single_event(stored(kind, **row, added_later=[1], also_added=None), parser)
    assert "Ignoring the unknown arguments 'added_later', 'also_added'" in task_log()


@pytest.mark.parametrize("kind", ROWS)
def test_row_with_wrong_values_yields_one_event(hub, kind):
    row, parser = ROWS[kind]
    for value in WRONG:
        wrong = dict.fromkeys(arguments_of(kind), value)
        check_single_event(stored(kind, **wrong), parser)
        # With the right connection, later arguments fail.
        others = {name: row[name] for name in ("job_id", "runs", "deadline") if name in row}
        check_single_event(stored(kind, **{**wrong, **others, "control_hub_conn_id": "streamsets_default"}), parser)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_wrong_argument_yields_one_event(hub, kind, name):
    row, parser = ROWS[kind]
    for value in WRONG:
        check_single_event(stored(kind, **{**row, name: value}), parser)


@pytest.mark.parametrize("kind", ROWS)
def test_empty_row_yields_one_event(hub, kind):
    check_single_event(stored(kind, deadline=9000.0), ROWS[kind][1])


@pytest.mark.parametrize("name", arguments_of(ControlHubJobRunEventTrigger))
def test_wrong_argument_does_not_end_watcher(hub, name):
    async def scenario() -> None:
        for value in WRONG:
            made = stored(ControlHubJobRunEventTrigger, **{"job_id": JOB_ID, name: value})
            hash(made.shared_stream_key())
            watcher = StandaloneWatcher(made)
            await asyncio.sleep(100)
            assert watcher.is_alive
            await watcher.stop()

    run_in_virtual_time(scenario())


def test_watcher_logs_unknown_argument(hub, task_log):
    async def scenario() -> None:
        watcher = StandaloneWatcher(stored(ControlHubJobRunEventTrigger, job_id=JOB_ID, added_later=[1]))
        await asyncio.sleep(100)
        assert watcher.is_alive
        await watcher.stop()

    run_in_virtual_time(scenario())
    assert "Ignoring the unknown arguments 'added_later'" in task_log()


def test_unknown_argument_in_dag_file_raises_at_serialization():
    made = ControlHubJobRunEventTrigger(job_name="Orders", outcome=["SUCCEEDED"])  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="'outcome'"):
        made.serialize()
