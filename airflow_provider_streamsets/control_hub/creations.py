"""Telling a job that was just created from others of its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub import starts

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.models import Job


@dataclass(frozen=True)
class CreationIntent:
    """
    A creation that is about to be asked for.

    :param name: name that the job will have; there was none of it
    :param user: id of the user who asks
    :param at: when, in epoch seconds of Control Hub's clock
    """

    name: str
    user: str | None
    at: float

    @classmethod
    def of(cls, name: str, user: str | None, clock_ahead: float = 0.0) -> CreationIntent:
        """
        Return a creation now.

        :param name: name that the job will have
        :param user: id of the user who asks
        :param clock_ahead: seconds by which Control Hub's clock is ahead of this one's
        """
        return cls(name, user, starts.wall_clock() + clock_ahead)

    def explains(self, job: Job) -> bool:
        """Return whether this creation can have made a job."""
        if job.name != self.name or (self.user and job.creator and job.creator != self.user):
            return False
        return job.create_time is None or abs(job.create_time.timestamp() - self.at) <= starts.TOLERANCE
