"""The OpenLineage events of runs, and what they contain. Needs the OpenLineage provider."""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import pendulum
from airflow.providers.openlineage.api import emit, is_openlineage_active
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.plugins import macros
from airflow.providers.openlineage.utils.emission_policy import resolve_task_emission_policy
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    JobFacet,
    RunFacet,
    documentation_job,
    error_message_run,
    input_statistics_input_dataset,
    job_type_job,
    output_statistics_output_dataset,
    parent_run,
    processing_engine_run,
    source_code_location_job,
    tags_job,
)

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.assets.jobs import job_uri
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import ControlHubError
from airflow_provider_streamsets.control_hub.models import Job as ControlHubJob
from airflow_provider_streamsets.control_hub.models import JobRun, Outcome
from airflow_provider_streamsets.openlineage.datasets import Name, PipelineDatasets, pipeline_datasets

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient, RunMetrics
    from airflow_provider_streamsets.control_hub.tracking.report import RunReport
    from airflow_provider_streamsets.operators._run_operators import ControlHubRunWaitOperator

log = logging.getLogger(__name__)

_A = TypeVar("_A")
_T = TypeVar("_T")

_PRODUCER = f"https://pypi.org/project/airflow-provider-streamsets/{__version__}/"
# Seconds for each request, and for all of them, as Airflow ends the process of the events after ten.
_REQUEST_TIMEOUT = 2.0
_REQUESTS_MAX_WAIT = 4.0
_ENDS: Mapping[Outcome | None, RunState] = {
    Outcome.SUCCEEDED: RunState.COMPLETE,
    Outcome.FAILED: RunState.FAIL,
    Outcome.STOPPED: RunState.ABORT,
}
_ENGINES = {"COLLECTOR": "StreamSets Data Collector", "TRANSFORMER": "StreamSets Transformer"}


# The schema of its base class, which allows any properties, as for the facets of Airflow's own OpenLineage provider.
@attrs.define
class ControlHubRunFacet(RunFacet):
    """The run of a job in Control Hub."""

    jobId: str  # noqa: N815 - names of OpenLineage
    runCount: int  # noqa: N815
    status: str | None = None
    color: str | None = None
    pipelineName: str | None = None  # noqa: N815
    pipelineVersion: str | None = None  # noqa: N815
    pipelineCommitId: str | None = None  # noqa: N815
    engines: list[dict[str, str]] = attrs.field(factory=list)
    inputRecords: int | None = None  # noqa: N815
    outputRecords: int | None = None  # noqa: N815
    errorRecords: int | None = None  # noqa: N815
    metricsFinal: bool | None = None  # noqa: N815
    """Whether the numbers of records were saved after the end of the pipeline."""


def is_emitting(task: Any, task_instance: Any) -> bool:
    """Return whether OpenLineage is active, and its emission policy lets this task describe what it does."""
    if not is_openlineage_active():
        return False
    policy = resolve_task_emission_policy(task, task_instance.dag_id, task_instance.task_id)
    return policy.emit and policy.extract_operator_metadata


def parent_of(task_instance: Any) -> parent_run.ParentRunFacet:
    """Return the facet that makes a run a child of the run of a task."""
    return parent_run.ParentRunFacet(
        run=parent_run.Run(macros.lineage_run_id(task_instance)),
        job=parent_run.Job(macros.lineage_job_namespace(), macros.lineage_job_name(task_instance)),
        root=parent_run.Root(
            run=parent_run.RootRun(macros.lineage_root_run_id(task_instance)),
            job=parent_run.RootJob(
                macros.lineage_root_job_namespace(task_instance), macros.lineage_root_job_name(task_instance)
            ),
        ),
        producer=_PRODUCER,
    )


def parent_json(task_instance: Any) -> str:
    """Return the parent in JSON, in the format that Databricks' operators pass to jobs."""
    parent = parent_of(task_instance)

    def describe(part: Any) -> dict[str, Any]:
        return {"run": {"runId": part.run.runId}, "job": {"namespace": part.job.namespace, "name": part.job.name}}

    return json.dumps({"parent": {**describe(parent), "root": describe(parent.root)}}, separators=(",", ":"))


def declares(client: ControlHubClient, job: ControlHubJob, parameter: str) -> bool:
    """Return whether the pipeline of a job has a runtime parameter, with at most one request."""
    if parameter in job.runtime_parameters:
        return True
    if job.pipeline_commit_id is None:
        return False
    with client.with_options(timeout=_REQUEST_TIMEOUT) as own:
        return parameter in own.pipelines.definition(job.pipeline_commit_id).parameters


