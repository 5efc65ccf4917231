"""
The initial data of the sandbox.

Ids are derived from names, so that they are the same in every process.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_streamsets.sandbox.seed.behaviour import Behaviour

_NAMESPACE = uuid.UUID("6f1c3f0e-5a0b-5d1e-9c55-2b7f0c1d9e4a")


@dataclass(frozen=True)
class OrganizationSeed:
    """The organization, and the user of the credential."""

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
class TagSeed:
    """A tag of a pipeline version, created with the commit of the version."""

    id: str
    name: str
    message: str


@dataclass(frozen=True)
class VersionSeed:
    """A published version of a pipeline."""

    version: str
    commit_id: str
    message: str
    committed_ago: int
    constants: dict[str, str]
    definition: str | None = None
    """The imported pipeline definition; None for a generated one."""
    rules: str | None = None
    tags: tuple[TagSeed, ...] = ()


@dataclass(frozen=True)
class PipelineSeed:
    """A pipeline with its versions, oldest first, and its behaviour."""

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
    """A run that started before the sandbox."""

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
    labels: tuple[str, ...] = ("all",)
    tags: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    instances: int = 1
    is_template: bool = False
    template_id: str | None = None
    static_parameters: tuple[str, ...] = ()
    needs_ack: bool | None = None
    """None for the value of the variant ``needs_ack_default`` at the time the job is added."""
    failover: bool = False
    max_retries: int = -1
    global_max_retries: int = -1
    time_series: bool = False
    stats_interval: int = 60_000
    force_stop_timeout: int = 120_000
    delete_after_completion: bool = False
    archived: bool = False
    creator: str | None = None
    created_on: int | None = None
    """Creation time; None for :attr:`created_ago` milliseconds before the job is added."""
    created_ago: int = 0
    modified_by: str | None = None
    modified_on: int | None = None
    past: tuple[PastRunSeed, ...] = ()


@dataclass(frozen=True)
class Seed:
    """The initial data of the sandbox."""

    organization: OrganizationSeed
    engines: tuple[EngineSeed, ...]
    pipelines: tuple[PipelineSeed, ...]
    jobs: tuple[JobSeed, ...]


def make_id(*names: str) -> str:
    """Derive an id from names."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(names)))
