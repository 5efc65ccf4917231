"""Duplicate jobs and find the copies (contract section 6.4)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub import submission
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubUnexpectedResponseError,
    may_have_executed,
)
from airflow_provider_streamsets.control_hub.models import Job, JobDocument, duplicate_request
from airflow_provider_streamsets.control_hub.paging import chunked, page_params, paginate
from airflow_provider_streamsets.control_hub.resources.job_reading import kind_params, name_params
from airflow_provider_streamsets.control_hub.services import Retry, Service, quote_id
from airflow_provider_streamsets.control_hub.submission import CreateIntent, confirm_effect

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

log = logging.getLogger(__name__)


class JobDuplicator:
    """
    Duplicates jobs.

    Control Hub names copies by a prefix and a number, and does not return their ids. A unique prefix makes them
    findable with one request; afterwards they are renamed.
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
        Create the copies, or return those of an earlier call with the same idempotency key.

        See :meth:`Jobs.duplicate` for the parameters.
        """
        if isinstance(number_of_copies, bool) or not isinstance(number_of_copies, int) or number_of_copies < 1:
            raise ControlHubConfigurationError(
                f"'number_of_copies' must be an integer of at least 1, got {number_of_copies!r}."
            )
        name = name or f"{job.name} copy"
        names = [name] if number_of_copies == 1 else [f"{name}{number}" for number in range(1, number_of_copies + 1)]
        # The trailing colon keeps the number of a copy apart from a longer key.
        prefix = f"{name}:{idempotency_key or uuid.uuid4()}:"
        # Without a key the prefix is new, so there can be no copies of an earlier call.
        found = self._get_existing(existing_ids, number_of_copies)
        if not found and idempotency_key:
            found = self._find_previous_copies(job, prefix, number_of_copies, submitted)
        if found:
            log.info("Job %s: using the %d copies that an earlier call created.", job.label, len(found))
        else:
            found = self._submit(job, prefix, number_of_copies, description, on_submit)
        if not found:
            raise ControlHubUnexpectedResponseError(
                f"Cannot duplicate job {job.label}: Control Hub accepted the request, but no copy appeared. A late "
                f"copy is named '{prefix}...'."
            )
        if len(found) != number_of_copies:
            raise ControlHubUnexpectedResponseError(
                f"Expected {number_of_copies} copies of job {job.label}, but found {len(found)}: "
                f"{', '.join(repr(found[number].name) for number in sorted(found))}. Delete them, then retry."
            )
        copies = [found[number] for number in sorted(found)]
        if on_created is not None:
            on_created([copy.job_id for copy in copies])
        renamed = self._rename(copies, names)
        if submitted is not None or existing_ids:
            self._delete_surplus(job, prefix, {copy.job_id for copy in renamed})
        return renamed

    def _get_existing(self, job_ids: Sequence[str], number: int) -> dict[int, JobDocument]:
        """Return these jobs, numbered from 1, if there are `number` of them and all exist."""
        found = self._client.jobs.read_many(job_ids) if job_ids else {}
        return {n: found[i] for n, i in enumerate(job_ids, start=1)} if len(found) == len(job_ids) == number else {}

    def _find_previous_copies(
        self, job: Job, prefix: str, number: int, submitted: CreateIntent | None
    ) -> dict[int, JobDocument]:
        """Return the copies of an earlier call, waiting for those of a call that may still be delivered."""
        if submitted is None or submitted.name != prefix:
            return self._copies_by_number(job, prefix)
        return confirm_effect(
            self._client,
            lambda: self._copies_by_number(job, prefix),
            subject=f"whether an earlier call created the copies of job {job.label}, named '{prefix}...'",
            is_complete=lambda found: len(found) >= number,
            max_wait=lambda: submission.remaining_delivery_time(self._client, submitted.requested_at),
        )

    def _submit(
        self,
        job: Job,
        prefix: str,
        number: int,
        description: str | None,
        on_submit: Callable[[CreateIntent | None], None] | None,
    ) -> dict[int, JobDocument]:
        error: ControlHubError | None = None
        on_submit = on_submit or (lambda intent: None)
        on_submit(CreateIntent.for_name(prefix, None, self._client.clock_skew))
        try:
            self._client.request(
                "POST",
                Service.JOBRUNNER,
                f"/v1/job/{quote_id(job.job_id)}/duplicate",
                action=f"duplicate job {job.label}",
                body=duplicate_request(prefix, description, number),
                retry=Retry.NEVER,
            )
        except ControlHubError as caught:
            if not may_have_executed(caught):
                on_submit(None)
                raise
            error = caught
            log.warning("%s Checking whether the copies were created anyway.", error)
        found = confirm_effect(
            self._client,
            lambda: self._copies_by_number(job, prefix),
            subject=f"whether the copies of job {job.label} were created, named '{prefix}...'",
            error=error,
            is_complete=lambda found: len(found) >= number,
        )
        if error is not None and not found:
            raise error
        return found

    def _list_copies(self, job: Job, start: str) -> list[JobDocument]:
        def read_page(offset: int, length: int) -> Any:
            return self._client.request(
                "GET",
                Service.JOBRUNNER,
                "/v1/jobs",
                action=f"find the copies of job {job.label}",
                params={
                    **name_params("STARTS_WITH", start),
                    **kind_params(templates=job.is_template),
                    **page_params(offset, length, wrapped=True),
                },
                needs_body=True,
            )

        documents = map(JobDocument.from_wire, paginate(read_page, "copies of a job"))
        return [document for document in documents if document.name.startswith(start)]

    def _copies_by_number(self, job: Job, prefix: str) -> dict[int, JobDocument]:
        """Return the copies by number, the oldest of each number; a single copy has number 0."""
        copies = self._list_copies(job, prefix)
        copies.sort(key=lambda copy: copy.created_ms, reverse=True)
        numbers = {copy.name.removeprefix(prefix): copy for copy in copies}
        return {
            int(number or 0): copy
            for number, copy in numbers.items()
            # Longer ones are not copy numbers, and int() rejects very long ones.
            if not number or (number.isdecimal() and len(number) < 20)
        }

    def _delete_surplus(self, job: Job, prefix: str, kept: Container[str]) -> None:
        """Delete copies that another call with the same key created."""
        try:
            copies = [document.to_job() for document in self._list_copies(job, prefix)]
            surplus = [copy.job_id for copy in copies if copy.job_id not in kept and copy.current_run is None]
            if surplus:
                delete = self._client.jobs.delete_templates if job.is_template else self._client.jobs.delete
                log.warning(
                    "Job %s: an earlier duplication was executed late; deleted its %d surplus copies.",
                    job.label,
                    len(delete(surplus)),
                )
        except ControlHubError as error:
            log.warning(
                "Job %s: could not delete surplus copies that an earlier call may have created late. Delete jobs named "
                "'%s...'. %s",
                job.label,
                prefix,
                error,
            )

    def _rename(self, copies: list[JobDocument], names: list[str]) -> list[Job]:
        renamed = [copy.renamed(name) for copy, name in zip(copies, names, strict=True)]
        changed = [new.raw for new, old in zip(renamed, copies, strict=True) if new.name != old.name]
        for batch in chunked(changed, self._client.bulk_size):
            self._client.request(
                "POST", Service.JOBRUNNER, "/v1/jobs/updateJobs", action=f"rename {len(batch)} copies", body=batch
            )
        return [copy.to_job() for copy in renamed]
