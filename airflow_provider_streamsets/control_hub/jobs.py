"""Jobs: create, change, upgrade, duplicate, delete (contract, section 6)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import pendulum

from airflow_provider_streamsets.control_hub import submission
from airflow_provider_streamsets.control_hub._json import as_object
from airflow_provider_streamsets.control_hub._messages import describe_ids, join_truncated
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAmbiguousNameError,
    ControlHubBulkError,
    ControlHubConfigurationError,
    ControlHubConflictError,
    ControlHubError,
    ControlHubExistsError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    may_have_executed,
)
from airflow_provider_streamsets.control_hub.job_duplication import JobDuplicator
from airflow_provider_streamsets.control_hub.job_reading import JobReader
from airflow_provider_streamsets.control_hub.models import Job, JobSettings, JobUpgrade, PipelineVersion
from airflow_provider_streamsets.control_hub.paging import chunked
from airflow_provider_streamsets.control_hub.services import Service, quote_id
from airflow_provider_streamsets.control_hub.submission import CONFIRM_TIMEOUT, CreateIntent, confirm_effect
from airflow_provider_streamsets.control_hub.transport import Retry

log = logging.getLogger(__name__)

IfExists = Literal["fail", "skip", "update"]
IF_EXISTS: tuple[IfExists, ...] = ("fail", "skip", "update")

# Seconds to wait for the upgrades of active jobs, whose pipelines Control Hub restarts.
_UPGRADE_MAX_WAIT = 120.0

# What a new job gets where nothing else is asked for: the values of the official SDK (contract, section 6.1).
_NEW_JOB_DEFAULTS = JobSettings(
    engine_labels=("all",),
    tags=(),
    runtime_parameters={},
    number_of_instances=1,
    statistics_interval=60,
    force_stop_after=120,
)


class Jobs(JobReader):
    """Jobs and job templates; reached as ``client.jobs``."""

    def create(
        self,
        settings: JobSettings,
        pipeline: PipelineVersion,
        *,
        template: bool = False,
        if_exists: IfExists = "fail",
        on_submit: Callable[[CreateIntent], None] | None = None,
    ) -> Job:
        """
        Create a job, unless one of its name exists.

        Names are not unique in Control Hub, and a create call that is repeated makes a second job. It is therefore
        never repeated: after an unclear end, a job of the name, of which there was none before, is looked for.

        :param settings: what the job is to be, with a name; what is None is the official SDK's default (engine label
            ``all``, one instance, metrics saved every 60 s, forced stop after 120 s), else Control Hub's
        :param pipeline: the published pipeline version that it runs
        :param template: create a job template, from which instances are started
        :param if_exists: what to do if there is a job (or template) of the name: ``fail``, ``skip`` (return it as it
            is) or ``update`` (give it these settings and this pipeline version)
        :param on_submit: called before the create call with what it is to create, so that it can be written down; what
            it raises ends the creation before anything is sent
        :returns: the job
        :raises ControlHubExistsError: if there is one and `if_exists` is ``fail``
        :raises ControlHubAmbiguousNameError: if there are several; with ``skip`` and ``update``
        :raises ControlHubUnavailableError: if Control Hub cannot be reached; with ``maybe_executed`` set, it is not
            known whether the job was created
        """
        if settings.name is None:
            raise ControlHubConfigurationError("A job to create needs a name.")
        if if_exists not in IF_EXISTS:
            raise ControlHubConfigurationError(
                f"'if_exists' must be one of {', '.join(IF_EXISTS)}, but is {if_exists!r}."
            )
        _check_published(pipeline)
        existing = list(self.list(name=settings.name, templates=template))
        if existing:
            return self._apply_if_exists(existing, settings, pipeline, if_exists)
        body = {
            **_NEW_JOB_DEFAULTS.to_wire(self._client.organization),
            **settings.to_wire(self._client.organization),
            **_pipeline_fields(pipeline),
            "jobTemplate": template,
        }
        del body["jobTags"]
        user = self._client.current_user().user_id if on_submit is not None else None
        intent = CreateIntent.for_name(settings.name, user, self._client.clock_skew)
        if on_submit is not None:
            on_submit(intent)
        return self._create(intent, body, template)

    def find_created(self, intent: CreateIntent, *, template: bool = False, wait: bool = False) -> Job | None:
        """
        Return the job that a creation which was announced has made; None if there is none.

        :param intent: the creation
        :param template: it was that of a job template
        :param wait: wait for the job until no gateway can deliver the call any more
        :raises ControlHubAmbiguousNameError: if there are several that it can have made
        """
        found = confirm_effect(
            self._client,
            lambda: [job for job in self.list(name=intent.name, templates=template) if intent.matches(job)],
            subject=f"Whether an earlier call has created job '{intent.name}'",
            max_wait=lambda: submission.delivery_time_left(self._client, intent.at) if wait else 0.0,
        )
        if len(found) > 1:
            ids = ", ".join(job.job_id for job in found[:5])
            raise ControlHubAmbiguousNameError(
                f"Cannot tell which job '{intent.name}' an earlier call has created: {len(found)} were created by the "
                f"same user at that time ({ids})."
            )
        return found[0] if found else None

    def _apply_if_exists(
        self, existing: list[Job], settings: JobSettings, pipeline: PipelineVersion, if_exists: IfExists
    ) -> Job:
        ids = ", ".join(job.job_id for job in existing[:5])
        if if_exists == "fail":
            raise ControlHubExistsError(
                f"Cannot create job '{settings.name}': there is one of that name ({ids}). With if_exists='skip' it is "
                "taken as it is, with 'update' it is changed to what is asked for."
            )
        if len(existing) > 1:
            raise ControlHubAmbiguousNameError(
                f"Cannot tell which job '{settings.name}' is meant: {len(existing)} have that name ({ids})."
            )
        if if_exists == "skip":
            log.info("Job %s exists; taking it as it is.", existing[0].label)
            return existing[0]
        log.info("Job %s exists; changing it to what is asked for.", existing[0].label)
        return self.update(existing[0].job_id, settings, pipeline=pipeline)

    def _create(self, intent: CreateIntent, body: dict[str, Any], template: bool) -> Job:
        name = intent.name
        try:
            answer = self._client.request(
                "PUT", Service.JOBRUNNER, "/v1/jobs", action=f"create job '{name}'", body=body, retry=Retry.NEVER
            )
            return Job.from_wire(answer)
        except ControlHubError as unclear:
            if not may_have_executed(unclear):
                raise
            error = unclear
        log.warning("%s Looking whether the job was created all the same.", error)
        created = confirm_effect(
            self._client,
            # Whose the call was is known only where it was announced.
            lambda: [
                job for job in self.list(name=name, templates=template) if intent.user is None or intent.matches(job)
            ],
            subject="Whether the job was created",
            error=error,
        )
        if created:
            log.info("Job %s was created.", created[0].label)
            return created[0]
        if isinstance(error, ControlHubRejectedError):
            raise error
        raise ControlHubUnavailableError(
            f"{error} No such job has appeared within {CONFIRM_TIMEOUT:g} s. Another try with if_exists='skip' takes it if it "
            "has by then.",
            http_status=error.http_status,
            maybe_executed=True,
        )

    def update(
        self,
        job_id: str,
        settings: JobSettings | None = None,
        *,
        pipeline: PipelineVersion | None = None,
        unchanged_since: pendulum.DateTime | None = None,
    ) -> Job:
        """
        Change settings of a job, and nothing else of it.

        The job is read whole, changed, and sent back whole, as Control Hub wants it. Control Hub cannot be told to
        refuse when somebody else has changed the job meanwhile: the last writer wins. `unchanged_since` finds such a
        change up to the moment before the job is sent; an answer that differs from what was sent is logged.

        :param job_id: id of a job that is not active, and not an instance attached to a template
        :param settings: what to change; None leaves a setting as it is
        :param pipeline: published pipeline version to run from now on
        :param unchanged_since: `last_modified` of the job when it was looked at to decide on the change
        :returns: the changed job; as it is if there is nothing to change
        :raises ControlHubConflictError: if somebody else has changed the job before, so that nothing was sent, or at
            the same time, so that it is not as it was sent
        :raises ControlHubJobStateError: if the job cannot be changed in its state; nothing was sent
        """
        raw = self._read(job_id)
        before = Job.from_wire(raw)
        changes = (settings or JobSettings()).to_wire(self._client.organization)
        if pipeline is not None:
            _check_published(pipeline)
            changes.update(_pipeline_fields(pipeline))
        # First, so that a second try finds what the first one did, and not a change by somebody else.
        if all(_is_equal(name, raw.get(name), value) for name, value in changes.items() if name != "jobTags"):
            return before
        if unchanged_since is not None and before.last_modified != unchanged_since:
            raise ControlHubConflictError(
                f"Cannot update job {before.label}: {before.last_modified_by or 'somebody'} has changed it at "
                f"{before.last_modified}, after it was looked at. Look again and decide anew."
            )
        check_editable(before)
        answer = self._client.request(
            "POST",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(job_id)}",
            action=f"update job {before.label}",
            body={**raw, **changes},
        )
        after = as_object(answer, "job") if answer else self._read(job_id)
        ignored = [
            name for name, value in changes.items() if name != "jobTags" and not _is_equal(name, after.get(name), value)
        ]
        if ignored:
            log.warning("Control Hub has answered the update of job %s with other values of %s.", before.label, ignored)
        return Job.from_wire(after)

    def upgrade(self, jobs: Iterable[Job | str]) -> list[JobUpgrade]:
        """
        Bring jobs to the newest published versions of their pipelines, in one request for many.

        Active jobs can be upgraded, too: Control Hub then restarts their pipelines. To do it again changes nothing.

        :param jobs: jobs and job templates as just read, or their ids
        :returns: for each job the version before and after
        :raises ControlHubNotFoundError: if a job does not exist; nothing was upgraded
        :raises ControlHubBulkError: if a job was not upgraded although there is a newer version, or its upgrade failed
        """
        before = self.ensure_loaded(jobs)
        for batch in chunked(list(before), self._client.bulk_size):
            self._client.request(
                "POST", Service.JOBRUNNER, "/v1/jobs/upgradeJobs", action=f"upgrade {describe_ids(batch)}", body=batch
            )
        # What the answer holds for jobs that were up to date already is not known, so they are read again.
        after = confirm_effect(
            self._client,
            lambda: self.get_many(before),
            subject="Whether the jobs were upgraded",
            is_complete=lambda read: not any(job.upgrade_status == "UPGRADING" for job in read.values()),
            max_wait=_UPGRADE_MAX_WAIT,
        )
        upgrades = [
            JobUpgrade(
                job_id,
                job.name,
                job.pipeline_version,
                now.pipeline_version,
                upgraded=job.pipeline_commit_id != now.pipeline_commit_id,
            )
            for job_id, job in before.items()
            if (now := after.get(job_id, job))
        ]
        self._check_upgraded(upgrades, after)
        return upgrades

    def _check_upgraded(self, upgrades: Sequence[JobUpgrade], after: Mapping[str, Job]) -> None:
        """Raise if a job has not changed although there is a newer version, or its upgrade goes on or has failed."""
        unchanged = {
            upgrade.job_id: after[upgrade.job_id]
            for upgrade in upgrades
            if not upgrade.upgraded and upgrade.job_id in after
        }
        try:
            newest = self._client.pipelines.latest_commits(
                job.pipeline_id for job in unchanged.values() if job.pipeline_id
            )
        except ControlHubError as error:
            log.warning("Whether unchanged jobs are on the newest versions could not be found out: %s", error)
            newest = {}
        problems = []
        for job_id, job in after.items():
            version = newest.get(job.pipeline_id or "") if job_id in unchanged else None
            # A status can be left from an earlier upgrade.
            has_failed = job.upgrade_status == "UPGRADE_ERROR" and job_id in unchanged
            if has_failed or job.upgrade_status == "UPGRADING":
                problems.append(f"{job.label} is {job.upgrade_status}")
            elif version and not version.is_draft and version.commit_id != job.pipeline_commit_id:
                problems.append(
                    f"{job.label} is still on version {job.pipeline_version}, the newest is {version.version}"
                )
        if problems:
            raise ControlHubBulkError(
                f"{len(problems)} of {len(upgrades)} jobs were not upgraded: {join_truncated(problems, '; ')}.",
                done={upgrade.job_id: 0 for upgrade in upgrades if upgrade.upgraded},
            )

    def duplicate(
        self,
        job: Job | str,
        *,
        number_of_copies: int = 1,
        name: str | None = None,
        description: str | None = None,
        idempotency_key: str | None = None,
        existing_ids: Sequence[str] = (),
        on_created: Callable[[list[str]], None] | None = None,
        submitted: CreateIntent | None = None,
        on_submit: Callable[[CreateIntent | None], None] | None = None,
    ) -> list[Job]:
        """
        Make copies of a job or job template, in three requests whatever their number.

        Control Hub does not tell which jobs it has made, so the copies get a unique name, are found by it, and are
        renamed together. Copies have never run.

        :param job: the job as just read, or its id, which takes one more request
        :param number_of_copies: how many
        :param name: name of the copy; of several, the names are this followed by 1, 2, ... By default
            ``<job name> copy``
        :param description: description of the copies; None is that of Control Hub
        :param idempotency_key: names this duplication. With the same key, a second call takes over the copies that a first one
            has made but not renamed yet, instead of making more
        :param existing_ids: ids of the copies that an earlier call has made: they are taken over if all of them exist
        :param on_created: called with the ids of the copies before they get their names, so that they can be written down
        :param submitted: a call with the same key whose effect is not known: its copies are waited for until no gateway
            can deliver it any more. If it is executed even later, its surplus copies are deleted, here or by the next
            call with `submitted` or `existing_ids`
        :param on_submit: called before the call that makes copies, so that it can be written down, and with None if
            that call was refused; what it raises ends the duplication before anything is sent
        :returns: the copies, in the order of their numbers
        """
        return JobDuplicator(self._client).duplicate(
            self.get(job) if isinstance(job, str) else job,
            number_of_copies=number_of_copies,
            name=name,
            description=description,
            idempotency_key=idempotency_key,
            existing_ids=existing_ids,
            on_created=on_created,
            submitted=submitted,
            on_submit=on_submit,
        )

    def delete(self, job_ids: Iterable[str]) -> list[str]:
        """
        Delete jobs, in one request for many. A job that does not exist counts as deleted.

        :param job_ids: ids of jobs that are not active and have no error to acknowledge
        :returns: the ids of those that existed
        :raises ControlHubConfigurationError: if one of them is a job template; nothing was deleted
        :raises ControlHubJobStateError: if one of them cannot be deleted; nothing was deleted
        """
        jobs = self.get_many(job_ids)
        check_deletable(jobs.values())
        self._delete(list(jobs), "deleteJobs", "job")
        return list(jobs)

    def delete_templates(self, template_ids: Iterable[str]) -> list[str]:
        """
        Delete job templates **and all their instances**, in one request for many.

        :param template_ids: ids of job templates; one that does not exist counts as deleted
        :returns: the ids of those that existed
        :raises ControlHubConfigurationError: if one of them is a job; nothing was deleted
        """
        templates = self.get_many(template_ids)
        for template in templates.values():
            if not template.is_template:
                raise ControlHubConfigurationError(
                    f"Cannot delete job templates: {template.label} is a job, not a job template."
                )
        self._delete(list(templates), "deleteJobTemplates", "job template")
        return list(templates)

    def _delete(self, ids: list[str], action: str, kind: str) -> None:
        for batch in chunked(ids, self._client.bulk_size):
            left = batch
            while left:
                try:
                    self._client.request(
                        "POST",
                        Service.JOBRUNNER,
                        f"/v1/jobs/{action}",
                        action=f"delete {describe_ids(left, kind)}",
                        body=left,
                    )
                    break
                except (ControlHubNotFoundError, ControlHubPermissionError, ControlHubRejectedError) as error:
                    # One may have gone meanwhile, or at a first call whose answer was lost; whether the others were
                    # deleted is not known (contract, 18.3).
                    before, left = left, list(self.get_many(left))
                    if len(left) == len(before):
                        raise
                    log.warning("%s %d of %d are left; deleting those.", error, len(left), len(before))


def check_editable(job: Job) -> None:
    """
    Check that a job can be changed as it is now.

    :raises ControlHubJobStateError: if not; the message says why and what to do
    """
    if job.template_id is not None:
        raise ControlHubJobStateError(
            f"Cannot update job {job.label}: it is attached to the job template {job.template_id}. Change the template."
        )
    _check_idle([job], "update")


def check_deletable(jobs: Iterable[Job], *, allow_active: bool = False, allow_failed: bool = False) -> None:
    """
    Check that jobs can be deleted as they are now.

    :param allow_active: active ones can be, as they will be stopped first
    :param allow_failed: ones with an error to acknowledge can be, as it will be acknowledged first
    :raises ControlHubConfigurationError: if one of them is a job template
    :raises ControlHubJobStateError: if one of them cannot be deleted; the message names all that cannot
    """
    jobs = list(jobs)
    for job in jobs:
        if job.is_template:
            raise ControlHubConfigurationError(f"Cannot delete jobs: {job.label} is a job template, not a job.")
    _check_idle(jobs, "delete", allow_active=allow_active, allow_failed=allow_failed)


def _check_idle(jobs: Iterable[Job], action: str, *, allow_active: bool = False, allow_failed: bool = False) -> None:
    problems = []
    for job in jobs:
        run = job.current_run
        if run is None:
            continue
        if not run.has_ended and not allow_active:
            problems.append(f"{job.label} is {run.status or 'in an unknown state'}: stop it first")
        elif run.status == "INACTIVE_ERROR" and not allow_failed:
            error = run.error_message or "none stated"
            problems.append(f"{job.label} has an error that must be acknowledged first: {error}")
    if problems:
        raise ControlHubJobStateError(f"Cannot {action} jobs. {join_truncated(problems, '; ')}. Nothing was sent.")


def _check_published(pipeline: PipelineVersion) -> None:
    if pipeline.is_draft:
        raise ControlHubConfigurationError(
            f"A job cannot run pipeline {pipeline.label}: it is a draft; publish it first."
        )


def _pipeline_fields(pipeline: PipelineVersion) -> dict[str, Any]:
    """Return the fields that say what a job runs; id and label of the commit must always change together."""
    fields = {
        "pipelineId": pipeline.pipeline_id,
        "pipelineName": pipeline.name,
        "pipelineCommitId": pipeline.commit_id,
        "pipelineCommitLabel": f"v{pipeline.version}",
        "rulesId": pipeline.rules_id,
        "executorType": pipeline.executor_type,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _is_equal(name: str, old: Any, new: Any) -> bool:
    if name != "runtimeParameters":
        return bool(old == new)
    try:
        return bool(json.loads(old or "{}") == json.loads(new))
    except (TypeError, ValueError, RecursionError):
        return False
