"""What describes a request: the service, the id in its path, and whether it may be repeated."""

from __future__ import annotations

import enum
from urllib.parse import quote


class Service(enum.Enum):
    """Services of Control Hub, by path prefix."""

    JOBRUNNER = "jobrunner/rest"
    PIPELINES = "pipelinestore/rest"
    SECURITY = "security/rest"
    SERVER = "rest"
    TIMESERIES = "timeseries/rest"
    TUNNELING = "tunneling/rest"

    @property
    def is_in_project(self) -> bool:
        """Whether the service accepts the query parameter ``project`` (contract section 1.6)."""
        return self in {Service.JOBRUNNER, Service.PIPELINES}


class Retry(enum.Enum):
    """Whether a request may be retried when its result is unknown (contract section 15)."""

    SAFE = "safe"
    """A read, or an idempotent change."""
    NEVER = "never"
    """Not idempotent, such as the start of a run."""


def quote_id(identifier: str) -> str:
    """Quote an id for use in a path; the colon stays literal (contract section 2)."""
    return quote(identifier, safe=":@")
