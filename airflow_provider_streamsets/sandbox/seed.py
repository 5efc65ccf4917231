"""
What the sandbox holds when it starts: read from a YAML or JSON file, checked, with ids given.

Ids follow from names, so that they are the same in every process.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from airflow_provider_streamsets.sandbox.behaviours import VALIDATION_ERROR, Behaviour

DEFAULT_SEED = Path(__file__).with_name("seed.yaml")

_NAMESPACE = uuid.UUID("6f1c3f0e-5a0b-5d1e-9c55-2b7f0c1d9e4a")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class SeedError(ValueError):
    """A seed file that cannot be used; the message names the place in it."""


@dataclass(frozen=True)
class OrganizationSeed:
    """The organization, and the user whose credential the sandbox gives out."""

    id: str
    name: str
    user_id: str
    user_name: str
    user_email: str


@dataclass(frozen=True)
class EngineSeed:
    """A Data Collector."""

    id: str
    name: str
    url: str
    version: str
    labels: tuple[str, ...]
    reported_labels: tuple[str, ...]
    started_ago: int


@dataclass(frozen=True)
class VersionSeed:
    """One published version of a pipeline."""

    version: str
    commit_id: str
    message: str
    committed_ago: int
    constants: dict[str, str]


@dataclass(frozen=True)
class PipelineSeed:
    """A pipeline with its versions, oldest first, and how it behaves when it is run."""

    id: str
    rules_id: str
    name: str
    description: str
    labels: tuple[str, ...]
    origin: str
    destination: str
    offset: str
    versions: tuple[VersionSeed, ...]
    behaviour: Behaviour


@dataclass(frozen=True)
class PastRunSeed:
    """A run that began before the sandbox did."""

    started_ago: int
    version: str
    stopped_ago: int | None
    acknowledged_ago: int | None
    behaviour: Behaviour | None


@dataclass(frozen=True)
class JobSeed:
    """A job or a job template. Times are in milliseconds."""

    id: str
    name: str
    description: str | None
    pipeline: PipelineSeed
    version: VersionSeed
    labels: tuple[str, ...]
    tags: tuple[str, ...]
    parameters: dict[str, Any]
    instances: int
    is_template: bool
    template_id: str | None
    static_parameters: tuple[str, ...]
    needs_ack: bool
    failover: bool
    time_series: bool
    stats_interval: int
    force_stop_timeout: int
    created_ago: int
    past: tuple[PastRunSeed, ...]


@dataclass(frozen=True)
class Seed:
    """Everything that the sandbox holds when it starts."""

    organization: OrganizationSeed
    engines: tuple[EngineSeed, ...]
    pipelines: tuple[PipelineSeed, ...]
    jobs: tuple[JobSeed, ...]


def make_id(*names: str) -> str:
    """Return the id that belongs to something with these names."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(names)))


def load_seed(path: Path | None = None) -> Seed:
    """
    Read a seed file.

    :param path: a YAML or JSON file; the one shipped with the package if None.
    :raises SeedError: if it cannot be read or is wrong.
    """
    path = path or DEFAULT_SEED
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise SeedError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise SeedError(f"{path}: is no valid {path.suffix.lstrip('.') or 'YAML'}: {error}") from error
    return parse_seed(document, source=path.name)


def parse_seed(document: Any, source: str = "seed") -> Seed:
    """
    Check a seed document.

    :param document: what the file holds.
    :param source: the name that error messages begin with.
    :raises SeedError: naming the first place that is wrong.
    """
    top = _Place(document, f"{source}: ")
    top.only("organization", "engines", "pipelines", "jobs")
    organization = _organization(top.at("organization"))
    engines = tuple(_engine(place) for place in top.at("engines").items())
    _unique([engine.name for engine in engines], top.at("engines"))
    pipelines = tuple(_pipeline(place, organization.id) for place in top.at("pipelines").items())
    _unique([pipeline.name for pipeline in pipelines], top.at("pipelines"))
    by_name = {pipeline.name: pipeline for pipeline in pipelines}
    jobs: list[JobSeed] = []
    for place in top.at("jobs").items():
        jobs.append(_job(place, organization.id, by_name, jobs))
    if len({job.id for job in jobs}) < len(jobs):
        raise top.at("jobs").wrong("two jobs of the same name must differ in 'key'")
    return Seed(organization, engines, pipelines, tuple(jobs))


