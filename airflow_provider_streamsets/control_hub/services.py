"""The applications of Control Hub and how ids stand in their paths."""

from __future__ import annotations

import enum
from urllib.parse import quote


class Service(enum.Enum):
    """Applications of Control Hub, by the first part of their paths."""

    JOBRUNNER = "jobrunner/rest"
    PIPELINES = "pipelinestore/rest"
    SECURITY = "security/rest"
    TIMESERIES = "timeseries/rest"
    TUNNELING = "tunneling/rest"

    @property
    def is_in_project(self) -> bool:
        """Whether the application takes the query parameter ``project`` (contract, section 1.6)."""
        return self in {Service.JOBRUNNER, Service.PIPELINES}


def quote_id(identifier: str) -> str:
    """Return an id as part of a path; the colon stays literal (contract, section 2)."""
    return quote(identifier, safe=":@")
