"""Duplicating jobs: making copies, finding them, naming them (contract, section 6.4)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub import submission
from airflow_provider_streamsets.control_hub._json import JsonReader
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubUnexpectedAnswerError,
    may_have_executed,
)
from airflow_provider_streamsets.control_hub.models import Job
from airflow_provider_streamsets.control_hub.paging import chunked, paginate
from airflow_provider_streamsets.control_hub.services import Service, quote_id
from airflow_provider_streamsets.control_hub.submission import CreateIntent, confirm_effect
from airflow_provider_streamsets.control_hub.transport import Retry

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

log = logging.getLogger(__name__)


class JobDuplicator:
    """
    Makes copies of a job.

    Control Hub names them by a prefix and a number, and does not tell their ids. A prefix that nothing else has makes
    them findable, by one request for all; then they get the names that they are to have.
    """

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def duplicate(
        self,
        job: Job,
        *,
        number_of_copies: int,
        name: str | None,
        description: str | None,
        idempotency_key: str | None,
        existing_ids: Sequence[str],
        on_created: Callable[[list[str]], None] | None,
        submitted: CreateIntent | None,
        on_submit: Callable[[CreateIntent | None], None] | None,
    ) -> list[Job]:
        """
        Make the copies, or take over those that an earlier call with the same key has made.

        The parameters are those of :meth:`Jobs.duplicate`.
        """
        if isinstance(number_of_copies, bool) or not isinstance(number_of_copies, int) or number_of_copies < 1:
            raise ControlHubConfigurationError(
                f"'number_of_copies' must be a whole number from 1, but is {number_of_copies!r}."
            )
        name = name or f"{job.name} copy"
        names = [name] if number_of_copies == 1 else [f"{name}{number}" for number in range(1, number_of_copies + 1)]
        # With a colon at its end the number of a copy is not taken for a part of a longer key.
        prefix = f"{name}:{idempotency_key or uuid.uuid4()}:"
        # Without a key the prefix is new, so there can be no copies of an earlier call.
        found = self._get_existing(existing_ids, number_of_copies)
        if not found and idempotency_key:
            found = self._find_previous_copies(job, prefix, number_of_copies, submitted)
        if found:
            log.info("Taking over %d copies of job %s that an earlier call has made.", len(found), job.label)
        else:
            found = self._submit(job, prefix, number_of_copies, description, on_submit)
        if not found:
            raise ControlHubUnexpectedAnswerError(
                f"Control Hub accepted the call, but no copy of job {job.label} appears. If one does later, it is "
                f"named '{prefix}...'."
            )
        if len(found) != number_of_copies:
            raise ControlHubUnexpectedAnswerError(
                f"Of {number_of_copies} copies of job {job.label}, {len(found)} appear: "
                f"{', '.join(repr(found[number]['name']) for number in sorted(found))}. Delete them before another try."
            )
        copies = [found[number] for number in sorted(found)]
        if on_created is not None:
            on_created([copy["id"] for copy in copies])
        renamed = self._rename(copies, names)
        if submitted is not None or existing_ids:
            self._delete_surplus(job, prefix, {copy.job_id for copy in renamed})
        return renamed

    def _get_existing(self, job_ids: Sequence[str], number: int) -> dict[int, dict[str, Any]]:
        """Return these jobs, numbered from 1, if they are so many and all exist."""
        found = self._client.jobs.read_many(job_ids) if job_ids else {}
        return {n: found[i] for n, i in enumerate(job_ids, start=1)} if len(found) == len(job_ids) == number else {}

    def _find_previous_copies(
        self, job: Job, prefix: str, number: int, submitted: CreateIntent | None
    ) -> dict[int, dict[str, Any]]:
        """Return the copies that an earlier call has made; those of one that may still be delivered are waited for."""
        if submitted is None or submitted.name != prefix:
            return self._copies_by_number(job, prefix)
        return confirm_effect(
            self._client,
            lambda: self._copies_by_number(job, prefix),
            subject=f"Whether an earlier call has made the copies of job {job.label}, named '{prefix}...',",
            is_complete=lambda found: len(found) >= number,
            max_wait=lambda: submission.delivery_time_left(self._client, submitted.at),
        )

    def _submit(
        self,
        job: Job,
        prefix: str,
        number: int,
        description: str | None,
        on_submit: Callable[[CreateIntent | None], None] | None,
    ) -> dict[int, dict[str, Any]]:
        error: ControlHubError | None = None
        on_submit = on_submit or (lambda intent: None)
        on_submit(CreateIntent.for_name(prefix, None, self._client.clock_skew))
        try:
            self._client.request(
                "POST",
                Service.JOBRUNNER,
                f"/v1/job/{quote_id(job.job_id)}/duplicate",
                action=f"duplicate job {job.label}",
                body={"namePrefix": prefix, "description": description, "numberOfCopies": number},
                retry=Retry.NEVER,
            )
        except ControlHubError as unclear:
            if not may_have_executed(unclear):
                on_submit(None)
                raise
            error = unclear
            log.warning("%s Looking whether the copies were made all the same.", error)
        found = confirm_effect(
            self._client,
            lambda: self._copies_by_number(job, prefix),
            subject=f"Whether the copies of job {job.label} were made, which would be named '{prefix}...',",
            error=error,
            is_complete=lambda found: len(found) >= number,
        )
        if error is not None and not found:
            raise error
        return found

    def _list_copies(self, job: Job, start: str) -> list[dict[str, Any]]:
        def read_page(offset: int, length: int) -> Any:
            return self._client.request(
                "GET",
                Service.JOBRUNNER,
                "/v1/jobs",
                action=f"find the copies of job {job.label}",
                params={
                    "jobSearchOperation": "STARTS_WITH",
                    "jobSearchText": start,
                    "jobTemplate": str(job.is_template).lower(),
                    "removed": "false",
                    "withWrapper": "true",
                    "offset": offset,
                    "len": length,
                },
                needs_body=True,
            )

        return [
            raw
            for raw in paginate(read_page, "copies of a job")
            if JsonReader(raw, "job").text("name").startswith(start)
        ]

    def _copies_by_number(self, job: Job, prefix: str) -> dict[int, dict[str, Any]]:
        """Return the copies by their numbers, the oldest of each number; a single copy has number 0."""
        copies = self._list_copies(job, prefix)
        copies.sort(key=lambda raw: JsonReader(raw, "job").integer("createTime"), reverse=True)
        numbers = {raw["name"].removeprefix(prefix): raw for raw in copies}
        return {
            int(number or 0): raw
            for number, raw in numbers.items()
            # Longer ones are no numbers, and int() refuses the longest.
            if not number or (number.isdecimal() and len(number) < 20)
        }

    def _delete_surplus(self, job: Job, prefix: str, kept: Container[str]) -> None:
        """Delete the copies that another call with the same key has made besides those that are kept."""
        try:
            others = [copy for raw in self._list_copies(job, prefix) if (copy := Job.from_wire(raw)).job_id not in kept]
            surplus = [copy.job_id for copy in others if copy.current_run is None]
            if surplus:
                delete = self._client.jobs.delete_templates if job.is_template else self._client.jobs.delete
                log.warning(
                    "An earlier call was executed late; deleting its %d surplus copies of job %s.",
                    len(delete(surplus)),
                    job.label,
                )
        except ControlHubError as error:
            log.warning(
                "Could not delete surplus copies of job %s, which an earlier call may have made late; delete jobs "
                "named '%s...': %s",
                job.label,
                prefix,
                error,
            )

    def _rename(self, copies: list[dict[str, Any]], names: list[str]) -> list[Job]:
        renamed = [{**copy, "name": name} for copy, name in zip(copies, names, strict=True)]
        changed = [new for new, old in zip(renamed, copies, strict=True) if new["name"] != old["name"]]
        for batch in chunked(changed, self._client.bulk_size):
            self._client.request(
                "POST", Service.JOBRUNNER, "/v1/jobs/updateJobs", action=f"name {len(batch)} copies", body=batch
            )
        return [Job.from_wire(copy) for copy in renamed]
