"""Mixins and functions that select jobs and runs, shared by operators, sensors and triggers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from jinja2 import Undefined
from jinja2.nativetypes import NativeEnvironment

from airflow_provider_streamsets import hooks, params
from airflow_provider_streamsets.control_hub.models import RunIdentity
from airflow_provider_streamsets.links.job import link_xcoms
from airflow_provider_streamsets.params import Parameter, ParametersMixin

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


class ControlHubMixin(ParametersMixin):
    """Mixin of tasks with a connection to Control Hub."""

    control_hub_conn_id = Parameter()
    do_xcom_push: bool
    log: Any
    multiple_outputs: bool
    result_is_dict: ClassVar[bool] = False
    """Whether the task returns a dict, so that ``multiple_outputs`` defaults to True."""
    _was_accepted: bool | None = None
    """Whether Control Hub accepted the credential before a deferral; None if the task was not deferred."""

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
            for key, value in {**(result if self.multiple_outputs else {}), "result": result}.items():
                context["ti"].xcom_push(key=key, value=value)

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


class JobSelectorMixin(ControlHubMixin):
    """Mixin of tasks for one job, selected by id or name."""

    job_id = Parameter(params.resource_id, first=True)
    job_name = Parameter(params.string, at_parse=False, first=True)

    def set_selection(self, *, job_id: str | None, job_name: str | None) -> None:
        """
        Set `job_id` or `job_name`, in the constructor.

        :raises ValueError: if none or both of them are set
        """
        params.exactly_one(job_id=job_id, job_name=job_name)
        self.job_id = job_id
        self.job_name = job_name

    def check_selection(self) -> None:
        """
        Check that exactly one of `job_id` and `job_name` is set.

        :raises ValueError: if not
        """
        params.exactly_one(job_id=self.job_id, job_name=self.job_name)

    def resolve_job(self, *, templates: bool = False) -> Job:
        """
        Return the selected job, with one request.

        :param templates: whether the name is that of a job template
        :raises ValueError: if none or both of `job_id` and `job_name` are set after rendering, or one is invalid
        :raises ControlHubNotFoundError: if the job does not exist
        :raises ControlHubAmbiguousNameError: if several jobs have the name
        """
        self.check_selection()
        self.check_parameters(JobSelectorMixin)
        return get_job(self.client, self.job_id, self.job_name, templates=templates)

    def find_job(self, context: Context, *, templates: bool = False) -> Job:
        """Check all parameters, return the selected job, and push its id and link to XCom; see :meth:`resolve_job`."""
        self.check_parameters()
        job = self.resolve_job(templates=templates)
        self.push_job(context, job.job_id)
        return job


class JobsSelectorMixin(ControlHubMixin):
    """Mixin of tasks for many jobs, selected by ids, names, tag or search."""

    job_ids = Parameter(params.resource_ids, first=True)
    job_names = Parameter(params.string_list, first=True)
    job_tag = Parameter(params.string, at_parse=False, first=True)
    search = Parameter(params.string, at_parse=False, first=True)

    def set_selection(
        self,
        *,
        job_ids: Sequence[str] | str | None,
        job_names: Sequence[str] | str | None,
        job_tag: str | None,
        search: str | None,
    ) -> None:
        """
        Set one of `job_ids`, `job_names`, `job_tag` and `search`, in the constructor.

        :raises ValueError: if none or several of them are set
        """
        params.exactly_one(job_ids=job_ids, job_names=job_names, job_tag=job_tag, search=search)
        self.job_ids = job_ids
        self.job_names = job_names
        self.job_tag = job_tag
        self.search = search

    def check_selection(self) -> None:
        """
        Check that exactly one of `job_ids`, `job_names`, `job_tag` and `search` is set.

        :raises ValueError: if not
        """
        params.exactly_one(job_ids=self.job_ids, job_names=self.job_names, job_tag=self.job_tag, search=self.search)

    def find_jobs(self, context: Context, *, missing_ok: bool = False) -> list[Job]:
        """
        Check all parameters and return the selected jobs; push their ids and the link to the first of them to XCom.

        A tag or search without matches returns an empty list, with a warning in the log. Job templates can be selected
        only by id.

        :param missing_ok: skip jobs given by id or name that do not exist
        :raises ValueError: if none or several of the parameters are set after rendering, or one is invalid
        :raises ControlHubNotFoundError: if a job given by id or name does not exist
        :raises ControlHubAmbiguousNameError: if several jobs have one of the names
        """
        jobs = self._resolve_jobs(missing_ok)
        self.push_jobs(context, [job.job_id for job in jobs])
        if not jobs:
            names = ("job_ids", "job_names", "job_tag", "search")
            selection = [f"{name}={value!r}" for name in names if (value := getattr(self, name)) is not None]
            self.log.warning("No job matches %s; nothing to do.", ", ".join(selection))
        return jobs

    def _resolve_jobs(self, missing_ok: bool) -> list[Job]:
        self.check_selection()
        self.check_parameters()
        if self.job_ids is not None:
            read = self.client.jobs.get_many if missing_ok else self.client.jobs.get_all
            return list(read(self.rendered.job_ids).values())
        if self.job_names is not None:
            return self.client.jobs.find_by_names(self.rendered.job_names, missing_ok=missing_ok)
        if self.job_tag is not None:
            return list(self.client.jobs.list(tag=self.rendered.job_tag.strip()))
        return list(self.client.jobs.list(search=self.rendered.search))
