"""The one error family of the provider. Its names and attributes are public: retry policies may rely on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Issue:
    """
    One entry of Control Hub's error envelope (contract, section 15).

    :param code: Control Hub's code, for example ``JOBRUNNER_251``; None when it sent none
    :param message: Control Hub's text, for people
    """

    code: str | None
    message: str

    def __str__(self) -> str:
        return f"{self.code} - {self.message}" if self.code else self.message


class ControlHubError(Exception):
    """
    Something asked of Control Hub did not work.

    :param message: what was tried, on what, what came back and what to do about it
    :param http_status: status of Control Hub's answer; None when there was none
    :param issues: the issues that Control Hub named
    """

    def __init__(self, message: str, *, http_status: int | None = None, issues: Iterable[Issue] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.http_status = http_status
        self.issues = tuple(issues)

    @property
    def codes(self) -> tuple[str, ...]:
        """Control Hub's issue codes, in its order."""
        return tuple(issue.code for issue in self.issues if issue.code)


class ControlHubConfigurationError(ControlHubError):
    """A setting of the client or of the connection cannot be right; nothing was sent."""


class ControlHubAuthenticationError(ControlHubError):
    """The credential was refused (401), or cannot be one."""


class ControlHubPermissionError(ControlHubError):
    """The credential is valid but may not do this (403, or no access to the project)."""


class ControlHubNotFoundError(ControlHubError):
    """What was asked for does not exist, or not for this credential."""


class ControlHubRejectedError(ControlHubError):
    """Control Hub understood the request and refused it; the codes say why."""


class ControlHubJobStateError(ControlHubRejectedError):
    """The job's state does not allow what was asked; nothing was sent."""


class ControlHubExistsError(ControlHubRejectedError):
    """What was to be created exists already; nothing was sent."""


class ControlHubConflictError(ControlHubRejectedError):
    """Somebody else has changed the job meanwhile; the message says whether something was sent."""


class ControlHubBulkError(ControlHubError):
    """
    Something was done to a part of the jobs only.

    :param done: run counts of those that it was done to, by job id
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
    """The metrics that were asked for cannot be had now; says nothing about the run."""


class ControlHubExpectationError(ControlHubError):
    """A run's metrics do not satisfy the conditions that were set for them; the message has the numbers."""


class ControlHubAmbiguousNameError(ControlHubError):
    """Several jobs, or pipelines, have the name that was asked for."""


class ControlHubUnavailableError(ControlHubError):
    """
    No usable answer: connection failed, timed out, 429 or 5xx, after the retries that the request allows.

    :param retry_after: seconds that Control Hub asked to wait, if it did
    :param maybe_executed: True when the request may have been executed although no answer came
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
    """Several starts of a template can be the one that got no answer; none is taken over, and none is stopped."""


class ControlHubUntrustedCertificateError(ControlHubUnavailableError):
    """The TLS certificate of the server is not trusted; nothing was sent."""


class ControlHubUnexpectedAnswerError(ControlHubError):
    """An answer came that is not what the API promises, for example the HTML page of a proxy."""


class ControlHubRunFailedError(ControlHubError):
    """
    The run that was waited for has not succeeded, or some of many have not; the message says how.

    It has ended, or was abandoned because it was ``RED`` for too long: then the status in `result` is not an end.

    :param job_id: id of the job; empty if many runs were waited for
    :param job_name: its name, empty if it is not known
    :param run_count: number of the run
    :param outcome: ``FAILED`` or ``STOPPED``
    :param error_codes: codes of the engines that Control Hub's texts name, such as ``JDBC_34``
    :param stage: name of the stage that these texts name, such as ``JDBCQueryConsumer_01``
    :param metrics: the run's record counts; None if Control Hub has saved none
    :param result: what the task would have returned, had the run succeeded
    :param failures: if many runs were waited for, one such error for each of those that did not succeed
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
        self.metrics = None if metrics is None else dict(metrics)
        self.result = result
        self.failures = tuple(failures)


class ControlHubRunTimeoutError(ControlHubError):
    """The run had not ended when the time allowed for it was over."""


class ControlHubRunLostError(ControlHubError):
    """The run that was waited for can no longer be found, so that its outcome is unknown."""


def may_have_executed(error: ControlHubError) -> bool:
    """Return whether a request that ended like this can have had its effect."""
    if isinstance(error, ControlHubUnavailableError):
        return error.maybe_executed
    if isinstance(error, ControlHubRejectedError):
        return (error.http_status or 0) >= 500
    # An unusable body behind a success says nothing about the request; a redirect says that it went nowhere.
    return isinstance(error, ControlHubUnexpectedAnswerError) and (error.http_status or 200) < 300


def is_server_error(error: ControlHubError) -> bool:
    """Return whether an answer that names codes may say more about Control Hub's health than about the request."""
    return (error.http_status or 0) >= 500


def may_be_unknown_id(error: ControlHubError) -> bool:
    """
    Return whether a read can have failed like this because there is no such object.

    What Control Hub answers then is not known (contract, 18.4 and 19.3), so only another call tells.
    """
    if isinstance(error, (ControlHubPermissionError, ControlHubRejectedError)):
        return True
    status = error.http_status or 0
    return isinstance(error, ControlHubUnavailableError) and (400 <= status < 429 or status == 500)


def is_fatal(error: ControlHubError) -> bool:
    """Return whether an error while waiting makes further looks pointless. A failed look is not a failed run."""
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
