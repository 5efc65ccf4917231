"""The run that a task starts, joins or resumes for one job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_streamsets import openlineage
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub.errors import ControlHubError, may_have_executed
from airflow_provider_streamsets.control_hub.models import RunRef
from airflow_provider_streamsets.control_hub.submission import StartIntent
from airflow_provider_streamsets.operators._job_start import StartOwnership
from airflow_provider_streamsets.operators._resume import (
    ACKNOWLEDGE_HINT,
    find_own_run,
    is_blocked_by_own_run,
    write_intent,
    write_joined,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobRun
    from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator


class JobRunOwnership(StartOwnership):
    """
    What a task does with the run of one job.

    :param task: the operator
    """

    task: ControlHubRunJobOperator
    has_one_run = True

    def __init__(self, task: ControlHubRunJobOperator) -> None:
        super().__init__(task)
        self._intent: StartIntent | None = None
        self._run: JobRun | None = None
        self.ended_report: tracking.RunReport | None = None
        """The complete report of an ended run that was fetched last, by this leg of the task or the trigger."""

    def start_or_join(self, context: Context, job: Job) -> JobRun:
        """Start the job, or join the run of another caller, and return the run; may defer."""
        self.start_jobs(context, {job.job_id: job})
        assert self._run is not None  # noqa: S101 # nosec B101 # started or joined
        return self._run

    def fetch_report(self, job: Job, run: JobRun) -> tracking.RunReport:
        """
        Return the report of an ended run, waiting for its metrics until the task's deadline.

        A deferrable task polls once; if the report is not complete, it defers to ``execute_after_ended_run``.
        """
        known = self.ended_report
        if known is not None and (known.job_id, known.run.run_count) == (job.job_id, run.run_count):
            return known
        runs, metrics_timeout = [RunRef.of_job(job, run)], self.waiter.metrics_timeout_for(job)
        group = self.waiter.new_group(runs, metrics_timeout=metrics_timeout)
        if not self.task.deferrable:
            tracking.wait_for_runs(group, self.time.wait_deadline, poll_interval=self.task.rendered.poll_interval)
        else:
            group.poll()
        if not group.is_done:
            self.waiter.defer(
                runs, method_name="execute_after_ended_run", only_ends=True, metrics_timeout=metrics_timeout
            )
        self.ended_report = group.reports[job.job_id]
        return self.ended_report

    def refetch_jobs(self, client: ControlHubClient, job_ids: list[str]) -> dict[str, Job]:
        """Fetch the job again."""
        return {job_id: client.jobs.get(job_id) for job_id in job_ids}

    def fail_if_blocked(self, context: Context, jobs: Mapping[str, Job]) -> None:
        """Raise the error of an earlier try's run if it must be acknowledged before the job can be started."""
        for job in jobs.values():
            if job.current_run is not None and is_blocked_by_own_run(self.state(context), job):
                raise self.task.report_failure(context, self.fetch_report(job, job.current_run), ACKNOWLEDGE_HINT)

    def join_runs(self, context: Context, jobs: Mapping[str, Job], runs: Mapping[str, JobRun]) -> None:
        """Wait for the run of another caller, which keeps the runtime parameters it was started with."""
        for job_id, run in runs.items():
            intent = StartIntent.for_next_run(jobs[job_id], run.user, self.client)
            write_joined(self.state(context), replace(intent, run_count=run.run_count), run)
            self._run = run

    def request_start(self, context: Context, jobs: Mapping[str, Job]) -> None:
        """Start the job."""
        (job,) = jobs.values()
        if self.task.rendered.reset_offsets:
            self.client.offsets.reset([job.job_id])
            self.log.info("Job %s: reset the offsets.", job.title)
        runtime_parameters = openlineage.with_parent(self.task, context, job, self.task.rendered.runtime_parameters)
        state = self.state(context)

        def on_submit(intent: StartIntent) -> None:
            write_intent(state, intent)
            if self.task.was_killed and self._intent is None:
                # Nothing was sent, so no later try may mistake the run of another caller for this start.
                state.clear()
            self.raise_if_killed(f"before it started job {job.label}")
            # The runs of earlier tries have ended.
            self.started, self._intent = {}, intent

        try:
            run = self.client.runs.start(job, runtime_parameters, on_submit=on_submit)
        except ControlHubError as error:
            if not may_have_executed(error):
                self._intent = None
                state.clear()
            raise
        self.record_started(context, {job.job_id: run.run_count}, {job.job_id: run})
        self.raise_if_killed(f"while it started run {run.run_count} of job {job.label}")
        self.log.info(
            "Job %s run %d: started%s.",
            job.title,
            run.run_count,
            f" with runtime parameters {sorted(runtime_parameters)}" if runtime_parameters else "",
        )
        self._run = run

    def find_recorded_runs(self, context: Context) -> Mapping[str, int]:
        """Return the run that an earlier try started, unless it has ended."""
        run = find_own_run(self.client, self.state(context))
        return {} if run is None or run.has_ended else {run.job_id: run.run_count}

    def with_runs_being_started(self, known: Mapping[str, int]) -> Mapping[str, int]:
        """Return the run that this task started, or the one of a start request without a response."""
        if not self.started and self._intent is not None:
            return self.runs_being_started({self._intent.job_id: self._intent})
        return known
