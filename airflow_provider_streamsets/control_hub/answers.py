"""What an answer means, or that there is none: the one classification that clients, waits and sensors build on."""

from __future__ import annotations

import email.utils
import http.client
import os
import re
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from airflow_provider_streamsets.control_hub._json import parse_json
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedAnswerError,
    ControlHubUntrustedCertificateError,
    Issue,
)

# The wait that a Retry-After header can ask for is bounded, so that a wrong one cannot hold a task for days.
_LONGEST_RETRY_AFTER = 300.0
# A gateway in front of Control Hub answers these; Control Hub has not decided anything.
_GATEWAY_STATUSES = frozenset({502, 503, 504})
_PROJECT_REFUSED = "RESTAPI_08"
# `requests` takes the CA bundle from these unless it is told which to use.
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# How http.client reports a proxy that does not open a tunnel to an https host.
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})")
_HTTPS_HINT = " Does the port expect https?"
# What OpenSSL calls an answer that is not TLS, by version.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"})


class AnswerClassifier:
    """
    Turns error answers and failed exchanges into errors of the family.

    Only Control Hub's own word counts as a decision: an answer with its error envelope (contract, section 15).

    ===========================================  ==================================================================
    Answer                                       Error
    ===========================================  ==================================================================
    401                                          :class:`ControlHubAuthenticationError`, to be confirmed by probing the
                                                 credential: Control Hub answers 401 for any failure of its security
                                                 service (contract, 19.1)
    403, or ``RESTAPI_08``; with envelope        :class:`ControlHubPermissionError`
    404, 410; with envelope                      :class:`ControlHubNotFoundError`
    other 4xx, 5xx with codes; with envelope     :class:`ControlHubRejectedError`
    429, 502, 503, 504, 5xx without codes        :class:`ControlHubUnavailableError`
    anything else without envelope               :class:`ControlHubUnavailableError`: a proxy, gateway or firewall has
                                                 answered
    407, and what only settings can cure         :class:`ControlHubConfigurationError` until a request of the client
                                                 was accepted, :class:`ControlHubUnavailableError` afterwards
    ===========================================  ==================================================================

    :param token: token of the credential; kept out of every message
    :param verify: whether TLS certificates are verified, or the CA file that is used
    :param proxies: proxy address by scheme, in addition to those of the environment
    :param credential_name: what the credential is called at the beginning of a sentence
    """

    def __init__(self, token: str, *, verify: bool | str, proxies: Mapping[str, str], credential_name: str) -> None:
        self._token = token
        self._verify = verify
        self._proxies = proxies
        self._credential_name = credential_name
        self.has_accepted = False
        """Whether Control Hub has accepted the credential before, so that the settings are known to be right."""

    def error_of(self, answer: requests.Response, body: bytes | bytearray, action: str) -> ControlHubError:
        """
        Return what an answer that is no success means.

        :param answer: the answer
        :param body: the beginning of its body
        :param action: what was attempted, for the message
        """
        status = answer.status_code
        issues = self._issues_of(body)
        codes = {issue.code for issue in issues or () if issue.code}
        said = "; ".join(map(str, issues or ())) or self.without_token(answer.reason or "no message")[:300]
        start = f"Cannot {action}: Control Hub answered {status}: {said}"
        details: dict[str, Any] = {"http_status": status, "issues": issues or ()}
        if _PROJECT_REFUSED in codes or (status == 403 and issues is not None):
            return ControlHubPermissionError(
                f"{start}. The owner of the credential lacks the permission, or there is no such object: check the id, "
                "the role or permission, and the project id if one is set.",
                **details,
            )
        if 300 <= status < 400:
            return self._redirect(answer, action, details)
        if status == 407:
            return self._proxy_wants_password(answer.url, action, details)
        if status == 401:
            return self._refused_credential(start, details, has_envelope=issues is not None)
        if status == 429:
            return ControlHubUnavailableError(f"{start}.", retry_after=_retry_after(answer), **details)
        if issues is None and status < 500:
            return self._answer_of_gateway(answer, action, details)
        if status in _GATEWAY_STATUSES or (status >= 500 and not codes):
            return ControlHubUnavailableError(
                f"{start}.", retry_after=_retry_after(answer), maybe_executed=True, **details
            )
        kind = ControlHubNotFoundError if status in {404, 410} else ControlHubRejectedError
        return kind(f"{start}.", **details)

    def _refused_credential(self, start: str, details: dict[str, Any], *, has_envelope: bool) -> ControlHubError:
        foreign = " A proxy or gateway may ask for a credential of its own: the answer is not Control Hub's."
        return ControlHubAuthenticationError(
            f"{start}. {self._credential_name} was refused: is it active, are credential id and token those of one "
            f"credential, and is it used from an allowed network?{'' if has_envelope else foreign}"
            f"{_token_hint(self._token)}",
            **details,
        )

    def _answer_of_gateway(self, answer: requests.Response, action: str, details: dict[str, Any]) -> ControlHubError:
        reason = self.without_token(answer.reason or "no reason")[:300]
        kind = self.without_token(answer.headers.get("Content-Type", "no content type"))[:100]
        hint = _HTTPS_HINT if answer.status_code == 400 and answer.url.startswith("http://") else ""
        return ControlHubUnavailableError(
            f"Cannot {action}: {host_of(answer.url)} answered {answer.status_code} {reason} ({kind}) without Control "
            "Hub's error envelope. A proxy, gateway or firewall has answered, or the URL is not that of Control Hub."
            f"{hint}",
            retry_after=_retry_after(answer),
            maybe_executed=True,
            **details,
        )

    def _redirect(self, answer: requests.Response, action: str, details: dict[str, Any]) -> ControlHubError:
        target = self.without_token(host_of(answer.headers.get("Location", ""))) or "an invalid address"
        return self.unusable(
            f"Cannot {action}: {host_of(answer.url)} redirects to '{target}', which Control Hub's API does not do. "
            "Either the address is not that of Control Hub, or a login page or proxy in front of it must let API "
            "requests pass.",
            **details,
        )

    def unusable(self, message: str, **details: Any) -> ControlHubError:
        """
        Return the error of an answer that cannot be Control Hub's: at first contact, the address is probably wrong.

        :param message: its message
        :param details: status and issues
        """
        if self.has_accepted:
            return ControlHubUnavailableError(
                message, maybe_executed=(details.get("http_status") or 0) < 300, **details
            )
        return ControlHubUnexpectedAnswerError(message, **details)

    def _wrong_setting(self, message: str, **details: Any) -> ControlHubError:
        if self.has_accepted:
            return ControlHubUnavailableError(message, **details)
        return ControlHubConfigurationError(message, **details)

    def _proxy_wants_password(self, url: str, action: str, details: dict[str, Any]) -> ControlHubError:
        verb = "refuses the" if "@" in self._proxy_address(url) else "requires a"
        return self._wrong_setting(
            f"Cannot {action}: {self._proxy_of(url)} {verb} user name and password in its address (407). Write "
            "http://user:password@host:port in 'proxies' of the connection or in the environment.",
            **details,
        )

    def failure_of(self, error: Exception, url: str, action: str) -> ControlHubError:
        """
        Return what the failure to get an answer means.

        :param error: what `requests` has raised
        :param url: address that was asked
        :param action: what was attempted, for the message
        """
        bad_store = self._unusable_ca_store() if url.startswith("https://") else None
        if bad_store is not None:
            return self._wrong_setting(
                f"Cannot {action}: {bad_store}, is no CA file: it must hold certificates in PEM form and be readable. "
                "Nothing was sent."
            )
        cause = _innermost(error)
        reason = self.without_token(_reason(error, cause))[:1000]
        is_of_proxy = isinstance(error, requests.exceptions.ProxyError)
        peer = self._proxy_of(url) if is_of_proxy else host_of(url)
        if isinstance(cause, ssl.SSLCertVerificationError):
            variable = _ca_variable() if self._verify is True else None
            used = f" The CA file is that of the environment variable {variable}." if variable else ""
            return ControlHubUntrustedCertificateError(
                f"Cannot {action}: the TLS certificate of {peer} is not trusted ({reason}).{used} If it is "
                "signed by an authority of your own, give the path of its CA file in 'verify' of the connection."
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in _NOT_TLS:
            return self._wrong_setting(
                f"Cannot {action}: {peer} does not answer in TLS. Does this port expect http instead of https?"
            )
        if is_of_proxy:
            return self._proxy_failure(cause, reason, url, action)
        was_sent = not _was_never_sent(error)
        # What a server of https does with a request that is not encrypted.
        is_hang_up = was_sent and isinstance(cause, (ConnectionError, http.client.RemoteDisconnected))
        hint = _HTTPS_HINT if is_hang_up and not self.has_accepted and url.startswith("http://") else ""
        return ControlHubUnavailableError(
            f"Cannot {action}: no answer from {host_of(url)} ({reason}).{hint}", maybe_executed=was_sent
        )

    def _proxy_failure(self, cause: BaseException, reason: str, url: str, action: str) -> ControlHubError:
        refused = _TUNNEL_REFUSED.search(str(cause))
        if refused and refused[1] == "407":
            return self._proxy_wants_password(url, action, {"http_status": 407})
        return ControlHubUnavailableError(
            f"Cannot {action}: {self._proxy_of(url)} cannot connect to {host_of(url)} ({reason}). The proxy is that "
            "of 'proxies' of the connection or of the environment.",
            # A lost connection to a proxy is reported like one that failed, even if the request had gone out.
            maybe_executed=not (refused or _was_never_sent(cause)),
        )

    def _proxy_address(self, url: str) -> str:
        # As a session merges them.
        of_environment = get_environ_proxies(url, no_proxy=self._proxies.get("no_proxy"))
        return select_proxy(url, {**of_environment, **self._proxies}) or ""

    def _proxy_of(self, url: str) -> str:
        address = self._proxy_address(url)
        return f"the proxy {host_of(address if '://' in address else f'http://{address}')}" if address else "a proxy"

    def _unusable_ca_store(self) -> str | None:
        if isinstance(self._verify, str):
            return None if _is_ca_store(self._verify) else f"'{self._verify}', named by 'verify'"
        variable = _ca_variable() if self._verify else None
        if variable is None or _is_ca_store(os.environ[variable]):
            return None
        return f"'{os.environ[variable]}', named by the environment variable {variable}"

    def _issues_of(self, body: bytes | bytearray) -> tuple[Issue, ...] | None:
        """Return the issues of Control Hub's error envelope, None if the body is none."""
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
                        self.without_token(code)[:100] if isinstance(code, str) else None,
                        self.without_token(_text_of(message))[:1000],
                    )
                )
        return tuple(issues)

    def without_token(self, text: str) -> str:
        """Return a text from elsewhere with the token made illegible."""
        return text.replace(self._token, "***")


