"""Operators that create, change, upgrade, duplicate and list jobs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_streamsets import params
from airflow_provider_streamsets.operators._task_state import TaskState
from airflow_provider_streamsets.operators.base import (
    ControlHubJobOperator,
    ControlHubJobsOperator,
    ControlHubOperator,
)
from airflow_provider_streamsets.operators.job_settings import ControlHubJobSettingsOperator

if TYPE_CHECKING:
    import pendulum
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job, JobSettings, PipelineVersion

IF_EXISTS = ("fail", "skip", "update")
RESULTS = ("ids", "summaries")
COLORS = ("GRAY", "GREEN", "RED")
STATUSES = ("INACTIVE", "ACTIVATING", "ACTIVE", "DEACTIVATING", "ACTIVATION_ERROR", "INACTIVE_ERROR")
EXECUTOR_TYPES = ("COLLECTOR", "TRANSFORMER", "EDGE", "SNOWPARK")


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

    **Retries.** Names are not unique in Control Hub, and a try that has created the job can fail all the same, when its
    worker is lost, say. So the task writes down what it is about to create, where its next try finds it (in the task
    state store of Airflow; before Airflow 3.3, in an Airflow variable). That try takes over the job that the same user
    has created under that name at that time, whatever `if_exists` says. When a person clears the task, that is
    forgotten, and `if_exists` counts again.

    :param job_name: name of the job (templated)
    :param pipeline_id: id of the pipeline that it runs (templated)
    :param pipeline_name: exact name of the pipeline, instead of its id (templated)
    :param pipeline_version: number of the pipeline version, for example ``3``, or ``latest``; by default the newest
        that is published (templated)
    :param pipeline_commit_id: commit id of the version, instead of its number (templated)
    :param pipeline_tag: a tag of the version, instead of its number (templated)
    :param description: free text (templated)
    :param engine_labels: labels that an engine must have, all of them, to run the job: a list of texts, or a text
        holding one; by default ``["all"]`` (templated)
    :param job_tags: tags without organization, for example ``nightly/orders``: a list of texts, or a text holding one
        (templated)
    :param runtime_parameters: the job's values of the pipeline's parameters: a dict, or a text holding a JSON object
        (templated)
    :param strict_parameters: fail before anything is done if the pipeline has no runtime parameter of a given name;
        by default, that is a warning. If the parameters cannot be read, nothing is refused (templated)
    :param number_of_instances: pipeline instances, by default 1; -1 is one on every engine with the labels (templated)
    :param failover: restart a pipeline on another engine when its engine is lost (templated)
    :param failover_retries: failover retries over all engines; -1 is endless (templated)
    :param failover_retries_per_engine: failover retries on each engine; -1 is endless (templated)
    :param needs_acknowledgement: whether an error must be acknowledged before the job can run again (templated)
    :param statistics_interval: seconds, or timedelta, between two saves of metrics; by default 60 (templated)
    :param force_stop_after: seconds, or timedelta, that Control Hub waits for engines to confirm a stop; by default
        120 (templated)
    :param template: create a job template, from which instances are started (templated)
    :param static_parameters: names of parameters that instances of the job template may not override: a list of texts,
        or a text holding one (templated)
    :param time_series: keep metrics as time series (templated)
    :param if_exists: what to do if there is a job (or job template) of that name: ``fail``, ``skip`` (take it as it is)
        or ``update`` (give it these settings and this pipeline version) (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: id of the job
    :raises ControlHubExistsError: if there is a job of that name and `if_exists` is ``fail``
    :raises ControlHubNotFoundError: if there is no such pipeline or version; the message names the versions there are
    :raises ControlHubAmbiguousNameError: if several pipelines, or jobs, have the name
    :raises ControlHubJobStateError: if the existing job is active and so cannot be changed
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_id``, ``streamsets_job_link``.
    """

    template_fields: Sequence[str] = (
        "job_name",
        "pipeline_id",
        "pipeline_name",
        *ControlHubJobSettingsOperator.template_fields,
        "template",
        "if_exists",
    )

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
        params.string(job_name, "job_name")
        params.exactly_one(pipeline_id=pipeline_id, pipeline_name=pipeline_name)
        params.resource_id(pipeline_id, "pipeline_id")
        params.boolean(template, "template")
        params.one_of(if_exists, "if_exists", IF_EXISTS)
        self.job_name = job_name
        self.pipeline_id = pipeline_id
        self.pipeline_name = pipeline_name
        self.template = template
        self.if_exists = if_exists

    def execute(self, context: Context) -> str:
        """Create the job."""
        params.exactly_one(pipeline_id=self.pipeline_id, pipeline_name=self.pipeline_name)
        params.resource_id(self.pipeline_id, "pipeline_id", rendered=True)
        template = params.boolean(self.template, "template", rendered=True)
        if_exists = params.one_of(self.if_exists, "if_exists", IF_EXISTS, rendered=True)
        settings = self.job_settings(params.string(self.job_name, "job_name", rendered=True))
        wanted_version = self.wanted_version()

        record = TaskState(context)
        job = self._created_before(record, str(settings.name), template)
        # Taken as it is, whatever has become of the pipeline meanwhile.
        if job is None and if_exists == "skip":
            job = self._existing(str(settings.name), template)
        if job is None:
            pipelines = self.client.pipelines
            if self.pipeline_id is not None:
                pipeline_id = str(self.pipeline_id).strip()
            else:
                pipeline_id = pipelines.find_by_name(str(self.pipeline_name)).pipeline_id
            pipeline = pipelines.version(pipeline_id, **wanted_version)
            self.check_settings(settings, f"'{settings.name}'", pipeline.commit_id)
            job = self._create(record, settings, pipeline, template, if_exists)
        self.push_job(context, job.job_id)
        self.log.info("Job %s runs version %s of pipeline '%s'.", job.label, job.pipeline_version, job.pipeline_name)
        self.log.info("Job page: %s", self.client.job_url(job.job_id))
        record.complete()
        return job.job_id

    def _created_before(self, record: TaskState, name: str, template: bool) -> Job | None:
        """Return the job that an earlier try of this task has created, None if there is none or it is not to count."""
        from airflow_provider_streamsets.control_hub import ControlHubAmbiguousNameError
        from airflow_provider_streamsets.control_hub.submission import CreateIntent

        written = record.values.get("creation")
        if not isinstance(written, dict):
            return None
        intent = CreateIntent(**written)
        if intent.name != name:
            return None
        try:
            job = self.client.jobs.find_created(intent, template=template, wait=True)
        except ControlHubAmbiguousNameError:
            if record.abandon_reason is None:
                raise
            return None
        if record.abandon_reason is not None:
            # It was only waited for: from now on there is one, or there will be none.
            return None
        if job is None:
            self.log.info("An earlier try of this task was about to create job '%s', but there is none.", intent.name)
        else:
            self.log.info("An earlier try of this task has created job %s; taking it over.", job.label)
        return job

    def _create(
        self, record: TaskState, settings: JobSettings, pipeline: PipelineVersion, template: bool, if_exists: Any
    ) -> Job:
        from airflow_provider_streamsets.control_hub import ControlHubError
        from airflow_provider_streamsets.control_hub.errors import may_have_executed

        try:
            return self.client.jobs.create(
                settings,
                pipeline,
                template=template,
                if_exists=if_exists,
                on_submit=lambda intent: record.write(creation=asdict(intent)),
            )
        except ControlHubError as error:
            if not may_have_executed(error):
                record.clear()
            raise

    def _existing(self, name: str, template: bool) -> Job | None:
        found = list(self.client.jobs.list(name=name, templates=template))
        if len(found) != 1:
            return None
        job = found[0]
        self.log.info("Job %s exists; taking it as it is.", job.label)
        other_pipeline = job.pipeline_name != self.pipeline_name if self.pipeline_name is not None else False
        number = params.version(self.pipeline_version, "pipeline_version", rendered=True, latest=True)
        if other_pipeline or number not in (None, "latest", job.pipeline_version):
            self.log.warning(
                "It runs version %s of pipeline '%s', which is not what is asked for.",
                job.pipeline_version,
                job.pipeline_name,
            )
        return job


