"""Start and stop runs of jobs, and read their status, history and events (contract sections 8 and 10)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pendulum

from airflow_provider_streamsets.control_hub import submission
from airflow_provider_streamsets.control_hub._json import as_list, as_object, parse_json
from airflow_provider_streamsets.control_hub._messages import describe_ids, join_truncated
from airflow_provider_streamsets.control_hub.choices import DEFAULT_POLL_INTERVAL
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.control_hub.job_state import check_all_startable, check_startable
from airflow_provider_streamsets.control_hub.models import Job, JobRun, RunEvent, RunIdentity, RunRef, run_or_none
from airflow_provider_streamsets.control_hub.models.status_snapshot import StatusSnapshot, split_statuses
from airflow_provider_streamsets.control_hub.paging import PAGE_LENGTH, chunked, page_params, paginate
from airflow_provider_streamsets.control_hub.services import Retry, Service, quote_id
from airflow_provider_streamsets.control_hub.submission import BulkStarter, JobStarter, StartIntent
from airflow_provider_streamsets.control_hub.tracking.outcome import sort_events
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.control_hub.tracking.run import DEFAULT_METRICS_TIMEOUT
from airflow_provider_streamsets.control_hub.tracking.run_group import RunGroup
from airflow_provider_streamsets.control_hub.tracking.wait import wait_for_runs

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

log = logging.getLogger(__name__)

_STOP_RETRY_DELAY = 2.0
_ACKNOWLEDGE_POLL_DELAY = 3.0
_ACKNOWLEDGE_TIMEOUT = 6.0


class Runs:
    """Manage runs of jobs; available as ``client.runs``."""

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def start(
        self,
        job: Job | str,
        runtime_parameters: Mapping[str, Any] | None = None,
        *,
        on_submit: Callable[[StartIntent], None] | None = None,
    ) -> JobRun:
        """
        Start a job and return its new run.

        The start call is never repeated blindly. After an ambiguous failure (time-out, lost connection, 5xx), the
        client searches for a new run with the same user and time, and returns it. Only if none appears, the call is
        sent again.

        :param job: the job as just read, or its id
        :param runtime_parameters: values that override the job's stored ones for this run. The complete set is sent, as
            Control Hub may replace or merge (contract section 18.7)
        :param on_submit: called with the intent before each call, to persist it. An exception cancels the start before
            anything is sent
        :raises ControlHubJobStateError: if the job's state does not allow a start, so that nothing was sent, or if
            another caller started it meanwhile
        :raises ControlHubUnavailableError: if Control Hub cannot be reached. If ``maybe_executed`` is set, the job may
            have been started
        """
        if isinstance(job, str):
            job = self._client.jobs.get(job)
        check_startable(job)
        return JobStarter(
            self._client, job, {**job.runtime_parameters, **(runtime_parameters or {})}, on_submit
        ).start()

    def find_submitted(self, intent: StartIntent) -> JobRun | None:
        """
        Return the run with the number of a start intent, whoever started it.

        :param intent: the intent; use :meth:`StartIntent.matches` to check that it caused the run
        :returns: None if the run does not exist, or is not in the history any more
        """
        current = self.current(intent.job_id)
        if current is None or current.run_count < intent.run_count:
            return None
        return current if current.run_count == intent.run_count else self.get(intent.job_id, intent.run_count)

    def stop(self, job_id: str) -> None:
        """
        Request the stop of a job: ``DEACTIVATING`` until all engines have confirmed, then ``INACTIVE``.

        Repeating it while the job deactivates is harmless. Whether stopping an inactive job is an error is unknown, so
        check the status first (contract section 18.28).

        :param job_id: id of the job
        """
        self._post_action(job_id, "stop", "stop")

    def force_stop(self, job_id: str) -> None:
        """
        Force the stop of a job that hangs in ``DEACTIVATING``. Its last offset may be lost.

        :param job_id: id of the job
        """
        self._post_action(job_id, "forceStop", "force-stop")

    def stop_run(self, job_id: str, run_count: int, *, max_wait: float = 0.0, force: bool = False) -> bool:
        """
        Stop one run, and no later run of the job.

        :param job_id: id of the job
        :param run_count: number of the run
        :param max_wait: seconds to retry while Control Hub rejects the stop, as it may for an ``ACTIVATING`` job
            (contract sections 10.3 and 18.28)
        :param force: force the stop
        :returns: whether the run was active and its stop was accepted
        :raises ControlHubRejectedError: if Control Hub still rejects the stop after `max_wait`
        """
        deadline = Deadline.of_retries(max_wait, self._client.sleep)
        while True:
            current = self.current(job_id)
            if current is None or current.has_ended or not self._is_run_or_successor(job_id, current, run_count):
                return False
            try:
                (self.force_stop if force else self.stop)(job_id)
            except ControlHubRejectedError as error:
                if deadline.has_passed:
                    raise
                log.info("%s Retrying in %.0f s.", error, _STOP_RETRY_DELAY)
                deadline.sleep(_STOP_RETRY_DELAY)
            else:
                return True

    def start_many(
        self,
        jobs: Iterable[Job | str],
        *,
        on_submit: Callable[[Mapping[str, StartIntent]], None] | None = None,
    ) -> dict[str, JobRun]:
        """
        Start jobs with their stored runtime parameters in bulk requests, and return their new runs.

        All jobs are checked before the first is started. The start call names no runs and is never repeated blindly:
        afterwards, the jobs are polled until each has a new run. If the response was lost, only jobs without a new run
        after :attr:`ControlHubClient.gateway_timeout` are started again. After a rejected call, no further one is sent,
        and new runs of its jobs are not claimed: other callers may have started them.

        :param jobs: the jobs as just read, or their ids
        :param on_submit: called before each call with all intents that may have had an effect, by job id, to persist
            them, and after a rejection with the remaining ones. An exception cancels the start. With it, runs of other
            users are not claimed
        :returns: the new runs by job id
        :raises ControlHubNotFoundError: if a job does not exist; nothing was started
        :raises ControlHubJobStateError: if the state of a job does not allow a start; nothing was started
        :raises ControlHubBulkError: if only some were started; see its attributes
        :raises ControlHubUnavailableError: if ``maybe_executed`` is set, some may have been started
        :raises ControlHubError: if none was started
        """
        jobs_by_id = self._client.jobs.ensure_loaded(jobs)
        check_all_startable(jobs_by_id.values())
        return BulkStarter(self._client, jobs_by_id, on_submit).start()

    def stop_many(self, runs: Mapping[str, int], *, max_wait: float = 0.0, force: bool = False) -> list[str]:
        """
        Stop runs, and no later runs of their jobs, in bulk requests.

        :param runs: run counts by job id
        :param max_wait: seconds to retry while Control Hub rejects stops, as it may for ``ACTIVATING`` jobs
        :param force: force the stops
        :returns: ids of the jobs whose runs were active and whose stops were accepted
        :raises ControlHubRejectedError: if Control Hub still rejects a stop after `max_wait`
        """
        action, verb = ("forceStopJobs", "force-stop") if force else ("stopJobs", "stop")
        accepted: dict[str, None] = {}
        deadline = Deadline.of_retries(max_wait, self._client.sleep)
        while True:
            # An accepted stop is not sent again while others are retried.
            pending = {job_id: run_count for job_id, run_count in runs.items() if job_id not in accepted}
            active = self.get_active(pending)
            # One rejected job may fail the request for all (contract section 18.3), so activating jobs wait. When the
            # time is over, they get a request of their own.
            activating = [job_id for job_id, run in active.items() if run.status == "ACTIVATING"]
            ready = [job_id for job_id in active if job_id not in activating]
            try:
                for job_ids in (ready, activating) if deadline.has_passed else (ready,):
                    for batch in chunked(job_ids, self._client.bulk_size):
                        self._post_bulk_action(batch, action, verb)
                        accepted.update(dict.fromkeys(batch))
                if deadline.has_passed or not activating:
                    return list(accepted)
            except (ControlHubNotFoundError, ControlHubPermissionError, ControlHubRejectedError) as error:
                # A run that ended or was deleted meanwhile can fail the request; the others are stopped at once.
                pending = {job_id: runs[job_id] for job_id in active if job_id not in accepted}
                if len(self.get_active(pending)) < len(pending):
                    continue
                if deadline.has_passed or isinstance(error, ControlHubPermissionError):
                    raise
                log.info("%s Retrying in %.0f s.", error, _STOP_RETRY_DELAY)
            deadline.sleep(_STOP_RETRY_DELAY)

    def wait(
        self,
        run: JobRun,
        *,
        timeout: float | None = None,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        metrics_timeout: float = DEFAULT_METRICS_TIMEOUT,
    ) -> RunReport:
        """
        Wait until a run has ended, and return its report, whatever its outcome.

        Failed polls do not end the wait. If an upgrade of the active job replaces the run, its successor is waited for.

        .. code-block:: python

            report = client.runs.wait(client.runs.start(job), timeout=3600)
            if report.outcome is not Outcome.SUCCEEDED:
                raise report.failure()

        :param run: the run, as returned by :meth:`start`
        :param timeout: seconds to wait; None sets no limit
        :param poll_interval: seconds between two polls; young runs are polled more often
        :param metrics_timeout: maximum number of seconds to wait for the final metrics of the ended run
        :raises ControlHubRunTimeoutError: if the run has not ended in time
        :raises ControlHubRunLostError: if the job was deleted, or its history lacks the run
        :raises ControlHubError: on a fatal error, such as a rejected credential
        """
        reports = self.wait_many([run], timeout=timeout, poll_interval=poll_interval, metrics_timeout=metrics_timeout)
        return reports[run.job_id]

    def wait_many(
        self,
        runs: Iterable[JobRun],
        *,
        timeout: float | None = None,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        metrics_timeout: float = DEFAULT_METRICS_TIMEOUT,
    ) -> dict[str, RunReport]:
        """
        Wait until runs of different jobs have ended, with bulk status requests, and return their reports by job id.

        :param runs: the runs, such as the values returned by :meth:`start_many`
        :param timeout: seconds to wait for all of them; None sets no limit
        :param poll_interval: as for :meth:`wait`
        :param metrics_timeout: as for :meth:`wait`
        :raises ControlHubRunTimeoutError: if they have not ended in time
        :raises ControlHubRunLostError: as :meth:`wait`, when all others have ended
        :raises ControlHubError: on a fatal error, such as a rejected credential
        """
        client = self._client.with_options(max_attempts=1)
        refs = [RunRef(run.job_id, run.run_count, identity=RunIdentity.from_run(run)) for run in runs]
        group = RunGroup(client, refs, metrics_timeout=metrics_timeout)
        wait_for_runs(group, Deadline(timeout, sleep=client.sleep), poll_interval=poll_interval)
        for error in group.unresolved.values():
            raise error
        return group.reports

    def get_active(self, runs: Mapping[str, int]) -> dict[str, JobRun]:
        """
        Return those of the runs that are the latest of their jobs and have not ended.

        A run that replaced one of them in an upgrade of the active job counts as that one.

        :param runs: run counts by job id
        :returns: the runs by job id
        """
        statuses = self.statuses(runs)
        return {
            job_id: run
            for job_id, run_count in runs.items()
            if (run := statuses[job_id]) is not None
            and not run.has_ended
            and self._is_run_or_successor(job_id, run, run_count)
        }

    def _is_run_or_successor(self, job_id: str, latest: JobRun, run_count: int) -> bool:
        if latest.run_count <= run_count or not (latest.upgraded_run_id or latest.previous_run_id):
            return latest.run_count == run_count
        run = self.get_or_successor(job_id, run_count, latest)
        return run is not None and run.run_count == latest.run_count

    def get_or_successor(self, job_id: str, run_count: int, latest: JobRun, *, run_id: str = "") -> JobRun | None:
        """
        Return a run from the job's history, or the run that replaced it in an upgrade of the active job.

        :param job_id: id of the job
        :param run_count: number of the run
        :param latest: the job's latest run, a later one
        :param run_id: id of the run, if known; then its successor is found even if the history does not contain the run
        :returns: None if Control Hub does not know the run (any more)
        """
        # Successors have higher numbers.
        runs = {run.run_count: run for run in self.history(job_id, min_run_count=run_count)}
        found = known = runs.get(run_count) or JobRun(run_id, job_id, run_count, status="", color="")
        for _, run in sorted({**runs, latest.run_count: latest}.items()):
            if run.replaces(found):
                found = run
        return None if found is known and run_count not in runs else found

    def get_successor(self, run: JobRun) -> JobRun:
        """
        Return the run that replaced a run in an upgrade of the active job; the run itself if there is none.

        :param run: the run
        """
        latest = self.current(run.job_id)
        if latest is None or latest.run_count <= run.run_count:
            return run
        successor = self.get_or_successor(run.job_id, run.run_count, latest, run_id=run.run_id)
        return run if successor is None else replace(successor, job_id=run.job_id)

    def acknowledge(self, job_ids: Iterable[str], *, max_wait: float = 0.0) -> list[JobRun]:
        """
        Acknowledge the errors of jobs in ``INACTIVE_ERROR``, so that they can be started again.

        Afterwards such a run can appear successful (contract section 18.8), so the runs are returned as they were
        before.

        :param job_ids: ids of jobs; those without an error to acknowledge are ignored
        :param max_wait: maximum number of seconds to wait for the effect; 0 does not wait
        :returns: the acknowledged runs, as they were before
        :raises ControlHubUnexpectedResponseError: if the effect does not appear in that time
        """
        statuses = self.statuses(job_ids)
        failed = {job_id: run for job_id, run in statuses.items() if run and run.status == "INACTIVE_ERROR"}
        try:
            self._post_bulk_action(list(failed), "acknowledgeErrors", "acknowledge the error of")
        except ControlHubRejectedError:
            # After an ambiguous failure, the transport's retry can find the errors acknowledged already.
            if any(run and run.status == "INACTIVE_ERROR" for run in self.statuses(failed).values()):
                raise
        if failed and max_wait:
            self._wait_until_acknowledged(list(failed), max_wait)
        return list(failed.values())

    def acknowledge_run(self, job_id: str, run_count: int) -> bool:
        """
        Acknowledge the error of one run, or of the run that an upgrade has replaced it with, and of no later run.

        :param job_id: id of the job
        :param run_count: number of the run
        :returns: whether the run had an error to acknowledge
        """
        current = self.current(job_id)
        if current is None or not self._is_run_or_successor(job_id, current, run_count):
            return False
        return bool(self.acknowledge([job_id]))

    def _wait_until_acknowledged(self, job_ids: list[str], max_wait: float) -> None:
        for _ in Deadline.of_retries(max_wait, self._client.sleep).polls(_ACKNOWLEDGE_POLL_DELAY):
            statuses = self.statuses(job_ids)
            job_ids = [job_id for job_id in job_ids if (run := statuses[job_id]) and run.status == "INACTIVE_ERROR"]
            if not job_ids:
                return
        raise ControlHubUnexpectedResponseError(
            f"Control Hub accepted the acknowledgement, but {max_wait:g} s later these jobs are still "
            f"INACTIVE_ERROR: {join_truncated(job_ids)}."
        )

    def acknowledge_forced(self, runs: Mapping[str, int], *, max_wait: float = 0.0) -> None:
        """
        Acknowledge the errors that forced stops caused, so that the jobs can be started again.

        A forced stop, or one that an engine does not confirm, can end a run in ``INACTIVE_ERROR`` (contract sections
        10.3 and 18.30). Failures are logged, not raised.

        :param runs: run counts of exactly the runs that were stopped like that, by job id
        :param max_wait: maximum number of seconds to wait for their ends
        """
        if not runs:
            return
        deadline = Deadline.of_retries(max_wait, self._client.sleep)
        try:
            while (active := self.get_active(runs)) and not deadline.has_passed:
                deadline.sleep(_ACKNOWLEDGE_POLL_DELAY)
            failed = [
                job_id
                for job_id, run in self.statuses(runs).items()
                if run and run.status == "INACTIVE_ERROR" and self._is_run_or_successor(job_id, run, runs[job_id])
            ]
            for run in self.acknowledge(failed, max_wait=_ACKNOWLEDGE_TIMEOUT):
                log.warning(
                    "Job %s run %d: acknowledged the error that its stop caused: %s",
                    run.job_id,
                    run.run_count,
                    run.error_message or "none stated",
                )
        except ControlHubError as error:
            log.warning(
                "Could not acknowledge errors caused by forced stops. If the jobs cannot be started again, acknowledge "
                "them in Control Hub. %s",
                error,
            )
            return
        if active:
            log.warning(
                "%s: still active after the forced stop. If it ends in INACTIVE_ERROR, acknowledge the error before "
                "the next start.",
                describe_ids(list(active)),
            )

    def synchronize(self, job_ids: Iterable[str]) -> None:
        """
        Match the engines of active jobs to their labels, and restart instances that are not running.

        :param job_ids: ids of active jobs
        """
        self._post_bulk_action(list(dict.fromkeys(job_ids)), "syncJobs", "synchronize")

    def balance(self, job_ids: Iterable[str]) -> None:
        """
        Distribute pipeline instances of active jobs with failover evenly over the matching engines.

        This interrupts the pipelines briefly, and does nothing if the load is even. The call is never repeated.

        :param job_ids: ids of active jobs
        """
        self._post_bulk_action(list(dict.fromkeys(job_ids)), "balanceJobs", "balance", Retry.NEVER)

    def _post_bulk_action(self, job_ids: list[str], action: str, verb: str, retry: Retry = Retry.SAFE) -> None:
        for batch in chunked(job_ids, self._client.bulk_size):
            self._client.request(
                "POST",
                Service.JOBRUNNER,
                f"/v1/jobs/{action}",
                action=f"{verb} {describe_ids(batch)}",
                body=batch,
                retry=retry,
            )

    def _post_action(self, job_id: str, action: str, verb: str) -> None:
        self._client.request(
            "POST", Service.JOBRUNNER, f"/v1/job/{quote_id(job_id)}/{action}", action=f"{verb} job {job_id}"
        )

    def current(self, job_id: str) -> JobRun | None:
        """
        Return the job's latest run, running or ended; None if it has never run.

        :param job_id: id of the job
        :raises ControlHubNotFoundError: if there is no such job
        """
        response = self._client.request(
            "GET",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(job_id)}/currentStatus",
            action=f"read the status of job {job_id}",
        )
        # An empty response means that the job has never run or does not exist, or comes from a gateway.
        return run_or_none(response) if response else self._client.jobs.get(job_id).current_run

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobRun | None]:
        """
        Return the latest runs of many jobs, in one request per :attr:`ControlHubClient.bulk_size` ids.

        :param job_ids: ids of jobs
        :returns: run by job id for every requested id; None for a job that has never run or does not exist
        """
        return {job_id: run_or_none(status) for job_id, status in self._raw_statuses(job_ids)}

    def snapshots(self, job_ids: Iterable[str]) -> dict[str, StatusSnapshot | ControlHubError | None]:
        """
        Return snapshots of the latest runs of many jobs, like :meth:`statuses` but parsed only partly.

        :param job_ids: ids of jobs
        :returns: for every requested id a snapshot of its run, None if the job has never run or does not exist, or the
            error if its status is invalid
        """
        found: dict[str, StatusSnapshot | ControlHubError | None] = {}
        for job_id, status in self._raw_statuses(job_ids, split_statuses):
            try:
                found[job_id] = None if status is None else StatusSnapshot.parse(status)
            except ControlHubUnexpectedResponseError as error:
                found[job_id] = error
        return found

    def _raw_statuses(
        self, job_ids: Iterable[str], parse: Callable[[bytearray], Any] = parse_json
    ) -> Iterator[tuple[str, Any]]:
        for batch in chunked(list(dict.fromkeys(job_ids)), self._client.bulk_size):
            response = self._client.request(
                "POST",
                Service.JOBRUNNER,
                "/v1/jobs/status",
                action=f"read the status of {describe_ids(batch)}",
                body=batch,
                needs_body=True,
                parse=parse,
            )
            statuses = as_object(response, "statuses of jobs")
            # Ids without a status may be missing or null (contract section 18.6).
            yield from ((job_id, statuses.get(job_id)) for job_id in batch)

    def history(
        self,
        job_id: str,
        limit: int | None = None,
        *,
        since: pendulum.DateTime | None = None,
        until: pendulum.DateTime | None = None,
        ended_after: pendulum.DateTime | None = None,
        active_at: pendulum.DateTime | None = None,
        min_run_count: int = 0,
    ) -> list[JobRun]:
        """
        Return the runs of a job, newest first.

        :param job_id: id of the job
        :param limit: maximum number of runs
        :param since: only runs started at this time or later
        :param until: only runs started before this time
        :param ended_after: only runs that ended at this time or later
        :param active_at: only the run that was active at this time
        :param min_run_count: only runs with this number or a higher one
        """

        def matches(run: JobRun) -> bool:
            start = run.start_time
            return (
                run.run_count >= min_run_count
                and (since is None or (start is not None and start >= since))
                and (until is None or (start is not None and start < until))
                and (ended_after is None or (run.finish_time is not None and run.finish_time >= ended_after))
                and (active_at is None or run.was_active_at(active_at))
            )

        def is_last(run: JobRun) -> bool:
            start, finish = run.start_time, run.finish_time
            # Runs of a job do not overlap: all runs before an older one are older, too.
            is_too_old = (
                (since is not None and start is not None and start < since)
                or (ended_after is not None and finish is not None and finish < ended_after)
                or (active_at is not None and start is not None and start <= active_at)
            )
            return is_too_old or run.run_count <= min_run_count or (limit is not None and len(runs) >= limit)

        runs: list[JobRun] = []
        for run in self._iter_history_until(job_id, is_last):
            if matches(run):
                runs.append(run)
        return sorted(runs, key=lambda run: run.run_count, reverse=True)[:limit]

    def get(self, job_id: str, run_count: int) -> JobRun | None:
        """
        Return one run from the job's history; None if Control Hub does not know it (any more).

        :param job_id: id of the job
        :param run_count: number of the run
        """
        runs = self._iter_history_until(job_id, lambda run: run.run_count <= run_count)
        return next((run for run in runs if run.run_count == run_count), None)

    def _iter_history_until(self, job_id: str, is_last: Callable[[JobRun], bool]) -> Iterator[JobRun]:
        """
        Yield the runs of a job in the order of the list, skipping unneeded ones where possible.

        The order of the list is unknown (contract section 18.12). Pages after the last needed run are skipped only if
        the list starts with the latest run and was newest first for a whole page.

        :param is_last: returns whether no run older than this one is needed
        """
        newest_first, newest, previous = True, 0, math.inf
        for number, run in enumerate(self._iter_history(job_id), start=1):
            yield run
            newest_first = newest_first and run.run_count < previous
            newest, previous = max(newest, run.run_count), run.run_count
            if newest_first and number >= PAGE_LENGTH and is_last(run):
                latest = self.current(job_id)
                newest_first = latest is not None and latest.run_count == newest
                if newest_first:
                    return

    def _iter_history(self, job_id: str) -> Iterator[JobRun]:
        for entry in self.iter_raw_history(job_id):
            run = JobRun.from_wire(entry)
            if run.has_started:
                yield run

    def iter_raw_history(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Yield the JSON of the runs of a job, for other resources of this package."""

        def read_page(offset: int, length: int) -> Any:
            return self._client.request(
                "GET",
                Service.JOBRUNNER,
                f"/v1/saql/jobs/search/{quote_id(job_id)}/runs",
                action=f"read the runs of job {job_id}",
                params=page_params(offset, length, wrapped=True),
                needs_body=True,
            )

        yield from paginate(read_page, "runs")

    def first_since(self, job_id: str, latest: JobRun | None, since: pendulum.DateTime) -> JobRun | None:
        """
        Return the first run of a job that was started at a time or later; None if there is none.

        :param job_id: id of the job
        :param latest: the job's latest run as just read; the history is read only if it can contain an earlier match
        :param since: the time, compared with Control Hub's start times without tolerance
        """
        if latest is None or not self.has_started_since(latest, since):
            return None
        earlier = self.history(job_id, since=since) if latest.run_count > 1 else []
        return min([latest, *earlier], key=lambda run: run.run_count)

    def has_started_since(self, run: JobRun, since: pendulum.DateTime) -> bool:
        """
        Return whether a run was started at a time or later, without a request.

        :param run: the run as just read; a run without a start time has just been started
        :param since: the time
        """
        start = run.start_time
        return (start or pendulum.from_timestamp(submission.wall_clock() + self._client.clock_skew)) >= since

    def find_started_at(self, job_id: str, start_time: pendulum.DateTime) -> JobRun | None:
        """
        Return the run that was started at a time, or the last one before it; None if there is none.

        :param job_id: id of the job
        :param start_time: any time between the start of the run and that of the next one
        """
        # A time copied from a list of runs has no fraction of a second.
        end = start_time if start_time.microsecond else start_time.add(seconds=1, microseconds=-1)

        def is_before(run: JobRun) -> bool:
            return run.start_time is not None and run.start_time <= end

        before = filter(is_before, self._iter_history_until(job_id, is_before))
        return max(before, key=lambda run: run.run_count, default=None)

    def events(self, run_id: str) -> list[RunEvent]:
        """
        Return the events of a run, oldest first.

        :param run_id: :attr:`JobRun.run_id`, not the id of the job
        """
        response = self._client.request(
            "GET",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(run_id)}/jobStatusHistory",
            action=f"read the events of run {run_id}",
            params=page_params(0, -1),
            needs_body=True,
        )
        events = [RunEvent.from_wire(entry) for entry in as_list(response, "run events")]
        return sort_events(events)
