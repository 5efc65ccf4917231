from __future__ import annotations

import json
import random

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubAmbiguousNameError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubUnexpectedResponseError,
    PipelineVersion,
)
from airflow_provider_streamsets.control_hub.models import PipelineDefinition
from tests.unit.fakes.api_payloads import (
    ORGANIZATION,
    PIPELINE_ID,
    PS,
    T0,
    UNKNOWN,
    commit_id,
    page_json,
    paths,
    payload,
    pipeline_json,
    query,
)

SEARCH = f"{PS}/saql/pipelines/search"
LIST = f"{PS}/pipelines"
LOG = f"{PS}/pipeline/{PIPELINE_ID}/log"
LATEST = f"{PS}/pipeline/{PIPELINE_ID}/latest"
TAGS = f"{PS}/pipeline/{PIPELINE_ID}/tags"


def commit_url(version):
    return f"{PS}/pipelineCommit/{commit_id(version)}"


def test_find_by_name_uses_search(http, client):
    http.get(SEARCH, json=page_json(pipeline_json(3)))
    pipeline = client.pipelines.find_by_name("Orders")
    assert (pipeline.pipeline_id, pipeline.name, pipeline.version) == (PIPELINE_ID, "Orders", "3")
    assert query(http.last_request) == {
        "search": 'name=="Orders"',
        "organization": ORGANIZATION,
        "orgId": ORGANIZATION,
        "offset": "0",
        "len": "250",
    }


def test_similar_names_are_ignored(http, client):
    """A search compares without regard to case, and a star at the ends stands for anything."""
    others = ["orders", "Orders*", "My Orders", "Orders "]
    http.get(
        SEARCH,
        json=page_json(
            *(pipeline_json(1, name=name, pipelineId=f"{n}:o", commitId=f"c{n}:o") for n, name in enumerate(others)),
            pipeline_json(3),
        ),
    )
    assert client.pipelines.find_by_name("Orders").pipeline_id == PIPELINE_ID
    assert client.pipelines.find_by_name("Orders*").pipeline_id == "1:o"


def test_find_by_name_reads_all_pages(http, client):
    others = [pipeline_json(1, name="orders", pipelineId=f"{n}:o", commitId=f"c{n}:o") for n in range(300)]
    everything = [*others, pipeline_json(3)]

    def answer(request, _):
        offset = int(query(request)["offset"])
        return page_json(*everything[offset : offset + 250], total=301)

    http.get(SEARCH, json=answer)
    assert client.pipelines.find_by_name("Orders").pipeline_id == PIPELINE_ID
    assert http.call_count == 2


@pytest.mark.parametrize(
    ("name", "search"),
    [
        ("Größe & Co: 100% (#1), a or b", 'name=="Größe & Co: 100% (#1), a or b"'),
        ("The 'new' one", "name==\"The 'new' one\""),
        ('The "new" one', "name=='The \"new\" one'"),
    ],
)
def test_name_with_quotes_is_escaped(http, client, name, search):
    http.get(SEARCH, json=page_json(pipeline_json(3, name=name)))
    assert client.pipelines.find_by_name(name).name == name
    assert query(http.last_request)["search"] == search


@pytest.mark.parametrize("name", ['It\'s "new"', "a\\b"])
def test_unsearchable_name_uses_list_filter(http, client, name):
    http.get(LIST, json=page_json(pipeline_json(2, name=f"{name} 2", commitId="x:o"), pipeline_json(3, name=name)))
    assert client.pipelines.find_by_name(name).version == "3"
    assert query(http.last_request) == {"filterText": name, "onlyPublished": "false", "offset": "0", "len": "250"}


def test_several_commits_are_one_pipeline(http, client):
    http.get(SEARCH, json=page_json(pipeline_json(2), pipeline_json(3)))
    assert client.pipelines.find_by_name("Orders").pipeline_id == PIPELINE_ID


