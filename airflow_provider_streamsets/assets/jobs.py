"""
Control Hub jobs as Airflow assets.

The URI of the job ``<uuid>:<organization>`` is ``streamsets://<organization>/jobs/<uuid>``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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
    Return the asset URI of a job.

    :param job_id: id of the job
    :raises ValueError: if the id is malformed
    """
    match = _JOB_ID.fullmatch(job_id.strip()) if isinstance(job_id, str) else None
    if match is None:
        raise ValueError(
            f"'job_id' must have the form '<uuid>:<organization>', as in the URL of the job's page in Control Hub, got "
            f"{job_id!r}."
        )
    return f"{SCHEME}://{match[2]}/jobs/{match[1].lower()}"


def job_asset(job_id: str, **arguments: Any) -> Asset:
    """
    Return the asset of a job.

    .. code-block:: python

        orders = job_asset("9aaf0c53-90d4-5fda-bc98-e94bcd501655:bab21f86-74cd-5019-8714-cad83794eb01", name="orders")

    :param job_id: id of the job
    :param arguments: further arguments of ``Asset``, such as `name` (by default the URI), `watchers` or `extra`
    :raises ValueError: if the id is malformed
    """
    return Asset(uri=job_uri(job_id), **arguments)


def event_payload(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Return the payload of an asset event: the result of the last run, and those of all runs under ``runs``.

    :param runs: results of the runs, at least one
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
    Check a URI of this scheme, and normalize it to the form of :func:`job_uri`.

    :param uri: the URI
    :raises ValueError: if it is not the URI of a job
    """
    match = _PATH.fullmatch(uri.path)
    if match is None or uri.query or not re.fullmatch(_ORGANIZATION, uri.netloc):
        raise ValueError(
            f"The URI of a Control Hub job must have the form '{SCHEME}://<organization>/jobs/<uuid>', got "
            f"'{uri.geturl()}'."
        )
    return uri._replace(path=f"/jobs/{match[1].lower()}")


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Any:
    """
    Return the OpenLineage dataset of a job, for tasks with the asset as an inlet or outlet.

    :param asset: the asset of a job
    :param lineage_context: not used
    """
    # Heavy, and used only with OpenLineage.
    from airflow.providers.common.compat.openlineage.facet import Dataset

    uri = urlsplit(asset.uri)
    return Dataset(namespace=f"{uri.scheme}://{uri.netloc}", name=uri.path.lstrip("/"))
