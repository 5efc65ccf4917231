"""Offsets: where jobs continue reading from (contract, section 11)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub.paging import batches
from airflow_provider_streamsets.control_hub.services import Service

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient


class Offsets:
    """Offsets of jobs; reached as ``client.offsets``."""

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def reset(self, job_ids: Iterable[str]) -> None:
        """
        Forget where jobs stopped reading, so that their next runs read from the start.

        Control Hub allows it for inactive jobs only. It has the same effect however often it is sent before the
        next start, so an unclear end is answered by sending it again.

        :param job_ids: ids of jobs that are not active
        """
        wanted = list(dict.fromkeys(job_ids))
        for batch in batches(wanted, self._client.bulk_size):
            named = batch[0] if len(batch) == 1 else f"{len(batch)} jobs"
            self._client.call(
                "POST",
                Service.JOBRUNNER,
                "/v1/jobs/resetOffset",
                what=f"reset the offsets of {named}",
                body=batch,
            )
