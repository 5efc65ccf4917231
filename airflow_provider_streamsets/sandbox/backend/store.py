"""Storage of jobs, runs, pipelines and engines, and queries of their state."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_streamsets.sandbox.backend.clock import Clock, Scheduler
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, UnknownJobError
from airflow_provider_streamsets.sandbox.backend.run_state import RunState
from airflow_provider_streamsets.sandbox.backend.runs import Counts, Run
from airflow_provider_streamsets.sandbox.backend.saved_filters import SavedFilters
from airflow_provider_streamsets.sandbox.backend.subscriptions import Subscriptions
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.seed.models import EngineSeed, JobSeed, PipelineSeed, Seed, make_id


@dataclass(frozen=True)
class Permission:
    """The actions on a job that a user or a group is permitted."""

    subject_id: str
    subject_type: str
    actions: tuple[str, ...]


@dataclass(frozen=True)
class TemplateRun:
    """One start of instances of a job template; ``configuration`` is the body of the request."""

    id: str
    user: str
    at: int
    run_count: int
    configuration: str
    job_ids: tuple[str, ...]


@dataclass
class Job:
    """
    A job with its runs, the newest last.

    :param seed: the definition of the job; replaced when the job is changed.
    """

    seed: JobSeed
    creator: str
    created_on: int
    modified_by: str
    modified_on: int
    destroyer: str | None = None
    deleted_on: int = 0
    permissions: tuple[Permission, ...] = ()
    permitted_by: str | None = None
    permitted_on: int = 0
    template_runs: list[TemplateRun] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    latest_metrics_purged_on: int = 0
    offset_changes: list[tuple[int, dict[str, Any] | None]] = field(default_factory=list)
    """Offset changes with their times: None for a reset, the document for an upload."""

    @property
    def id(self) -> str:
        """The job id."""
        return self.seed.id

    @property
    def parameters(self) -> dict[str, Any]:
        """The stored runtime parameters."""
        return self.seed.parameters

    @property
    def latest(self) -> Run | None:
        """The latest run."""
        return self.runs[-1] if self.runs else None


def new_job(seed: JobSeed, now: int, user: str) -> Job:
    """
    Create a job.

    :param seed: the definition of the job.
    :param now: default of the creation time.
    :param user: default of the creator.
    """
    creator = seed.creator or user
    created_on = now - seed.created_ago if seed.created_on is None else seed.created_on
    return Job(
        seed,
        creator=creator,
        created_on=created_on,
        modified_by=seed.modified_by or creator,
        modified_on=created_on if seed.modified_on is None else seed.modified_on,
        permissions=(Permission(creator, "USER", ("READ", "WRITE", "EXECUTE")),),
    )


class JobStore:
    """
    Jobs and deleted jobs by id.

    :param now: returns the current time.
    :param finished_at: returns when the run of a job ended, or 0 if there is no ended run.
    :param user: recorded as the user who deletes jobs after completion.
    """

    def __init__(self, now: Callable[[], int], finished_at: Callable[[Job], int], user: str) -> None:
        self._now = now
        self._finished_at = finished_at
        self._user = user
        # Replaced instead of modified, so that callers can look up jobs while they iterate.
        self._jobs: dict[str, Job] = {}
        # The jobs to delete after completion.
        self._expiring: dict[str, Job] = {}
        self._deleted: dict[str, Job] = {}

    @property
    def jobs(self) -> dict[str, Job]:
        """The jobs, without the deleted ones."""
        return self._jobs

    @property
    def deleted(self) -> dict[str, Job]:
        """The deleted jobs."""
        return self._deleted

    def add(self, job: Job) -> None:
        """Add a job, or replace the one with the same id."""
        self._jobs = {**self._jobs, job.id: job}
        self._expiring.pop(job.id, None)
        if job.seed.delete_after_completion:
            self._expiring[job.id] = job
        self._deleted = {key: other for key, other in self._deleted.items() if key != job.id}

    def delete(self, job: Job, user: str) -> None:
        """Delete a job."""
        self._delete(job, user, self._now())

    def delete_completed(self) -> None:
        """Delete the jobs that are to be deleted after completion and whose run has ended."""
        now = self._now()
        ends = [(self._finished_at(job), job) for job in self._expiring.values()]
        # In the order of their times, as if each had been deleted on time.
        for ended, job in sorted(ends, key=lambda end: end[0]):
            if 0 < ended <= now:
                self._delete(job, self._user, ended)

    def _delete(self, job: Job, user: str, at: int) -> None:
        job.destroyer, job.deleted_on = user, at
        self._expiring.pop(job.id, None)
        self._jobs = {key: other for key, other in self._jobs.items() if other is not job}
        self._deleted = {**self._deleted, job.id: job}


OFFSET_KEY = "$com.streamsets.datacollector.pollsource.offset$"


class Store:
    """
    Jobs, runs, pipelines and engines of one organization.

    The state is a function of the recorded requests and the time; there are no background tasks.

    :param seed: initial data.
    :param clock: source of the current time.
    :param variants: behaviour where the behaviour of Control Hub is unknown.
    :param time_scale: factor by which durations are shortened.
    :param key: key from which the ids of new jobs are derived; None for a random one.
    """

    def __init__(
        self, seed: Seed, clock: Clock, variants: Variants, time_scale: float = 1.0, key: str | None = None
    ) -> None:
        if not 0 < time_scale < float("inf"):
            raise ValueError(f"'time_scale' must be greater than 0, got {time_scale}.")
        self.seed = seed
        self.clock = clock
        self.variants = variants
        self.time_scale = time_scale
        self.created_at = clock.now()
        self.user = seed.organization.user_id
        self.organization = seed.organization.id
        self.engines: dict[str, EngineSeed] = {engine.id: engine for engine in seed.engines}
        self.pipelines: dict[str, PipelineSeed] = {pipeline.id: pipeline for pipeline in seed.pipelines}
        self._run_states: dict[str, tuple[tuple[int, ...], Variants, RunState]] = {}
        self._key = key or secrets.token_hex(16)
        self._id_counter = 0
        self._scheduler = Scheduler()
        self.subscriptions = Subscriptions()
        self.job_filters = SavedFilters("JOBRUNNER_06")
        self.pipeline_filters = SavedFilters("PIPELINE_STORE_03")
        self._job_store = JobStore(clock.now, self._finished_at, self.user)
        for job_seed in seed.jobs:
            self.add_job(job_seed)

    @property
    def jobs(self) -> dict[str, Job]:
        """The jobs and job templates by id, without the deleted ones."""
        self.run_due()
        return self._job_store.jobs

    @property
    def deleted_jobs(self) -> dict[str, Job]:
        """The deleted jobs by id."""
        self.run_due()
        return self._job_store.deleted

    def run_due(self) -> None:
        """Run all scheduled actions that are due."""
        self._scheduler.run_due(self.clock.now())
        self._job_store.delete_completed()

    def new_job_id(self) -> str:
        """Return a new job id."""
        return self.new_id("new job")

    def new_id(self, kind: str) -> str:
        """
        Return the id of a new object.

        :param kind: kind of the object.
        """
        self._id_counter += 1
        return f"{make_id(kind, self._key, str(self._id_counter))}:{self.organization}"

    def add_job(self, seed: JobSeed) -> Job:
        """Add a job. Creation time and creator default to the current time and the user of the credential."""
        if seed.needs_ack is None:
            seed = replace(seed, needs_ack=self.variants.needs_ack_default == "true")
        job = new_job(seed, self.clock.now(), self.user)
        self._job_store.add(job)
        return job

    def delete_job(self, job: Job) -> None:
        """Delete a job without checking its state."""
        self._job_store.delete(job, self.user)

    def change_job(self, job: Job, **changes: Any) -> None:
        """
        Change the definition of a job without checking its state.

        :param job: the job.
        :param changes: new values of fields of :class:`~airflow_provider_streamsets.sandbox.seed.models.JobSeed`.
        """
        job.seed = replace(job.seed, **changes)
        job.modified_by = self.user
        # Two changes within one millisecond must have different times.
        job.modified_on = max(self.clock.now(), job.modified_on + 1)

    def save_pipeline(self, pipeline: PipelineSeed) -> None:
        """Add a pipeline or replace its versions; jobs keep their version."""
        self.pipelines[pipeline.id] = pipeline
        for job in (*self.jobs.values(), *self.deleted_jobs.values()):
            if job.seed.pipeline.id == pipeline.id:
                job.seed = replace(job.seed, pipeline=pipeline)

    def job(self, job_id: str) -> Job:
        """
        Return a job.

        :raises UnknownJobError: if it does not exist.
        """
        try:
            return self.jobs[job_id]
        except KeyError:
            raise UnknownJobError(job_id) from None

    def readable_job(self, job_id: str) -> Job:
        """
        Return a job, or a deleted one that is still readable.

        :raises UnknownJobError: if there is neither.
        """
        deleted = self.deleted_jobs.get(job_id)
        if deleted and deleted.seed.delete_after_completion and self.variants.deleted_instances == "readable":
            return deleted
        return self.job(job_id)

    def run(self, run_id: str) -> Run:
        """
        Return a run by its id.

        :raises ApiError: if it does not exist.
        """
        for job in self.jobs.values():
            for run in job.runs:
                if run.id == run_id:
                    return run
        raise ApiError(404, "JOBRUNNER_02", f"Job status '{run_id}' does not exist")

    def run_state(self, run: Run) -> RunState:
        """Return the state of a run, given the user actions so far."""
        actions = (len(run.stops), len(run.force_stops), len(run.acks), len(run.moves), int(run.superseded is not None))
        cached = self._run_states.get(run.id)
        if cached is None or cached[0] != actions or cached[1] is not self.variants or cached[2].run is not run:
            cached = (actions, self.variants, RunState(run, self.variants))
            self._run_states[run.id] = cached
        return cached[2]

    def status(self, job: Job, time: int | None = None) -> str | None:
        """Return the status of a job, or None if it never ran."""
        run = job.latest
        return self.run_state(run).phase_at(self.clock.now() if time is None else time).status if run else None

    def matching_engines(self, job: Job) -> list[EngineSeed]:
        """Return the engines that have all the labels of a job."""
        return [engine for engine in self.engines.values() if set(job.seed.labels) <= set(engine.labels)]

    def engine_health(self, engine: EngineSeed, time: int) -> tuple[bool, int]:
        """Return whether an engine responds, and the time of its last heartbeat."""
        lost = [
            phase.lost_since
            for job in self.jobs.values()
            if (run := job.latest) is not None and engine.id in run.engine_ids_at(time)
            if (run_state := self.run_state(run)).is_lost(time)
            and (phase := run_state.phase_at(time)).lost_since is not None
        ]
        return (False, min(lost)) if lost else (True, time)

    def offset(self, job: Job, time: int) -> dict[str, Any] | None:
        """Return the offset document from which the next run of a job would continue."""
        changes = [change for change in job.offset_changes if change[0] <= time]
        changed_at, document = changes[-1] if changes else (-1, None)
        for run in reversed(job.runs):
            if run.started < changed_at:
                break
            run_offset = self.run_offset(job, run, time)
            if run_offset is not None:
                return run_offset
        return document

    def run_offset(self, job: Job, run: Run, time: int) -> dict[str, Any] | None:
        """Return the offset document at the end of a run, or None before its end."""
        position = self.run_state(run).offset_position(time)
        if position is None:
            return None
        text = run.offset_text.replace("{position}", str(position))
        return {"version": 2, "offsets": {OFFSET_KEY: text}}

    def saved_counts(self, run: Run, time: int) -> Counts | None:
        """Return the saved record counts of a run."""
        return self.run_state(run).saved(time)

    def _finished_at(self, job: Job) -> int:
        if self.status(job) == "INACTIVE_ERROR":
            # The error must be acknowledged before the job is deleted.
            return 0
        return self.run_state(job.latest).finished_at(self.clock.now()) if job.latest else 0
