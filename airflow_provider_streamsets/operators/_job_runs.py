"""The runs that a task starts, joins or resumes for many jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubBulkError,
    ControlHubRunFailedError,
    ControlHubRunTimeoutError,
)
from airflow_provider_streamsets.control_hub.models import RunRef
from airflow_provider_streamsets.control_hub.submission import StartIntent
from airflow_provider_streamsets.operators._job_start import StartOwnership
from airflow_provider_streamsets.operators._resume import (
    ACKNOWLEDGE_HINT,
    find_joined_runs,
    find_own_runs,
    is_complete,
    was_stopped_by_task,
    write_intents,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobRun
    from airflow_provider_streamsets.operators._task_state import TaskState
    from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator


class JobRunsOwnership(StartOwnership):
    """
    What a task does with the runs of many jobs.

    :param task: the operator
    """

    task: ControlHubStartJobsOperator

    def __init__(self, task: ControlHubStartJobsOperator) -> None:
        super().__init__(task)
        self._intents: Mapping[str, StartIntent] = {}
        self._own: dict[str, JobRun] = {}
        self._joined: dict[str, JobRun] = {}
        self._blocking: dict[str, JobRun] = {}

    def resume_or_start(
        self, context: Context, jobs: Mapping[str, Job], *, wait: bool
    ) -> tuple[Mapping[str, Job], dict[str, JobRun]]:
        """
        Keep runs of an earlier try, and start or join those of the other jobs; may defer.

        :param jobs: the jobs as just fetched, by id
        :param wait: whether the task waits for the runs
        :returns: the jobs, fetched again if needed, and their runs, by job id
        """
        try:
            self._resume_previous_try(context, jobs, wait)
            if self.state(context).values:
                # The runs of an earlier try may have ended since the jobs were fetched.
                jobs = self.client.jobs.get_all(jobs)
            self._record_own(context)
            missing = {job_id: job for job_id, job in jobs.items() if job_id not in {**self._own, **self._joined}}
            if not self.start_jobs(context, missing):
                self._save_starts(context, {})
        except ControlHubRunTimeoutError:
            self.handle_own_timeout(context)
            raise
        self.raise_if_killed("while it started the jobs")
        found = {**self._own, **self._joined}
        return jobs, {job_id: found[job_id] for job_id in jobs if job_id in found}

    def recorded_jobs(self, context: Context) -> list[str]:
        """Return the ids of the jobs that an earlier try started or joined, unless the task was cleared since."""
        state = self.state(context)
        if state.was_cleared or not isinstance(state.values.get("intents"), Mapping):
            return []
        return list({**state.values["intents"], **state.values["started"], **state.values["joined"]})

    def _resume_previous_try(self, context: Context, jobs: Mapping[str, Job], wait: bool) -> None:
        """
        Own the runs that an earlier try started or joined and that do not have to be started again; stop the others.

        :param jobs: the jobs of this try, by id
        """
        state = self.state(context)
        recorded = state.values.get("intents")
        if not isinstance(recorded, Mapping):
            return
        own, joined = find_own_runs(self.client, state), find_joined_runs(self.client, state)
        self.log.info("An earlier try of this task requested %d runs; found %d of them.", len(recorded), len(own))
        abandon_reason = state.abandon_reason
        if abandon_reason is not None:
            active = {job_id: run.run_count for job_id, run in own.items() if not run.has_ended}
            self.log.info("Not resuming them (%s); stopping %d still active.", abandon_reason, len(active))
            if active:
                self.stop_and_wait(active)
            own, joined = {job_id: run for job_id, run in own.items() if run.has_ended}, {}
        if state.was_cleared:
            return
        is_left_active = self.has_left_runs_active(context)
        self._own = {
            job_id: run
            for job_id, run in own.items()
            if job_id in jobs and (is_left_active or self._should_keep(run, state, wait))
        }
        others = [job_id for job_id, run in own.items() if job_id not in jobs and not run.has_ended]
        if others:
            self.log.info("The task no longer selects jobs %s; stopping their runs.", ", ".join(others))
        stopping = {i: run.run_count for i, run in own.items() if i not in self._own and not run.has_ended}
        if stopping:
            # Until they have ended, a kill or time-out concerns all of them.
            self.record_started(context, {**_run_counts(self._own), **stopping}, own)
            self.stop_and_wait(stopping)
        self.acknowledge_red_runs(context)
        self._joined = {i: run for i, run in joined.items() if not wait or not run.has_ended or run.is_success}
        self.log.info("%d of them are active or succeeded, and are not started again.", len(self._own))
        if self._joined:
            self.log.info(
                "The earlier try joined %d runs of other callers; not starting those jobs.", len(self._joined)
            )
        self._blocking = {job_id: run for job_id, run in own.items() if run.status == "INACTIVE_ERROR"}

    def _should_keep(self, run: JobRun, state: TaskState, wait: bool) -> bool:
        if run.has_ended and wait:
            return is_complete(self.client, run, state, accept_stopped=self.task.rendered.accept_stopped)
        was_asked_to_stop = (state.values.get("stopped") or {}).get(run.job_id) == run.run_count
        return not was_asked_to_stop and not was_stopped_by_task(self.client, run, state)

    @property
    def restart_failed_runs(self) -> bool:
        """Always False: the next try keeps the runs that succeeded."""
        return False

    def with_runs_being_started(self, known: Mapping[str, int]) -> Mapping[str, int]:
        """Return the runs that this task started or is starting."""
        unconfirmed = {i: intent for i, intent in self._intents.items() if i not in self.started}
        return {**known, **self.runs_being_started(unconfirmed)}

    def find_recorded_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that earlier tries started and that have not ended: run count by job id."""
        state = self.state(context)
        if not isinstance(state.values.get("intents"), Mapping):
            return {}
        return {job_id: run.run_count for job_id, run in find_own_runs(self.client, state).items() if not run.has_ended}

    def handle_own_timeout(self, context: Context) -> None:
        """Stop or leave the own runs if the task times out before the others are started."""
        if self.started:
            self.handle_timeout(context, self.started)

    def _record_own(self, context: Context) -> None:
        # Runs of an earlier try that are not kept have ended.
        self.disown()
        if self._own:
            self.record_started(context, _run_counts(self._own), self._own)

    def refetch_jobs(self, client: ControlHubClient, job_ids: list[str]) -> dict[str, Job]:
        """Fetch jobs again."""
        jobs: dict[str, Job] = client.jobs.get_all(job_ids)
        return jobs

    def request_start(self, context: Context, jobs: Mapping[str, Job]) -> None:
        """Start the jobs with bulk requests."""

        def on_submit(intents: Mapping[str, StartIntent]) -> None:
            sent = {job_id: intent for job_id, intent in self._intents.items() if job_id in intents}
            if sent.items() == intents.items():
                self._save_starts(context, intents)
                return
            self.raise_if_killed("while it started the jobs")
            self._save_starts(context, sent, submitted=intents)
            if self.task.was_killed:
                # These were not sent, so no later try may mistake the runs of other callers for them.
                self._save_starts(context, sent)
                self.raise_if_killed("while it started the jobs")
            self._intents = intents

        try:
            started = self.client.runs.start_many(jobs.values(), on_submit=on_submit)
        except ControlHubBulkError as error:
            self.record_started(context, {**self.started, **error.done}, self._own)
            context["ti"].xcom_push(key="run_counts", value=dict(self.started))
            for job_id, run in self.client.runs.statuses(error.done).items():
                count = error.done[job_id]
                # Another caller may have started the job again since.
                own = run if run is None or run.run_count == count else self.client.runs.get(job_id, count)
                if own is not None:
                    self._own[job_id] = replace(own, job_id=job_id)
            raise
        self._own.update(started)
        self._record_own(context)
        for job_id, run in started.items():
            self.log.info("Job %s run %d: started.", jobs[job_id].title, run.run_count)

    def _save_starts(
        self,
        context: Context,
        sent: Mapping[str, StartIntent],
        *,
        submitted: Mapping[str, StartIntent] | None = None,
    ) -> None:
        """Save the runs that the task started, joined and is starting."""
        self._intents = sent
        intents = sent if submitted is None else submitted
        state = self.state(context)
        if intents or self._own or self._joined:
            write_intents(state, intents, self._own, self._joined, **self.left_running_values(context))
        elif state.values:
            state.clear()

    def join_runs(self, context: Context, jobs: Mapping[str, Job], runs: Mapping[str, JobRun]) -> None:
        """Wait for runs of other callers."""
        self._joined.update({job_id: replace(run, job_id=job_id) for job_id, run in runs.items()})

    def fail_if_blocked(self, context: Context, jobs: Mapping[str, Job]) -> None:
        """Raise the errors of an earlier try's runs that must be acknowledged before their jobs can be started."""
        blocking = [
            RunRef(job_id, run.run_count, jobs[job_id].name)
            for job_id, run in self._blocking.items()
            if job_id in jobs
            and (latest := jobs[job_id].current_run)
            and (latest.run_count, latest.status) == (run.run_count, "INACTIVE_ERROR")
        ]
        if not blocking:
            return
        group = self.waiter.wait_for_ends(blocking, self.time.wait_deadline)
        try:
            self.waiter.results_or_failure(context, group, accept_stopped=True, hint=ACKNOWLEDGE_HINT)
        except ControlHubRunFailedError as error:
            # Unlike after a wait, other runs may be active.
            self.handle_error(context, error)
            raise


def _run_counts(runs: Mapping[str, JobRun]) -> dict[str, int]:
    return {job_id: run.run_count for job_id, run in runs.items()}
