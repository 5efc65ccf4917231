"""
What becomes of a wait whose credential Control Hub refuses: the connection may hold another one by now.

A credential is often replaced in two steps: it is revoked in Control Hub, and then the connection is edited, or a cache
of the secrets backend runs out. So the connection is read again for a minute and a half, and nothing is sent
meanwhile. Only a 401 is treated like that: a 403 says that the credential is right and its owner may not do something,
which is rather a matter of the job that was asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_streamsets.control_hub.client import ControlHubClient
from airflow_provider_streamsets.control_hub.errors import ControlHubAuthenticationError, ControlHubError
from airflow_provider_streamsets.hooks.settings import ConnectionSettings

log = logging.getLogger(__name__)

PAUSES = (0.0, 2.0, 3.0, 5.0, 10.0, 15.0, 25.0, 30.0)
"""Seconds before each reading of the connection: a minute and a half in all."""


class Renewal:
    """
    Decides, from one reading of the connection after the other, with what to go on.

    It neither reads nor sleeps, so that a worker and the triggerer have the same rules.

    :param conn_id: id of the connection
    :param refused: the client whose credential was refused
    :param error: how it was refused
    :param pauses: seconds before each reading of the connection
    """

    def __init__(
        self,
        conn_id: str,
        refused: ControlHubClient,
        error: ControlHubAuthenticationError,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self.pauses = pauses
        """Seconds before each reading of the connection."""
        self._conn_id = conn_id
        self._refused = refused
        self._error = error
        self._readings = 0
        self._why = ""

    def consider(self, reading: ConnectionSettings | Exception, **options: Any) -> ControlHubClient | None:
        """
        Return a client with what the connection says now; None if it is to be read again.

        :param reading: what the connection says, or why it could not be read
        :param options: further parameters of the client
        :raises ControlHubAuthenticationError: if there is no such connection any more
        """
        self._readings += 1
        client = None
        if isinstance(reading, AirflowNotFoundException):
            raise self._failure(f"Connection '{self._conn_id}' does not exist any more.") from None
        try:
            if isinstance(reading, Exception):
                raise reading
            client = reading.client(**options)
        except ControlHubError as error:
            self._why = f"The connection has been changed since, but cannot be used: {error}"
        except Exception as error:  # noqa: BLE001 - a secrets backend can raise anything
            self._why = f"The connection cannot be read again ({type(error).__name__}: {error})."
        else:
            if not client.is_like(self._refused):
                log.warning(
                    "The credential of connection '%s' was refused; the connection has been changed since, going on "
                    "with the new one.",
                    self._conn_id,
                )
                return client
            self._why = "The connection has not been changed since."
        if self._readings == 1 and len(self.pauses) > 1:
            log.warning("%s %s It is read again for %g s.", self._error, self._why, sum(self.pauses))
        return None

    @property
    def failure(self) -> ControlHubAuthenticationError:
        """The error when the connection was read often enough."""
        return self._failure(
            f"{self._why} Set an active credential in the connection: its login is the credential id, its password the "
            "token."
        )

    def _failure(self, why: str) -> ControlHubAuthenticationError:
        error = self._error
        return ControlHubAuthenticationError(
            f"{error.message} {why}", http_status=error.http_status, issues=error.issues
        )


class CredentialRenewal:
    """
    Renews the credential of clients that block while they wait; for `on_refused` of :class:`ControlHubClient`.

    Waits once: when no new credential has come by then, the connection is read only once more at each refusal.

    :param conn_id: id of the connection
    :param read: reads the connection
    :param options: further parameters of the clients
    """

    def __init__(self, conn_id: str, read: Callable[[], ConnectionSettings], **options: Any) -> None:
        self._conn_id = conn_id
        self._read = read
        self._options = options
        self._pauses: tuple[float, ...] = PAUSES

    def __call__(self, refused: ControlHubClient, error: ControlHubAuthenticationError) -> ControlHubClient:
        """
        Return a client with what the connection says now.

        :param refused: the client whose credential was refused
        :param error: how it was refused
        :raises ControlHubAuthenticationError: if the connection has not been changed
        """
        renewal = Renewal(self._conn_id, refused, error, self._pauses)
        for pause in renewal.pauses:
            if pause:
                refused.sleep(pause)
            client = renewal.consider(self._reading(), **self._options)
            if client is not None:
                self._pauses = PAUSES
                return client
        self._pauses = PAUSES[:1]
        raise renewal.failure from None

    def _reading(self) -> ConnectionSettings | Exception:
        try:
            return self._read()
        except Exception as error:  # noqa: BLE001 - judged by the renewal
            return error
