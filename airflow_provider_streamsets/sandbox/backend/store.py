"""What the sandbox holds, and how it stands."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from airflow_provider_streamsets.sandbox.backend.clock import Agenda, Clock
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError, UnknownJobError
from airflow_provider_streamsets.sandbox.backend.jobs import Job, JobBook, new_job
from airflow_provider_streamsets.sandbox.backend.run_state import Lifecycle
from airflow_provider_streamsets.sandbox.backend.runs import Counts, Run
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.seed.models import EngineSeed, JobSeed, PipelineSeed, Seed, make_id

OFFSET_KEY = "$com.streamsets.datacollector.pollsource.offset$"


class Holdings:
    """
    Jobs, runs, pipelines and engines of one organization.

    Nothing happens by itself: what there is to see follows from what was asked and from the clock.

    :param seed: what there is in the beginning.
    :param clock: tells the time.
    :param variants: how to behave where the real behaviour is not known.
    :param time_scale: durations take that many times less wall time.
    :param key: what ids of new jobs are made from; None for one that no other world has.
    """

    def __init__(
        self, seed: Seed, clock: Clock, variants: Variants, time_scale: float = 1.0, key: str | None = None
    ) -> None:
        if not 0 < time_scale < float("inf"):
            raise ValueError(f"the time scale must be greater than 0, not {time_scale}")
        self.seed = seed
        self.clock = clock
        self.variants = variants
        self.time_scale = time_scale
        self.born = clock.now()
        self.user = seed.organization.user_id
        self.organization = seed.organization.id
        self.engines: dict[str, EngineSeed] = {engine.id: engine for engine in seed.engines}
        self.pipelines: dict[str, PipelineSeed] = {pipeline.id: pipeline for pipeline in seed.pipelines}
        self._lifecycles: dict[str, tuple[tuple[int, ...], Variants, Lifecycle]] = {}
        self._key = key or secrets.token_hex(16)
        self._ids_given = 0
        self._agenda = Agenda()
        self._book = JobBook(clock.now, self._finished_at, self.user)
        for job_seed in seed.jobs:
            self.add_job(job_seed)

    @property
    def jobs(self) -> dict[str, Job]:
        """The jobs and job templates by id, without those that are deleted."""
        self.catch_up()
        return self._book.living

    @property
    def removed_jobs(self) -> dict[str, Job]:
        """The deleted jobs by id."""
        self.catch_up()
        return self._book.removed

    def catch_up(self) -> None:
        """Let all have happened that is due."""
        self._agenda.catch_up(self.clock.now())
        self._book.sweep()

    def new_job_id(self) -> str:
        """Return an id that no job has, in this world or any other."""
        self._ids_given += 1
        return f"{make_id('new job', self._key, str(self._ids_given))}:{self.organization}"

    def add_job(self, seed: JobSeed) -> Job:
        """Add a job, ready to run; what the seed does not say about its creation is now and the user."""
        if seed.needs_ack is None:
            seed = replace(seed, needs_ack=self.variants.needs_ack_default == "true")
        job = new_job(seed, self.clock.now(), self.user)
        self._book.add(job)
        return job

    def remove_job(self, job: Job) -> None:
        """Delete a job, whatever its state."""
        self._book.remove(job, self.user)

    def change_job(self, job: Job, **changes: Any) -> None:
        """
        Change what a job is, whatever its state.

        :param job: the job.
        :param changes: values of the fields of its seed.
        """
        job.seed = replace(job.seed, **changes)
        job.modified_by = self.user
        # Two changes within one millisecond must be told apart.
        job.modified_on = max(self.clock.now(), job.modified_on + 1)

    def put_pipeline(self, pipeline: PipelineSeed) -> None:
        """Add a pipeline, or let it have other versions; jobs of it keep the version that they run."""
        self.pipelines[pipeline.id] = pipeline
        for job in (*self.jobs.values(), *self.removed_jobs.values()):
            if job.seed.pipeline.id == pipeline.id:
                job.seed = replace(job.seed, pipeline=pipeline)

    def job(self, job_id: str) -> Job:
        """
        Return a job.

        :raises UnknownJobError: if there is none.
        """
        try:
            return self.jobs[job_id]
        except KeyError:
            raise UnknownJobError(job_id) from None

    def readable_job(self, job_id: str) -> Job:
        """
        Return a job as far as it can still be read.

        :raises UnknownJobError: if it cannot.
        """
        deleted = self.removed_jobs.get(job_id)
        if deleted and deleted.seed.delete_after_completion and self.variants.deleted_instances == "readable":
            return deleted
        return self.job(job_id)

    def run(self, run_id: str) -> Run:
        """
        Return a run by its own id.

        :raises ProblemError: if there is none.
        """
        for job in self.jobs.values():
            for run in job.runs:
                if run.id == run_id:
                    return run
        raise ProblemError(404, "JOBRUNNER_02", f"Job status '{run_id}' does not exist")

    def lifecycle(self, run: Run) -> Lifecycle:
        """Return the course of a run as it stands now."""
        asked = (len(run.stops), len(run.force_stops), len(run.acks), len(run.moves), int(run.superseded is not None))
        known = self._lifecycles.get(run.id)
        if known is None or known[0] != asked or known[1] is not self.variants or known[2].run is not run:
            known = (asked, self.variants, Lifecycle(run, self.variants))
            self._lifecycles[run.id] = known
        return known[2]

    def status(self, job: Job, time: int | None = None) -> str | None:
        """Return a job's status, None if it never ran."""
        run = job.latest
        return self.lifecycle(run).at(self.clock.now() if time is None else time).status if run else None

    def matching_engines(self, job: Job) -> list[EngineSeed]:
        """Return the engines that have all labels of a job."""
        return [engine for engine in self.engines.values() if set(job.seed.labels) <= set(engine.labels)]

    def responding(self, engine: EngineSeed, time: int) -> tuple[bool, int]:
        """Return whether the hub hears from an engine, and when it last did."""
        lost = [
            phase.lost_since
            for job in self.jobs.values()
            if (run := job.latest) is not None and engine.id in run.engine_ids_at(time)
            if (life := self.lifecycle(run)).is_lost(time) and (phase := life.at(time)).lost_since is not None
        ]
        return (False, min(lost)) if lost else (True, time)

    def offset(self, job: Job, time: int) -> dict[str, Any] | None:
        """Return the offset document that the next run of a job would begin with."""
        changes = [change for change in job.offset_changes if change[0] <= time]
        changed_at, document = changes[-1] if changes else (-1, None)
        for run in reversed(job.runs):
            if run.started < changed_at:
                break
            own = self.run_offset(job, run, time)
            if own is not None:
                return own
        return document

    def run_offset(self, job: Job, run: Run, time: int) -> dict[str, Any] | None:
        """Return the offset document that a run has left, None before its end."""
        position = self.lifecycle(run).offset_position(time)
        if position is None:
            return None
        text = run.offset_text.replace("{position}", str(position))
        return {"version": 2, "offsets": {OFFSET_KEY: text}}

    def saved_counts(self, run: Run, time: int) -> Counts | None:
        """Return the metrics that were saved of a run."""
        return self.lifecycle(run).saved(time)

    def _finished_at(self, job: Job) -> int:
        if self.status(job) == "INACTIVE_ERROR":
            # Its error must be acknowledged first, for this as for anything else.
            return 0
        return self.lifecycle(job.latest).finished_at(self.clock.now()) if job.latest else 0
