"""Engines: read, list, balance (contract sections 8 and 14)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub._json import as_object
from airflow_provider_streamsets.control_hub._messages import describe_ids, join_truncated
from airflow_provider_streamsets.control_hub.errors import ControlHubNotFoundError
from airflow_provider_streamsets.control_hub.models import Engine
from airflow_provider_streamsets.control_hub.paging import chunked, page_params, paginate, sort_params
from airflow_provider_streamsets.control_hub.services import Retry, Service, quote_id

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.session import Session


class Engines:
    """Engines, available as ``client.engines``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, engine_id: str) -> Engine:
        """
        Return an engine.

        :param engine_id: id of the engine
        :raises ControlHubNotFoundError: if the engine does not exist
        """
        response = self._session.request(
            "GET", Service.JOBRUNNER, f"/v1/sdc/{quote_id(engine_id)}", action=f"read engine {engine_id}"
        )
        # An empty response can mean an unknown engine, or come from a gateway (contract sections 14 and 18.38).
        return Engine.from_wire(response) if response else self.get_all([engine_id])[engine_id]

    def get_all(self, engine_ids: Iterable[str]) -> dict[str, Engine]:
        """
        Return engines by id, with one request per :attr:`ControlHubClient.bulk_size` ids.

        :param engine_ids: ids of engines
        :raises ControlHubNotFoundError: if any does not exist; the message names the missing ones
        """
        ids = list(dict.fromkeys(engine_ids))
        found: dict[str, Engine] = {}
        for batch in chunked(ids, self._session.bulk_size):
            response = self._session.request(
                "POST",
                Service.JOBRUNNER,
                "/v1/sdcs",
                action=f"read {describe_ids(batch, 'engine')}",
                body=batch,
                needs_body=True,
            )
            engines = as_object(response, "engines by id")
            found.update(
                {engine_id: Engine.from_wire(engines[engine_id]) for engine_id in batch if engines.get(engine_id)}
            )
        missing = [engine_id for engine_id in ids if engine_id not in found]
        if missing:
            raise ControlHubNotFoundError(f"Cannot read engines {join_truncated(missing)}: not found.")
        return found

    def list(self, *, label: str | None = None, executor_type: str = "COLLECTOR") -> Iterator[Engine]:
        """
        Yield engines, fetching pages lazily.

        :param label: only engines with this label
        :param executor_type: ``COLLECTOR``, ``TRANSFORMER`` or ``EDGE``
        """

        def read_page(offset: int, length: int) -> Any:
            return self._session.request(
                "GET",
                Service.JOBRUNNER,
                "/v1/sdcs",
                action="list engines",
                params={
                    "executorType": executor_type,
                    "label": label,
                    **sort_params("HTTP_URL", "ASC"),
                    **page_params(offset, length, wrapped=True),
                },
                needs_body=True,
            )

        for entry in paginate(read_page, "engines"):
            engine = Engine.from_wire(entry)
            if label is None or label in engine.labels:
                yield engine

    def balance(self, engine_ids: Iterable[str]) -> None:
        """
        Move pipeline instances from these engines to matching engines with less load.

        Affects jobs with failover enabled, interrupts their pipelines briefly, and does nothing if the load is even.
        The request is never retried.

        :param engine_ids: ids of engines
        """
        ids = list(dict.fromkeys(engine_ids))
        if ids:
            self._session.request(
                "POST",
                Service.JOBRUNNER,
                "/v1/jobs/balanceSDCs",
                action=f"balance {describe_ids(ids, 'engine')}",
                body=ids,
                retry=Retry.NEVER,
            )
