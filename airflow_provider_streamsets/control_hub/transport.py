"""One HTTP session to Control Hub: headers, time-outs, retries, and answers turned into values or errors."""

from __future__ import annotations

import email.utils
import enum
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http.cookiejar import DefaultCookiePolicy
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
import tenacity
from urllib3.exceptions import HTTPError

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.control_hub._json import LARGEST_ANSWER, LARGEST_ERROR, parse_json, read_limited
from airflow_provider_streamsets.control_hub.answers import AnswerClassifier, host_of
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubConfigurationError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedAnswerError,
    ControlHubUntrustedCertificateError,
)
from airflow_provider_streamsets.control_hub.time_limit import TimeLimitAdapter, total_time_limit
from airflow_provider_streamsets.control_hub.urls import trusted_redirect

log = logging.getLogger(__name__)

USER_AGENT = f"airflow-provider-streamsets/{__version__}"

_LONGEST_BACKOFF = 60.0
_MOST_MOVES = 3
# Seconds that a request has at the deadline of a wait, less by as much as the deadline is over, and at the least.
_TIME_AT_DEADLINE = 10.0
_LEAST_TIME = 1.0
# A request may take so many times its read time-out as a whole, however steadily its answer arrives.
_TOTAL_TIME_FACTOR = 3.0
# Of a packed answer, older versions of urllib3 unpack so much at once.
_CHUNK = 64 * 1024
# What `requests` raises for an address, a proxy or a header that cannot be one.
_WRONG_SETTINGS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidHeader,
)
# What Control Hub says only to a credential that it accepts.
_DECISIONS = (ControlHubNotFoundError, ControlHubPermissionError, ControlHubRejectedError)


