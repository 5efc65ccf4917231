"""Seed files: the one shipped, and what is said about wrong ones."""

from __future__ import annotations

import copy
import json

import pytest
import yaml

from airflow_provider_streamsets.sandbox.seed.document import SeedError, parse_duration
from airflow_provider_streamsets.sandbox.seed.loader import DEFAULT_SEED, load_seed, parse_seed

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
    place = document
    for part in parents:
        place = place[part]
    place[last] = value
    return document


def test_the_shipped_seed_holds_what_demos_and_tests_rely_on():
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


def test_ids_are_the_same_every_time():
    assert load_seed() == load_seed()
    assert len({job.id for job in load_seed().jobs}) == len(load_seed().jobs)


def test_a_seed_can_be_json_too(tmp_path):
    file = tmp_path / "own.json"
    file.write_text(json.dumps(MINIMAL), encoding="utf-8")
    assert [job.name for job in load_seed(file).jobs] == ["J"]
    assert parse_seed(yaml.safe_load(DEFAULT_SEED.read_text(encoding="utf-8"))) == load_seed()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("jobs", None, "seed: lacks 'jobs'"),
        ("jobs", {}, "seed: jobs must be a list"),
        ("jobs.0.pipeline", "Q", "jobs[0].pipeline names no pipeline"),
        ("jobs.0.colour", "red", "jobs[0] has the unknown key 'colour'"),
        ("jobs.0.version", 2, "jobs[0].version must be a version of 'P', which has 1"),
        ("jobs.0.created", "yesterday", "jobs[0].created must be a duration"),
        ("jobs.0.needs_ack", "yes", "jobs[0].needs_ack must be true or false"),
        ("jobs.0.from_template", "T", "jobs[0].from_template names no template"),
        ("jobs.0.parameters", {"A": [1]}, "jobs[0].parameters must be a flat mapping"),
        ("jobs.0.past", [{"started": "1h", "stopped": "2h"}], "jobs[0].past[0].stopped must not lie before"),
        ("jobs.0.past", [{"started": "1h"}, {"started": "2h"}], "jobs[0].past must be in order"),
        ("jobs.0.instances", 0, "jobs[0].instances must be a whole number, at least 1"),
        ("pipelines.0.versions", [], "pipelines[0].versions must not be empty"),
        ("pipelines.0.behaviour.rate", 0, "pipelines[0].behaviour.rate must be a number greater than 0"),
        ("pipelines.0.behaviour.kind", "magic", "pipelines[0].behaviour.kind must be batch or streaming"),
        ("pipelines.0.behaviour.kind", "streaming", "pipelines[0].behaviour is streaming"),
        ("pipelines.0.behaviour.error_share", 2, "pipelines[0].behaviour.error_share must not be greater than 1"),
        ("pipelines.0.behaviour.records", "many", "pipelines[0].behaviour.records must be a whole number"),
        ("engines.0.name", "", "engines[0].name must not be empty"),
        ("engines.0.labels", "all", "engines[0].labels must be a list"),
        ("organization.name", None, "organization lacks 'name'"),
    ],
)  # fmt: skip
def test_a_wrong_seed_is_refused_with_the_place(path, value, said):
    with pytest.raises(SeedError) as caught:
        parse_seed(changed(path, value))
    assert said in str(caught.value)


def test_two_jobs_of_one_name_need_keys():
    twice = [{"name": "J", "pipeline": "P"}, {"name": "J", "pipeline": "P"}]
    with pytest.raises(SeedError, match="must differ in 'key'"):
        parse_seed(changed("jobs", twice))
    twice[1]["key"] = "J, second"
    assert len(parse_seed(changed("jobs", twice)).jobs) == 2


@pytest.mark.parametrize(("content", "said"), [("a: [", "is no valid yaml"), ("- 1", "must be a mapping")])
def test_a_broken_file_is_refused_with_its_name(tmp_path, content, said):
    file = tmp_path / "own.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(SeedError, match=r"own\.yaml") as caught:
        load_seed(file)
    assert said in str(caught.value)
    with pytest.raises(SeedError, match="cannot be read"):
        load_seed(tmp_path / "none.yaml")


def test_durations():
    assert [parse_duration(text) for text in ("250ms", "1.5s", "2m", "26h", "3d")] == [
        250,
        1500,
        120_000,
        93_600_000,
        259_200_000,
    ]
    for wrong in ("", "5", "-1s", "1w"):
        with pytest.raises(ValueError, match=r".*"):
            parse_duration(wrong)
