"""The search language SAQL."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_streamsets.sandbox.api.saql import parse, sort_key
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError
from tests.unit.fakes.sandbox_app import JR, T0, Hub

SEARCH = f"{JR}/saql/jobs/search"
ORDERS = "Orders to warehouse"
HOUR = 3_600_000

TYPES = {"name": "string", "tag": "string", "size": "number", "made": "time", "open": "boolean", "note": "string"}
PROPERTIES = {"name": "Orders to Warehouse", "tag": ["a/b", "C"], "size": 10, "made": T0, "open": True, "note": None}


@pytest.mark.parametrize(
    "search",
    [
        'name=="orders to warehouse"', "name=='Orders to Warehouse'", "name==orders*", "name==*WAREHOUSE", "name==*to*",
        'name=="*s to w*"', "name==*", "name!=orders", "name=in=(x,'orders to warehouse')", "name=out=(x,y)",
        "tag==c", "tag==a/*", "tag!=d", "tag=in=(x, C)", "tag=out=(x)", "name>n", "name<p", "name>=m", "name<=zz",
        "size==10", "size==10.0", "size==1*", "size!=9", "size=gt=9", "size>9", "size=ge=10", "size>=10", "size=lt=11",
        "size<11", "size=le=10", "size<=10", "size=in=(9,10)", "size=GT=9", f"made=={T0}", "made>2026-01-01",
        'made<"2026-01-01T10:50:01+01:00"', "made<=2026-01-01T09:50:00Z", "open==true", "open!=False", "open==TRUE",
        "note=null=true", "name=null=false", "note!=x", "note=out=(x)",
        "name==x or size==10", "name==x,size==10", "size==10 and open==true", "size==10;open==true",
        "size==10 AND open==true",
        "name==x and name==y or size==10", "size==10 or name==x and name==y", "(size==10 or name==x) and open==true",
        "((size==10))", "size==10,name==x;name==y",
        " size == 10 ",
    ],
)  # fmt: skip
def test_search_matches(search):
    assert parse(search, TYPES)(PROPERTIES)


@pytest.mark.parametrize(
    "search",
    [
        "name==orders", "name==*orders", "name==warehouse*", "name!=*to*", "name=in=(a,b)", "name=out=(*s*)", "tag==a",
        "tag!=c", "tag=out=(C)", "name<o", "size==9", "size>10", "size<10", "size=gt=10", "made>2027-01-01",
        "open==false", "note=null=false", "tag=null=true", "note==x", "note>a", "note==*", "note=in=(x,y)",
        "size==10 and name==x", "name==x or name==y", "(size==10 or name==x) and open==false",
        "name==x and (name==y or size==10)", "name==x;name==y,size==9",
    ],
)  # fmt: skip
def test_search_does_not_match(search):
    assert not parse(search, TYPES)(PROPERTIES)


@pytest.mark.parametrize(
    "search",
    [
        "color==x", "name", "name==", "==x", 'name=="x', "name==a b", "(name==a", "name==a)", "name==a and",
        "or name==a",
        "name=like=a", "name=a", "name=in=a", "name=in=()", "name=in=(a", 'name=in="("', "name=in=(a;b)", "size==many",
        "size>1*", "made>soon", "made>99999-01-01", "open==maybe", "open>true", "note=null=perhaps", "!",
        "name==a;;size==1",
        "(" * 60 + "size==10" + ")" * 60, "(" * 5000,
    ],
)  # fmt: skip
def test_invalid_search_raises_error_with_text(search):
    with pytest.raises(ApiError) as caught:
        parse(search, TYPES)
    assert caught.value.status == 400
    assert search in caught.value.message


def test_long_search_is_accepted():
    assert parse(" or ".join(["name==x"] * 2000 + ["size==10"]), TYPES)(PROPERTIES)


def test_missing_value_sorts_first():
    assert sorted([3, None, 20, 1], key=sort_key) == [None, 1, 3, 20]
    assert sorted(["b", None, "A", "a2"], key=sort_key) == [None, "A", "a2", "b"]


def found(hub: Hub, search: str, path: str = SEARCH, **query: Any) -> list[str]:
    return hub.names(path, search=search, len=-1, **query)


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ('name=="stock*"', ["Stock levels", "Stock levels"]),
        ("status=in=(ACTIVE,INACTIVE_ERROR) and tag!=fleet", ["Ledger export", "Web logs to lake"]),
        ("color==red and (tag==finance or tag==x); status!=ACTIVE", ["Ledger export"]),
        ("status=null=true and engine_label==dev and description=null=false", ["Stock levels"]),
        ("failover==true and engine_label==field", ["Legacy feed", "Sensors archive"]),
        ("attached_to_template==true", ["Regional orders - 1"]),
        ("pipeline_status==RUNNING and pipeline_name==truck*", ["Truck positions north", "Truck positions south"]),
        ("pipeline_version>=3", [ORDERS]),
        ("instances!=1 or engine_type!=COLLECTOR", []),
        ("description==*acknowledgement", ["Ledger export"]),
        (f"created_on>{T0}", []),
    ],
)
def test_jobs_are_found_by_properties(shared_hub, search, names):
    assert found(shared_hub, search) == names


def test_jobs_are_found_by_id_and_creator(shared_hub):
    assert found(shared_hub, f'id=="{shared_hub.id("Quick check")}"') == ["Quick check"]
    all_names = found(
        shared_hub, f'created_by=="{shared_hub.backend.user}" and modified_by=="{shared_hub.backend.user}"'
    )
    assert len(all_names) == len(found(shared_hub, "")) > 15


def test_templates_and_draft_runs_have_own_searches(shared_hub):
    assert found(shared_hub, "", f"{SEARCH}/templates") == ["Regional orders"]
    assert found(shared_hub, "archived==true", f"{SEARCH}/templates") == []
    assert found(shared_hub, "archived==false and tag==regional", f"{SEARCH}/templates") == ["Regional orders"]
    assert found(shared_hub, "name==x*", f"{SEARCH}/draftRuns") == []


def test_sort_direction_is_suffix_of_order_by(shared_hub):
    names = found(shared_hub, "")
    assert found(shared_hub, "", orderBy="name+") == found(shared_hub, "", orderBy="name ") == names
    assert found(shared_hub, "", orderBy="name-") == names[::-1]
    assert names == sorted(names, key=str.lower)


@pytest.mark.parametrize("path", ["", "/templates", "/draftRuns", "/{job}/runs"])
@pytest.mark.parametrize("query", [{"search": "name=="}, {"search": "nothing==1"}, {"orderBy": "size"}])
def test_invalid_search_request_returns_400(shared_hub, path, query):
    response = shared_hub.http.get(SEARCH + path.format(job=shared_hub.id(ORDERS)), params=query)
    assert response.status_code == 400
    assert next(iter(query.values())) in response.json()["ISSUES"][0]["message"]


def test_runs_are_searched_and_sorted(shared_hub):
    def runs(**query: Any) -> list[int]:
        body = shared_hub.get(f"{SEARCH}/{shared_hub.id(ORDERS)}/runs", len=-1, **query)
        return [run["runCount"] for run in body["data"]]

    assert runs(search="color==RED") == [2]
    assert runs(search="error_message==*RUN_ERROR*") == [2]
    assert runs(search="run_count>1 and input_record_count=gt=21000") == [3]
    assert runs(search=f"start_time<{T0 - 26 * HOUR}") == [1]
    assert runs(search="previous_id=null=true") == [1]
    assert runs(orderBy="run_count-") == [3, 2, 1]
    assert runs(orderBy="run_count+") == [1, 2, 3]
    assert runs(orderBy="input_record_count") == [2, 1, 3]


def test_pipelines_are_searched(shared_hub):
    path = "/pipelinestore/rest/v1/saql/pipelines/search"
    assert found(shared_hub, "label==lake and version<2", path) == ["Truck positions"]
    assert found(shared_hub, "draft==true", path) == []
