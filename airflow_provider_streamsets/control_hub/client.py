"""Client of the Control Hub REST API: one credential, one HTTP session, one attribute per resource."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

from airflow_provider_streamsets.control_hub.config import (
    DEFAULT_BULK_SIZE,
    DEFAULT_GATEWAY_TIMEOUT,
    DEFAULT_JOB_LINK,
    DEFAULT_LOGIN_URL,
    DEFAULT_PROGRESS_INTERVAL,
    DEFAULT_TIMEOUT,
    ClientConfig,
)
from airflow_provider_streamsets.control_hub.errors import ControlHubAuthenticationError
from airflow_provider_streamsets.control_hub.resources.archives import Archives
from airflow_provider_streamsets.control_hub.resources.engines import Engines
from airflow_provider_streamsets.control_hub.resources.jobs import Jobs
from airflow_provider_streamsets.control_hub.resources.metrics import Metrics
from airflow_provider_streamsets.control_hub.resources.offsets import Offsets
from airflow_provider_streamsets.control_hub.resources.pipelines import Pipelines
from airflow_provider_streamsets.control_hub.resources.runs import Runs
from airflow_provider_streamsets.control_hub.resources.templates import Templates
from airflow_provider_streamsets.control_hub.session import CredentialSession, Session

OnUnauthorized = Callable[["ControlHubClient", ControlHubAuthenticationError, int], "ControlHubClient | None"]


class ControlHubClient(Session):
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
    :param progress_interval: minimum seconds between two log lines with the record counts of runs that are waited for;
        0 for none
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
        progress_interval: float = DEFAULT_PROGRESS_INTERVAL,
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
            progress_interval=progress_interval,
            sleep=sleep,
            credential_name=credential_name,
        )
        super().__init__(CredentialSession(config), on_unauthorized)

    @cached_property
    def jobs(self) -> Jobs:
        """Jobs: find, list, create, change, upgrade, duplicate, delete."""
        return Jobs(self)

    @cached_property
    def templates(self) -> Templates:
        """Job templates: start instances."""
        return Templates(self, self.jobs)

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
        return Metrics(self, self.jobs, self.runs, self.engines)

    @cached_property
    def offsets(self) -> Offsets:
        """Offsets of jobs: read, reset, upload."""
        return Offsets(self, self.jobs, self.runs)
