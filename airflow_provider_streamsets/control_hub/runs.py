"""Runs of jobs: start, stop, status, history, events (contract, sections 8 and 10)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import pendulum

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubJobStateError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.control_hub.models import Job, JobRun, RunEvent, run_or_none
from airflow_provider_streamsets.control_hub.paging import batches, pages
from airflow_provider_streamsets.control_hub.services import Service, in_path
from airflow_provider_streamsets.control_hub.transport import Repeat
from airflow_provider_streamsets.control_hub.wire import as_list, as_object

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

log = logging.getLogger(__name__)

_MOST_STARTS = 3
# Looks, and seconds between them, for a run whose start call had an unclear end: Control Hub may still be at it.
_LOOKS_AFTER_UNCLEAR_START = 4
_PAUSE_AFTER_UNCLEAR_START = 2.0
_PAUSE_AFTER_REFUSED_STOP = 2.0


class Runs:
    """Runs of jobs; reached as ``client.runs``."""

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def start(self, job: Job | str, runtime_parameters: Mapping[str, Any] | None = None) -> JobRun:
        """
        Start a job and return its new run.

        The start call is never repeated blindly. If its end is unclear (time-out, lost connection, 5xx), the job's
        latest run is read: a greater run count means that the call did start the job, and that run is returned;
        only otherwise is the call sent again.

        :param job: the job as just read, or its id
        :param runtime_parameters: replace the job's stored values of the same names for this run. The complete set,
            stored values included, is sent, as Control Hub may replace or merge (contract, 18.7)
        :raises ControlHubJobStateError: if the job cannot be started in its state; nothing was sent
        :raises ControlHubUnavailableError: if Control Hub cannot be reached; with ``maybe_executed`` set, it is not
            known whether the job was started
        """
        if isinstance(job, str):
            job = self._client.jobs.get(job)
        check_startable(job)
        parameters = {**job.runtime_parameters, **(runtime_parameters or {})}
        before = job.last_run_count
        unclear = False
        for _ in range(_MOST_STARTS):
            try:
                answer = self._client.call(
                    "POST",
                    Service.JOBRUNNER,
                    f"/v1/job/{in_path(job.job_id)}/start",
                    what=f"start job {job.label}",
                    body=parameters,
                    repeat=Repeat.NEVER,
                )
                run = JobRun.from_wire(answer) if answer else None
            except ControlHubError as error:
                unclear = unclear or _may_have_been_executed(error)
                # After a call with an unclear end, a refusal can mean that that call did start the job after all.
                if not (_may_have_been_executed(error) or (unclear and isinstance(error, ControlHubRejectedError))):
                    raise
                log.warning("%s Looking whether the job was started all the same.", error)
                started = self._run_after_unclear_start(job, before, error)
                if started is not None:
                    log.info("Job %s was started: run %d.", job.label, started.run_count)
                    return started
                if isinstance(error, ControlHubRejectedError):
                    raise
                log.info("Job %s was not started: its latest run is still %d. Starting again.", job.label, before)
                continue
            if run is not None and run.run_count > before:
                return run
            started = self._run_after_unclear_start(job, before, None)
            if started is not None:
                return started
            raise ControlHubUnexpectedAnswerError(
                f"Cannot start job {job.label}: Control Hub accepted the call, but no run after run {before} appears."
            )
        raise ControlHubUnavailableError(
            f"Cannot start job {job.label}: {_MOST_STARTS} calls ended without an answer, and none started a run."
        )

    def _run_after_unclear_start(self, job: Job, before: int, error: ControlHubError | None) -> JobRun | None:
        for look in range(_LOOKS_AFTER_UNCLEAR_START):
            if look:
                self._client.sleep(_PAUSE_AFTER_UNCLEAR_START)
            try:
                current = self.current(job.job_id)
            except ControlHubError as look_error:
                tried = error or f"Control Hub accepted the start of job {job.label} without naming the run."
                raise ControlHubUnavailableError(
                    f"{tried} Whether the job was started could not be found out: {look_error}",
                    http_status=(error or look_error).http_status,
                    issues=(error or look_error).issues,
                    maybe_executed=True,
                ) from look_error
            if current is not None and current.run_count > before:
                return current
        return None

    def stop(self, job_id: str) -> None:
        """
        Ask Control Hub to stop the job's run: ``DEACTIVATING`` until all engines have confirmed, then ``INACTIVE``.

        Harmless to repeat while the job deactivates. Whether stopping an inactive job is an error is not known, so
        look at the status first.

        :param job_id: id of the job
        """
        self._act(job_id, "stop", "stop")

    def force_stop(self, job_id: str) -> None:
        """
        End a job that hangs in ``DEACTIVATING``. Its last offset may be lost.

        :param job_id: id of the job
        """
        self._act(job_id, "forceStop", "force-stop")

    def stop_run(self, job_id: str, run_count: int, *, patience: float = 0.0, force: bool = False) -> bool:
        """
        Stop one run and no other.

        :param job_id: id of the job
        :param run_count: number of the run
        :param patience: seconds to try again while Control Hub refuses, as it does for a job that is ``ACTIVATING``
            (contract, section 10.3)
        :param force: force the stop
        :returns: whether the run was still going on and has been asked to stop
        :raises ControlHubRejectedError: if Control Hub refuses for longer than that
        """
        left = patience
        while True:
            current = self.current(job_id)
            if current is None or current.run_count != run_count or current.has_ended:
                return False
            try:
                (self.force_stop if force else self.stop)(job_id)
            except ControlHubRejectedError as error:
                if left <= 0:
                    raise
                log.info("%s Trying again in %.0f s.", error, _PAUSE_AFTER_REFUSED_STOP)
                self._client.sleep(_PAUSE_AFTER_REFUSED_STOP)
                left -= _PAUSE_AFTER_REFUSED_STOP
            else:
                return True

    def _act(self, job_id: str, action: str, verb: str) -> None:
        self._client.call("POST", Service.JOBRUNNER, f"/v1/job/{in_path(job_id)}/{action}", what=f"{verb} job {job_id}")

    def current(self, job_id: str) -> JobRun | None:
        """
        Return the job's latest run, running or ended; None if it has never run.

        :param job_id: id of the job
        """
        answer = self._client.call(
            "GET",
            Service.JOBRUNNER,
            f"/v1/job/{in_path(job_id)}/currentStatus",
            what=f"read the status of job {job_id}",
        )
        return run_or_none(answer)

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobRun | None]:
        """
        Return the latest runs of many jobs, in one request for each :attr:`ControlHubClient.bulk_size` ids.

        :param job_ids: ids of jobs
        :returns: run by job id for every id asked for; None for a job that has never run or does not exist
        """
        wanted = list(dict.fromkeys(job_ids))
        found: dict[str, JobRun | None] = {}
        for batch in batches(wanted, self._client.bulk_size):
            answer = self._client.call(
                "POST",
                Service.JOBRUNNER,
                "/v1/jobs/status",
                what=f"read the status of {len(batch)} jobs"
                if len(batch) > 1
                else f"read the status of job {batch[0]}",
                body=batch,
            )
            statuses = as_object(answer, "statuses of jobs") if answer is not None else {}
            # Ids that have no status may be missing or null (contract, 18.6).
            found.update({job_id: run_or_none(statuses.get(job_id)) for job_id in batch})
        return found

    def history(self, job_id: str, limit: int | None = None) -> list[JobRun]:
        """
        Return the runs of a job, newest first.

        :param job_id: id of the job
        :param limit: at most so many
        """
        # The direction of the list is not known (contract, 18.12), so all pages are read before it is cut.
        runs = sorted(self._pages_of_history(job_id), key=lambda run: run.run_count, reverse=True)
        return list(islice(runs, limit))

    def get(self, job_id: str, run_count: int) -> JobRun | None:
        """
        Return one run from the job's history; None if Control Hub does not (or no longer) know it.

        :param job_id: id of the job
        :param run_count: number of the run
        """
        return next((run for run in self._pages_of_history(job_id) if run.run_count == run_count), None)

    def _pages_of_history(self, job_id: str) -> Iterator[JobRun]:
        def read_page(offset: int, length: int) -> Any:
            return self._client.call(
                "GET",
                Service.JOBRUNNER,
                f"/v1/saql/jobs/search/{in_path(job_id)}/runs",
                what=f"read the runs of job {job_id}",
                params={"offset": offset, "len": length, "withWrapper": "true"},
            )

        for entry in pages(read_page, "runs"):
            run = JobRun.from_wire(entry)
            if run.has_started:
                yield run

    def events(self, run_id: str) -> list[RunEvent]:
        """
        Return what happened to a run, oldest first.

        :param run_id: :attr:`JobRun.run_id`, not the id of the job
        """
        answer = self._client.call(
            "GET",
            Service.JOBRUNNER,
            f"/v1/job/{in_path(run_id)}/jobStatusHistory",
            what=f"read the events of run {run_id}",
            params={"offset": 0, "len": -1},
        )
        events = [RunEvent.from_wire(entry) for entry in as_list(answer, "run events")]
        return sorted(events, key=lambda event: event.time or pendulum.from_timestamp(0))


def _may_have_been_executed(error: ControlHubError) -> bool:
    """Return whether a request that ended like this can have had its effect."""
    if isinstance(error, ControlHubUnavailableError):
        return error.maybe_executed
    if isinstance(error, ControlHubRejectedError):
        return (error.http_status or 0) >= 500
    # An unusable body behind a success says nothing about the request; a redirect says that it went nowhere.
    return isinstance(error, ControlHubUnexpectedAnswerError) and (error.http_status or 200) < 300


def check_startable(job: Job) -> None:
    """
    Check that a job can be started as it is now.

    :raises ControlHubJobStateError: if not; the message says why and what to do
    """
    if job.is_template:
        raise ControlHubJobStateError(
            f"Cannot start {job.label}: it is a job template, which is not run itself. Start an instance of it."
        )
    run = job.current_run
    if run is None or (run.has_ended and run.status != "INACTIVE_ERROR"):
        return
    if run.status == "INACTIVE_ERROR":
        raise ControlHubJobStateError(
            f"Cannot start job {job.label}: its run {run.run_count} ended in INACTIVE_ERROR, which must be "
            f"acknowledged in Control Hub first. Its error: {run.error_message or 'none stated'}"
        )
    since = f" since {run.start_time.to_iso8601_string()}" if run.start_time else ""
    raise ControlHubJobStateError(
        f"Cannot start job {job.label}: its run {run.run_count} is {run.status or 'in an unknown state'}{since}, "
        f"started by {run.user or 'an unknown user'}. Wait for its end or stop it."
    )
