"""The only place that knows differences between Airflow versions."""

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

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import Asset, Variable, XCom
from packaging.version import Version

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection, Context
    from airflow.triggers.base import BaseEventTrigger as BaseEventTrigger

    HAS_SHARED_STREAMS: bool
    """Whether watchers can share a poll that is notified when their events are stored (Airflow 3.3)."""
else:

    def __getattr__(name: str) -> Any:
        """Import what only triggers need on first use: it takes as long as all operators and sensors together."""
        if name == "BaseEventTrigger":
            base = importlib.import_module("airflow.triggers.base")
            # Airflow 2 has no asset watchers; a trigger for them can be made there, but nothing runs it.
            return getattr(base, "BaseEventTrigger", base.BaseTrigger)
        if name == "HAS_SHARED_STREAMS":
            return hasattr(__getattr__("BaseEventTrigger"), "create_shared_stream_producer")
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


log = logging.getLogger(__name__)

_RETENTION = timedelta(days=3650)

# Whether a task can start in the triggerer with its templates rendered there. Earlier versions do not render them.
CAN_START_FROM_TRIGGER = Version(airflow_version) >= Version("3.3.0")

# Whether tasks have a store that outlives their processes and tries.
HAS_TASK_STATE_STORE = Version(airflow_version) >= Version("3.3.0")

# Whether a task that fails in the triggerer is retried as one that fails on a worker. In Airflow 2.11 it is not.
RETRIES_FAILED_EVENTS = Version(airflow_version) >= Version("3.3.0")

# Seconds for which a task must stay deferred before it may be resumed. Airflow notices up to five seconds later
# ([workers] min_heartbeat_interval) that the process of the deferring leg has ended; if the task is queued again by
# then, the scheduler takes that end for the task's and fails it (apache/airflow#71580, #72716, open in 3.3).
MIN_DEFERRAL_SECONDS = 7.0


try:
    from airflow.sdk.definitions.asset import AssetRef

    ASSET_TYPES: tuple[type, ...] = (Asset, AssetRef)
    """What an outlet is that stands for one asset."""
except ImportError:
    ASSET_TYPES = (Asset,)


# Bytes that MySQL's TEXT holds, in which Airflow stores the arguments of a trigger. Other databases hold more.
MAX_TRIGGER_SIZE = 65_535


def trigger_size(arguments: Mapping[str, Any]) -> int:
    """
    Return the bytes that the database needs for the arguments of a trigger, at the most.

    :param arguments: as the trigger's ``serialize`` returns them
    """
    size = len(json.dumps(arguments))
    # Airflow 2 encrypts them: base64 of a little more.
    return size if Version(airflow_version) >= Version("3.0.0") else (size + 256) * 4 // 3


def is_deferral_timeout(error: BaseException) -> bool:
    """Return whether Airflow has ended a deferral because it took too long."""
    # In the first since Airflow 3.2, in the second in 3.0 and 3.1. Airflow 2 has no class of its own for it.
    for place in ("airflow.sdk.exceptions", "airflow.exceptions"):
        with suppress(ImportError, AttributeError):
            return isinstance(error, importlib.import_module(place).TaskDeferralTimeout)
    from airflow.exceptions import TaskDeferralError

    return isinstance(error, TaskDeferralError) and "timeout" in str(error).lower()


async def get_connection_and_extra(conn_id: str) -> tuple[Connection, dict[str, Any]]:
    """
    Return a connection and its extra from a trigger, without blocking the event loop.

    Reading the extra masks secrets by a call to the supervisor, which from the event loop has to be the asynchronous
    one where there is one (Airflow 3.3.2) and a thread elsewhere.

    :param conn_id: id of the Airflow connection
    """
    from airflow.providers.common.compat.connection import get_async_connection

    connection = await get_async_connection(conn_id)
    if hasattr(connection, "aextra_dejson"):
        return connection, await connection.aextra_dejson()
    return connection, await asyncio.to_thread(lambda: connection.extra_dejson)


def is_from_mapped(task: object) -> bool:
    """Return whether a task is one instance of a mapped task, for which Airflow has no public name."""
    return bool(getattr(task, "_BaseOperator__from_mapped", False))


def task_state_store(context: Context) -> Any | None:
    """Return the task state store of Airflow 3.3 and later, None on older versions."""
    return context.get("task_state_store")


def watched_asset(store: Any | None) -> Hashable | None:
    """
    Return what identifies the one asset that a watcher belongs to; None if there are several, or it cannot be known.

    :param store: the watcher's asset state store, of Airflow 3.3 and later
    """
    try:
        asset: Hashable = store._single_accessor()  # type: ignore[union-attr]
    except (AttributeError, ValueError):
        return None
    return asset


def first_reschedule(context: Context) -> datetime | None:
    """Return since when a sensor in mode ``reschedule`` waits; None if it has not poked before."""
    ti = context["ti"]
    if hasattr(ti, "get_first_reschedule_date"):
        first: datetime | None = ti.get_first_reschedule_date(context)
        return first
    # Airflow 2, whose sensors find out like this since when they wait.
    base = importlib.import_module("airflow.sensors.base")
    names = ("dag_id", "task_id", "run_id", "map_index", "try_number")
    started: datetime | None = base._orig_start_date(**{name: getattr(ti, name) for name in names})
    return started


