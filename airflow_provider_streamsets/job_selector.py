"""The connection of tasks, and functions that select jobs and runs, shared by operators, sensors and triggers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from jinja2 import Undefined
from jinja2.nativetypes import NativeEnvironment

from airflow_provider_streamsets import hooks, params
from airflow_provider_streamsets.compat import push_outputs
from airflow_provider_streamsets.control_hub.models import RunIdentity
from airflow_provider_streamsets.links.job import link_xcoms
from airflow_provider_streamsets.params import Parameter, RenderedParameters

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from pendulum import DateTime

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job


def check_job_selection(job_id: Any, job_name: Any) -> None:
    """
    Check that exactly one of job id and job name is set, after rendering.

    :raises ValueError: if not, or one of them is invalid
    """
    params.exactly_one(job_id=job_id, job_name=job_name)
    params.resource_id(job_id, "job_id", rendered=True)
    params.string(job_name, "job_name", rendered=True)


def get_job(client: ControlHubClient, job_id: str | None, job_name: str | None, *, templates: bool = False) -> Job:
    """
    Return the job with an id or an exact name.

    :param templates: whether the name is that of a job template
    :raises ControlHubNotFoundError: if the job does not exist
    :raises ControlHubAmbiguousNameError: if several jobs have the name
    """
    if job_id is not None:
        return client.jobs.get(str(job_id).strip())
    return client.jobs.find_by_name(str(job_name), templates=templates)


def validate_run_selection(
    run_count: Any, started_after: Any, next_run: Any, *, rendered: bool = False
) -> dict[str, Any]:
    """
    Return `run_count`, `started_after` and `next_run`, by name.

    :raises ValueError: if one of them is invalid, or several are set
    """
    next_run = params.fixed_boolean(next_run, "next_run")
    params.at_most_one(run_count=run_count, started_after=started_after, next_run=next_run or None)
    return {
        "run_count": params.integer(run_count, "run_count", rendered=rendered),
        "started_after": params.timestamp(started_after, "started_after", rendered=rendered),
        "next_run": next_run,
    }


def select_run(
    client: ControlHubClient,
    job: Job,
    *,
    run_count: int | None = None,
    started_after: DateTime | None = None,
    next_run: bool = False,
) -> dict[str, Any]:
    """
    Select the run of a job to wait for, as JSON values.

    :param client: client for the run history, which is read if an earlier run can be the first one at or after a time
    :param job: the job as just read
    :param run_count: number of the run; by default the latest one, or the first one of a job that has never run
    :param started_after: select the first run started at this time or later
    :param next_run: select the run after the latest one
    :returns: ``job_id``, ``job_name``, ``run_count``, and ``identity`` if the run is known; ``started_after`` if there
        is no such run yet; ``run_count`` is then its lowest possible number
    """
    candidate, latest = job.current_run, job.last_run_count
    run: dict[str, Any] = {"job_id": job.job_id, "job_name": job.name, "run_count": run_count or max(latest, 1)}
    if started_after is not None:
        first = client.runs.first_since(job.job_id, job.current_run, started_after)
        if first is None:
            return {**run, "run_count": latest + 1, "started_after": started_after.isoformat()}
        candidate, run["run_count"] = first, first.run_count
    elif next_run:
        run["run_count"] = latest + 1
    if candidate is None or candidate.run_count != run["run_count"]:
        return run
    return {**run, "identity": RunIdentity.from_run(candidate).to_json()}


def log_selected_run(
    log: Any,
    job: Job,
    run: Mapping[str, Any],
    *,
    run_count: int | None = None,
    started_after: DateTime | None = None,
    next_run: bool = False,
) -> None:
    """
    Log the selected run, with a warning if `run_count` has not started yet.

    :param log: the logger
    :param job: the job as just read
    :param run: result of :func:`select_run` for these parameters
    """
    latest = job.last_run_count
    if started_after is not None and run.get("started_after"):
        log.info("Job %s: no run started at or after %s yet, waiting.", job.label, started_after)
    elif started_after is not None:
        log.info(
            "Job %s run %d: first run started at or after %s, waiting.",
            job.label,
            run["run_count"],
            started_after,
        )
    elif next_run:
        log.info("Job %s run %d: next run, waiting.", job.label, run["run_count"])
    elif run_count is not None and run_count > latest:
        state = f"the latest run is {latest}" if latest else "the job has never run"
        log.warning(
            "Job %s run %d: not started yet (%s), waiting. Check 'run_count' if this is not expected.",
            job.label,
            run_count,
            state,
        )
    elif run_count is not None:
        log.info("Job %s run %d: waiting.", job.label, run_count)
    elif latest:
        log.info("Job %s run %d: latest run, waiting.", job.label, latest)
    else:
        log.info("Job %s: never run, waiting for the first run.", job.label)


class ControlHubMixin:
    """Mixin of tasks with a connection to Control Hub, whose parameters are declared as :class:`Parameter`."""

    control_hub_conn_id = Parameter()
    do_xcom_push: bool
    log: Any
    multiple_outputs: bool
    template_fields: Collection[str]
    result_is_dict: ClassVar[bool] = False
    """Whether the task returns a dict, so that ``multiple_outputs`` defaults to True."""
    _was_accepted: bool | None = None
    """Whether Control Hub accepted the credential before a deferral; None if the task was not deferred."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        is_inherited = len(cls.__bases__) == 1 and not any(isinstance(value, Parameter) for value in vars(cls).values())
        if "template_fields" in vars(cls) or is_inherited:
            return
        parameters = params.declared_parameters(cls)
        fields = sorted(parameters, key=lambda name: not parameters[name].first)
        # Fields that a base class lists without declaring them.
        others = (name for name in getattr(cls, "template_fields", ()) if name not in parameters)
        cls.template_fields = (*fields, *others)

    @property
    def rendered(self) -> RenderedParameters:
        """The parameters as checked and converted after rendering; each access raises ValueError if it is invalid."""
        return RenderedParameters(self)

    def check_parameters(self, declared_by: type | None = None) -> None:
        """
        Check the rendered parameters, each by itself.

        :param declared_by: check only the parameters that this class declares, without those of its bases
        :raises ValueError: if one of them is invalid
        """
        for name in params.declared_parameters(type(self)):
            if declared_by is None or name in vars(declared_by):
                getattr(self.rendered, name)

    @cached_property
    def client(self) -> ControlHubClient:
        """The client of the connection, created on first use."""
        client = hooks.ControlHubHook(self.control_hub_conn_id).get_conn()
        if self._was_accepted:
            client.mark_accepted()
        return client

    def _render(self, template: Any, context: Context, dag: Any = None) -> Any:
        """
        Render a template to a string, also in a DAG with ``render_template_as_native_obj=True``.

        There, Airflow evaluates strings that parse as Python: version "1.10" would become 1.1. Only the value of a
        single expression is kept, if it is an iterable, a dict, a timedelta or None.
        """
        if not isinstance(template.environment, NativeEnvironment):
            return super()._render(template, context, dag)  # type: ignore[misc]
        parts = {name: getattr(template, name) for name in ("environment", "globals", "name", "blocks")}
        # Jinja does not evaluate nodes that are lists.
        wrapper = SimpleNamespace(root_render_func=lambda scope: [list(template.root_render_func(scope))], **parts)
        nodes = super()._render(wrapper, context, dag)  # type: ignore[misc]
        node = nodes[0] if len(nodes) == 1 else ""
        if node is None or (isinstance(node, (Iterable, timedelta)) and not isinstance(node, (str, Undefined))):
            return node
        return "".join(map(str, nodes))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; Control Hub accepted the credential before it."""
        self.record_resumption(next_kwargs)
        return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]

    def record_resumption(self, next_kwargs: dict[str, Any] | None) -> None:
        """
        Record that the task was deferred before, so that a single 401 is not treated as a rejected credential.

        If the trigger confirmed the rejection, it is not confirmed again.

        :param next_kwargs: arguments with which Airflow resumes the task
        """
        event = (next_kwargs or {}).get("event")
        error = event.get("error") if isinstance(event, Mapping) else None
        kind = error.get("type") if isinstance(error, Mapping) else None
        self._was_accepted = kind != "ControlHubAuthenticationError"

    def validate_multiple_outputs(self, multiple_outputs: bool | None) -> bool:
        """
        Return the value of ``multiple_outputs``; by default, whether the result is a dict.

        :param multiple_outputs: parameter of the task; None means not set
        :raises ValueError: if it is True and the result is no dict, which Airflow detects only at the end of the task
        """
        if multiple_outputs is None:
            return self.result_is_dict
        multiple_outputs = params.fixed_boolean(multiple_outputs, "multiple_outputs")
        if multiple_outputs and not self.result_is_dict:
            raise ValueError(f"{type(self).__name__} does not return a dict; remove multiple_outputs=True.")
        return multiple_outputs

    def push_failed_result(self, context: Context, result: dict[str, Any]) -> None:
        """Push the result of a failed run to XCom, with the keys that a returned result would have."""
        if self.do_xcom_push:
            push_outputs(context["ti"], {**(result if self.multiple_outputs else {}), "result": result})

    def push_job(self, context: Context, job_id: str) -> None:
        """Push the id of a job and the link to it to XCom."""
        context["ti"].xcom_push(key="job_id", value=job_id)
        self.push_link(context, self.client.job_url(job_id))

    def push_jobs(self, context: Context, job_ids: Sequence[str]) -> None:
        """Push the ids of jobs and the link to the first of them to XCom."""
        context["ti"].xcom_push(key="job_ids", value=list(job_ids))
        self.push_links(context, job_ids)

    def push_links(self, context: Context, job_ids: Sequence[str]) -> None:
        """Push the link to the first of several jobs to XCom, if there are any."""
        if job_ids:
            self.push_link(context, self.client.job_url(job_ids[0]))

    def push_link(self, context: Context, job_url: str) -> None:
        """Push the links of the task to XCom; an empty URL means that the job does not exist any more."""
        ti = context["ti"]
        for key, value in link_xcoms(ti, self.control_hub_conn_id, job_url).items():
            ti.xcom_push(key=key, value=value)


def job_parameters() -> tuple[Parameter, Parameter]:
    """Return the parameters `job_id` and `job_name` of a task for one job, to be declared on its class."""
    return Parameter(params.resource_id, first=True), Parameter(params.string, at_parse=False, first=True)


def jobs_parameters() -> tuple[Parameter, Parameter, Parameter, Parameter]:
    """Return the parameters `job_ids`, `job_names`, `job_tag` and `search` of a task for many jobs, likewise."""
    return (
        Parameter(params.resource_ids, first=True),
        Parameter(params.string_list, first=True),
        Parameter(params.string, at_parse=False, first=True),
        Parameter(params.string, at_parse=False, first=True),
    )


class _JobTask(Protocol):
    job_id: Any
    job_name: Any

    @property
    def client(self) -> ControlHubClient: ...

    def check_parameters(self) -> None: ...

    def push_job(self, context: Context, job_id: str) -> None: ...


class _JobsTask(Protocol):
    job_ids: Any
    job_names: Any
    job_tag: Any
    search: Any
    log: Any

    @property
    def client(self) -> ControlHubClient: ...

    @property
    def rendered(self) -> Any: ...

    def check_parameters(self) -> None: ...

    def push_jobs(self, context: Context, job_ids: Sequence[str]) -> None: ...


def resolve_job(task: _JobTask, *, templates: bool = False) -> Job:
    """Return the selected job of a task with one request, see :func:`find_job`."""
    check_job_selection(task.job_id, task.job_name)
    return get_job(task.client, task.job_id, task.job_name, templates=templates)


def find_job(task: _JobTask, context: Context, *, templates: bool = False) -> Job:
    """
    Check all parameters of a task, return the selected job, and push its id and link to XCom.

    :param task: an operator with :func:`job_parameters`
    :param context: the task's context
    :param templates: whether the name is that of a job template
    :raises ValueError: if none or both of `job_id` and `job_name` are set after rendering, or a parameter is invalid
    :raises ControlHubNotFoundError: if the job does not exist
    :raises ControlHubAmbiguousNameError: if several jobs have the name
    """
    task.check_parameters()
    job = resolve_job(task, templates=templates)
    task.push_job(context, job.job_id)
    return job


def find_jobs(
    task: _JobsTask, context: Context, *, missing_ok: bool = False, started: Collection[str] = ()
) -> list[Job]:
    """
    Check all parameters and return the selected jobs; push their ids and the link to the first of them to XCom.

    A tag or search without matches returns an empty list, with a warning in the log. Job templates can be selected only
    by id.

    :param task: an operator with :func:`jobs_parameters`
    :param context: the task's context
    :param missing_ok: skip jobs given by id or name that do not exist
    :param started: ids of jobs that an earlier try started; a tag or search may no longer find them, because they run
    :raises ValueError: if none or several of the parameters are set after rendering, or one is invalid
    :raises ControlHubNotFoundError: if a job given by id or name does not exist
    :raises ControlHubAmbiguousNameError: if several jobs have one of the names
    """
    names = ("job_ids", "job_names", "job_tag", "search")
    selection = {name: value for name in names if (value := getattr(task, name)) is not None}
    params.exactly_one(**{name: selection.get(name) for name in names})
    task.check_parameters()
    jobs = _get_jobs(task, missing_ok, started)
    task.push_jobs(context, [job.job_id for job in jobs])
    if not jobs:
        task.log.warning("No job matches %s; nothing to do.", ", ".join(f"{k}={v!r}" for k, v in selection.items()))
    return jobs


def _get_jobs(task: _JobsTask, missing_ok: bool, started: Collection[str]) -> list[Job]:
    if task.job_ids is not None:
        read = task.client.jobs.get_many if missing_ok else task.client.jobs.get_all
        return list(read(task.rendered.job_ids).values())
    if task.job_names is not None:
        return task.client.jobs.find_by_names(task.rendered.job_names, missing_ok=missing_ok)
    tag = None if task.job_tag is None else task.rendered.job_tag.strip()
    jobs = {job.job_id: job for job in task.client.jobs.list(tag=tag, search=task.rendered.search)}
    return [*jobs.values(), *task.client.jobs.get_many(job_id for job_id in started if job_id not in jobs).values()]
