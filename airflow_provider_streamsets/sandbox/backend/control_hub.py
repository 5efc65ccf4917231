"""What the sandbox knows, and the rules for changing it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_streamsets.sandbox.backend.caller import acting_for, current_caller
from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError, WrongStateError, bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.backend.runs import ENDED, Ask, Run
from airflow_provider_streamsets.sandbox.backend.store import OFFSET_KEY, Holdings
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.seed.behaviour import Behaviour, tuned
from airflow_provider_streamsets.sandbox.seed.models import PastRunSeed, Seed, make_id


@dataclass(frozen=True)
class Start:
    """An entry of the log of starts."""

    job_id: str
    job_name: str
    run_count: int
    time: int
    user: str
    caller: str | None


@dataclass(frozen=True)
class Stop:
    """An entry of the log of stops."""

    job_id: str
    job_name: str
    run_count: int
    time: int
    user: str
    caller: str | None
    forced: bool


class World(Holdings):
    """
    Jobs, runs, pipelines and engines of one organization, and what can be asked of jobs.

    :param seed: what there is in the beginning.
    :param clock: tells the time.
    :param variants: how to behave where the real behaviour is not known.
    :param time_scale: durations take that many times less wall time.
    :param key: what ids of new jobs are made from; None for one that no other world has.
    """

    def __init__(
        self, seed: Seed, clock: Clock, variants: Variants, time_scale: float = 1.0, key: str | None = None
    ) -> None:
        super().__init__(seed, clock, variants, time_scale, key)
        self._starts: list[Start] = []
        self._stops: list[Stop] = []
        for job in self.jobs.values():
            for past in job.seed.past:
                self._past_run(job, past)

    @property
    def starts(self) -> list[Start]:
        """The log of starts, the first one first."""
        self.catch_up()
        return self._starts

    @property
    def stops(self) -> list[Stop]:
        """The log of stops that clients asked for and that had an effect, the first one first."""
        return self._stops

    def start(self, job: Job, parameters: dict[str, Any] | None = None, at: int | None = None) -> Run:
        """
        Start a job.

        :param job: the job.
        :param parameters: runtime parameters of this run; None takes the stored ones.
        :param at: when it was started; None: now.
        :raises ProblemError: if its state does not allow it.
        """
        self.check_start(job)
        now = self.clock.now() if at is None else at
        effective = job.parameters if parameters is None else parameters
        if parameters is not None and self.variants.start_parameters == "merge":
            effective = {**job.parameters, **parameters}
        if parameters is not None and self.variants.start_parameters_kept == "stored":
            job.seed = replace(job.seed, parameters=dict(effective))
        run = self._new_run(job, now, job.seed.version.version, effective, None)
        job.runs.append(run)
        self._starts.append(Start(job.id, job.seed.name, run.run_count, now, self.user, current_caller()))
        return run

    def start_successor(self, job: Job, run: Run) -> Run:
        """
        End the active run of a job that was upgraded, and start its successor with the job's pipeline version.

        Not in the log of starts, which holds what clients asked to start.
        """
        version = job.seed.version.version
        run.superseded = Ask(self.clock.now(), self.user, f"Job upgraded to pipeline version v{version}")
        successor = self._new_run(job, self.clock.now(), version, run.parameters, None)
        successor.predecessor_id = run.id
        job.runs.append(successor)
        return successor

    def start_later(self, job: Job, at: int) -> None:
        """Start a job at a time to come, unless it has been started or deleted by then."""
        caller = current_caller()

        def start(at: int) -> None:
            if not job.runs and not job.deleted_on:
                # Nobody is there to be told of a refusal: the job just does not start.
                with suppress(ProblemError), acting_for(caller):
                    self.start(job, at=at)

        self._agenda.add(at, start)

    def check_start(self, job: Job) -> None:
        """
        Check that a job can be started.

        :raises ProblemError: if not.
        """
        self._no_template(job, "started")
        self.check_idle(job, "started")
        self.check_engines(job)

    def check_idle(self, job: Job, done: str) -> None:
        """
        Check that a job is not running and that no error waits for an acknowledgement.

        :param job: the job.
        :param done: what cannot be done otherwise, for example "started".
        :raises ProblemError: if not.
        """
        status = self.status(job)
        if status == "INACTIVE_ERROR":
            raise self._wrong(job, status, f"cannot be {done}: its error must be acknowledged first")
        if status is not None and status not in ENDED:
            raise self._wrong(job, status, f"cannot be {done}")

    def check_engines(self, job: Job) -> None:
        """
        Check that there is an engine for a job.

        :raises ProblemError: if not.
        """
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
            run.stops.append(self._note_stop(job, run, forced=False))

    def force_stop(self, job: Job) -> None:
        """
        Stop a job without waiting for its engine.

        :raises ProblemError: if its state does not allow it.
        """
        self.check_stop(job)
        run, status = job.latest, self.status(job)
        if run is not None and status not in ENDED:
            run.force_stops.append(self._note_stop(job, run, forced=True))

    def _note_stop(self, job: Job, run: Run, *, forced: bool) -> Ask:
        ask = Ask(self.clock.now(), self.user)
        stop = Stop(job.id, job.seed.name, run.run_count, ask.at, ask.user, current_caller(), forced)
        self._stops.append(stop)
        return ask

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
        self.remark(job, "Job synchronized")

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
        commit = next(item for item in job.seed.pipeline.versions if item.version == version)
        declared = {
            name: "" if parameters.get(name, default) is None else str(parameters.get(name, default))
            for name, default in commit.constants.items()
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
            commit_id=commit.commit_id,
            offset_text=job.seed.pipeline.offset,
            engine_ids=tuple(engine.id for engine in engines),
            engine_urls=tuple(engine.url for engine in engines),
            behaviour=tuned(behaviour or job.seed.pipeline.behaviour, declared),
            parameters=dict(parameters),
            scale=self.time_scale,
            stats_interval=job.seed.stats_interval,
            force_stop_timeout=job.seed.force_stop_timeout,
            needs_ack=bool(job.seed.needs_ack),
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

    def remark(self, job: Job, text: str) -> None:
        """Note something in the events of a job's latest run."""
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
