"""One HTTP session to Control Hub: headers, time-outs, retries, and answers turned into values or errors."""

from __future__ import annotations

import email.utils
import enum
import json
import logging
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http.cookiejar import DefaultCookiePolicy
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
import tenacity
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.control_hub.addresses import moved_address
from airflow_provider_streamsets.control_hub.bodies import LARGEST_ANSWER, LARGEST_ERROR, first_bytes, json_of
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

log = logging.getLogger(__name__)

USER_AGENT = f"airflow-provider-streamsets/{__version__}"

# The wait that a Retry-After header can ask for is bounded, so that a wrong one cannot hold a task for days.
_LONGEST_RETRY_AFTER = 300.0
_LONGEST_BACKOFF = 60.0
_MOST_MOVES = 3
# A gateway in front of Control Hub answers these; Control Hub has not decided anything.
_GATEWAY_STATUSES = frozenset({502, 503, 504})
_PROJECT_REFUSED = "RESTAPI_08"
# Of a packed answer, older versions of urllib3 unpack so much at once.
_CHUNK = 64 * 1024
# What `requests` raises for an address, a proxy or a header that cannot be one.
_WRONG_SETTINGS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidHeader,
)


class Repeat(enum.Enum):
    """Whether a request may be sent again when its end is not known (contract, section 15)."""

    SAFE = "safe"
    """A read, or a change that has the same effect however often it is made."""
    NEVER = "never"
    """Each execution has an effect of its own, such as the start of a run."""


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    what: str
    with_credential: bool
    params: Mapping[str, Any] | None
    data: str | None
    file: BinaryIO | None
    into: Callable[[Iterator[bytes]], Any] | None

    def payload(self) -> tuple[Any, dict[str, str]]:
        """Return the body and the headers that it needs, anew for each time that the request is sent."""
        if self.file is None:
            return self.data, {}
        from requests_toolbelt import MultipartEncoder

        self.file.seek(0)
        # Sends the file as it is read, so that an archive of hundreds of MB does not sit in memory.
        encoder = MultipartEncoder({"file": ("file", self.file, "application/octet-stream")})
        return encoder, {"Content-Type": encoder.content_type}


