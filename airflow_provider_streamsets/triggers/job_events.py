"""The trigger for event-driven scheduling: asset events for the finished runs of jobs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Collection, Hashable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_streamsets import params
from airflow_provider_streamsets.assets.jobs import job_uri
from airflow_provider_streamsets.compat import HAS_SHARED_STREAMS, BaseEventTrigger, watched_asset
from airflow_provider_streamsets.triggers.preload import preload_watch

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer

    from airflow_provider_streamsets.polling.run_watcher import RunWatcher
    from airflow_provider_streamsets.polling.watcher_poll import PollItem, WatcherGroup

OUTCOMES = ("SUCCEEDED", "FAILED", "STOPPED")
_POLL_INTERVAL = 30.0
_METRICS_TIMEOUT = 30.0


class ControlHubJobRunEventTrigger(BaseEventTrigger):
    """
    Fires when runs of a Control Hub job, or of jobs with a tag, have finished; for an ``AssetWatcher``.

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

    Runs that finish together are in one asset event: Airflow leaves an event that follows another one of its asset at
    once for a DAG run that only a later event starts. The extra of the event holds under ``payload`` a list ``runs`` of
    the facts about each run, those of a job in their order, and beside it the facts about the last one of the list.
    They are the keys and values of the result of
    :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`. Two events of an asset are at least
    ten seconds apart, and one holds up to about 100 kB of facts; what does not fit is in the next one.

    .. code-block:: python

        @task
        def report(triggering_asset_events):
            for events in triggering_asset_events.values():
                for event in events:
                    for run in event.extra["payload"]["runs"]:
                        print(run["job_name"], run["run_count"], run["outcome"])

    All watchers with the same connection and interval share one poll (Airflow 3.3 and later). A run that has finished
    before the watcher first looked is not reported. From then on, each finished run is reported once, those of a job in
    their order, also those that finish while no triggerer runs, as far back as Control Hub's history of the job
    reaches. For that, Airflow must have a state store (3.3 and later), and no other asset an equal watcher; otherwise
    a watcher begins anew with each triggerer. If a triggerer dies within about two seconds after an event, it can be
    that the run is reported again, never that it is not: `job_id` and `run_count` tell. Errors do not end the watcher.

    Exactly one of `job_id`, `job_name` and `job_tag` is to be given. Templates are not rendered.

    :param control_hub_conn_id: id of the Airflow connection
    :param job_id: id of the job
    :param job_name: exact name of the job, instead of its id
    :param job_tag: tag of the jobs, without organization, for example ``nightly/orders``; jobs that get it later are
        watched from the next look on, at the latest five minutes later
    :param poll_interval: seconds, or timedelta, between two looks; default 30
    :param outcomes: which runs to report: a list of ``SUCCEEDED``, ``FAILED`` and ``STOPPED``; None is all of them
    :param metrics_timeout: seconds, or timedelta, to wait for a run's final metrics after its end, at the most; default 30
    """

    def __init__(
        self,
        control_hub_conn_id: str = "streamsets_default",
        job_id: str | None = None,
        job_name: str | None = None,
        job_tag: str | None = None,
        poll_interval: float | timedelta = _POLL_INTERVAL,
        outcomes: Collection[str] | None = None,
        metrics_timeout: float | timedelta = _METRICS_TIMEOUT,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.control_hub_conn_id = control_hub_conn_id
        self.job_id = job_id
        self.job_name = job_name
        self.job_tag = job_tag
        self.poll_interval = poll_interval
        self.outcomes = outcomes
        self.metrics_timeout = metrics_timeout

    def check(self) -> None:
        """
        Check the arguments. Airflow's DAG processor does that with each DAG file, as part of :meth:`serialize`.

        :raises ValueError: if one of them cannot be right
        """
        params.string(self.control_hub_conn_id, "control_hub_conn_id", rendered=True)
        params.exactly_one(job_id=self.job_id, job_name=self.job_name, job_tag=self.job_tag)
        for name in ("job_id", "job_name", "job_tag"):
            params.string(getattr(self, name), name, rendered=True)
            if "{{" in str(getattr(self, name)):
                raise ValueError(f"'{name}' cannot be a template: a watcher belongs to no DAG run.")
        if self.job_id is not None:
            job_uri(self.job_id)
        params.seconds(self.poll_interval, "poll_interval", rendered=True)
        params.seconds(self.metrics_timeout, "metrics_timeout", rendered=True, zero=True)
        if self.outcomes is None:
            return
        if not isinstance(self.outcomes, (list, tuple, set, frozenset)) or not self.outcomes:
            raise ValueError(f"'outcomes' must be a list of {', '.join(OUTCOMES)}, but is {self.outcomes!r}.")
        for outcome in self.outcomes:
            params.one_of(outcome, "outcomes", OUTCOMES, rendered=True)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """
        Return what Airflow stores: the class and all arguments of its constructor.

        :raises ValueError: if an argument cannot be right; never in the triggerer, whose triggers were checked before
        """
        if self.trigger_id is None:
            self.check()
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "control_hub_conn_id": self.control_hub_conn_id,
            "job_id": self.job_id,
            "job_name": self.job_name,
            "job_tag": self.job_tag,
            "poll_interval": self._interval,
            "outcomes": self._outcomes,
            "metrics_timeout": _seconds(self.metrics_timeout, _METRICS_TIMEOUT, zero=True),
        }

    @property
    def _interval(self) -> float:
        return _seconds(self.poll_interval, _POLL_INTERVAL)

    @property
    def _outcomes(self) -> list[str] | None:
        return sorted(set(self.outcomes)) if isinstance(self.outcomes, (list, tuple, set, frozenset)) else None

    def shared_stream_key(self) -> Hashable | None:
        """Share the poll with all watchers of the connection that have the same interval."""
        return (type(self).__name__, self.control_hub_conn_id, self._interval) if HAS_SHARED_STREAMS else None

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return the shared poll."""
        from airflow_provider_streamsets.triggers.shared_stream import RunStreamProducer

        return RunStreamProducer(kwargs["control_hub_conn_id"], kwargs["poll_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[PollItem]) -> AsyncIterator[TriggerEvent]:
        """Yield events for the finished runs that the shared poll has found."""
        await preload_watch()
        from airflow_provider_streamsets.polling.watcher_poll import watcher_group

        watcher = self._watcher(watcher_group(self.control_hub_conn_id, self._interval))
        async for payload in watcher.payloads(shared_stream):
            yield TriggerEvent(payload)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Do the same with a poll of its own, where Airflow has no shared streams."""
        await preload_watch()
        from airflow_provider_streamsets.polling.watcher_poll import WatcherGroup

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
            JobSelector(self.job_id, self.job_name, self.job_tag),
            CursorStore(store, self._cursor_key),
            outcomes=OUTCOMES if self._outcomes is None else self._outcomes,
            metrics_timeout=_seconds(self.metrics_timeout, _METRICS_TIMEOUT, zero=True),
            slots=event_slots(watched_asset(store)),
        )

    @property
    def _cursor_key(self) -> str:
        # One asset can have several watchers, and another one than before.
        watched = [self.control_hub_conn_id, self.job_id, self.job_name, self.job_tag, self._outcomes]
        return f"streamsets_runs_{hashlib.sha256(json.dumps(watched).encode()).hexdigest()[:32]}"


async def _acknowledge_on_next(group: WatcherGroup) -> AsyncIterator[PollItem]:
    """Yield the items of a group, and take each for dealt with when the next one is asked for."""
    number = 0
    async for item in group.items():
        group.acknowledge(number, clean=True)
        number = item.number
        yield item


def _seconds(value: Any, default: float, *, zero: bool = False) -> float:
    """Return a duration in seconds, the default if a stored trigger has something else."""
    try:
        return float(params.seconds(value, "seconds", rendered=True, zero=zero))
    except (TypeError, ValueError):
        return default
