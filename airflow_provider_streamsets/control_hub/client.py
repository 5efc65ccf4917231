"""The entry to Control Hub: one credential, one HTTP session, one object for each resource."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from airflow_provider_streamsets.control_hub.addresses import base_address
from airflow_provider_streamsets.control_hub.archives import Archives
from airflow_provider_streamsets.control_hub.engines import Engines
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubConfigurationError,
    ControlHubNotFoundError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.control_hub.jobs import Jobs
from airflow_provider_streamsets.control_hub.metrics import Metrics
from airflow_provider_streamsets.control_hub.models import CurrentUser
from airflow_provider_streamsets.control_hub.offsets import Offsets
from airflow_provider_streamsets.control_hub.pipelines import Pipelines
from airflow_provider_streamsets.control_hub.runs import Runs
from airflow_provider_streamsets.control_hub.services import Service
from airflow_provider_streamsets.control_hub.templates import Templates
from airflow_provider_streamsets.control_hub.tokens import checked_secret, organization_of
from airflow_provider_streamsets.control_hub.transport import Repeat, Transport
from airflow_provider_streamsets.control_hub.wire import Reader

DEFAULT_LOGIN_URL = "https://cloud.login.streamsets.com"
DEFAULT_TIMEOUT = (10.0, 60.0)
DEFAULT_JOB_LINK = "{hub}/sch/jobs/detail/{job_id}"

# The tail of the landing URL that the login service gives; what is before it is the hub (contract, section 1.3).
_LANDING_PATH = "/security/public-rest/v1/aster/landing"


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
    :param sleep: waits between attempts and looks; ``time.sleep`` by default
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
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._credential_id = checked_secret(credential_id, "credential id")
        self._token = checked_secret(token, "token")
        self._base_url = base_address(base_url, "Control Hub") if base_url else None
        self._login_url = base_address(login_url or DEFAULT_LOGIN_URL, "login service")
        if self._base_url is None:
            organization_of(self._token)
        _check_verify(verify)
        self._settings: dict[str, Any] = {
            "project_id": project_id,
            "verify": verify,
            "proxies": proxies,
            "login_url": login_url,
            "job_link": job_link,
            "bulk_size": bulk_size,
            "sleep": sleep,
        }
        self._project_id = project_id or None
        self._job_link = _checked_job_link(job_link or DEFAULT_JOB_LINK)
        if bulk_size < 1 or max_attempts < 1:
            raise ControlHubConfigurationError("'bulk_size' and 'max_attempts' must be at least 1.")
        self.bulk_size = bulk_size
        self.sleep = sleep or time.sleep
        self._timeout = _checked_timeout(timeout)
        self._finding_hub = threading.Lock()
        self._transport = Transport(
            self._credential_id,
            self._token,
            verify=verify,
            timeout=self._timeout,
            proxies=proxies,
            max_attempts=max_attempts,
            sleep=self.sleep,
        )

    def __repr__(self) -> str:
        return f"<ControlHubClient {self._base_url or 'hub not looked up yet'}>"

    def __enter__(self) -> ControlHubClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the HTTP session. The client opens a new one when it is used again."""
        self._transport.close()

    def with_limits(self, *, timeout: float | None = None, max_attempts: int = 1) -> ControlHubClient:
        """
        Return a client of the same hub and credential that gives up sooner.

        It has a session of its own, so that it can be used while this one is in the middle of a request, as in a
        signal handler.

        :param timeout: seconds to connect, and again to wait for data; None keeps the time-outs of this client
        :param max_attempts: how often a request that may be repeated is sent at the most
        """
        return ControlHubClient(
            self._base_url,
            self._credential_id,
            self._token,
            timeout=self._timeout if timeout is None else timeout,
            max_attempts=max_attempts,
            **self._settings,
        )

    @cached_property
    def organization(self) -> str:
        """Id of the organization that the token belongs to."""
        return organization_of(self._token)

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
        with self._finding_hub:
            if self._base_url is None:
                self._base_url = self._look_up_hub()
            return self._base_url

    def _look_up_hub(self) -> str:
        organization = self.organization
        what = f"find the Control Hub of organization {organization} through the login service {self._login_url}"
        try:
            answer = self._transport.send(
                "GET",
                f"{self._login_url}/api/security/public/v3/orgs/{quote(organization, safe='')}/info",
                what=what,
                repeat=Repeat.SAFE,
                with_credential=False,
            )
        except ControlHubNotFoundError as error:
            raise ControlHubNotFoundError(
                f"{error.message} Set the Control Hub URL in the connection instead.",
                http_status=error.http_status,
                issues=error.issues,
            ) from None
        landing = Reader(Reader(answer, "organization info").get("data"), "organization info").required_text(
            "landingUrl"
        )
        if not landing.endswith(_LANDING_PATH):
            raise ControlHubUnexpectedAnswerError(
                f"Cannot {what}: it names '{landing[:200]}', which is no landing URL. "
                "Set the Control Hub URL in the connection instead."
            )
        hub = base_address(landing.removesuffix(_LANDING_PATH), "Control Hub")
        if hub.startswith("http://") and self._login_url.startswith("https://"):
            raise ControlHubUnexpectedAnswerError(
                f"Cannot {what}: it names {hub}, which is not sent the credential, as it is not https. If you trust "
                "that address, set it as the Control Hub URL of the connection."
            )
        return hub

    def _has_moved(self, new_base: str) -> None:
        with self._finding_hub:
            # Only the host moves; a path that the address had stays.
            self._base_url = new_base + urlsplit(self._base_url or "").path

    def job_url(self, job_id: str) -> str:
        """Return the address of a job's page in the web UI."""
        return self._job_link.format(hub=self.base_url, job_id=quote(job_id, safe=":"))

    def current_user(self) -> CurrentUser:
        """Return whom the credential belongs to; the cheapest check of a credential (contract, section 1.5)."""
        answer = self.call("GET", Service.SECURITY, "/v1/currentUser", what="read who is logged in")
        return CurrentUser.from_wire(answer)

    def call(
        self,
        method: str,
        service: Service,
        path: str,
        *,
        what: str,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        file: BinaryIO | None = None,
        into: Callable[[Iterator[bytes]], Any] | None = None,
        repeat: Repeat = Repeat.SAFE,
    ) -> Any:
        """
        Send one request to Control Hub and return the JSON of its answer; None for an empty one.

        For the resources of this package. Everything public is a method of theirs; `body`, `file` and `into` are those
        of :meth:`Transport.send`.

        :param path: path below that of the service, ids in it quoted by :func:`in_path`
        :param what: what is being tried, for messages
        """
        query = {key: value for key, value in (params or {}).items() if value is not None}
        if self._project_id and service.is_in_project:
            query["project"] = self._project_id
        return self._transport.send(
            method,
            f"{self.base_url}/{service.value}{path}",
            what=what,
            repeat=repeat,
            params=query,
            body=body,
            file=file,
            into=into,
            moved=self._has_moved,
        )


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
