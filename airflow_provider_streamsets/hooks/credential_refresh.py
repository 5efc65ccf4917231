"""
Confirm refusals of credentials that Control Hub has accepted before.

Control Hub answers 401 for any failure of its own security service (contract, 19.1), so one refusal proves nothing. The
request is repeated, with back-off, and only a refusal that lasts for ``credential_grace_period`` seconds is confirmed. The
connection is read again each time: a credential is often replaced in two steps, first revoked in Control Hub, then
edited in the connection, or in a secrets backend whose cache runs out later.

A 403 is not treated like that: the credential is right, and its owner may not do something.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_streamsets.control_hub.client import ControlHubClient
from airflow_provider_streamsets.control_hub.errors import ControlHubAuthenticationError, ControlHubError
from airflow_provider_streamsets.hooks.connection import ConnectionSettings

log = logging.getLogger(__name__)

RETRY_DELAYS = (0.0, 2.0, 3.0, 5.0, 10.0, 15.0, 25.0)
_MAX_DELAY = 30.0
# Seconds for which a confirmed refusal holds for other requests, too: the waits that go on may be polled after that.
_CONFIRMED_SECONDS = 60.0


def retry_delay(rejections: int, grace_period: float) -> float | None:
    """
    Return the seconds to wait before the connection is read again and a refused request repeated.

    :param rejections: how often the request was refused before
    :param grace_period: seconds for which it is repeated; it is repeated once in any case
    :returns: None when the refusal is confirmed
    """
    waited = sum(RETRY_DELAYS[:rejections]) + _MAX_DELAY * max(rejections - len(RETRY_DELAYS), 0)
    if rejections and waited >= grace_period:
        return None
    delay = RETRY_DELAYS[rejections] if rejections < len(RETRY_DELAYS) else _MAX_DELAY
    return min(delay, grace_period - waited)


def refreshed_client(
    conn_id: str,
    rejected_client: ControlHubClient,
    error: ControlHubAuthenticationError,
    settings: ConnectionSettings | Exception,
    **options: Any,
) -> ControlHubClient | str:
    """
    Return a client with what a connection says now, or the reason why the same one is to be tried again.

    It neither reads nor sleeps, so that workers and triggerer follow the same rules. A client of another organization,
    where the ids of jobs mean nothing, is no such client.

    :param conn_id: id of the connection
    :param rejected_client: the client whose credential was refused
    :param error: the refusal
    :param settings: what the connection says, or why it could not be read
    :param options: further parameters of the client
    :raises ControlHubAuthenticationError: if there is no such connection any more
    """
    if isinstance(settings, AirflowNotFoundException):
        raise confirmed_rejection(error, f"Connection '{conn_id}' does not exist any more.") from None
    try:
        if isinstance(settings, Exception):
            raise settings
        client = settings.client(**options)
    except ControlHubError as failure:
        return f"The connection was changed, but cannot be used: {failure}"
    except Exception as failure:  # noqa: BLE001 - a secrets backend can raise anything
        return f"The connection could not be read again ({type(failure).__name__}: {failure})."
    if client.same_identity(rejected_client):
        return "The connection has not changed."
    if not client.is_of_same_organization(rejected_client):
        return (
            f"The connection was changed to {_describe_organization(client)}, but the refused credential belongs to "
            f"{_describe_organization(rejected_client)}. What began there is not resumed in another organization."
        )
    log.warning("Control Hub refused the credential of connection '%s', which has changed; using the new one.", conn_id)
    return client


def _describe_organization(client: ControlHubClient) -> str:
    name = client.known_organization
    return "an organization that its token does not name" if name is None else f"organization '{name}'"


def log_first_rejection(error: ControlHubAuthenticationError, reason: str, grace_period: float) -> None:
    """Log that a credential was refused and is tried again; once, not for each try."""
    log.warning("%s %s Retrying for up to %g s.", error, reason, grace_period)


def confirmed_rejection(error: ControlHubAuthenticationError, reason: str) -> ControlHubAuthenticationError:
    """
    Return the error of a confirmed refusal.

    :param error: the refusal
    :param reason: why no other credential was used
    """
    return ControlHubAuthenticationError(
        f"{error.message} {reason} Set an active credential in the connection: its login is the credential id, its "
        "password the token.",
        http_status=error.http_status,
        issues=error.issues,
    )


class BlockingCredentialRefresher:
    """
    Deals with refused credentials of clients that block while they wait; for `on_unauthorized` of :class:`ControlHubClient`.

    Shortly after a confirmed refusal, later ones are believed after one repetition, so that a task that ends because of
    it does not wait again for each of its last requests.

    :param conn_id: id of the connection
    :param read: reads the connection
    :param grace_period: seconds for which a refused request is repeated
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
        Return a client with what the connection says now; None if the same credential is to be tried again.

        :param rejected_client: the client whose credential was refused
        :param error: the refusal
        :param rejections: how often the request was refused before
        :raises ControlHubAuthenticationError: if the refusal is confirmed
        """
        is_confirmed = time.monotonic() - self._confirmed_at < _CONFIRMED_SECONDS
        grace_period = 0.0 if is_confirmed else self._grace_period
        delay = retry_delay(rejections, grace_period)
        if delay is None:
            self._confirmed_at = time.monotonic()
            raise confirmed_rejection(error, self._reason) from None
        if delay:
            rejected_client.sleep(max(min(delay, rejected_client.time_left()), 0.0))
        client = refreshed_client(self._conn_id, rejected_client, error, self._read_settings(), **self._options)
        if isinstance(client, ControlHubClient):
            return client
        self._reason = client
        if not rejections and grace_period:
            log_first_rejection(error, client, grace_period)
        return None

    def _read_settings(self) -> ConnectionSettings | Exception:
        try:
            return self._read()
        except Exception as error:  # noqa: BLE001 - judged by `refreshed_client`
            return error