class Transport:
    """
    Sends requests with the credential and returns the parsed JSON of the answers.

    :param credential_id: id of the API credential
    :param token: its token; kept out of every message
    :param verify: verify TLS certificates: True, False, or the path of a CA bundle
    :param timeout: seconds to connect, and seconds to wait for data
    :param proxies: proxy address by scheme, as `requests` takes them
    :param max_attempts: how often a request is sent at the most
    :param sleep: waits between attempts
    :param credential_name: what the credential is called at the beginning of a sentence
    """

    def __init__(
        self,
        credential_id: str,
        token: str,
        *,
        verify: bool | str = True,
        timeout: tuple[float, float],
        proxies: Mapping[str, str] | None = None,
        max_attempts: int = 5,
        sleep: Callable[[float], None] = time.sleep,
        session: requests.Session | None = None,
        credential_name: str = "The credential",
    ) -> None:
        self._token = token
        self._credential_name = credential_name
        self._verify = verify
        self._timeout = timeout
        self._proxies = dict(proxies or {})
        self._max_attempts = max_attempts
        self._sleep = sleep
        self._session = session or _new_session()
        self.clock_ahead = 0.0
        """Seconds by which the server's clock is ahead of this one's, as its last answer says."""
        self._credential_headers = {"X-SS-App-Component-Id": credential_id, "X-SS-App-Auth-Token": token}

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._session.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        what: str,
        repeat: Repeat,
        with_credential: bool = True,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        file: BinaryIO | None = None,
        into: Callable[[Iterator[bytes]], Any] | None = None,
        moved: Callable[[str], None] | None = None,
    ) -> Any:
        """
        Send a request, again if that is allowed and helps, and return the JSON of the answer.

        :param what: what is being tried, for messages: "read job X"
        :param repeat: whether it may be sent again after an unclear end
        :param body: sent as JSON unless None; an empty object is sent as ``{}``
        :param file: sent as the part ``file`` of a form instead of a body; can be read from its beginning again
        :param into: called with the chunks of the answer, which then need not be JSON and is not held in memory; called
            again from the first chunk when the request has to be repeated
        :param moved: called with the new base address when the organization has moved (contract, section 1.8)
        :returns: None for an empty body; what `into` returns, if given
        :raises ControlHubError: the subclass says what went wrong
        """

        def may_try_again(error: BaseException) -> bool:
            if not isinstance(error, ControlHubUnavailableError):
                return False
            if isinstance(error, ControlHubUntrustedCertificateError):
                return False
            return repeat is Repeat.SAFE or not error.maybe_executed

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._max_attempts),
            wait=_wait_before_next_attempt,
            retry=tenacity.retry_if_exception(may_try_again),
            before_sleep=_log_failed_attempt,
            sleep=self._sleep,
            reraise=True,
        )
        data = None if body is None else _as_json(body, what)
        return retrying(self._send_once, _Request(method, url, what, with_credential, params, data, file, into), moved)

    def _send_once(self, request: _Request, moved: Callable[[str], None] | None) -> Any:
        what = request.what
        for _ in range(_MOST_MOVES + 1):
            with self._exchange(request) as answer:
                if answer.status_code != 308:
                    return self._value_of(answer, request)
                location = answer.headers.get("Location", "")
            new_base = moved_address(request.url, location)
            if new_base is None or moved is None:
                raise ControlHubUnexpectedAnswerError(
                    f"Cannot {what}: {_host(request.url)} says that the organization has moved to "
                    f"'{self._without_token(_host(location))}', which is not sent the credential unasked. If you trust "
                    "that address, set it as the Control Hub URL of the connection.",
                    http_status=308,
                )
            moved(new_base)
            request = replace(request, url=new_base + urlsplit(request.url).path)
        raise ControlHubUnexpectedAnswerError(
            f"Cannot {what}: Control Hub moved the request {_MOST_MOVES} times and still did not answer it.",
            http_status=308,
        )

    def _exchange(self, request: _Request) -> requests.Response:
        data, headers = request.payload()
        if request.with_credential:
            headers.update(self._credential_headers)
        if request.into is not None:
            headers["Accept"] = "*/*"
        try:
            answer = self._session.request(
                request.method,
                request.url,
                params=request.params,
                data=data,
                headers=headers,
                timeout=self._timeout,
                # Given for each request: as an attribute of the session, the environment would override it.
                verify=self._verify,
                proxies=self._proxies,
                allow_redirects=False,
                # The body is read apart, no further than it may be long.
                stream=True,
            )
        except _WRONG_SETTINGS:
            # Their texts can hold the password of a proxy.
            raise ControlHubConfigurationError(
                f"Cannot {request.what}: the address {_host(request.url)} or that of the proxy for it cannot be right; "
                "nothing was sent."
            ) from None
        except (OSError, HTTPError) as error:
            raise self._failure_of(error, request) from None
        self._note_time(answer)
        return answer

    def _note_time(self, answer: requests.Response) -> None:
        try:
            self.clock_ahead = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
        except (KeyError, TypeError, ValueError, OverflowError):
            # Without a time, the clocks are taken for alike.
            return

    def _failure_of(self, error: Exception, request: _Request) -> ControlHubError:
        what, host = request.what, _host(request.url)
        if isinstance(self._verify, str) and not _is_ca_store(self._verify):
            return ControlHubConfigurationError(
                f"Cannot {what}: '{self._verify}', named by 'verify', is no CA file: it must hold certificates in "
                "PEM form and be readable. Nothing was sent."
            )
        if _is_untrusted_certificate(error):
            return ControlHubUntrustedCertificateError(
                f"Cannot {what}: the TLS certificate of {host} is not trusted ({_reason(error)}). If it is "
                "signed by an authority of your own, give the path of its CA file in 'verify' of the connection."
            )
        return ControlHubUnavailableError(
            f"Cannot {what}: no answer from {host} ({self._without_token(_reason(error))[:300]}).",
            maybe_executed=not _was_never_sent(error),
        )

    def _chunks_of(self, answer: requests.Response, request: _Request) -> Iterator[bytes]:
        try:
            yield from answer.iter_content(_CHUNK)
        except (OSError, HTTPError) as error:
            raise self._failure_of(error, request) from None

    def _value_of(self, answer: requests.Response, request: _Request) -> Any:
        what = request.what
        if answer.ok and answer.status_code < 300:
            if request.into is not None:
                return request.into(self._chunks_of(answer, request))
            body, is_whole = first_bytes(self._chunks_of(answer, request), LARGEST_ANSWER)
            if not is_whole:
                raise ControlHubUnexpectedAnswerError(
                    f"Cannot {what}: the answer of {_host(answer.url)} has more than {LARGEST_ANSWER} bytes, which no "
                    "answer of Control Hub has.",
                    http_status=answer.status_code,
                )
            if not body.strip():
                return None
            try:
                return json_of(body)
            except (ValueError, RecursionError):
                raise ControlHubUnexpectedAnswerError(
                    f"Cannot {what}: the answer of {_host(answer.url)} is not JSON but "
                    f"{self._without_token(answer.headers.get('Content-Type', 'of no stated type'))[:100]}. "
                    "Is the address that of Control Hub, and no proxy's or login page's?",
                    http_status=answer.status_code,
                ) from None
        body, _ = first_bytes(self._chunks_of(answer, request), LARGEST_ERROR)
        raise self._error_of(answer, body, what)

    def _error_of(self, answer: requests.Response, body: bytearray, what: str) -> ControlHubError:
        status = answer.status_code
        issues = self._issues_of(body)
        codes = {issue.code for issue in issues if issue.code}
        said = "; ".join(map(str, issues)) or self._without_token(answer.reason or "no message")[:300]
        start = f"Cannot {what}: Control Hub answered {status}: {said}"
        details: dict[str, Any] = {"http_status": status, "issues": issues}
        if status == 401 and _PROJECT_REFUSED not in codes:
            return ControlHubAuthenticationError(
                f"{start}. {self._credential_name} was refused: is it active, are credential id and token those of one "
                f"credential, and is it used from an allowed network?{_token_hint(self._token)}",
                **details,
            )
        if status == 403 or _PROJECT_REFUSED in codes:
            return ControlHubPermissionError(
                f"{start}. The owner of the credential may not do this; ask for the permission or role, "
                "and check the project id if one is set.",
                **details,
            )
        if status in {404, 410}:
            return ControlHubNotFoundError(f"{start}.", **details)
        if 300 <= status < 400:
            target = self._without_token(_host(answer.headers.get("Location", "")))
            return ControlHubUnexpectedAnswerError(
                f"Cannot {what}: {_host(answer.url)} redirects to '{target}', which Control Hub's API does not do. "
                "Is the address that of Control Hub?",
                **details,
            )
        if status == 429:
            return ControlHubUnavailableError(f"{start}.", retry_after=_retry_after(answer), **details)
        # An answer that carries codes was decided by Control Hub, whatever its status (contract, 18.4).
        if status >= 500 and (status in _GATEWAY_STATUSES or not codes):
            return ControlHubUnavailableError(
                f"{start}.", retry_after=_retry_after(answer), maybe_executed=True, **details
            )
        return ControlHubRejectedError(f"{start}.", **details)

    def _issues_of(self, body: bytearray) -> tuple[Issue, ...]:
        try:
            envelope = json_of(body)
        except (ValueError, RecursionError):
            return ()
        entries = envelope.get("ISSUES") if isinstance(envelope, dict) else None
        if not isinstance(entries, list):
            return ()
        issues = []
        for entry in entries[:20]:
            if isinstance(entry, dict):
                code, message = entry.get("code"), entry.get("message")
                issues.append(
                    Issue(
                        self._without_token(code)[:100] if isinstance(code, str) else None,
                        self._without_token(_said(message))[:1000],
                    )
                )
        return tuple(issues)

    def _without_token(self, text: str) -> str:
        return text.replace(self._token, "***")


