"""Estimate whether Airflow's database can store the trigger of a wait for many runs."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_streamsets.compat import MAX_TRIGGER_SIZE, trigger_size
from airflow_provider_streamsets.control_hub.models import RunIdentity, RunRef

if TYPE_CHECKING:
    from airflow_provider_streamsets.operators._run_wait import RunWaiter

# Maximum size in compressed bytes of the report of a RED run that the trigger keeps.
_RED_REPORT_SIZE = 1400
# Maximum time between the starts of runs that are waited for together.
_MAX_START_SPREAD_MS = 86_400_000


def warn_of_large_trigger(waiter: RunWaiter, job_ids: Sequence[str], *, joins: bool = False) -> None:
    """
    Warn before the start if MySQL could not store the trigger for this many runs.

    A task cannot know which database Airflow uses. Values that are not known yet, such as the ids of the runs, are
    estimated at their maximum length.

    :param waiter: the waiter of the task
    :param job_ids: ids of the jobs, or strings of the same length
    :param joins: whether runs may be joined
    """
    if not waiter.task.deferrable:
        return
    size, constant = _max_trigger_size(waiter, job_ids, joins), _max_trigger_size(waiter, (), joins)
    if size > MAX_TRIGGER_SIZE:
        waiter.log.warning(
            "The trigger for %d runs may need %d bytes. If Airflow's database is MySQL, which stores at most %d, the "
            "task will fail after the start: set deferrable=False, or split the jobs among tasks of at most %d jobs "
            "each. With other databases, nothing needs to be done.",
            len(job_ids),
            size,
            MAX_TRIGGER_SIZE,
            (MAX_TRIGGER_SIZE - constant) * len(job_ids) // (size - constant),
        )


def _max_trigger_size(waiter: RunWaiter, job_ids: Sequence[str], joins: bool) -> int:
    """Return the maximum size in bytes of the trigger of this or a later deferral."""
    now, policy = round(time.time(), 3), waiter.policy
    is_forced = not (policy.force_unfinished_after is None and policy.force_stop_after is None)
    may_be_red = policy.fail_on_red_after is not None
    digests = {job_id: hashlib.sha256(job_id.encode()).hexdigest() for job_id in job_ids}
    # Only some of the runs: identical entries for all runs would compress too well.
    subset = [job_id for job_id, digest in digests.items() if int(digest, 16) % 2]
    times = {job_id: now + int(digest, 16) % _MAX_START_SPREAD_MS / 1000 for job_id, digest in digests.items()}
    runs = [
        RunRef(job_id, int(digest, 16) % 10_000, identity=RunIdentity(placeholder_id(job_id, digest), times[job_id]))
        for job_id, digest in digests.items()
    ]
    red = {i: hashlib.shake_256(i.encode()).hexdigest(_RED_REPORT_SIZE) for i in job_ids[: waiter.max_red_reports]}
    trigger = waiter.trigger(
        runs,
        timeout=now,
        deadline=now,
        metrics_timeout=now,
        force_at=now,
        active=subset if policy.until_active else None,
        red_since=times if may_be_red else None,
        red=red if may_be_red else None,
        forced=subset if is_forced else (),
        joined=subset if joins else (),
    )
    return trigger_size(trigger.serialize()[1])


def placeholder_id(example: str, digest: str) -> str:
    """
    Return an id in the form of Control Hub, with the organization of another id.

    :param example: the other id
    :param digest: at least 32 random hexadecimal digits
    """
    return f"{uuid.UUID(digest[:32])}:{example.partition(':')[2]}"
