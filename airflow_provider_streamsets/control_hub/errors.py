"""Errors raised by this provider. Their names and attributes are public: retry policies may rely on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Issue:
    """
    An entry of Control Hub's error envelope (contract section 15).

    :param code: error code, for example ``JOBRUNNER_251``; None if Control Hub sent none
    :param message: human-readable message
    """

    code: str | None
    message: str

    def __str__(self) -> str:
        return f"{self.code} - {self.message}" if self.code else self.message


class ControlHubError(Exception):
    """
    Base class of all errors raised by this provider.

    :param message: what was attempted, on what, why it failed, and what to do
    :param http_status: HTTP status of the response; None if there was none
    :param issues: issues in the response
    """

    def __init__(self, message: str, *, http_status: int | None = None, issues: Iterable[Issue] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.http_status = http_status
        self.issues = tuple(issues)

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the issues, in order."""
        return tuple(issue.code for issue in self.issues if issue.code)


class ControlHubConfigurationError(ControlHubError):
    """A setting of the client or the connection is invalid; nothing was sent."""


class ControlHubAuthenticationError(ControlHubError):
    """The credential was rejected (401) or is malformed."""


class ControlHubPermissionError(ControlHubError):
    """The credential is valid but lacks the permission (403), or access to the project."""


class ControlHubNotFoundError(ControlHubError):
    """The requested object does not exist, or is not visible to the credential."""


class ControlHubRejectedError(ControlHubError):
    """Control Hub rejected the request; the issue codes say why."""


class ControlHubJobStateError(ControlHubRejectedError):
    """The state of the job does not allow the operation; nothing was sent."""


class ControlHubExistsError(ControlHubRejectedError):
    """The object to create already exists; nothing was sent."""


class ControlHubConflictError(ControlHubRejectedError):
    """The job was changed concurrently; the message says whether anything was sent."""


class ControlHubBulkError(ControlHubError):
    """
    A bulk operation succeeded for some of the jobs only.

    :param done: run count by job id of the jobs for which it succeeded
    """

    def __init__(
        self,
        message: str,
        *,
        done: Mapping[str, int] | None = None,
        http_status: int | None = None,
        issues: Iterable[Issue] = (),
    ) -> None:
        super().__init__(message, http_status=http_status, issues=issues)
        self.done = dict(done or {})


class ControlHubMetricsUnavailableError(ControlHubError):
    """The requested metrics are currently unavailable; this says nothing about the run."""


class ControlHubExpectationError(ControlHubError):
    """The metrics of a run violate the expected conditions; the message has the values."""


class ControlHubAmbiguousNameError(ControlHubError):
    """Several jobs or pipelines have the requested name."""


class ControlHubUnavailableError(ControlHubError):
    """
    Control Hub sent no usable response: connection failure, timeout, 429 or 5xx, after all retries.

    :param retry_after: seconds from the ``Retry-After`` header; None if there was none
    :param maybe_executed: True if the request may have been executed despite the missing response
    """

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        issues: Iterable[Issue] = (),
        retry_after: float | None = None,
        maybe_executed: bool = False,
    ) -> None:
        super().__init__(message, http_status=http_status, issues=issues)
        self.retry_after = retry_after
        self.maybe_executed = maybe_executed


class ControlHubAmbiguousStartError(ControlHubUnavailableError):
    """Several starts of a template match the one that got no response; none is adopted and none is stopped."""


class ControlHubUntrustedCertificateError(ControlHubUnavailableError):
    """The TLS certificate of the server is not trusted; nothing was sent."""


class ControlHubUnexpectedResponseError(ControlHubError):
    """The response does not match the API, for example the HTML page of a proxy."""


class ControlHubRunFailedError(ControlHubError):
    """
    The run did not succeed, or some of several runs did not; the message has the details.

    The run has ended, or the wait was abandoned because the run was ``RED`` for too long: then the status in `result`
    is not final.

    :param job_id: id of the job; empty for several runs
    :param job_name: name of the job; empty if unknown
    :param run_count: number of the run
    :param outcome: ``FAILED`` or ``STOPPED``
    :param error_codes: engine error codes in Control Hub's messages, such as ``JDBC_34``
    :param stage: name of the stage in these messages, such as ``JDBCQueryConsumer_01``
    :param engine_lost: whether an engine of the run stopped responding
    :param metrics: record counts of the run; None if Control Hub has saved none
    :param result: return value of the task, had the run succeeded
    :param failures: for several runs, one error for each run that did not succeed
    """

    def __init__(
        self,
        message: str,
        *,
        job_id: str = "",
        job_name: str = "",
        run_count: int | None = None,
        outcome: str | None = None,
        error_codes: Iterable[str] = (),
        stage: str | None = None,
        engine_lost: bool = False,
        metrics: Mapping[str, Any] | None = None,
        result: Any = None,
        failures: Iterable[ControlHubRunFailedError] = (),
        http_status: int | None = None,
        issues: Iterable[Issue] = (),
    ) -> None:
        super().__init__(message, http_status=http_status, issues=issues)
        self.job_id = job_id
        self.job_name = job_name
        self.run_count = run_count
        self.outcome = outcome
        self.error_codes = tuple(error_codes)
        self.stage = stage
        self.engine_lost = engine_lost
        self.metrics = None if metrics is None else dict(metrics)
        self.result = result
        self.failures = tuple(failures)


class ControlHubRunTimeoutError(ControlHubError):
    """The run did not end before the timeout."""


class ControlHubRunLostError(ControlHubError):
    """The run can no longer be found, so its outcome is unknown."""


def may_have_executed(error: ControlHubError) -> bool:
    """Return whether the failed request may have been executed."""
    if isinstance(error, ControlHubUnavailableError):
        return error.maybe_executed
    if isinstance(error, ControlHubRejectedError):
        return (error.http_status or 0) >= 500
    # An unusable body of a successful response leaves the result open; a redirected request was not executed.
    return isinstance(error, ControlHubUnexpectedResponseError) and (error.http_status or 200) < 300


def is_server_error(error: ControlHubError) -> bool:
    """Return whether the error may be caused by the state of Control Hub rather than by the request."""
    return (error.http_status or 0) >= 500


def may_be_unknown_id(error: ControlHubError) -> bool:
    """
    Return whether a read may have failed because the object does not exist.

    Control Hub's response in that case is unknown (contract sections 15 and 18.4), so the caller has to verify it with
    another call.
    """
    if isinstance(error, (ControlHubPermissionError, ControlHubRejectedError)):
        return True
    status = error.http_status or 0
    return isinstance(error, ControlHubUnavailableError) and (400 <= status < 429 or status == 500)


def is_fatal(error: ControlHubError) -> bool:
    """Return whether an error makes further polls pointless. A failed poll is not a failed run."""
    return isinstance(
        error,
        (
            ControlHubAuthenticationError,
            ControlHubConfigurationError,
            ControlHubExpectationError,
            ControlHubMetricsUnavailableError,
            ControlHubPermissionError,
            ControlHubRunLostError,
        ),
    )
