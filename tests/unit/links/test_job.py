from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_streamsets.compat import HAS_PAGES
from airflow_provider_streamsets.links.job import LINKS, link_xcoms
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from tests.unit.fakes.single_job_hub import HUB, JOB_ID, SingleJobHub, succeeded

URL = f"{HUB}/sch/jobs/detail/{JOB_ID}"


@pytest.mark.skipif(not HAS_PAGES, reason="pages in the user interface need Airflow 3.1.1")
@pytest.mark.parametrize(
    ("base_url", "prefix"),
    [
        ("https://airflow.example.com/", "https://airflow.example.com"),
        ("https://example.com/team/airflow", "https://example.com/team/airflow"),
        ("", ""),
    ],
)
def test_run_link_identifies_task(monkeypatch, context, base_url, prefix):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    ti = context["ti"]
    ti.run_id, ti.map_index = "manual__2026-11-30T00:00:00+00:00", 3
    url = link_xcoms(ti, "conn", URL)["streamsets_run_link"]
    assert url.partition("?")[0] == f"{prefix}/streamsets/run"
    # No "+" for a space: the page does not decode it.
    assert "+" not in url
    assert parse_qs(urlsplit(url).query) == {
        "dag_id": ["dag"],
        "run_id": ["manual__2026-11-30T00:00:00+00:00"],
        "task_id": ["task"],
        "map_index": ["3"],
    }


@pytest.mark.skipif(not HAS_PAGES, reason="pages in the user interface need Airflow 3.1.1")
def test_task_pushes_what_pages_need_before_it_waits(http, connection, context):
    SingleJobHub(http, latest=succeeded(3))
    task = ControlHubRunJobOperator(task_id="task", job_id=JOB_ID, wait_for_completion=False)
    task.execute(context)
    assert context["ti"].page_xcoms["streamsets_conn_id"] == "streamsets_default"
    assert "/streamsets/run?" in context["ti"].page_xcoms["streamsets_run_link"]


def test_pages_are_linked_only_where_they_exist(context):
    assert [link.name for link in LINKS] == ["StreamSets job", *(["StreamSets run"] if HAS_PAGES else [])]
    assert set(link_xcoms(context["ti"], "conn", URL)) == {
        "streamsets_job_link",
        "streamsets_conn_id",
        *(["streamsets_run_link"] if HAS_PAGES else []),
    }