@pytest.mark.parametrize(("count", "shown"), [(2, r"p-0:o, p-1:o\)"), (9, r"p-4:o, and 4 more\)")])
def test_duplicate_name_is_ambiguous(http, client, count, shown):
    http.get(SEARCH, json=page_json(*(pipeline_json(n, pipelineId=f"p-{n}:o") for n in range(count))))
    with pytest.raises(ControlHubAmbiguousNameError, match=f"{count} pipelines have this name.*{shown}.*Use the id"):
        client.pipelines.find_by_name("Orders")


@pytest.mark.parametrize("answer", [{"json": page_json()}, {"json": page_json(pipeline_json(name="X"))}])
def test_unknown_name_is_not_found(http, client, answer):
    http.get(SEARCH, **answer)
    with pytest.raises(ControlHubNotFoundError, match=r"'Orders': no pipeline has this name.*match exactly"):
        client.pipelines.find_by_name("Orders")


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_versions_are_sorted_newest_first(http, client, order, wrapped):
    entries = [pipeline_json(n) for n in range(1, 12)]
    if order == "descending":
        entries.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(entries)
    http.get(LOG, json=page_json(*entries) if wrapped else entries)
    versions = client.pipelines.versions(PIPELINE_ID)
    assert [version.version for version in versions] == [str(n) for n in range(11, 0, -1)]
    assert query(http.last_request) == {
        "offset": "0",
        "len": "-1",
        "order": "DESC",
        "onlyPublished": "true",
        "withWrapper": "false",
    }


def test_dotted_versions_are_sorted(http, client):
    http.get(LOG, json=[pipeline_json(version) for version in ("1.10", "2", "1", "1.9", "10")])
    assert [v.version for v in client.pipelines.versions(PIPELINE_ID)] == ["10", "2", "1.10", "1.9", "1"]


def test_later_commit_of_same_version_is_newer(http, client):
    http.get(LOG, json=[pipeline_json(1, commitId="a:o", commitTime=T0 + 1000), pipeline_json(1, commitId="b:o")])
    assert [v.commit_id for v in client.pipelines.versions(PIPELINE_ID)] == ["a:o", "b:o"]


def test_drafts_are_no_versions(http, client):
    http.get(LOG, json=[pipeline_json(3, draft=True), pipeline_json(2), pipeline_json("3-DRAFT")])
    assert [version.version for version in client.pipelines.versions(PIPELINE_ID)] == ["2"]


@pytest.mark.parametrize("answer", [{"json": []}, {"json": {}}])
def test_pipeline_may_have_no_versions(http, client, answer):
    http.get(LOG, **answer)
    assert client.pipelines.versions(PIPELINE_ID) == []


def test_commit_is_parsed(http, client):
    http.get(commit_url(3), json=pipeline_json(3))
    version = client.pipelines.commit(commit_id(3))
    assert version.to_dict() == {
        "pipeline_id": PIPELINE_ID,
        "name": "Orders",
        "commit_id": commit_id(3),
        "version": "3",
        "is_draft": False,
        "rules_id": f"rules-3:{ORGANIZATION}",
        "executor_type": "COLLECTOR",
        "message": "Message of version 3",
        "committer": pipeline_json()["committer"],
        "time": version.time.to_iso8601_string(),
    }
    assert version.label == f"'Orders' version 3 ({PIPELINE_ID})"
    # The libraries are large.
    assert query(http.last_request) == {"includeLibraryDefinitions": "false"}


@pytest.mark.parametrize("answer", [{"content": b""}, {"json": None}, {"json": {}}, UNKNOWN])
def test_unknown_commit_is_not_found(http, client, answer):
    http.get(commit_url(3), **answer)
    with pytest.raises(ControlHubNotFoundError, match=f"Cannot read pipeline commit {commit_id(3)}"):
        client.pipelines.commit(commit_id(3))


def test_definition_has_parameters_and_stages(http, client):
    stages = [
        {"stageName": "origin", "configuration": [{"name": "conf.topicList", "value": ["orders"]}]},
        {"stageName": "destination", "configuration": None},
    ]
    constants = {"name": "constants", "value": [{"key": "DAY", "value": "1"}]}
    definition = json.dumps({"configuration": [constants], "stages": stages})
    http.get(commit_url(3), json=pipeline_json(3, pipelineDefinition=definition))
    found = client.pipelines.definition(commit_id(3))
    assert found.parameters == {"DAY": "1"}
    assert [(stage.type_name, stage.configuration) for stage in found.stages] == [
        ("origin", {"conf.topicList": ["orders"]}),
        ("destination", {}),
    ]


