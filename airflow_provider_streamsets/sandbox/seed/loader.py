"""Reading a seed from a YAML or JSON file, with ids given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_streamsets.sandbox.seed.behaviour import read_behaviour
from airflow_provider_streamsets.sandbox.seed.document import Place, read_document
from airflow_provider_streamsets.sandbox.seed.models import (
    EngineSeed,
    JobSeed,
    OrganizationSeed,
    PastRunSeed,
    PipelineSeed,
    Seed,
    TagSeed,
    VersionSeed,
    make_id,
)

DEFAULT_SEED = Path(__file__).with_name("seed.yaml")


def load_seed(path: Path | None = None) -> Seed:
    """
    Read a seed file.

    :param path: a YAML or JSON file; the one shipped with the package if None.
    :raises SeedError: if it cannot be read or is wrong.
    """
    path = path or DEFAULT_SEED
    return parse_seed(read_document(path), source=path.name)


def parse_seed(document: Any, source: str = "seed") -> Seed:
    """
    Check a seed document.

    :param document: what the file holds.
    :param source: the name that error messages begin with.
    :raises SeedError: naming the first place that is wrong.
    """
    top = Place(document, f"{source}: ")
    top.only("organization", "engines", "pipelines", "jobs")
    organization = _organization(top.at("organization"))
    engines = tuple(_engine(place) for place in top.at("engines").items())
    _unique([engine.name for engine in engines], top.at("engines"))
    pipelines = tuple(_pipeline(place, organization.id) for place in top.at("pipelines").items())
    keys = [place.text("key", place.text("name")) for place in top.at("pipelines").items()]
    _unique(keys, top.at("pipelines"))
    by_key = dict(zip(keys, pipelines, strict=True))
    jobs: list[JobSeed] = []
    for place in top.at("jobs").items():
        jobs.append(_job(place, organization.id, by_key, jobs))
    if len({job.id for job in jobs}) < len(jobs):
        raise top.at("jobs").wrong("two jobs of the same name must differ in 'key'")
    return Seed(organization, engines, pipelines, tuple(jobs))


def _unique(names: list[str], place: Place) -> None:
    for name in names:
        if names.count(name) > 1:
            raise place.wrong(f"has the name '{name}' twice")


def _organization(place: Place) -> OrganizationSeed:
    place.only("name", "user")
    user = place.at("user")
    user.only("name", "email")
    name = place.text("name")
    organization_id = make_id("organization", name)
    email = user.text("email")
    return OrganizationSeed(
        id=organization_id,
        name=name,
        user_id=f"{make_id('user', email)}@{organization_id}",
        user_name=user.text("name"),
        user_email=email,
    )


def _engine(place: Place) -> EngineSeed:
    place.only("name", "url", "version", "labels", "reported_labels", "started")
    labels = place.texts("labels")
    return EngineSeed(
        id=make_id("engine", place.text("name")),
        name=place.text("name"),
        url=place.text("url"),
        version=place.text("version", "5.10.0"),
        labels=labels,
        reported_labels=place.texts("reported_labels") or labels,
        started_ago=place.duration("started", "5d"),
    )


def _constants(place: Place, key: str) -> dict[str, Any]:
    if not place.has(key):
        return {}
    values = place.at(key).mapping()
    for name, value in values.items():
        if not isinstance(name, str) or isinstance(value, (dict, list)):
            raise place.at(key).wrong(f"must be a flat mapping of names to values, '{name}' is not")
    return dict(values)


def _pipeline(place: Place, organization: str) -> PipelineSeed:
    place.only("name", "key", "description", "labels", "origin", "destination", "offset", "versions", "behaviour")
    key = place.text("key", place.text("name"))
    versions = []
    for number, version in enumerate(place.at("versions").items(), start=1):
        version.only("message", "committed", "constants", "tags")
        commit = make_id("commit", key, str(number))
        versions.append(
            VersionSeed(
                version=str(number),
                commit_id=f"{commit}:{organization}",
                message=version.text("message"),
                committed_ago=version.duration("committed"),
                constants={item: str(value) for item, value in _constants(version, "constants").items()},
                tags=tuple(_tag(tag, commit, organization) for tag in version.at("tags").items())
                if version.has("tags")
                else (),
            )
        )
    if not versions:
        raise place.at("versions").wrong("must not be empty")
    return PipelineSeed(
        id=f"{make_id('pipeline', key)}:{organization}",
        rules_id=f"{make_id('rules', key)}:{organization}",
        name=place.text("name"),
        description=place.text("description", ""),
        labels=place.texts("labels"),
        origin=place.text("origin", "Directory"),
        destination=place.text("destination", "JDBCProducer"),
        offset=place.text("offset", "{position}"),
        versions=tuple(versions),
        behaviour=read_behaviour(place.at("behaviour")),
    )


def _tag(place: Place, commit: str, organization: str) -> TagSeed:
    place.only("name", "message")
    name = place.text("name")
    return TagSeed(f"{make_id('tag', commit, name)}:{organization}", name, place.text("message", ""))


def _version(place: Place, key: str, pipeline: PipelineSeed) -> VersionSeed:
    if not place.has(key):
        return pipeline.versions[-1]
    number = place.whole(key, least=1)
    if number > len(pipeline.versions):
        raise place.at(key).wrong(f"must be a version of '{pipeline.name}', which has {len(pipeline.versions)}")
    return pipeline.versions[number - 1]


def _job(place: Place, organization: str, pipelines: dict[str, PipelineSeed], before: list[JobSeed]) -> JobSeed:
    place.only(
        "name", "key", "description", "pipeline", "version", "labels", "tags", "parameters", "instances", "template",
        "from_template", "static_parameters", "needs_ack", "failover", "time_series", "stats_interval",
        "force_stop_timeout", "created", "past",
    )  # fmt: skip
    name = place.text("name")
    pipeline = pipelines.get(place.text("pipeline"))
    if pipeline is None:
        raise place.at("pipeline").wrong(f"names no pipeline of this file: '{place.text('pipeline')}'")
    is_template = place.flag("template", False)
    template_id = None
    if place.has("from_template"):
        wanted = place.text("from_template")
        template_id = next((job.id for job in before if job.is_template and job.name == wanted), None)
        if template_id is None:
            raise place.at("from_template").wrong(f"names no template further up in this file: '{wanted}'")
    if is_template and place.has("past"):
        raise place.at("past").wrong("is for jobs: a template never runs")
    instances = 1
    if place.has("instances"):
        instances = -1 if place.at("instances").value == -1 else place.whole("instances", least=1)
    past = tuple(_past_run(item, pipeline) for item in place.at("past").items()) if place.has("past") else ()
    ages = [run.started_ago for run in past]
    if ages != sorted(ages, reverse=True):
        raise place.at("past").wrong("must be in order of time, the oldest run first")
    return JobSeed(
        id=f"{make_id('job', place.text('key', name))}:{organization}",
        name=name,
        description=place.text("description", "") or None,
        pipeline=pipeline,
        version=_version(place, "version", pipeline),
        labels=place.texts("labels") or ("all",),
        tags=place.texts("tags"),
        parameters=_constants(place, "parameters"),
        instances=instances,
        is_template=is_template,
        template_id=template_id,
        static_parameters=place.texts("static_parameters"),
        needs_ack=place.flag("needs_ack", False) if place.has("needs_ack") else None,
        failover=place.flag("failover", False),
        time_series=place.flag("time_series", False),
        stats_interval=max(1, place.duration("stats_interval", "5s")),
        force_stop_timeout=place.duration("force_stop_timeout", "120s"),
        created_ago=place.duration("created", "30d"),
        past=past,
    )


def _past_run(place: Place, pipeline: PipelineSeed) -> PastRunSeed:
    place.only("started", "version", "stopped", "acknowledged", "behaviour")
    started = place.duration("started")
    later: dict[str, int | None] = {}
    for key in ("stopped", "acknowledged"):
        later[key] = place.duration(key) if place.has(key) else None
        if (later[key] or 0) > started:
            raise place.at(key).wrong("must not lie before the start")
    return PastRunSeed(
        started_ago=started,
        version=_version(place, "version", pipeline).version,
        stopped_ago=later["stopped"],
        acknowledged_ago=later["acknowledged"],
        behaviour=read_behaviour(place.at("behaviour")) if place.has("behaviour") else None,
    )