def parse_duration(text: str) -> int:
    """
    Return the milliseconds of a duration such as ``15s``, ``90m``, ``26h``, ``3d``.

    :raises ValueError: if it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.strip())
    if not match:
        raise ValueError(text)
    return round(float(match[1]) * _UNITS[match[2]])


class _Place:
    """A value in the document that knows where it is, for error messages."""

    def __init__(self, value: Any, path: str) -> None:
        self.value = value
        self.path = path

    def wrong(self, what: str) -> SeedError:
        return SeedError(f"{self.path} {what}" if not self.path.endswith(": ") else f"{self.path}{what}")

    def only(self, *known: str) -> None:
        for key in self.mapping():
            if key not in known:
                raise self.wrong(f"has the unknown key '{key}'; known are: {', '.join(known)}")

    def mapping(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self.wrong("must be a mapping")
        return self.value

    def has(self, key: str) -> bool:
        return self.mapping().get(key) is not None

    def at(self, key: str) -> _Place:
        mapping = self.mapping()
        if mapping.get(key) is None:
            raise self.wrong(f"lacks '{key}'")
        dot = "" if self.path.endswith(": ") else "."
        return _Place(mapping[key], f"{self.path}{dot}{key}")

    def items(self) -> list[_Place]:
        if not isinstance(self.value, list):
            raise self.wrong("must be a list")
        return [_Place(value, f"{self.path}[{index}]") for index, value in enumerate(self.value)]

    def text(self, key: str, default: str | None = None) -> str:
        if default is not None and not self.has(key):
            return default
        place = self.at(key)
        if isinstance(place.value, bool) or not isinstance(place.value, (str, int, float)):
            raise place.wrong("must be text")
        if str(place.value) == "" and default is None:
            raise place.wrong("must not be empty")
        return str(place.value)

    def texts(self, key: str) -> tuple[str, ...]:
        if not self.has(key):
            return ()
        items = self.at(key).items()
        for item in items:
            if not isinstance(item.value, str) or not item.value:
                raise item.wrong("must be text")
        return tuple(item.value for item in items)

    def flag(self, key: str, default: bool) -> bool:
        if not self.has(key):
            return default
        place = self.at(key)
        if not isinstance(place.value, bool):
            raise place.wrong("must be true or false")
        return place.value

    def number(self, key: str, *, above: float | None = None, most: float | None = None) -> float:
        place = self.at(key)
        value = place.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise place.wrong("must be a number")
        if value < 0 or (above is not None and value <= above):
            raise place.wrong(f"must be a number greater than {above if above is not None else 'or equal to 0'}")
        if most is not None and value > most:
            raise place.wrong(f"must not be greater than {most}")
        return float(value)

    def whole(self, key: str, *, least: int = 0) -> int:
        place = self.at(key)
        if isinstance(place.value, bool) or not isinstance(place.value, int) or place.value < least:
            raise place.wrong(f"must be a whole number, at least {least}")
        return place.value

    def duration(self, key: str, default: str | None = None) -> int:
        if default is not None and not self.has(key):
            return parse_duration(default)
        place = self.at(key)
        try:
            return parse_duration(str(place.value))
        except ValueError:
            raise place.wrong(f"must be a duration such as 15s, 90m, 26h, 3d, not '{place.value}'") from None


def _unique(names: list[str], place: _Place) -> None:
    for name in names:
        if names.count(name) > 1:
            raise place.wrong(f"has the name '{name}' twice")


def _organization(place: _Place) -> OrganizationSeed:
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


def _engine(place: _Place) -> EngineSeed:
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


def _constants(place: _Place, key: str) -> dict[str, Any]:
    if not place.has(key):
        return {}
    values = place.at(key).mapping()
    for name, value in values.items():
        if not isinstance(name, str) or isinstance(value, (dict, list)):
            raise place.at(key).wrong(f"must be a flat mapping of names to values, '{name}' is not")
    return dict(values)


def _pipeline(place: _Place, organization: str) -> PipelineSeed:
    place.only("name", "description", "labels", "origin", "destination", "offset", "versions", "behaviour")
    name = place.text("name")
    versions = []
    for number, version in enumerate(place.at("versions").items(), start=1):
        version.only("message", "committed", "constants")
        versions.append(
            VersionSeed(
                version=str(number),
                commit_id=f"{make_id('commit', name, str(number))}:{organization}",
                message=version.text("message"),
                committed_ago=version.duration("committed"),
                constants={key: str(value) for key, value in _constants(version, "constants").items()},
            )
        )
    if not versions:
        raise place.at("versions").wrong("must not be empty")
    return PipelineSeed(
        id=f"{make_id('pipeline', name)}:{organization}",
        rules_id=f"{make_id('rules', name)}:{organization}",
        name=name,
        description=place.text("description", ""),
        labels=place.texts("labels"),
        origin=place.text("origin", "Directory"),
        destination=place.text("destination", "JDBCProducer"),
        offset=place.text("offset", "{position}"),
        versions=tuple(versions),
        behaviour=_behaviour(place.at("behaviour")),
    )


def _behaviour(place: _Place) -> Behaviour:
    place.only(
        "kind", "records", "rate", "error_share", "stage_error_share", "activation", "deactivation", "stop_takes",
        "fails_at_start", "fails_after", "error", "engine_lost", "saves_metrics",
    )  # fmt: skip
    kind = place.text("kind")
    if kind not in ("batch", "streaming"):
        raise place.at("kind").wrong(f"must be batch or streaming, not '{kind}'")
    if kind == "streaming" and place.has("records"):
        raise place.wrong("is streaming, so it has no number of records")
    values: dict[str, Any] = {"records": place.whole("records") if kind == "batch" else None}
    if place.has("rate"):
        values["rate"] = place.number("rate", above=0)
    for share in ("error_share", "stage_error_share"):
        if place.has(share):
            values[share] = place.number(share, most=1)
    for seconds in ("activation", "deactivation", "stop_takes"):
        if place.has(seconds):
            values[seconds] = place.duration(seconds) / 1000
    if place.has("fails_at_start"):
        message = place.at("fails_at_start").value
        values["start_error"] = VALIDATION_ERROR if message is True else place.text("fails_at_start")
    if place.has("fails_after"):
        values["fails_after"] = place.whole("fails_after")
    if place.has("error"):
        values["error"] = place.text("error")
    if place.has("engine_lost"):
        lost = place.at("engine_lost")
        lost.only("after", "for")
        values["engine_lost_after"] = lost.duration("after") / 1000
        forever = lost.text("for") == "ever"
        values["engine_lost_for"] = None if forever else lost.duration("for") / 1000
    values["saves_metrics"] = place.flag("saves_metrics", True)
    return Behaviour(**values)


def _version(place: _Place, key: str, pipeline: PipelineSeed) -> VersionSeed:
    if not place.has(key):
        return pipeline.versions[-1]
    number = place.whole(key, least=1)
    if number > len(pipeline.versions):
        raise place.at(key).wrong(f"must be a version of '{pipeline.name}', which has {len(pipeline.versions)}")
    return pipeline.versions[number - 1]


def _job(place: _Place, organization: str, pipelines: dict[str, PipelineSeed], before: list[JobSeed]) -> JobSeed:
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
        needs_ack=place.flag("needs_ack", False),
        failover=place.flag("failover", False),
        time_series=place.flag("time_series", False),
        stats_interval=max(1, place.duration("stats_interval", "5s")),
        force_stop_timeout=place.duration("force_stop_timeout", "120s"),
        created_ago=place.duration("created", "30d"),
        past=past,
    )


def _past_run(place: _Place, pipeline: PipelineSeed) -> PastRunSeed:
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
        behaviour=_behaviour(place.at("behaviour")) if place.has("behaviour") else None,
    )
