"""The operator that starts instances of a job template."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_streamsets import params
from airflow_provider_streamsets.compat import will_retry
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.choices import INSTANCE_SUFFIXES
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAmbiguousStartError,
    ControlHubBulkError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    may_have_executed,
)
from airflow_provider_streamsets.control_hub.models import Outcome, RunIdentity, RunRef
from airflow_provider_streamsets.control_hub.submission import (
    TemplateStartIntent,
    complete_parameters,
    parameters_digest,
)
from airflow_provider_streamsets.job_selector import find_job, job_parameters, resolve_job
from airflow_provider_streamsets.operators._resume import is_complete, was_stopped_by_task
from airflow_provider_streamsets.operators._run_operators import ControlHubRunOwnerOperator
from airflow_provider_streamsets.operators._trigger_size import placeholder_id, warn_of_large_trigger
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job, JobRun
    from airflow_provider_streamsets.operators._task_state import TaskState

_IF_INSTANCE_FAILS = ("stop_others", "wait_others")
_RETRY = ("failed", "all")


@dataclass(frozen=True)
class _Instance:
    """
    The instance for one set of runtime parameters, started or to be started.

    :param digest: digest of the set of runtime parameters
    :param job_id: id of the instance; empty if it is not started, or the start is not confirmed
    :param run_count: number of the run that this task started, which is the first, even if others start more
    :param identity: distinguishes that run from another one with the same number, as JSON
    :param name: name of the instance; empty if it is not known
    :param run: that run as last fetched, or its successor after an upgrade
    """

    digest: str
    job_id: str = ""
    run_count: int = 1
    identity: Any = None
    name: str = ""
    run: JobRun | None = None

    @classmethod
    def from_job(cls, digest: str, job: Job) -> _Instance:
        """Return the instance of a job that was just started or found."""
        first = job.current_run if job.last_run_count == 1 else None
        return cls(digest, job.job_id, identity=RunIdentity.from_run(first).to_json(), name=job.name, run=first)

    def to_json(self) -> list[Any]:
        """Return the first fields, which a later try needs, as a small JSON value."""
        return [self.digest, self.job_id, self.run_count, self.identity] if self.job_id else [self.digest]

    @property
    def is_active(self) -> bool:
        """Whether the run has not ended, or is not visible yet."""
        return bool(self.job_id) and (self.run is None or not self.run.has_ended)

    @property
    def label(self) -> str:
        """Name and id, for messages."""
        return f"'{self.name}' ({self.job_id})" if self.name else self.job_id


def _start_json(start: TemplateStartIntent) -> dict[str, Any]:
    """Return a start as JSON, without its parameters, which are saved with the instances."""
    return {name: value for name, value in asdict(start).items() if name != "parameters"}


def _recorded_start(state: TaskState) -> TemplateStartIntent | None:
    """Return the latest start that the task requested, without its parameters; None if there is none."""
    start = state.values.get("template_start")
    return TemplateStartIntent(**start) if isinstance(start, dict) else None


def _recorded_instances(state: TaskState) -> list[_Instance]:
    """Return the saved instances, in the order of the sets of parameters."""
    return [_Instance(*entry) for entry in state.values.get("instances") or []]


def _assign_instances(
    earlier: Sequence[_Instance], kept: Mapping[str, _Instance], digests: Sequence[str]
) -> list[_Instance]:
    """
    Return the kept instance for each set of parameters, or a new one that is to be started.

    Each try may render other values. Therefore an equal number of sets is matched by position, unless they are the
    same sets in another order; otherwise sets are matched by digest.

    :param earlier: the instances of the earlier try, by position
    :param kept: the instances to keep, by job id
    :param digests: digests of the sets of this try
    """
    previous_digests = [instance.digest for instance in earlier]
    is_reordered = previous_digests != list(digests) and sorted(previous_digests) == sorted(digests)
    if len(previous_digests) == len(digests) and not is_reordered:
        return [kept.get(instance.job_id, _Instance(digest)) for instance, digest in zip(earlier, digests, strict=True)]
    by_digest: dict[str, list[_Instance]] = {}
    for instance in kept.values():
        by_digest.setdefault(instance.digest, []).append(instance)
    return [by_digest[digest].pop(0) if by_digest.get(digest) else _Instance(digest) for digest in digests]


class ControlHubRunJobTemplateOperator(ControlHubRunOwnerOperator):
    """
    Start instances of a job template, wait for their runs, and return the results.

    The ids of the instances are pushed to XCom as soon as they are started. One status request per poll serves all
    instances. The task succeeds if all runs succeed; otherwise it fails with an error that names the failed instances.

    Starts are saved before they are requested, as by
    :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`, with a digest of each set of
    parameters by which a later try finds the instances. A retry keeps the instances that succeeded or are still active,
    and starts new ones only for the other sets, see `retry`. An equal number of sets counts as the same sets in the
    same order, whatever their values are rendered to; if the number or the order has changed, sets are matched by their
    values. If the task is cleared, all instances are started again.

    Only the first run of an instance belongs to the task. Runs that are started later by others are neither waited for
    nor stopped.

    .. code-block:: python

        ControlHubRunJobTemplateOperator(
            task_id="load_regions",
            job_name="Regional orders",
            runtime_parameters=[{"REGION": "north"}, {"REGION": "south"}],
            suffix="PARAM_VALUE",
            suffix_parameter="REGION",
            if_instance_fails="stop_others",
        )

    If the instances are only known at run time, pass the output of an upstream task as `runtime_parameters`. For one
    Airflow task per instance, map the operator over that output, with a list of one element each.

    :param job_id: id of the job template (templated)
    :param job_name: exact name of the job template, instead of its id (templated)
    :param runtime_parameters: a list with one element per instance: a dict of values that override the template's
        runtime parameters; or a string with such a list (templated)
    :param strict_parameters: fail before the start if the pipeline does not have one of the runtime parameters; by
        default, only warn. If the pipeline's parameters cannot be fetched, the task continues (templated)
    :param number_of_instances: number of instances to start with the template's values, instead of `runtime_parameters`
        (templated)
    :param instance_name: instances are named ``<instance_name> - <suffix>``; default is the name of the template
        (templated)
    :param description: description of the instances; default is that of the template (templated)
    :param suffix: ``COUNTER`` (1, 2, ...), ``TIME_STAMP`` (time of the start, the same for all) or ``PARAM_VALUE``
        (templated)
    :param suffix_parameter: the runtime parameter whose value is the suffix; only with ``PARAM_VALUE`` (templated)
    :param job_tags: tags of the instances, without organization; default is those of the template (templated)
    :param attach_to_template: instances follow changes of the template, cannot be edited or exported, and are deleted
        with it (templated)
    :param delete_after_completion: delete the instances afterwards. With `wait_for_completion`, this task deletes the
        successful ones when it has their results and will not be retried, and keeps the others for inspection. Without
        it, or with ``wait_for="active"``, Control Hub deletes each instance when its run has ended, whatever the
        outcome; an instance that is deleted before it was seen active fails the task (templated)
    :param inherit_permissions: give the instances the permissions of the template (templated)
    :param if_instance_fails: what to do with the other instances when one fails: ``stop_others`` stops them at once,
        ``wait_others`` (default) waits for them. The task fails when all have ended (templated)
    :param retry: what a retry starts if instances did not succeed or were stopped by this task: ``failed`` (default)
        starts new instances for their sets of parameters and keeps the others, ``all`` starts new instances for all
        sets (templated)
    :param wait_for_completion: wait until all runs have ended; otherwise return as soon as they are started (templated)
    :param wait_for: wait for ``completion`` of the runs (default), or until they are ``active``: ``ACTIVE`` and
        ``GREEN``, and all pipelines reported by engines are running. They are then left running. A run that succeeds
        before it is seen active also counts (templated)
    :param fail_on_red_after: maximum seconds, or timedelta, for which a run may be ``RED`` without interruption, for
        example because an engine cannot start it; then it counts as failed at the next poll, and is stopped, even
        before a retry. With ``on_error="leave"`` it is left running, and a retry waits for it again. A restart of the
        triggerer resets the time. Default None sets no limit (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between polls; default 30 (templated)
    :param wait_timeout: seconds, or timedelta, after which the task fails; None sets no limit (templated)
    :param on_timeout: ``stop`` (default) or ``leave`` the runs at `wait_timeout` or Airflow's ``execution_timeout``
        (templated)
    :param on_error: ``stop`` (default) or ``leave`` the runs when the task fails for another reason, such as a rejected
        credential. If Airflow retries the task, the runs stay active, and the next try waits for them
        (templated)
    :param stop_on_kill: stop the runs when the task is killed; while deferred, this needs Airflow 3.3 or later
    :param force_stop_after: seconds, or timedelta, after which the stop of a run that has not ended is forced; its last
        offset may be lost. 0 forces it at once; default is the force stop time-out of each job (templated)
    :param accept_stopped: count stopped runs as successes (templated)
    :param metrics_timeout: maximum seconds, or timedelta, to wait for final metrics after the end of a run. Default:
        the template's statistics interval plus 15 seconds, at most 2 minutes (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``template_id``, ``template_name``, ``instances`` (the results as returned by
        :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`, in the order of
        `runtime_parameters`, including kept instances) and ``metrics`` (the sums of ``input_count``, ``output_count``,
        ``error_count``, ``stage_errors_count`` and ``total_error_count`` over the instances that have metrics; a sum is
        None if one of these instances lacks the count)
    :raises ControlHubConfigurationError: if the instances cannot be started with these parameters; nothing was started
    :raises ControlHubBulkError: if Control Hub started fewer instances than requested; those are stopped
    :raises ControlHubAmbiguousStartError: if the response to the start was lost, and several starts with the same
        parameters, user and time match it; none of them is resumed or stopped
    :raises ControlHubRunFailedError: if runs did not succeed; the message names the instances
    :raises ControlHubRunTimeoutError: if the runs took longer than `wait_timeout`
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id`` (of the
    template), ``job_ids`` and ``run_counts`` (by job id) of the instances, ``streamsets_job_link`` (of the template, or
    of the instance if there is only one); and if runs did not succeed, ``results`` (in the form of ``instances``).
    """

    result_is_dict = True
    job_id, job_name = job_parameters()
    runtime_parameters = Parameter(params.json_objects)
    strict_parameters = Parameter(params.boolean)
    number_of_instances = Parameter(params.integer)
    instance_name = Parameter(params.string)
    description = Parameter(params.string, empty=True)
    suffix = Parameter(params.one_of, INSTANCE_SUFFIXES)
    suffix_parameter = Parameter(params.string)
    job_tags = Parameter(params.string_list)
    attach_to_template = Parameter(params.boolean)
    delete_after_completion = Parameter(params.boolean)
    inherit_permissions = Parameter(params.boolean)
    if_instance_fails = Parameter(params.one_of, _IF_INSTANCE_FAILS)
    retry = Parameter(params.one_of, _RETRY)
    template_fields_renderers: ClassVar[dict[str, str]] = {"runtime_parameters": "json"}

    def __init__(
        self,
        *,
        job_id: str | None = None,
        job_name: str | None = None,
        runtime_parameters: Sequence[Mapping[str, Any]] | str | None = None,
        strict_parameters: bool | str = False,
        number_of_instances: int | str | None = None,
        instance_name: str | None = None,
        description: str | None = None,
        suffix: Literal["COUNTER", "TIME_STAMP", "PARAM_VALUE"] | str = "COUNTER",
        suffix_parameter: str | None = None,
        job_tags: Sequence[str] | str | None = None,
        attach_to_template: bool | str = True,
        delete_after_completion: bool | str = False,
        inherit_permissions: bool | str = False,
        if_instance_fails: Literal["stop_others", "wait_others"] | str = "wait_others",
        retry: Literal["failed", "all"] | str = "failed",
        wait_for_completion: bool | str = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | str = params.DEFAULT_POLL_INTERVAL,
        wait_timeout: float | timedelta | str | None = None,
        metrics_timeout: float | timedelta | str | None = None,
        wait_for: Literal["completion", "active"] | str = "completion",
        fail_on_red_after: float | timedelta | str | None = None,
        on_timeout: Literal["stop", "leave"] | str = "stop",
        on_error: Literal["stop", "leave"] | str = "stop",
        stop_on_kill: bool = True,
        force_stop_after: float | timedelta | str | None = None,
        accept_stopped: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            wait_for_completion=wait_for_completion,
            deferrable=deferrable,
            poll_interval=poll_interval,
            wait_timeout=wait_timeout,
            metrics_timeout=metrics_timeout,
            wait_for=wait_for,
            fail_on_red_after=fail_on_red_after,
            on_timeout=on_timeout,
            on_error=on_error,
            stop_on_kill=stop_on_kill,
            force_stop_after=force_stop_after,
            accept_stopped=accept_stopped,
            **kwargs,
        )
        params.exactly_one(job_id=job_id, job_name=job_name)
        self.job_id, self.job_name = job_id, job_name
        params.exactly_one(runtime_parameters=runtime_parameters, number_of_instances=number_of_instances)
        self.runtime_parameters = runtime_parameters
        self.strict_parameters = strict_parameters
        self.number_of_instances = number_of_instances
        self.instance_name = instance_name
        self.description = description
        self.suffix = suffix
        self.suffix_parameter = suffix_parameter
        self.job_tags = job_tags
        self.attach_to_template = attach_to_template
        self.delete_after_completion = delete_after_completion
        self.inherit_permissions = inherit_permissions
        self.if_instance_fails = if_instance_fails
        self.retry = retry
        self._template: Job | None = None
        self._intent: TemplateStartIntent | None = None
        self._kept: dict[str, int] = {}
        self._check_suffix()
        others = if_instance_fails if if_instance_fails == "stop_others" else None
        self.check_unused_parameters(kwargs.get("default_args"), if_instance_fails=others)

    def _check_suffix(self) -> None:
        if self.suffix in INSTANCE_SUFFIXES and (self.suffix == "PARAM_VALUE") != (self.suffix_parameter is not None):
            raise ValueError("'suffix_parameter' must be set if, and only if, suffix='PARAM_VALUE'.")

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the instances and wait for their runs, or resume the instances of an earlier try."""
        with self.ownership.owning_runs(context):
            wait = self.prepare()
            params.exactly_one(runtime_parameters=self.runtime_parameters, number_of_instances=self.number_of_instances)
            self.check_parameters(ControlHubRunJobTemplateOperator)
            self._check_suffix()
            template = self._template = find_job(self, context, templates=True)
            delivered = self.ownership.state(context).values.get("result")
            if isinstance(delivered, dict) and self.ownership.state(context).abandon_reason is None:
                self.log.info("An earlier try of this task succeeded; returning its result.")
                return delivered
            wait = wait and not self.ownership.has_left_runs_active(context)
            if wait:
                digests = (hashlib.sha256(str(n).encode()).hexdigest() for n in range(len(self._parameter_sets())))
                warn_of_large_trigger(self.waiter, [placeholder_id(template.job_id, digest) for digest in digests])
            instances = self._resume_instances(context, template, wait)
            if not all(instance.job_id for instance in instances):
                self.check_parameter_names(
                    template.label,
                    template.pipeline_commit_id,
                    {name for values in self._parameter_sets() for name in values},
                    known=template.runtime_parameters,
                    strict=self.rendered.strict_parameters,
                )
            return self._wait_for_instances(context, template, self._start(context, template, instances, wait), wait)

    def _wait_for_instances(
        self, context: Context, template: Job, instances: Sequence[_Instance], wait: bool
    ) -> dict[str, Any]:
        self.ownership.record_started(context, {instance.job_id: instance.run_count for instance in instances})
        self._kept, self._intent = {}, None
        self.ownership.raise_if_killed("while it started instances")
        job_ids = [instance.job_id for instance in instances]
        context["ti"].xcom_push(key="job_ids", value=job_ids)
        # The link stays that of the template if the instance will not exist for long.
        if len(job_ids) == 1 and not self.rendered.delete_after_completion:
            self.push_link(context, self.client.job_url(job_ids[0]))
        context["ti"].xcom_push(key="run_counts", value=dict(self.ownership.started))
        if wait:
            runs = [RunRef(i.job_id, i.run_count, i.name, RunIdentity.from_json(i.identity)) for i in instances]
            result: dict[str, Any] = self.waiter.wait(
                context, runs, [template], until_failure=self.if_instance_fails == "stop_others"
            )
            return result
        self.ownership.state(context).complete()
        return self._result(
            template.job_id,
            template.name,
            [tracking.unfinished_result(instance.job_id, instance.name, instance.run) for instance in instances],
        )

    def _parameter_sets(self) -> list[Mapping[str, Any]]:
        values = self.rendered.runtime_parameters
        if values is None:
            values = [{}] * self.rendered.number_of_instances
        return list(values)

    @property
    def restart_failed_runs(self) -> bool:
        """Whether the next try starts all instances again, and not only those that did not succeed."""
        return bool(self.rendered.retry == "all")

    def _resume_instances(self, context: Context, template: Job, wait: bool) -> list[_Instance]:
        """Return the kept instance of an earlier try for each set of parameters, or a new one to be started."""
        digests = [parameters_digest(values) for values in complete_parameters(template, self._parameter_sets())]
        none_kept = [_Instance(digest) for digest in digests]
        state = self.ownership.state(context)
        start, abandon_reason = _recorded_start(state), state.abandon_reason
        if start is None:
            return none_kept
        self.ownership.previous = {i.job_id: i.run_count for i in _recorded_instances(state) if i.job_id}
        if start.template_id != template.job_id or state.was_cleared:
            reason = abandon_reason or f"the task now runs job template {template.label}"
            runs = self.find_recorded_runs(context)
            self.log.info("Not resuming instances of an earlier try (%s); stopping %d still active.", reason, len(runs))
            if runs:
                # Saving the stop hides from later tries that the task was cleared, so the reason is saved, too.
                state.write(template_start=_start_json(start), started=runs, abandon_reason=reason)
                self._stop_or_raise(runs, reason)
            return none_kept
        try:
            earlier = self._load_recorded_instances(state)
        except ControlHubAmbiguousStartError as error:
            if abandon_reason is None:
                raise
            self.log.warning("%s", error)
            earlier = _recorded_instances(state)
        self.ownership.previous = {instance.job_id: instance.run_count for instance in earlier if instance.job_id}
        found = self._with_own_runs(earlier)
        kept = self._select_kept(context, earlier, found, wait)
        instances = _assign_instances(earlier, kept, digests)
        if self.restart_failed_runs and not all(instance.job_id for instance in instances):
            instances = none_kept
        self._log_kept([found.get(instance.job_id, instance) for instance in earlier], instances)
        is_kept = {instance.job_id for instance in instances}
        runs = {job_id: n for job_id, n in self._active_runs(state, earlier).items() if job_id not in is_kept}
        if runs:
            self._stop_or_raise(runs, abandon_reason or "they are replaced")
        return instances

    def _select_kept(
        self, context: Context, earlier: Sequence[_Instance], found: Mapping[str, _Instance], wait: bool
    ) -> Mapping[str, _Instance]:
        """Return the instances of an earlier try that need not be started again, by job id."""
        state = self.ownership.state(context)
        if not wait and state.abandon_reason is None:
            # Their outcomes are irrelevant without a wait.
            instances = [found.get(instance.job_id, instance) for instance in earlier if instance.job_id]
            is_left_active = self.ownership.has_left_runs_active(context)
            return {
                i.job_id: i
                for i in instances
                if is_left_active or i.run is None or not was_stopped_by_task(self.client, i.run, state)
            }
        kept = {job_id: instance for job_id, instance in found.items() if self._should_keep(instance, state)}
        if self.restart_failed_runs and len(kept) < len(earlier) == len(found):
            active = [instance for instance in found.values() if instance.is_active]
            if active and all(instance.job_id in kept for instance in active):
                # All instances are started again only when all have ended.
                return found
        return kept

    def _log_kept(self, earlier: Sequence[_Instance], instances: Sequence[_Instance]) -> None:
        kept = [instance for instance in instances if instance.job_id]
        self.log.info(
            "Keeping %d of %d instances of the previous try, which succeeded or are still active: %s.",
            len(kept),
            sum(bool(instance.job_id) for instance in earlier),
            join_truncated([instance.label for instance in kept]) or "none",
        )
        missing = [str(number) for number, instance in enumerate(instances, start=1) if not instance.job_id]
        if missing:
            is_kept = {instance.job_id for instance in kept}
            replaced = [i.label for i in earlier if i.job_id and i.job_id not in is_kept]
            self.log.info(
                "Starting new instances for %d of %d sets of parameters: numbers %s. Instances not kept: %s.",
                len(missing),
                len(instances),
                join_truncated(missing),
                join_truncated(replaced) or "none",
            )

    def _load_recorded_instances(self, state: TaskState) -> list[_Instance]:
        """Return the saved instances, including those of a start whose response was lost."""
        instances, start = _recorded_instances(state), _recorded_start(state)
        missing = tuple(instance.digest for instance in instances if not instance.job_id)
        if start is None or not missing or state.values.get("withdrawn"):
            return instances
        created = iter(self.client.templates.find_instances(replace(start, parameters=missing), wait=True))
        # All or none: a start matches only with the same sets.
        return [
            instance
            if instance.job_id or (job := next(created, None)) is None
            else _Instance.from_job(instance.digest, job)
            for instance in instances
        ]

    def find_recorded_runs(self, context: Context) -> Mapping[str, int]:
        """
        Return the runs that earlier tries started and that have not ended: run count by job id.

        Uses only the saved state and the connection, because the other parameters may have changed.
        """
        state = self.ownership.state(context)
        try:
            instances = self._load_recorded_instances(state)
        except (ControlHubAmbiguousStartError, ControlHubNotFoundError, ControlHubRejectedError) as error:
            # No candidate may be stopped if the start is ambiguous; a deleted template has no history.
            self.log.warning("%s", error)
            instances = _recorded_instances(state)
        return self._active_runs(state, instances)

    def _active_runs(self, state: TaskState, instances: Sequence[_Instance]) -> dict[str, int]:
        """Return the runs of instances, and others saved as started, that have not ended: run count by job id."""
        known = {instance.job_id: instance for instance in instances if instance.job_id}
        runs = {str(job_id): int(run_count) for job_id, run_count in (state.values.get("started") or {}).items()}
        runs.update({job_id: instance.run_count for job_id, instance in known.items()})
        return {
            job_id: runs[job_id]
            for job_id, run in self.client.runs.get_active(runs).items()
            if job_id not in known or not RunIdentity.from_json(known[job_id].identity).contradicts(run, runs[job_id])
        }

    def _stop_or_raise(self, runs: Mapping[str, int], reason: str) -> None:
        if not self.ownership.stop_runs(runs, reason):
            raise ControlHubUnavailableError(
                "The instances of an earlier try could not be stopped, so no new ones were started."
            )

    def _with_own_runs(self, instances: Sequence[_Instance]) -> dict[str, _Instance]:
        """Return the instances that still exist, with the runs that this task started, by job id."""
        jobs = self.client.jobs.get_many(instance.job_id for instance in instances if instance.job_id)
        found = [self._with_own_run(i, jobs[i.job_id]) for i in instances if i.job_id in jobs]
        return {instance.job_id: instance for instance in found if instance is not None}

    def _with_own_run(self, instance: _Instance, job: Job) -> _Instance | None:
        identity, latest = RunIdentity.from_json(instance.identity), job.current_run
        if latest is not None and identity.contradicts(latest, instance.run_count):
            return None
        if latest is not None and latest.run_count > instance.run_count:
            latest = self.client.runs.get_or_successor(job.job_id, instance.run_count, latest, run_id=identity.run_id)
            if latest is None:
                return None
        return replace(instance, name=job.name, run=latest)

    def _should_keep(self, instance: _Instance, state: TaskState) -> bool:
        """Return whether an instance is active or succeeded, and was not stopped by this task."""
        run = instance.run
        if run is None:
            return True
        was_asked_to_stop = (state.values.get("stopped") or {}).get(instance.job_id) == instance.run_count
        if not run.has_ended:
            is_stopped = was_asked_to_stop or was_stopped_by_task(self.client, run, state)
            return state.abandon_reason is None and not is_stopped
        if not is_complete(self.client, run, state, accept_stopped=self.rendered.accept_stopped):
            return False
        if not was_asked_to_stop:
            return True
        # It may have finished before the stop, but the status alone is no evidence of that.
        decision = tracking.decide_outcome(run, self.client.runs.events(run.run_id))
        return decision.outcome is Outcome.SUCCEEDED and decision.is_confirmed

    def with_runs_being_started(self, known: Mapping[str, int]) -> Mapping[str, int]:
        """Return the runs that this task started, kept or is starting."""
        return known or {**self._kept, **self._runs_of_unconfirmed_start()}

    def _runs_of_unconfirmed_start(self) -> dict[str, int]:
        if self._intent is None:
            return {}
        try:
            instances = self.ownership.kill_client().templates.find_instances(self._intent)
        except ControlHubError as error:
            self.log.warning("%s", error)
            return {}
        return {job.job_id: 1 for job in instances}

    def _start(
        self, context: Context, template: Job, instances: Sequence[_Instance], wait: bool
    ) -> Sequence[_Instance]:
        """Start the missing instances, and return all instances."""
        state = self.ownership.state(context)
        self._kept = {instance.job_id: instance.run_count for instance in instances if instance.is_active}
        self.ownership.previous = {}

        def save(start: Any) -> None:
            recorded = [instance.to_json() for instance in instances]
            state.write(template_start=start, instances=recorded, **self.ownership.left_running_values(context))

        def withdraw() -> None:
            # The start created no instances, so no later try may mistake others for them.
            self._intent = None
            if any(instance.job_id for instance in instances):
                state.add(withdrawn=True)
            else:
                state.clear()

        def on_submit(intent: TemplateStartIntent) -> None:
            save(_start_json(intent))
            if self.was_killed:
                withdraw()
            self.ownership.raise_if_killed("before it started instances")
            self._intent = intent

        self.ownership.raise_if_killed("before it started instances")
        values = [
            values for instance, values in zip(instances, self._parameter_sets(), strict=True) if not instance.job_id
        ]
        if not values:
            if state.abandon_reason is None:
                state.add(instances=[instance.to_json() for instance in instances])
            else:
                save(state.values.get("template_start"))
            return instances
        try:
            jobs = self.client.templates.start(
                template,
                values,
                name=self.rendered.instance_name,
                description=self.rendered.description,
                suffix=self.rendered.suffix,
                suffix_parameter=self.rendered.suffix_parameter,
                tags=self.rendered.job_tags,
                attach_to_template=self.rendered.attach_to_template,
                # The outcome of an instance that Control Hub deletes could not be fetched.
                delete_after_completion=self.rendered.delete_after_completion
                and (not wait or self.ownership.until_active),
                inherit_permissions=self.rendered.inherit_permissions,
                on_submit=on_submit,
            )
        except ControlHubBulkError as error:
            self.ownership.record_started(context, {**self._kept, **error.done})
            self._intent = None
            state.add(withdrawn=True)
            self.ownership.stop_runs(error.done, "not all instances were started")
            raise
        except ControlHubError as error:
            if self._intent is not None and not may_have_executed(error):
                withdraw()
            raise
        for job in jobs:
            self.log.info("Job %s: started as instance of job template %s.", job.title, template.title)
        started = iter(jobs)
        instances = [i if i.job_id else _Instance.from_job(i.digest, next(started)) for i in instances]
        state.add(instances=[instance.to_json() for instance in instances])
        return instances

    def on_first_failure(self, group: tracking.RunGroup) -> bool:
        """Stop the other instances."""
        for failure in group.failures.values():
            self.log.error(failure)
        unfinished = group.unfinished
        group.stopped.update(unfinished)
        return self.ownership.stop_runs(unfinished, "another instance failed")

    def finish_all(self, context: Context, group: tracking.RunGroup) -> dict[str, Any]:
        """Return the results of the instances, or raise an error that names those that did not succeed."""
        succeeded = [r.job_id for r in group.reports.values() if r.outcome is Outcome.SUCCEEDED]
        try:
            results = self.waiter.results_or_failure(context, group, accept_stopped=self.rendered.accept_stopped)
        except ControlHubError as error:
            # A retry keeps them, and deletes them when all have succeeded.
            if self.rendered.delete_after_completion and (self.restart_failed_runs or not will_retry(context, error)):
                self._delete(succeeded)
            raise
        result = self._result(*self._template_id_and_name(), results)
        if self.rendered.delete_after_completion:
            # A later try could not fetch it again.
            self.ownership.state(context).add(result=result)
            self._delete(succeeded)
        self.ownership.close_task_state(context)
        return result

    def _template_id_and_name(self) -> tuple[str, str]:
        try:
            template = self._template or resolve_job(self, templates=True)
        except ControlHubError as error:
            # The runs succeeded; a template that is deleted or cannot be fetched is no reason to fail.
            self.log.warning("%s", error)
            return self.job_id or "", self.job_name or ""
        return template.job_id, template.name

    def _delete(self, job_ids: list[str]) -> None:
        try:
            deleted = self.client.jobs.delete(job_ids)
        except ControlHubError as error:
            self.log.warning("Could not delete instances; delete them in Control Hub: %s", error)
        else:
            self.log.info("Deleted %d successful instances.", len(deleted))

    @staticmethod
    def _result(template_id: str, template_name: str, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "template_id": template_id,
            "template_name": template_name,
            "instances": results,
            "metrics": tracking.sum_metrics(results),
        }
