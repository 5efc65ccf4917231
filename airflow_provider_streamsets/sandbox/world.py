"""What the sandbox knows, and the rules for changing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_streamsets.sandbox.behaviours import Behaviour, tuned
from airflow_provider_streamsets.sandbox.clock import Clock
from airflow_provider_streamsets.sandbox.lifecycle import Lifecycle
from airflow_provider_streamsets.sandbox.problems import (
    ProblemError,
    UnknownJobError,
    WrongStateError,
    bad_request,
)
from airflow_provider_streamsets.sandbox.runs import ENDED, Ask, Counts, Run
from airflow_provider_streamsets.sandbox.seed import EngineSeed, JobSeed, PastRunSeed, PipelineSeed, Seed, make_id
from airflow_provider_streamsets.sandbox.variants import Variants

OFFSET_KEY = "$com.streamsets.datacollector.pollsource.offset$"


@dataclass
class Job:
    """A job with its runs, the newest last."""

    seed: JobSeed
    parameters: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    offset_changes: list[tuple[int, dict[str, Any] | None]] = field(default_factory=list)
    """Resets (None) and uploads (the document), each with its time."""

    @property
    def id(self) -> str:
        """The job id."""
        return self.seed.id

    @property
    def latest(self) -> Run | None:
        """The run that began last."""
        return self.runs[-1] if self.runs else None


@dataclass(frozen=True)
class Start:
    """An entry of the log of starts."""

    job_id: str
    job_name: str
    run_count: int
    time: int
    user: str


class World:
    """
    Jobs, runs, pipelines and engines of one organization.

    Nothing happens by itself: what there is to see follows from what was asked and from the clock.

    :param seed: what there is in the beginning.
    :param clock: tells the time.
    :param variants: how to behave where the real behaviour is not known.
    :param time_scale: durations take that many times less wall time.
    """

    def __init__(self, seed: Seed, clock: Clock, variants: Variants, time_scale: float = 1.0) -> None:
        if not 0 < time_scale < float("inf"):
            raise ValueError(f"the time scale must be greater than 0, not {time_scale}")
        self.seed = seed
        self.clock = clock
        self.variants = variants
        self.time_scale = time_scale
        self.born = clock.now()
        self.user = seed.organization.user_id
        self.organization = seed.organization.id
        self.jobs: dict[str, Job] = {job.id: Job(job, dict(job.parameters)) for job in seed.jobs}
        self.engines: dict[str, EngineSeed] = {engine.id: engine for engine in seed.engines}
        self.pipelines: dict[str, PipelineSeed] = {pipeline.id: pipeline for pipeline in seed.pipelines}
        self.starts: list[Start] = []
        self._lifecycles: dict[str, tuple[tuple[int, int, int], Variants, Lifecycle]] = {}
        for job in self.jobs.values():
            for past in job.seed.past:
                self._past_run(job, past)

    def job(self, job_id: str) -> Job:
        """
        Return a job.

        :raises UnknownJobError: if there is none.
        """
        try:
            return self.jobs[job_id]
        except KeyError:
            raise UnknownJobError(job_id) from None

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
        asked = (len(run.stops), len(run.force_stops), len(run.acks))
        known = self._lifecycles.get(run.id)
        if known is None or known[0] != asked or known[1] is not self.variants:
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
            if (run := job.latest) is not None and engine.id in run.engine_ids
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
        text = job.seed.pipeline.offset.replace("{position}", str(position))
        return {"version": 2, "offsets": {OFFSET_KEY: text}}

    def saved_counts(self, run: Run, time: int) -> Counts | None:
        """Return the metrics that were saved of a run."""
        return self.lifecycle(run).saved(time)

    def start(self, job: Job, parameters: dict[str, Any] | None = None) -> Run:
        """
        Start a job.

        :param job: the job.
        :param parameters: runtime parameters of this run; None takes the stored ones.
        :raises ProblemError: if its state does not allow it.
        """
        self.check_start(job)
        now = self.clock.now()
        effective = job.parameters if parameters is None else parameters
        if parameters is not None and self.variants.start_parameters == "merge":
            effective = {**job.parameters, **parameters}
        if parameters is not None and self.variants.start_parameters_kept == "stored":
            job.parameters = dict(effective)
        run = self._new_run(job, now, job.seed.version.version, effective, None)
        job.runs.append(run)
        self.starts.append(Start(job.id, job.seed.name, run.run_count, now, self.user))
        return run

    def check_start(self, job: Job) -> None:
        """
        Check that a job can be started.

        :raises ProblemError: if not.
        """
        self._no_template(job, "started")
        status = self.status(job)
        if status == "INACTIVE_ERROR":
            raise self._wrong(job, status, "cannot be started: its error must be acknowledged first")
        if status is not None and status not in ENDED:
            raise self._wrong(job, status, "cannot be started")
        if not self.matching_engines(job):
            labels = ", ".join(job.seed.labels)
            raise ProblemError(
                400, "JOBRUNNER_26", f"Job '{job.seed.name}' cannot be started: no engine has all its labels [{labels}]"
            )

    def stop(self, job: Job) -> None:
        """
        Ask a running job to stop.

        :raises ProblemError: if its state does not allow it.
        """
        self.check_stop(job)
        run, status = job.latest, self.status(job)
        if run is not None and status not in ENDED and status != "DEACTIVATING":
            run.stops.append(Ask(self.clock.now(), self.user))

    def force_stop(self, job: Job) -> None:
        """
        Stop a job without waiting for its engine.

        :raises ProblemError: if its state does not allow it.
        """
        self.check_stop(job)
        run, status = job.latest, self.status(job)
        if run is not None and status not in ENDED:
            run.force_stops.append(Ask(self.clock.now(), self.user))

    def check_stop(self, job: Job) -> None:
        """
        Check that a job can be stopped.

        :raises ProblemError: if not.
        """
        self._no_template(job, "stopped")
        status = self.status(job)
        if status in (None, "INACTIVE", "ACTIVATION_ERROR") and self.variants.stop_inactive == "refused":
            raise self._wrong(job, status, "cannot be stopped")
        if status == "INACTIVE_ERROR":
            raise self._wrong(job, status, "cannot be stopped: its error must be acknowledged first")
        if status == "ACTIVATING" and self.variants.stop_while_activating == "refused":
            raise self._wrong(job, status, "cannot be stopped")

    def acknowledge(self, job: Job) -> None:
        """
        Acknowledge the error of a job.

        :raises ProblemError: if it has none and the variant says so.
        """
        self.check_acknowledge(job)
        run = job.latest
        if run is not None and self.status(job) == "INACTIVE_ERROR":
            run.acks.append(Ask(self.clock.now(), self.user))

    def check_acknowledge(self, job: Job) -> None:
        """
        Check that a job's error can be acknowledged.

        :raises ProblemError: if not.
        """
        status = self.status(job)
        if status != "INACTIVE_ERROR" and self.variants.acknowledge_elsewhere == "refused":
            raise self._wrong(job, status, "has no error to acknowledge")

    def synchronize(self, job: Job) -> None:
        """Ask the hub to bring a running job in line with the engines' labels, which never change here."""
        self.check_active(job)
        self._remark(job, "Job synchronized")

    def balance(self, job: Job) -> None:
        """Ask the hub to move a running job to less loaded engines, of which there are none here."""
        self.check_active(job)
        self._remark(job, "Job balanced")

    def check_active(self, job: Job) -> None:
        """
        Check that a job is active.

        :raises ProblemError: if not.
        """
        status = self.status(job)
        if status != "ACTIVE":
            raise self._wrong(job, status, "is not active")

    def reset_error_info(self, job: Job) -> None:
        """Forget the errors that engines reported about a job's latest run."""
        if job.latest:
            job.latest.error_info_resets.append(Ask(self.clock.now(), self.user))

    def reset_offset(self, job: Job) -> None:
        """
        Forget how far a job has read.

        :raises ProblemError: if the job is running.
        """
        self.check_offset_change(job)
        job.offset_changes.append((self.clock.now(), None))

    def upload_offset(self, job: Job, document: Any) -> None:
        """
        Set how far a job has read.

        :param job: the job.
        :param document: an offset document.
        :raises ProblemError: if the job is running or the document is none.
        """
        self.check_offset_change(job)
        offsets = document.get("offsets") if isinstance(document, dict) else None
        if not isinstance(offsets, dict) or document.get("version") != 2:
            raise bad_request('an offset document is {"version": 2, "offsets": {...}}')
        if not all(value is None or isinstance(value, str) for value in offsets.values()):
            raise bad_request("the values of an offset document must be text or null")
        job.offset_changes.append((self.clock.now(), document))

    def check_offset_change(self, job: Job) -> None:
        """
        Check that a job's offset can be changed.

        :raises ProblemError: if not.
        """
        self._no_template(job, "given an offset")
        status = self.status(job)
        if status is not None and status not in ENDED:
            raise self._wrong(job, status, "cannot be given another offset")

    def in_bulk(self, job_ids: list[str], check: Callable[[Job], None], act: Callable[[Job], object]) -> list[Job]:
        """
        Do something with many jobs.

        :param job_ids: which jobs.
        :param check: raises if the action is not allowed.
        :param act: the action.
        :return: the jobs.
        :raises ProblemError: if one of them is refused; whether the others are done is a variant.
        """
        first_problem: ProblemError | None = None
        allowed = []
        for job_id in dict.fromkeys(job_ids):
            try:
                job = self.job(job_id)
                check(job)
                allowed.append(job)
            except ProblemError as problem:
                first_problem = first_problem or problem
        if first_problem is None or self.variants.bulk_partial == "partial":
            for job in allowed:
                act(job)
        if first_problem is not None:
            raise first_problem
        return allowed

    def _new_run(
        self, job: Job, started: int, version: str, parameters: dict[str, Any], behaviour: Behaviour | None
    ) -> Run:
        count = len(job.runs) + 1
        constants = next(item.constants for item in job.seed.pipeline.versions if item.version == version)
        declared = {
            name: "" if parameters.get(name, default) is None else str(parameters.get(name, default))
            for name, default in constants.items()
        }
        engines = self.matching_engines(job)
        if job.seed.instances > 0:
            engines = engines[: job.seed.instances]
        return Run(
            id=f"{make_id('run', job.id, str(count), str(started))}:{self.organization}",
            job_id=job.id,
            run_count=count,
            user=self.user,
            started=started,
            version=version,
            engine_ids=tuple(engine.id for engine in engines),
            engine_urls=tuple(engine.url for engine in engines),
            behaviour=tuned(behaviour or job.seed.pipeline.behaviour, declared),
            parameters=dict(parameters),
            scale=self.time_scale,
            stats_interval=job.seed.stats_interval,
            force_stop_timeout=job.seed.force_stop_timeout,
            needs_ack=job.seed.needs_ack,
            offset_base=self._position(self.offset(job, started)),
        )

    def _past_run(self, job: Job, past: PastRunSeed) -> None:
        started = self.born - past.started_ago
        run = self._new_run(job, started, past.version, job.parameters, past.behaviour)
        # What happened before took as long as it takes, whatever the time scale of today.
        run.scale = 1.0
        if past.stopped_ago is not None:
            run.stops.append(Ask(self.born - past.stopped_ago, self.user))
        if past.acknowledged_ago is not None:
            run.acks.append(Ask(self.born - past.acknowledged_ago, self.user))
        job.runs.append(run)

    def _remark(self, job: Job, text: str) -> None:
        if job.latest:
            job.latest.remarks.append(Ask(self.clock.now(), self.user, text))

    def _no_template(self, job: Job, done: str) -> None:
        if job.seed.is_template:
            raise WrongStateError(f"Job template '{job.seed.name}' cannot be {done}", int(self.variants.wrong_state))

    def _wrong(self, job: Job, status: str | None, what: str) -> WrongStateError:
        state = f"is {status}" if status else "has never run"
        return WrongStateError(f"Job '{job.seed.name}' {what}: it {state}", int(self.variants.wrong_state))

    @staticmethod
    def _position(document: dict[str, Any] | None) -> int:
        """Return the number that an offset text of ours ends in; a text of any other form counts from 0."""
        text = str(((document or {}).get("offsets") or {}).get(OFFSET_KEY) or "")
        digits = text[len(text.rstrip("0123456789")) :]
        return int(digits) if digits else 0
