"""Watch the jobs of an asset, and create event payloads for their finished runs."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
import weakref
from collections.abc import AsyncIterator, Collection, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_streamsets.assets.jobs import event_payload
from airflow_provider_streamsets.control_hub.errors import ControlHubError, ControlHubNotFoundError
from airflow_provider_streamsets.polling.connections import PerLoop, spawn
from airflow_provider_streamsets.polling.run_cursor import RunCursor
from airflow_provider_streamsets.polling.watcher_group import PollItem, ReportRequest, WatcherGroup

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.models import JobRun
    from airflow_provider_streamsets.control_hub.tracking.report import RunReport
    from airflow_provider_streamsets.polling.watcher_query import JobSelector, PollResult

log = logging.getLogger(__name__)

# Seconds between two saves of the position when no run has finished.
_SAVE_INTERVAL = 300.0
_CLOCK_TOLERANCE = 300.0
# Seconds between two events of an asset. Until Airflow's scheduler has created the DAG runs of an event, which takes a
# few seconds, it assigns further events of the asset to the next DAG run, which only yet another event starts.
_EVENT_SPACING = 10.0
# Maximum seconds for which a loaded report waits for others, so that they share an event.
_BATCHING_DELAY = 5.0
# Bytes of the reports in one event, which Airflow logs completely and passes to each task of the DAG run. A report has
# up to 5 kB, and the last one is in the payload twice.
_MAX_EVENT_SIZE = 100_000
# Strong references, so that running saves are not garbage-collected.
_save_tasks: set[asyncio.Task[None]] = set()


class CursorStore:
    """
    Storage of a watch position: the asset state store of Airflow 3.3 and later, where available.

    :param store: the store of the watched asset, or None
    :param key: key of the position
    """

    def __init__(self, store: Any | None, key: str) -> None:
        self._store = store
        self._key = key

    async def load(self) -> Any:
        """Return the saved state; None if there is none, or no store."""
        if self._store is None:
            return None
        try:
            return await self._store.aget(self._key)
        except ValueError:
            # Airflow has no store for a trigger that identical watchers of several assets share.
            log.warning(
                "Several assets have identical watchers (%s), for which Airflow stores no state: runs that finish "
                "while no triggerer is running get no asset event. Give the watchers different arguments.",
                self._key,
            )
            self._store = None
            return None

    async def save(self, cursor: dict[str, Any]) -> None:
        """Save the state of a cursor."""
        if self._store is not None:
            await self._store.aset(self._key, cursor)


class EventSlots:
    """Times at which an asset may emit events."""

    def __init__(self) -> None:
        self._next = -math.inf

    def reserve(self, now: float) -> float:
        """
        Reserve the next free time, and return it.

        :param now: time on the loop's clock
        """
        slot = max(now, self._next)
        self._next = slot + _EVENT_SPACING
        return slot


_slots: PerLoop[weakref.WeakValueDictionary[Hashable, EventSlots]] = PerLoop(weakref.WeakValueDictionary)


def event_slots(asset: Hashable | None) -> EventSlots:
    """
    Return the slots that all watchers of an asset share on this event loop.

    :param asset: identity of the asset; None if unknown
    """
    slots = EventSlots()
    return slots if asset is None else _slots.get().setdefault(asset, slots)


class _Ready(NamedTuple):
    """
    A finished run whose report is loaded.

    :param report: the report, or None to skip the run
    """

    job_id: str
    run_count: int
    report: RunReport | None


class RunWatcher:
    """
    Reports finished runs of the selected jobs: each run once, and runs of a job in order.

    :param group: polls the jobs together with the other watchers of the connection
    :param selector: the jobs
    :param store: stores the watch position
    :param outcomes: outcomes to report
    :param metrics_timeout: maximum seconds to wait for the final metrics of a run
    :param slots: times at which the asset may emit events
    """

    def __init__(
        self,
        group: WatcherGroup,
        selector: JobSelector,
        store: CursorStore,
        *,
        outcomes: Collection[str],
        metrics_timeout: float,
        slots: EventSlots,
    ) -> None:
        self.selector = selector
        self._group = group
        self._store = store
        self._outcomes = frozenset(outcomes)
        self._metrics_timeout = metrics_timeout
        self._slots = slots
        self._slot: float | None = None
        self._batch_until: float | None = None
        self._cursor: RunCursor | None = None
        self._names: dict[str, str] = {}
        self._reports: dict[tuple[str, int], asyncio.Task[RunReport | None]] = {}
        self._histories: dict[str, asyncio.Task[list[JobRun]]] = {}
        self._unacknowledged: dict[int, int] = {}
        self._logged_errors: dict[str, str] = {}
        self._is_saving = self._is_unsaved = False
        self._saved = 0.0

    async def payloads(self, items: AsyncIterator[PollItem]) -> AsyncIterator[dict[str, Any]]:
        """
        Yield payloads of asset events, each for the finished runs that are ready at the same time.

        :param items: items of the group
        """
        self._group.join(self)
        try:
            async for item in items:
                self._acknowledge_pending(item.number)
                runs = await self._process(item)
                while runs is not None and (ready := self._next_event(runs)):
                    if reports := [run.report for run in ready if run.report is not None]:
                        for report in reports:
                            log.info("%s.", report.summary)
                        yield event_payload([report.to_result() for report in reports])
                    # Airflow has received the payload only when it resumes this generator.
                    for job_id, run_count, _ in ready:
                        runs.deliver(job_id, run_count, item.number)
                        del self._reports[job_id, run_count]
                    self._read_reports(runs)
                self._save()
        finally:
            self._group.leave(self)
            for task in self._histories.values():
                task.cancel()

    async def _process(self, item: PollItem) -> RunCursor | None:
        try:
            if self._cursor is None:
                self._cursor = await self._load_cursor()
            if item.result is not None:
                self._observe(item.result, self._cursor)
            self._read_histories(self._cursor)
            self._read_reports(self._cursor)
            self._logged_errors.pop("item", None)
        except Exception as error:
            if self._is_new_error("item", error):
                log.exception(
                    "Unexpected error while processing a poll of %s; retrying at the next poll.", self.selector
                )
        return self._cursor

    async def _load_cursor(self) -> RunCursor:
        cursor = await self._store.load()
        if cursor is None:
            log.info("Watching %s from now on; runs that finished before get no asset event.", self.selector)
            return RunCursor(self._tolerance)
        try:
            return RunCursor.from_state(cursor, self._tolerance)
        except ValueError as error:
            log.error("%s Watching %s from now on; runs that finished before get no asset event.", error, self.selector)
            return RunCursor(self._tolerance)

    @property
    def _tolerance(self) -> float:
        return max(_CLOCK_TOLERANCE, 4 * self._group.interval)

    def _observe(self, result: PollResult, runs: RunCursor) -> None:
        error = result.errors.get(self.selector)
        if error is not None and self._is_new_error("result", error):
            log.warning("%s Asset events of %s are paused until this is fixed.", error, self.selector)
        statuses = result.statuses.get(self.selector)
        if statuses is None:
            return
        self._logged_errors.pop("result", None)
        self._names = result.names
        known = runs.state["runs"].keys()
        complete = self.selector in result.complete
        partial = self.selector.job_tag is not None and not complete
        runs.observe(statuses, time.time(), complete=complete, partial=partial)
        self._is_unsaved |= runs.state["runs"].keys() != known
        # A recreated job has other runs of the same numbers.
        pending = set(runs.pending())
        self._reports = {run: task for run, task in self._reports.items() if run in pending}

    def _is_new_error(self, activity: str, error: Exception) -> bool:
        """Return whether an error differs from the last error of `activity`."""
        text = f"{type(error).__name__}: {error}"
        is_new = self._logged_errors.get(activity) != text
        self._logged_errors[activity] = text
        return is_new

    def _read_histories(self, runs: RunCursor) -> None:
        """Start reading the histories of new jobs, and process those that were read."""
        for job_id in runs.new_jobs:
            task = self._histories.get(job_id)
            if task is None or task.cancelled():
                task = self._histories[job_id] = spawn(self._history(job_id))
                task.add_done_callback(lambda _: self._group.request_item())
            elif task.done():
                del self._histories[job_id]
                runs.seed_from_history(job_id, task.result())
                self._is_unsaved = True

    async def _history(self, job_id: str) -> list[JobRun]:
        while True:
            try:
                return await self._group.run_query(lambda client: client.runs.history(job_id))
            except ControlHubNotFoundError:
                return []
            except ControlHubError as error:
                if self._is_new_error("history", error):
                    log.warning("%s Retrying every %g s.", error, self._group.interval)
            await asyncio.sleep(self._group.interval)

    def _read_reports(self, runs: RunCursor) -> None:
        for pending in runs.pending():
            task, latest = self._reports.get(pending), runs.latest(pending[0])
            if latest is not None and (task is None or task.cancelled()):
                # A run with a successor has had the time to save its metrics.
                metrics_timeout = self._metrics_timeout if pending[1] == latest.run_count else 0.0
                run = ReportRequest(*pending, latest.start_time, metrics_timeout)
                self._reports[pending] = self._group.load_report(run, latest, self._names.get(pending[0], ""))

    def _next_event(self, runs: RunCursor) -> list[_Ready]:
        """Return the runs to deliver now, in one event if any is reported; none if they must wait."""
        ready, is_reading = self._ready(runs)
        if not any(run.report for run in ready):
            self._slot = self._batch_until = None
            return ready
        now = asyncio.get_running_loop().time()
        if self._batch_until is None:
            self._batch_until = now + _BATCHING_DELAY
        if self._slot is None and not (is_reading and now < self._batch_until):
            self._slot = self._slots.reserve(now)
        pending = self._batch_until if self._slot is None else self._slot
        if now < pending:
            self._group.request_item(pending - now)
            return []
        self._slot = self._batch_until = None
        return ready

    def _ready(self, runs: RunCursor) -> tuple[list[_Ready], bool]:
        """Return the loaded runs for one event, in order for each job, and whether further reports are loading."""
        ready: list[_Ready] = []
        size, blocked = 0, ""
        for job_id, run_count in runs.pending():
            task = self._reports.get((job_id, run_count))
            if job_id == blocked or task is None or not task.done() or task.cancelled():
                blocked = job_id
                continue
            report = task.result()
            if report is None or not report.outcome or report.outcome.value not in self._outcomes:
                ready.append(_Ready(job_id, run_count, None))
                continue
            report_size = len(json.dumps(report.to_result()))
            if size and size + report_size > _MAX_EVENT_SIZE:
                return ready, False
            size += report_size
            ready.append(_Ready(job_id, run_count, report))
        return ready, bool(blocked)

    def acknowledge(self, number: int, last: int, *, clean: bool) -> None:
        """
        Advance the position when the events of an item are stored.

        After a failure, which may concern another watcher only, the position advances once this watcher receives an
        item that is newer than the failure.

        :param number: number of the item
        :param last: number of the newest item
        :param clean: whether the events of all watchers were stored
        """
        if self._cursor is None or not self._cursor.has_unacknowledged(number):
            return
        if clean:
            self._cursor.acknowledge(number)
            self._is_unsaved = True
            self._save()
        else:
            self._unacknowledged[number] = last
            self._group.request_item()

    def _acknowledge_pending(self, number: int) -> None:
        for pending_number in [
            pending_number for pending_number, last in self._unacknowledged.items() if last < number
        ]:
            del self._unacknowledged[pending_number]
            if self._cursor is not None:
                self._cursor.acknowledge(pending_number)
                self._is_unsaved = True

    def _save(self) -> None:
        """Save the position in the background, if it has changed or the last save is old."""
        is_due = self._is_unsaved or time.time() - self._saved > _SAVE_INTERVAL
        if self._cursor is not None and self._cursor.state["polled_at"] is not None and is_due and not self._is_saving:
            self._is_saving = True
            task = spawn(self._save_all(self._cursor))
            _save_tasks.add(task)
            task.add_done_callback(_save_tasks.discard)

    async def _save_all(self, runs: RunCursor) -> None:
        try:
            self._is_unsaved = True
            while self._is_unsaved:
                self._is_unsaved = False
                await self._store.save(runs.state)
            self._saved = time.time()
            self._logged_errors.pop("cursor", None)
        except Exception as error:  # noqa: BLE001 - the store can raise anything
            self._is_unsaved = True
            if self._is_new_error("cursor", error):
                log.warning(
                    "Could not save the watch position for %s; retrying at the next poll. Until then, a restart of the "
                    "triggerer repeats asset events: %s",
                    self.selector,
                    error,
                )
        finally:
            self._is_saving = False
