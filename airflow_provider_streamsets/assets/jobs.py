"""
Control Hub jobs as Airflow assets.

The URI of a job is ``streamsets://<organization>/jobs/<uuid>``, made of its id ``<uuid>:<organization>``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset

if TYPE_CHECKING:
    from urllib.parse import SplitResult

SCHEME = "streamsets"
_UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_ORGANIZATION = r"[\w.-]+"
_JOB_ID = re.compile(f"({_UUID}):({_ORGANIZATION})")
_PATH = re.compile(f"/jobs/({_UUID})/?")


def job_uri(job_id: str) -> str:
    """
    Return the URI of a job's asset.

    :param job_id: id of the job
    :raises ValueError: if it is none
    """
    match = _JOB_ID.fullmatch(job_id.strip()) if isinstance(job_id, str) else None
    if match is None:
        raise ValueError(
            f"{job_id!r} is not the id of a job. It is '<uuid>:<organization>', as the page of the job in Control Hub "
            "has it in its address."
        )
    return f"{SCHEME}://{match[2]}/jobs/{match[1].lower()}"


def job_asset(job_id: str, **arguments: Any) -> Asset:
    """
    Return the asset that stands for what a job does.

    .. code-block:: python

        orders = job_asset("9aaf0c53-90d4-5fda-bc98-e94bcd501655:bab21f86-74cd-5019-8714-cad83794eb01", name="orders")

    :param job_id: id of the job
    :param arguments: further arguments of ``Asset``, such as `name`, which is the URI by default, `watchers`
        or `extra`
    :raises ValueError: if that is not the id of a job
    """
    return Asset(uri=job_uri(job_id), **arguments)


def event_payload(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Return the payload of an asset event: the facts about the last run, and those about each run under ``runs``.

    :param runs: the facts about each run, at least one
    """
    return {**runs[-1], "runs": [dict(run) for run in runs]}


def create_asset(*, job_id: str, extra: dict[str, Any] | None = None) -> Asset:
    """
    Return the asset of a job, for Airflow's lineage collector.

    :param job_id: id of the job
    :param extra: extra of the asset
    """
    return job_asset(job_id, extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Check a URI of this scheme, and bring it to the one form that :func:`job_uri` makes.

    :param uri: the URI
    :raises ValueError: if it is not that of a job
    """
    match = _PATH.fullmatch(uri.path)
    if match is None or uri.query or not re.fullmatch(_ORGANIZATION, uri.netloc):
        raise ValueError(
            f"'{uri.geturl()}' is not the URI of a Control Hub job, which is "
            f"{SCHEME}://<organization>/jobs/<uuid> for the job <uuid>:<organization>."
        )
    return uri._replace(path=f"/jobs/{match[1].lower()}")
