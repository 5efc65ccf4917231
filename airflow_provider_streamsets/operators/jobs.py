"""Operators that create, update, upgrade, duplicate and list jobs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_streamsets import params
from airflow_provider_streamsets.control_hub import models
from airflow_provider_streamsets.control_hub.choices import COLORS, EXECUTOR_TYPES, IF_EXISTS, STATUSES
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAmbiguousNameError,
    ControlHubError,
    ControlHubUnexpectedResponseError,
    may_have_executed,
)
from airflow_provider_streamsets.control_hub.submission import CreateIntent
from airflow_provider_streamsets.job_selector import find_job, find_jobs
from airflow_provider_streamsets.operators._task_state import TaskState
from airflow_provider_streamsets.operators.base import (
    ControlHubJobOperator,
    ControlHubJobsOperator,
    ControlHubOperator,
)
from airflow_provider_streamsets.operators.job_settings import ControlHubJobSettingsOperator
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job, PipelineVersion

_RESULTS = ("ids", "summaries")


class ControlHubCreateJobOperator(ControlHubJobSettingsOperator):
    """
    Create a Control Hub job, or a job template, from a published pipeline version.

    .. code-block:: python

        ControlHubCreateJobOperator(
            task_id="create_job",
            job_name="Orders of {{ (dag_run.logical_date or dag_run.run_after) | ds }}",
            pipeline_name="Orders to warehouse",
            runtime_parameters={"DAY": "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"},
            engine_labels=["prod"],
            if_exists="update",
        )

    **Retries.** Job names are not unique in Control Hub, and a try can fail after it has created the job, for example
    when its worker is lost. The task therefore saves its intent in Airflow's task state store (before Airflow 3.3, in
    an Airflow variable). The next try reuses the job that the same user created with that name at that time, regardless
    of `if_exists`. Clearing the task discards the intent.

    :param job_name: name of the job (templated)
    :param pipeline_id: id of the pipeline (templated)
    :param pipeline_name: exact name of the pipeline, instead of its id (templated)
    :param pipeline_version: number of the pipeline version, for example ``3``, or ``latest`` (default), the newest
        published one (templated)
    :param pipeline_commit_id: commit id of the version, instead of `pipeline_version` (templated)
    :param pipeline_tag: tag of the version, instead of `pipeline_version` (templated)
    :param description: free text (templated)
    :param engine_labels: labels, all of which an engine must have to run the job: a list of strings, or a string with a
        list; default ``["all"]`` (templated)
    :param job_tags: tags without organization, for example ``nightly/orders``: a list of strings, or a string with a
        list (templated)
    :param runtime_parameters: values of the pipeline's parameters: a dict, or a string with a JSON object (templated)
    :param strict_parameters: fail before any change if the pipeline does not define one of the runtime parameters; by
        default, log a warning. If the pipeline's parameters cannot be read, the check is skipped (templated)
    :param number_of_instances: pipeline instances, default 1; -1 means one on each matching engine (templated)
    :param failover: restart a pipeline on another engine when its engine is lost (templated)
    :param failover_retries: failover retries over all engines; -1 means unlimited (templated)
    :param failover_retries_per_engine: failover retries on each engine; -1 means unlimited (templated)
    :param needs_acknowledgement: whether an error must be acknowledged before the next run (templated)
    :param statistics_interval: seconds or timedelta between two saves of metrics; default 60 (templated)
    :param force_stop_after: seconds or timedelta for which Control Hub waits for engines to confirm a stop; default 120
        (templated)
    :param template: create a job template, from which instances are started (templated)
    :param static_parameters: names of parameters that instances of the job template cannot override: a list of strings,
        or a string with a list (templated)
    :param time_series: keep metrics as time series (templated)
    :param if_exists: what to do if a job (or job template) of that name exists: ``fail``, ``skip`` (return it
        unchanged) or ``update`` (apply these settings and this pipeline version) (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: id of the job
    :raises ControlHubExistsError: if a job of that name exists and `if_exists` is ``fail``
    :raises ControlHubNotFoundError: if the pipeline or version does not exist; the message lists the existing versions
    :raises ControlHubAmbiguousNameError: if several pipelines or jobs have the name
    :raises ControlHubJobStateError: if the existing job is active and therefore cannot be updated
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: ``job_id``, ``streamsets_job_link``.
    """

    job_name = Parameter(params.string, first=True)
    pipeline_id = Parameter(params.resource_id, first=True)
    pipeline_name = Parameter(first=True)
    template = Parameter(params.boolean)
    if_exists = Parameter(params.one_of, IF_EXISTS)

    def __init__(
        self,
        *,
        job_name: str,
        pipeline_id: str | None = None,
        pipeline_name: str | None = None,
        template: bool | str = False,
        if_exists: Literal["fail", "skip", "update"] | str = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        params.exactly_one(pipeline_id=pipeline_id, pipeline_name=pipeline_name)
        self.job_name = job_name
        self.pipeline_id = pipeline_id
        self.pipeline_name = pipeline_name
        self.template = template
        self.if_exists = if_exists

    def execute(self, context: Context) -> str:
        """Create the job."""
        params.exactly_one(pipeline_id=self.pipeline_id, pipeline_name=self.pipeline_name)
        self.check_parameters()
        template, if_exists = self.rendered.template, self.rendered.if_exists
        settings = self.job_settings(self.rendered.job_name)
        version_selector = self.version_selector()

        state = TaskState(context)
        job = self._created_by_previous_try(state, str(settings.name), template)
        # An existing job is returned as it is, even if the pipeline no longer exists.
        if job is None and if_exists == "skip":
            job = self._existing(str(settings.name), template)
        if job is None:
            pipelines = self.client.pipelines
            if self.pipeline_id is not None:
                pipeline_id = self.rendered.pipeline_id
            else:
                pipeline_id = pipelines.find_by_name(str(self.pipeline_name)).pipeline_id
            pipeline = pipelines.version(pipeline_id, **version_selector)
            self.check_settings(settings, f"'{settings.name}'", pipeline.commit_id)
            job = self._create(state, settings, pipeline, template, if_exists)
        self.push_job(context, job.job_id)
        self.log.info("Job %s: uses version %s of pipeline '%s'.", job.label, job.pipeline_version, job.pipeline_name)
        self.log.info("Job page: %s", self.client.job_url(job.job_id))
        state.complete()
        return job.job_id

    def _created_by_previous_try(self, state: TaskState, name: str, template: bool) -> Job | None:
        """Return the job that a previous try of this task created; None if there is none, or it is not to be reused."""
        stored = state.values.get("creation")
        if not isinstance(stored, dict):
            return None
        intent = CreateIntent(**stored)
        if intent.name != name:
            return None
        try:
            job = self.client.jobs.find_created(intent, template=template, wait=True)
        except ControlHubAmbiguousNameError:
            if state.abandon_reason is None:
                raise
            return None
        if state.abandon_reason is not None:
            # After a clear, nothing is reused; the previous try's request can no longer be executed.
            return None
        if job is None:
            self.log.info("Job '%s': a previous try was about to create it, but it does not exist.", intent.name)
        else:
            self.log.info("Job %s: created by a previous try of this task; reusing it.", job.label)
        return job

    def _create(
        self, state: TaskState, settings: models.JobSettings, pipeline: PipelineVersion, template: bool, if_exists: Any
    ) -> Job:

        try:
            return self.client.jobs.create(
                settings,
                pipeline,
                template=template,
                if_exists=if_exists,
                on_submit=lambda intent: state.write(creation=asdict(intent)),
            )
        except ControlHubError as error:
            if not may_have_executed(error):
                state.clear()
            raise

    def _existing(self, name: str, template: bool) -> Job | None:
        jobs = list(self.client.jobs.list(name=name, templates=template))
        if len(jobs) != 1:
            return None
        job = jobs[0]
        self.log.info("Job %s: exists already; leaving it unchanged.", job.label)
        other_pipeline = job.pipeline_name != self.pipeline_name if self.pipeline_name is not None else False
        number = self.rendered.pipeline_version
        if other_pipeline or number not in (None, "latest", job.pipeline_version):
            self.log.warning(
                "Job %s: uses version %s of pipeline '%s', not the requested one. Set if_exists='update' to change it.",
                job.label,
                job.pipeline_version,
                job.pipeline_name,
            )
        return job


class ControlHubUpdateJobOperator(ControlHubJobSettingsOperator, ControlHubJobOperator):
    """
    Update individual settings or the pipeline version of a Control Hub job.

    Only inactive jobs can be updated. Updating a job template restarts the running instances that are attached to it;
    attached instances cannot be updated.

    .. code-block:: python

        ControlHubUpdateJobOperator(
            task_id="use_released_version",
            job_name="Orders to warehouse",
            pipeline_tag="released",
            runtime_parameters={"BATCH_SIZE": "5000"},
        )

    **Concurrent changes.** Control Hub has no conditional update. The task reads the job again immediately before the
    update and fails if another user has changed it in between; with `unchanged_since`, also if the job has changed
    since an earlier task read it. The job then stays unchanged.

    :param job_id: id of the job or job template (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param template: whether `job_name` names a job template (templated)
    :param pipeline_version: number of the new pipeline version, for example ``3``, or ``latest`` (templated)
    :param pipeline_commit_id: commit id of the version, instead of `pipeline_version` (templated)
    :param pipeline_tag: tag of the version, instead of `pipeline_version` (templated)
    :param new_name: new name of the job (templated)
    :param description: free text (templated)
    :param engine_labels: labels, all of which an engine must have to run the job: a list of strings, or a string with a
        list (templated)
    :param job_tags: tags without organization, for example ``nightly/orders``, replacing the current ones: a list of
        strings, or a string with a list (templated)
    :param runtime_parameters: values of the pipeline's parameters, replacing the current ones: a dict, or a string with
        a JSON object (templated)
    :param strict_parameters: fail before any change if the pipeline does not define one of the runtime parameters; by
        default, log a warning. If the pipeline's parameters cannot be read, the check is skipped (templated)
    :param number_of_instances: pipeline instances; -1 means one on each matching engine (templated)
    :param failover: restart a pipeline on another engine when its engine is lost (templated)
    :param failover_retries: failover retries over all engines; -1 means unlimited (templated)
    :param failover_retries_per_engine: failover retries on each engine; -1 means unlimited (templated)
    :param needs_acknowledgement: whether an error must be acknowledged before the next run (templated)
    :param statistics_interval: seconds or timedelta between two saves of metrics (templated)
    :param force_stop_after: seconds or timedelta for which Control Hub waits for engines to confirm a stop (templated)
    :param static_parameters: names of parameters that instances of the job template cannot override: a list of strings,
        or a string with a list (templated)
    :param time_series: keep metrics as time series (templated)
    :param unchanged_since: ``last_modified`` of the job as read by an earlier task: an ISO 8601 string or a datetime
        (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``job_name``, ``changed`` (names of the changed settings: ``name``, ``description``,
        ``engine_labels``, ``tags``, ``runtime_parameters``, ..., ``pipeline_version``; empty if nothing changed),
        ``pipeline_version``, ``last_modified`` (ISO 8601)
    :raises ControlHubConflictError: if another user has changed the job; nothing is sent
    :raises ControlHubJobStateError: if the job cannot be updated in its current state; nothing is sent
    :raises ControlHubNotFoundError: if the job or version does not exist; the message lists the existing versions
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``streamsets_job_link``.
    """

    result_is_dict = True
    template = Parameter(params.boolean, first=True)
    new_name = Parameter(params.string, first=True)
    unchanged_since = Parameter(params.timestamp)

    def __init__(
        self,
        *,
        template: bool | str = False,
        new_name: str | None = None,
        unchanged_since: str | datetime | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.template = template
        self.new_name = new_name
        self.unchanged_since = unchanged_since
        if new_name is None and not self.has_version and not self.has_settings:
            raise ValueError("At least one job setting, a pipeline version or 'new_name' is required, got none.")
        _check_template_flag(self, template, kwargs.get("default_args"))

    def execute(self, context: Context) -> dict[str, Any]:
        """Change the job."""
        settings = self.job_settings(self.rendered.new_name)
        version_selector = self.version_selector()
        unchanged_since = self.rendered.unchanged_since

        before = find_job(self, context, templates=self.rendered.template)
        pipeline = self._resolve_version(before, version_selector) if self.has_version else None
        commit_id, known = before.pipeline_commit_id, before.runtime_parameters
        self.check_settings(settings, before.label, *((pipeline.commit_id, ()) if pipeline else (commit_id, known)))
        after = self.client.jobs.update(
            before.job_id,
            settings,
            pipeline=pipeline,
            unchanged_since=before.last_modified if unchanged_since is None else unchanged_since,
        )
        changed = [name for name in settings.specified if getattr(before, name) != getattr(after, name)]
        if before.pipeline_commit_id != after.pipeline_commit_id:
            changed.append("pipeline_version")
        if changed:
            self.log.info("Job %s: updated %s.", after.label, ", ".join(changed))
        else:
            self.log.info("Job %s: already up to date.", after.label)
        return {
            "job_id": after.job_id,
            "job_name": after.name,
            "changed": changed,
            "pipeline_version": after.pipeline_version,
            "last_modified": after.last_modified.to_iso8601_string() if after.last_modified else None,
        }

    def _resolve_version(self, job: Job, version_selector: dict[str, Any]) -> PipelineVersion:

        if job.pipeline_id is None:
            raise ControlHubUnexpectedResponseError(
                f"Cannot update job {job.label}: Control Hub's response does not name its pipeline."
            )
        return self.client.pipelines.version(job.pipeline_id, **version_selector)


class ControlHubUpgradeJobsOperator(ControlHubJobsOperator):
    """
    Upgrade Control Hub jobs to the newest published versions of their pipelines, with one request for many jobs.

    Control Hub restarts the pipelines of active jobs. The upgrade is idempotent.

    .. code-block:: python

        ControlHubUpgradeJobsOperator(task_id="upgrade_nightly_jobs", job_tag="nightly/orders")

    :param job_ids: ids of the jobs and job templates: a list of strings, or a string with a JSON list (templated)
    :param job_names: exact names of the jobs: a list of strings, or a string with a JSON list (templated)
    :param job_tag: tag of the jobs without organization, for example ``nightly/orders`` (templated)
    :param search: Control Hub search expression that selects the jobs, for example ``name=="orders*" and
        status=="INACTIVE"`` (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``job_name``, ``version_before``, ``version_after`` and ``upgraded`` (false if it was already
        on the newest version) of each job; an empty list if no job matches the tag or search
    :raises ControlHubNotFoundError: if a job given by id or name does not exist; nothing is upgraded
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: ``job_ids``, ``streamsets_job_link`` (first job).
    """

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Upgrade the jobs."""
        jobs = find_jobs(self, context)
        upgrades = self.client.jobs.upgrade(jobs)
        for upgrade in upgrades:
            if upgrade.upgraded:
                self.log.info(
                    "Job '%s' (%s): upgraded from version %s to %s.",
                    upgrade.name,
                    upgrade.job_id,
                    upgrade.version_before,
                    upgrade.version_after,
                )
            else:
                self.log.info(
                    "Job '%s' (%s): already on the newest version %s.",
                    upgrade.name,
                    upgrade.job_id,
                    upgrade.version_after,
                )
        return [
            {
                "job_id": upgrade.job_id,
                "job_name": upgrade.name,
                "version_before": upgrade.version_before,
                "version_after": upgrade.version_after,
                "upgraded": upgrade.upgraded,
            }
            for upgrade in upgrades
        ]


class ControlHubDuplicateJobOperator(ControlHubJobOperator):
    """
    Duplicate a Control Hub job or job template. The copies have no run history.

    .. code-block:: python

        ControlHubDuplicateJobOperator(
            task_id="copy_job",
            job_name="Orders to warehouse",
            name="Orders of region ",
            number_of_copies=3,
        )

    **Retries.** The copies are created with a temporary name that is unique to the task instance, and renamed after
    their ids are saved in Airflow's task state store (before Airflow 3.3, in an Airflow variable). A retry reuses the
    copies of the previous try. If the request of the previous try got no response, the retry waits for its copies until
    the connection's ``gateway_timeout`` has passed; surplus copies of a request that was executed even later are
    deleted. Clearing a successful task creates new copies.

    :param job_id: id of the job or job template (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param template: whether `job_name` names a job template (templated)
    :param number_of_copies: number of copies (templated)
    :param name: name of the copy; several copies get this name followed by 1, 2, ...; default ``<name of the job>
        copy`` (templated)
    :param description: description of the copies (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the copies, in the order of their numbers
    :raises ControlHubNotFoundError: if the job does not exist
    :raises ControlHubUnexpectedResponseError: if some of the copies do not appear; the message lists those that do
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: ``job_id`` (original job), ``job_ids`` (copies), ``streamsets_job_link`` (first
    copy).
    """

    template = Parameter(params.boolean)
    number_of_copies = Parameter(params.integer)
    name = Parameter(params.string)
    description = Parameter(params.string, empty=True)

    def __init__(
        self,
        *,
        template: bool | str = False,
        number_of_copies: int | str = 1,
        name: str | None = None,
        description: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.template = template
        _check_template_flag(self, template, kwargs.get("default_args"))
        self.number_of_copies = number_of_copies
        self.name = name
        self.description = description

    def execute(self, context: Context) -> list[str]:
        """Duplicate the job, or reuse the copies of a previous try."""
        job = find_job(self, context, templates=self.rendered.template)
        state = TaskState(context)
        existing_ids = state.values.get("copies") if state.abandon_reason is None else None
        # Also after a clear: the request of the previous try may still be executed.
        submitted = state.values.get("duplication")
        copies = self.client.jobs.duplicate(
            job,
            number_of_copies=self.rendered.number_of_copies,
            name=self.rendered.name,
            description=self.rendered.description,
            idempotency_key=_idempotency_key(context),
            existing_ids=existing_ids if isinstance(existing_ids, list) else (),
            on_created=lambda job_ids: state.write(copies=job_ids),
            submitted=CreateIntent(**submitted) if isinstance(submitted, dict) else None,
            on_submit=lambda intent: state.write(duplication=asdict(intent)) if intent else state.clear(),
        )
        state.complete()
        for copy in copies:
            self.log.info("Job %s: created copy %s.", job.label, copy.label)
        copy_ids = [copy.job_id for copy in copies]
        self.push_jobs(context, copy_ids)
        return copy_ids


class ControlHubListJobsOperator(ControlHubOperator):
    """
    List the Control Hub jobs that match all filters, oldest first, for example for dynamic task mapping.

    .. code-block:: python

        failed = ControlHubListJobsOperator(task_id="list_failed_jobs", job_tag="nightly/orders", color="RED")
        ControlHubRunJobOperator.partial(task_id="run_again").expand(job_id=failed.output)

    :param name: exact name (templated)
    :param name_starts_with: prefix of the name, instead of `name` (templated)
    :param status: status of the latest run, for example ``ACTIVE``; a job that has never run counts as
        ``INACTIVE`` (templated)
    :param color: color of the latest run: ``GRAY``, ``GREEN`` or ``RED``; a job that has never run counts as ``GRAY``
        (templated)
    :param job_tag: tag without organization, for example ``nightly/orders`` (templated)
    :param engine_label: one of the job's engine labels (templated)
    :param executor_type: ``COLLECTOR``, ``TRANSFORMER``, ``EDGE`` or ``SNOWPARK`` (templated)
    :param pipeline_version: number of the pipeline version, for example ``3`` (templated)
    :param search: Control Hub search expression, for example ``name=="orders*" and tag=="nightly"`` (templated)
    :param templates: list job templates instead of jobs (templated)
    :param template_id: id of a job template, to list only its instances (templated)
    :param limit: maximum number of jobs; further pages are not requested (templated)
    :param result: what to return: ``ids`` or ``summaries`` (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: a list of job ids or summaries. Fields of a summary: ``job_id``, ``job_name``, ``status`` and ``color``
        (None if it has never run), ``run_count`` (0 then), ``start_time`` and ``finish_time`` of its latest run (ISO
        8601; None if there is none), ``pipeline_version``, ``tags``, ``engine_labels``, ``template_id``,
        ``last_modified`` (ISO 8601)
    :raises ControlHubError: on any API or connection error

    XCom keys besides ``return_value``: ``job_ids`` (only with ``result="summaries"``), ``streamsets_job_link`` (first
    job).
    """

    name = Parameter(params.string, first=True)
    name_starts_with = Parameter(params.string, first=True)
    status = Parameter(params.one_of, STATUSES, optional=True, first=True)
    color = Parameter(params.one_of, COLORS, optional=True, first=True)
    job_tag = Parameter(params.string, first=True)
    engine_label = Parameter(params.string, first=True)
    executor_type = Parameter(params.one_of, EXECUTOR_TYPES, optional=True, first=True)
    pipeline_version = Parameter(params.version, first=True)
    search = Parameter(params.string, first=True)
    templates = Parameter(params.boolean, first=True)
    template_id = Parameter(params.resource_id, first=True)
    limit = Parameter(params.integer, first=True)
    result = Parameter(params.one_of, _RESULTS, first=True)

    def __init__(
        self,
        *,
        name: str | None = None,
        name_starts_with: str | None = None,
        status: str | None = None,
        color: str | None = None,
        job_tag: str | None = None,
        engine_label: str | None = None,
        executor_type: str | None = None,
        pipeline_version: str | int | None = None,
        search: str | None = None,
        templates: bool | str = False,
        template_id: str | None = None,
        limit: int | str | None = None,
        result: Literal["ids", "summaries"] | str = "ids",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.name_starts_with = name_starts_with
        self.status = status
        self.color = color
        self.job_tag = job_tag
        self.engine_label = engine_label
        self.executor_type = executor_type
        self.pipeline_version = pipeline_version
        self.search = search
        self.templates = templates
        self.template_id = template_id
        self.limit = limit
        self.result = result
        params.at_most_one(name=name, name_starts_with=name_starts_with)

    def execute(self, context: Context) -> list[str] | list[dict[str, Any]]:
        """List the jobs."""
        params.at_most_one(name=self.name, name_starts_with=self.name_starts_with)
        self.check_parameters()
        rendered = self.rendered
        limit = rendered.limit
        found = self.client.jobs.list(
            name=rendered.name,
            name_starts_with=rendered.name_starts_with,
            status=rendered.status,
            color=rendered.color,
            tag=rendered.job_tag,
            engine_label=rendered.engine_label,
            executor_type=rendered.executor_type,
            pipeline_version=rendered.pipeline_version,
            search=rendered.search,
            templates=rendered.templates,
            template_id=rendered.template_id,
        )
        jobs = list(islice(found, limit))
        self.log.info("Found %d jobs%s.", len(jobs), " (limit reached)" if len(jobs) == limit else "")
        job_ids = [job.job_id for job in jobs]
        if rendered.result == "ids":
            # The return value contains the ids already.
            self.push_links(context, job_ids)
            return job_ids
        self.push_jobs(context, job_ids)
        return [job.summary() for job in jobs]


def _check_template_flag(task: ControlHubJobOperator, template: Any, default_args: Mapping[str, Any] | None) -> None:
    if task.job_name is None and params.boolean(template, "template") is True:
        params.no_effect("'job_name'", task, default_args, template=template)


def _idempotency_key(context: Context) -> str:
    """Return a short key that is the same in each try of a task instance, and unique to it."""
    ti = context["ti"]
    identity = (ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index))
    return hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
