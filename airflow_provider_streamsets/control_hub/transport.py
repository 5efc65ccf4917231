"""HTTP session to Control Hub: headers, timeouts, retries, and responses parsed into values or errors."""

from __future__ import annotations

import email.utils
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
from urllib3 import encode_multipart_formdata
from urllib3.exceptions import HTTPError

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.control_hub._json import MAX_ERROR_BYTES, MAX_RESPONSE_BYTES, parse_json, read_limited
from airflow_provider_streamsets.control_hub.config import ClientConfig
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubConfigurationError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
    ControlHubUntrustedCertificateError,
)
from airflow_provider_streamsets.control_hub.responses import TRANSIENT_STATUSES, ResponseClassifier, origin
from airflow_provider_streamsets.control_hub.services import Retry
from airflow_provider_streamsets.control_hub.time_limit import TimeLimitAdapter, total_time_limit
from airflow_provider_streamsets.control_hub.urls import trusted_redirect

log = logging.getLogger(__name__)

USER_AGENT = f"airflow-provider-streamsets/{__version__}"

_MAX_BACKOFF = 60.0
_MAX_REDIRECTS = 3
# Seconds a request may take once the deadline of a wait is reached; shrinks as the deadline is exceeded, down to the
# minimum.
_GRACE_AT_DEADLINE = 10.0
_MIN_TIME = 1.0
# Limit of the total time of a request, as a multiple of the read timeout, however steadily the response arrives.
_TOTAL_TIMEOUT_FACTOR = 3.0
# Older versions of urllib3 decompress this much at once.
_CHUNK_SIZE = 64 * 1024
# Errors that `requests` raises for an invalid URL, proxy or header.
_INVALID_SETTING_ERRORS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidHeader,
)
# Responses that Control Hub sends only to a credential it accepts.
_CONTROL_HUB_DECISIONS = (ControlHubNotFoundError, ControlHubPermissionError, ControlHubRejectedError)


@dataclass(frozen=True)
class RawResponse:
    """
    A response as it was received, whatever its status.

    :param status: HTTP status
    :param content_type: header ``Content-Type``; empty if there was none
    :param text: body
    """

    status: int
    content_type: str
    text: str


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
    parse: Callable[[bytearray], Any]
    raw: bool
    time_left: Callable[[], float] | None

    def payload(self) -> tuple[Any, dict[str, str]]:
        """Return the body and its headers, rebuilt for each attempt."""
        if self.file is None:
            return self.data, {}
        form = _FileForm(self.file)
        return form, {"Content-Type": form.content_type}


