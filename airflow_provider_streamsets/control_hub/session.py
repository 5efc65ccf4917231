"""Where Control Hub is, and the credential and the session with which it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_provider_streamsets.control_hub._json import JsonReader
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubNotFoundError,
    ControlHubUnavailableError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.control_hub.services import Service
from airflow_provider_streamsets.control_hub.tokens import organization_of, validate_secret
from airflow_provider_streamsets.control_hub.transport import Retry, Transport
from airflow_provider_streamsets.control_hub.urls import normalize_base_url

DEFAULT_LOGIN_URL = "https://cloud.login.streamsets.com"
DEFAULT_JOB_LINK = "{hub}/sch/jobs/detail/{job_id}"

# The tail of the landing URL that the login service gives; what is before it is the hub (contract, section 1.3).
_LANDING_PATH = "/security/public-rest/v1/aster/landing"


class Session:
    """
    Everything that must not be mixed with that of another credential; a client that goes on with a new one swaps it.

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
        self._base_url = normalize_base_url(base_url, "Control Hub") if base_url else None
        self._login_url = normalize_base_url(login_url or DEFAULT_LOGIN_URL, "login service")
        if self._base_url is None:
            organization_of(self._token)
        _check_verify(verify)
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
        self._job_link = _checked_job_link(job_link or DEFAULT_JOB_LINK)
        self._timeout = _checked_timeout(timeout)
        self._finding_hub = threading.Lock()
        self.known_organization = _organization_or_none(self._token)
        """Id of the organization that the token names; None if it names none."""
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
        # All that it can depend on whether the credential is accepted.
        self._asked = (
            self._base_url,
            self._login_url,
            self._credential_id,
            self._token,
            self._project_id,
            verify,
            tuple(sorted((proxies or {}).items())),
        )

    def same_identity(self, other: Session) -> bool:
        """Return whether the same is asked with the same credential."""
        return self._asked == other._asked

    def is_of_same_organization(self, other: Session) -> bool:
        """Return whether the tokens name the same organization; if neither names one, whether the addresses agree."""
        if self.known_organization is None and other.known_organization is None:
            return bool(self._asked[0] == other._asked[0])
        return self.known_organization == other.known_organization

    def with_options(self, timeout: float | None, max_attempts: int) -> Session:
        """Return the same with a session of its own, as :meth:`ControlHubClient.with_options`."""
        with_options = Session(
            self._base_url,
            self._credential_id,
            self._token,
            timeout=self._timeout if timeout is None else timeout,
            max_attempts=max_attempts,
            **self._settings,
        )
        with_options._asked, with_options.was_accepted = self._asked, self.was_accepted
        with_options._transport.clock_skew = self._transport.clock_skew
        return with_options

    def close(self) -> None:
        """Close the HTTP session; a new one is opened when it is used again."""
        self._transport.close()

    @property
    def was_accepted(self) -> bool:
        """Whether Control Hub has accepted this credential, or the one that it has replaced."""
        return self._transport.answers.has_accepted

    @was_accepted.setter
    def was_accepted(self, value: bool) -> None:
        self._transport.answers.has_accepted = value

    @property
    def base_url_or_none(self) -> str | None:
        """Address of Control Hub as far as it is known without asking."""
        return self._base_url

    @cached_property
    def organization(self) -> str:
        """Id of the organization that the token belongs to."""
        return organization_of(self._token)

    @property
    def base_url(self) -> str:
        """Address of Control Hub, as :attr:`ControlHubClient.base_url`."""
        with self._finding_hub:
            if self._base_url is None:
                self._base_url = self._look_up_hub()
            return self._base_url

    def _look_up_hub(self) -> str:
        organization = self.organization
        action = f"find the Control Hub of organization {organization} through the login service {self._login_url}"
        try:
            answer = self._transport.send(
                "GET",
                f"{self._login_url}/api/security/public/v3/orgs/{quote(organization, safe='')}/info",
                action=action,
                retry=Retry.SAFE,
                with_credential=False,
                needs_body=True,
            )
        except (ControlHubNotFoundError, ControlHubUnavailableError) as error:
            # The form of the login service's errors is not known.
            if error.http_status not in {404, 410}:
                raise
            raise ControlHubNotFoundError(
                f"{error.message} Set the Control Hub URL in the connection instead.",
                http_status=error.http_status,
                issues=error.issues,
            ) from None
        landing = JsonReader(JsonReader(answer, "organization info").get("data"), "organization info").required_text(
            "landingUrl"
        )
        if not landing.endswith(_LANDING_PATH):
            raise ControlHubUnexpectedAnswerError(
                f"Cannot {action}: it names '{landing[:200]}', which is no landing URL. "
                "Set the Control Hub URL in the connection instead."
            )
        hub = normalize_base_url(landing.removesuffix(_LANDING_PATH), "Control Hub")
        if hub.startswith("http://") and self._login_url.startswith("https://"):
            raise ControlHubUnexpectedAnswerError(
                f"Cannot {action}: it names {hub}, which is not sent the credential, as it is not https. If you trust "
                "that address, set it as the Control Hub URL of the connection."
            )
        return hub

    def _has_moved(self, new_base: str) -> None:
        with self._finding_hub:
            # Only the host moves; a path that the address had stays.
            self._base_url = new_base + urlsplit(self._base_url or "").path

    @property
    def clock_skew(self) -> float:
        """Seconds by which Control Hub's clock is ahead of this one's, as far as it is known."""
        return self._transport.clock_skew or 0.0

    @property
    def is_clock_skew_known(self) -> bool:
        """Whether an answer has told the time of Control Hub."""
        return self._transport.clock_skew is not None

    def job_url(self, job_id: str) -> str:
        """Return the address of a job's page in the web UI."""
        return self._job_link.format(hub=self.base_url, job_id=quote(job_id, safe=":"))

    def send(
        self,
        method: str,
        service: Service,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> Any:
        """
        Send one request to Control Hub, and return the JSON of its answer.

        :param path: path below that of the service
        :param params: the query, without the project
        :param how: further parameters of :meth:`Transport.send`
        """
        query = {key: value for key, value in (params or {}).items() if value is not None}
        if self._project_id and service.is_in_project:
            query["project"] = self._project_id
        return self._transport.send(
            method, f"{self.base_url}/{service.value}{path}", params=query, on_moved=self._has_moved, **how
        )


def _organization_or_none(token: str) -> str | None:
    try:
        return organization_of(token)
    except ControlHubAuthenticationError:
        # Only the search for the hub needs it.
        return None


def _check_verify(verify: bool | str) -> None:
    if isinstance(verify, bool):
        return
    # `requests` would take an empty path as "do not verify".
    if not verify or not Path(verify).exists():
        raise ControlHubConfigurationError(f"'verify' names the CA file '{verify}', which does not exist.")


def _checked_timeout(timeout: float | tuple[float, float]) -> tuple[float, float]:
    values = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    if len(values) != 2 or not all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v <= threading.TIMEOUT_MAX for v in values
    ):
        raise ControlHubConfigurationError(
            "'timeout' must be a number of seconds above 0, or two: to connect, and to wait for data."
        )
    return float(values[0]), float(values[1])


def _checked_job_link(pattern: str) -> str:
    try:
        link = pattern.format(hub="https://hub.example.com", job_id="id")
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        link = ""
    if not link.startswith(("http://", "https://")):
        raise ControlHubConfigurationError(
            f"'job_link' must be the address of a job's page with the placeholders {{hub}} and {{job_id}}, such as "
            f"'{DEFAULT_JOB_LINK}', but is '{pattern}'."
        )
    return pattern
