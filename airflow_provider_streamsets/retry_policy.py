"""Retries by kind of error; needs Airflow 3.3."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from airflow.sdk.definitions.retry_policy import RetryAction, RetryDecision, RetryPolicy

from airflow_provider_streamsets.control_hub import errors

if TYPE_CHECKING:
    from airflow.sdk import Context

# Another try would end in the same way.
_PERMANENT = (
    errors.ControlHubAmbiguousNameError,
    errors.ControlHubAmbiguousStartError,
    errors.ControlHubAuthenticationError,
    errors.ControlHubConfigurationError,
    errors.ControlHubExpectationError,
    errors.ControlHubNotFoundError,
    errors.ControlHubPermissionError,
    errors.ControlHubRejectedError,
    errors.ControlHubUntrustedCertificateError,
    # A rendered parameter is invalid.
    ValueError,
)
# The job, which others use as well, can be in another state then.
_MAY_PASS = (errors.ControlHubJobStateError, errors.ControlHubConflictError)


class ControlHubRetryPolicy(RetryPolicy):
    """
    Decide by the kind of error whether a task of this provider is retried, within its ``retries``.

    .. code-block:: python

        ControlHubRunJobOperator(
            task_id="load_orders",
            job_name="Orders to warehouse",
            retries=3,
            retry_policy=ControlHubRetryPolicy(delay=timedelta(minutes=10), retry_codes=["JDBC_*"]),
        )

    - Retried: outages of Control Hub, lost engines, and failed runs with one of the given codes or stages.
    - Failed at once: a missing job or permission, rejected requests and parameters, a refused credential, metrics that
      violate ``expect``, and runs that were stopped. Also other failed runs, if codes or stages are given.
    - As without a policy: all other errors, for example that the job is active, or timeouts.

    Of several failed runs, a single one to be retried is sufficient.

    :param delay: time until the next try after an outage or a failed run; an outage for which Control Hub requests a
        longer one takes that. None is the ``retry_delay`` of the task
    :param retry_codes: patterns of the engines' error codes of failed runs to retry, such as ``JDBC_34`` or ``JDBC_*``
    :param retry_stages: patterns of the names of stages of failed runs to retry, such as ``JDBCQueryConsumer_01``
    """

    def __init__(
        self,
        *,
        delay: timedelta | None = None,
        retry_codes: Iterable[str] = (),
        retry_stages: Iterable[str] = (),
    ) -> None:
        if isinstance(retry_codes, str) or isinstance(retry_stages, str):
            raise ValueError("'retry_codes' and 'retry_stages' must be lists of patterns, not strings.")
        self.delay = delay
        self.retry_codes = tuple(retry_codes)
        self.retry_stages = tuple(retry_stages)

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Return the decision for an error; see :class:`airflow.sdk.RetryPolicy`."""
        failures = getattr(exception, "failures", ()) or (exception,)
        decisions = [self._decide(failure) for failure in failures]
        for decision in decisions:
            if decision.action is RetryAction.RETRY:
                return decision
        is_final = all(decision.action is RetryAction.FAIL for decision in decisions)
        return decisions[0] if is_final else RetryDecision.default()

    def _decide(self, error: BaseException) -> RetryDecision:
        if isinstance(error, errors.ControlHubRunFailedError):
            return self._decide_run(error)
        if isinstance(error, _MAY_PASS):
            return RetryDecision.default()
        if isinstance(error, _PERMANENT):
            return RetryDecision.fail(f"{type(error).__name__} would occur again")
        if isinstance(error, errors.ControlHubUnavailableError):
            requested = timedelta(seconds=error.retry_after or 0)
            delay = max(self.delay or timedelta(), requested) or None
            return RetryDecision.retry(delay, "Control Hub was unavailable")
        return RetryDecision.default()

    def _decide_run(self, error: errors.ControlHubRunFailedError) -> RetryDecision:
        if error.outcome == "STOPPED":
            return RetryDecision.fail("the run was stopped")
        if error.engine_lost:
            return RetryDecision.retry(self.delay, "an engine was lost")
        causes = [(code, self.retry_codes) for code in error.error_codes]
        causes += [(error.stage, self.retry_stages)] if error.stage else []
        for cause, patterns in causes:
            if any(fnmatchcase(cause, pattern) for pattern in patterns):
                return RetryDecision.retry(self.delay, f"the run failed with {cause}")
        if self.retry_codes or self.retry_stages:
            return RetryDecision.fail("the error of the run is none to retry")
        return RetryDecision.default()
