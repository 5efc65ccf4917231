"""Runs of jobs: start, stop, status, history, events (contract, sections 8 and 10)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pendulum

from airflow_provider_streamsets.control_hub import submission
from airflow_provider_streamsets.control_hub._json import as_list, as_object
from airflow_provider_streamsets.control_hub._messages import describe_ids, join_truncated
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.control_hub.models import Job, JobRun, RunEvent, run_or_none
from airflow_provider_streamsets.control_hub.paging import PAGE_LENGTH, chunked, paginate
from airflow_provider_streamsets.control_hub.services import Service, quote_id
from airflow_provider_streamsets.control_hub.status_snapshot import StatusSnapshot
from airflow_provider_streamsets.control_hub.submission import BulkStarter, JobStarter, StartIntent, describe_run
from airflow_provider_streamsets.control_hub.tracking.outcome import sort_events
from airflow_provider_streamsets.control_hub.transport import Retry

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

log = logging.getLogger(__name__)

_STOP_RETRY_DELAY = 2.0
_ACKNOWLEDGE_POLL_DELAY = 3.0
_ACKNOWLEDGE_TIMEOUT = 6.0


class Runs:
    """Runs of jobs; reached as ``client.runs``."""

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

        The start call is never repeated blindly. If its end is unclear (time-out, lost connection, 5xx), the job's
        runs are looked at: a new one of the same user and time means that the call did start the job, and that run is
        returned; only if there is none after a while, the call is sent again.

        :param job: the job as just read, or its id
        :param runtime_parameters: replace the job's stored values of the same names for this run. The complete set,
            stored values included, is sent, as Control Hub may replace or merge (contract, 18.7)
        :param on_submit: called before each call with what it is to start, so that it can be written down; what it
            raises ends the start before anything is sent
        :raises ControlHubJobStateError: if the job cannot be started in its state, so that nothing was sent, or if
            somebody else has started it meanwhile
        :raises ControlHubUnavailableError: if Control Hub cannot be reached; with ``maybe_executed`` set, it is not
            known whether the job was started
        """
        if isinstance(job, str):
            job = self._client.jobs.get(job)
        check_startable(job)
        return JobStarter(
            self._client, job, {**job.runtime_parameters, **(runtime_parameters or {})}, on_submit
        ).start()

    def find_submitted(self, intent: StartIntent) -> JobRun | None:
        """
        Return the run that has the number of a start that was announced, whoever has made it.

        :param intent: the start; :meth:`StartIntent.matches` tells whether the run is its
        :returns: None if there is no such run, or the history does not have it any more
        """
        current = self.current(intent.job_id)
        if current is None or current.run_count < intent.run_count:
            return None
        return current if current.run_count == intent.run_count else self.get(intent.job_id, intent.run_count)

    def stop(self, job_id: str) -> None:
        """
        Ask Control Hub to stop the job's run: ``DEACTIVATING`` until all engines have confirmed, then ``INACTIVE``.

        Harmless to repeat while the job deactivates. Whether stopping an inactive job is an error is not known, so
        look at the status first.

        :param job_id: id of the job
        """
        self._post_action(job_id, "stop", "stop")

    def force_stop(self, job_id: str) -> None:
        """
        End a job that hangs in ``DEACTIVATING``. Its last offset may be lost.

        :param job_id: id of the job
        """
        self._post_action(job_id, "forceStop", "force-stop")

    def stop_run(self, job_id: str, run_count: int, *, max_wait: float = 0.0, force: bool = False) -> bool:
        """
        Stop one run and no other.

        :param job_id: id of the job
        :param run_count: number of the run
        :param max_wait: seconds to try again while Control Hub refuses, as it does for a job that is ``ACTIVATING``
            (contract, section 10.3)
        :param force: force the stop
        :returns: whether the run was still going on and has been asked to stop
        :raises ControlHubRejectedError: if Control Hub refuses for longer than that
        """
        left = max_wait
        while True:
            current = self.current(job_id)
            if current is None or current.has_ended or not self._is_run_or_successor(job_id, current, run_count):
                return False
            try:
                (self.force_stop if force else self.stop)(job_id)
            except ControlHubRejectedError as error:
                if left <= 0:
                    raise
                log.info("%s Trying again in %.0f s.", error, _STOP_RETRY_DELAY)
                self._client.sleep(_STOP_RETRY_DELAY)
                left -= _STOP_RETRY_DELAY
            else:
                return True

    def start_many(
        self,
        jobs: Iterable[Job | str],
        *,
        on_submit: Callable[[Mapping[str, StartIntent]], None] | None = None,
    ) -> dict[str, JobRun]:
        """
        Start jobs with their stored runtime parameters, in one request for many, and return their new runs.

        All are checked before the first is started. The start call names no runs and is never repeated blindly: after
        it, the jobs are polled until each has a run that was not there before. If the answer was lost, only jobs that
        have none when :attr:`ControlHubClient.gateway_timeout` is over are started again. If a call is refused, no
        further one is sent, and new runs of its jobs are not taken for its own: others may have started them.

        :param jobs: the jobs as just read, or their ids
        :param on_submit: called before each call with all starts that may have had an effect, by job id, so that they
            can be written down, and after a refusal with those that remain; what it raises ends the start. Runs that
            others have started meanwhile are then not taken for those of this call
        :returns: the new run by job id
        :raises ControlHubNotFoundError: if one does not exist; nothing was started
        :raises ControlHubJobStateError: if one cannot be started in its state; nothing was started
        :raises ControlHubBulkError: if only some were started; its attributes say which
        :raises ControlHubUnavailableError: with ``maybe_executed`` set, it is not known whether any was started
        :raises ControlHubError: if none was started
        """
        wanted = self._client.jobs.ensure_loaded(jobs)
        check_all_startable(wanted.values())
        return BulkStarter(self._client, wanted, on_submit).start()

    def stop_many(self, runs: Mapping[str, int], *, max_wait: float = 0.0, force: bool = False) -> list[str]:
        """
        Stop runs and no others, in two requests for many.

        :param runs: run count by job id
        :param max_wait: seconds to try again while Control Hub refuses, as it does for jobs that are ``ACTIVATING``
        :param force: force the stop
        :returns: ids of the jobs whose runs were still going on and have been asked to stop
        :raises ControlHubRejectedError: if Control Hub refuses for longer than that
        """
        action, verb = ("forceStopJobs", "force-stop") if force else ("stopJobs", "stop")
        asked: dict[str, None] = {}
        left = max_wait
        while True:
            # An accepted stop is not sent again while others have to wait for theirs.
            not_asked = {job_id: run_count for job_id, run_count in runs.items() if job_id not in asked}
            get_active = self.get_active(not_asked)
            # What is refused for one may be refused for all (contract, 18.3), so those that cannot be stopped yet wait,
            # and are asked for apart when there is no time to wait.
            late = [job_id for job_id, run in get_active.items() if run.status == "ACTIVATING"]
            ready = [job_id for job_id in get_active if job_id not in late]
            try:
                for job_ids in (ready, late) if left <= 0 else (ready,):
                    for batch in chunked(job_ids, self._client.bulk_size):
                        self._post_bulk_action(batch, action, verb)
                        asked.update(dict.fromkeys(batch))
                if left <= 0 or not late:
                    return list(asked)
            except (ControlHubNotFoundError, ControlHubPermissionError, ControlHubRejectedError) as error:
                # One that has ended, or was deleted, since it was looked at is enough for a refusal; the others are
                # stopped at once.
                left_to_ask = {job_id: runs[job_id] for job_id in get_active if job_id not in asked}
                if len(self.get_active(left_to_ask)) < len(left_to_ask):
                    continue
                if left <= 0 or isinstance(error, ControlHubPermissionError):
                    raise
                log.info("%s Trying again in %.0f s.", error, _STOP_RETRY_DELAY)
            self._client.sleep(_STOP_RETRY_DELAY)
            left -= _STOP_RETRY_DELAY

    def get_active(self, runs: Mapping[str, int]) -> dict[str, JobRun]:
        """
        Return those of the runs that are the latest of their jobs and have not ended.

        A run that an upgrade of the active job has put in the place of one of them counts as that one.

        :param runs: run count by job id
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
        Return a run from the job's history, or the run that upgrades of the active job have put in its place.

        :param job_id: id of the job
        :param run_count: number of the run
        :param latest: the job's latest run, a later one
        :param run_id: id of the run, if it is known; then its successor is found although the history does not have it
        :returns: None if Control Hub does not (or no longer) know it
        """
        # Those that have replaced it are later ones.
        runs = {run.run_count: run for run in self.history(job_id, min_run_count=run_count)}
        found = known = runs.get(run_count) or JobRun(run_id, job_id, run_count, status="", color="")
        for _, run in sorted({**runs, latest.run_count: latest}.items()):
            if run.replaces(found):
                found = run
        return None if found is known and run_count not in runs else found

    def get_successor(self, run: JobRun) -> JobRun:
        """
        Return the run that upgrades of the active job have put in the place of a run; the run itself if none has.

        :param run: the run
        """
        latest = self.current(run.job_id)
        if latest is None or latest.run_count <= run.run_count:
            return run
        successor = self.get_or_successor(run.job_id, run.run_count, latest, run_id=run.run_id)
        return run if successor is None else replace(successor, job_id=run.job_id)

    def acknowledge(self, job_ids: Iterable[str], *, max_wait: float = 0.0) -> list[JobRun]:
        """
        Acknowledge the errors of jobs that ended in ``INACTIVE_ERROR``, so that they can be run again.

        Afterwards such a run can look like a success (contract, 18.8), so the runs are returned as they were before.

        :param job_ids: ids of jobs; those without an error to acknowledge are left alone
        :param max_wait: seconds to wait until Control Hub has done it, at the most; 0 does not wait
        :returns: the runs that were acknowledged, as they were
        :raises ControlHubUnexpectedAnswerError: if it has not in that time
        """
        statuses = self.statuses(job_ids)
        failed = {job_id: run for job_id, run in statuses.items() if run and run.status == "INACTIVE_ERROR"}
        try:
            self._post_bulk_action(list(failed), "acknowledgeErrors", "acknowledge the error of")
        except ControlHubRejectedError:
            # Sent again after an unclear end, it can meet errors that are acknowledged already.
            if any(run and run.status == "INACTIVE_ERROR" for run in self.statuses(failed).values()):
                raise
        unacknowledged, left = list(failed), max_wait
        while unacknowledged and max_wait:
            statuses = self.statuses(unacknowledged)
            unacknowledged = [
                job_id for job_id in unacknowledged if (run := statuses[job_id]) and run.status == "INACTIVE_ERROR"
            ]
            if unacknowledged and left <= 0:
                raise ControlHubUnexpectedAnswerError(
                    f"Control Hub accepted the acknowledgement, but {max_wait:g} s later these jobs are still "
                    f"INACTIVE_ERROR: {join_truncated(unacknowledged)}."
                )
            if unacknowledged:
                self._client.sleep(_ACKNOWLEDGE_POLL_DELAY)
                left -= _ACKNOWLEDGE_POLL_DELAY
        return list(failed.values())

    def acknowledge_forced(self, runs: Mapping[str, int], *, max_wait: float = 0.0) -> None:
        """
        Acknowledge the errors that stops have caused, so that the jobs can be started again.

        A forced stop, or one that an engine does not confirm, can end a run in ``INACTIVE_ERROR`` (contract, 19.6). A
        failure to acknowledge that is logged.

        :param runs: the runs that were stopped like that, and no others: run count by job id
        :param max_wait: seconds to wait for their ends, at the most
        """
        if not runs:
            return
        left = max_wait
        try:
            while (get_active := self.get_active(runs)) and left > 0:
                self._client.sleep(min(_ACKNOWLEDGE_POLL_DELAY, left))
                left -= _ACKNOWLEDGE_POLL_DELAY
            failed = [
                job_id
                for job_id, run in self.statuses(runs).items()
                if run and run.status == "INACTIVE_ERROR" and self._is_run_or_successor(job_id, run, runs[job_id])
            ]
            for run in self.acknowledge(failed, max_wait=_ACKNOWLEDGE_TIMEOUT):
                log.warning(
                    "Job %s run %d: acknowledged the error that its stop has caused: %s",
                    run.job_id,
                    run.run_count,
                    run.error_message or "none stated",
                )
        except ControlHubError as error:
            log.warning(
                "Could not acknowledge the errors that forced stops may have caused; if there are any, the jobs cannot "
                "be started before they are acknowledged in Control Hub: %s",
                error,
            )
            return
        if get_active:
            log.warning(
                "%s: still active after the forced stop. If it ends in INACTIVE_ERROR, acknowledge that before the "
                "next start.",
                describe_ids(list(get_active)),
            )

    def synchronize(self, job_ids: Iterable[str]) -> None:
        """
        Bring active jobs in line with the labels of the engines, and restart instances that are not running.

        :param job_ids: ids of active jobs
        """
        self._post_bulk_action(list(dict.fromkeys(job_ids)), "syncJobs", "synchronize")

    def balance(self, job_ids: Iterable[str]) -> None:
        """
        Move pipeline instances of active jobs with failover enabled to less loaded engines that match.

        It interrupts the pipelines briefly, and does nothing if the load is even. The call is never repeated.

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
        answer = self._client.request(
            "GET",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(job_id)}/currentStatus",
            action=f"read the status of job {job_id}",
        )
        # An empty answer can mean that the job has never run, that there is none, or that a gateway has answered.
        return run_or_none(answer) if answer else self._client.jobs.get(job_id).current_run

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobRun | None]:
        """
        Return the latest runs of many jobs, in one request for each :attr:`ControlHubClient.bulk_size` ids.

        :param job_ids: ids of jobs
        :returns: run by job id for every id asked for; None for a job that has never run or does not exist
        """
        return {job_id: run_or_none(status) for job_id, status in self._raw_statuses(job_ids)}

    def snapshots(self, job_ids: Iterable[str]) -> dict[str, StatusSnapshot | ControlHubError | None]:
        """
        Return the latest runs of many jobs, as :meth:`statuses`, but read no further than a :class:`StatusSnapshot` does.

        :param job_ids: ids of jobs
        :returns: for every id asked for a glance at its run, None if it has never run or does not exist, or the error
            if what Control Hub says of it is no status
        """
        found: dict[str, StatusSnapshot | ControlHubError | None] = {}
        for job_id, status in self._raw_statuses(job_ids):
            try:
                found[job_id] = StatusSnapshot.from_wire(status)
            except ControlHubUnexpectedAnswerError as error:
                found[job_id] = error
        return found

    def _raw_statuses(self, job_ids: Iterable[str]) -> Iterator[tuple[str, Any]]:
        for batch in chunked(list(dict.fromkeys(job_ids)), self._client.bulk_size):
            answer = self._client.request(
                "POST",
                Service.JOBRUNNER,
                "/v1/jobs/status",
                action=f"read the status of {describe_ids(batch)}",
                body=batch,
                needs_body=True,
            )
            statuses = as_object(answer, "statuses of jobs")
            # Ids that have no status may be missing or null (contract, 18.6).
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
        :param limit: at most so many
        :param since: only runs that were started at this time or later
        :param until: only runs that were started before this time
        :param ended_after: only runs that have ended at this time or later
        :param active_at: only the run that had been started by this time and had not ended yet
        :param min_run_count: only runs of this number and later ones
        """

        def is_wanted(run: JobRun) -> bool:
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
            # Runs of a job follow each other: one from before a time has only such ones before it.
            is_too_old = (
                (since is not None and start is not None and start < since)
                or (ended_after is not None and finish is not None and finish < ended_after)
                or (active_at is not None and start is not None and start <= active_at)
            )
            return is_too_old or run.run_count <= min_run_count or (limit is not None and len(runs) >= limit)

        runs: list[JobRun] = []
        for run in self._iter_history_until(job_id, is_last):
            if is_wanted(run):
                runs.append(run)
        return sorted(runs, key=lambda run: run.run_count, reverse=True)[:limit]

    def get(self, job_id: str, run_count: int) -> JobRun | None:
        """
        Return one run from the job's history; None if Control Hub does not (or no longer) know it.

        :param job_id: id of the job
        :param run_count: number of the run
        """
        runs = self._iter_history_until(job_id, lambda run: run.run_count <= run_count)
        return next((run for run in runs if run.run_count == run_count), None)

    def _iter_history_until(self, job_id: str, is_last: Callable[[JobRun], bool]) -> Iterator[JobRun]:
        """
        Yield the runs of a job in the order of the list, without those that are not needed, as far as that is known.

        The direction of the list is not known (contract, 18.12). Only if it begins with the latest run and has been
        newest first for a whole page, pages behind the last run that is needed are not read.

        :param is_last: returns whether no older run than this one is needed
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
        """Yield the runs of a job as they are on the wire; for the other resources of this package."""

        def read_page(offset: int, length: int) -> Any:
            return self._client.request(
                "GET",
                Service.JOBRUNNER,
                f"/v1/saql/jobs/search/{quote_id(job_id)}/runs",
                action=f"read the runs of job {job_id}",
                params={"offset": offset, "len": length, "withWrapper": "true"},
                needs_body=True,
            )

        yield from paginate(read_page, "runs")

    def first_since(self, job_id: str, latest: JobRun | None, since: pendulum.DateTime) -> JobRun | None:
        """
        Return the first run of a job that was started at a time or later; None if there is none.

        :param job_id: id of the job
        :param latest: the job's latest run as just read; the history is read only if earlier ones can be the first
        :param since: the time, compared with Control Hub's start times as they are
        """
        if latest is None or not self.has_started_since(latest, since):
            return None
        earlier = self.history(job_id, since=since) if latest.run_count > 1 else []
        return min([latest, *earlier], key=lambda run: run.run_count)

    def has_started_since(self, run: JobRun, since: pendulum.DateTime) -> bool:
        """
        Return whether a run was started at a time or later, without a request.

        :param run: the run as just read; one that shows no start yet has begun just now
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
        # As people copy it from a list, a time has no fractions of a second.
        end = start_time if start_time.microsecond else start_time.add(seconds=1, microseconds=-1)

        def is_before(run: JobRun) -> bool:
            return run.start_time is not None and run.start_time <= end

        before = filter(is_before, self._iter_history_until(job_id, is_before))
        return max(before, key=lambda run: run.run_count, default=None)

    def events(self, run_id: str) -> list[RunEvent]:
        """
        Return what happened to a run, oldest first.

        :param run_id: :attr:`JobRun.run_id`, not the id of the job
        """
        answer = self._client.request(
            "GET",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(run_id)}/jobStatusHistory",
            action=f"read the events of run {run_id}",
            params={"offset": 0, "len": -1},
            needs_body=True,
        )
        events = [RunEvent.from_wire(entry) for entry in as_list(answer, "run events")]
        return sort_events(events)


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
    raise ControlHubJobStateError(
        f"Cannot start job {job.label}: its {describe_run(run)}, is {run.status or 'in an unknown state'}. Wait for its "
        "end or stop it."
    )


def check_all_startable(jobs: Iterable[Job]) -> None:
    """
    Check that all of these jobs can be started as they are now.

    :raises ControlHubJobStateError: if not; the message says why for each that cannot
    """
    problems = []
    for job in jobs:
        try:
            check_startable(job)
        except ControlHubJobStateError as error:
            problems.append(str(error))
    if problems:
        more = f" And {len(problems) - 10} more." if len(problems) > 10 else ""
        raise ControlHubJobStateError(f"{' '.join(problems[:10])}{more} Nothing was started.")


def reason_not_synchronizable(job: Job) -> str | None:
    """Return why a job cannot be synchronized as it is now, as in "is INACTIVE"; None if it can."""
    if job.is_template:
        return "is a job template"
    if job.current_run is None:
        return "has never run"
    return None if job.current_run.status == "ACTIVE" else f"is {job.current_run.status or 'in an unknown state'}"


def reason_not_balanceable(job: Job) -> str | None:
    """Return why a job cannot be balanced as it is now, as in "has failover not enabled"; None if it can."""
    return reason_not_synchronizable(job) or (None if job.failover else "has failover not enabled")