class _FileForm:
    """
    A form with a file as its part ``file``. Is sent in chunks, so that a large archive is never held in memory.

    :param file: seekable file
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(0)
        self._size: int = requests.utils.super_len(file)  # type: ignore[no-untyped-call]
        empty_form, self.content_type = encode_multipart_formdata({"file": ("file", b"", "application/octet-stream")})
        self._end = f"\r\n--{self.content_type.partition('boundary=')[2]}--\r\n".encode()
        self._start = empty_form.removesuffix(self._end)

    def __len__(self) -> int:
        return len(self._start) + self._size + len(self._end)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        yield self._start
        while chunk := self._file.read(_CHUNK_SIZE):
            yield chunk
        yield self._end


class Transport:
    """
    Sends requests with the credential and returns the parsed JSON of the responses.

    The total time of a request, file transfers excepted, is limited to three times the read timeout.

    :param config: validated settings of the client
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._session = _new_session()
        self.clock_skew: float | None = None
        """Seconds by which the server's clock is ahead, from the last ``Date`` header; None if there was none."""
        self.rate_limited = 0
        """Number of requests rejected because of a rate limit (429)."""
        self.classifier = ResponseClassifier(config)
        """Classifies error responses, and records whether the credential was ever accepted."""
        self._credential_headers = {
            "X-SS-App-Component-Id": config.credential_id,
            "X-SS-App-Auth-Token": config.token,
        }
        organization = config.organization_or_none
        if organization is not None:
            # Contract section 1.4.
            self._credential_headers["X-SS-Org-Id"] = organization

    def close(self) -> None:
        """Close the persistent connections."""
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
        parse: Callable[[bytearray], Any] = parse_json,
        raw: bool = False,
        on_moved: Callable[[str], None] | None = None,
        time_left: Callable[[], float] | None = None,
    ) -> Any:
        """
        Send a request, retrying where that is allowed and can help, and return the parsed JSON of the response.

        :param action: what is attempted, for messages: "read job X"
        :param retry: whether the request may be retried when its result is unknown
        :param with_credential: send the credential headers
        :param body: sent as JSON unless None; an empty object is sent as ``{}``
        :param file: seekable file, sent as the part ``file`` of a form instead of a body
        :param stream_to: called with the chunks of the response, which then need not be JSON and is never held in
            memory; called again from the first chunk when the request is retried
        :param needs_body: Control Hub always returns a value from this call, so an empty response counts as an outage
        :param parse: parses the body; raises a ValueError or RecursionError if it is not JSON
        :param raw: return a :class:`RawResponse` for any status that is not transient, instead of parsing the response
        :param on_moved: called with the new base URL when the organization has moved (contract section 1.8)
        :param time_left: returns the seconds until the deadline of a wait, which shortens the timeouts and stops the
            retries; ignored for the timeouts of file transfers and for requests that must not be retried
        :returns: the parsed JSON, None for an empty body, the return value of `stream_to`, or the raw response
        :raises ControlHubError: if the request fails; the subclass says why
        """

        def may_retry(error: BaseException) -> bool:
            if not isinstance(error, ControlHubUnavailableError):
                return False
            if isinstance(error, ControlHubUntrustedCertificateError):
                return False
            return retry is Retry.SAFE or not error.maybe_executed

        if retry is not Retry.SAFE:
            time_left = None

        def is_last(state: tenacity.RetryCallState) -> bool:
            return state.attempt_number >= self._config.max_attempts or (time_left is not None and time_left() <= 0)

        retrying = tenacity.Retrying(
            stop=is_last,
            wait=_retry_delay,
            retry=tenacity.retry_if_exception(may_retry),
            before_sleep=_log_retry,
            sleep=self._config.sleep or time.sleep,
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
            parse,
            raw,
            time_left,
        )
        return retrying(self._send_once, request, on_moved)

    def _send_once(self, request: _Request, on_moved: Callable[[str], None] | None) -> Any:
        action = request.action
        for _ in range(_MAX_REDIRECTS + 1):
            with self._send(request) as response:
                if response.status_code != 308:
                    return self._parse_response(response, request)
                location = response.headers.get("Location", "")
            new_base = trusted_redirect(request.url, location)
            if new_base is None or on_moved is None:
                raise ControlHubUnexpectedResponseError(
                    f"Cannot {action}: {origin(request.url)} redirects to "
                    f"'{self.classifier.redact(origin(location))}', as the organization has moved. Refusing to "
                    "send the credential to a new host. If you trust that URL, set it as the Control Hub URL of "
                    "the connection.",
                    http_status=308,
                )
            on_moved(new_base)
            request = replace(request, url=new_base + urlsplit(request.url).path)
        raise ControlHubUnexpectedResponseError(
            f"Cannot {action}: Control Hub redirected the request more than {_MAX_REDIRECTS} times.",
            http_status=308,
        )

    def _send(self, request: _Request) -> requests.Response:
        data, headers = request.payload()
        if request.with_credential:
            headers.update(self._credential_headers)
        if request.stream_to is not None:
            headers["Accept"] = "*/*"
        connect, read, total = self._timeouts(request)
        try:
            with total_time_limit(total):
                response = self._session.request(
                    request.method,
                    request.url,
                    params=request.params,
                    data=data,
                    headers=headers,
                    timeout=(connect, read),
                    # Passed with each request: the environment overrides the attribute of the session.
                    verify=self._config.verify,
                    proxies=dict(self._config.proxies or {}),
                    allow_redirects=False,
                    # The body is read separately, up to a maximum size.
                    stream=True,
                )
        except _INVALID_SETTING_ERRORS:
            # The text of these errors can contain the password of a proxy.
            raise ControlHubConfigurationError(
                f"Cannot {request.action}: the URL {origin(request.url)} or the URL of its proxy is invalid. "
                "Nothing was sent."
            ) from None
        except (OSError, HTTPError) as error:
            raise self.classifier.classify_failure(error, request.url, request.action) from None
        self._update_clock_skew(response)
        return response

    def _timeouts(self, request: _Request) -> tuple[float, float, float | None]:
        """Return the connect, read and total timeouts in seconds."""
        connect, read = self._config.timeouts
        if request.file is not None or request.stream_to is not None:
            # The time of a file transfer depends on the size of the file.
            return connect, read, None
        limit = math.inf
        if request.time_left is not None:
            remaining = request.time_left()
            limit = max(remaining, _GRACE_AT_DEADLINE + min(remaining, 0.0), _MIN_TIME)
        return min(connect, limit), min(read, limit), min(read * _TOTAL_TIMEOUT_FACTOR, limit)

    def _update_clock_skew(self, response: requests.Response) -> None:
        try:
            self.clock_skew = email.utils.parsedate_to_datetime(response.headers["Date"]).timestamp() - time.time()
        except (KeyError, TypeError, ValueError, OverflowError):
            # Without a date, assume no skew.
            return

    def _iter_chunks(self, response: requests.Response, request: _Request) -> Iterator[bytes]:
        try:
            yield from response.iter_content(_CHUNK_SIZE)
        except (OSError, HTTPError) as error:
            raise self.classifier.classify_failure(error, request.url, request.action) from None

    def _parse_response(self, response: requests.Response, request: _Request) -> Any:
        if request.raw and response.status_code not in TRANSIENT_STATUSES:
            body, _ = read_limited(self._iter_chunks(response, request), MAX_RESPONSE_BYTES)
            content_type = response.headers.get("Content-Type", "")
            return RawResponse(response.status_code, content_type, body.decode("utf-8", "replace"))
        if not response.ok or response.status_code >= 300:
            body, _ = read_limited(self._iter_chunks(response, request), MAX_ERROR_BYTES)
            error = self.classifier.classify_response(response, body, request.action)
            self.rate_limited += response.status_code == 429
            if request.with_credential and isinstance(error, _CONTROL_HUB_DECISIONS):
                self.classifier.has_accepted = True
            raise error
        if request.stream_to is not None:
            value = request.stream_to(self._iter_chunks(response, request))
        else:
            value = self._parse_json(response, request)
        if value is None and request.needs_body:
            raise ControlHubUnavailableError(
                f"Cannot {request.action}: {origin(response.url)} returned {response.status_code} with an empty body "
                "where Control Hub always returns a value. The response may come from a proxy or gateway.",
                http_status=response.status_code,
                maybe_executed=True,
            )
        if request.with_credential and value is not None:
            self.classifier.has_accepted = True
        return value

    def _parse_json(self, response: requests.Response, request: _Request) -> Any:
        body, is_complete = read_limited(self._iter_chunks(response, request), MAX_RESPONSE_BYTES)
        if not is_complete:
            raise ControlHubUnexpectedResponseError(
                f"Cannot {request.action}: the response of {origin(response.url)} exceeds {MAX_RESPONSE_BYTES} bytes, "
                "more than any response of Control Hub.",
                http_status=response.status_code,
            )
        if not body.strip():
            return None
        try:
            return request.parse(body)
        except (ValueError, RecursionError):
            content_type = self.classifier.redact(response.headers.get("Content-Type", "no content type"))[:100]
            raise self.classifier.unusable_response(
                f"Cannot {request.action}: the response of {origin(response.url)} is not JSON ({content_type}). "
                "Check that the URL is that of Control Hub, not of a proxy or login page.",
                http_status=response.status_code,
            ) from None


class _Session(requests.Session):
    """Session that ignores redirects; `requests` parses their targets even with ``allow_redirects=False``."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None, so that no target is parsed."""
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
    # Only the credential headers may authenticate; a session cookie or an entry in ~/.netrc could contradict them.
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
            f"Cannot {action}: the request body cannot be serialized as JSON ({error}). Nothing was sent."
        ) from None


_backoff = tenacity.wait_exponential_jitter(initial=1, max=_MAX_BACKOFF, jitter=1)


def _retry_delay(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    retry_after = error.retry_after if isinstance(error, ControlHubUnavailableError) else None
    return _backoff(state) if retry_after is None else retry_after


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0.0
    log.info("%s Retrying in %.0f s (attempt %d).", error, wait, state.attempt_number + 1)
