"""The simulated Control Hub: its state and the rules for changing it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.backend.credentials import caller_context, current_caller
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, WrongStateError, bad_request
from airflow_provider_streamsets.sandbox.backend.runs import FINAL_STATUSES, Run, UserAction
from airflow_provider_streamsets.sandbox.backend.store import OFFSET_KEY, Job, Store
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.seed.behaviour import Behaviour, apply_parameters
from airflow_provider_streamsets.sandbox.seed.models import PastRunSeed, Seed, make_id


@dataclass(frozen=True)
class Start:
    """An entry in the log of starts."""

    job_id: str
    job_name: str
    run_count: int
    time: int
    user: str
    caller: str | None


@dataclass(frozen=True)
class Stop(Start):
    """An entry in the log of stops."""

    forced: bool


class ControlHubBackend(Store):
    """
    Jobs, runs, pipelines and engines of one organization, and the actions on jobs.

    :param seed: initial data.
    :param clock: source of the current time.
    :param variants: behaviour where the behaviour of Control Hub is unknown.
    :param time_scale: factor by which durations are shortened.
    :param key: key from which the ids of new jobs are derived; None for a random one.
    """

    def __init__(
        self, seed: Seed, clock: Clock, variants: Variants, time_scale: float = 1.0, key: str | None = None
    ) -> None:
        super().__init__(seed, clock, variants, time_scale, key)
        self._starts: list[Start] = []
        self._stops: list[Stop] = []
        for job in self.jobs.values():
            for past in job.seed.past:
                self._add_past_run(job, past)

    @property
    def starts(self) -> list[Start]:
        """The log of starts, oldest first."""
        self.run_due()
        return self._starts

    @property
    def stops(self) -> list[Stop]:
        """The log of effective stop requests, oldest first."""
        return self._stops

    def start(self, job: Job, parameters: dict[str, Any] | None = None, at: int | None = None) -> Run:
        """
        Start a job.

        :param job: the job.
        :param parameters: runtime parameters of the run; None for the stored ones.
        :param at: the start time; None for the current time.
        :raises ApiError: if the state of the job does not allow it.
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
        End the active run of an upgraded job and start a successor with the new pipeline version.

        The log of starts does not include the successor, because no client requested it.
        """
        version = job.seed.version.version
        run.superseded = self._action(f"Job upgraded to pipeline version v{version}")
        successor = self._new_run(job, self.clock.now(), version, run.parameters, None)
        successor.predecessor_id = run.id
        job.runs.append(successor)
        return successor

    def schedule_start(self, job: Job, at: int) -> None:
        """Start a job at a later time, unless it has been started or deleted by then."""
        caller = current_caller()

        def start(at: int) -> None:
            if not job.runs and not job.deleted_on:
                # There is no client to report an error to: the job does not start.
                with suppress(ApiError), caller_context(caller):
                    self.start(job, at=at)

        self._scheduler.add(at, start)

    def check_start(self, job: Job) -> None:
        """Check that a job can be started, or raise an :class:`ApiError`."""
        self._check_not_template(job, "started")
        self.check_idle(job, "started")
        self.check_engines(job)

    def check_idle(self, job: Job, action: str) -> None:
        """
        Check that a job is not running and has no unacknowledged error.

        :param job: the job.
        :param action: past participle of the action, for the error message, for example "started".
        :raises ApiError: if it is running or has an unacknowledged error.
        """
        status = self.status(job)
        if status == "INACTIVE_ERROR":
            raise self._state_error(job, status, f"cannot be {action}: its error must be acknowledged first")
        if status is not None and status not in FINAL_STATUSES:
            raise self._state_error(job, status, f"cannot be {action}")

    def check_engines(self, job: Job) -> None:
        """
        Check that an engine can run a job.

        :raises ApiError: if no engine has all its labels.
        """
        if not self.matching_engines(job):
            labels = ", ".join(job.seed.labels)
            raise ApiError(
                400, "JOBRUNNER_26", f"Job '{job.seed.name}' cannot be started: no engine has all its labels [{labels}]"
            )

    def stop(self, job: Job) -> None:
        """Request the stop of a running job, or raise an :class:`ApiError`."""
        self.check_stop(job)
        run, status = job.latest, self.status(job)
        if run is not None and status not in FINAL_STATUSES and status != "DEACTIVATING":
            run.stops.append(self._log_stop(job, run, forced=False))

    def force_stop(self, job: Job) -> None:
        """Stop a job without waiting for its engine, or raise an :class:`ApiError`."""
        self.check_stop(job)
        run, status = job.latest, self.status(job)
        if run is not None and status not in FINAL_STATUSES:
            run.force_stops.append(self._log_stop(job, run, forced=True))

    def _log_stop(self, job: Job, run: Run, *, forced: bool) -> UserAction:
        action = self._action()
        stop = Stop(job.id, job.seed.name, run.run_count, action.at, action.user, current_caller(), forced)
        self._stops.append(stop)
        return action

    def check_stop(self, job: Job) -> None:
        """Check that a job can be stopped, or raise an :class:`ApiError`."""
        self._check_not_template(job, "stopped")
        status = self.status(job)
        if status in (None, "INACTIVE", "ACTIVATION_ERROR") and self.variants.stop_inactive == "refused":
            raise self._state_error(job, status, "cannot be stopped")
        if status == "INACTIVE_ERROR":
            raise self._state_error(job, status, "cannot be stopped: its error must be acknowledged first")
        if status == "ACTIVATING" and self.variants.stop_while_activating == "refused":
            raise self._state_error(job, status, "cannot be stopped")

    def acknowledge(self, job: Job) -> None:
        """
        Acknowledge the error of a job.

        :raises ApiError: if it has no error and the variant ``acknowledge_elsewhere`` is ``refused``.
        """
        self.check_acknowledge(job)
        run = job.latest
        if run is not None and self.status(job) == "INACTIVE_ERROR":
            run.acks.append(self._action())

    def check_acknowledge(self, job: Job) -> None:
        """Check that a job's error can be acknowledged, or raise an :class:`ApiError`."""
        status = self.status(job)
        if status != "INACTIVE_ERROR" and self.variants.acknowledge_elsewhere == "refused":
            raise self._state_error(job, status, "has no error to acknowledge")

    def synchronize(self, job: Job) -> None:
        """Synchronize a running job with the labels of the engines, which never change in the sandbox."""
        self.check_active(job)
        self.add_note(job, "Job synchronized")

    def check_active(self, job: Job) -> None:
        """Check that a job is active, or raise an :class:`ApiError`."""
        status = self.status(job)
        if status != "ACTIVE":
            raise self._state_error(job, status, "is not active")

    def reset_error_info(self, job: Job) -> None:
        """Clear the errors that engines reported for the latest run of a job."""
        if job.latest:
            job.latest.error_info_resets.append(self._action())

    def reset_offset(self, job: Job) -> None:
        """Reset the offset of a job, or raise an :class:`ApiError`."""
        self.check_offset_change(job)
        job.offset_changes.append((self.clock.now(), None))

    def upload_offset(self, job: Job, document: Any) -> None:
        """
        Set the offset of a job.

        :param job: the job.
        :param document: an offset document.
        :raises ApiError: if the job is running or the document is invalid.
        """
        self.check_offset_change(job)
        offsets = document.get("offsets") if isinstance(document, dict) else None
        if not isinstance(offsets, dict) or document.get("version") != 2:
            raise bad_request('The offset document must have the form {"version": 2, "offsets": {...}}.')
        if not all(value is None or isinstance(value, str) for value in offsets.values()):
            raise bad_request("The values of an offset document must be strings or null.")
        job.offset_changes.append((self.clock.now(), document))

    def check_offset_change(self, job: Job) -> None:
        """Check that a job's offset can be changed, or raise an :class:`ApiError`."""
        self._check_not_template(job, "assigned an offset")
        status = self.status(job)
        if status is not None and status not in FINAL_STATUSES:
            raise self._state_error(job, status, "cannot be assigned another offset")

    def apply_in_bulk(
        self, job_ids: list[str], check: Callable[[Job], None], act: Callable[[Job], object]
    ) -> list[Job]:
        """
        Apply an action to many jobs.

        :param job_ids: ids of the jobs.
        :param check: raises if the action is not allowed.
        :param act: performs the action.
        :return: the jobs.
        :raises ApiError: if the action is not allowed for one of them; the variant ``bulk_partial`` decides whether
            it is applied to the others.
        """
        first_error: ApiError | None = None
        allowed = []
        for job_id in dict.fromkeys(job_ids):
            try:
                job = self.job(job_id)
                check(job)
                allowed.append(job)
            except ApiError as error:
                first_error = first_error or error
        if first_error is None or self.variants.bulk_partial == "partial":
            for job in allowed:
                act(job)
        if first_error is not None:
            raise first_error
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
            behaviour=apply_parameters(behaviour or job.seed.behaviour or job.seed.pipeline.behaviour, declared),
            parameters=dict(parameters),
            scale=self.time_scale,
            stats_interval=job.seed.stats_interval,
            force_stop_timeout=job.seed.force_stop_timeout,
            needs_ack=bool(job.seed.needs_ack),
            offset_base=self._position(self.offset(job, started)),
        )

    def _add_past_run(self, job: Job, past: PastRunSeed) -> None:
        started = self.created_at - past.started_ago
        run = self._new_run(job, started, past.version, job.parameters, past.behaviour)
        # The time scale does not apply to runs before the start of the sandbox.
        run.scale = 1.0
        if past.stopped_ago is not None:
            run.stops.append(UserAction(self.created_at - past.stopped_ago, self.user))
        if past.acknowledged_ago is not None:
            run.acks.append(UserAction(self.created_at - past.acknowledged_ago, self.user))
        job.runs.append(run)

    def add_note(self, job: Job, text: str) -> None:
        """Add an event to the latest run of a job."""
        if job.latest:
            job.latest.notes.append(self._action(text))

    def _action(self, text: str = "") -> UserAction:
        return UserAction(self.clock.now(), self.user, text)

    def _check_not_template(self, job: Job, action: str) -> None:
        if job.seed.is_template:
            raise WrongStateError(f"Job template '{job.seed.name}' cannot be {action}", int(self.variants.wrong_state))

    def _state_error(self, job: Job, status: str | None, problem: str) -> WrongStateError:
        state = f"is {status}" if status else "has never run"
        return WrongStateError(f"Job '{job.seed.name}' {problem}: it {state}", int(self.variants.wrong_state))

    @staticmethod
    def _position(document: dict[str, Any] | None) -> int:
        """Return the number at the end of an offset of the sandbox; any other offset counts from 0."""
        text = str(((document or {}).get("offsets") or {}).get(OFFSET_KEY) or "")
        digits = text[len(text.rstrip("0123456789")) :]
        return int(digits) if digits else 0
