"""Client of the Control Hub REST API: one credential, one HTTP session, one attribute per resource."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, BinaryIO

from airflow_provider_streamsets.control_hub.archives import Archives
from airflow_provider_streamsets.control_hub.config import (
    DEFAULT_BULK_SIZE,
    DEFAULT_GATEWAY_TIMEOUT,
    DEFAULT_JOB_LINK,
    DEFAULT_LOGIN_URL,
    DEFAULT_TIMEOUT,
    ClientConfig,
)
from airflow_provider_streamsets.control_hub.engines import Engines
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.control_hub.jobs import Jobs
from airflow_provider_streamsets.control_hub.metrics import Metrics
from airflow_provider_streamsets.control_hub.models import CurrentUser
from airflow_provider_streamsets.control_hub.offsets import Offsets
from airflow_provider_streamsets.control_hub.pipelines import Pipelines
from airflow_provider_streamsets.control_hub.runs import Runs
from airflow_provider_streamsets.control_hub.services import Retry, Service
from airflow_provider_streamsets.control_hub.session import Session
from airflow_provider_streamsets.control_hub.templates import Templates

OnUnauthorized = Callable[["ControlHubClient", ControlHubAuthenticationError, int], "ControlHubClient | None"]


def _no_deadline() -> float:
    return math.inf


class ControlHubClient:
    """
    Client of the Control Hub REST API with one API credential. Thread-safe, and usable without Airflow.

    The constructor sends no request.

    :param base_url: URL of Control Hub, such as ``https://na01.hub.streamsets.com``; None fetches it from the login
        service by the organization of the token
    :param credential_id: id of the API credential
    :param token: token of the API credential
    :param project_id: id of the project to work in; None is the organization level
    :param verify: verify TLS certificates: True, False, or the path of a CA file or folder
    :param timeout: connect and read timeouts in seconds; one number for both
    :param proxies: proxy URL by scheme, for example ``{"https": "http://proxy.example.com:3128"}``
    :param login_url: URL of the login service, which is used when `base_url` is None
    :param job_link: URL pattern of a job's page, with ``{hub}`` and ``{job_id}``; configurable because the pages of the
        web UI are not part of the API (contract section 18.27)
    :param max_attempts: maximum number of attempts of a request that may be retried
    :param bulk_size: maximum number of ids in one bulk request
    :param gateway_timeout: seconds after which no gateway still delivers a request to Control Hub; a start, or another
        request that is not idempotent, is not sent again before
    :param sleep: function that sleeps between attempts and polls; ``time.sleep`` by default
    :param credential_name: name of the credential at the start of a sentence in messages
    :param on_unauthorized: called when a previously accepted credential is rejected, with this client, the error and
        the number of previous rejections of the request. Returns a client with a newer credential, for :meth:`adopt`,
        or None to retry with the same one; raises when the rejection is confirmed
    :raises ControlHubConfigurationError: if a setting is invalid
    :raises ControlHubAuthenticationError: if the credential id or the token is malformed
    """

    def __init__(
        self,
        base_url: str | None,
        credential_id: str,
        token: str,
        *,
        project_id: str | None = None,
        verify: bool | str = True,
        timeout: float | tuple[float, float] = DEFAULT_TIMEOUT,
        proxies: Mapping[str, str] | None = None,
        login_url: str | None = None,
        job_link: str | None = None,
        max_attempts: int = 5,
        bulk_size: int = DEFAULT_BULK_SIZE,
        gateway_timeout: float = DEFAULT_GATEWAY_TIMEOUT,
        sleep: Callable[[float], None] | None = None,
        credential_name: str = "The credential",
        on_unauthorized: OnUnauthorized | None = None,
    ) -> None:
        config = ClientConfig(
            base_url,
            credential_id,
            token,
            project_id=project_id,
            verify=verify,
            timeout=timeout,
            proxies=proxies,
            login_url=login_url or DEFAULT_LOGIN_URL,
            job_link=job_link or DEFAULT_JOB_LINK,
            max_attempts=max_attempts,
            bulk_size=bulk_size,
            gateway_timeout=gateway_timeout,
            sleep=sleep,
            credential_name=credential_name,
        )
        self._initialize(Session(config), on_unauthorized)

    @classmethod
    def from_config(cls, config: ClientConfig, *, on_unauthorized: OnUnauthorized | None = None) -> ControlHubClient:
        """
        Return a client with these settings.

        :param config: the settings
        :param on_unauthorized: see the constructor, whose errors this raises
        """
        return cls._from_session(Session(config), on_unauthorized)

    @classmethod
    def _from_session(cls, session: Session, on_unauthorized: OnUnauthorized | None) -> ControlHubClient:
        client = cls.__new__(cls)
        client._initialize(session, on_unauthorized)
        return client

    def _initialize(self, session: Session, on_unauthorized: OnUnauthorized | None) -> None:
        self._session = session
        self.sleep = session.config.sleep or time.sleep
        self._on_unauthorized = on_unauthorized
        self._adopt_lock = threading.Lock()
        self.time_left: Callable[[], float] = _no_deadline
        """Returns the seconds until the deadline of the wait; set by :meth:`within`."""

    def __repr__(self) -> str:
        return f"<ControlHubClient {self._session.base_url_or_none or 'base URL not looked up yet'}>"

    def __enter__(self) -> ControlHubClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the HTTP session. The next request opens a new one."""
        self._session.close()

    def with_options(self, *, timeout: float | None = None, max_attempts: int = 1) -> ControlHubClient:
        """
        Return a client of the same Control Hub and credential with other timeouts and retries.

        It has an HTTP session of its own, so it can be used while this client is in the middle of a request, for
        example in a signal handler.

        :param timeout: connect and read timeout in seconds; the client then does not wait for a newer credential
            either. None keeps the timeouts of this client
        :param max_attempts: maximum number of attempts of a request that may be retried
        """
        session = self._session.with_options(timeout, max_attempts)
        client = self._from_session(session, self._on_unauthorized if timeout is None else None)
        client.sleep, client.time_left = self.sleep, self.time_left
        return client

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

    def same_identity(self, other: ControlHubClient) -> bool:
        """Return whether another client uses the same Control Hub with the same credential and settings."""
        return self._session.same_identity(other._session)

    def same_organization(self, other: ControlHubClient) -> bool:
        """
        Return whether another client works in the same organization, even under another URL.

        Compares the organizations in the tokens, or the base URLs if neither token names an organization.
        """
        return self._session.same_organization(other._session)

    def mark_accepted(self) -> None:
        """
        Assume that credential and settings are valid, because another process has used them successfully.

        A rejection is then confirmed before it is raised, and a sign of wrong settings counts as an outage
        (:class:`~airflow_provider_streamsets.control_hub.answers.ResponseClassifier`).
        """
        self._session.was_accepted = True

    def adopt(self, other: ControlHubClient) -> None:
        """
        Take over the Control Hub, credential and settings of another client, which must not be used afterwards.

        Requests in flight finish with the old credential. Thread-safe.
        """
        before = self._session
        session = other._session.with_options(None, before.config.max_attempts)
        session.was_accepted = before.was_accepted
        self._session = session
        before.close()

    @property
    def bulk_size(self) -> int:
        """Maximum number of ids in one bulk request."""
        return self._session.config.bulk_size

    @property
    def gateway_timeout(self) -> float:
        """Seconds after which no gateway still delivers a request."""
        return self._session.config.gateway_timeout

    @property
    def organization(self) -> str:
        """Id of the organization in the token."""
        return self._session.organization

    @property
    def known_organization(self) -> str | None:
        """Id of the organization in the token; None if the token names none."""
        return self._session.known_organization

    @cached_property
    def jobs(self) -> Jobs:
        """Jobs: find, list, create, change, upgrade, duplicate, delete."""
        return Jobs(self)

    @cached_property
    def templates(self) -> Templates:
        """Job templates: start instances."""
        return Templates(self)

    @cached_property
    def archives(self) -> Archives:
        """Export and import of jobs."""
        return Archives(self)

    @cached_property
    def pipelines(self) -> Pipelines:
        """Pipelines and their versions."""
        return Pipelines(self)

    @cached_property
    def engines(self) -> Engines:
        """Engines, such as Data Collectors: read, list, balance."""
        return Engines(self)

    @cached_property
    def runs(self) -> Runs:
        """Runs of jobs: start, stop, acknowledge, status, history, events."""
        return Runs(self)

    @cached_property
    def metrics(self) -> Metrics:
        """Record counts, counters and live metrics of runs."""
        return Metrics(self)

    @cached_property
    def offsets(self) -> Offsets:
        """Offsets of jobs: read, reset, upload."""
        return Offsets(self)

    @property
    def base_url(self) -> str:
        """
        URL of Control Hub without a trailing slash.

        If it is not set, it is looked up through the login service on first use (contract section 1.3).

        :raises ControlHubNotFoundError: if the login service does not know the organization
        """
        return self._session.base_url

    def job_url(self, job_id: str) -> str:
        """Return the URL of a job's page in the web UI."""
        return self._session.job_url(job_id)

    @property
    def clock_skew(self) -> float:
        """Seconds by which Control Hub's clock is ahead of the local one; 0 if unknown."""
        return self._session.clock_skew

    @property
    def is_clock_skew_known(self) -> bool:
        """Whether a response has reported the time of Control Hub."""
        return self._session.is_clock_skew_known

    def current_user(self) -> CurrentUser:
        """Return the user of the credential; the cheapest check of a credential (contract section 1.5)."""
        response = self.request(
            "GET", Service.SECURITY, "/v1/currentUser", action="read the current user", needs_body=True
        )
        return CurrentUser.from_wire(response)

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
    ) -> Any:
        """
        Send one request to Control Hub and return the parsed JSON of the response; None if it is empty.

        Internal to this package: the resources wrap every public call. `body`, `file`, `stream_to` and `needs_body` are
        those of :meth:`Transport.send`.

        :param path: path below the service, its ids quoted by :func:`quote_id`
        :param action: what is attempted, for messages
        """
        for rejections in itertools.count():
            session = self._session
            try:
                return session.send(
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
                    time_left=self.time_left,
                )
            except ControlHubAuthenticationError as error:
                # A rejected request had no effect, so retrying any request is safe.
                if self._on_unauthorized is None or not session.was_accepted:
                    raise
                if self.time_left() <= 0:
                    raise ControlHubUnavailableError(
                        f"{error.message} The deadline passed before the rejection could be confirmed.",
                        http_status=error.http_status,
                        issues=error.issues,
                    ) from None
                with self._adopt_lock:
                    if (
                        self._session is session
                        and (newer := self._on_unauthorized(self, error, rejections)) is not None
                    ):
                        self.adopt(newer)
        raise AssertionError("unreachable")
