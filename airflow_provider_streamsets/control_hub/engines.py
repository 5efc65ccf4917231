"""Engines: read, list, balance (contract, sections 8 and 14)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub._json import as_object
from airflow_provider_streamsets.control_hub._messages import describe_ids
from airflow_provider_streamsets.control_hub.errors import ControlHubNotFoundError
from airflow_provider_streamsets.control_hub.models import Engine
from airflow_provider_streamsets.control_hub.paging import chunked, paginate
from airflow_provider_streamsets.control_hub.services import Service, quote_id
from airflow_provider_streamsets.control_hub.transport import Retry

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient


class Engines:
    """Engines; reached as ``client.engines``."""

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def get(self, engine_id: str) -> Engine:
        """
        Return one engine.

        :param engine_id: id of the engine
        :raises ControlHubNotFoundError: if there is no such engine
        """
        answer = self._client.request(
            "GET", Service.JOBRUNNER, f"/v1/sdc/{quote_id(engine_id)}", action=f"read engine {engine_id}"
        )
        # An unknown engine is an error or an empty answer (contract, section 14), and a gateway's can be empty, too.
        return Engine.from_wire(answer) if answer else self.get_all([engine_id])[engine_id]

    def get_all(self, engine_ids: Iterable[str]) -> dict[str, Engine]:
        """
        Return several engines by id, in one request for each :attr:`ControlHubClient.bulk_size` ids.

        :param engine_ids: ids of engines
        :raises ControlHubNotFoundError: if one does not exist; the message names all that are missing
        """
        wanted = list(dict.fromkeys(engine_ids))
        found: dict[str, Engine] = {}
        for batch in chunked(wanted, self._client.bulk_size):
            answer = self._client.request(
                "POST",
                Service.JOBRUNNER,
                "/v1/sdcs",
                action=f"read {describe_ids(batch, 'engine')}",
                body=batch,
                needs_body=True,
            )
            engines = as_object(answer, "the engines asked for")
            found.update(
                {engine_id: Engine.from_wire(engines[engine_id]) for engine_id in batch if engines.get(engine_id)}
            )
        missing = [engine_id for engine_id in wanted if engine_id not in found]
        if missing:
            shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
            raise ControlHubNotFoundError(f"Control Hub knows no engine of these ids: {shown}.")
        return found

    def list(self, *, label: str | None = None, executor_type: str = "COLLECTOR") -> Iterator[Engine]:
        """
        Yield engines; a page is asked for when it is needed.

        :param label: only engines that have this label
        :param executor_type: ``COLLECTOR``, ``TRANSFORMER`` or ``EDGE``
        """

        def read_page(offset: int, length: int) -> Any:
            return self._client.request(
                "GET",
                Service.JOBRUNNER,
                "/v1/sdcs",
                action="list engines",
                params={
                    "executorType": executor_type,
                    "label": label,
                    "orderBy": "HTTP_URL",
                    "order": "ASC",
                    "offset": offset,
                    "len": length,
                    "withWrapper": "true",
                },
                needs_body=True,
            )

        for entry in paginate(read_page, "engines"):
            engine = Engine.from_wire(entry)
            if label is None or label in engine.labels:
                yield engine

    def balance(self, engine_ids: Iterable[str]) -> None:
        """
        Move pipeline instances of the jobs that run on these engines to less loaded engines that match.

        It concerns jobs with failover enabled, interrupts their pipelines briefly, and does nothing if the load is
        even. The call is never repeated.

        :param engine_ids: ids of engines
        """
        wanted = list(dict.fromkeys(engine_ids))
        if wanted:
            self._client.request(
                "POST",
                Service.JOBRUNNER,
                "/v1/jobs/balanceSDCs",
                action=f"balance {describe_ids(wanted, 'engine')}",
                body=wanted,
                retry=Retry.NEVER,
            )
