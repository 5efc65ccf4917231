"""What the events of a task's outlets tell about the run that the task has waited for."""

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
    Put the facts about a run on the events of all outlets, under ``payload`` in their extra.

    They are as on the events of
    :class:`~airflow_provider_streamsets.triggers.job_events.ControlHubJobRunEventTrigger`. An alias gets an event of
    the job's own asset.

    :param operator: the task
    :param context: its context
    :param payload: the facts
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
                operator.log.warning("The alias '%s' gets no event: %s", outlet.name, error)
            else:
                events[outlet].add(asset, extra={"payload": event_payload([payload])})
        elif isinstance(outlet, ASSET_TYPES):
            events[outlet].extra["payload"] = event_payload([payload])