class Retry(enum.Enum):
    """Whether a request may be sent again when its end is not known (contract, section 15)."""

    SAFE = "safe"
    """A read, or a change that has the same effect however often it is made."""
    NEVER = "never"
    """Each execution has an effect of its own, such as the start of a run."""


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    action: str
    with_credential: bool
    params: Mapping[str, Any] | None
    data: str | None
    file: BinaryIO | None
    stream_to: Callable[[Iterator[bytes]], Any] | None
    needs_body: bool
    time_left: Callable[[], float] | None

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
    :param timeout: seconds to connect, and seconds to wait for data; a request, apart from the transfer of a file, may
        take three times the latter as a whole
    :param proxies: proxy address by scheme, as `requests` takes them
    :param max_attempts: how often a request is sent at the most
    :param sleep: waits between attempts
    :param credential_name: what the credential is called at the beginning of a sentence
    :param organization: id of the organization, which every SDK sends, too (contract, 19.2); None sends none
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
        organization: str | None = None,
    ) -> None:
        self._verify = verify
        self._timeout = timeout
        self._proxies = dict(proxies or {})
        self._max_attempts = max_attempts
        self._sleep = sleep
        self._session = session or _new_session()
        self.clock_skew: float | None = None
        """Seconds by which the server's clock is ahead of this one's, as its last answer says; None if none has."""
        self.answers = AnswerClassifier(token, verify=verify, proxies=self._proxies, credential_name=credential_name)
        """Says what answers mean, and whether the credential was accepted before."""
        self._credential_headers = {"X-SS-App-Component-Id": credential_id, "X-SS-App-Auth-Token": token}
        if organization is not None:
            self._credential_headers["X-SS-Org-Id"] = organization

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._session.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        action: str,
        retry: Retry,
        with_credential: bool = True,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        file: BinaryIO | None = None,
        stream_to: Callable[[Iterator[bytes]], Any] | None = None,
        needs_body: bool = False,
        on_moved: Callable[[str], None] | None = None,
        time_left: Callable[[], float] | None = None,
    ) -> Any:
        """
        Send a request, again if that is allowed and helps, and return the JSON of the answer.

        :param action: what is being tried, for messages: "read job X"
        :param retry: whether it may be sent again after an unclear end
        :param body: sent as JSON unless None; an empty object is sent as ``{}``
        :param file: sent as the part ``file`` of a form instead of a body; can be read from its beginning again
        :param stream_to: called with the chunks of the answer, which then need not be JSON and is not held in memory; called
            again from the first chunk when the request has to be repeated
        :param needs_body: Control Hub always answers this call with a value, so that an empty answer is an outage
        :param on_moved: called with the new base address when the organization has moved (contract, section 1.8)
        :param time_left: returns the seconds until the deadline of a wait, which shortens the time-outs and ends the
            attempts; not those of files, and of requests that may not be sent again
        :returns: None for an empty body; what `stream_to` returns, if given
        :raises ControlHubError: the subclass says what went wrong
        """

        def may_try_again(error: BaseException) -> bool:
            if not isinstance(error, ControlHubUnavailableError):
                return False
            if isinstance(error, ControlHubUntrustedCertificateError):
                return False
            return retry is Retry.SAFE or not error.maybe_executed

        if retry is not Retry.SAFE:
            time_left = None

        def is_last(state: tenacity.RetryCallState) -> bool:
            return state.attempt_number >= self._max_attempts or (time_left is not None and time_left() <= 0)

        retrying = tenacity.Retrying(
            stop=is_last,
            wait=_wait_before_next_attempt,
            retry=tenacity.retry_if_exception(may_try_again),
            before_sleep=_log_failed_attempt,
            sleep=self._sleep,
            reraise=True,
        )
        data = None if body is None else _as_json(body, action)
        request = _Request(
            method,
            url,
            action,
            with_credential,
            params,
            data,
            file,
            stream_to,
            needs_body,
            time_left,
        )
        return retrying(self._send_once, request, on_moved)

    def _send_once(self, request: _Request, on_moved: Callable[[str], None] | None) -> Any:
        action = request.action
        for _ in range(_MOST_MOVES + 1):
            with self._send(request) as answer:
                if answer.status_code != 308:
                    return self._value_of(answer, request)
                location = answer.headers.get("Location", "")
            new_base = trusted_redirect(request.url, location)
            if new_base is None or on_moved is None:
                raise ControlHubUnexpectedAnswerError(
                    f"Cannot {action}: {host_of(request.url)} redirects to "
                    f"'{self.answers.without_token(host_of(location))}', as the organization has moved. Refusing to "
                    "send the credential to a new host. If you trust that address, set it as the Control Hub URL of "
                    "the connection.",
                    http_status=308,
                )
            on_moved(new_base)
            request = replace(request, url=new_base + urlsplit(request.url).path)
        raise ControlHubUnexpectedAnswerError(
            f"Cannot {action}: Control Hub moved the request {_MOST_MOVES} times and still did not answer it.",
            http_status=308,
        )

    def _send(self, request: _Request) -> requests.Response:
        data, headers = request.payload()
        if request.with_credential:
            headers.update(self._credential_headers)
        if request.stream_to is not None:
            headers["Accept"] = "*/*"
        connect, read, total = self._time_limits_of(request)
        try:
            with total_time_limit(total):
                answer = self._session.request(
                    request.method,
                    request.url,
                    params=request.params,
                    data=data,
                    headers=headers,
                    timeout=(connect, read),
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
                f"Cannot {request.action}: the address {host_of(request.url)}, or that of the proxy for it, is invalid. "
                "Nothing was sent."
            ) from None
        except (OSError, HTTPError) as error:
            raise self.answers.failure_of(error, request.url, request.action) from None
        self._note_time(answer)
        return answer

    def _time_limits_of(self, request: _Request) -> tuple[float, float, float | None]:
        """Return the seconds to connect, to wait for data, and for the request as a whole."""
        connect, read = self._timeout
        if request.file is not None or request.stream_to is not None:
            # How long an archive takes depends on its size.
            return connect, read, None
        limit = math.inf
        if request.time_left is not None:
            left = request.time_left()
            limit = max(left, _TIME_AT_DEADLINE + min(left, 0.0), _LEAST_TIME)
        return min(connect, limit), min(read, limit), min(read * _TOTAL_TIME_FACTOR, limit)

    def _note_time(self, answer: requests.Response) -> None:
        try:
            self.clock_skew = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
        except (KeyError, TypeError, ValueError, OverflowError):
            # Without a time, the clocks are taken for alike.
            return

    def _chunks_of(self, answer: requests.Response, request: _Request) -> Iterator[bytes]:
        try:
            yield from answer.iter_content(_CHUNK)
        except (OSError, HTTPError) as error:
            raise self.answers.failure_of(error, request.url, request.action) from None

    def _value_of(self, answer: requests.Response, request: _Request) -> Any:
        if not answer.ok or answer.status_code >= 300:
            body, _ = read_limited(self._chunks_of(answer, request), LARGEST_ERROR)
            error = self.answers.error_of(answer, body, request.action)
            if request.with_credential and isinstance(error, _DECISIONS):
                self.answers.has_accepted = True
            raise error
        if request.stream_to is not None:
            value = request.stream_to(self._chunks_of(answer, request))
        else:
            value = self._parse_json(answer, request)
        if value is None and request.needs_body:
            raise ControlHubUnavailableError(
                f"Cannot {request.action}: {host_of(answer.url)} answered {answer.status_code} with an empty body, which "
                "Control Hub does not do here. A proxy or gateway may have answered.",
                http_status=answer.status_code,
                maybe_executed=True,
            )
        if request.with_credential and value is not None:
            self.answers.has_accepted = True
        return value

    def _parse_json(self, answer: requests.Response, request: _Request) -> Any:
        body, is_whole = read_limited(self._chunks_of(answer, request), LARGEST_ANSWER)
        if not is_whole:
            raise ControlHubUnexpectedAnswerError(
                f"Cannot {request.action}: the answer of {host_of(answer.url)} has more than {LARGEST_ANSWER} bytes, "
                "which no answer of Control Hub has.",
                http_status=answer.status_code,
            )
        if not body.strip():
            return None
        try:
            return parse_json(body)
        except (ValueError, RecursionError):
            kind = self.answers.without_token(answer.headers.get("Content-Type", "of no stated type"))[:100]
            raise self.answers.unusable(
                f"Cannot {request.action}: the answer of {host_of(answer.url)} is not JSON but {kind}. "
                "Is the address that of Control Hub, and no proxy's or login page's?",
                http_status=answer.status_code,
            ) from None


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
    adapter = TimeLimitAdapter(pool_maxsize=10, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _as_json(body: Any, action: str) -> str:
    try:
        return json.dumps(body, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ControlHubConfigurationError(
            f"Cannot {action}: what is to be sent cannot be written as JSON ({error}); nothing was sent."
        ) from None


_backoff = tenacity.wait_exponential_jitter(initial=1, max=_LONGEST_BACKOFF, jitter=1)


def _wait_before_next_attempt(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, ControlHubUnavailableError) else None
    return _backoff(state) if asked is None else asked


def _log_failed_attempt(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0.0
    log.info("%s Trying again in %.0f s (attempt %d).", error, wait, state.attempt_number + 1)
