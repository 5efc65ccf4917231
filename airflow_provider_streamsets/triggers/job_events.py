"""The trigger for event-driven scheduling: emits asset events for finished runs of jobs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Collection, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_streamsets import params
from airflow_provider_streamsets.assets.jobs import job_uri
from airflow_provider_streamsets.compat import HAS_SHARED_STREAMS, BaseEventTrigger, watched_asset
from airflow_provider_streamsets.control_hub.models import Outcome
from airflow_provider_streamsets.triggers.arguments import StoredArguments, ignore_unknown_arguments
from airflow_provider_streamsets.triggers.preload import preload_watch

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer

    from airflow_provider_streamsets.polling.run_watcher import RunWatcher
    from airflow_provider_streamsets.polling.watcher_group import PollItem, WatcherGroup

OUTCOMES = tuple(outcome.value for outcome in Outcome)
_METRICS_TIMEOUT = 30.0


@ignore_unknown_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class ControlHubJobRunEventTrigger(StoredArguments, BaseEventTrigger):
    """
    Fire when runs of a Control Hub job, or of jobs with a tag, have finished; for an ``AssetWatcher``.

    .. code-block:: python

        orders = job_asset(
            "9aaf0c53-90d4-5fda-bc98-e94bcd501655:bab21f86-74cd-5019-8714-cad83794eb01",
            watchers=[
                AssetWatcher(
                    name="orders_runs",
                    trigger=ControlHubJobRunEventTrigger(job_name="Orders to warehouse", outcomes=["SUCCEEDED"]),
                )
            ],
        )

        with DAG("after_orders", schedule=orders): ...

    Runs that finish together share one asset event, because Airflow assigns an event that immediately follows another
    event of the asset to a later DAG run, which only a further event starts. The event's extra has a ``payload``: the
    list ``runs`` with the result of each run (those of a job in order), and beside it the result of the last run in the
    list. The keys are those of the result of
    :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`. Events of an asset are at least ten
    seconds apart. An event holds up to about 100 kB of results; the rest goes into the next event.

    .. code-block:: python

        @task
        def report(triggering_asset_events):
            for events in triggering_asset_events.values():
                for event in events:
                    for run in event.extra["payload"]["runs"]:
                        print(run["job_name"], run["run_count"], run["outcome"])

    All watchers with the same connection and interval share their polls (Airflow 3.3 and later). Runs that finished
    before the first poll are not reported. After that, each finished run is reported once, and runs of a job in order,
    including those that finish while no triggerer is running, as far back as Control Hub keeps the job's history. This
    needs Airflow's asset state store (3.3 and later), and no other asset may have an identical watcher; otherwise the
    watcher starts over with each triggerer. If a triggerer dies within about two seconds after an event, the event can
    be repeated, but never lost; deduplicate by `job_id` and `run_count` if necessary. Errors do not end the watcher.

    All arguments are keyword-only. Exactly one of `job_id`, `job_name` and `job_tag` is required. Templates are not
    rendered.

    :param control_hub_conn_id: id of the Airflow connection; default ``streamsets_default``
    :param job_id: id of the job
    :param job_name: exact name of the job, instead of its id
    :param job_tag: tag of the jobs, without organization, for example ``nightly/orders``; jobs that get the tag
        later are watched from the next poll on, at the latest after five minutes
    :param poll_interval: seconds, or timedelta, between two polls; default 30
    :param outcomes: outcomes to report: a list of ``SUCCEEDED``, ``FAILED`` and ``STOPPED``; None reports all
    :param metrics_timeout: maximum seconds, or timedelta, to wait for the final metrics of an ended run; default 30
    """

    control_hub_conn_id: str = "streamsets_default"
    job_id: str | None = None
    job_name: str | None = None
    job_tag: str | None = None
    poll_interval: float | timedelta = params.DEFAULT_POLL_INTERVAL
    outcomes: Collection[str] | None = None
    metrics_timeout: float | timedelta = _METRICS_TIMEOUT

    def check(self) -> None:
        """
        Check the arguments. Airflow's DAG processor calls this for each DAG file, through :meth:`serialize`.

        :raises ValueError: if an argument is invalid
        """
        if self.unknown_arguments:
            raise ValueError(f"{type(self).__name__} has no argument {', '.join(map(repr, self.unknown_arguments))}.")
        params.string(self.control_hub_conn_id, "control_hub_conn_id", rendered=True)
        params.exactly_one(job_id=self.job_id, job_name=self.job_name, job_tag=self.job_tag)
        for name in ("job_id", "job_name", "job_tag"):
            params.string(getattr(self, name), name, rendered=True)
            if "{{" in str(getattr(self, name)):
                raise ValueError(f"'{name}' cannot be a template, as a watcher does not belong to a DAG run.")
        if self.job_id is not None:
            job_uri(self.job_id)
        params.seconds(self.poll_interval, "poll_interval", rendered=True)
        params.seconds(self.metrics_timeout, "metrics_timeout", rendered=True, zero=True)
        if self.outcomes is None:
            return
        if not isinstance(self.outcomes, (list, tuple, set, frozenset)) or not self.outcomes:
            raise ValueError(f"'outcomes' must be a list of {', '.join(OUTCOMES)}, got {self.outcomes!r}.")
        for outcome in self.outcomes:
            params.one_of(outcome, "outcomes", OUTCOMES, rendered=True)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """
        Return the class path and all constructor arguments, which Airflow stores.

        :raises ValueError: if an argument is invalid; never in the triggerer, where the arguments were checked before
        """
        if self.trigger_id is None:
            self.check()
        path, arguments = super().serialize()
        return path, {
            **arguments,
            "poll_interval": self._interval,
            "outcomes": self._outcomes,
            "metrics_timeout": _seconds(self.metrics_timeout, _METRICS_TIMEOUT, zero=True),
        }

    @property
    def _interval(self) -> float:
        return _seconds(self.poll_interval, params.DEFAULT_POLL_INTERVAL)

    @property
    def _outcomes(self) -> list[str] | None:
        outcomes = self.outcomes if isinstance(self.outcomes, (list, tuple, set, frozenset)) else (None,)
        return sorted(set(outcomes)) if all(isinstance(outcome, str) for outcome in outcomes) else None

    def shared_stream_key(self) -> Hashable | None:
        """Share the stream with all watchers of the same connection and interval."""
        if not HAS_SHARED_STREAMS or not isinstance(self.control_hub_conn_id, str):
            return None
        return type(self).__name__, self.control_hub_conn_id, self._interval

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return the producer of the shared stream."""
        from airflow_provider_streamsets.triggers.shared_stream import RunStreamProducer

        return RunStreamProducer(kwargs["control_hub_conn_id"], kwargs["poll_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[PollItem]) -> AsyncIterator[TriggerEvent]:
        """Yield events for the finished runs in the shared stream."""
        self.warn_about_unknown_arguments(self.log)
        await preload_watch()
        from airflow_provider_streamsets.polling.watcher_group import watcher_group

        watcher = self._watcher(watcher_group(self.control_hub_conn_id, self._interval))
        async for payload in watcher.payloads(shared_stream):
            yield TriggerEvent(payload)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield events for finished runs, with a poll of its own where Airflow has no shared streams."""
        self.warn_about_unknown_arguments(self.log)
        await preload_watch()
        from airflow_provider_streamsets.polling.watcher_group import WatcherGroup

        group = WatcherGroup(self.control_hub_conn_id, self._interval)
        watcher = self._watcher(group)
        async for payload in watcher.payloads(_acknowledge_on_next(group)):
            yield TriggerEvent(payload)

    def _watcher(self, group: WatcherGroup) -> RunWatcher:
        from airflow_provider_streamsets.polling.run_watcher import CursorStore, RunWatcher, event_slots
        from airflow_provider_streamsets.polling.watcher_query import JobSelector

        store = getattr(self, "asset_state_store", None)
        return RunWatcher(
            group,
            # A stored row can have values of other types.
            JobSelector(*(None if job is None else str(job) for job in (self.job_id, self.job_name, self.job_tag))),
            CursorStore(store, self._cursor_key),
            outcomes=OUTCOMES if self._outcomes is None else self._outcomes,
            metrics_timeout=_seconds(self.metrics_timeout, _METRICS_TIMEOUT, zero=True),
            slots=event_slots(watched_asset(store)),
        )

    @property
    def _cursor_key(self) -> str:
        # One asset can have several watchers, and they can change.
        watched = [self.control_hub_conn_id, self.job_id, self.job_name, self.job_tag, self._outcomes]
        return f"streamsets_runs_{hashlib.sha256(json.dumps(watched).encode()).hexdigest()[:32]}"


async def _acknowledge_on_next(group: WatcherGroup) -> AsyncIterator[PollItem]:
    """Yield the items of a group, and acknowledge each when the next one is requested."""
    number = 0
    async for item in group.items():
        group.acknowledge(number, clean=True)
        number = item.number
        yield item


def _seconds(value: Any, default: float, *, zero: bool = False) -> float:
    """Return a duration in seconds, or the default if a stored trigger has an invalid value."""
    try:
        return float(params.seconds(value, "seconds", rendered=True, zero=zero))
    except (TypeError, ValueError):
        return default
