"""Settings of a client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
)
from airflow_provider_streamsets.control_hub.tokens import organization_id, validate_secret
from airflow_provider_streamsets.control_hub.urls import normalize_base_url, normalize_hub_url

DEFAULT_TIMEOUT = (10.0, 60.0)
DEFAULT_BULK_SIZE = 250
# Gateways usually time out after 60 seconds; some are configured for more.
DEFAULT_GATEWAY_TIMEOUT = 120.0
DEFAULT_PROGRESS_INTERVAL = 60.0
DEFAULT_LOGIN_URL = "https://cloud.login.streamsets.com"
DEFAULT_JOB_LINK = "{hub}/sch/jobs/detail/{job_id}"

_Config = TypeVar("_Config", bound="ClientConfig")


@dataclass(frozen=True, repr=False)
class ClientConfig:
    """
    Settings of a client.

    The parameters are those of :class:`~airflow_provider_streamsets.control_hub.ControlHubClient`. There is no repr,
    because they include the token and perhaps the password of a proxy.
    """

    base_url: str | None
    credential_id: str
    token: str
    project_id: str | None = None
    verify: bool | str = True
    timeout: float | tuple[float, float] = DEFAULT_TIMEOUT
    proxies: Mapping[str, str] | None = None
    login_url: str = DEFAULT_LOGIN_URL
    job_link: str = DEFAULT_JOB_LINK
    max_attempts: int = 5
    bulk_size: int = DEFAULT_BULK_SIZE
    gateway_timeout: float = DEFAULT_GATEWAY_TIMEOUT
    progress_interval: float = DEFAULT_PROGRESS_INTERVAL
    sleep: Callable[[float], None] | None = None
    credential_name: str = "The credential"

    def validated(self: _Config) -> _Config:
        """
        Return a copy with normalized values.

        :raises ControlHubConfigurationError: if a setting is invalid
        :raises ControlHubAuthenticationError: if the credential id or the token is malformed
        """
        if self.bulk_size < 1 or self.max_attempts < 1:
            raise ControlHubConfigurationError(
                f"'bulk_size' and 'max_attempts' must be at least 1, got {self.bulk_size} and {self.max_attempts}."
            )
        config = replace(
            self,
            credential_id=validate_secret(self.credential_id, "Credential ID"),
            token=validate_secret(self.token, "Token"),
            base_url=normalize_hub_url(self.base_url) if self.base_url else None,
            login_url=normalize_base_url(self.login_url, "Login service URL ('login_url')"),
            project_id=self.project_id or None,
        )
        if config.base_url is None:
            organization_id(config.token)
        _validate_verify(self.verify)
        return replace(
            config,
            job_link=_validate_job_link(self.job_link),
            timeout=_validate_timeout(self.timeout),
        )

    @property
    def timeouts(self) -> tuple[float, float]:
        """Connect and read timeouts in seconds."""
        return self.timeout if isinstance(self.timeout, tuple) else (self.timeout, self.timeout)

    @property
    def organization_or_none(self) -> str | None:
        """Id of the organization in the token; None if the token names none."""
        try:
            return organization_id(self.token)
        except ControlHubAuthenticationError:
            # Only the lookup of the base URL needs it.
            return None

    @property
    def identity(self) -> tuple[Any, ...]:
        """Everything that can decide whether the credential is accepted."""
        return (
            self.base_url,
            self.login_url,
            self.credential_id,
            self.token,
            self.project_id,
            self.verify,
            tuple(sorted((self.proxies or {}).items())),
        )


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
