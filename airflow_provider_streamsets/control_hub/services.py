"""Control Hub services and the quoting of ids in their paths."""

from __future__ import annotations

import enum
from urllib.parse import quote


class Service(enum.Enum):
    """Services of Control Hub, by path prefix."""

    JOBRUNNER = "jobrunner/rest"
    PIPELINES = "pipelinestore/rest"
    SECURITY = "security/rest"
    TIMESERIES = "timeseries/rest"
    TUNNELING = "tunneling/rest"

    @property
    def is_in_project(self) -> bool:
        """Whether the service accepts the query parameter ``project`` (contract section 1.6)."""
        return self in {Service.JOBRUNNER, Service.PIPELINES}


def quote_id(identifier: str) -> str:
    """Quote an id for use in a path; the colon stays literal (contract section 2)."""
    return quote(identifier, safe=":@")
