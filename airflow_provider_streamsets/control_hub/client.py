"""The entry to Control Hub: one credential, one HTTP session, one object for each resource."""

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
from airflow_provider_streamsets.control_hub.engines import Engines
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.control_hub.jobs import Jobs
from airflow_provider_streamsets.control_hub.metrics import Metrics
from airflow_provider_streamsets.control_hub.models import CurrentUser
from airflow_provider_streamsets.control_hub.offsets import Offsets
from airflow_provider_streamsets.control_hub.pipelines import Pipelines
from airflow_provider_streamsets.control_hub.runs import Runs
from airflow_provider_streamsets.control_hub.services import Service
from airflow_provider_streamsets.control_hub.session import Session
from airflow_provider_streamsets.control_hub.templates import Templates
from airflow_provider_streamsets.control_hub.transport import Retry

DEFAULT_TIMEOUT = (10.0, 60.0)
# Usual gateways give up on a request after 60 seconds; some are set to more.
DEFAULT_GATEWAY_TIMEOUT = 120.0

OnUnauthorized = Callable[["ControlHubClient", ControlHubAuthenticationError, int], "ControlHubClient | None"]


def _without_limit() -> float:
    return math.inf


class ControlHubClient:
    """
    Control Hub's REST API with one API credential. Usable without Airflow, and from several threads.

    Nothing is sent before the first call of a method.

    :param base_url: address of Control Hub, such as ``https://na01.hub.streamsets.com``; None asks the login service
        where the organization of the token lives
    :param credential_id: id of the API credential
    :param token: its token
    :param project_id: project to work in; None is the organization level
    :param verify: verify TLS certificates: True, False, or the path of a CA file or folder
    :param timeout: seconds to connect and seconds to wait for data; one number for both
    :param proxies: proxy address by scheme, for example ``{"https": "http://proxy.example.com:3128"}``
    :param login_url: address of the login service that is asked when `base_url` is None
    :param job_link: pattern of a job's page, with ``{hub}`` and ``{job_id}``; the web UI is no API, so its paths are
        a setting (contract, 18.27)
    :param max_attempts: how often a request that may be repeated is sent at the most
    :param bulk_size: ids in one request for many jobs
    :param gateway_timeout: seconds after which no gateway between here and Control Hub delivers a request any more: a
        start, or what else must not be done twice, is not sent again before
    :param sleep: waits between attempts and looks; ``time.sleep`` by default
    :param credential_name: what the credential is called at the beginning of a sentence
    :param on_unauthorized: called when a credential is refused that was accepted before, with this client, the error and how
        often the request was refused before. Returns a client with a newer one, for :meth:`adopt`, or None if the
        same one is to be tried again, after which the request is sent again; raises when the refusal is confirmed
    :raises ControlHubConfigurationError: if a setting cannot be right
    :raises ControlHubAuthenticationError: if credential id or token cannot be right
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
        bulk_size: int = 250,
        gateway_timeout: float = DEFAULT_GATEWAY_TIMEOUT,
        sleep: Callable[[float], None] | None = None,
        credential_name: str = "The credential",
        on_unauthorized: OnUnauthorized | None = None,
    ) -> None:
        if bulk_size < 1 or max_attempts < 1:
            raise ControlHubConfigurationError("'bulk_size' and 'max_attempts' must be at least 1.")
        self.bulk_size = bulk_size
        self.gateway_timeout = gateway_timeout
        self.sleep = sleep or time.sleep
        self._session = Session(
            base_url,
            credential_id,
            token,
            project_id=project_id,
            verify=verify,
            timeout=timeout,
            proxies=proxies,
            login_url=login_url,
            job_link=job_link,
            max_attempts=max_attempts,
            sleep=self.sleep,
            credential_name=credential_name,
        )
        self._max_attempts = max_attempts
        self._on_refused = on_unauthorized
        self._replacing = threading.Lock()
        self.time_left: Callable[[], float] = _without_limit
        """Returns the seconds until the deadline of the wait; set by :meth:`within`."""

    def __repr__(self) -> str:
        return f"<ControlHubClient {self._session.base_url_or_none or 'hub not looked up yet'}>"

    def __enter__(self) -> ControlHubClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the HTTP session. The client opens a new one when it is used again."""
        self._session.close()

    def with_options(self, *, timeout: float | None = None, max_attempts: int = 1) -> ControlHubClient:
        """
        Return a client of the same hub and credential that gives up sooner.

        It has a session of its own, so that it can be used while this one is in the middle of a request, as in a
        signal handler.

        :param timeout: seconds to connect, and again to wait for data, if there is no time for more: then, a newer
            credential is not waited for either; None keeps the time-outs of this client
        :param max_attempts: how often a request that may be repeated is sent at the most
        """
        # Not by the constructor: what was found out about the hub and the credential holds here, too.
        with_options = ControlHubClient.__new__(ControlHubClient)
        with_options._session = self._session.with_options(timeout, max_attempts)
        with_options._max_attempts = max_attempts
        with_options._on_refused = self._on_refused if timeout is None else None
        with_options._replacing = threading.Lock()
        with_options.bulk_size, with_options.sleep, with_options.time_left = self.bulk_size, self.sleep, self.time_left
        with_options.gateway_timeout = self.gateway_timeout
        return with_options

    @contextlib.contextmanager
    def within(self, time_left: Callable[[], float]) -> Iterator[None]:
        """
        Keep a deadline within this context.

        The time-outs of requests that may be repeated are shortened to what is left, and to ten seconds at the
        deadline, from which on none is repeated. After it, a refusal that is not confirmed yet counts as an outage.

        :param time_left: returns the seconds until then
        """
        before, self.time_left = self.time_left, time_left
        try:
            yield
        finally:
            self.time_left = before

    def same_identity(self, other: ControlHubClient) -> bool:
        """Return whether another client asks the same Control Hub with the same credential."""
        return self._session.same_identity(other._session)

    def is_of_same_organization(self, other: ControlHubClient) -> bool:
        """
        Return whether another client works in the same organization, perhaps under another address.

        The tokens name the organizations. If neither does, clients of the same address are in the same organization.
        """
        return self._session.is_of_same_organization(other._session)

    def mark_accepted(self) -> None:
        """
        Assume that credential and settings are right, because another process has worked with them.

        A refusal is then confirmed before it is believed, and an answer that only wrong settings could explain counts
        as an outage (:class:`~airflow_provider_streamsets.control_hub.answers.AnswerClassifier`).
        """
        self._session.was_accepted = True

    def adopt(self, other: ControlHubClient) -> None:
        """
        Go on with the hub, the credential and the settings of another client, which is not to be used any more.

        Requests under way end as they have begun. From any thread.
        """
        before = self._session
        session = other._session.with_options(None, self._max_attempts)
        session.was_accepted = before.was_accepted
        self._session = session
        self.bulk_size, self.gateway_timeout = other.bulk_size, other.gateway_timeout
        before.close()

    @property
    def organization(self) -> str:
        """Id of the organization that the token belongs to."""
        return self._session.organization

    @property
    def known_organization(self) -> str | None:
        """Id of the organization that the token names; None if it names none."""
        return self._session.known_organization

    @cached_property
    def jobs(self) -> Jobs:
        """Jobs: find, list, create, change, upgrade, duplicate, delete."""
        return Jobs(self)

    @cached_property
    def templates(self) -> Templates:
        """Job templates: start instances of them."""
        return Templates(self)

    @cached_property
    def archives(self) -> Archives:
        """Jobs as archives: export and import."""
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
        """Where jobs continue reading from."""
        return Offsets(self)

    @property
    def base_url(self) -> str:
        """
        Address of Control Hub, without trailing slash.

        Looked up through the login service at the first use if it was not given (contract, section 1.3).

        :raises ControlHubNotFoundError: if the login service does not know the organization
        """
        return self._session.base_url

    def job_url(self, job_id: str) -> str:
        """Return the address of a job's page in the web UI."""
        return self._session.job_url(job_id)

    @property
    def clock_skew(self) -> float:
        """Seconds by which Control Hub's clock is ahead of this one's, as its last answer says; 0 before."""
        return self._session.clock_skew

    @property
    def is_clock_skew_known(self) -> bool:
        """Whether an answer has told the time of Control Hub."""
        return self._session.is_clock_skew_known

    def current_user(self) -> CurrentUser:
        """Return whom the credential belongs to; the cheapest check of a credential (contract, section 1.5)."""
        answer = self.request(
            "GET", Service.SECURITY, "/v1/currentUser", action="read who is logged in", needs_body=True
        )
        return CurrentUser.from_wire(answer)

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
        Send one request to Control Hub and return the JSON of its answer; None for an empty one.

        For the resources of this package. Everything public is a method of theirs; `body`, `file`, `stream_to` and
        `needs_body` are those of :meth:`Transport.send`.

        :param path: path below that of the service, ids in it quoted by :func:`quote_id`
        :param action: what is being tried, for messages
        """
        for refusals in itertools.count():
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
                # A refused request had no effect, whatever it was.
                if self._on_refused is None or not session.was_accepted:
                    raise
                if self.time_left() <= 0:
                    raise ControlHubUnavailableError(
                        f"{error.message} The wait ends before this could be confirmed.",
                        http_status=error.http_status,
                        issues=error.issues,
                    ) from None
                with self._replacing:
                    if self._session is session and (newer := self._on_refused(self, error, refusals)) is not None:
                        self.adopt(newer)
        raise AssertionError("unreachable")
