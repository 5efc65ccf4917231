"""Parsing and validating JSON bodies."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, bad_request
from airflow_provider_streamsets.sandbox.seed.models import PipelineSeed, VersionSeed

ENGINE_TYPE = "COLLECTOR"
MAX_INT32 = 2**31 - 1

T = TypeVar("T")


def parse_json(text: str | bytes) -> Any:
    """
    Parse a JSON document.

    Rejects what Python accepts but no response could contain: infinite numbers and unpaired surrogates.

    :raises ValueError: if it is not valid JSON.
    """
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise ValueError("too deeply nested") from None
    return value


class Payload:
    """
    A JSON object whose fields are validated when they are read. Null and missing fields are equivalent.

    :param body: the object.
    :param label: name of the object in error messages.
    :raises ApiError: if it is not an object.
    """

    def __init__(self, body: Any, label: str) -> None:
        if not isinstance(body, dict):
            raise bad_request(f"{label} must be a JSON object.")
        self._body = body
        self._label = label

    def has(self, name: str) -> bool:
        """Return whether the object has the field, even if it is null."""
        return name in self._body

    def invalid(self, name: str, requirement: str) -> ApiError:
        """Return the error for an invalid field."""
        return bad_request(
            f"'{name}' of {self._label} must be {requirement}, got {json.dumps(self._body.get(name))[:100]}."
        )

    def value(self, name: str) -> Any:
        """Return a value of any type, or None."""
        return self._body.get(name)

    def string(self, name: str) -> str | None:
        """
        Return a string, or None.

        :raises ApiError: if it has another type.
        """
        return self._typed(name, str, "a string")

    def _typed(self, name: str, kind: type[T], requirement: str) -> T | None:
        value = self._body.get(name)
        # Not isinstance: a bool is no integer.
        if value is not None and type(value) is not kind:
            raise self.invalid(name, requirement)
        return value

    def required_string(self, name: str) -> str:
        """
        Return a required string.

        :raises ApiError: if it is missing or blank.
        """
        value = self.string(name)
        if value is None or not value.strip():
            raise bad_request(f"'{name}' of {self._label} is missing.")
        return value

    def strings(self, name: str) -> tuple[str, ...] | None:
        """
        Return a list of non-empty strings without duplicates, or None.

        :raises ApiError: if it is not such a list.
        """
        value = self._body.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.invalid(name, "a list of non-empty strings")
        return tuple(dict.fromkeys(value))

    def boolean(self, name: str) -> bool | None:
        """
        Return a boolean, or None.

        :raises ApiError: if it has another type.
        """
        return self._typed(name, bool, "true or false")

    def integer(self, name: str, minimum: int) -> int | None:
        """
        Return a 32-bit integer, or None.

        :raises ApiError: if it is not an integer or out of range.
        """
        requirement = f"an integer from {minimum} to {MAX_INT32}"
        value = self._typed(name, int, requirement)
        if value is not None and not minimum <= value <= MAX_INT32:
            raise self.invalid(name, requirement)
        return value

    def parameters(self, name: str) -> dict[str, Any] | None:
        """
        Return runtime parameters, which a job holds as a string of JSON, or None.

        :raises ApiError: if it is not a string that holds a JSON object.
        """
        text = self.string(name)
        if text is None:
            return None
        try:
            values = parse_json(text) if text.strip() else {}
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise self.invalid(name, "a string that holds a JSON object")
        return values


def read_settings(fields: Payload) -> dict[str, Any]:
    """
    Parse the settings of a job as values of ``JobSeed``; null values are omitted.

    :raises ApiError: if a setting is invalid or not supported.
    """
    if fields.boolean("draftRun"):
        raise bad_request("'draftRun' must be false: the sandbox does not support draft runs.")
    if fields.boolean("edge") or fields.string("executorType") not in (None, ENGINE_TYPE):
        raise bad_request(f"The sandbox supports only engines of type {ENGINE_TYPE}.")
    instances = fields.integer("numInstances", -1)
    if instances == 0:
        raise fields.invalid("numInstances", "-1 or at least 1")
    settings = {
        "labels": fields.strings("labels"),
        "tags": fields.strings("rawJobTags"),
        "parameters": fields.parameters("runtimeParameters"),
        "instances": instances,
        "static_parameters": fields.strings("staticParameters"),
        "needs_ack": fields.boolean("needsManualAck"),
        "failover": fields.boolean("migrateOffsets"),
        "max_retries": fields.integer("maxRetriesForFailedJob", -1),
        "global_max_retries": fields.integer("globalMaxRetries", -1),
        "time_series": fields.boolean("timeSeries"),
        "stats_interval": fields.integer("statsRefreshInterval", 1),
        "force_stop_timeout": fields.integer("forceStopTimeout", 0),
    }
    return {name: value for name, value in settings.items() if value is not None}


def read_commit(
    fields: Payload, pipelines: dict[str, PipelineSeed], current: tuple[PipelineSeed, VersionSeed] | None = None
) -> tuple[PipelineSeed, VersionSeed]:
    """
    Return the pipeline version that a body references by its commit.

    :param fields: the body; its other values about the pipeline must match the commit.
    :param pipelines: all pipelines.
    :param current: the current pipeline and version of the job, used if the body has no commit.
    :raises ApiError: if the version does not exist.
    """
    commit_id = fields.string("pipelineCommitId") or (current[1].commit_id if current else "")
    found = find_commit(pipelines, commit_id)
    if found is None:
        raise ApiError(400, "JOBRUNNER_31", f"There is no published pipeline version with commit '{commit_id}'")
    pipeline, version = found
    label = f"v{version.version}"
    previous = current[0] if current else pipeline
    for name, allowed in (
        ("pipelineCommitLabel", {label}),
        # The SDK keeps the previous values when it changes the commit to one of another pipeline.
        ("pipelineId", {pipeline.id, previous.id}),
        ("rulesId", {pipeline.rules_id, previous.rules_id}),
    ):
        if fields.string(name) not in (None, *allowed):
            raise ApiError(
                400,
                "JOBRUNNER_32",
                f"{name} '{fields.string(name)}' does not belong to commit '{commit_id}', which is {label} of pipeline "
                f"'{pipeline.name}'",
            )
    return pipeline, version


def find_commit(pipelines: dict[str, PipelineSeed], commit_id: str) -> tuple[PipelineSeed, VersionSeed] | None:
    """Return the pipeline and the version of a commit, or None if the commit does not exist."""
    for pipeline in pipelines.values():
        for version in pipeline.versions:
            if version.commit_id == commit_id:
                return pipeline, version
    return None