def host_of(url: str) -> str:
    """Return scheme, host and port of an address, without credentials; empty if it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""


def _ca_variable() -> str | None:
    return next((name for name in _CA_VARIABLES if os.environ.get(name)), None)


def _is_ca_store(path: str) -> bool:
    if os.path.isdir(path):
        return True
    try:
        ssl.create_default_context(cafile=path)
    except OSError:
        return False
    return True


def _innermost(error: BaseException) -> BaseException:
    """Return what has really happened; `requests` and urllib3 wrap it up to three times."""
    while True:
        candidates = (getattr(error, "original_error", None), getattr(error, "reason", None), *error.args)
        inner = next((candidate for candidate in candidates if isinstance(candidate, BaseException)), None)
        if inner is None:
            return error
        error = inner


def _was_never_sent(error: BaseException) -> bool:
    """Return whether the connection failed before the request could go out."""
    return isinstance(error, requests.exceptions.ConnectTimeout) or isinstance(
        _innermost(error), (NewConnectionError, ConnectTimeoutError)
    )


def _reason(error: Exception, cause: BaseException) -> str:
    """Return a short text for a failed exchange."""
    if isinstance(error, requests.exceptions.ReadTimeout):
        return "timed out while waiting for the answer"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "timed out while connecting"
    # "HTTPConnection(host='h', port=1): Failed to establish a new connection: [Errno 111] Connection refused"; in
    # urllib3 1, it begins with "<urllib3.connection.HTTPConnection object at 0x7f9f0fdab3e0>: ".
    return re.split(r"[)>]: ", str(cause))[-1] or type(cause).__name__


def _text_of(message: object) -> str:
    if message is None:
        return "no message"
    try:
        return str(message)
    except RecursionError:
        return "a message that is nested too deeply"


def _token_hint(token: str) -> str:
    return "" if token.endswith(".") else " The token does not end in a dot as Control Hub's tokens do."


def _retry_after(answer: requests.Response) -> float | None:
    """Return the seconds of a ``Retry-After`` header, given as seconds or as a date."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return min(float(text), _LONGEST_RETRY_AFTER)
    try:
        seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)