class _Session(requests.Session):
    """A session that leaves redirects alone; `requests` parses their targets even if it is not to follow them."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: there is nothing to follow."""
        return None


def _new_session() -> requests.Session:
    session = _Session()
    session.headers.update(
        {
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Content-Type": "application/json",
            "X-Requested-By": "airflow-provider-streamsets",
            "X-SS-REST-CALL": "true",
        }
    )
    # The credential headers are all that identifies us; a session cookie or an entry in ~/.netrc could only
    # contradict them.
    session.auth = lambda request: request
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = HTTPAdapter(pool_maxsize=10, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _as_json(body: Any, what: str) -> str:
    try:
        return json.dumps(body, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ControlHubConfigurationError(
            f"Cannot {what}: what is to be sent cannot be written as JSON ({error}); nothing was sent."
        ) from None


def _is_ca_store(path: str) -> bool:
    if os.path.isdir(path):
        return True
    try:
        ssl.create_default_context(cafile=path)
    except OSError:
        return False
    return True


def _is_untrusted_certificate(error: Exception) -> bool:
    cause: object = error
    while isinstance(cause, BaseException):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = getattr(cause, "reason", None) or (cause.args[0] if cause.args else None)
    return False


def _was_never_sent(error: Exception) -> bool:
    """Return whether the connection failed before the request could go out."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    cause: object = error
    while isinstance(cause, BaseException):
        if isinstance(cause, (NewConnectionError, ConnectTimeoutError)):
            return True
        # A lost connection to a proxy is reported as "Unable to connect to proxy" even if the request had gone out;
        # only the error inside tells.
        cause = (
            getattr(cause, "original_error", None)
            or getattr(cause, "reason", None)
            or (cause.args[0] if cause.args else None)
        )
    return False


def _reason(error: Exception) -> str:
    """Return a short text for a failed exchange; `requests` nests three exceptions and their reprs."""
    if isinstance(error, requests.exceptions.ReadTimeout):
        return "timed out while waiting for the answer"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "timed out while connecting"
    cause: object = error.args[0] if error.args else error
    cause = getattr(cause, "reason", None) or cause
    text = str(cause)
    # "HTTPConnection(host='h', port=1): Failed to establish a new connection: [Errno 111] Connection refused"
    return text.rpartition("): ")[2] or type(error).__name__


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""


def _said(message: object) -> str:
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


_backoff = tenacity.wait_exponential_jitter(initial=1, max=_LONGEST_BACKOFF, jitter=1)


def _wait_before_next_attempt(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, ControlHubUnavailableError) else None
    return _backoff(state) if asked is None else asked


def _log_failed_attempt(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0.0
    log.info("%s Trying again in %.0f s (attempt %d).", error, wait, state.attempt_number + 1)