@pytest.mark.parametrize("definition", [None, "", "{}"])
def test_definition_may_be_empty(http, client, definition):
    http.get(commit_url(3), json=pipeline_json(3, pipelineDefinition=definition))
    assert client.pipelines.definition(commit_id(3)) == PipelineDefinition({}, ())


def test_latest_published_version_is_read(http, client):
    http.get(LATEST, json=pipeline_json(7))
    assert client.pipelines.latest(PIPELINE_ID).version == "7"
    assert query(http.last_request) == {"onlyPublished": "true"}


@pytest.mark.parametrize("answer", [{"json": pipeline_json(commitId=None)}, {"json": {}}])
def test_unpublished_pipeline_is_not_found(http, client, answer):
    http.get(LATEST, **answer)
    with pytest.raises(ControlHubNotFoundError, match="does not exist or has no published version"):
        client.pipelines.latest(PIPELINE_ID)


def test_tags_map_to_commits(http, client):
    http.get(TAGS, json=[{"id": "1", "name": "released", "commitId": commit_id(2), "message": "x"}])
    assert client.pipelines.tags(PIPELINE_ID) == {"released": commit_id(2)}


def test_pipeline_may_have_no_tags(http, client):
    http.get(TAGS, json=[])
    assert client.pipelines.tags(PIPELINE_ID) == {}


def test_version_defaults_to_latest(http, client):
    http.get(LATEST, json=pipeline_json(7))
    assert client.pipelines.version(PIPELINE_ID).version == "7"
    assert http.call_count == 1


@pytest.mark.parametrize("wish", ["2", "v2", 2, " 2 "])
def test_version_is_selected_by_number(http, client, wish):
    http.get(LOG, json=[pipeline_json(n) for n in (1, 2, 12, 3)])
    assert client.pipelines.version(PIPELINE_ID, version=wish).commit_id == commit_id(2)
    assert http.call_count == 1


def test_version_is_selected_by_commit(http, client):
    http.get(LOG, json=[pipeline_json(n) for n in (1, 2, 3)])
    assert client.pipelines.version(PIPELINE_ID, commit_id=f" {commit_id(2)} ").version == "2"


def test_version_is_selected_by_tag(http, client):
    http.get(LOG, json=[pipeline_json(n) for n in (1, 2, 3)])
    http.get(TAGS, json=[{"name": "released", "commitId": commit_id(2)}, {"name": "old", "commitId": commit_id(1)}])
    assert client.pipelines.version(PIPELINE_ID, tag="released").version == "2"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (
            {"version": 5},
            rf"no published version 5\. Published versions: 3 \(commit {commit_id(3)}\), 2 \(commit .*\)\.$",
        ),
        ({"version": "4"}, "no published version 4"),
        ({"commit_id": "other:o"}, "no published commit other:o"),
        ({"commit_id": commit_id("4")}, "no published commit"),
        ({"tag": "latest"}, r"no published version tagged 'latest'.*Tags: draft, old, released\.$"),
        ({"tag": "draft"}, "no published version tagged 'draft'"),
        ({"tag": "Released"}, "no published version tagged 'Released'"),
    ],
)
def test_unknown_version_error_lists_available_ones(http, client, wish, message):
    http.get(LOG, json=[pipeline_json(2), pipeline_json(3), pipeline_json(4, draft=True)])
    tags = {"released": commit_id(2), "old": commit_id(1), "draft": commit_id(4)}
    http.get(TAGS, json=[{"name": name, "commitId": commit} for name, commit in tags.items()])
    with pytest.raises(ControlHubNotFoundError, match=message):
        client.pipelines.version(PIPELINE_ID, **wish)


def test_long_version_list_is_truncated(http, client):
    http.get(LOG, json=[pipeline_json(n) for n in range(1, 31)])
    with pytest.raises(ControlHubNotFoundError, match=r"versions: 30 .*, 11 .*, and older ones") as caught:
        client.pipelines.version(PIPELINE_ID, version=99)
    assert " 10 (" not in str(caught.value)


