"""What a try of a task writes down for the next one, before it does what must not be done twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.compat import get_task_state_store

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_KEY = "control_hub"


class TaskState:
    """
    The record of one task instance, in Airflow's task state store (before Airflow 3.3: in an Airflow variable).

    It outlives the process, retries, and a person's clear. A retry goes on with what it tells of; a try that a person
    has ordered by clearing the task begins anew. Airflow tells the two apart by the number of tries that it allows,
    which grows with each clear. Because of that, the record stays when the task has succeeded: were it deleted, a
    worker that is lost before Airflow has noted the success would make the next try start a second run.

    That number comes to the same when somebody lowers the retries of a task by as many as it has used and then clears
    it: that task delivers once more what it had delivered. The number of clears of the DAG run would not tell better,
    as it counts those of all its tasks.

    With `survives_kill`, the clear of a task that has not come to an end of its own is a kill and a retry, whether
    Airflow allows more tries afterwards (a deferred task) or not (one on a worker). It is part of the record, as the
    DAG may have been edited since.

    :param context: context of the task
    :param survives_kill: whether what a killed try has begun goes on
    """

    def __init__(self, context: Context, *, survives_kill: bool = False) -> None:
        self._survives_kill = survives_kill
        self._store, self._is_retained = get_task_state_store(context)
        self._max_tries = getattr(context["ti"], "max_tries", None)
        self._values: dict[str, Any] | None = None

    @property
    def is_retained(self) -> bool:
        """Whether what is written down can stay when no other try is to come: Airflow deletes it some day."""
        return self._is_retained

    @property
    def values(self) -> dict[str, Any]:
        """What is written down; empty if nothing is."""
        if self._values is None:
            stored = self._store.get(_KEY)
            self._values = dict(stored) if isinstance(stored, dict) else {}
        return self._values

    @property
    def abandon_reason(self) -> str | None:
        """Why this try must not go on with what is written down: None if it may."""
        if self.was_cleared:
            return "a person has cleared the task"
        abandon_reason = self.values.get("abandon_reason")
        return None if abandon_reason is None else str(abandon_reason)

    @property
    def was_cleared(self) -> bool:
        """Whether a person has cleared the task since something was written down, so that this try begins anew."""
        return self._was_cleared and not self.was_killed

    @property
    def was_killed(self) -> bool:
        """Whether a person has cleared the task, but this try goes on with what the killed one has begun."""
        return self._was_cleared and self._survives_kill and bool(self.values.get("survives_kill"))

    @property
    def _was_cleared(self) -> bool:
        return bool(self.values) and self.values.get("max_tries") != self._max_tries

    def write(self, **values: Any) -> None:
        """Write values down instead of those that were there, durably, before returning."""
        self._set({**values, "survives_kill": self._survives_kill})

    def _set(self, values: Mapping[str, Any]) -> None:
        record = {**values, "max_tries": self._max_tries}
        self._store.set(_KEY, record)
        self._values = record

    def add(self, **values: Any) -> None:
        """Write further values down."""
        self.write(**{**self.values, **values})

    def abandon(self, reason: str, **values: Any) -> None:
        """
        Write down that no later try is to go on with what this one has begun.

        :param reason: such as "the try before was killed"
        :param values: further values to write down
        """
        if self.values:
            self.add(abandon_reason=reason, **values)

    def record_end(self) -> None:
        """Note that the try has come to an end of its own: it was not killed."""
        if self.values.get("survives_kill"):
            self._set({**self.values, "survives_kill": False})

    def clear(self) -> None:
        """Delete the record: what it tells of has not happened, or has failed."""
        self._store.delete(_KEY)
        self._values = {}

    def complete(self) -> None:
        """Note that the outcome is about to be delivered."""
        if not self._is_retained:
            self.clear()
