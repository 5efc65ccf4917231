"""Filters, pages and sort orders of job lists."""

from __future__ import annotations

import pytest

from tests.unit.fakes.sandbox_app import JR


def test_filters_select_jobs(shared_hub):
    org = shared_hub.backend.organization
    assert shared_hub.names(jobSearchText="Quick check", jobSearchOperation="EQUALS") == ["Quick check"]
    assert shared_hub.names(jobSearchText="Quick", jobSearchOperation="EQUALS") == []
    assert shared_hub.names(jobSearchText="Quick", jobSearchOperation="STARTS_WITH") == ["Quick check"]
    assert shared_hub.names(filterText="stock") == ["Stock levels", "Stock levels"]
    assert shared_hub.names(jobTag=f"nightly/orders:{org}") == ["Orders to warehouse"]
    assert shared_hub.names(jobTag="nightly/orders") == []
    assert shared_hub.names(jobLabel="field") == ["Legacy feed", "Sensors archive"]
    assert shared_hub.names(jobStatus="ACTIVE") == [
        "Truck positions north",
        "Truck positions south",
        "Web logs to lake",
    ]
    assert shared_hub.names(jobStatusColor="RED") == ["Customers nightly", "Ledger export"]
    assert shared_hub.names(jobTemplate="True") == ["Regional orders"]
    assert "Regional orders" not in shared_hub.names(jobTemplate="False")
    assert shared_hub.names(templateJobId=shared_hub.id("Regional orders")) == ["Regional orders - 1"]
    assert shared_hub.names(removed="true") == []
    assert shared_hub.names(executorType="TRANSFORMER") == []
    assert shared_hub.names(f"{JR}/jobs/byStatus", jobStatus="INACTIVE_ERROR") == ["Ledger export"]
    assert "Orders to warehouse" in shared_hub.names(f"{JR}/jobs/byStatus")
    assert shared_hub.names(f"{JR}/metrics/problematicJobs") == ["Customers nightly", "Ledger export"]


def test_empty_and_unknown_parameters_are_ignored(shared_hub):
    all_names = shared_hub.names()
    assert (
        shared_hub.names(jobSearchText="", jobStatus="", len="", whatever="x", project="p", removed="False")
        == all_names
    )


@pytest.mark.parametrize(
    "query", [{"len": "x"}, {"offset": "-1"}, {"jobTemplate": "maybe"}, {"orderBy": "SIZE"}, {"jobStatus": "DONE"}]
)
def test_invalid_query_returns_400(shared_hub, query):
    response = shared_hub.http.get(f"{JR}/jobs", params=query)
    assert response.status_code == 400
    assert next(iter(query)) in response.json()["ISSUES"][0]["message"]


def test_pages_cover_all_jobs(shared_hub):
    total = len(shared_hub.backend.jobs)
    first = shared_hub.get(f"{JR}/jobs", offset=0, len=5, withWrapper="True")
    assert (first["totalCount"], first["offset"], first["len"], len(first["data"])) == (total, 0, 5, 5)
    assert shared_hub.get(f"{JR}/jobs", offset=total, len=5, withWrapper="True")["data"] == []
    assert shared_hub.get(f"{JR}/sdcs", offset=250, len=250, withWrapper="True")["data"] == []
    pages = [shared_hub.names(offset=start, len=5) for start in range(0, total, 5)]
    assert [name for names in pages for name in names] == shared_hub.names()


def test_jobs_are_sorted_by_name(shared_hub):
    names = shared_hub.names(orderBy="NAME", order="ASC")
    assert names == sorted(names)
    assert shared_hub.names(orderBy="NAME", order="DESC") == sorted(names, reverse=True)


def test_reading_jobs_by_ids_omits_unknown_ids(shared_hub):
    ids = [shared_hub.id("Quick check"), "no:no", shared_hub.id("Legacy feed")]
    bodies = shared_hub.http.post(f"{JR}/jobs", json=ids).json()
    assert [body["name"] for body in bodies] == ["Quick check", "Legacy feed"]
    assert shared_hub.http.post(f"{JR}/jobs", json={"a": 1}).status_code == 400
    assert shared_hub.http.post(f"{JR}/jobs", content=b"{").status_code == 400
