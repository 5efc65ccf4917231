"""Calls of the webhooks of subscriptions, beside the requests that the sandbox serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import requests
from fastapi import FastAPI

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.subscriptions import Webhook, status_changes

log = logging.getLogger(__name__)

MAX_CALLS = 1_000
"""Maximum number of calls that wait; further ones are dropped. Also the length of the log."""
_THREADS = 4
# Seconds between two searches for status changes.
_INTERVAL = 0.05
_MAX_TIMEOUT = 30.0


class WebhookSender:
    """
    Finds status changes of jobs, and calls the webhooks of the enabled subscriptions once for each.

    A call that fails is logged and not repeated: whether Control Hub repeats one is unknown (contract section 18.45).

    :param backend: returns the simulated Control Hub, another one after a reset.
    """

    def __init__(self, backend: Callable[[], ControlHubBackend]) -> None:
        self.calls: deque[dict[str, Any]] = deque(maxlen=MAX_CALLS)
        """The latest calls, with their results."""
        self._backend = backend
        self._queue: queue.Queue[tuple[Webhook, dict[str, Any]]] = queue.Queue(MAX_CALLS)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Send while the application is served."""
        for _number in range(_THREADS):
            # Daemons, so that a receiver that does not respond does not delay the end of the process.
            threading.Thread(target=self._send_all, name="sandbox-webhooks", daemon=True).start()
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()

    async def _follow(self) -> None:
        # Actions of the current millisecond may still follow.
        backend, done = self._backend(), self._backend().clock.now() - 1
        while True:
            await asyncio.sleep(_INTERVAL)
            if backend is not self._backend():
                # After a reset, the time may have gone back.
                backend = self._backend()
                done = backend.created_at - 1
            until = backend.clock.now() - 1
            if until > done:
                try:
                    self.enqueue(done, until)
                except Exception:
                    log.exception("Could not find the changes of statuses; they are not sent.")
                done = until

    def enqueue(self, after: int, until: int) -> None:
        """Enqueue the calls for the status changes of a period, without its start and with its end."""
        backend = self._backend()
        enabled = [entry for entry in backend.subscriptions if entry.enabled]
        for change in status_changes(backend, after, until) if enabled else ():
            for entry in enabled:
                call = {
                    "time": change.at,
                    "subscription": entry.name,
                    "uri": entry.webhook.uri,
                    "body": entry.body(change, backend.organization),
                    "status": None,
                    "error": None,
                }
                self.calls.append(call)
                try:
                    self._queue.put_nowait((entry.webhook, call))
                except queue.Full:
                    self._failed(call, "too many calls wait")

    def _send_all(self) -> None:
        while True:
            webhook, call = self._queue.get()
            try:
                call["status"] = _send(webhook, call["body"])
                if call["status"] >= 300:
                    self._failed(call, f"status {call['status']}")
            except (requests.RequestException, ValueError) as error:
                self._failed(call, str(error))

    @staticmethod
    def _failed(call: dict[str, Any], error: str) -> None:
        call["error"] = error
        log.warning("The webhook of subscription '%s' failed: %s: %s", call["subscription"], call["uri"], error)


def _send(webhook: Webhook, body: str) -> int:
    """Send a request, and return the status of the response."""
    headers = {**webhook.headers, "Content-Type": webhook.content_type}
    if webhook.bearer_token is not None:
        headers["Authorization"] = f"Bearer {webhook.bearer_token}"
    with requests.Session() as session:
        # No proxy or credential of the environment.
        session.trust_env = False
        response = session.request(
            webhook.method,
            webhook.uri,
            data=body.encode() if webhook.method != "GET" else None,
            headers=headers,
            timeout=min(webhook.timeout / 1000, _MAX_TIMEOUT),
            allow_redirects=False,
        )
        return response.status_code
