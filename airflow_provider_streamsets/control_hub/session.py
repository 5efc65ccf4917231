"""Base URL, credential and HTTP session of a client, and the requests of its resources."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, urlsplit

from airflow_provider_streamsets.control_hub._json import parse_json
from airflow_provider_streamsets.control_hub.config import ClientConfig
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubNotFoundError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.control_hub.models import CurrentUser, parse_landing_url, parse_project_names
from airflow_provider_streamsets.control_hub.paging import page_params
from airflow_provider_streamsets.control_hub.services import Retry, Service
from airflow_provider_streamsets.control_hub.tokens import organization_id
from airflow_provider_streamsets.control_hub.transport import RawResponse, Transport
from airflow_provider_streamsets.control_hub.urls import normalize_base_url

if TYPE_CHECKING:
    from typing_extensions import Self

# Called with the session itself, as its subclass.
_OnUnauthorized = Callable[[Any, ControlHubAuthenticationError, int], "Session | None"]

# Suffix of the landing URL that the login service returns; the base URL precedes it (contract section 1.3).
_LANDING_PATH = "/security/public-rest/v1/aster/landing"


def _no_deadline() -> float:
    return math.inf


def _send_at_once(send: Callable[[], Any]) -> Any:
    return send()


class CredentialSession:
    """
    HTTP session of one credential; a :class:`Session` that adopts another credential replaces it.

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

    def same_identity(self, other: CredentialSession) -> bool:
        """Return whether another session uses the same Control Hub with the same credential and settings."""
        return self.config.identity == other.config.identity

    def same_organization(self, other: CredentialSession) -> bool:
        """Return whether both tokens name the same organization; if neither names one, compare the base URLs."""
        if self.known_organization is None and other.known_organization is None:
            return self.config.base_url == other.config.base_url
        return self.known_organization == other.known_organization

    def with_options(self, timeout: float | None, max_attempts: int) -> CredentialSession:
        """Return a copy with an HTTP session of its own; see :meth:`ControlHubClient.with_options`."""
        changes: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        session = CredentialSession(replace(self.config, max_attempts=max_attempts, **changes))
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
            raise ControlHubUnexpectedResponseError(
                f"Cannot {action}: it returned '{landing_url[:200]}', which is not a landing URL. "
                "Set the Control Hub URL in the connection instead."
            )
        base_url = normalize_base_url(landing_url.removesuffix(_LANDING_PATH), "Control Hub URL")
        if base_url.startswith("http://") and login_url.startswith("https://"):
            raise ControlHubUnexpectedResponseError(
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

    @property
    def rate_limited(self) -> int:
        """Number of requests that Control Hub has rejected because of a rate limit."""
        return self._transport.rate_limited

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


class Session:
    """
    Sends the requests of the resources, with the current credential and until the deadline of a wait. Thread-safe.

    The subclass :class:`~airflow_provider_streamsets.control_hub.ControlHubClient` adds the resources, which need only
    this part of it.
    """

    def __init__(self, credential: CredentialSession, on_unauthorized: _OnUnauthorized | None = None) -> None:
        self._credential = credential
        self.sleep = credential.config.sleep or time.sleep
        self._on_unauthorized = on_unauthorized
        self._adopt_lock = threading.Lock()
        self.time_left: Callable[[], float] = _no_deadline
        """Returns the seconds until the deadline of the wait; set by :meth:`within`."""
        self.throttle: Callable[[Callable[[], Any]], Any] = _send_at_once
        """Sends a request that only reads, once that is allowed. Set by a poller, for this client alone."""

    @classmethod
    def from_config(cls, config: ClientConfig, *, on_unauthorized: _OnUnauthorized | None = None) -> Self:
        """
        Return a client with these settings.

        :param config: the settings
        :param on_unauthorized: see :class:`~airflow_provider_streamsets.control_hub.ControlHubClient`
        :raises ControlHubConfigurationError: if a setting is invalid
        :raises ControlHubAuthenticationError: if the credential id or the token is malformed
        """
        return cls._from_credential(CredentialSession(config), on_unauthorized)

    @classmethod
    def _from_credential(cls, credential: CredentialSession, on_unauthorized: _OnUnauthorized | None) -> Self:
        # The constructor of the subclass takes the settings one by one.
        session = cls.__new__(cls)
        Session.__init__(session, credential, on_unauthorized)
        return session

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._credential.base_url_or_none or 'base URL not looked up yet'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the HTTP session. The next request opens a new one."""
        self._credential.close()

    def with_options(self, *, timeout: float | None = None, max_attempts: int = 1) -> Self:
        """
        Return a client of the same Control Hub and credential with other timeouts and retries.

        It has an HTTP session of its own, so it can be used while this client is in the middle of a request, for
        example in a signal handler.

        :param timeout: connect and read timeout in seconds; the client then does not wait for a newer credential
            either. None keeps the timeouts of this client
        :param max_attempts: maximum number of attempts of a request that may be retried
        """
        credential = self._credential.with_options(timeout, max_attempts)
        client = self._from_credential(credential, self._on_unauthorized if timeout is None else None)
        client.sleep, client.time_left = self.sleep, self.time_left
        return client

    def with_credential(self, credential_id: str, token: str) -> Self:
        """
        Return a client of the same Control Hub with another credential, which sends each request once.

        :param credential_id: id of the credential
        :param token: token of the credential
        """
        config = replace(
            self._credential.config, base_url=self.base_url, credential_id=credential_id, token=token, max_attempts=1
        )
        return self._from_credential(CredentialSession(config), None)

    @contextlib.contextmanager
    def within(self, time_left: Callable[[], float]) -> Iterator[None]:
        """
        Apply a deadline within this context.

        The timeouts of requests that may be retried are shortened to the remaining time, but to no less than ten
        seconds before the deadline. After the deadline, no request is retried, and an unconfirmed rejection counts as
        an outage.

        :param time_left: returns the seconds until the deadline
        """
        before, self.time_left = self.time_left, time_left
        try:
            yield
        finally:
            self.time_left = before

    def same_identity(self, other: Session) -> bool:
        """Return whether another client uses the same Control Hub with the same credential and settings."""
        return self._credential.same_identity(other._credential)

    def same_organization(self, other: Session) -> bool:
        """
        Return whether another client works in the same organization, even under another URL.

        Compares the organizations in the tokens, or the base URLs if neither token names an organization.
        """
        return self._credential.same_organization(other._credential)

    def mark_accepted(self) -> None:
        """
        Assume that credential and settings are valid, because another process has used them successfully.

        A rejection is then confirmed before it is raised, and a sign of wrong settings counts as an outage
        (:class:`~airflow_provider_streamsets.control_hub.responses.ResponseClassifier`).
        """
        self._credential.was_accepted = True

    def adopt(self, other: Session) -> None:
        """
        Take over the Control Hub, credential and settings of another client, which must not be used afterwards.

        Requests in flight finish with the old credential. Thread-safe.
        """
        before = self._credential
        credential = other._credential.with_options(None, before.config.max_attempts)
        credential.was_accepted = before.was_accepted
        self._credential = credential
        before.close()

    @property
    def project_id(self) -> str | None:
        """Id of the project to work in; None is the level of the organization."""
        return self._credential.config.project_id

    @property
    def bulk_size(self) -> int:
        """Maximum number of ids in one bulk request."""
        return self._credential.config.bulk_size

    @property
    def gateway_timeout(self) -> float:
        """Seconds after which no gateway still delivers a request."""
        return self._credential.config.gateway_timeout

    @property
    def progress_interval(self) -> float:
        """Minimum seconds between two log lines with the record counts of runs that are waited for; 0 for none."""
        return self._credential.config.progress_interval

    @property
    def organization(self) -> str:
        """Id of the organization in the token."""
        return self._credential.organization

    @property
    def known_organization(self) -> str | None:
        """Id of the organization in the token; None if the token names none."""
        return self._credential.known_organization

    @property
    def base_url(self) -> str:
        """
        URL of Control Hub without a trailing slash.

        If it is not set, it is looked up through the login service on first use (contract section 1.3).

        :raises ControlHubNotFoundError: if the login service does not know the organization
        """
        return self._credential.base_url

    def job_url(self, job_id: str) -> str:
        """Return the URL of a job's page in the web UI."""
        return self._credential.job_url(job_id)

    @property
    def clock_skew(self) -> float:
        """Seconds by which Control Hub's clock is ahead of the local one; 0 if unknown."""
        return self._credential.clock_skew

    @property
    def is_clock_skew_known(self) -> bool:
        """Whether a response has reported the time of Control Hub."""
        return self._credential.is_clock_skew_known

    @property
    def rate_limited(self) -> int:
        """Number of requests that Control Hub has rejected because of a rate limit."""
        return self._credential.rate_limited

    def current_user(self) -> CurrentUser:
        """Return the user of the credential; the cheapest check of a credential (contract section 1.5)."""
        response = self.request(
            "GET", Service.SECURITY, "/v1/currentUser", action="read the current user", needs_body=True
        )
        return CurrentUser.from_wire(response)

    def project_names(self) -> dict[str, str]:
        """Return the names by id of the projects that the user of the credential can access (contract section 1.6)."""
        response = self.request(
            "GET", Service.SECURITY, "/v1/projects", action="list the projects", params=page_params(0, -1)
        )
        return parse_project_names(response)

    def request(
        self,
        method: str,
        service: Service,
        path: str,
        *,
        action: str,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        file: BinaryIO | None = None,
        stream_to: Callable[[Iterator[bytes]], Any] | None = None,
        retry: Retry = Retry.SAFE,
        needs_body: bool = False,
        parse: Callable[[bytearray], Any] = parse_json,
    ) -> Any:
        """
        Send one request to Control Hub and return the parsed JSON of the response; None if it is empty.

        Internal to this package: the resources wrap every public call. `body`, `file`, `stream_to`, `needs_body` and
        `parse` are those of :meth:`Transport.send`.

        :param path: path below the service, its ids quoted by :func:`quote_id`
        :param action: what is attempted, for messages
        """
        credential = self._credential

        def send() -> Any:
            nonlocal credential
            # It can have been replaced while the request waited for its turn.
            credential = self._credential
            return credential.send(
                method,
                service,
                path,
                action=action,
                params=params,
                body=body,
                file=file,
                stream_to=stream_to,
                retry=retry,
                needs_body=needs_body,
                parse=parse,
                time_left=self.time_left,
            )

        for rejections in itertools.count():
            try:
                # Other requests act on what was read just before: they neither wait nor are repeated.
                return self.throttle(send) if retry is Retry.SAFE else send()
            except ControlHubAuthenticationError as error:
                # A rejected request had no effect, so retrying any request is safe.
                if self._on_unauthorized is None or not credential.was_accepted:
                    raise
                if self.time_left() <= 0:
                    raise ControlHubUnavailableError(
                        f"{error.message} The deadline passed before the rejection could be confirmed.",
                        http_status=error.http_status,
                        issues=error.issues,
                    ) from None
                with self._adopt_lock:
                    if (
                        self._credential is credential
                        and (newer := self._on_unauthorized(self, error, rejections)) is not None
                    ):
                        self.adopt(newer)
        raise AssertionError("unreachable")

    def send_raw(
        self,
        method: str,
        service: Service,
        path: str,
        *,
        action: str,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        retry: Retry = Retry.SAFE,
    ) -> RawResponse:
        """
        Send one request to Control Hub and return the response as it was received, an error as well.

        Internal to this package, for the conformance check. The parameters are those of :meth:`request`. Responses
        with a transient status are retried, and raised if they persist.
        """
        response: RawResponse = self._credential.send(
            method,
            service,
            path,
            action=action,
            params=params,
            body=body,
            retry=retry,
            raw=True,
            time_left=self.time_left,
        )
        return response
