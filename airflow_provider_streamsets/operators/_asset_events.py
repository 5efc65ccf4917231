"""Asset events for the outlets of a task that waited for a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AssetAlias

from airflow_provider_streamsets.assets.jobs import event_payload, job_asset
from airflow_provider_streamsets.compat import ASSET_TYPES

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context


def emit_asset_events(operator: BaseOperator, context: Context, payload: Mapping[str, Any]) -> None:
    """
    Add the result of a run to the extra of every outlet event, under ``payload``.

    The payload has the same form as on the events of
    :class:`~airflow_provider_streamsets.triggers.job_events.ControlHubJobRunEventTrigger`. For an asset alias, emit an
    event for the asset of the job.

    :param operator: the operator whose outlets receive the events
    :param context: the task's context
    :param payload: the result of the run
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
