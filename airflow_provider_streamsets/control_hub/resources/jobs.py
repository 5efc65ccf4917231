"""Create, update, upgrade, duplicate and delete jobs (contract section 6)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pendulum

from airflow_provider_streamsets.control_hub import submission
from airflow_provider_streamsets.control_hub._messages import describe_ids, join_truncated
from airflow_provider_streamsets.control_hub.choices import IF_EXISTS, IfExists
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
from airflow_provider_streamsets.control_hub.job_state import check_deletable, check_idle
from airflow_provider_streamsets.control_hub.models import Job, JobDocument, JobSettings, JobUpgrade, PipelineVersion
from airflow_provider_streamsets.control_hub.paging import chunked
from airflow_provider_streamsets.control_hub.resources.job_duplication import JobDuplicator
from airflow_provider_streamsets.control_hub.resources.job_reading import JobReader
from airflow_provider_streamsets.control_hub.services import Retry, Service, quote_id
from airflow_provider_streamsets.control_hub.submission import CONFIRM_TIMEOUT, CreateIntent, confirm_effect

log = logging.getLogger(__name__)

# Seconds to wait for upgrades of active jobs: Control Hub restarts their pipelines.
_UPGRADE_MAX_WAIT = 120.0


class Jobs(JobReader):
    """Manage jobs and job templates; available as ``client.jobs``."""

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
        Create a job unless one with the same name exists.

        Job names are not unique in Control Hub, and each create call makes another job, so the call is never repeated.
        After an ambiguous failure, the client searches for the new job by name.

        :param settings: settings of the job, with a name. A setting that is None takes the default of the official SDK
            (engine label ``all``, one instance, metrics saved every 60 s, forced stop after 120 s), or else Control
            Hub's
        :param pipeline: the published pipeline version to run
        :param template: create a job template, from which instances are started
        :param if_exists: what to do if a job (or template) of that name exists: ``fail``, ``skip`` (return it
            unchanged) or ``update`` (apply the settings and pipeline version to it)
        :param on_submit: called with the intent before the create call, to persist it. An exception cancels the
            creation before anything is sent
        :returns: the job
        :raises ControlHubExistsError: if the job exists and `if_exists` is ``fail``
        :raises ControlHubAmbiguousNameError: if several exist, with ``skip`` and ``update``
        :raises ControlHubUnavailableError: if Control Hub cannot be reached. If ``maybe_executed`` is set, the job may
            have been created
        """
        if settings.name is None:
            raise ControlHubConfigurationError("Cannot create a job without a name: set 'name' in the settings.")
        if if_exists not in IF_EXISTS:
            raise ControlHubConfigurationError(f"'if_exists' must be one of {', '.join(IF_EXISTS)}, got {if_exists!r}.")
        _check_published(pipeline)
        existing = list(self.list(name=settings.name, templates=template))
        if existing:
            return self._apply_if_exists(existing, settings, pipeline, if_exists)
        body = settings.to_create_request(pipeline, self._client.organization, template=template)
        user = self._client.current_user().user_id if on_submit is not None else None
        intent = CreateIntent.for_name(settings.name, user, self._client.clock_skew)
        if on_submit is not None:
            on_submit(intent)
        return self._create(intent, body, template)

    def find_created(self, intent: CreateIntent, *, template: bool = False, wait: bool = False) -> Job | None:
        """
        Return the job that an earlier create call made; None if there is none.

        :param intent: the intent of the call
        :param template: the call was to create a job template
        :param wait: keep searching until no gateway can deliver the call any more
        :raises ControlHubAmbiguousNameError: if several jobs match the intent
        """
        found = confirm_effect(
            self._client,
            lambda: [job for job in self.list(name=intent.name, templates=template) if intent.matches(job)],
            subject=f"whether an earlier call created job '{intent.name}'",
            max_wait=lambda: submission.remaining_delivery_time(self._client, intent.requested_at) if wait else 0.0,
        )
        if len(found) > 1:
            ids = ", ".join(job.job_id for job in found[:5])
            raise ControlHubAmbiguousNameError(
                f"Cannot determine which job '{intent.name}' an earlier call created: the same user created "
                f"{len(found)} at that time ({ids}). Delete the surplus ones, or give the job's id."
            )
        return found[0] if found else None

    def _apply_if_exists(
        self, existing: list[Job], settings: JobSettings, pipeline: PipelineVersion, if_exists: IfExists
    ) -> Job:
        ids = ", ".join(job.job_id for job in existing[:5])
        if if_exists == "fail":
            raise ControlHubExistsError(
                f"Cannot create job '{settings.name}': it exists already ({ids}). Use if_exists='skip' to keep it, or "
                "'update' to apply these settings to it."
            )
        if len(existing) > 1:
            raise ControlHubAmbiguousNameError(
                f"Cannot determine which job is meant by the name '{settings.name}': {len(existing)} jobs have it "
                f"({ids})."
            )
        if if_exists == "skip":
            log.info("Job %s exists already; using it unchanged.", existing[0].label)
            return existing[0]
        log.info("Job %s exists already; updating it.", existing[0].label)
        return self.update(existing[0].job_id, settings, pipeline=pipeline)

    def _create(self, intent: CreateIntent, body: dict[str, Any], template: bool) -> Job:
        name = intent.name
        try:
            response = self._client.request(
                "PUT", Service.JOBRUNNER, "/v1/jobs", action=f"create job '{name}'", body=body, retry=Retry.NEVER
            )
            return Job.from_wire(response)
        except ControlHubError as caught:
            if not may_have_executed(caught):
                raise
            error = caught
        log.warning("%s Checking whether the job was created anyway.", error)
        created = confirm_effect(
            self._client,
            # The user of the call is known only if the intent was persisted.
            lambda: [
                job for job in self.list(name=name, templates=template) if intent.user is None or intent.matches(job)
            ],
            subject="whether the job was created",
            error=error,
        )
        if created:
            log.info("Job %s was created.", created[0].label)
            return created[0]
        if isinstance(error, ControlHubRejectedError):
            raise error
        raise ControlHubUnavailableError(
            f"{error} No such job appeared within {CONFIRM_TIMEOUT:g} s. Retry with if_exists='skip', which uses the "
            "job if it was created late.",
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
        Change settings of a job and keep the rest.

        Control Hub accepts only complete jobs, so the job is read, changed and sent back. Control Hub has no
        conditional update: the last writer wins. `unchanged_since` detects changes made before the job is sent; a
        response that differs from what was sent is logged.

        :param job_id: id of a job that is not active, and not an instance attached to a template
        :param settings: the settings to change; None keeps a setting
        :param pipeline: published pipeline version to run from now on
        :param unchanged_since: `last_modified` of the job when the change was decided
        :returns: the changed job; the unchanged job if there is nothing to change
        :raises ControlHubConflictError: if another user changed the job after `unchanged_since`; nothing was sent
        :raises ControlHubJobStateError: if the job's state does not allow changes; nothing was sent
        """
        document = self._read(job_id)
        before = document.to_job()
        changes = (settings or JobSettings()).to_wire(self._client.organization)
        if pipeline is not None:
            _check_published(pipeline)
            changes.update(pipeline.to_job_fields())
        # Checked first: a retry must not report the change of its own first attempt as a conflict.
        if not document.differing_fields(changes):
            return before
        if unchanged_since is not None and before.last_modified != unchanged_since:
            raise ControlHubConflictError(
                f"Cannot update job {before.label}: {before.last_modified_by or 'another user'} changed it at "
                f"{before.last_modified}, after it was read. Read it again, then repeat the update."
            )
        check_editable(before)
        response = self._client.request(
            "POST",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(job_id)}",
            action=f"update job {before.label}",
            body={**document.raw, **changes},
        )
        after = JobDocument.from_wire(response) if response else self._read(job_id)
        ignored = after.differing_fields(changes)
        if ignored:
            log.warning("Job %s: the response to the update has other values of %s than sent.", before.label, ignored)
        return after.to_job()

    def upgrade(self, jobs: Iterable[Job | str]) -> list[JobUpgrade]:
        """
        Upgrade jobs to the latest published versions of their pipelines, in bulk requests.

        Control Hub restarts the pipelines of active jobs. The call is idempotent.

        :param jobs: jobs and job templates as just read, or their ids
        :returns: the versions of each job before and after
        :raises ControlHubNotFoundError: if a job does not exist; nothing was upgraded
        :raises ControlHubBulkError: if a job was not upgraded although a newer version exists, or if its upgrade failed
        """
        before = self.ensure_loaded(jobs)
        for batch in chunked(list(before), self._client.bulk_size):
            self._client.request(
                "POST", Service.JOBRUNNER, "/v1/jobs/upgradeJobs", action=f"upgrade {describe_ids(batch)}", body=batch
            )
        # The response for jobs that were up to date is unknown (contract section 18.42), so all are read again.
        after = confirm_effect(
            self._client,
            lambda: self.get_many(before),
            subject="whether the jobs were upgraded",
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
        """Raise if a newer version exists for an unchanged job, or if an upgrade is unfinished or has failed."""
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
            log.warning("Could not check whether the unchanged jobs have the latest pipeline versions: %s", error)
            newest = {}
        problems = []
        for job_id, job in after.items():
            version = newest.get(job.pipeline_id or "") if job_id in unchanged else None
            # The status can stem from an earlier upgrade.
            has_failed = job.upgrade_status == "UPGRADE_ERROR" and job_id in unchanged
            if has_failed or job.upgrade_status == "UPGRADING":
                problems.append(f"{job.label} is {job.upgrade_status}")
            elif version and not version.is_draft and version.commit_id != job.pipeline_commit_id:
                problems.append(
                    f"{job.label} still has version {job.pipeline_version}, the latest is {version.version}"
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
        Duplicate a job or job template, in three requests for any number of copies.

        The response does not name the copies, so they are created under a unique name, found by it and renamed
        together. Copies have never run.

        :param job: the job as just read, or its id, which takes one more request
        :param number_of_copies: number of copies
        :param name: name of the copy; with several copies, a number is appended: 1, 2, ... Default: ``<job name> copy``
        :param description: description of the copies; None is Control Hub's default
        :param idempotency_key: identifies this duplication. A second call with the same key returns the copies that the
            first one created but did not rename, instead of creating more
        :param existing_ids: ids of the copies that an earlier call created; they are returned if all of them exist
        :param on_created: called with the ids of the copies before they are renamed, to persist them
        :param submitted: intent of an earlier call with the same key and an unknown effect. Its copies are searched for
            until no gateway can deliver it any more. If it is executed even later, its surplus copies are deleted here,
            or by the next call with `submitted` or `existing_ids`
        :param on_submit: called with the intent before the call that creates copies, to persist it, and with None if
            the call was rejected. An exception cancels the duplication before anything is sent
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
        Delete jobs, in bulk requests. A job that does not exist counts as deleted.

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
        Delete job templates **and all their instances**, in bulk requests.

        :param template_ids: ids of job templates; a template that does not exist counts as deleted
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
            remaining = batch
            while remaining:
                try:
                    self._client.request(
                        "POST",
                        Service.JOBRUNNER,
                        f"/v1/jobs/{action}",
                        action=f"delete {describe_ids(remaining, kind)}",
                        body=remaining,
                    )
                    break
                except (ControlHubNotFoundError, ControlHubPermissionError, ControlHubRejectedError) as error:
                    # Some may have been deleted meanwhile, or by a first call whose response was lost. Whether the
                    # others were deleted is unknown (contract section 18.3).
                    before, remaining = remaining, list(self.get_many(remaining))
                    if len(remaining) == len(before):
                        raise
                    log.warning("%s Deleting the %d of %d that still exist.", error, len(remaining), len(before))


def check_editable(job: Job) -> None:
    """
    Check that the state of a job allows changes.

    :raises ControlHubJobStateError: if not; the message has the reason and the remedy
    """
    if job.template_id is not None:
        raise ControlHubJobStateError(
            f"Cannot update job {job.label}: it is attached to the job template {job.template_id}. Change the template."
        )
    check_idle([job], "update")


def _check_published(pipeline: PipelineVersion) -> None:
    if pipeline.is_draft:
        raise ControlHubConfigurationError(
            f"A job cannot run pipeline {pipeline.label}: it is a draft. Publish it first."
        )
