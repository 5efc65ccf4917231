"""Duplicating jobs: making copies, finding them, naming them (contract, section 6.4)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubUnexpectedAnswerError,
    may_have_been_executed,
)
from airflow_provider_streamsets.control_hub.models import Job
from airflow_provider_streamsets.control_hub.paging import batches, pages
from airflow_provider_streamsets.control_hub.services import Service, in_path
from airflow_provider_streamsets.control_hub.transport import Repeat
from airflow_provider_streamsets.control_hub.unclear import find_out
from airflow_provider_streamsets.control_hub.wire import Reader

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

log = logging.getLogger(__name__)


class JobCopies:
    """
    Makes copies of a job.

    Control Hub names them by a prefix and a number, and does not tell their ids. A prefix that nothing else has makes
    them findable, by one request for all; then they get the names that they are to have.
    """

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def make(
        self,
        job: Job,
        *,
        number_of_copies: int,
        name: str | None,
        description: str | None,
        key: str | None,
        made_before: Sequence[str],
        announce: Callable[[list[str]], None] | None,
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
        prefix = f"{name}:{key or uuid.uuid4()}:"
        # Without a key the prefix is new, so there can be no copies of an earlier call.
        found = self._still_there(made_before, number_of_copies)
        if not found and key:
            found = _numbered(self._named(job, prefix), prefix)
        if found:
            log.info("Taking over %d copies of job %s that an earlier call has made.", len(found), job.label)
        else:
            found = self._make(job, prefix, number_of_copies, description)
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
        if announce is not None:
            announce([copy["id"] for copy in copies])
        return self._rename(copies, names)

    def _still_there(self, job_ids: Sequence[str], number: int) -> dict[int, dict[str, Any]]:
        """Return these jobs, numbered from 1, if they are so many and all exist."""
        found = self._client.jobs.read_many(job_ids) if job_ids else {}
        return {n: found[i] for n, i in enumerate(job_ids, start=1)} if len(found) == len(job_ids) == number else {}

    def _make(self, job: Job, prefix: str, number: int, description: str | None) -> dict[int, dict[str, Any]]:
        error: ControlHubError | None = None
        try:
            self._client.call(
                "POST",
                Service.JOBRUNNER,
                f"/v1/job/{in_path(job.job_id)}/duplicate",
                what=f"duplicate job {job.label}",
                body={"namePrefix": prefix, "description": description, "numberOfCopies": number},
                repeat=Repeat.NEVER,
            )
        except ControlHubError as unclear:
            if not may_have_been_executed(unclear):
                raise
            error = unclear
            log.warning("%s Looking whether the copies were made all the same.", error)
        found = find_out(
            self._client,
            lambda: _numbered(self._named(job, prefix), prefix),
            question=f"Whether the copies of job {job.label} were made, which would be named '{prefix}...',",
            error=error,
            is_enough=lambda found: len(found) >= number,
        )
        if error is not None and not found:
            raise error
        return found

    def _named(self, job: Job, start: str) -> list[dict[str, Any]]:
        def read_page(offset: int, length: int) -> Any:
            return self._client.call(
                "GET",
                Service.JOBRUNNER,
                "/v1/jobs",
                what=f"find the copies of job {job.label}",
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

        return [raw for raw in pages(read_page, "copies of a job") if Reader(raw, "job").text("name").startswith(start)]

    def _rename(self, copies: list[dict[str, Any]], names: list[str]) -> list[Job]:
        renamed = [{**copy, "name": name} for copy, name in zip(copies, names, strict=True)]
        changed = [new for new, old in zip(renamed, copies, strict=True) if new["name"] != old["name"]]
        for batch in batches(changed, self._client.bulk_size):
            self._client.call(
                "POST", Service.JOBRUNNER, "/v1/jobs/updateJobs", what=f"name {len(batch)} copies", body=batch
            )
        return [Job.from_wire(copy) for copy in renamed]


def _numbered(jobs: list[dict[str, Any]], prefix: str) -> dict[int, dict[str, Any]]:
    """Return the jobs that are named by the prefix, by their numbers; a single copy has none."""
    numbers = {raw["name"].removeprefix(prefix): raw for raw in jobs if raw["name"].startswith(prefix)}
    return {
        int(number or 0): raw
        for number, raw in numbers.items()
        # Longer ones are no numbers, and int() refuses the longest.
        if not number or (number.isdecimal() and len(number) < 20)
    }
