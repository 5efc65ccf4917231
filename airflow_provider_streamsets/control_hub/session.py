"""Base URL, credential and HTTP session of a client."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_provider_streamsets.control_hub.config import ClientConfig
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubNotFoundError,
    ControlHubUnavailableError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.control_hub.models import parse_landing_url
from airflow_provider_streamsets.control_hub.services import Retry, Service
from airflow_provider_streamsets.control_hub.tokens import organization_id
from airflow_provider_streamsets.control_hub.transport import Transport
from airflow_provider_streamsets.control_hub.urls import normalize_base_url

# Suffix of the landing URL that the login service returns; the base URL precedes it (contract section 1.3).
_LANDING_PATH = "/security/public-rest/v1/aster/landing"


class Session:
    """
    State that is specific to one credential; a client that adopts another credential replaces its session.

    :param config: settings of the client
    :raises ControlHubConfigurationError: if a setting is invalid
    :raises ControlHubAuthenticationError: if the credential id or the token is malformed
    """

    def __init__(self, config: ClientConfig) -> None:
        self.config = config.validated()
        self._base_url = self.config.base_url
        self._base_url_lock = threading.Lock()
        self.known_organization = self.config.organization_or_none
        """Id of the organization in the token; None if the token names none."""
        self._transport = Transport(self.config)

    def same_identity(self, other: Session) -> bool:
        """Return whether another session uses the same Control Hub with the same credential and settings."""
        return self.config.identity == other.config.identity

    def same_organization(self, other: Session) -> bool:
        """Return whether both tokens name the same organization; if neither names one, compare the base URLs."""
        if self.known_organization is None and other.known_organization is None:
            return self.config.base_url == other.config.base_url
        return self.known_organization == other.known_organization

    def with_options(self, timeout: float | None, max_attempts: int) -> Session:
        """Return a copy with an HTTP session of its own; see :meth:`ControlHubClient.with_options`."""
        changes: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        session = Session(replace(self.config, max_attempts=max_attempts, **changes))
        # The fetched or redirected URL, which the identity of the session does not contain.
        session._base_url, session.was_accepted = self._base_url, self.was_accepted
        session._transport.clock_skew = self._transport.clock_skew
        return session

    def close(self) -> None:
        """Close the HTTP session. The next request opens a new one."""
        self._transport.close()

    @property
    def was_accepted(self) -> bool:
        """Whether Control Hub has accepted this credential, or the one it replaced."""
        return self._transport.classifier.has_accepted

    @was_accepted.setter
    def was_accepted(self, value: bool) -> None:
        self._transport.classifier.has_accepted = value

    @property
    def base_url_or_none(self) -> str | None:
        """Base URL of Control Hub; None if the login service has not been queried yet."""
        return self._base_url

    @cached_property
    def organization(self) -> str:
        """Id of the organization in the token."""
        return organization_id(self.config.token)

    @property
    def base_url(self) -> str:
        """Base URL of Control Hub; see :attr:`ControlHubClient.base_url`."""
        with self._base_url_lock:
            if self._base_url is None:
                self._base_url = self._fetch_base_url()
            return self._base_url

    def _fetch_base_url(self) -> str:
        organization, login_url = self.organization, self.config.login_url
        action = f"find the Control Hub of organization {organization} through the login service {login_url}"
        try:
            response = self._transport.send(
                "GET",
                f"{login_url}/api/security/public/v3/orgs/{quote(organization, safe='')}/info",
                action=action,
                retry=Retry.SAFE,
                with_credential=False,
                needs_body=True,
            )
        except (ControlHubNotFoundError, ControlHubUnavailableError) as error:
            # The format of the login service's errors is unknown (contract section 18.26).
            if error.http_status not in {404, 410}:
                raise
            raise ControlHubNotFoundError(
                f"{error.message} Set the Control Hub URL in the connection instead.",
                http_status=error.http_status,
                issues=error.issues,
            ) from None
        landing_url = parse_landing_url(response)
        if not landing_url.endswith(_LANDING_PATH):
            raise ControlHubUnexpectedAnswerError(
                f"Cannot {action}: it returned '{landing_url[:200]}', which is not a landing URL. "
                "Set the Control Hub URL in the connection instead."
            )
        base_url = normalize_base_url(landing_url.removesuffix(_LANDING_PATH), "Control Hub URL")
        if base_url.startswith("http://") and login_url.startswith("https://"):
            raise ControlHubUnexpectedAnswerError(
                f"Cannot {action}: it returned {base_url}. Refusing to send the credential to a URL that is not https. "
                "If you trust that URL, set it as the Control Hub URL of the connection."
            )
        return base_url

    def _update_base_url(self, new_base: str) -> None:
        with self._base_url_lock:
            # Only the host changes; the path of the base URL stays.
            self._base_url = new_base + urlsplit(self._base_url or "").path

    @property
    def clock_skew(self) -> float:
        """Seconds by which Control Hub's clock is ahead of the local one; 0 if unknown."""
        return self._transport.clock_skew or 0.0

    @property
    def is_clock_skew_known(self) -> bool:
        """Whether a response has reported the time of Control Hub."""
        return self._transport.clock_skew is not None

    def job_url(self, job_id: str) -> str:
        """Return the URL of a job's page in the web UI."""
        return self.config.job_link.format(hub=self.base_url, job_id=quote(job_id, safe=":"))

    def send(
        self,
        method: str,
        service: Service,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """
        Send one request to Control Hub and return the parsed JSON of the response.

        :param path: path below the service
        :param params: query parameters except the project
        :param options: further parameters of :meth:`Transport.send`
        """
        query = {key: value for key, value in (params or {}).items() if value is not None}
        if self.config.project_id and service.is_in_project:
            query["project"] = self.config.project_id
        return self._transport.send(
            method, f"{self.base_url}/{service.value}{path}", params=query, on_moved=self._update_base_url, **options
        )
