"""Parse the fields of an Airflow connection into the settings of a :class:`ControlHubClient`."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowConfigException
from airflow.providers.common.compat.sdk import conf

from airflow_provider_streamsets.connection_form import CONN_FIELDS
from airflow_provider_streamsets.control_hub.client import ControlHubClient, OnUnauthorized
from airflow_provider_streamsets.control_hub.config import (
    DEFAULT_BULK_SIZE,
    DEFAULT_GATEWAY_TIMEOUT,
    DEFAULT_JOB_LINK,
    DEFAULT_LOGIN_URL,
    DEFAULT_PROGRESS_INTERVAL,
    DEFAULT_TIMEOUT,
    ClientConfig,
)
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
)
from airflow_provider_streamsets.params import format_value

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

log = logging.getLogger(__name__)

DEFAULT_CREDENTIAL_GRACE_PERIOD = 300.0
# Printable ASCII characters, which every HTTP client can send in a header.
_WEBHOOK_TOKEN = re.compile("[!-~]{32,}")


@dataclass(frozen=True, repr=False, kw_only=True)
class ConnectionSettings(ClientConfig):
    """
    Settings of a client from a connection of type ``streamsets``.

    :param conn_id: id of the connection, for messages; empty if they must not name it
    :param credential_grace_period: seconds for which a rejected credential that was accepted before is retried until
        the rejection is confirmed
    :param webhook_token: token of the calls with which Control Hub pushes events; None refuses all calls
    """

    conn_id: str
    credential_grace_period: float = DEFAULT_CREDENTIAL_GRACE_PERIOD
    webhook_token: str | None = None

    @classmethod
    def from_connection(cls, connection: Connection, extra: Any, *, show_id: bool = True) -> ConnectionSettings:
        """
        Parse a connection.

        :param connection: the connection
        :param extra: its parsed extra, which an event loop must read asynchronously
        :param show_id: whether messages name the connection
        :raises ControlHubConfigurationError: if a field is invalid; the message names connection and field
        """
        conn_id = (connection.conn_id or "") if show_id else ""
        try:
            extra = _non_empty_fields(extra)
            return cls(
                conn_id=conn_id,
                base_url=_base_url(connection),
                credential_id=connection.login or "",
                token=connection.password or "",
                project_id=_string(extra, "project_id"),
                login_url=_string(extra, "login_url") or DEFAULT_LOGIN_URL,
                verify=_verify(extra.get("verify")),
                timeout=_timeout(extra.get("timeout")),
                proxies=_proxies(extra.get("proxies")),
                job_link=_string(extra, "job_link") or DEFAULT_JOB_LINK,
                bulk_size=_bulk_size(extra.get("bulk_size")),
                credential_grace_period=_seconds(extra, "credential_grace_period", DEFAULT_CREDENTIAL_GRACE_PERIOD),
                gateway_timeout=_seconds(extra, "gateway_timeout", DEFAULT_GATEWAY_TIMEOUT),
                progress_interval=_progress_interval(),
                webhook_token=_webhook_token(extra),
                credential_name=f"The credential of connection '{conn_id}'" if conn_id else "The credential",
            )
        except ControlHubConfigurationError as error:
            raise _configuration_error(conn_id, error.message) from None

    @property
    def fingerprint(self) -> str:
        """Hash of all fields; does not reveal the token."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def sharing_key(self) -> str:
        """Hash of all fields, with only the organization of the secrets. Waits with equal keys share a poller."""
        return replace(self, credential_id="", token=self.organization_or_none or "", webhook_token=None).fingerprint

    def client(self, *, on_unauthorized: OnUnauthorized | None = None, **options: Any) -> ControlHubClient:
        """
        Return a new client.

        :param on_unauthorized: see :class:`ControlHubClient`
        :param options: settings that override those of the connection
        :raises ControlHubConfigurationError: if a setting is invalid
        :raises ControlHubAuthenticationError: if login or password are missing or malformed
        """
        try:
            return ControlHubClient.from_config(replace(self, **options), on_unauthorized=on_unauthorized)
        except ControlHubAuthenticationError as error:
            raise ControlHubAuthenticationError(
                f"{_prefix(self.conn_id)}{error} The login of the connection is the Credential ID, its password the "
                "Token."
            ) from None
        except ControlHubConfigurationError as error:
            raise _configuration_error(self.conn_id, error.message) from None


def _prefix(conn_id: str) -> str:
    return f"Connection '{conn_id}': " if conn_id else ""