def run_id(job_id: str, run_count: int) -> str:
    """Return the id of a run: always the same, so that all events of the run are about one."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{job_uri(job_id)}/runs/{run_count}"))


def emit_starts(task: ControlHubRunWaitOperator, parent: parent_run.ParentRunFacet, runs: Mapping[str, int]) -> None:
    """
    Emit the starts of runs.

    :param task: the operator
    :param parent: the run of the task
    :param runs: run count by job id
    """
    with _Source(task, runs) as source:
        for job_id, run_count in runs.items():
            run = source.jobs[job_id].current_run
            if run is None or run.run_count != run_count:
                run = _unknown_run(job_id, run_count)
            emit(source.event(RunState.START, run.start_time, run, run_count, parent))


def emit_ends(task: ControlHubRunWaitOperator, task_instance: Any) -> OperatorLineage[Any, Any]:
    """
    Emit the ends of the runs that a task has waited for or stopped.

    :param task: the operator
    :param task_instance: its task instance
    """
    waiter, policy = task.waiter, task.policy
    reports = [*waiter.earlier_reports, *(waiter.group.reports.values() if waiter.group else ())]
    ended = [report for report in reports if report.run.has_ended and report.outcome in _ENDS]
    stopped = dict(policy.stopping.items() - {(report.job_id, report.awaited_run_count) for report in ended})
    if not ended and not stopped:
        return OperatorLineage()
    task_run = parent_of(task_instance)

    def parent(job_id: str, run_count: int) -> parent_run.ParentRunFacet | None:
        # The runs of other callers have another parent, or none.
        return task_run if policy.started.get(job_id) == run_count else None

    with _Source(task, [*(report.job_id for report in ended), *stopped], [report.run for report in ended]) as source:
        for report in ended:
            state, run_count = _ENDS[report.outcome], report.awaited_run_count
            end, own_parent = report.run.finish_time, parent(report.job_id, run_count)
            emit(source.event(state, end, report.run, run_count, own_parent, report))
        for job_id, run_count in stopped.items():
            run = _unknown_run(job_id, run_count)
            emit(source.event(RunState.ABORT, None, run, run_count, parent(job_id, run_count)))
    return OperatorLineage()


def _unknown_run(job_id: str, run_count: int) -> JobRun:
    return JobRun("", job_id, run_count, status="", color="")


class _Source(contextlib.AbstractContextManager["_Source"]):
    """
    Builds events from what is known about jobs, pipelines and engines, as far as it can be fetched in time.

    :param task: the operator
    :param job_ids: ids of the jobs
    :param runs: their runs if they have ended
    """

    def __init__(self, task: ControlHubRunWaitOperator, job_ids: Iterable[str], runs: Sequence[JobRun] = ()) -> None:
        self._task = task
        # With HTTP connections of its own: the events are emitted in another thread or process.
        self._client: ControlHubClient = task.client.with_options(timeout=_REQUEST_TIMEOUT)
        self._deadline = Deadline(_REQUESTS_MAX_WAIT)
        names, found = task.waiter.job_names, self._fetch(self._client.jobs.get_many, list(job_ids)) or {}
        self.jobs = {i: found.get(i) or ControlHubJob(i, names.get(i) or i) for i in job_ids}
        """The jobs, by id; those that could not be fetched have only a name."""
        commits = {job_id: job.pipeline_commit_id for job_id, job in self.jobs.items()}
        commits.update({run.job_id: run.pipeline_commit_id for run in runs if run.pipeline_commit_id})
        self._definitions = {i: self._fetch(self._client.pipelines.definition, i) for i in set(commits.values()) if i}
        engine_ids = sorted({engine_id for run in runs for engine_id in run.engine_ids})
        self._engines = (self._fetch(self._client.engines.get_all, engine_ids) if engine_ids else None) or {}

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _fetch(self, fetch: Callable[[_A], _T], argument: _A) -> _T | None:
        if self._deadline.has_passed:
            return None
        try:
            return fetch(argument)
        except ControlHubError as error:
            log.warning("The OpenLineage events are incomplete: %s", error)
            return None

    def event(
        self,
        state: RunState,
        time: pendulum.DateTime | None,
        run: JobRun,
        run_count: int,
        parent: parent_run.ParentRunFacet | None,
        report: RunReport | None = None,
    ) -> RunEvent:
        """
        Return an event.

        :param state: what has happened
        :param time: when it happened; None for now
        :param run: the run as far as it is known
        :param run_count: its number when the task began to wait for it, before an upgrade of the job replaced it
        :param parent: the run of the task, if it started this one
        :param report: the report of the run if it has ended
        """
        job = self.jobs[run.job_id]
        commit_id = run.pipeline_commit_id or job.pipeline_commit_id
        definition = self._definitions.get(commit_id or "")
        datasets = pipeline_datasets(definition, self._parameters(job, parent)) if definition else PipelineDatasets()
        metrics = report.metrics if report else None
        facets: dict[str, RunFacet] = {
            "streamsets_run": ControlHubRunFacet(
                jobId=job.job_id,
                runCount=run.run_count,
                status=run.status if report else None,
                color=run.color if report else None,
                pipelineName=job.pipeline_name or None,
                pipelineVersion=run.pipeline_version or job.pipeline_version,
                pipelineCommitId=commit_id,
                engines=[self._describe_engine(engine_id) for engine_id in (run.engine_ids if report else ())],
                inputRecords=metrics.input_count if metrics else None,
                outputRecords=metrics.output_count if metrics else None,
                errorRecords=metrics.error_count if metrics else None,
                metricsFinal=report.metrics_final if report and metrics else None,
                producer=_PRODUCER,
            )
        }
        if parent is not None:
            facets["parent"] = parent
        for engine in [self._engines[engine_id] for engine_id in run.engine_ids if engine_id in self._engines][:1]:
            name = _ENGINES.get(engine.executor_type or "", "StreamSets")
            facets["processing_engine"] = processing_engine_run.ProcessingEngineRunFacet(
                engine.version, name, __version__, producer=_PRODUCER
            )
        if report is not None and report.outcome is not Outcome.SUCCEEDED:
            message = report.reason or report.summary
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message, "JAVA", producer=_PRODUCER)
        return RunEvent(
            eventType=state,
            eventTime=(time or pendulum.now("UTC")).isoformat(),
            run=Run(run_id(job.job_id, run_count), facets),
            job=Job(_namespace(job.job_id), job.name, self._job_facets(job, datasets)),
            inputs=[_input(name, datasets, metrics) for name in datasets.inputs],
            outputs=[_output(name, datasets, metrics) for name in datasets.outputs],
            producer=_PRODUCER,
        )

    def _parameters(self, job: ControlHubJob, parent: object) -> Mapping[str, Any] | None:
        """Return the runtime parameters of a run of this task; Control Hub does not report those of other runs."""
        own = getattr(self._task.rendered, "runtime_parameters", None)
        return {**job.runtime_parameters, **(own if isinstance(own, Mapping) else {})} if parent else None

    def _describe_engine(self, engine_id: str) -> dict[str, str]:
        engine = self._engines.get(engine_id)
        return {"id": engine_id, **({"url": engine.url, "version": engine.version} if engine else {})}

    def _job_facets(self, job: ControlHubJob, datasets: PipelineDatasets) -> dict[str, JobFacet]:
        facets: dict[str, JobFacet] = {
            "jobType": job_type_job.JobTypeJobFacet(
                "STREAMING" if datasets.is_streaming else "BATCH", "STREAMSETS", "JOB", producer=_PRODUCER
            ),
            "sourceCodeLocation": source_code_location_job.SourceCodeLocationJobFacet(
                type="streamsets", url=self._task.client.job_url(job.job_id), producer=_PRODUCER
            ),
        }
        if job.description:
            facets["documentation"] = documentation_job.DocumentationJobFacet(job.description, producer=_PRODUCER)
        if job.tags:
            tags = [tags_job.TagsJobFacetFields(tag, tag, "STREAMSETS") for tag in job.tags]
            facets["tags"] = tags_job.TagsJobFacet(tags, producer=_PRODUCER)
        return facets


def _namespace(job_id: str) -> str:
    """Return the namespace of a job, which is that of its asset."""
    return job_uri(job_id).partition("/jobs/")[0]


def _input(name: Name, datasets: PipelineDatasets, metrics: RunMetrics | None) -> InputDataset:
    # The records of several datasets are not counted separately.
    if metrics is None or len(datasets.inputs) != 1:
        return InputDataset(*name)
    facet = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(metrics.input_count, producer=_PRODUCER)
    return InputDataset(*name, inputFacets={"inputStatistics": facet})


def _output(name: Name, datasets: PipelineDatasets, metrics: RunMetrics | None) -> OutputDataset:
    if metrics is None or len(datasets.outputs) != 1 or not datasets.has_one_destination:
        return OutputDataset(*name)
    facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        metrics.output_count, producer=_PRODUCER
    )
    return OutputDataset(*name, outputFacets={"outputStatistics": facet})
