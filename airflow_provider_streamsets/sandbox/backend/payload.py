"""Reading what a body says about a job."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError, bad_request
from airflow_provider_streamsets.sandbox.seed.models import PipelineSeed, VersionSeed


def parse_json(text: str | bytes) -> Any:
    """
    Return the value of a JSON text.

    What Python would read and no client could be sent is refused: numbers without end, halves of characters.

    :raises ValueError: if it is none.
    """
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise ValueError("too deep") from None
    return value


DEFAULT_LABELS = ("all",)
ENGINE_TYPE = "COLLECTOR"
LARGEST = 2**31 - 1


class Fields:
    """
    The fields of an object in a body, checked as they are read. Null and missing are the same.

    :param body: the object.
    :param what: what it is, for error messages.
    :raises ProblemError: if it is no object.
    """

    def __init__(self, body: Any, what: str) -> None:
        if not isinstance(body, dict):
            raise bad_request(f"{what} must be a JSON object")
        self._body = body
        self._what = what

    def has(self, name: str) -> bool:
        """Return whether the object has the key at all, be it with null."""
        return name in self._body

    def wrong(self, name: str, must: str) -> ProblemError:
        """Return the refusal of a field."""
        return bad_request(f"{name} of {self._what} must be {must}, not {json.dumps(self._body.get(name))[:100]}")

    def value(self, name: str) -> Any:
        """Return a value of any type, None if there is none."""
        return self._body.get(name)

    def text(self, name: str) -> str | None:
        """
        Return a text, None if there is none.

        :raises ProblemError: if it is something else.
        """
        value = self._body.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def given_text(self, name: str) -> str:
        """
        Return a text that must be there.

        :raises ProblemError: if it is missing or blank.
        """
        value = self.text(name)
        if value is None or not value.strip():
            raise bad_request(f"{name} of {self._what} is missing")
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        """
        Return a list of texts, None if there is none.

        :raises ProblemError: if it is something else.
        """
        value = self._body.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.wrong(name, "a list of texts")
        return tuple(dict.fromkeys(value))

    def flag(self, name: str) -> bool | None:
        """
        Return a boolean, None if there is none.

        :raises ProblemError: if it is something else.
        """
        value = self._body.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def whole(self, name: str, least: int) -> int | None:
        """
        Return a whole number, None if there is none.

        :raises ProblemError: if it is something else, less than the least, or none of 32 bits.
        """
        value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
            raise self.wrong(name, f"a whole number, at least {least}, at most {LARGEST}")
        return value

    def parameters(self, name: str) -> dict[str, Any] | None:
        """
        Return runtime parameters, which a job carries as a text that holds JSON; None if there are none.

        :raises ProblemError: if they are something else.
        """
        text = self.text(name)
        if text is None:
            return None
        try:
            values = parse_json(text) if text.strip() else {}
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise self.wrong(name, "text that holds a JSON object")
        return values


def read_settings(fields: Fields) -> dict[str, Any]:
    """
    Return what a body says about how a job is to run, as values of :class:`~.seed.JobSeed`; null says nothing.

    :raises ProblemError: for what a job cannot have.
    """
    if fields.flag("draftRun"):
        raise bad_request("the sandbox has no draft runs: draftRun must be false")
    if fields.flag("edge") or fields.text("executorType") not in (None, ENGINE_TYPE):
        raise bad_request(f"the sandbox runs jobs on engines of type {ENGINE_TYPE} only")
    instances = fields.whole("numInstances", -1)
    if instances == 0:
        raise fields.wrong("numInstances", "-1 or at least 1")
    found = {
        "labels": fields.texts("labels"),
        "tags": fields.texts("rawJobTags"),
        "parameters": fields.parameters("runtimeParameters"),
        "instances": instances,
        "static_parameters": fields.texts("staticParameters"),
        "needs_ack": fields.flag("needsManualAck"),
        "failover": fields.flag("migrateOffsets"),
        "max_retries": fields.whole("maxRetriesForFailedJob", -1),
        "global_max_retries": fields.whole("globalMaxRetries", -1),
        "time_series": fields.flag("timeSeries"),
        "stats_interval": fields.whole("statsRefreshInterval", 1),
        "force_stop_timeout": fields.whole("forceStopTimeout", 0),
    }
    return {name: value for name, value in found.items() if value is not None}


def read_commit(
    fields: Fields, pipelines: dict[str, PipelineSeed], current: tuple[PipelineSeed, VersionSeed] | None = None
) -> tuple[PipelineSeed, VersionSeed]:
    """
    Return the pipeline version that a body names by its commit.

    :param fields: the body; everything it says about the pipeline must agree with the commit.
    :param pipelines: all pipelines.
    :param current: what the job to be changed runs so far, and still does if the body names no commit.
    :raises ProblemError: if there is no such version.
    """
    commit_id = fields.text("pipelineCommitId") or (current[1].commit_id if current else "")
    found = find_commit(pipelines, commit_id)
    if found is None:
        raise ProblemError(400, "JOBRUNNER_31", f"There is no published pipeline version with commit '{commit_id}'")
    pipeline, version = found
    label = f"v{version.version}"
    before = current[0] if current else pipeline
    for name, allowed in (
        ("pipelineCommitLabel", {label}),
        # Whoever gives a job the commit of another pipeline may leave these as they were, as the SDK does.
        ("pipelineId", {pipeline.id, before.id}),
        ("rulesId", {pipeline.rules_id, before.rules_id}),
    ):
        if fields.text(name) not in (None, *allowed):
            raise ProblemError(
                400,
                "JOBRUNNER_32",
                f"{name} '{fields.text(name)}' does not belong to commit '{commit_id}', which is {label} of pipeline "
                f"'{pipeline.name}'",
            )
    return pipeline, version


def find_commit(pipelines: dict[str, PipelineSeed], commit_id: str) -> tuple[PipelineSeed, VersionSeed] | None:
    """Return the pipeline and the version that belong to a commit, None if there are none."""
    for pipeline in pipelines.values():
        for version in pipeline.versions:
            if version.commit_id == commit_id:
                return pipeline, version
    return None
