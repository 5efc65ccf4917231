"""Notification: subscriptions to status changes of jobs, whose webhooks the sandbox calls."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.bodies import (
    NewSubscription,
    SubscriptionUpdate,
)
from airflow_provider_streamsets.sandbox.api.requests import Backend, Query, get_context, parse_body
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response, page_response
from airflow_provider_streamsets.sandbox.backend.subscriptions import ACTION_TYPE, EVENT_TYPE, Subscription, Webhook
from airflow_provider_streamsets.sandbox.openapi import (
    OBJECT,
    ORDER,
    WRAPPED_PAGE,
    array_of,
    page_of,
    route_spec,
    string_param,
)
from airflow_provider_streamsets.sandbox.serializers.schemas import Json, complete

router = APIRouter()

_SUBSCRIPTION = "EventSubscriptionJson"
_EVENTSUB = "/notification/rest/v1/eventsub"


def subscription_body(backend: Backend, entry: Subscription) -> Json:
    """Return the JSON object of a subscription."""
    return complete(
        _SUBSCRIPTION,
        {
            "id": entry.id,
            "name": entry.name,
            "description": entry.description,
            "organization": backend.organization,
            "enabled": entry.enabled,
            "deleted": False,
            "events": [{"eventType": EVENT_TYPE, "filter": ""}],
            "externalActions": [{"eventType": ACTION_TYPE, "config": entry.config}],
        },
    )


def _subscription(subscription_id: str, body: NewSubscription) -> Subscription:
    (action,) = body.external_actions
    config = action.webhook
    webhook = Webhook(
        uri=config.uri,
        method=config.method,
        content_type=config.content_type or "text/plain",
        payload=config.payload or "",
        bearer_token=config.bearer_token,
        timeout=config.timeout,
        headers=config.headers or {},
    )
    return Subscription(subscription_id, body.name, body.description, body.enabled, webhook, action.config)


@router.get(
    _EVENTSUB,
    **route_spec(
        page_of(_SUBSCRIPTION),
        query=(string_param("organization"), string_param("orderBy"), ORDER, *WRAPPED_PAGE),
        errors=(400,),
    ),
)
async def list_subscriptions(backend: Backend, query: Query) -> Response:
    """List the subscriptions in the order of their creation."""
    found = [*backend.subscriptions]
    if query.is_descending():
        found.reverse()
    return page_response(query, found, lambda entry: subscription_body(backend, entry))


@router.put(f"{_EVENTSUB}/createEventSub", **route_spec(_SUBSCRIPTION, body=NewSubscription, errors=(400,)))
async def create_subscription(request: Request, backend: Backend) -> Response:
    """Create a subscription."""
    entry = _subscription(backend.new_id("subscription"), await parse_body(request, NewSubscription))
    backend.subscriptions.save(entry)
    return json_response(subscription_body(backend, entry))


@router.post(f"{_EVENTSUB}/updateEventSub", **route_spec(_SUBSCRIPTION, body=SubscriptionUpdate, errors=(400, 404)))
async def update_subscription(request: Request, backend: Backend) -> Response:
    """Replace a subscription."""
    body = await parse_body(request, SubscriptionUpdate)
    backend.subscriptions.check(body.id)
    entry = _subscription(body.id, body)
    backend.subscriptions.save(entry)
    return json_response(subscription_body(backend, entry))


@router.post(f"{_EVENTSUB}/deleteEventSub", **route_spec(body="SubscriptionId", errors=(400, 404)))
async def delete_subscription(request: Request, backend: Backend) -> Response:
    """Delete a subscription. The SDK sends its id without quotes."""
    backend.subscriptions.remove((await request.body()).decode("utf-8", "replace").strip().strip('"'))
    return empty_response()


@router.get("/sandbox/v1/webhooks", **route_spec(array_of(OBJECT)))
async def read_webhooks(request: Request) -> Response:
    """Return the latest calls of webhooks with their results."""
    return json_response(list(get_context(request).webhooks.calls))