def _configuration_error(conn_id: str, message: str) -> ControlHubConfigurationError:
    """Return an error that names the connection, and an extra field by its label in the form, too."""
    for name, field in CONN_FIELDS.items():
        if message.startswith(f"'{name}'"):
            message = message.replace(f"'{name}'", f"'{field['label']}' (extra '{name}')", 1)
            break
    return ControlHubConfigurationError(f"{_prefix(conn_id)}{message}")


def _progress_interval() -> float:
    """Return Airflow's ``[streamsets] progress_interval``; the default if it is invalid, as only logs depend on it."""
    try:
        seconds = float(conf.getfloat("streamsets", "progress_interval", fallback=DEFAULT_PROGRESS_INTERVAL))
    except AirflowConfigException as error:
        log.warning("%s Using %g s.", error, DEFAULT_PROGRESS_INTERVAL)
        return DEFAULT_PROGRESS_INTERVAL
    return seconds if 0 <= seconds < math.inf else DEFAULT_PROGRESS_INTERVAL


def _non_empty_fields(extra: Any) -> dict[str, Any]:
    """Return the fields of an extra without empty ones, which Airflow's UI stores as null."""
    if not isinstance(extra, (Mapping, type(None))):
        raise ControlHubConfigurationError(
            f'The extra must be a JSON object, such as {{"bulk_size": 50}}, got {type(extra).__name__}.'
        )
    return {
        name: value
        for name, value in (extra or {}).items()
        if value is not None and not (isinstance(value, str) and not value.strip())
    }


def _base_url(connection: Connection) -> str | None:
    """Return the URL from a host with or without scheme, as a form, a URI or JSON can have it."""
    host = (connection.host or "").strip()
    if not host:
        return None
    if "://" in host:
        scheme, _, rest = host.partition("://")
    else:
        scheme, rest = connection.schema or "https", host
    name, slash, path = rest.partition("/")
    if _is_ipv6(name):
        # Airflow removes the brackets of a URI.
        name = f"[{name}]"
    if connection.port and ":" not in name.rpartition("]")[2]:
        name = f"{name}:{connection.port}"
    return f"{scheme}://{name}{slash}{path}"


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _string(extra: Mapping[str, Any], name: str) -> str | None:
    value = extra.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        return value.strip()
    raise ControlHubConfigurationError(f"'{name}' must be a string, got {type(value).__name__}.")


def _webhook_token(extra: Mapping[str, Any]) -> str | None:
    token = _string(extra, "webhook_token")
    if token is not None and _WEBHOOK_TOKEN.fullmatch(token) is None:
        raise ControlHubConfigurationError(
            "'webhook_token' must have at least 32 characters, all of them ASCII and without white space, such as the "
            "output of 'openssl rand -hex 32'."
        )
    return token


def _verify(value: Any) -> bool | str:
    if value is None:
        return True
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        stripped = value.strip()
        if stripped.lower() in {"true", "false"}:
            return stripped.lower() == "true"
        return stripped
    raise ControlHubConfigurationError(
        f"'verify' must be true, false or the path of a CA file, got {format_value(value)}."
    )


def _timeout(value: Any) -> float | tuple[float, float]:
    if value is None:
        return DEFAULT_TIMEOUT
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    try:
        seconds = [float(part) for part in parts if not isinstance(part, bool)]
    except (TypeError, ValueError):
        seconds = []
    if len(seconds) == 1 and len(parts) == 1:
        return seconds[0]
    if len(seconds) == 2:
        return seconds[0], seconds[1]
    raise ControlHubConfigurationError(
        "'timeout' must be a number of seconds, or two, such as '10, 60', for the connection and for the response, got "
        f"{format_value(value)}."
    )


def _bulk_size(value: Any) -> int:
    if value is None:
        return DEFAULT_BULK_SIZE
    try:
        size = int(str(value))
    except ValueError:
        size = 0
    if size < 1 or isinstance(value, bool):
        raise ControlHubConfigurationError(f"'bulk_size' must be an integer above 0, got {format_value(value)}.")
    return size


def _seconds(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name)
    if value is None:
        return default
    try:
        seconds = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ControlHubConfigurationError(
            f"'{name}' must be a number of seconds of at least 0, got {format_value(value)}."
        )
    return seconds


def _proxies(value: Any) -> Mapping[str, str] | None:
    if value is None:
        return None
    if isinstance(value, str):
        proxy = value.strip()
        if not proxy.startswith("{"):
            return {"http": proxy, "https": proxy}
        try:
            value = json.loads(proxy)
        except ValueError:
            value = None
    if isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
        return value
    raise ControlHubConfigurationError(
        "'proxies' must be the URL of a proxy, or a JSON object of proxies by scheme, such as "
        '{"https": "http://proxy.example.com:3128"}.'
    )
