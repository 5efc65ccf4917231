"""
The initial data of the sandbox, and the files it is loaded from.

The dataclasses define a seed file: pydantic checks and parses it by their types. Only files are checked, not the values
that the backend changes later. Ids are derived from names, so that they are the same in every process.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from airflow_provider_streamsets.sandbox.seed.behaviour import Behaviour
from airflow_provider_streamsets.sandbox.seed.document import (
    Derived,
    Duration,
    Flag,
    Name,
    Names,
    Scalars,
    Text,
    check_keys,
    invalid,
    must,
    read_document,
    validate,
)

DEFAULT_SEED = Path(__file__).with_name("seed.yaml")
_NAMESPACE = uuid.UUID("6f1c3f0e-5a0b-5d1e-9c55-2b7f0c1d9e4a")
_VERSION = WithJsonSchema({"type": "integer", "minimum": 1})
_Retries = Annotated[int, Field(strict=True, ge=-1), must("be an integer of at least -1")]


@dataclass
class _References:
    """What a file has defined so far; the context of its validation, in the order of the fields."""

    organization: str = ""
    pipelines: dict[str, PipelineSeed] = field(default_factory=dict)
    pipeline: PipelineSeed | None = None
    """The pipeline of the job that is being read."""
    templates: dict[str, str] = field(default_factory=dict)
    """Ids of job templates by key or name."""


@dataclass(frozen=True)
class UserSeed:
    """The user of the credential."""

    name: Name
    email: Name

    _keys = model_validator(mode="before")(check_keys)


@dataclass(frozen=True, kw_only=True)
class OrganizationSeed:
    """The organization, and the user of the credential."""

    id: Derived[str] = ""
    name: Name
    user_id: Derived[str] = ""
    user_name: Derived[str] = ""
    user_email: Derived[str] = ""
    user: InitVar[UserSeed]

    _keys = model_validator(mode="before")(check_keys)

    def __post_init__(self, user: UserSeed) -> None:
        organization = make_id("organization", self.name)
        _derive(
            self,
            id=organization,
            user_id=f"{make_id('user', user.email)}@{organization}",
            user_name=user.name,
            user_email=user.email,
        )


@dataclass(frozen=True, kw_only=True)
class EngineSeed:
    """A Data Collector."""

    id: Derived[str] = ""
    name: Name
    url: Name
    version: Text = "5.10.0"
    labels: Names = ()
    reported_labels: Names = ()
    """The labels that the engine itself reports; by default all."""
    started_ago: Annotated[Duration, Field(alias="started")] = 5 * 86_400_000

    _keys = model_validator(mode="before")(check_keys)

    def __post_init__(self) -> None:
        _derive(self, id=make_id("engine", self.name), reported_labels=self.reported_labels or self.labels)


@dataclass(frozen=True, kw_only=True)
class TagSeed:
    """A tag of a pipeline version, created with the commit of the version."""

    id: Derived[str] = ""
    name: Name
    message: Text = ""

    _keys = model_validator(mode="before")(check_keys)


@dataclass(frozen=True, kw_only=True)
class VersionSeed:
    """A published version of a pipeline."""

    version: Annotated[
        str, BeforeValidator(str), Field(pattern="^[1-9][0-9]*$"), must("be an integer of at least 1"), _VERSION
    ] = ""
    """Number of the version; by default, one more than that of the version before it."""
    commit_id: Derived[str] = ""
    message: Name
    committed_ago: Annotated[Duration, Field(alias="committed")]
    constants: Annotated[
        Scalars, AfterValidator(lambda values: {name: str(value) for name, value in values.items()})
    ] = field(default_factory=dict)
    definition: Derived[str | None] = None
    """The imported pipeline definition; None for a generated one."""
    rules: Derived[str | None] = None
    tags: tuple[TagSeed, ...] = ()

    _keys = model_validator(mode="before")(check_keys)


@dataclass(frozen=True, kw_only=True)
class StageSeed:
    """A stage in the definition of a pipeline."""

    type: Name
    configuration: dict[str, Any] = field(default_factory=dict)

    _keys = model_validator(mode="before")(check_keys)


@dataclass(frozen=True, kw_only=True)
class PipelineSeed:
    """A pipeline with its versions, oldest first, and its behaviour."""

    id: Derived[str] = ""
    rules_id: Derived[str] = ""
    name: Name
    key: Text | None = field(default=None, repr=False)
    """Name for references, if several pipelines have the same name."""
    description: Text = ""
    labels: Names = ()
    origin: Text = "Directory"
    destination: Text = "JDBCProducer"
    offset: Text = "{position}"
    stages: Annotated[tuple[StageSeed, ...], Field(max_length=2)] = ()
    """Origin and destination in the definition of all versions."""
    versions: Annotated[tuple[VersionSeed, ...], Field(min_length=1)]
    behaviour: Behaviour

    _keys = model_validator(mode="before")(check_keys)

    @model_validator(mode="after")
    def _identify(self, info: ValidationInfo) -> PipelineSeed:
        key, organization = self.key or self.name, _references(info).organization
        versions: list[VersionSeed] = []
        number = 0
        for version in self.versions:
            previous, number = number, int(version.version or number + 1)
            if number <= previous:
                raise invalid("must have its versions in ascending order")
            commit = make_id("commit", key, str(number))
            tags = tuple(replace(tag, id=f"{make_id('tag', commit, tag.name)}:{organization}") for tag in version.tags)
            versions.append(replace(version, version=str(number), commit_id=f"{commit}:{organization}", tags=tags))
        return replace(
            self,
            id=f"{make_id('pipeline', key)}:{organization}",
            rules_id=f"{make_id('rules', key)}:{organization}",
            versions=tuple(versions),
        )


def _references(info: ValidationInfo) -> _References:
    return cast("_References", info.context)


def _find_pipeline(key: Any, info: ValidationInfo) -> PipelineSeed:
    references = _references(info)
    references.pipeline = references.pipelines.get(str(key))
    if references.pipeline is None:
        raise invalid("must be the key or name of a pipeline in this file")
    return references.pipeline


def _find_version(number: Any, info: ValidationInfo) -> VersionSeed | None:
    pipeline = _references(info).pipeline
    if pipeline is None:
        return None
    if number is None:
        return pipeline.versions[-1]
    found = next((version for version in pipeline.versions if version.version == str(number)), None)
    if found is None:
        raise invalid(f"must be one of the {len(pipeline.versions)} versions of '{pipeline.name}'")
    return found


def _find_template(name: str, info: ValidationInfo) -> str:
    template_id = _references(info).templates.get(name)
    if template_id is None:
        raise invalid("must be the key or name of an earlier template in this file")
    return template_id


@dataclass(frozen=True, kw_only=True)
class PastRunSeed:
    """A run that started before the sandbox."""

    started_ago: Annotated[Duration, Field(alias="started")]
    version: Annotated[
        str, PlainValidator(lambda number, info: getattr(_find_version(number, info), "version", None)), _VERSION
    ]
    stopped_ago: Annotated[Duration | None, Field(alias="stopped")] = None
    acknowledged_ago: Annotated[Duration | None, Field(alias="acknowledged")] = None
    behaviour: Behaviour | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, value: Any) -> dict[str, Any]:
        return {"version": None, **check_keys(cls, value)}

    @field_validator("stopped_ago", "acknowledged_ago")
    @classmethod
    def _check_order(cls, ago: int, info: ValidationInfo) -> int:
        if ago > info.data.get("started_ago", ago):
            raise invalid("must not be earlier than the start of the run")
        return ago


@dataclass(frozen=True, kw_only=True)
class JobSeed:
    """A job or a job template. Times are in milliseconds."""

    id: Derived[str] = ""
    name: Name
    key: Text | None = field(default=None, repr=False)
    """Name from which the id is derived, if several jobs have the same name."""
    description: Annotated[Text | None, AfterValidator(lambda text: text or None)] = None
    pipeline: Annotated[PipelineSeed, PlainValidator(_find_pipeline), WithJsonSchema({"type": "string"})]
    version: Annotated[VersionSeed, PlainValidator(_find_version), _VERSION]
    labels: Annotated[Names, AfterValidator(lambda labels: labels or ("all",))] = ("all",)
    tags: Names = ()
    parameters: Scalars = field(default_factory=dict)
    instances: Annotated[
        Literal[-1] | Annotated[int, Field(strict=True, ge=1)], must("be an integer of at least 1")
    ] = 1
    is_template: Annotated[Flag, Field(alias="template")] = False
    template_id: Annotated[Name | None, Field(alias="from_template"), AfterValidator(_find_template)] = None
    static_parameters: Names = ()
    needs_ack: Flag | None = None
    """None for the value of the variant ``needs_ack_default`` at the time the job is added."""
    failover: Flag = False
    max_retries: _Retries = -1
    global_max_retries: _Retries = -1
    time_series: Flag = False
    stats_interval: Annotated[Duration, AfterValidator(lambda interval: max(1, interval))] = 60_000
    force_stop_timeout: Duration = 120_000
    delete_after_completion: Derived[bool] = False
    archived: Derived[bool] = False
    creator: Derived[str | None] = None
    created_on: Derived[int | None] = None
    """Creation time; None for :attr:`created_ago` milliseconds before the job is added."""
    created_ago: Annotated[Duration, Field(alias="created")] = 0
    modified_by: Derived[str | None] = None
    modified_on: Derived[int | None] = None
    behaviour: Behaviour | None = None
    """None for the behaviour of the pipeline."""
    past: tuple[PastRunSeed, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _add_defaults(cls, value: Any) -> dict[str, Any]:
        # The others are the defaults of Control Hub, too.
        return {"version": None, "stats_interval": "5s", "created": "30d", **check_keys(cls, value)}

    @field_validator("past")
    @classmethod
    def _check_past(cls, past: tuple[PastRunSeed, ...], info: ValidationInfo) -> tuple[PastRunSeed, ...]:
        if info.data.get("is_template"):
            raise invalid("is not allowed for templates, which have no runs")
        ages = [run.started_ago for run in past]
        if ages != sorted(ages, reverse=True):
            raise invalid("must be in chronological order, oldest run first")
        return past

    @model_validator(mode="after")
    def _identify(self, info: ValidationInfo) -> JobSeed:
        job_id = f"{make_id('job', self.key or self.name)}:{_references(info).organization}"
        if self.is_template:
            _references(info).templates.setdefault(self.key or self.name, job_id)
        return replace(self, id=job_id)


@dataclass(frozen=True)
class Seed:
    """The initial data of the sandbox."""

    organization: OrganizationSeed
    engines: tuple[EngineSeed, ...]
    pipelines: tuple[PipelineSeed, ...]
    jobs: tuple[JobSeed, ...]

    _keys = model_validator(mode="before")(check_keys)

    @field_validator("organization")
    @classmethod
    def _add_organization(cls, organization: OrganizationSeed, info: ValidationInfo) -> OrganizationSeed:
        _references(info).organization = organization.id
        return organization

    @field_validator("engines")
    @classmethod
    def _check_engines(cls, engines: tuple[EngineSeed, ...]) -> tuple[EngineSeed, ...]:
        _check_unique(engine.name for engine in engines)
        return engines

    @field_validator("pipelines")
    @classmethod
    def _add_pipelines(cls, pipelines: tuple[PipelineSeed, ...], info: ValidationInfo) -> tuple[PipelineSeed, ...]:
        _check_unique(pipeline.key or pipeline.name for pipeline in pipelines)
        _references(info).pipelines = {pipeline.key or pipeline.name: pipeline for pipeline in pipelines}
        return pipelines

    @field_validator("jobs")
    @classmethod
    def _check_jobs(cls, jobs: tuple[JobSeed, ...]) -> tuple[JobSeed, ...]:
        if len({job.id for job in jobs}) < len(jobs):
            raise invalid("must have a different 'key' for each job with the same name")
        return jobs


_ADAPTER = TypeAdapter(Seed)


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
    return validate(_ADAPTER, document, f"{source}: ", context=_References())


def make_id(*names: str) -> str:
    """Derive an id from names."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(names)))


def _derive(seed: object, **values: Any) -> None:
    """Set the derived values of a frozen dataclass."""
    for name, value in values.items():
        object.__setattr__(seed, name, value)


def _check_unique(names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise invalid(f"contains the name '{name}' twice")
