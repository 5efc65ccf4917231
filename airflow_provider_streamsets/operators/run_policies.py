"""What operators do with the runs that they start or stop: on time-outs, kills, and stops by others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from airflow_provider_streamsets import parameters
from airflow_provider_streamsets.operators.waiting_many import WaitsForManyRuns

ON_TIMEOUT = ("stop", "leave")


class StartsManyRuns(WaitsForManyRuns):
    """
    Base of the operators that start many runs and wait for them.

    :param on_timeout: what happens to the runs when the wait takes too long: ``stop`` or ``leave`` (templated)
    :param stop_on_kill: stop the runs when the task is killed; when deferred, with Airflow 3.3 and later
    :param accept_stopped: count runs that a person stopped as successes (templated)
    """

    template_fields: Sequence[str] = (*WaitsForManyRuns.template_fields, "on_timeout", "accept_stopped")

    def __init__(
        self,
        *,
        on_timeout: Literal["stop", "leave"] | str = "stop",
        stop_on_kill: bool = True,
        accept_stopped: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.on_timeout = on_timeout
        self.stop_on_kill = stop_on_kill
        self.accept_stopped = accept_stopped
        self._check_policies(rendered=False)

    def _check_policies(self, *, rendered: bool) -> None:
        parameters.choice(self.on_timeout, "on_timeout", ON_TIMEOUT, rendered=rendered)
        parameters.flag(self.accept_stopped, "accept_stopped", rendered=rendered)

    def begin(self) -> bool:
        """Note the time, and check the parameters, as :meth:`WaitsForRuns.begin`."""
        self._check_policies(rendered=True)
        return super().begin()

    @property
    def accepts_stopped(self) -> bool:
        """Whether runs that a person stopped count as successes."""
        return bool(parameters.flag(self.accept_stopped, "accept_stopped", rendered=True))

    @property
    def stops_runs_on_kill(self) -> bool:
        """Whether the runs are to be stopped when the task is killed."""
        return self.stop_on_kill

    def on_runs_timeout(self, unfinished: dict[str, int], *, killed: bool = False) -> None:
        """Stop the runs, unless they are to be left."""
        if self.stop_on_kill if killed else self.on_timeout == "stop":
            self.stop_runs(unfinished, "they took too long")
        else:
            self.log.warning("Leaving %d runs running.", len(unfinished))


class StopsManyRuns(WaitsForManyRuns):
    """
    Base of the operators that stop runs and wait for their ends.

    :param force: force the stops at once: ends runs that hang in ``DEACTIVATING``, but their last offsets may be lost
        (templated)
    :param force_after: seconds, or timedelta, after which the stops of runs that have not ended are forced; None never
        forces them. Only with `wait_for_completion` (templated)
    """

    template_fields: Sequence[str] = (*WaitsForManyRuns.template_fields, "force", "force_after")

    def __init__(
        self,
        *,
        force: bool | str = False,
        force_after: float | timedelta | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.force = force
        self.force_after = force_after
        self._check_force(rendered=False)

    def _check_force(self, *, rendered: bool) -> None:
        parameters.flag(self.force, "force", rendered=rendered)
        parameters.seconds(self.force_after, "force_after", rendered=rendered)
        if self.force_after is not None and self.wait_for_completion is False:
            raise ValueError("'force_after' needs wait_for_completion=True: only a stop that is waited for is forced.")

    def begin(self) -> bool:
        """Note the time, and check the parameters, as :meth:`WaitsForRuns.begin`."""
        self._check_force(rendered=True)
        return super().begin()

    @property
    def forces(self) -> bool:
        """Whether stops are forced at once."""
        return bool(parameters.flag(self.force, "force", rendered=True))

    @property
    def acts_after(self) -> float | None:
        """Seconds after which stops are forced."""
        after: float | None = parameters.seconds(self.force_after, "force_after", rendered=True)
        return after

    def act_on_unfinished(self, unfinished: dict[str, int]) -> bool:
        """Force the stops of the runs that have not ended."""
        return self.stop_runs(unfinished, "they have not ended by themselves, so the stop is forced", force=True)
