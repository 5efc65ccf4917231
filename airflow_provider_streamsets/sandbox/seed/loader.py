"""Loading a seed from a YAML or JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_streamsets.sandbox.seed.behaviour import read_behaviour
from airflow_provider_streamsets.sandbox.seed.document import DocumentNode, read_document
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
    Load a seed file.

    :param path: a YAML or JSON file; the one shipped with the package if None.
    :raises SeedError: if the file cannot be read or is invalid.
    """
    path = path or DEFAULT_SEED
    return parse_seed(read_document(path), source=path.name)


def parse_seed(document: Any, source: str = "seed") -> Seed:
    """
    Parse a seed document.

    :param document: the content of the file.
    :param source: name of the file in error messages.
    :raises SeedError: with the path of the first invalid value.
    """
    root = DocumentNode(document, f"{source}: ")
    root.check_keys("organization", "engines", "pipelines", "jobs")
    organization = _organization(root.child("organization"))
    engines = tuple(_engine(node) for node in root.child("engines").items())
    _check_unique([engine.name for engine in engines], root.child("engines"))
    pipelines = tuple(_pipeline(node, organization.id) for node in root.child("pipelines").items())
    keys = [node.string("key", node.string("name")) for node in root.child("pipelines").items()]
    _check_unique(keys, root.child("pipelines"))
    pipelines_by_key = dict(zip(keys, pipelines, strict=True))
    jobs: list[JobSeed] = []
    for node in root.child("jobs").items():
        jobs.append(_job(node, organization.id, pipelines_by_key, jobs))
    if len({job.id for job in jobs}) < len(jobs):
        raise root.child("jobs").error("must have a different 'key' for each job with the same name.")
    return Seed(organization, engines, pipelines, tuple(jobs))


def _check_unique(names: list[str], node: DocumentNode) -> None:
    for name in names:
        if names.count(name) > 1:
            raise node.error(f"contains the name '{name}' twice.")


def _organization(node: DocumentNode) -> OrganizationSeed:
    node.check_keys("name", "user")
    user = node.child("user")
    user.check_keys("name", "email")
    name = node.string("name")
    organization_id = make_id("organization", name)
    email = user.string("email")
    return OrganizationSeed(
        id=organization_id,
        name=name,
        user_id=f"{make_id('user', email)}@{organization_id}",
        user_name=user.string("name"),
        user_email=email,
    )


def _engine(node: DocumentNode) -> EngineSeed:
    node.check_keys("name", "url", "version", "labels", "reported_labels", "started")
    labels = node.strings("labels")
    return EngineSeed(
        id=make_id("engine", node.string("name")),
        name=node.string("name"),
        url=node.string("url"),
        version=node.string("version", "5.10.0"),
        labels=labels,
        reported_labels=node.strings("reported_labels") or labels,
        started_ago=node.duration("started", "5d"),
    )


def _constants(node: DocumentNode, key: str) -> dict[str, Any]:
    if not node.has(key):
        return {}
    values = node.child(key).mapping()
    for name, value in values.items():
        if not isinstance(name, str) or isinstance(value, (dict, list)):
            raise node.child(key).error(f"must map names to scalars, but '{name}' does not.")
    return dict(values)


def _pipeline(node: DocumentNode, organization: str) -> PipelineSeed:
    node.check_keys("name", "key", "description", "labels", "origin", "destination", "offset", "versions", "behaviour")
    key = node.string("key", node.string("name"))
    versions = []
    for number, version in enumerate(node.child("versions").items(), start=1):
        version.check_keys("message", "committed", "constants", "tags")
        commit = make_id("commit", key, str(number))
        versions.append(
            VersionSeed(
                version=str(number),
                commit_id=f"{commit}:{organization}",
                message=version.string("message"),
                committed_ago=version.duration("committed"),
                constants={item: str(value) for item, value in _constants(version, "constants").items()},
                tags=tuple(_tag(tag, commit, organization) for tag in version.child("tags").items())
                if version.has("tags")
                else (),
            )
        )
    if not versions:
        raise node.child("versions").error("must not be empty.")
    return PipelineSeed(
        id=f"{make_id('pipeline', key)}:{organization}",
        rules_id=f"{make_id('rules', key)}:{organization}",
        name=node.string("name"),
        description=node.string("description", ""),
        labels=node.strings("labels"),
        origin=node.string("origin", "Directory"),
        destination=node.string("destination", "JDBCProducer"),
        offset=node.string("offset", "{position}"),
        versions=tuple(versions),
        behaviour=read_behaviour(node.child("behaviour")),
    )


