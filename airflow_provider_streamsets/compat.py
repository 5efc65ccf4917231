"""Compatibility with the supported Airflow versions; no other module depends on the version."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import logging
from collections.abc import Hashable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import Asset, Variable, XCom, conf
from packaging.version import Version

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection, Context
    from airflow.triggers.base import BaseEventTrigger as BaseEventTrigger

    HAS_SHARED_STREAMS: bool
    """Whether watchers can share a stream that is notified when their events are stored (Airflow 3.3)."""
else:

    def __getattr__(name: str) -> Any:
        """Import lazily what only triggers need, as it takes as long as all operators and sensors together."""
        if name == "BaseEventTrigger":
            base = importlib.import_module("airflow.triggers.base")
            # Airflow 2 has no asset watchers; their triggers can be created, but never run.
            return getattr(base, "BaseEventTrigger", base.BaseTrigger)
        if name == "HAS_SHARED_STREAMS":
            return hasattr(__getattr__("BaseEventTrigger"), "create_shared_stream_producer")
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


log = logging.getLogger(__name__)

_RETENTION = timedelta(days=3650)

# Whether a task can start in the triggerer, which renders its templates.
CAN_START_FROM_TRIGGER = Version(airflow_version) >= Version("3.3.0")

# Whether tasks have a state store that outlives processes and tries.
HAS_TASK_STATE_STORE = Version(airflow_version) >= Version("3.3.0")

# Whether a task can give the events of its outlets a partition key of their own.
HAS_OUTLET_PARTITIONS = Version(airflow_version) >= Version("3.3.0")

# Whether tasks that fail in the triggerer are retried like those that fail on a worker.
RETRIES_FAILED_EVENTS = Version(airflow_version) >= Version("3.3.0")

# Whether tasks can push None to XCom; Airflow 3.0 fails them (apache/airflow#55062).
CAN_PUSH_NONE = not Version("3.0.0") <= Version(airflow_version) < Version("3.1.0")

PAGES_PATH = "/streamsets"
"""Path of the pages of this provider below that of Airflow's web server."""

# Whether plugins can add pages and tabs to the user interface, and read connections in the API server.
HAS_PAGES = Version(airflow_version) >= Version("3.1.1")

# Minimum seconds between the deferral and the resumption of a task. Airflow detects the end of the deferring process up
# to five seconds later ([workers] min_heartbeat_interval); if the task is queued again by then, the scheduler mistakes
# it for the end of the task and fails it (apache/airflow#71580, #72716, open in 3.3).
MIN_DEFERRAL_SECONDS = 7.0


try:
    from airflow.sdk.definitions.asset import AssetRef

    ASSET_TYPES: tuple[type, ...] = (Asset, AssetRef)
    """Types of outlets that represent a single asset."""
except ImportError:
    ASSET_TYPES = (Asset,)


# Maximum size in bytes of the arguments of a trigger: that of MySQL's TEXT; other databases allow more.
MAX_TRIGGER_SIZE = 65_535


def trigger_size(arguments: Mapping[str, Any]) -> int:
    """
    Return the maximum size of a trigger's arguments in the database, in bytes.

    :param arguments: arguments as returned by the trigger's ``serialize``
    """
    size = len(json.dumps(arguments))
    # Airflow 2 encrypts them: base64 of slightly more.
    return size if Version(airflow_version) >= Version("3.0.0") else (size + 256) * 4 // 3


def _base_url() -> str:
    """Return the URL of Airflow's web server, without a trailing slash; empty if it is not configured."""
    return str(conf.get("api", "base_url", fallback="")).rstrip("/")


def base_path() -> str:
    """Return the path of Airflow's web server, without a trailing slash; empty unless it is behind a prefix."""
    return urlsplit(_base_url()).path


def _map_index(task_instance: Any) -> int:
    return task_instance.map_index if task_instance.map_index is not None else -1


def _task_key(task_instance: Any) -> dict[str, Any]:
    """Return the fields that identify a task instance."""
    fields = {name: getattr(task_instance, name) for name in ("dag_id", "run_id", "task_id")}
    return {**fields, "map_index": _map_index(task_instance)}


def task_page_url(task_instance: Any) -> str:
    """Return the URL of the page with the runs of a task instance (Airflow 3.1.1)."""
    return f"{_base_url()}{PAGES_PATH}/run?{urlencode(_task_key(task_instance), quote_via=quote)}"


def dag_details(dag_id: str) -> Any:
    """Return the details of a DAG for an authorization check, with its team (Airflow 3.2)."""
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
    from airflow.models.dag import DagModel

    if not hasattr(DagModel, "get_team_name"):
        return DagDetails(id=dag_id)
    return DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))


