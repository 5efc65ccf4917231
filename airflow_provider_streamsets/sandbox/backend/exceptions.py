"""
Refusals: an HTTP status with the issue that Control Hub's error envelope carries.

The status and most codes of refusals are not published. Those used here are the sandbox's own choice, in
the form of the published ones; clients may rely on the status class and on the prefix of the code.
"""

from __future__ import annotations


class ProblemError(Exception):
    """
    A call that is answered with an error envelope.

    :param status: HTTP status.
    :param code: code of the issue, such as ``JOBRUNNER_251``.
    :param message: message of the issue.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class UnknownJobError(ProblemError):
    """No job has this id. Its own class because what the real service answers is a variant."""

    def __init__(self, job_id: str) -> None:
        super().__init__(404, "JOBRUNNER_01", f"Job '{job_id}' does not exist")
        self.job_id = job_id


class WrongStateError(ProblemError):
    """The job's state does not allow this action."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(status, "JOBRUNNER_73", message)


def bad_request(message: str) -> ProblemError:
    """Return the refusal of a request that is wrong in itself."""
    return ProblemError(400, "RESTAPI_01", message)


def not_served(method: str, path: str) -> ProblemError:
    """Return the refusal of a call that exists in Control Hub, perhaps, but not here."""
    return ProblemError(404, "SANDBOX_404", f"the sandbox does not serve this yet: {method} {path}")