def test_pipeline_without_versions_and_tags_is_reported(http, client):
    http.get(LOG, json=[])
    http.get(TAGS, json=[])
    with pytest.raises(ControlHubNotFoundError, match=r"versions: none\. Tags: none\."):
        client.pipelines.version(PIPELINE_ID, tag="released")


@pytest.mark.parametrize(
    "wish", [{"version": 1, "tag": "x"}, {"version": 1, "commit_id": "x"}, {"tag": "x", "commit_id": "x"}]
)
def test_several_selectors_are_rejected(http, client, wish):
    with pytest.raises(ControlHubConfigurationError, match="Only one of the version number, the commit id and a tag"):
        client.pipelines.version(PIPELINE_ID, **wish)
    assert http.call_count == 0


@pytest.mark.parametrize("rules", [None, {}, {"id": None}])
def test_missing_rules_are_loaded_with_commit(http, client, rules):
    http.get(LOG, json=[pipeline_json(2, currentRules=rules), pipeline_json(1)])
    http.get(commit_url(2), json=pipeline_json(2))
    assert client.pipelines.version(PIPELINE_ID, version=2).rules_id == f"rules-2:{ORGANIZATION}"
    assert len(paths(http)) == 2


def test_version_may_have_no_rules(http, client):
    http.get(LATEST, json=pipeline_json(2, currentRules=None))
    http.get(commit_url(2), json=pipeline_json(2, currentRules=None))
    assert client.pipelines.version(PIPELINE_ID).rules_id is None


@pytest.mark.parametrize(
    ("fields", "is_draft"),
    [
        ({}, False),
        ({"draft": True}, True),
        ({"version": "3-DRAFT"}, True),
        ({"version": "3.1-draft"}, True),
        ({"draft": None}, False),
    ],
)
def test_draft_flag_or_suffix_marks_draft(fields, is_draft):
    assert PipelineVersion.from_wire(pipeline_json(**fields)).is_draft is is_draft


def test_example_pipelines_are_parsed(http, client):
    commits = payload("pipeline-commits")
    http.get(LOG, json=commits)
    http.get(commit_url(3), json=payload("pipeline"))
    versions = client.pipelines.versions(PIPELINE_ID)
    assert [v.version for v in versions] == sorted((c["version"] for c in commits), reverse=True)
    assert client.pipelines.commit(commit_id(3)).rules_id == payload("pipeline")["currentRules"]["id"]


@pytest.mark.parametrize(
    ("url", "ask", "message"),
    [
        (SEARCH, lambda client: client.pipelines.find_by_name("Orders"), "find the pipeline named 'Orders'"),
        (LOG, lambda client: client.pipelines.version(PIPELINE_ID, version=1), "read the versions of pipeline"),
        (LATEST, lambda client: client.pipelines.version(PIPELINE_ID), "read the latest version of pipeline"),
        (TAGS, lambda client: client.pipelines.tags(PIPELINE_ID), "read the version tags of pipeline"),
        (commit_url(1), lambda client: client.pipelines.commit(commit_id(1)), "read pipeline commit"),
    ],
)
@pytest.mark.parametrize("status", [401, 403, 400, 503])
def test_failed_request_is_not_missing_pipeline(http, kill_client, url, ask, message, status):
    http.get(url, status_code=status)
    with pytest.raises(ControlHubError, match=message) as caught:
        ask(kill_client)
    assert not isinstance(caught.value, ControlHubNotFoundError)


@pytest.mark.parametrize("answer", ["x", 5, [5], [{"name": "x"}], {"data": "x"}])
def test_invalid_versions_raise(http, client, answer):
    http.get(LOG, json=answer)
    with pytest.raises(ControlHubUnexpectedResponseError):
        client.pipelines.versions(PIPELINE_ID)


def test_pipelines_are_searched_in_project(http, make_client):
    http.get(SEARCH, json=page_json(pipeline_json()))
    make_client(project_id="p1").pipelines.find_by_name("Orders")
    assert query(http.last_request)["project"] == "p1"
