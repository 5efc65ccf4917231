"""State that a try of a task saves for the next try, before it does anything that must not be done twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.compat import get_task_state_store

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_KEY = "control_hub"


class TaskState:
    """
    The saved state of one task instance, in Airflow's task state store (before Airflow 3.3: in an Airflow variable).

    It survives the process, retries and clears. A retry resumes from it; a try after a clear starts from scratch. The
    two differ in ``max_tries`` of the task instance, which grows with each clear. That is why the state is kept after
    success: if it were deleted and the worker lost before Airflow stored the success, the next try would start a
    second run.

    If the ``retries`` of a task are lowered by the number of tries already used, and the task is then cleared,
    ``max_tries`` is unchanged: the task returns its previous result again. ``clear_number`` of the DAG run would be
    no better, as it counts the clears of all tasks.

    With `survives_kill`, clearing a task that has not ended counts as a kill and a retry, whether ``max_tries`` grows
    (a deferred task) or not (a task on a worker). The flag is saved as well, because the DAG may have been edited
    since.

    =============================================  =====================================================================
    key                                            value
    =============================================  =====================================================================
    ``intent``, ``intents``, ``template_start``    the requested starts of one job, many jobs or a job template
    ``instances``, ``withdrawn``                   instances of the template; whether the last start created none
    ``user``                                       id of the user who requested ``intents``
    ``started``, ``stopped``, ``red``              run counts by job id: of owned runs, stopped ones, RED ones
    ``joined``                                     runs of other callers, likewise; of one job, whether it is one
    ``identities``                                 what distinguishes these runs from others of the same number
    ``failed``                                     a run whose error must be acknowledged before the next start
    ``left_running``                               whether the task succeeded with active runs
    ``result``                                     the result of a task whose runs can no longer be fetched
    ``abandon_reason``                             why the next try must not resume the runs
    =============================================  =====================================================================

    :param context: the task's context
    :param survives_kill: whether the runs of a killed try are resumed
    """

    def __init__(self, context: Context, *, survives_kill: bool = False) -> None:
        self._survives_kill = survives_kill
        self._store, self._is_retained = get_task_state_store(context)
        self._max_tries = getattr(context["ti"], "max_tries", None)
        self._values: dict[str, Any] | None = None

    @property
    def is_retained(self) -> bool:
        """Whether the state may be kept after the last try, because Airflow deletes it eventually."""
        return self._is_retained

    @property
    def values(self) -> dict[str, Any]:
        """The saved values; empty if there are none."""
        if self._values is None:
            stored = self._store.get(_KEY)
            self._values = dict(stored) if isinstance(stored, dict) else {}
        return self._values

    @property
    def abandon_reason(self) -> str | None:
        """Why this try must not resume from the saved state; None if it may."""
        if self.was_cleared:
            return "the task was cleared"
        abandon_reason = self.values.get("abandon_reason")
        return None if abandon_reason is None else str(abandon_reason)

    @property
    def was_cleared(self) -> bool:
        """Whether the task was cleared since the state was saved, so that this try starts from scratch."""
        return self._was_cleared and not self.was_killed

    @property
    def was_killed(self) -> bool:
        """Whether the task was killed by a clear, and this try resumes the runs of the killed one."""
        return self._was_cleared and self._survives_kill and bool(self.values.get("survives_kill"))

    @property
    def _was_cleared(self) -> bool:
        return bool(self.values) and self.values.get("max_tries") != self._max_tries

    def write(self, **values: Any) -> None:
        """Replace the saved values; they are stored durably before this method returns."""
        self._set({**values, "survives_kill": self._survives_kill})

    def _set(self, values: Mapping[str, Any]) -> None:
        state = {**values, "max_tries": self._max_tries}
        self._store.set(_KEY, state)
        self._values = state

    def add(self, **values: Any) -> None:
        """
        Save further values.

        The state is then that of this try: :attr:`was_cleared` and :attr:`abandon_reason` no longer refer to a clear
        before it.
        """
        self.write(**{**self.values, **values})

    def abandon(self, reason: str, **values: Any) -> None:
        """
        Save that no later try may resume from this state.

        :param reason: a clause for the log, such as "the previous try was killed"
        :param values: further values to save
        """
        if self.values:
            self.add(abandon_reason=reason, **values)

    def record_end(self) -> None:
        """Save that the try ended by itself and was not killed."""
        if self.values.get("survives_kill"):
            self._set({**self.values, "survives_kill": False})

    def clear(self) -> None:
        """Delete the saved state, because its start was not executed or its runs failed."""
        self._store.delete(_KEY)
        self._values = {}

    def complete(self) -> None:
        """Delete the state before the result is returned, unless it may be kept."""
        if not self._is_retained:
            self.clear()
