"""Classification of error responses and failed requests; client, trackers and sensors all build on it."""

from __future__ import annotations

import email.utils
import http.client
import os
import re
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from airflow_provider_streamsets.control_hub._json import parse_json
from airflow_provider_streamsets.control_hub.config import ClientConfig
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
    ControlHubUntrustedCertificateError,
    Issue,
)

# Upper bound of a Retry-After header, so that a wrong one cannot block a task for days.
_MAX_RETRY_AFTER = 300.0
# Sent by a gateway in front of Control Hub, not by Control Hub.
_GATEWAY_STATUSES = frozenset({502, 503, 504})
TRANSIENT_STATUSES = _GATEWAY_STATUSES | {429}
"""Statuses that say nothing about the request, which can succeed later."""
_PROJECT_ACCESS_DENIED = "RESTAPI_08"
# `requests` reads the CA bundle from these variables by default.
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# http.client's message when a proxy rejects the tunnel to an https host.
_TUNNEL_REJECTED = re.compile(r"Tunnel connection failed: (\d{3})")
# OpenSSL's reasons for a response that is not TLS; they differ by version.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"})


class ResponseClassifier:
    """
    Maps error responses and failed requests to :class:`ControlHubError` subclasses.

    Only a response with Control Hub's error envelope counts as a decision of Control Hub (contract section 15).

    ===========================================  ==================================================================
    Response                                     Error
    ===========================================  ==================================================================
    401                                          :class:`ControlHubAuthenticationError`, to be confirmed by probing the
                                                 credential: Control Hub returns 401 for any failure of its security
                                                 service (contract section 15)
    403, or ``RESTAPI_08``; with envelope        :class:`ControlHubPermissionError`
    404, 410; with envelope                      :class:`ControlHubNotFoundError`
    other 4xx, 5xx with codes; with envelope     :class:`ControlHubRejectedError`
    429, 502, 503, 504, 5xx without codes        :class:`ControlHubUnavailableError`
    anything else without envelope               :class:`ControlHubUnavailableError`: the response comes from a proxy,
                                                 gateway or firewall
    407, and other signs of wrong settings       :class:`ControlHubConfigurationError` until a request of the client
                                                 was accepted, :class:`ControlHubUnavailableError` afterwards
    ===========================================  ==================================================================

    The token is redacted from every message.

    :param config: validated settings of the client
    """

    def __init__(self, config: ClientConfig) -> None:
        self._token = config.token
        self._verify = config.verify
        self._proxies = dict(config.proxies or {})
        self._credential_name = config.credential_name
        self.has_accepted = False
        """Whether Control Hub has accepted the credential before, which proves the settings right."""

    def classify_response(self, response: requests.Response, body: bytes | bytearray, action: str) -> ControlHubError:
        """
        Return the error for an unsuccessful response.

        :param response: the response
        :param body: the start of its body
        :param action: what was attempted, for the message
        """
        status = response.status_code
        issues = self._parse_issues(body)
        codes = {issue.code for issue in issues or () if issue.code}
        message = "; ".join(map(str, issues or ())) or self.redact(response.reason or "no message")[:300]
        prefix = f"Cannot {action}: Control Hub returned {status}: {message}"
        fields: dict[str, Any] = {"http_status": status, "issues": issues or ()}
        if _PROJECT_ACCESS_DENIED in codes or (status == 403 and issues is not None):
            return ControlHubPermissionError(
                f"{prefix}. The owner of the credential lacks the permission, or the object does not exist. Check the "
                "id, the role or permission, and the project id if one is set.",
                **fields,
            )
        if 300 <= status < 400:
            return self._unexpected_redirect(response, action, fields)
        if status == 407:
            return self._proxy_authentication_required(response.url, action, fields)
        if status == 401:
            return self._rejected_credential(prefix, fields, has_envelope=issues is not None)
        if status == 429:
            return ControlHubUnavailableError(f"{prefix}.", retry_after=_retry_after(response), **fields)
        if issues is None and status < 500:
            return self._gateway_response(response, action, fields)
        if status in _GATEWAY_STATUSES or (status >= 500 and not codes):
            return ControlHubUnavailableError(
                f"{prefix}.", retry_after=_retry_after(response), maybe_executed=True, **fields
            )
        error_class = ControlHubNotFoundError if status in {404, 410} else ControlHubRejectedError
        return error_class(f"{prefix}.", **fields)

    def _rejected_credential(self, prefix: str, fields: dict[str, Any], *, has_envelope: bool) -> ControlHubError:
        gateway_hint = " The response is not Control Hub's: a proxy or gateway may require a credential of its own."
        return ControlHubAuthenticationError(
            f"{prefix}. {self._credential_name} was rejected. Check that it is active, that Credential ID and Token "
            f"belong together, and that this network is allowed.{'' if has_envelope else gateway_hint}"
            f"{_token_hint(self._token)}",
            **fields,
        )

    def _gateway_response(self, response: requests.Response, action: str, fields: dict[str, Any]) -> ControlHubError:
        reason = self.redact(response.reason or "no reason")[:300]
        content_type = self.redact(response.headers.get("Content-Type", "no content type"))[:100]
        hint = _https_hint(response.url) if response.status_code == 400 else ""
        return ControlHubUnavailableError(
            f"Cannot {action}: {origin(response.url)} returned {response.status_code} {reason} ({content_type}) "
            "without Control Hub's error envelope. The response comes from a proxy, gateway or firewall, or the URL is "
            "not that of Control Hub."
            f"{hint}",
            retry_after=_retry_after(response),
            maybe_executed=True,
            **fields,
        )

    def _unexpected_redirect(self, response: requests.Response, action: str, fields: dict[str, Any]) -> ControlHubError:
        target = self.redact(origin(response.headers.get("Location", ""))) or "an invalid URL"
        message = f"Cannot {action}: {origin(response.url)} redirects to '{target}'"
        before, after = urlsplit(response.url), urlsplit(target)
        if (before.scheme, after.scheme) == ("http", "https") and before.hostname == after.hostname:
            return self.unusable_response(f"{message}. Use that URL.", **fields)
        return self.unusable_response(
            f"{message}, which Control Hub's API never does. Either the URL is not that of Control Hub, or a login "
            "page or proxy in front of it must let API requests pass.",
            **fields,
        )

    def unusable_response(self, message: str, **fields: Any) -> ControlHubError:
        """
        Return the error for a response that cannot be Control Hub's: on first contact, the URL is probably wrong.

        :param message: message of the error
        :param fields: HTTP status and issues of the error
        """
        if self.has_accepted:
            return ControlHubUnavailableError(message, maybe_executed=(fields.get("http_status") or 0) < 300, **fields)
        return ControlHubUnexpectedResponseError(message, **fields)

    def _invalid_setting(self, message: str, **fields: Any) -> ControlHubError:
        if self.has_accepted:
            return ControlHubUnavailableError(message, **fields)
        return ControlHubConfigurationError(message, **fields)

    def _proxy_authentication_required(self, url: str, action: str, fields: dict[str, Any]) -> ControlHubError:
        verb = "rejects the" if "@" in self._proxy_url(url) else "requires a"
        return self._invalid_setting(
            f"Cannot {action}: {self._describe_proxy(url)} {verb} user name and password in its URL (407). Set "
            "http://user:password@host:port in 'Proxies' (extra 'proxies') of the connection or in the environment.",
            **fields,
        )

    def classify_failure(self, error: Exception, url: str, action: str) -> ControlHubError:
        """
        Return the error for a request that got no response.

        :param error: error that `requests` raised
        :param url: URL of the request
        :param action: what was attempted, for the message
        """
        invalid_ca_file = self._describe_invalid_ca_file() if url.startswith("https://") else None
        if invalid_ca_file is not None:
            return self._invalid_setting(
                f"Cannot {action}: {invalid_ca_file}, is not a CA file. It must be readable and hold certificates in "
                "PEM format. Nothing was sent."
            )
        cause = _root_cause(error)
        reason = self.redact(_reason(error, cause))[:1000]
        is_proxy_error = isinstance(error, requests.exceptions.ProxyError)
        peer = self._describe_proxy(url) if is_proxy_error else origin(url)
        if isinstance(cause, ssl.SSLCertVerificationError):
            variable = _ca_variable() if self._verify is True else None
            ca_file_hint = f" The CA file is set by the environment variable {variable}." if variable else ""
            return ControlHubUntrustedCertificateError(
                f"Cannot {action}: the TLS certificate of {peer} is not trusted ({reason}).{ca_file_hint} If a "
                "private authority signed it, set 'Verify TLS certificate' (extra 'verify') of the connection to the "
                "path of its CA file."
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in _NOT_TLS:
            return self._invalid_setting(
                f"Cannot {action}: {peer} does not speak TLS. The port may expect http: "
                f"use {peer.replace('https://', 'http://')} instead."
            )
        if is_proxy_error:
            return self._proxy_failure(cause, reason, url, action)
        was_sent = not _failed_before_send(error)
        # A server that expects https drops unencrypted requests.
        is_disconnect = was_sent and isinstance(cause, (ConnectionError, http.client.RemoteDisconnected))
        hint = _https_hint(url) if is_disconnect and not self.has_accepted else ""
        return ControlHubUnavailableError(
            f"Cannot {action}: no response from {origin(url)} ({reason}).{hint}", maybe_executed=was_sent
        )

    def _proxy_failure(self, cause: BaseException, reason: str, url: str, action: str) -> ControlHubError:
        rejected = _TUNNEL_REJECTED.search(str(cause))
        if rejected and rejected[1] == "407":
            return self._proxy_authentication_required(url, action, {"http_status": 407})
        return ControlHubUnavailableError(
            f"Cannot {action}: {self._describe_proxy(url)} cannot connect to {origin(url)} ({reason}). The proxy is "
            "set by 'Proxies' (extra 'proxies') of the connection or by the environment.",
            # A lost proxy connection is reported like a failed one, even if the request was already sent.
            maybe_executed=not (rejected or _failed_before_send(cause)),
        )

    def _proxy_url(self, url: str) -> str:
        # The same merge as in a session of `requests`.
        environment_proxies = get_environ_proxies(url, no_proxy=self._proxies.get("no_proxy"))
        return select_proxy(url, {**environment_proxies, **self._proxies}) or ""

    def _describe_proxy(self, url: str) -> str:
        address = self._proxy_url(url)
        return f"the proxy {origin(address if '://' in address else f'http://{address}')}" if address else "a proxy"

    def _describe_invalid_ca_file(self) -> str | None:
        if isinstance(self._verify, str):
            field = "'Verify TLS certificate' (extra 'verify')"
            return None if _is_valid_ca_path(self._verify) else f"'{self._verify}', set in {field}"
        variable = _ca_variable() if self._verify else None
        if variable is None or _is_valid_ca_path(os.environ[variable]):
            return None
        return f"'{os.environ[variable]}', named by the environment variable {variable}"

    def _parse_issues(self, body: bytes | bytearray) -> tuple[Issue, ...] | None:
        """Return the issues of Control Hub's error envelope; None if the body is not an envelope."""
        try:
            envelope = parse_json(body)
        except (ValueError, RecursionError):
            return None
        entries = envelope.get("ISSUES") if isinstance(envelope, dict) else None
        if not isinstance(entries, list):
            return None
        issues = []
        for entry in entries[:20]:
            if isinstance(entry, dict):
                code, message = entry.get("code"), entry.get("message")
                issues.append(
                    Issue(
                        self.redact(code)[:100] if isinstance(code, str) else None,
                        self.redact(_message_text(message))[:1000],
                    )
                )
        return tuple(issues)

    def redact(self, text: str) -> str:
        """Return a text with the token replaced by asterisks."""
        return text.replace(self._token, "***")


def origin(url: str) -> str:
    """Return scheme, host and port of a URL without credentials; empty if the URL is invalid."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""


def _https_hint(url: str) -> str:
    if not url.startswith("http://"):
        return ""
    return f" The port may expect https: use {origin(url).replace('http://', 'https://')} instead."


def _ca_variable() -> str | None:
    return next((name for name in _CA_VARIABLES if os.environ.get(name)), None)


def _is_valid_ca_path(path: str) -> bool:
    if os.path.isdir(path):
        return True
    try:
        ssl.create_default_context(cafile=path)
    except OSError:
        return False
    return True


def _root_cause(error: BaseException) -> BaseException:
    """Return the innermost error; `requests` and urllib3 wrap it up to three times."""
    while True:
        candidates = (getattr(error, "original_error", None), getattr(error, "reason", None), *error.args)
        inner = next((candidate for candidate in candidates if isinstance(candidate, BaseException)), None)
        if inner is None:
            return error
        error = inner


def _failed_before_send(error: BaseException) -> bool:
    """Return whether the connection failed before the request was sent."""
    return isinstance(error, requests.exceptions.ConnectTimeout) or isinstance(
        _root_cause(error), (NewConnectionError, ConnectTimeoutError)
    )


def _reason(error: Exception, cause: BaseException) -> str:
    """Return a short description of a failed request."""
    if isinstance(error, requests.exceptions.ReadTimeout):
        return "timed out while waiting for the response"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "timed out while connecting"
    # "HTTPConnection(host='h', port=1): Failed to establish a new connection: [Errno 111] Connection refused"; urllib3
    # 1 starts with "<urllib3.connection.HTTPConnection object at 0x7f9f0fdab3e0>: " instead.
    return re.split(r"[)>]: ", str(cause))[-1] or type(cause).__name__


def _message_text(message: object) -> str:
    if message is None:
        return "no message"
    try:
        return str(message)
    except RecursionError:
        return "a message that is nested too deeply"


def _token_hint(token: str) -> str:
    return "" if token.endswith(".") else " The token does not end with a dot, as Control Hub's tokens do."


def _retry_after(response: requests.Response) -> float | None:
    """Return the ``Retry-After`` header in seconds; it holds seconds or a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return min(float(text), _MAX_RETRY_AFTER)
    try:
        seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER)
