"""The operator that starts instances of a job template."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_streamsets import params
from airflow_provider_streamsets.compat import will_retry
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub.choices import INSTANCE_SUFFIXES
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
)
from airflow_provider_streamsets.control_hub.models import Outcome, RunIdentity, RunRef
from airflow_provider_streamsets.job_selector import find_job, job_parameters, resolve_job
from airflow_provider_streamsets.operators._instances import Instance, InstancesOwnership
from airflow_provider_streamsets.operators._run_operators import ControlHubRunOwnerOperator
from airflow_provider_streamsets.operators._trigger_size import placeholder_id, warn_of_large_trigger
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job

_IF_INSTANCE_FAILS = ("stop_others", "wait_others")
_RETRY = ("failed", "all")


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
        self._check_suffix()
        others = if_instance_fails if if_instance_fails == "stop_others" else None
        self.check_unused_parameters(kwargs.get("default_args"), if_instance_fails=others)

    def _check_suffix(self) -> None:
        if self.suffix in INSTANCE_SUFFIXES and (self.suffix == "PARAM_VALUE") != (self.suffix_parameter is not None):
            raise ValueError("'suffix_parameter' must be set if, and only if, suffix='PARAM_VALUE'.")

    @property
    def ownership(self) -> InstancesOwnership:
        """The instances of this task, and what it does with their runs."""
        return self._own_object(InstancesOwnership)

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
                digests = (hashlib.sha256(str(n).encode()).hexdigest() for n in range(len(self.parameter_sets())))
                warn_of_large_trigger(self.waiter, [placeholder_id(template.job_id, digest) for digest in digests])
            instances = self.ownership.resume_instances(context, template, wait=wait)
            if not all(instance.job_id for instance in instances):
                self.check_parameter_names(
                    template.label,
                    template.pipeline_commit_id,
                    {name for values in self.parameter_sets() for name in values},
                    known=template.runtime_parameters,
                    strict=self.rendered.strict_parameters,
                )
            instances = self.ownership.start(context, template, instances, wait=wait)
            return self._wait_for_instances(context, template, instances, wait)

    def _wait_for_instances(
        self, context: Context, template: Job, instances: Sequence[Instance], wait: bool
    ) -> dict[str, Any]:
        self.ownership.record_instances(context, instances)
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

    def parameter_sets(self) -> list[Mapping[str, Any]]:
        """Return the runtime parameters of each instance."""
        values = self.rendered.runtime_parameters
        if values is None:
            values = [{}] * self.rendered.number_of_instances
        return list(values)

    def finish_all(self, context: Context, group: tracking.RunGroup) -> dict[str, Any]:
        """Return the results of the instances, or raise an error that names those that did not succeed."""
        succeeded = [r.job_id for r in group.reports.values() if r.outcome is Outcome.SUCCEEDED]
        try:
            results = self.waiter.results_or_failure(context, group, accept_stopped=self.rendered.accept_stopped)
        except ControlHubError as error:
            # A retry keeps them, and deletes them when all have succeeded.
            if self.rendered.delete_after_completion and (
                self.ownership.restart_failed_runs or not will_retry(context, error)
            ):
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
