"""Snapshot of an organization as a seed of the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pendulum
import yaml

from airflow_provider_streamsets.cli.snapshot_names import DEFAULT_LABEL, SnapshotNames, may_be_secret, unique_keys
from airflow_provider_streamsets.cli.snapshot_runs import (
    DEFAULT_BEHAVIOUR,
    DEFAULT_SECONDS,
    Counts,
    RunHistory,
    duration,
)
from airflow_provider_streamsets.control_hub import ControlHubClient, Job, submission
from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.control_hub.models import Engine, JobRun, PipelineVersion

RECENT_RUNS = 20
"""Number of runs of each job from which its typical length and record counts are derived."""
RECENT_VERSIONS = 10
"""Number of versions of a pipeline in a snapshot, besides those that are tagged or used by its jobs."""

_EXTRA_ENGINE = "sandbox-engine"
_DEFAULT_AGE = "30d"

_T = TypeVar("_T")
OnProgress = Callable[[int, int], object]
OnWarning = Callable[[str], object]


def take_snapshot(
    client: ControlHubClient,
    jobs: Sequence[Job],
    *,
    anonymise: bool = False,
    on_progress: OnProgress | None = None,
    on_warning: OnWarning | None = None,
) -> dict[str, Any]:
    """
    Return jobs with their templates, pipelines and engines as a seed of the sandbox.

    Parameters and texts that may contain secrets are left out. Details that cannot be read take defaults.

    :param client: the client
    :param jobs: jobs and job templates; missing templates of the jobs are added
    :param anonymise: replace all names and values by neutral ones
    :param on_progress: called after each job with the number of read jobs and that of all jobs
    :param on_warning: called with a message for each detail that is missing
    :raises ControlHubAuthenticationError: if the credential is rejected
    :raises ControlHubUnavailableError: if Control Hub does not respond
    """
    return _Snapshot(client, anonymise, on_progress, on_warning).take(jobs)


def dump_snapshot(document: Mapping[str, Any], *, source: str | None = None) -> str:
    """
    Return a snapshot as YAML.

    :param document: result of :func:`take_snapshot`
    :param source: what the snapshot was taken of, for the header; None for an anonymised one
    """
    date = pendulum.from_timestamp(submission.wall_clock()).to_date_string()
    header = (
        f"# Snapshot of {source or 'an organization, anonymised'}, {date}.\n"
        "#\n"
        "# A seed of the sandbox: streamsets-sandbox --seed FILE. The package's own seed documents the format.\n"
        "# All jobs succeed, after their typical run length; `past` contains their latest runs.\n\n"
    )
    # Collections without nested ones take one line.
    return header + yaml.safe_dump(
        dict(document), sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )


class _Snapshot:
    def __init__(
        self,
        client: ControlHubClient,
        anonymise: bool,
        on_progress: OnProgress | None,
        on_warning: OnWarning | None,
    ) -> None:
        self._client = client
        self._names = SnapshotNames(anonymise)
        self._on_progress = on_progress or (lambda *_: None)
        self._warn = on_warning or (lambda _: None)

    def take(self, jobs: Sequence[Job]) -> dict[str, Any]:
        organization = self._organization()
        self._now = pendulum.from_timestamp(submission.wall_clock() + self._client.clock_skew)
        jobs = self._with_templates(jobs)
        engines = self._engines(jobs)
        histories = {}
        for number, job in enumerate(jobs, start=1):
            histories[job.job_id] = self._history(job)
            self._on_progress(number, len(jobs))
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            groups.setdefault(job.pipeline_id or job.pipeline_name, []).append(job)
        job_keys = unique_keys({job.job_id: self._job_name(job) for job in jobs})
        pipeline_keys = unique_keys({key: self._pipeline_name(group) for key, group in groups.items()})
        pipelines, entries, assumed = [], {}, []
        for pipeline_id, group in groups.items():
            key = pipeline_keys[pipeline_id]
            versions, numbers = self._versions(group)
            typical = (histories[job.job_id].typical_behaviour() for job in group)
            behaviour = next((behaviour for behaviour in typical if behaviour), None)
            if behaviour is None:
                assumed.append(f"'{group[0].pipeline_name}'")
                behaviour = DEFAULT_BEHAVIOUR
            # Copies, as YAML writes a reference for an object that it has written before.
            pipeline = {**_with_key(self._pipeline_name(group), key), "versions": versions, "behaviour": {**behaviour}}
            pipelines.append(pipeline)
            for job in group:
                entries[job.job_id] = self._job(job, job_keys, key, numbers, behaviour, histories[job.job_id])
        if assumed:
            self._warn(
                f"No job of these pipelines has finished a run, so their runs take {DEFAULT_SECONDS} seconds: "
                f"{join_truncated(assumed)}."
            )
        return {
            "organization": organization,
            "engines": engines,
            "pipelines": pipelines,
            "jobs": [entries[job.job_id] for job in jobs],
        }

    def _job_name(self, job: Job) -> str:
        return self._names.name("Job template " if job.is_template else "Job ", job.name)

    def _pipeline_name(self, jobs: Sequence[Job]) -> str:
        return self._names.name("Pipeline ", jobs[0].pipeline_name) or "Pipeline"

    def _read(self, default: _T, consequence: str, read: Callable[[], _T]) -> _T:
        """
        Return a detail, or a default if it cannot be read.

        :param default: the default
        :param consequence: what the snapshot contains instead, for the warning
        :param read: reads the detail
        """
        try:
            return read()
        except ControlHubError as error:
            if isinstance(error, ControlHubAuthenticationError) or _is_outage(error):
                raise
            self._warn(f"{error} {consequence}")
            return default

    def _organization(self) -> dict[str, Any]:
        name = self._read(
            "", "The organization has a neutral name.", lambda: self._client.current_user().organization_name
        )
        # The user of a sandbox is not a person of the organization.
        user = {"name": "Sandbox user", "email": "sandbox@example.com"}
        return {"name": self._names.name("Organization ", name) or "Organization", "user": user}

    def _with_templates(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the templates, first those that were not selected, followed by the jobs."""
        found = {job.job_id: job for job in jobs}
        missing = {job.template_id: None for job in jobs if job.template_id and job.template_id not in found}
        templates: dict[str, Job] = {}
        templates = self._read(
            templates, "The jobs are not attached to their templates.", lambda: self._client.jobs.get_many(missing)
        )
        found.update(templates)
        return sorted(found.values(), key=lambda job: not job.is_template)

    def _engines(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        found = {}
        for kind in dict.fromkeys(job.executor_type or "COLLECTOR" for job in jobs):
            if kind != "SNOWPARK":
                found.update({engine.engine_id: engine for engine in self._engines_of_type(kind)})
        names = {
            engine_id: self._names.name("engine-", urlsplit(engine.url).hostname or engine_id)
            for engine_id, engine in found.items()
        }
        entries = []
        for engine_id, name in unique_keys(names).items():
            engine = found[engine_id]
            url = engine.url if engine.url and not self._names.anonymise and not may_be_secret(engine.url) else ""
            entries.append(
                {
                    "name": name,
                    "url": url or f"http://{name}.example.com:18630",
                    **({"version": engine.version} if engine.version else {}),
                    "labels": [self._names.label(label) for label in engine.labels],
                }
            )
        unmatched = [job for job in jobs if not any(set(_labels(job)) <= set(e.labels) for e in found.values())]
        if unmatched:
            self._warn(
                f"No engine has all labels of the jobs {join_truncated([job.title for job in unmatched])}. The "
                f"snapshot contains an engine '{_EXTRA_ENGINE}' for them."
            )
            labels = dict.fromkeys(self._names.label(label) for job in unmatched for label in _labels(job))
            url = f"http://{_EXTRA_ENGINE}.example.com:18630"
            entries.append({"name": _EXTRA_ENGINE, "url": url, "labels": list(labels)})
        return entries

    def _engines_of_type(self, kind: str) -> list[Engine]:
        return self._read(
            [],
            "The snapshot contains none of these engines.",
            lambda: list(self._client.engines.list(executor_type=kind)),
        )

    def _history(self, job: Job) -> RunHistory:
        current = job.current_run
        if current is None:
            return RunHistory(self._now)
        runs = self._read(
            [current],
            f"Only the latest run of job {job.label} is known.",
            lambda: self._client.runs.history(job.job_id, RECENT_RUNS),
        )
        history = RunHistory(self._now, runs)
        history.decide_outcomes(
            lambda run: self._read(
                [], f"The outcome of job {job.label} is uncertain.", lambda: self._client.runs.events(run.run_id)
            )
        )
        counts: dict[int, Counts] | None = {run.run_count: run.counts for run in runs if run.has_counts}
        if not counts:
            counts = self._read(
                None,
                f"The record counts of job {job.label} are made up.",
                lambda: self._record_counts(job, current),
            )
            history.saves_metrics = counts is None or bool(counts)
        for run in runs:
            if counts and run.run_count in counts:
                inputs, outputs, errors = counts[run.run_count]
                # In the sandbox, each instance reads all records.
                instances = len(run.engine_ids) or max(1, job.number_of_instances)
                history.counts[run.run_count] = inputs // instances, outputs // instances, errors // instances
        return history

    def _record_counts(self, job: Job, latest: JobRun) -> dict[int, Counts] | None:
        found = self._client.metrics.all_runs(job.job_id, latest=latest)
        return {entry.run_count: (entry.input_count, entry.output_count, entry.error_count) for entry in found}

    def _versions(self, jobs: Sequence[Job]) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Return the versions of the pipeline of jobs, and their numbers by those in Control Hub."""
        pipeline_id, name = jobs[0].pipeline_id, jobs[0].pipeline_name
        found: list[PipelineVersion] = []
        tags: dict[str, str] = {}
        if pipeline_id:
            found = self._read(
                [],
                f"Pipeline '{name}' has only the versions of its jobs.",
                lambda: self._client.pipelines.versions(pipeline_id),
            )
            tags = self._read(
                {}, f"The versions of pipeline '{name}' have no tags.", lambda: self._client.pipelines.tags(pipeline_id)
            )
        needed = {*tags.values(), *(job.pipeline_commit_id for job in jobs)}
        selected = [v for index, v in enumerate(found) if index < RECENT_VERSIONS or v.commit_id in needed]
        if not selected:
            numbers = sorted({job.pipeline_version or "1" for job in jobs}, key=lambda number: (len(number), number))
            return self._assumed_versions(numbers, jobs)
        # Other versions are taken to have the parameters of the next newer one that was read.
        constants: dict[str, Any] = {}
        entries = []
        for index, version in enumerate(selected):
            if index == 0 or version.commit_id in needed:
                constants = self._constants(version, jobs)
            entry: dict[str, Any] = {
                "message": self._names.text(version.message) or f"Version {version.version}",
                "committed": self._age(version.time),
            }
            version_tags = [tag for tag, commit_id in tags.items() if commit_id == version.commit_id]
            if version_tags:
                entry["tags"] = [{"name": self._names.name("version-tag-", tag)} for tag in version_tags]
            entries.append({**entry, "constants": dict(constants)} if constants else entry)
        return _number(entries[::-1], [version.version for version in reversed(selected)])

    def _assumed_versions(self, numbers: list[str], jobs: Sequence[Job]) -> tuple[list[dict[str, Any]], dict[str, int]]:
        constants = self._parameters_of_jobs(jobs)
        entries = [
            {"message": f"Version {n}", "committed": _DEFAULT_AGE, "constants": dict(constants)} for n in numbers
        ]
        return _number(entries, numbers)

    def _constants(self, version: PipelineVersion, jobs: Sequence[Job]) -> dict[str, Any]:
        parameters = self._read(
            None,
            f"Version {version.version} of pipeline '{version.name}' has the parameters of its jobs.",
            lambda: self._client.pipelines.parameters(version.commit_id),
        )
        return self._parameters_of_jobs(jobs) if parameters is None else self._names.parameters(parameters)

    def _parameters_of_jobs(self, jobs: Sequence[Job]) -> dict[str, Any]:
        return {
            name: value for job in jobs for name, value in self._names.parameters(dict(job.runtime_parameters)).items()
        }

    def _age(self, time: pendulum.DateTime | None) -> str:
        return duration((self._now - time).total_seconds()) if time else _DEFAULT_AGE

    def _job(
        self,
        job: Job,
        keys: Mapping[str, str],
        pipeline_key: str,
        versions: dict[str, int],
        pipeline_behaviour: dict[str, Any],
        history: RunHistory,
    ) -> dict[str, Any]:
        behaviour = history.typical_behaviour()
        optional = {
            "description": self._names.text(job.description),
            "tags": [self._names.tag(tag) for tag in job.tags],
            "parameters": self._names.parameters(dict(job.runtime_parameters)),
            "static_parameters": [self._names.name("PARAMETER_", name) for name in job.static_parameters],
            "template": job.is_template,
            "from_template": keys.get(job.template_id or ""),
            "failover": job.failover,
            "time_series": job.time_series,
            "behaviour": behaviour if behaviour != pipeline_behaviour else None,
            "past": history.past(versions, self._names.text),
        }
        # The sandbox has defaults for these.
        settings = {
            "version": versions.get(job.pipeline_version or ""),
            "labels": [self._names.label(label) for label in _labels(job)],
            "instances": job.number_of_instances if job.number_of_instances not in (0, 1) else None,
            "needs_ack": job.needs_acknowledgement,
            "max_retries": job.failover_retries_per_engine if job.failover_retries_per_engine != -1 else None,
            "global_max_retries": job.failover_retries if job.failover_retries != -1 else None,
            "stats_interval": duration(job.statistics_interval),
            "force_stop_timeout": duration(job.force_stop_after),
            "created": self._age(job.create_time),
        }
        return {
            **_with_key(self._job_name(job), keys[job.job_id]),
            "pipeline": pipeline_key,
            **{key: value for key, value in settings.items() if value is not None},
            **{key: value for key, value in optional.items() if value},
        }


def _is_outage(error: ControlHubError) -> bool:
    """Return whether there was no response, which is no matter of a single detail."""
    return isinstance(error, ControlHubUnavailableError) and error.http_status is None


def _labels(job: Job) -> tuple[str, ...]:
    return job.engine_labels or (DEFAULT_LABEL,)


def _with_key(name: str, key: str) -> dict[str, Any]:
    return {"name": name} if name == key else {"name": name, "key": key}


def _number(entries: list[dict[str, Any]], labels: list[str]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return versions with their numbers, which are their positions if Control Hub's are not numbers."""
    are_numbers = all(label.isdecimal() and int(label) for label in labels)
    numbers = {label: int(label) if are_numbers else index for index, label in enumerate(labels, start=1)}
    return [{"version": number, **entry} for number, entry in zip(numbers.values(), entries, strict=True)], numbers
