"""The operator that runs instances of a job template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_streamsets import parameters
from airflow_provider_streamsets.links.job import ControlHubJobLink
from airflow_provider_streamsets.operators.base import ControlHubJobOperator
from airflow_provider_streamsets.operators.earlier_runs import has_done_its_work, was_stopped_by_task
from airflow_provider_streamsets.operators.run_policies import StartsManyRuns

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job, JobRun
    from airflow_provider_streamsets.control_hub.groups import RunGroup
    from airflow_provider_streamsets.control_hub.templates import TemplateStart
    from airflow_provider_streamsets.operators.task_records import TaskRecord

_ON_FAILURE = ("stop_others", "wait_others")
_SUFFIXES = ("COUNTER", "TIME_STAMP", "PARAM_VALUE")


class ControlHubRunJobTemplateOperator(ControlHubJobOperator, StartsManyRuns):
    """
    Start instances of a job template, wait for all of their runs, and return what they came to.

    The instances' ids are pushed to XCom as soon as they are started. All of them are waited for with one status
    request at each look. The task succeeds when all runs have; otherwise it fails naming the instances that did not.

    What is to be started is written down before, as by
    :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`. So another try goes on with the
    instances of the one before, which it finds by user and runtime parameters, unless their runs have ended and not all
    have succeeded.

    .. code-block:: python

        ControlHubRunJobTemplateOperator(
            task_id="load_regions",
            job_name="Regional orders",
            runtime_parameters=[{"REGION": "north"}, {"REGION": "south"}],
            suffix="PARAM_VALUE",
            suffix_parameter="REGION",
            on_failure="stop_others",
        )

    For a number of instances that only an earlier task knows, `runtime_parameters` can be that task's output; for one
    Airflow task for each instance, map the operator over it, with a list of one element for each.

    :param job_id: id of the job template (templated)
    :param job_name: exact name of the job template, instead of its id (templated)
    :param runtime_parameters: a list with an element for each instance: the values that replace the template's of the
        same names; or a text holding such a list (templated)
    :param number_of_instances: start so many instances with the template's values, instead (templated)
    :param instance_name: instances are named ``<instance_name> - <suffix>``; default is the name of the template
        (templated)
    :param description: description of the instances; default is that of the template (templated)
    :param suffix: ``COUNTER`` (1, 2, ...), ``TIME_STAMP`` (time of the start, the same for all) or ``PARAM_VALUE``
        (templated)
    :param suffix_parameter: the runtime parameter whose value is the suffix; only with ``PARAM_VALUE`` (templated)
    :param job_tags: tags of the instances, without organization; default is those of the template (templated)
    :param attach_to_template: instances follow changes of the template, cannot be edited or exported, and are deleted
        with it (templated)
    :param delete_after_completion: delete the instances afterwards. With `wait_for_completion`, this task deletes those
        that succeeded once it has their outcome and metrics, and keeps the others to be looked into; without, and
        with ``wait_for="active"``, Control Hub itself deletes each when its run is over, whatever it came to. One that
        is gone before it was seen active fails the task (templated)
    :param inherit_permissions: give the instances the permissions of the template (templated)
    :param on_failure: what happens to the other instances when one has failed: ``stop_others`` stops them at once,
        ``wait_others`` lets them go on; the task fails when all have ended (templated)
    :param wait_for_completion: wait until all runs have ended; otherwise return as soon as they are started (templated)
    :param wait_for: wait for the ``completion`` (default) of the runs, or until they are ``active``: ``ACTIVE`` and
        ``GREEN``, with all pipelines that engines report running. They are then left running, and a run that has
        succeeded before it was seen active will do, too (templated)
    :param fail_on_red_after: seconds, or timedelta, for which a run may be ``RED`` without interruption, as when an
        engine refuses to start it; one that is for longer has failed, which is noticed at the next poll, and is
        stopped, also if another try of the task is to come. With ``on_error="leave"`` it is left, and the next try
        waits for it again. While deferred, a triggerer that is restarted counts anew. None, the default, sets no limit
        (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between two looks at the runs; default 30 (templated)
    :param timeout: seconds, or timedelta, after which the task fails; None waits as long as they take (templated)
    :param on_timeout: what happens to the runs when `timeout` or Airflow's ``execution_timeout`` is over: ``stop`` or
        ``leave`` (templated)
    :param on_error: what happens to them when the task fails for a reason of its own, such as a refused credential:
        ``stop`` or ``leave``. If another try of the task is to come, they go on in any case, and it waits for them
        (templated)
    :param stop_on_kill: stop the runs when the task is killed; when deferred, with Airflow 3.3 and later
    :param force_stop_after: seconds, or timedelta, after which the stop of a run that has not ended is forced; its last
        offset may then be lost. 0 forces it at once; by default that is left to the force stop time-outs of the jobs
        (templated)
    :param accept_stopped: count runs that were stopped as successes (templated)
    :param metrics_wait: seconds, or timedelta, to wait for final metrics after the end of a run, at the most; by
        default the template's statistics interval and 15 seconds, 2 minutes at the most (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``template_id``, ``template_name``, ``instances`` (for each what
        :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator` returns, in the order of
        `runtime_parameters` as far as these tell them apart) and ``metrics`` (the sums of ``input_count``,
        ``output_count``, ``error_count``, ``stage_errors_count`` and ``total_error_count`` over the instances that
        have metrics; None for one that Control Hub does not have of one of these)
    :raises ControlHubConfigurationError: if instances cannot be started as it is asked for; nothing was started
    :raises ControlHubBulkError: if Control Hub has started fewer instances than asked for; those are stopped
    :raises ControlHubRunFailedError: if runs did not succeed; the message names the instances
    :raises ControlHubRunTimeoutError: if they took longer than `timeout`
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_id`` (of the template), ``job_ids`` and ``run_counts`` (by job id) of the
    instances, ``streamsets_job_link`` (of the template, or of the instance if there is only one); and when runs did not
    succeed, ``results`` (as ``instances`` above).
    """

    template_fields: Sequence[str] = (
        "job_id",
        "job_name",
        *StartsManyRuns.template_fields,
        "runtime_parameters",
        "number_of_instances",
        "instance_name",
        "description",
        "suffix",
        "suffix_parameter",
        "job_tags",
        "attach_to_template",
        "delete_after_completion",
        "inherit_permissions",
        "on_failure",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"runtime_parameters": "json"}

    def __init__(
        self,
        *,
        runtime_parameters: Sequence[Mapping[str, Any]] | str | None = None,
        number_of_instances: int | str | None = None,
        instance_name: str | None = None,
        description: str | None = None,
        suffix: Literal["COUNTER", "TIME_STAMP", "PARAM_VALUE"] | str = "COUNTER",
        suffix_parameter: str | None = None,
        job_tags: Sequence[str] | str | None = None,
        attach_to_template: bool | str = True,
        delete_after_completion: bool | str = False,
        inherit_permissions: bool | str = False,
        on_failure: Literal["stop_others", "wait_others"] | str = "wait_others",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.runtime_parameters = runtime_parameters
        self.number_of_instances = number_of_instances
        self.instance_name = instance_name
        self.description = description
        self.suffix = suffix
        self.suffix_parameter = suffix_parameter
        self.job_tags = job_tags
        self.attach_to_template = attach_to_template
        self.delete_after_completion = delete_after_completion
        self.inherit_permissions = inherit_permissions
        self.on_failure = on_failure
        self._template: Job | None = None
        self._intent: TemplateStart | None = None
        self._check(rendered=False)

    def _check(self, *, rendered: bool) -> None:
        parameters.exactly_one(runtime_parameters=self.runtime_parameters, number_of_instances=self.number_of_instances)
        parameters.json_objects(self.runtime_parameters, "runtime_parameters", rendered=rendered)
        parameters.whole_number(self.number_of_instances, "number_of_instances", rendered=rendered)
        parameters.text(self.instance_name, "instance_name", rendered=rendered)
        parameters.text(self.description, "description", rendered=rendered, empty=True)
        parameters.text(self.suffix_parameter, "suffix_parameter", rendered=rendered)
        parameters.choice(self.suffix, "suffix", _SUFFIXES, rendered=rendered)
        parameters.texts(self.job_tags, "job_tags", rendered=rendered)
        parameters.flag(self.attach_to_template, "attach_to_template", rendered=rendered)
        parameters.flag(self.delete_after_completion, "delete_after_completion", rendered=rendered)
        parameters.flag(self.inherit_permissions, "inherit_permissions", rendered=rendered)
        parameters.choice(self.on_failure, "on_failure", _ON_FAILURE, rendered=rendered)
        if self.suffix in _SUFFIXES and (self.suffix == "PARAM_VALUE") != (self.suffix_parameter is not None):
            raise ValueError("Give 'suffix_parameter' with suffix='PARAM_VALUE', and only then.")

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the instances, and wait for their runs; go on with those that an earlier try has started."""
        with self.answering_for_runs(context):
            wait = self.begin()
            self._check(rendered=True)
            template = self._template = self.find_job(context, templates=True)
            delivered = self.record(context).values.get("result")
            if isinstance(delivered, dict) and self.record(context).superseded is None:
                self.log.info("An earlier try of this task has finished this; returning what it found.")
                return delivered
            instances = self._instances_of_earlier_try(context, template, wait) or self._start(context, template, wait)
            return self._wait_for_instances(context, template, instances, wait)

    def _wait_for_instances(
        self, context: Context, template: Job, instances: Sequence[Job], wait: bool
    ) -> dict[str, Any]:
        from airflow_provider_streamsets.control_hub.groups import RunReference, unfinished_result
        from airflow_provider_streamsets.control_hub.models import RunIdentity

        job_ids = [instance.job_id for instance in instances]
        # An instance has run once; one whose first run does not show yet is about to.
        runs = [
            RunReference(job.job_id, max(job.last_run_count, 1), job.name, RunIdentity.of(job.current_run))
            for job in instances
        ]
        seen = {job.job_id: job.current_run for job in instances}
        self.note_started(context, {run.job_id: run.run_count for run in runs}, seen)
        self.end_if_killed("while it started instances")
        context["ti"].xcom_push(key="job_ids", value=job_ids)
        if len(job_ids) == 1:
            ControlHubJobLink.persist(context, self.client.job_url(job_ids[0]))
        context["ti"].xcom_push(key="run_counts", value=dict(self._started))
        if wait and not self.are_left_running(context):
            result: dict[str, Any] = self.wait_for_runs(
                context, runs, [template], until_failure=self.on_failure == "stop_others"
            )
            return result
        self.record(context).close()
        return self._result(
            template.job_id,
            template.name,
            [unfinished_result(job.job_id, job.name, job.current_run) for job in instances],
        )

    def _values(self) -> list[Mapping[str, Any]]:
        values = parameters.json_objects(self.runtime_parameters, "runtime_parameters", rendered=True)
        if values is None:
            values = [{}] * parameters.whole_number(self.number_of_instances, "number_of_instances", rendered=True)
        return list(values)

    def _instances_of_earlier_try(self, context: Context, template: Job, wait: bool) -> list[Job]:
        """Return the instances that an earlier try has started, if they are to be gone on with."""
        from airflow_provider_streamsets.control_hub import ControlHubError, ControlHubUnavailableError
        from airflow_provider_streamsets.control_hub.templates import TemplateStart

        record = self.record(context)
        written = record.values.get("template_start")
        if not isinstance(written, dict):
            return []
        intent = TemplateStart(**written)
        templates = self.client.templates
        started = self._started_before(context)
        instances: list[Job] = []
        if started:
            instances = templates.read_instances(template, list(started))
        elif intent.template_id == template.job_id:
            try:
                instances = templates.instances_of(template, intent, self._values())
            except ControlHubError as error:
                if record.superseded is None:
                    raise
                self.log.warning("%s", error)
        self.log.info(
            "An earlier try of this task has asked for instances of job template %s; there are %d.",
            intent.template_id,
            len(instances),
        )
        superseded = record.superseded
        if superseded is None and intent.template_id != template.job_id:
            superseded = f"the task is now for job template {template.label}"
        if superseded is not None:
            self.log.info("They are not gone on with: %s.", superseded)
            going_on = {
                job.job_id: max(job.last_run_count, 1)
                for job in instances
                if job.current_run is None or not job.current_run.has_ended
            }
            if going_on and not self.stop_started(going_on, superseded):
                raise ControlHubUnavailableError(
                    "The instances that an earlier try has started could not be stopped, so no others are started."
                )
            return []
        ended = [job.current_run for job in instances if job.current_run and job.current_run.has_ended]
        if not wait or not instances or self.are_left_running(context):
            return instances
        if len(ended) == len(instances) and not all(self._has_done_its_work(run, record) for run in ended):
            self.log.info("Their runs have ended, and not all have succeeded, so new instances are started.")
            return []
        if any(job.current_run and was_stopped_by_task(self.client, job.current_run, record) for job in instances):
            self.log.info("They were stopped for this task, so new instances are started.")
            return []
        return instances

    def _has_done_its_work(self, run: JobRun, record: TaskRecord) -> bool:
        return has_done_its_work(self.client, run, record, accept_stopped=self.accepts_stopped)

    def runs_to_stop_on_kill(self) -> Mapping[str, int]:
        """Return the runs that this task has started, or is about to start."""
        return super().runs_to_stop_on_kill() or self._runs_of_unanswered_start()

    def _runs_of_unanswered_start(self) -> dict[str, int]:
        from airflow_provider_streamsets.control_hub import ControlHubError

        if self._intent is None or self._template is None:
            return {}
        try:
            instances = self.hasty_client().templates.instances_of(self._template, self._intent, self._values())
        except ControlHubError as error:
            self.log.warning("%s", error)
            return {}
        return {job.job_id: max(job.last_run_count, 1) for job in instances}

    def _start(self, context: Context, template: Job, wait: bool) -> list[Job]:
        from airflow_provider_streamsets.control_hub import ControlHubBulkError, ControlHubError
        from airflow_provider_streamsets.control_hub.errors import may_have_been_executed

        record = self.record(context)

        def announce(intent: TemplateStart) -> None:
            record.write(template_start=asdict(intent))
            self._intent = intent
            self.end_if_killed("before it had started instances")

        self.end_if_killed("before it had started instances")
        try:
            instances = self.client.templates.start(
                template,
                self._values(),
                name=parameters.text(self.instance_name, "instance_name", rendered=True),
                description=parameters.text(self.description, "description", rendered=True, empty=True),
                suffix=parameters.choice(self.suffix, "suffix", _SUFFIXES, rendered=True),
                suffix_parameter=parameters.text(self.suffix_parameter, "suffix_parameter", rendered=True),
                tags=parameters.texts(self.job_tags, "job_tags", rendered=True),
                attach_to_template=parameters.flag(self.attach_to_template, "attach_to_template", rendered=True),
                # What the run of an instance that Control Hub deletes came to could not be found out.
                delete_after_completion=self._deletes and (not wait or self.waits_until_active),
                inherit_permissions=parameters.flag(self.inherit_permissions, "inherit_permissions", rendered=True),
                announce=announce,
            )
        except ControlHubBulkError as error:
            self.give_up_runs(context, error.done, "not all instances were started")
            raise
        except ControlHubError as error:
            if not may_have_been_executed(error):
                record.forget()
            raise
        for instance in instances:
            self.log.info("Started instance %s.", instance.label)
        return instances

    @property
    def _deletes(self) -> bool:
        return bool(parameters.flag(self.delete_after_completion, "delete_after_completion", rendered=True))

    def on_first_failure(self, group: RunGroup) -> bool:
        """Stop the other instances."""
        for failure in group.failures.values():
            self.log.error(failure)
        unfinished = group.unfinished
        group.stopped.update(unfinished)
        return self.stop_started(unfinished, "another instance has failed")

    def deliver_all(self, context: Context, group: RunGroup) -> dict[str, Any]:
        """Return the results of the instances, or fail naming those that did not succeed."""
        from airflow_provider_streamsets.control_hub import ControlHubError, Outcome

        succeeded = [r.job_id for r in group.reports.values() if r.outcome is Outcome.SUCCEEDED]
        try:
            results = self.results_or_failure(context, group, accept_stopped=self.accepts_stopped)
        except ControlHubError:
            if self._deletes:
                self._delete(succeeded)
            raise
        result = self._result(*self._id_and_name_of_template(), results)
        if self._deletes:
            # What a later try could not read any more.
            self.record(context).add(result=result)
            self._delete(succeeded)
        self.close_record(context)
        return result

    def _id_and_name_of_template(self) -> tuple[str, str]:
        from airflow_provider_streamsets.control_hub import ControlHubError

        try:
            template = self._template or self.resolve_job(templates=True)
        except ControlHubError as error:
            # The runs have succeeded; that the template is gone or cannot be read is no reason to fail.
            self.log.warning("%s", error)
            return self.job_id or "", self.job_name or ""
        return template.job_id, template.name

    def _delete(self, job_ids: list[str]) -> None:
        from airflow_provider_streamsets.control_hub import ControlHubError

        try:
            deleted = self.client.jobs.delete(job_ids)
        except ControlHubError as error:
            self.log.warning("Instances could not be deleted: %s", error)
        else:
            self.log.info("Deleted %d instances that succeeded.", len(deleted))

    @staticmethod
    def _result(template_id: str, template_name: str, results: list[dict[str, Any]]) -> dict[str, Any]:
        from airflow_provider_streamsets.control_hub.groups import summed_metrics

        return {
            "template_id": template_id,
            "template_name": template_name,
            "instances": results,
            "metrics": summed_metrics(results),
        }