def server_stats() -> Any:
    """Return the metrics of Airflow's servers, such as the triggerer; since 3.2, tasks have a client of their own."""
    for module in ("airflow.observability.stats", "airflow.stats"):
        with suppress(ImportError):
            return importlib.import_module(module).Stats
    raise ImportError("Airflow has no module with its metrics.")


def stats_tags(task_instance: Any) -> dict[str, str]:
    """Return the tags that Airflow gives the metrics of a task, with its team (Airflow 3.3)."""
    if hasattr(task_instance, "stats_tags"):
        return dict(task_instance.stats_tags)
    return {"dag_id": task_instance.dag_id, "task_id": task_instance.task_id}


def is_deferral_timeout(error: BaseException) -> bool:
    """Return whether an error means that a deferral timed out."""
    # The first since Airflow 3.2, the second in 3.0 and 3.1. Airflow 2 has no separate class.
    for module in ("airflow.sdk.exceptions", "airflow.exceptions"):
        with suppress(ImportError, AttributeError):
            return isinstance(error, importlib.import_module(module).TaskDeferralTimeout)
    from airflow.exceptions import TaskDeferralError

    return isinstance(error, TaskDeferralError) and "timeout" in str(error).lower()


async def get_connection_and_extra(conn_id: str) -> tuple[Connection, dict[str, Any]]:
    """
    Return a connection and its extra without blocking the event loop of the triggerer.

    Reading the extra calls the supervisor to mask secrets. On the event loop, this requires the asynchronous method
    (Airflow 3.3.2) or a thread.

    :param conn_id: id of the Airflow connection
    """
    from airflow.providers.common.compat.connection import get_async_connection

    connection = await get_async_connection(conn_id)
    if hasattr(connection, "aextra_dejson"):
        return connection, await connection.aextra_dejson()
    return connection, await asyncio.to_thread(lambda: connection.extra_dejson)


def is_from_mapped(task: object) -> bool:
    """Return whether a task is an instance of a mapped task; Airflow has no public API for it."""
    return bool(getattr(task, "_BaseOperator__from_mapped", False))


def task_state_store(context: Context) -> Any | None:
    """Return the task state store (Airflow 3.3), None in older versions."""
    return context.get("task_state_store")


def watched_asset(store: Any | None) -> Hashable | None:
    """
    Return a key of the single asset of a watcher; None if it has several, or they are unknown.

    :param store: asset state store of the watcher (Airflow 3.3)
    """
    try:
        asset: Hashable = store._single_accessor()  # type: ignore[union-attr]
    except (AttributeError, ValueError):
        return None
    return asset


def first_reschedule(context: Context) -> datetime | None:
    """Return the time of the first poke of a sensor in mode ``reschedule``; None if this is the first."""
    ti = context["ti"]
    if hasattr(ti, "get_first_reschedule_date"):
        first: datetime | None = ti.get_first_reschedule_date(context)
        return first
    # Airflow 2: same query as in its sensors.
    base = importlib.import_module("airflow.sensors.base")
    names = ("dag_id", "task_id", "run_id", "map_index", "try_number")
    started: datetime | None = base._orig_start_date(**{name: getattr(ti, name) for name in names})
    return started


class VariableStateStore:
    """
    Substitute for the task state store before Airflow 3.3: Airflow variables of each task instance.

    Variables outlive both the loss of a worker and the start of the next try. The caller must delete the values when
    they are no longer needed.

    :param task_instance: the task instance
    """

    def __init__(self, task_instance: Any) -> None:
        identity = [getattr(task_instance, name) for name in ("dag_id", "run_id", "task_id", "map_index")]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
        self._prefix = f"streamsets_{digest}_"

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or the default."""
        return Variable.get(self._prefix + key, default, deserialize_json=True)

    def set(self, key: str, value: Any) -> None:
        """Store a JSON value."""
        Variable.set(self._prefix + key, value, description="State of a StreamSets task", serialize_json=True)

    def delete(self, key: str) -> None:
        """Delete a key."""
        Variable.delete(self._prefix + key)


def get_task_state_store(context: Context) -> tuple[Any, bool]:
    """
    Return the store for values that outlive a try of a task instance.

    :returns: the store, and whether values can remain in it after the end of the task
    """
    store = task_state_store(context)
    return (_LongRetentionStore(store), True) if store is not None else (VariableStateStore(context["ti"]), False)


class _LongRetentionStore:
    """Task state store with a retention beyond Airflow's default of 30 days, as runs can take longer."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.get = store.get
        self.delete = store.delete

    def set(self, key: str, value: Any) -> None:
        self._store.set(key, value, retention=_RETENTION)


