"""
Confirm rejections of credentials that Control Hub accepted before.

Control Hub responds with 401 to any failure of its own security service (contract section 15), so a single rejection
proves nothing. The request is retried with back-off, and only a rejection that lasts for ``credential_grace_period``
seconds is confirmed. Each retry re-reads the connection, as a credential is often replaced in two steps: revoked in
Control Hub, then changed in the connection or in a secrets backend with a cache.

A 403 is handled elsewhere: the credential is valid, but its owner lacks a permission.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from airflow_provider_streamsets.control_hub.client import ControlHubClient
from airflow_provider_streamsets.control_hub.errors import ControlHubAuthenticationError, ControlHubError
from airflow_provider_streamsets.hooks.connection import ConnectionSettings

log = logging.getLogger(__name__)

RETRY_DELAYS = (0.0, 2.0, 3.0, 5.0, 10.0, 15.0, 25.0)
_MAX_DELAY = 30.0
# Seconds for which a confirmed rejection applies to other requests, too. After that, remaining waits start over.
_CONFIRMED_SECONDS = 60.0


def retry_delay(rejections: int, grace_period: float) -> float | None:
    """
    Return the seconds until the connection is re-read and a rejected request is retried.

    :param rejections: number of previous rejections of the request
    :param grace_period: seconds for which the request is retried; it is always retried once
    :returns: None if the rejection is confirmed
    """
    waited = sum(RETRY_DELAYS[:rejections]) + _MAX_DELAY * max(rejections - len(RETRY_DELAYS), 0)
    if rejections and waited >= grace_period:
        return None
    delay = RETRY_DELAYS[rejections] if rejections < len(RETRY_DELAYS) else _MAX_DELAY
    return min(delay, grace_period - waited)


def refreshed_client(
    conn_id: str,
    rejected_client: ControlHubClient,
    settings: ConnectionSettings | Exception,
    **options: Any,
) -> ControlHubClient | str:
    """
    Return a client with the current settings of a connection, or the reason for retrying with the same client.

    Neither reads nor sleeps, so that workers and triggerer share these rules. Never returns a client of another
    organization, where the ids of the jobs are invalid.

    :param conn_id: id of the connection
    :param rejected_client: the client whose credential was rejected
    :param settings: current settings of the connection, or the error of reading it
    :param options: further parameters of the client
    """
    try:
        if isinstance(settings, Exception):
            raise settings
        client = settings.client(**options)
    except ControlHubError as failure:
        return f"The connection has changed, but its settings are invalid: {failure}"
    except Exception as failure:  # noqa: BLE001 - a secrets backend can raise anything; not found, if it is down
        return f"Could not re-read the connection ({type(failure).__name__}: {failure})."
    if client.same_identity(rejected_client):
        return "The connection has not changed."
    if not client.same_organization(rejected_client):
        return (
            f"The connection was changed to {_describe_organization(client)}, but the rejected credential belongs to "
            f"{_describe_organization(rejected_client)}. Runs cannot be resumed in another organization."
        )
    log.warning("Control Hub rejected the credential of connection '%s'; retrying with the changed one.", conn_id)
    return client


def _describe_organization(client: ControlHubClient) -> str:
    name = client.known_organization
    return "an organization that its token does not name" if name is None else f"organization '{name}'"


def log_first_rejection(error: ControlHubAuthenticationError, reason: str, grace_period: float) -> None:
    """Log the first rejection of a credential, but not those of the retries."""
    log.warning("%s %s Retrying for up to %g s.", error, reason, grace_period)


def confirmed_rejection(error: ControlHubAuthenticationError, reason: str) -> ControlHubAuthenticationError:
    """
    Return the error of a confirmed rejection.

    :param error: error of the rejected request
    :param reason: why no other credential was used
    """
    return ControlHubAuthenticationError(
        f"{error.message} {reason} Set an active credential in the connection: login (Credential ID) and password "
        "(Token).",
        http_status=error.http_status,
        issues=error.issues,
    )


class BlockingCredentialRefresher:
    """
    Handles rejected credentials of blocking clients, as `on_unauthorized` of :class:`ControlHubClient`.

    Shortly after a confirmed rejection, further ones are confirmed after one retry, so that a task that fails because
    of it does not wait again for each of its last requests.

    :param conn_id: id of the connection
    :param read: reads the connection
    :param grace_period: seconds for which a rejected request is retried
    :param options: further parameters of the clients
    """

    def __init__(
        self, conn_id: str, read: Callable[[], ConnectionSettings], *, grace_period: float, **options: Any
    ) -> None:
        self._conn_id = conn_id
        self._read = read
        self._grace_period = grace_period
        self._options = options
        self._reason = ""
        self._confirmed_at = -math.inf

    def __call__(
        self, rejected_client: ControlHubClient, error: ControlHubAuthenticationError, rejections: int
    ) -> ControlHubClient | None:
        """
        Return a client with the current settings of the connection, or None to retry with the same credential.

        :param rejected_client: the client whose credential was rejected
        :param error: error of the rejected request
        :param rejections: number of previous rejections of the request
        :raises ControlHubAuthenticationError: if the rejection is confirmed
        """
        is_confirmed = time.monotonic() - self._confirmed_at < _CONFIRMED_SECONDS
        grace_period = 0.0 if is_confirmed else self._grace_period
        delay = retry_delay(rejections, grace_period)
        if delay is None:
            self._confirmed_at = time.monotonic()
            raise confirmed_rejection(error, self._reason) from None
        if delay:
            rejected_client.sleep(max(min(delay, rejected_client.time_left()), 0.0))
        client = refreshed_client(self._conn_id, rejected_client, self._read_settings(), **self._options)
        if isinstance(client, ControlHubClient):
            return client
        self._reason = client
        if not rejections and grace_period:
            log_first_rejection(error, client, grace_period)
        return None

    def _read_settings(self) -> ConnectionSettings | Exception:
        try:
            return self._read()
        except Exception as error:  # noqa: BLE001 - evaluated by `refreshed_client`
            return error
