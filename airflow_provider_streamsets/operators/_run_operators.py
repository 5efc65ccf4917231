"""Base classes of the operators that wait for runs, start runs or stop runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from airflow_provider_streamsets import openlineage, params
from airflow_provider_streamsets.compat import task_state_store
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.operators._run_ownership import RunOwnership, RunStop
from airflow_provider_streamsets.operators._run_wait import RunPolicy, RunWaiter
from airflow_provider_streamsets.operators.base import ControlHubOperator
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_Policy = TypeVar("_Policy", bound=RunPolicy)

ON_TIMEOUT = ("stop", "leave")
IF_RUNNING = ("fail", "join", "restart", "wait_then_start")


class ControlHubRunWaitOperator(ControlHubOperator):
    """Base of the operators that wait for runs, which describe its parameters."""

    wait_for_completion = Parameter(params.boolean)
    poll_interval = Parameter(params.seconds)
    wait_timeout = Parameter(params.seconds)
    metrics_timeout = Parameter(params.seconds, zero=True)

    def __init__(
        self,
        *,
        wait_for_completion: bool | str = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | str = params.DEFAULT_POLL_INTERVAL,
        wait_timeout: float | timedelta | str | None = None,
        metrics_timeout: float | timedelta | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for_completion = wait_for_completion
        self.deferrable = params.resolve_deferrable(deferrable)
        self.poll_interval = poll_interval
        self.wait_timeout = wait_timeout
        self.metrics_timeout = metrics_timeout
        # Not in an object that is created later: a kill could interrupt its creation.
        self.was_killed = False
        self._wait_only_parameters: dict[str, Any] = {
            "deferrable": None if deferrable is None else self.deferrable and deferrable,
            "metrics_timeout": metrics_timeout or None,
        }

    def check_unused_parameters(self, default_args: Mapping[str, Any] | None, **others: Any) -> None:
        """
        Check at DAG parse that no parameter of a wait is set with ``wait_for_completion=False``.

        `poll_interval` is not checked, because it has a default.

        :param default_args: see :func:`~airflow_provider_streamsets.params.no_effect`
        :param others: further parameters that have an effect only with a wait
        :raises ValueError: if such a parameter is set
        """
        if params.boolean(self.wait_for_completion, "wait_for_completion") is False:
            params.no_effect("wait_for_completion=True", self, default_args, **{**self._wait_only_parameters, **others})

    def prepare(self) -> bool:
        """
        Start the clock of `wait_timeout`, and validate the rendered parameters of the wait.

        :returns: whether to wait for completion
        :raises ValueError: if a parameter is invalid; nothing was done
        """
        self.policy.time.restart()
        self.check_parameters(ControlHubRunWaitOperator)
        return bool(self.rendered.wait_for_completion)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Resume after the trigger has fired: finish the task, or handle the event and defer again."""
        return self.policy.waiter.resume(context, event)

    def on_kill(self) -> None:
        """Handle a kill of the task, see :meth:`RunPolicy.on_kill`."""
        self.policy.on_kill()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Emit the ends of the runs as OpenLineage events; Airflow calls this after a failure, too."""
        return openlineage.emit_ends(self, task_instance)

    @property
    def policy(self) -> RunPolicy:
        """What this task does with its runs."""
        raise NotImplementedError

    def _own_object(self, kind: type[_Policy]) -> _Policy:
        """Return the object of this operator, not of the one that Airflow copied it from, maybe after an execution."""
        policy = vars(self).get("_policy")
        if not isinstance(policy, kind) or policy.task is not self:
            policy = vars(self)["_policy"] = kind(self)
        return policy

    @property
    def waiter(self) -> RunWaiter:
        """Waits for the runs of this task."""
        return self.policy.waiter

    @property
    def needs_metrics(self) -> bool:
        """Whether the success of the task depends on the final metrics of its run."""
        return False

    def upper_bounds(self) -> tuple[tracking.MetricCondition, ...]:
        """Return the conditions that the metrics of the run must satisfy while it is active."""
        return ()

    def push_results(self, context: Context, results: list[dict[str, Any]]) -> None:
        """Push the results of the runs to XCom before the task fails."""
        if self.do_xcom_push:
            context["ti"].xcom_push(key="results", value=results)

    def finish_all(self, context: Context, group: tracking.RunGroup) -> Any:
        """Return the task's result from the reports of the runs, or raise an error if the task fails."""
        raise NotImplementedError