class ControlHubUpdateJobOperator(ControlHubJobSettingsOperator, ControlHubJobOperator):
    """
    Change settings of a Control Hub job, or the pipeline version that it runs, and nothing else of it.

    A job can be changed while it is not active. A change of a job template restarts the running instances that are
    attached to it; an attached instance cannot be changed itself.

    .. code-block:: python

        ControlHubUpdateJobOperator(
            task_id="use_released_version",
            job_name="Orders to warehouse",
            pipeline_tag="released",
            runtime_parameters={"BATCH_SIZE": "5000"},
        )

    **Changes by others.** Control Hub cannot be told to refuse a change when somebody else has changed the job
    meanwhile. The task reads the job, and looks once more just before it sends the change; with `unchanged_since`, it
    finds a change since an earlier task has seen the job, too. In both cases it fails, and the job stays as it is.

    :param job_id: id of the job or job template (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param template: `job_name` is that of a job template (templated)
    :param pipeline_version: number of the pipeline version that the job is to run, for example ``3``, or ``latest``
        (templated)
    :param pipeline_commit_id: commit id of the version, instead of its number (templated)
    :param pipeline_tag: a tag of the version, instead of its number (templated)
    :param new_name: name that the job is to have (templated)
    :param description: free text (templated)
    :param engine_labels: labels that an engine must have, all of them, to run the job: a list of texts, or a text
        holding one (templated)
    :param job_tags: tags without organization, for example ``nightly/orders``, in place of the present ones: a list of
        texts, or a text holding one (templated)
    :param runtime_parameters: the job's values of the pipeline's parameters, in place of the present ones: a dict, or a
        text holding a JSON object (templated)
    :param strict_parameters: fail before anything is done if the pipeline has no runtime parameter of a given name;
        by default, that is a warning. If the parameters cannot be read, nothing is refused (templated)
    :param number_of_instances: pipeline instances; -1 is one on every engine with the labels (templated)
    :param failover: restart a pipeline on another engine when its engine is lost (templated)
    :param failover_retries: failover retries over all engines; -1 is endless (templated)
    :param failover_retries_per_engine: failover retries on each engine; -1 is endless (templated)
    :param needs_acknowledgement: whether an error must be acknowledged before the job can run again (templated)
    :param statistics_interval: seconds, or timedelta, between two saves of metrics (templated)
    :param force_stop_after: seconds, or timedelta, that Control Hub waits for engines to confirm a stop (templated)
    :param static_parameters: names of parameters that instances of the job template may not override: a list of texts,
        or a text holding one (templated)
    :param time_series: keep metrics as time series (templated)
    :param unchanged_since: the job's ``last_modified`` as an earlier task has seen it: a text in ISO 8601, or a
        datetime (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``job_name``, ``changed`` (names of what has changed: ``name``, ``description``,
        ``engine_labels``, ``tags``, ``runtime_parameters``, ..., ``pipeline_version``; empty if all was so already),
        ``pipeline_version``, ``last_modified`` (ISO 8601)
    :raises ControlHubConflictError: if somebody else has changed the job; nothing was sent
    :raises ControlHubJobStateError: if the job cannot be changed in its state; nothing was sent
    :raises ControlHubNotFoundError: if there is no such job, or no such version; the message names those there are
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``streamsets_job_link``.
    """

    result_is_dict = True
    template_fields: Sequence[str] = (
        "job_id",
        "job_name",
        "template",
        "new_name",
        *ControlHubJobSettingsOperator.template_fields,
        "unchanged_since",
    )

    def __init__(
        self,
        *,
        template: bool | str = False,
        new_name: str | None = None,
        unchanged_since: str | datetime | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        params.boolean(template, "template")
        params.string(new_name, "new_name")
        params.timestamp(unchanged_since, "unchanged_since")
        if new_name is None and not self.names_a_version and not self.names_a_setting:
            raise ValueError("Give a setting or a pipeline version that is to be changed; none is given.")
        _check_use_of_template(self, template, kwargs.get("default_args"))
        self.template = template
        self.new_name = new_name
        self.unchanged_since = unchanged_since

    def execute(self, context: Context) -> dict[str, Any]:
        """Change the job."""
        template = params.boolean(self.template, "template", rendered=True)
        settings = self.job_settings(params.string(self.new_name, "new_name", rendered=True))
        wanted_version = self.wanted_version()
        unchanged_since = params.timestamp(self.unchanged_since, "unchanged_since", rendered=True)

        before = self.find_job(context, templates=template)
        pipeline = self._version_for(before, wanted_version) if self.names_a_version else None
        commit_id, known = before.pipeline_commit_id, before.runtime_parameters
        self.check_settings(settings, before.label, *((pipeline.commit_id, ()) if pipeline else (commit_id, known)))
        after = self.client.jobs.update(
            before.job_id,
            settings,
            pipeline=pipeline,
            unchanged_since=before.last_modified if unchanged_since is None else unchanged_since,
        )
        changed = [name for name in settings.given if getattr(before, name) != getattr(after, name)]
        if before.pipeline_commit_id != after.pipeline_commit_id:
            changed.append("pipeline_version")
        if changed:
            self.log.info("Changed %s of job %s.", ", ".join(changed), after.label)
        else:
            self.log.info("Job %s was already as it is to be.", after.label)
        return {
            "job_id": after.job_id,
            "job_name": after.name,
            "changed": changed,
            "pipeline_version": after.pipeline_version,
            "last_modified": _iso(after.last_modified),
        }

    def _version_for(self, job: Job, wanted_version: dict[str, Any]) -> PipelineVersion:
        from airflow_provider_streamsets.control_hub import ControlHubUnexpectedAnswerError

        if job.pipeline_id is None:
            raise ControlHubUnexpectedAnswerError(f"Control Hub does not say which pipeline job {job.label} runs.")
        return self.client.pipelines.version(job.pipeline_id, **wanted_version)


class ControlHubUpgradeJobsOperator(ControlHubJobsOperator):
    """
    Bring Control Hub jobs to the newest published versions of their pipelines, in one request for many.

    Active jobs can be upgraded, too: Control Hub restarts their pipelines then. To do it again changes nothing.

    .. code-block:: python

        ControlHubUpgradeJobsOperator(task_id="upgrade_nightly_jobs", job_tag="nightly/orders")

    :param job_ids: ids of the jobs and job templates: a list of texts, or a text holding a JSON list (templated)
    :param job_names: exact names of the jobs: a list of texts, or a text holding a JSON list (templated)
    :param job_tag: tag of the jobs, without organization, for example ``nightly/orders`` (templated)
    :param search: search of Control Hub that finds the jobs, for example
        ``name=="orders*" and status=="INACTIVE"`` (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: for each job ``job_id``, ``job_name``, ``version_before``, ``version_after`` and ``upgraded`` (false if it
        was on the newest version already); an empty list if tag or search find no job
    :raises ControlHubNotFoundError: if a job named by id or name does not exist; nothing was upgraded
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_ids``, ``streamsets_job_link`` (of the first job).
    """

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Upgrade the jobs."""
        jobs = self.find_jobs(context)
        upgrades = self.client.jobs.upgrade(jobs)
        for upgrade in upgrades:
            if upgrade.upgraded:
                self.log.info(
                    "Upgraded job '%s' (%s) from version %s to %s.",
                    upgrade.name,
                    upgrade.job_id,
                    upgrade.version_before,
                    upgrade.version_after,
                )
            else:
                self.log.info(
                    "Job '%s' (%s) is on the newest version already: %s.",
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
    Make copies of a Control Hub job or job template. They have never run.

    .. code-block:: python

        ControlHubDuplicateJobOperator(
            task_id="copy_job",
            job_name="Orders to warehouse",
            name="Orders of region ",
            number_of_copies=3,
        )

    **Retries.** The copies are made under a name that belongs to this task of this DAG run, their ids are written down
    where the next try finds them (in the task state store of Airflow; before Airflow 3.3, in an Airflow variable), and
    then they get the names that they are to have. A later try takes over what an earlier one has made instead of making
    more. If the call of that one got no answer, the later try waits for its copies until ``gateway_timeout`` of the
    connection is over; surplus copies of a call that was executed even later are deleted. When a person clears a task
    that has succeeded, it makes new copies.

    :param job_id: id of the job or job template (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param template: `job_name` is that of a job template (templated)
    :param number_of_copies: how many copies to make (templated)
    :param name: name of the copy; of several, the names are this followed by 1, 2, ...; by default
        ``<name of the job> copy`` (templated)
    :param description: description of the copies (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the copies, in the order of their numbers
    :raises ControlHubNotFoundError: if there is no such job
    :raises ControlHubUnexpectedAnswerError: if not all copies appear; the message names those that do
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_id`` (of the job that was copied), ``job_ids`` (of the copies),
    ``streamsets_job_link`` (of the first copy).
    """

    template_fields: Sequence[str] = (
        *ControlHubJobOperator.template_fields,
        "template",
        "number_of_copies",
        "name",
        "description",
    )

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
        params.boolean(template, "template")
        _check_use_of_template(self, template, kwargs.get("default_args"))
        params.integer(number_of_copies, "number_of_copies")
        params.string(name, "name")
        params.string(description, "description", empty=True)
        self.template = template
        self.number_of_copies = number_of_copies
        self.name = name
        self.description = description

    def execute(self, context: Context) -> list[str]:
        """Make the copies, or take over those of an earlier try."""
        from airflow_provider_streamsets.control_hub.submission import CreateIntent

        template = params.boolean(self.template, "template", rendered=True)
        number_of_copies = params.integer(self.number_of_copies, "number_of_copies", rendered=True)
        name = params.string(self.name, "name", rendered=True)
        description = params.string(self.description, "description", rendered=True, empty=True)

        job = self.find_job(context, templates=template)
        record = TaskState(context)
        made = record.values.get("copies") if record.abandon_reason is None else None
        # Whoever has ordered this try: the call of the one before can still be executed.
        submitted = record.values.get("duplication")
        copies = self.client.jobs.duplicate(
            job,
            number_of_copies=number_of_copies,
            name=name,
            description=description,
            idempotency_key=_key_of_task(context),
            existing_ids=made if isinstance(made, list) else (),
            on_created=lambda job_ids: record.write(copies=job_ids),
            submitted=CreateIntent(**submitted) if isinstance(submitted, dict) else None,
            on_submit=lambda intent: record.write(duplication=asdict(intent)) if intent else record.clear(),
        )
        record.complete()
        for copy in copies:
            self.log.info("Copy of job %s: %s", job.label, copy.label)
        copy_ids = [copy.job_id for copy in copies]
        self.push_jobs(context, copy_ids)
        return copy_ids


class ControlHubListJobsOperator(ControlHubOperator):
    """
    List the Control Hub jobs that match all conditions, oldest first, for dynamic task mapping.

    .. code-block:: python

        failed = ControlHubListJobsOperator(task_id="list_failed_jobs", job_tag="nightly/orders", color="RED")
        ControlHubRunJobOperator.partial(task_id="run_again").expand(job_id=failed.output)

    :param name: exact name (templated)
    :param name_starts_with: beginning of the name, instead (templated)
    :param status: status of the latest run, for example ``ACTIVE``; a job that has never run counts as
        ``INACTIVE`` (templated)
    :param color: color of the latest run: ``GRAY``, ``GREEN`` or ``RED``; a job that has never run counts as ``GRAY``
        (templated)
    :param job_tag: tag without organization, for example ``nightly/orders`` (templated)
    :param engine_label: one of the labels that choose the engines (templated)
    :param executor_type: ``COLLECTOR``, ``TRANSFORMER``, ``EDGE`` or ``SNOWPARK`` (templated)
    :param pipeline_version: number of the pipeline version, for example ``3`` (templated)
    :param search: search of Control Hub, for example ``name=="orders*" and tag=="nightly"`` (templated)
    :param templates: list job templates instead of jobs (templated)
    :param template_id: list only the instances of this job template (templated)
    :param limit: list so many jobs at the most; pages beyond are not read (templated)
    :param result: what to return: ``ids`` or ``summaries`` (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: a list with an entry for each job: its id; as summary ``job_id``, ``job_name``, ``status`` and ``color``
        (None if it has never run), ``run_count`` (0 then), ``start_time`` and ``finish_time`` of its latest run (ISO
        8601; None if there is none), ``pipeline_version``, ``tags``, ``engine_labels``, ``template_id``,
        ``last_modified`` (ISO 8601)
    :raises ControlHubError: for everything that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_ids`` (with ``result="summaries"``; otherwise they are the return value),
    ``streamsets_job_link`` (of the first job).
    """

    template_fields: Sequence[str] = (
        "name",
        "name_starts_with",
        "status",
        "color",
        "job_tag",
        "engine_label",
        "executor_type",
        "pipeline_version",
        "search",
        "templates",
        "template_id",
        "limit",
        "result",
        *ControlHubOperator.template_fields,
    )

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
        self._checked_conditions(rendered=False)
        params.integer(limit, "limit")
        params.one_of(result, "result", RESULTS)

    def execute(self, context: Context) -> list[str] | list[dict[str, Any]]:
        """List the jobs."""
        conditions = self._checked_conditions(rendered=True)
        limit = params.integer(self.limit, "limit", rendered=True)
        result = params.one_of(self.result, "result", RESULTS, rendered=True)

        jobs = list(islice(self.client.jobs.list(**conditions), limit))
        self.log.info("Found %d jobs%s.", len(jobs), ", the limit" if len(jobs) == limit else "")
        job_ids = [job.job_id for job in jobs]
        if result == "ids":
            # They are the return value, which is stored once.
            self.push_link(context, job_ids)
            return job_ids
        self.push_jobs(context, job_ids)
        return [_summary(job) for job in jobs]

    def _checked_conditions(self, *, rendered: bool) -> dict[str, Any]:
        """Return the conditions as :meth:`Jobs.list` takes them."""

        def text(name: str) -> Any:
            return params.string(getattr(self, name), name, rendered=rendered)

        def word(name: str, choices: Sequence[str]) -> Any:
            value = getattr(self, name)
            return None if value is None else params.one_of(value, name, choices, rendered=rendered)

        params.at_most_one(name=self.name, name_starts_with=self.name_starts_with)
        return {
            "name": text("name"),
            "name_starts_with": text("name_starts_with"),
            "status": word("status", STATUSES),
            "color": word("color", COLORS),
            "tag": text("job_tag"),
            "engine_label": text("engine_label"),
            "executor_type": word("executor_type", EXECUTOR_TYPES),
            "pipeline_version": params.version(self.pipeline_version, "pipeline_version", rendered=rendered),
            "search": text("search"),
            "templates": params.boolean(self.templates, "templates", rendered=rendered),
            "template_id": params.resource_id(self.template_id, "template_id", rendered=rendered),
        }


def _summary(job: Job) -> dict[str, Any]:
    run = job.current_run
    return {
        "job_id": job.job_id,
        "job_name": job.name,
        "status": run.status if run else None,
        "color": run.color if run else None,
        "run_count": job.last_run_count,
        "start_time": _iso(run.start_time) if run else None,
        "finish_time": _iso(run.finish_time) if run else None,
        "pipeline_version": job.pipeline_version,
        "tags": list(job.tags),
        "engine_labels": list(job.engine_labels),
        "template_id": job.template_id,
        "last_modified": _iso(job.last_modified),
    }


def _check_use_of_template(task: ControlHubJobOperator, template: Any, default_args: Mapping[str, Any] | None) -> None:
    if task.job_name is None and params.boolean(template, "template") is True:
        params.no_effect("'job_name'", task, default_args, template=template)


def _iso(time: pendulum.DateTime | None) -> str | None:
    return None if time is None else time.to_iso8601_string()


def _key_of_task(context: Context) -> str:
    """Return a short text that is the same in each try of a task of a DAG run, and different elsewhere."""
    ti = context["ti"]
    identity = (ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index))
    return hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