class VariableStateStore:
    """
    What takes the place of the task state store before Airflow 3.3: an Airflow variable for each task instance.

    Nothing else there survives both the loss of a worker and the beginning of the next try. The values must be deleted
    when they have served, as nobody else does it.

    :param task_instance: whose values they are
    """

    def __init__(self, task_instance: Any) -> None:
        place = [getattr(task_instance, name) for name in ("dag_id", "run_id", "task_id", "map_index")]
        digest = hashlib.sha256(json.dumps(place).encode()).hexdigest()[:32]
        self._prefix = f"streamsets_{digest}_"

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, the default if there is none."""
        return Variable.get(self._prefix + key, default, deserialize_json=True)

    def set(self, key: str, value: Any) -> None:
        """Store a JSON value."""
        Variable.set(self._prefix + key, value, description="Of a StreamSets task", serialize_json=True)

    def delete(self, key: str) -> None:
        """Delete a key."""
        Variable.delete(self._prefix + key)


def get_task_state_store(context: Context) -> tuple[Any, bool]:
    """
    Return where a try can leave values for the next one of the same task instance.

    :returns: the store, and whether what is in it can stay there when the task is done
    """
    store = task_state_store(context)
    return (_LongRetentionStore(store), True) if store is not None else (VariableStateStore(context["ti"]), False)


class _LongRetentionStore:
    """The task state store, but Airflow deletes nothing after 30 days: a run can take longer."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.get = store.get
        self.delete = store.delete

    def set(self, key: str, value: Any) -> None:
        self._store.set(key, value, retention=_RETENTION)


def will_retry(context: Context, error: BaseException) -> bool:
    """Return whether Airflow is going to try the task again after an error, as far as that can be told."""
    ti = context["ti"]
    if ti.try_number > ti.max_tries:
        return False
    policy = getattr(getattr(ti, "task", None), "retry_policy", None)
    if policy is None:
        return True
    try:
        decision = policy.evaluate(exception=error, try_number=ti.try_number, max_tries=ti.max_tries, context=context)
    except Exception as failure:  # noqa: BLE001 - a policy of the user can raise anything; Airflow then retries
        log.warning("The retry policy could not be asked: %s", failure)
        return True
    return bool(getattr(decision.action, "value", decision.action) != "fail")


async def is_still_deferred(task_instance: Any) -> bool | None:
    """
    Return whether the task of a trigger is still deferred; None if it cannot be told.

    A trigger that is merely moved to another triggerer is cancelled in the same way as one whose task was killed
    (apache/airflow#73454). Only the task's state tells the two apart.

    :param task_instance: the trigger's ``task_instance``
    """
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    except ImportError:
        return None
    if task_instance is None:
        return None
    map_index = task_instance.map_index if task_instance.map_index is not None else -1
    states = await asyncio.to_thread(
        RuntimeTaskInstance.get_task_states,
        dag_id=task_instance.dag_id,
        map_index=map_index,
        task_ids=[task_instance.task_id],
        run_ids=[task_instance.run_id],
    )
    key = task_instance.task_id if map_index < 0 else f"{task_instance.task_id}_{map_index}"
    found = states.get(task_instance.run_id, {})
    if key not in found:
        return None
    # A task that was just cleared has no state yet.
    state = found[key]
    return str(getattr(state, "value", state)) == "deferred"


def _xcom_place(task_instance: Any) -> dict[str, Any] | None:
    """Return where the XComs of a trigger's task are; None if they cannot be reached from the trigger."""
    # Not its own `xcom_push`: Airflow 3.3 makes it of the stored DAG, whose tasks lack an attribute that it needs.
    if task_instance is None or not CAN_START_FROM_TRIGGER:
        return None
    map_index = task_instance.map_index if task_instance.map_index is not None else -1
    return {**{name: getattr(task_instance, name) for name in ("dag_id", "task_id", "run_id")}, "map_index": map_index}


async def xcom_of_own_task(task_instance: Any, key: str) -> Any:
    """
    Return what the trigger of a task has pushed to XCom before, on whichever triggerer (Airflow 3.3 and later).

    :param task_instance: the trigger's ``task_instance``
    :param key: key of the XCom
    :returns: None if there is none
    """
    place = _xcom_place(task_instance)
    return None if place is None else await asyncio.to_thread(XCom.get_one, key=key, **place)


async def push_xcoms(task_instance: Any, **values: Any) -> bool:
    """
    Push XComs from the trigger of a task (Airflow 3.3 and later).

    :param task_instance: the trigger's ``task_instance``
    :param values: value by key
    :returns: whether that was possible
    """
    place = _xcom_place(task_instance)
    if place is None:
        return False
    for key, value in values.items():
        await asyncio.to_thread(XCom.set, key=key, value=value, **place)
    return True
