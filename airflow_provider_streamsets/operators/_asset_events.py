"""Asset events for the outlets of a task that waited for a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AssetAlias

from airflow_provider_streamsets import params
from airflow_provider_streamsets.assets.jobs import event_payload, job_asset
from airflow_provider_streamsets.compat import ASSET_TYPES, HAS_OUTLET_PARTITIONS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context


def check_partition_key(operator: BaseOperator, partition_key: object, default_args: Mapping[str, Any] | None) -> None:
    """
    Check at DAG parse that the outlets of an operator can have a partition key.

    :param operator: the operator
    :param partition_key: its partition key; None means not set
    :param default_args: see :func:`~airflow_provider_streamsets.params.no_effect`
    :raises ValueError: if there is a partition key, but Airflow or an outlet does not support it
    """
    if partition_key is None:
        return
    if not HAS_OUTLET_PARTITIONS:
        raise ValueError(
            "'partition_key' requires Airflow 3.3, as older versions give events the partition key of the DAG run."
        )
    outlets = list(operator.outlets or ())
    if not any(isinstance(outlet, ASSET_TYPES) for outlet in outlets):
        params.no_effect("an asset in 'outlets'", operator, default_args, partition_key=partition_key)
    if any(isinstance(outlet, AssetAlias) for outlet in outlets):
        raise ValueError(
            "'partition_key' cannot be combined with an asset alias in 'outlets', as Airflow gives events of aliases "
            "the partition key of the DAG run."
        )


def emit_asset_events(
    operator: BaseOperator, context: Context, payload: Mapping[str, Any], partition_key: str | None
) -> None:
    """
    Add the result of a run to the extra of every outlet event, under ``payload``.

    The payload has the same form as on the events of
    :class:`~airflow_provider_streamsets.triggers.job_events.ControlHubJobRunEventTrigger`. For an asset alias, emit an
    event for the asset of the job.

    :param operator: the operator whose outlets receive the events
    :param context: the task's context
    :param payload: the result of the run
    :param partition_key: partition key of the events; None means that of the DAG run
    """
    outlets = list(operator.outlets or ())
    events: Any = context.get("outlet_events")
    if not outlets or events is None:
        return
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            try:
                asset = job_asset(payload["job_id"])
            except ValueError as error:
                operator.log.warning("Could not emit an event for asset alias '%s': %s", outlet.name, error)
            else:
                events[outlet].add(asset, extra={"payload": event_payload([payload])})
        elif isinstance(outlet, ASSET_TYPES):
            events[outlet].extra["payload"] = event_payload([payload])
            if partition_key is not None:
                events[outlet].add_partitions(partition_key)
