"""Loading and validation of seed files."""

from __future__ import annotations

import copy
import json

import pytest
import yaml

from airflow_provider_streamsets.sandbox.seed.document import SeedError
from airflow_provider_streamsets.sandbox.seed.models import DEFAULT_SEED, load_seed, parse_seed

MINIMAL = {
    "organization": {"name": "Org", "user": {"name": "Me", "email": "me@example.com"}},
    "engines": [{"name": "sdc", "url": "http://sdc", "labels": ["all"]}],
    "pipelines": [
        {
            "name": "P",
            "versions": [{"message": "first", "committed": "3d"}],
            "behaviour": {"kind": "batch", "records": 10},
        }
    ],
    "jobs": [{"name": "J", "pipeline": "P"}],
}


def changed(path: str, value: object) -> dict:
    document = copy.deepcopy(MINIMAL)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node = document
    for part in parents:
        node = node[part]
    node[last] = value
    return document


def test_default_seed_has_required_jobs():
    seed = load_seed()
    names = [job.name for job in seed.jobs]
    assert {
        "Orders to warehouse", "Clickstream to lake", "Customers nightly", "Invoices import",
        "Payments reconciliation", "Sensors archive", "Legacy feed", "Inventory snapshot", "Regional orders",
        "Quick check",
    } <= set(names)  # fmt: skip
    assert names.count("Stock levels") == 2
    assert len(seed.pipelines) >= 12
    assert sum(len(pipeline.versions) > 1 for pipeline in seed.pipelines) >= 8
    assert len({engine.labels for engine in seed.engines}) >= 2


def test_ids_are_stable_and_unique():
    assert load_seed() == load_seed()
    assert len({job.id for job in load_seed().jobs}) == len(load_seed().jobs)


def test_json_seed_is_loaded(tmp_path):
    file = tmp_path / "custom.json"
    file.write_text(json.dumps(MINIMAL), encoding="utf-8")
    assert [job.name for job in load_seed(file).jobs] == ["J"]
    assert parse_seed(yaml.safe_load(DEFAULT_SEED.read_text(encoding="utf-8"))) == load_seed()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("jobs", None, "seed: has no 'jobs'"),
        ("jobs", {}, "seed: jobs must be a list"),
        ("jobs.0.pipeline", "Q", "jobs[0].pipeline must be the key or name of a pipeline"),
        ("jobs.0.colour", "red", "jobs[0] has the unknown key 'colour'"),
        ("jobs.0.version", 2, "jobs[0].version must be one of the 1 versions of 'P'"),
        ("jobs.0.created", "yesterday", "jobs[0].created must be a duration"),
        ("jobs.0.needs_ack", "yes", "jobs[0].needs_ack must be true or false"),
        ("jobs.0.from_template", "T", "jobs[0].from_template must be the key or name of an earlier template"),
        ("jobs.0.parameters", {"A": [1]}, "jobs[0].parameters must map names to scalars"),
        ("jobs.0.past", [{"started": "1h", "stopped": "2h"}], "jobs[0].past[0].stopped must not be earlier"),
        ("jobs.0.past", [{"started": "1h"}, {"started": "2h"}], "jobs[0].past must be in chronological order"),
        ("jobs.0.instances", 0, "jobs[0].instances must be an integer of at least 1"),
        ("jobs.0.max_retries", -2, "jobs[0].max_retries must be an integer of at least -1"),
        ("pipelines.0.versions", [], "pipelines[0].versions must not be empty"),
        ("pipelines.0.versions.0.version", "1-DRAFT", "versions[0].version must be an integer of at least 1"),
        ("pipelines.0.behaviour.rate", 0, "pipelines[0].behaviour.rate must be a number greater than 0"),
        ("pipelines.0.behaviour.kind", "magic", "pipelines[0].behaviour.kind must be batch or streaming"),
        ("pipelines.0.behaviour.kind", "streaming", "pipelines[0].behaviour must not have 'records'"),
        ("pipelines.0.behaviour.error_share", 2, "pipelines[0].behaviour.error_share must not be greater than 1"),
        ("pipelines.0.behaviour.records", "many", "pipelines[0].behaviour.records must be an integer"),
        ("engines.0.name", "", "engines[0].name must not be empty"),
        ("engines.0.labels", "all", "engines[0].labels must be a list"),
        ("organization.name", None, "organization has no 'name'"),
    ],
)  # fmt: skip
def test_invalid_seed_raises_error_with_path(path, value, message):
    with pytest.raises(SeedError) as caught:
        parse_seed(changed(path, value))
    assert message in str(caught.value)


def test_jobs_with_same_name_need_keys():
    jobs = [{"name": "J", "pipeline": "P"}, {"name": "J", "pipeline": "P"}]
    with pytest.raises(SeedError, match="a different 'key'"):
        parse_seed(changed("jobs", jobs))
    jobs[1]["key"] = "J, second"
    assert len(parse_seed(changed("jobs", jobs)).jobs) == 2


def test_versions_can_have_numbers():
    versions = [{"message": "m", "committed": "1d", **number} for number in ({"version": 3}, {}, {"version": "7"})]
    document = changed("pipelines.0.versions", versions)
    document["jobs"][0].update(version=4, past=[{"started": "1h", "version": 3}])
    seed = parse_seed(document)
    assert [version.version for version in seed.pipelines[0].versions] == ["3", "4", "7"]
    assert seed.jobs[0].version.version == "4"
    assert seed.jobs[0].past[0].version == "3"
    versions.reverse()
    with pytest.raises(SeedError, match=r"pipelines\[0\] must have its versions in ascending order"):
        parse_seed(changed("pipelines.0.versions", versions))


def test_templates_with_same_name_have_keys():
    template = {"name": "T", "pipeline": "P", "template": True}
    jobs = [template, {**template, "key": "T2"}, {"name": "J", "pipeline": "P", "from_template": "T2"}]
    seed = parse_seed(changed("jobs", jobs))
    assert seed.jobs[2].template_id == seed.jobs[1].id


@pytest.mark.parametrize(("content", "message"), [("a: [", "is not valid yaml"), ("- 1", "must be a mapping")])
def test_unreadable_file_raises_error_with_name(tmp_path, content, message):
    file = tmp_path / "custom.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(SeedError, match=r"custom\.yaml") as caught:
        load_seed(file)
    assert message in str(caught.value)
    with pytest.raises(SeedError, match="cannot be read"):
        load_seed(tmp_path / "none.yaml")