def will_retry(context: Context, error: BaseException) -> bool:
    """Return whether Airflow will retry the task after an error, as far as known."""
    ti = context["ti"]
    if ti.try_number > ti.max_tries:
        return False
    policy = getattr(getattr(ti, "task", None), "retry_policy", None)
    if policy is None:
        return True
    try:
        decision = policy.evaluate(exception=error, try_number=ti.try_number, max_tries=ti.max_tries, context=context)
    except Exception as failure:  # noqa: BLE001 - user code can raise anything; Airflow then retries
        log.warning("Retry policy failed; assuming that the task is retried: %s", failure)
        return True
    return bool(getattr(decision.action, "value", decision.action) != "fail")


async def is_still_deferred(task_instance: Any) -> bool | None:
    """
    Return whether the task of a trigger is still deferred; None if unknown.

    A trigger that moves to another triggerer is cancelled in the same way as one whose task was killed
    (apache/airflow#73454). Only the state of the task distinguishes the two.

    :param task_instance: the trigger's ``task_instance``
    """
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    except ImportError:
        return None
    if task_instance is None:
        return None
    map_index = _map_index(task_instance)
    states = await asyncio.to_thread(
        RuntimeTaskInstance.get_task_states,
        dag_id=task_instance.dag_id,
        map_index=map_index,
        task_ids=[task_instance.task_id],
        run_ids=[task_instance.run_id],
    )
    key = task_instance.task_id if map_index < 0 else f"{task_instance.task_id}_{map_index}"
    states_of_run = states.get(task_instance.run_id, {})
    if key not in states_of_run:
        return None
    # A task that was just cleared has no state yet.
    state = states_of_run[key]
    return str(getattr(state, "value", state)) == "deferred"


def _xcom_key(task_instance: Any) -> dict[str, Any] | None:
    """Return the fields that identify the XComs of a trigger's task; None if the trigger cannot access them."""
    # `task_instance.xcom_push` fails in Airflow 3.3: tasks of the serialised DAG lack an attribute that it needs.
    return None if task_instance is None or not CAN_START_FROM_TRIGGER else _task_key(task_instance)


def skip_none_outputs(task: Any) -> None:
    """
    Keep a task with multiple outputs from pushing None, if Airflow cannot store it. Missing keys are read as None, too.

    :param task: the task, at the end of its constructor
    """
    if CAN_PUSH_NONE or not task.multiple_outputs:
        return
    hook = task._post_execute_hook

    def push(context: Context, result: Any) -> None:
        if hook is not None:
            hook(context, result)
        # A copy of the task in the context.
        task = context["ti"].task
        if task.multiple_outputs and task.do_xcom_push:
            push_outputs(context["ti"], result or {})
        task.multiple_outputs = False

    task._post_execute_hook = push


def push_outputs(task_instance: Any, outputs: Mapping[str, Any]) -> None:
    """Push values to XCom, without None if Airflow cannot store it."""
    for key, value in outputs.items():
        if CAN_PUSH_NONE or value is not None:
            task_instance.xcom_push(key=key, value=value)


def xcom_table() -> Any:
    """Return the table of XComs."""
    from airflow.models import xcom

    return getattr(xcom, "XComModel", None) or xcom.BaseXCom


class _StoredValue:
    def __init__(self, value: Any) -> None:
        self.value = value


def deserialize_xcom(value: Any) -> Any:
    """
    Return the value of an XCom from the value in its row.

    :param value: value of the column of :func:`xcom_table`
    """
    # Airflow 3 stores JSON, which only a custom backend stores in another way.
    if XCom.__module__ == "airflow.sdk.bases.xcom":
        return value
    return XCom.deserialize_value(_StoredValue(value))


async def xcom_of_own_task(task_instance: Any, key: str) -> Any:
    """
    Return an XCom that the trigger of a task pushed earlier, possibly on another triggerer (Airflow 3.3).

    :param task_instance: the trigger's ``task_instance``
    :param key: key of the XCom
    :returns: None if there is none
    """
    xcom_key = _xcom_key(task_instance)
    return None if xcom_key is None else await asyncio.to_thread(XCom.get_one, key=key, **xcom_key)


async def push_xcoms(task_instance: Any, **values: Any) -> bool:
    """
    Push XComs from the trigger of a task (Airflow 3.3).

    :param task_instance: the trigger's ``task_instance``
    :param values: values by key
    :returns: whether the Airflow version supports it
    """
    xcom_key = _xcom_key(task_instance)
    if xcom_key is None:
        return False
    for key, value in values.items():
        await asyncio.to_thread(XCom.set, key=key, value=value, **xcom_key)
    return True
