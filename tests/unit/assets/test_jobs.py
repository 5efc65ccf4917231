from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import Asset
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_streamsets.assets.jobs import SCHEME, create_asset, job_asset, job_uri, sanitize_uri
from airflow_provider_streamsets.get_provider_info import get_provider_info

UUID = "9aaf0c53-90d4-5fda-bc98-e94bcd501655"
JOB_ID = f"{UUID}:bab21f86-74cd-5019-8714-cad83794eb01"
URI = f"streamsets://bab21f86-74cd-5019-8714-cad83794eb01/jobs/{UUID}"


def test_job_uri_is_normalized():
    assert job_uri(JOB_ID) == job_uri(f" {JOB_ID.upper().replace('BAB21F86-74CD-5019-8714-CAD83794EB01', JOB_ID[37:])}")
    assert job_uri(JOB_ID) == URI


def test_job_asset_uses_job_uri():
    assert job_asset(JOB_ID).uri == Asset(uri=URI).uri == URI


def test_job_asset_accepts_further_arguments():
    assert job_asset(JOB_ID, extra={"team": "sales"}).extra == {"team": "sales"}
    assert create_asset(job_id=JOB_ID, extra={"team": "sales"}).uri == URI


@pytest.mark.parametrize("job_id", ["", UUID, f"{UUID}:", "orders", f"{UUID}:org/x", f"{UUID}:a b", "{{ x }}", None, 3])
def test_invalid_job_id_raises_with_expected_form(job_id):
    with pytest.raises(ValueError, match=r"'job_id' must have the form '<uuid>:<organization>'"):
        job_uri(job_id)


@pytest.mark.parametrize(
    "uri",
    [
        f"streamsets://org/jobs/{UUID.upper()}",
        f"streamsets://org/jobs/{UUID}/",
        f"streamsets://org/jobs/{UUID}",
    ],
)
def test_uri_variants_are_normalized(uri):
    assert sanitize_uri(urlsplit(uri)).geturl() == f"streamsets://org/jobs/{UUID}"


@pytest.mark.parametrize(
    "uri",
    [
        "streamsets://org",
        f"streamsets:///jobs/{UUID}",
        f"streamsets://org/pipelines/{UUID}",
        "streamsets://org/jobs/orders",
        f"streamsets://org/jobs/{UUID}/runs/3",
        f"streamsets://org/jobs/{UUID}?run=3",
        f"streamsets://me@org/jobs/{UUID}",
    ],
)
def test_invalid_job_uri_raises_with_expected_form(uri):
    with pytest.raises(ValueError, match="URI of a Control Hub job must have the form 'streamsets://<organization>"):
        sanitize_uri(urlsplit(uri))


@given(st.uuids(), st.from_regex(r"[A-Za-z0-9_.-]{1,40}", fullmatch=True))
def test_every_job_uri_is_already_normalized(uuid, organization):
    uri = job_uri(f"{uuid}:{organization}")
    assert sanitize_uri(urlsplit(uri)).geturl() == uri


def test_registered_scheme_functions_exist():
    (entry,) = get_provider_info()["asset-uris"]
    assert entry["schemes"] == [SCHEME]
    assert (entry["handler"], entry["factory"]) == (
        f"{sanitize_uri.__module__}.{sanitize_uri.__name__}",
        f"{create_asset.__module__}.{create_asset.__name__}",
    )


def test_airflow_rejects_asset_with_invalid_uri():
    pytest.importorskip("airflow.sdk", reason="Airflow 2 only warns")
    with pytest.raises(ValueError, match="URI of a Control Hub job must have the form"):
        Asset(uri="streamsets://org/orders")
