"""Base URL, credential and HTTP session of a client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubNotFoundError,
    ControlHubUnavailableError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.control_hub.models import parse_landing_url
from airflow_provider_streamsets.control_hub.services import Retry, Service
from airflow_provider_streamsets.control_hub.tokens import organization_id, validate_secret
from airflow_provider_streamsets.control_hub.transport import Transport
from airflow_provider_streamsets.control_hub.urls import normalize_base_url

DEFAULT_LOGIN_URL = "https://cloud.login.streamsets.com"
DEFAULT_JOB_LINK = "{hub}/sch/jobs/detail/{job_id}"

# Suffix of the landing URL that the login service returns; the base URL precedes it (contract section 1.3).
_LANDING_PATH = "/security/public-rest/v1/aster/landing"


class Session:
    """
    State that is specific to one credential; a client that adopts another credential replaces its session.

    The parameters are those of :class:`~airflow_provider_streamsets.control_hub.ControlHubClient`.
    """

    def __init__(
        self,
        base_url: str | None,
        credential_id: str,
        token: str,
        *,
        project_id: str | None,
        verify: bool | str,
        timeout: float | tuple[float, float],
        proxies: Mapping[str, str] | None,
        login_url: str | None,
        job_link: str | None,
        max_attempts: int,
        sleep: Callable[[float], None],
        credential_name: str,
    ) -> None:
        self._credential_id = validate_secret(credential_id, "credential id")
        self._token = validate_secret(token, "token")
        self._base_url = normalize_base_url(base_url, "Control Hub URL") if base_url else None
        self._login_url = normalize_base_url(login_url or DEFAULT_LOGIN_URL, "login service URL")
        if self._base_url is None:
            organization_id(self._token)
        _validate_verify(verify)
        self._settings: dict[str, Any] = {
            "project_id": project_id,
            "verify": verify,
            "proxies": proxies,
            "login_url": login_url,
            "job_link": job_link,
            "sleep": sleep,
            "credential_name": credential_name,
        }
        self._project_id = project_id or None
        self._job_link = _validate_job_link(job_link or DEFAULT_JOB_LINK)
        self._timeout = _validate_timeout(timeout)
        self._base_url_lock = threading.Lock()
        self.known_organization = _organization_id_or_none(self._token)
        """Id of the organization in the token; None if the token names none."""
        self._transport = Transport(
            self._credential_id,
            self._token,
            verify=verify,
            timeout=self._timeout,
            proxies=proxies,
            max_attempts=max_attempts,
            sleep=sleep,
            credential_name=credential_name,
            organization=self.known_organization,
        )
        # Everything that can decide whether the credential is accepted.
        self._identity = (
            self._base_url,
            self._login_url,
            self._credential_id,
            self._token,
            self._project_id,
            verify,
            tuple(sorted((proxies or {}).items())),
        )

    def same_identity(self, other: Session) -> bool:
        """Return whether another session uses the same Control Hub with the same credential and settings."""
        return self._identity == other._identity

    def same_organization(self, other: Session) -> bool:
        """Return whether both tokens name the same organization; if neither names one, compare the base URLs."""
        if self.known_organization is None and other.known_organization is None:
            return bool(self._identity[0] == other._identity[0])
        return self.known_organization == other.known_organization

    def with_options(self, timeout: float | None, max_attempts: int) -> Session:
        """Return a copy with an HTTP session of its own; see :meth:`ControlHubClient.with_options`."""
        session = Session(
            self._base_url,
            self._credential_id,
            self._token,
            timeout=self._timeout if timeout is None else timeout,
            max_attempts=max_attempts,
            **self._settings,
        )
        session._identity, session.was_accepted = self._identity, self.was_accepted
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
        return organization_id(self._token)

    @property
    def base_url(self) -> str:
        """Base URL of Control Hub; see :attr:`ControlHubClient.base_url`."""
        with self._base_url_lock:
            if self._base_url is None:
                self._base_url = self._fetch_base_url()
            return self._base_url

    def _fetch_base_url(self) -> str:
        organization = self.organization
        action = f"find the Control Hub of organization {organization} through the login service {self._login_url}"
        try:
            response = self._transport.send(
                "GET",
                f"{self._login_url}/api/security/public/v3/orgs/{quote(organization, safe='')}/info",
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
        if base_url.startswith("http://") and self._login_url.startswith("https://"):
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
        return self._job_link.format(hub=self.base_url, job_id=quote(job_id, safe=":"))

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
        if self._project_id and service.is_in_project:
            query["project"] = self._project_id
        return self._transport.send(
            method, f"{self.base_url}/{service.value}{path}", params=query, on_moved=self._update_base_url, **options
        )


def _organization_id_or_none(token: str) -> str | None:
    try:
        return organization_id(token)
    except ControlHubAuthenticationError:
        # Only the lookup of the base URL needs it.
        return None


def _validate_verify(verify: bool | str) -> None:
    if isinstance(verify, bool):
        return
    # `requests` treats an empty path as "do not verify".
    if not verify or not Path(verify).exists():
        raise ControlHubConfigurationError(
            f"'verify' must be true, false or the path of a CA file; '{verify}' does not exist."
        )


def _validate_timeout(timeout: float | tuple[float, float]) -> tuple[float, float]:
    values = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    if len(values) != 2 or not all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v <= threading.TIMEOUT_MAX for v in values
    ):
        raise ControlHubConfigurationError(
            f"'timeout' must be a positive number of seconds, or a pair of connect and read timeouts, got {timeout!r}."
        )
    return float(values[0]), float(values[1])


def _validate_job_link(pattern: str) -> str:
    try:
        link = pattern.format(hub="https://hub.example.com", job_id="id")
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        link = ""
    if not link.startswith(("http://", "https://")):
        raise ControlHubConfigurationError(
            f"'job_link' must be the URL of a job's page with the placeholders {{hub}} and {{job_id}}, such as "
            f"'{DEFAULT_JOB_LINK}', got '{pattern}'."
        )
    return pattern