class ControlHubRunOwnerOperator(ControlHubRunWaitOperator):
    """
    Base of the operators that start runs and own them: no run stays active without a task that waits for it.

    The operators describe its parameters.
    """

    wait_for = Parameter(params.one_of, params.WAIT_FOR)
    fail_on_red_after = Parameter(params.seconds)
    on_timeout = Parameter(params.one_of, ON_TIMEOUT)
    on_error = Parameter(params.one_of, ON_TIMEOUT)
    force_stop_after = Parameter(params.seconds, zero=True)
    accept_stopped = Parameter(params.boolean)

    def __init__(
        self,
        *,
        on_timeout: Literal["stop", "leave"] | str = "stop",
        on_error: Literal["stop", "leave"] | str = "stop",
        stop_on_kill: bool = True,
        force_stop_after: float | timedelta | str | None = None,
        accept_stopped: bool | str = False,
        wait_for: Literal["completion", "active"] | str = "completion",
        fail_on_red_after: float | timedelta | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for = wait_for
        self.fail_on_red_after = fail_on_red_after
        self.on_timeout = on_timeout
        self.on_error = on_error
        self.stop_on_kill = params.fixed_boolean(stop_on_kill, "stop_on_kill")
        self.force_stop_after = force_stop_after
        self.accept_stopped = accept_stopped
        self._wait_only_parameters["accept_stopped"] = (
            params.boolean(accept_stopped, "accept_stopped") and accept_stopped
        )
        self._wait_only_parameters["fail_on_red_after"] = fail_on_red_after
        self._check_wait_for(params.boolean(self.wait_for_completion, "wait_for_completion"))

    def _check_wait_for(self, wait: bool | str) -> None:
        if self.wait_for == "active" and wait is False:
            raise ValueError("wait_for='active' cannot be combined with wait_for_completion=False.")

    def check_unused_parameters(
        self, default_args: Mapping[str, Any] | None, *, if_running: str = "fail", **others: Any
    ) -> None:
        """
        Check parameters that have no effect, see :meth:`ControlHubRunWaitOperator.check_unused_parameters`.

        :param default_args: see :func:`~airflow_provider_streamsets.params.no_effect`
        :param if_running: value of the parameter; with ``wait_then_start``, `deferrable` has an effect without a wait
            for completion
        """
        if if_running not in IF_RUNNING or if_running == "wait_then_start":
            self._wait_only_parameters.pop("deferrable", None)
        super().check_unused_parameters(default_args, **others)
        if self.wait_for == "active":
            metrics_timeout = self._wait_only_parameters["metrics_timeout"]
            params.no_effect("wait_for='completion'", self, default_args, metrics_timeout=metrics_timeout)

    def prepare(self) -> bool:
        """Start the clock of `wait_timeout`, and validate all rendered parameters of the wait."""
        self.check_parameters(ControlHubRunOwnerOperator)
        wait = super().prepare()
        self._check_wait_for(wait)
        return wait

    @property
    def ownership(self) -> RunOwnership:
        """The runs of this task, and what it does with them."""
        raise NotImplementedError

    @property
    def policy(self) -> RunPolicy:
        """What this task does with its runs."""
        return self.ownership

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Context, *args: Any, **kwargs: Any
    ) -> None:
        """Render the templates; if that fails, handle the runs that an earlier try started (Airflow 3.3 and newer)."""
        try:
            super()._do_render_template_fields(parent, template_fields, context, *args, **kwargs)
        except Exception as error:
            # Without a state store, this may be `airflow tasks render`.
            if parent is self and task_state_store(context) is not None:
                self.ownership.handle_failure(context, error)
            raise

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral, also if it timed out or the trigger failed."""
        # Before the client is used.
        self.record_resumption(next_kwargs)
        with self.ownership.owning_runs(context):
            self.ownership.restore()
            return super().resume_execution(next_method, next_kwargs, context)


class ControlHubRunStopOperator(ControlHubRunWaitOperator):
    """Base of the operators that stop runs and wait until they have ended, which describe its parameters."""

    force = Parameter(params.boolean)
    force_stop_after = Parameter(params.seconds)

    def __init__(
        self,
        *,
        force: bool | str = False,
        force_stop_after: float | timedelta | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.force = force
        self.force_stop_after = force_stop_after
        self.check_unused_parameters(
            kwargs.get("default_args"), wait_timeout=self.wait_timeout, force_stop_after=force_stop_after
        )

    def prepare(self) -> bool:
        """Start the clock of `wait_timeout`, and validate all rendered parameters of the wait."""
        self.check_parameters(ControlHubRunStopOperator)
        return super().prepare()

    @property
    def stop(self) -> RunStop:
        """What this task does with the runs that it stops."""
        return self._own_object(RunStop)

    @property
    def policy(self) -> RunPolicy:
        """What this task does with its runs."""
        return self.stop
