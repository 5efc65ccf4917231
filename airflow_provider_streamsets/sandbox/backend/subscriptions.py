"""Subscriptions to status changes of jobs, and the webhooks that they call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError

if TYPE_CHECKING:
    from airflow_provider_streamsets.sandbox.backend.runs import Phase
    from airflow_provider_streamsets.sandbox.backend.store import Job, Store

EVENT_TYPE = "JOB_STATUS_CHANGE"
ACTION_TYPE = "WEBHOOKV1"
METHODS = ("GET", "POST", "PUT", "DELETE")
_PLACEHOLDER = re.compile(r"\{\{([A-Z_]+)\}\}")


@dataclass(frozen=True)
class StatusChange:
    """A change of the status or the color of a job."""

    at: int
    job: Job
    before: Phase | None
    after: Phase


@dataclass(frozen=True)
class Webhook:
    """
    The request that a subscription sends.

    :param payload: the body, with placeholders such as ``{{JOB_ID}}``.
    :param timeout: in milliseconds.
    """

    uri: str
    method: str = "POST"
    content_type: str = "text/plain"
    payload: str = ""
    bearer_token: str | None = None
    timeout: int = 30_000
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Subscription:
    """
    A subscription to status changes of all jobs.

    :param config: the configuration of the webhook, as the client sent it.
    """

    id: str
    name: str
    description: str | None
    enabled: bool
    webhook: Webhook
    config: str

    def body(self, change: StatusChange, organization: str) -> str:
        """Return the body of the request for a change. Unknown placeholders remain."""
        values = {
            "ORGANIZATION": organization,
            "SUBSCRIPTION_ID": self.id,
            "SUBSCRIPTION_NAME": self.name,
            "TRIGGERED_ON": change.at,
            "JOB_ID": change.job.id,
            "JOB_NAME": change.job.seed.name,
            "FROM_STATUS": change.before.status if change.before else "INACTIVE",
            "TO_STATUS": change.after.status,
            "FROM_COLOR": change.before.color if change.before else "GRAY",
            "TO_COLOR": change.after.color,
            "ERROR_MESSAGE": change.after.error or "",
        }
        return _PLACEHOLDER.sub(lambda match: str(values.get(match[1], match[0])), self.webhook.payload)


class Subscriptions:
    """The subscriptions of an organization, in the order of their creation."""

    def __init__(self) -> None:
        self._entries: dict[str, Subscription] = {}

    def __iter__(self) -> Iterator[Subscription]:
        return iter([*self._entries.values()])

    def save(self, entry: Subscription) -> None:
        """Add a subscription, or replace the one with the same id."""
        self._entries[entry.id] = entry

    def check(self, subscription_id: str) -> None:
        """
        Check that a subscription exists.

        :raises ApiError: if it does not.
        """
        if subscription_id not in self._entries:
            raise ApiError(404, "NOTIFICATION_01", f"Subscription '{subscription_id}' does not exist")

    def remove(self, subscription_id: str) -> None:
        """
        Remove a subscription.

        :raises ApiError: if it does not exist.
        """
        self.check(subscription_id)
        del self._entries[subscription_id]


def status_changes(store: Store, after: int, until: int) -> list[StatusChange]:
    """
    Return the changes of all jobs in a period, in the order of their times.

    :param after: start of the period, exclusive.
    :param until: end of the period, inclusive.
    """
    jobs = [*store.jobs.values(), *store.deleted_jobs.values()]
    return sorted((one for job in jobs for one in _changes_of(store, job, after, until)), key=lambda one: one.at)


def _changes_of(store: Store, job: Job, after: int, until: int) -> Iterable[StatusChange]:
    for position in range(len(job.runs) - 1, -1, -1):
        phases = store.run_state(job.runs[position]).phases
        before = store.run_state(job.runs[position - 1]).phases[-1] if position else None
        for phase in phases:
            if after < phase.at <= until and (before is None or _shown(before) != _shown(phase)):
                yield StatusChange(phase.at, job, before, phase)
            before = phase
        if phases[0].at <= after:
            # Earlier runs ended before this one started.
            return


def _shown(phase: Phase) -> tuple[str, str]:
    return phase.status, phase.color