def _tag(node: DocumentNode, commit: str, organization: str) -> TagSeed:
    node.check_keys("name", "message")
    name = node.string("name")
    return TagSeed(f"{make_id('tag', commit, name)}:{organization}", name, node.string("message", ""))


def _version(node: DocumentNode, key: str, pipeline: PipelineSeed) -> VersionSeed:
    if not node.has(key):
        return pipeline.versions[-1]
    number = node.integer(key, minimum=1)
    if number > len(pipeline.versions):
        raise node.child(key).error(f"must be one of the {len(pipeline.versions)} versions of '{pipeline.name}'.")
    return pipeline.versions[number - 1]


def _job(node: DocumentNode, organization: str, pipelines: dict[str, PipelineSeed], previous: list[JobSeed]) -> JobSeed:
    node.check_keys(
        "name", "key", "description", "pipeline", "version", "labels", "tags", "parameters", "instances", "template",
        "from_template", "static_parameters", "needs_ack", "failover", "time_series", "stats_interval",
        "force_stop_timeout", "created", "past",
    )  # fmt: skip
    name = node.string("name")
    pipeline = pipelines.get(node.string("pipeline"))
    if pipeline is None:
        raise node.child("pipeline").error(
            f"must be the key or name of a pipeline in this file, got '{node.string('pipeline')}'."
        )
    is_template = node.boolean("template", False)
    template_id = None
    if node.has("from_template"):
        template_name = node.string("from_template")
        template_id = next((job.id for job in previous if job.is_template and job.name == template_name), None)
        if template_id is None:
            raise node.child("from_template").error(
                f"must be the name of an earlier template in this file, got '{template_name}'."
            )
    if is_template and node.has("past"):
        raise node.child("past").error("is not allowed for templates, which have no runs.")
    instances = 1
    if node.has("instances"):
        instances = -1 if node.child("instances").value == -1 else node.integer("instances", minimum=1)
    past = tuple(_past_run(item, pipeline) for item in node.child("past").items()) if node.has("past") else ()
    ages = [run.started_ago for run in past]
    if ages != sorted(ages, reverse=True):
        raise node.child("past").error("must be in chronological order, oldest run first.")
    return JobSeed(
        id=f"{make_id('job', node.string('key', name))}:{organization}",
        name=name,
        description=node.string("description", "") or None,
        pipeline=pipeline,
        version=_version(node, "version", pipeline),
        labels=node.strings("labels") or ("all",),
        tags=node.strings("tags"),
        parameters=_constants(node, "parameters"),
        instances=instances,
        is_template=is_template,
        template_id=template_id,
        static_parameters=node.strings("static_parameters"),
        needs_ack=node.boolean("needs_ack", False) if node.has("needs_ack") else None,
        failover=node.boolean("failover", False),
        time_series=node.boolean("time_series", False),
        stats_interval=max(1, node.duration("stats_interval", "5s")),
        force_stop_timeout=node.duration("force_stop_timeout", "120s"),
        created_ago=node.duration("created", "30d"),
        past=past,
    )


def _past_run(node: DocumentNode, pipeline: PipelineSeed) -> PastRunSeed:
    node.check_keys("started", "version", "stopped", "acknowledged", "behaviour")
    started = node.duration("started")
    actions: dict[str, int | None] = {}
    for key in ("stopped", "acknowledged"):
        actions[key] = node.duration(key) if node.has(key) else None
        if (actions[key] or 0) > started:
            raise node.child(key).error("must not be earlier than the start of the run.")
    return PastRunSeed(
        started_ago=started,
        version=_version(node, "version", pipeline).version,
        stopped_ago=actions["stopped"],
        acknowledged_ago=actions["acknowledged"],
        behaviour=read_behaviour(node.child("behaviour")) if node.has("behaviour") else None,
    )
