"""
Errors that become error responses.

The HTTP status and most codes of Control Hub's errors are not published. Those used here are the sandbox's own choice,
in the format of the published ones. Clients may rely on the status class and on the prefix of the code.
"""

from __future__ import annotations


class ApiError(Exception):
    """
    A request that is answered with Control Hub's error envelope.

    :param status: HTTP status.
    :param code: error code, such as ``JOBRUNNER_251``.
    :param message: error message.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class UnknownJobError(ApiError):
    """No job has the requested id. The response depends on the variant ``unknown_job``."""

    def __init__(self, job_id: str) -> None:
        super().__init__(404, "JOBRUNNER_01", f"Job '{job_id}' does not exist")
        self.job_id = job_id


class WrongStateError(ApiError):
    """The state of the job does not allow the action."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(status, "JOBRUNNER_73", message)


def bad_request(message: str) -> ApiError:
    """Return the error for an invalid request."""
    return ApiError(400, "RESTAPI_01", message)


def unsupported_endpoint(method: str, path: str) -> ApiError:
    """Return the error for an endpoint that the sandbox does not implement."""
    return ApiError(404, "SANDBOX_404", f"The sandbox does not implement {method} {path}.")
