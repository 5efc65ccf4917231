"""How jobs are chosen, the same way in every operator and sensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_streamsets import params
from airflow_provider_streamsets.links.job import ControlHubJobLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from pendulum import DateTime

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job


def check_job_selection(job_id: Any, job_name: Any, *, rendered: bool = False) -> None:
    """
    Check that a job is named by exactly one of id and name.

    :param rendered: whether templates have been rendered
    :raises ValueError: if not, or the id cannot be one
    """
    params.exactly_one(job_id=job_id, job_name=job_name)
    params.resource_id(job_id, "job_id", rendered=rendered)
    if rendered:
        params.string(job_name, "job_name", rendered=True)


def get_job(client: ControlHubClient, job_id: str | None, job_name: str | None, *, templates: bool = False) -> Job:
    """
    Return the job that is named by id or by exact name.

    :param templates: a name is that of a job template
    :raises ControlHubNotFoundError: if there is no such job
    :raises ControlHubAmbiguousNameError: if several have the name
    """
    if job_id is not None:
        return client.jobs.get(str(job_id).strip())
    return client.jobs.find_by_name(str(job_name), templates=templates)


def checked_run(run_count: Any, started_after: Any, next_run: Any, *, rendered: bool = False) -> dict[str, Any]:
    """
    Return which run of a job is waited for, by the names of these parameters.

    :raises ValueError: if one of them is no such thing, or several are given
    """
    next_run = params.fixed_boolean(next_run, "next_run")
    params.at_most_one(run_count=run_count, started_after=started_after, next_run=next_run or None)
    return {
        "run_count": params.integer(run_count, "run_count", rendered=rendered),
        "started_after": params.timestamp(started_after, "started_after", rendered=rendered),
        "next_run": next_run,
    }


def run_of_job(
    client: ControlHubClient,
    job: Job,
    *,
    run_count: int | None = None,
    started_after: DateTime | None = None,
    next_run: bool = False,
) -> dict[str, Any]:
    """
    Return which run of a job is looked at, as JSON values.

    :param client: asked for the history if an earlier run can be the first one after a time
    :param job: the job as just read
    :param run_count: number of the run; by default the latest one, or the first one of a job that has never run
    :param started_after: the first run that was started at this time or later
    :param next_run: the run after the latest one
    :returns: ``job_id``, ``job_name``, ``run_count``, and ``identity`` if the run is known; ``started_after`` if there
        is no such run yet, so that its number is only the lowest that it can have
    """
    from airflow_provider_streamsets.control_hub.models import RunIdentity

    known, latest = job.current_run, job.last_run_count
    run: dict[str, Any] = {"job_id": job.job_id, "job_name": job.name, "run_count": run_count or max(latest, 1)}
    if started_after is not None:
        first = client.runs.first_since(job.job_id, job.current_run, started_after)
        if first is None:
            return {**run, "run_count": latest + 1, "started_after": started_after.isoformat()}
        known, run["run_count"] = first, first.run_count
    elif next_run:
        run["run_count"] = latest + 1
    if known is None or known.run_count != run["run_count"]:
        return run
    return {**run, "identity": RunIdentity.from_run(known).to_json()}


def log_of_run(
    log: Any,
    job: Job,
    run: Mapping[str, Any],
    *,
    run_count: int | None = None,
    started_after: DateTime | None = None,
    next_run: bool = False,
) -> None:
    """
    Log which run of a job is waited for, and whether the job has not reached it.

    :param log: the logger
    :param job: the job as just read
    :param run: what :func:`run_of_job` has returned for these parameters
    """
    latest = job.last_run_count
    if started_after is not None and run.get("started_after"):
        log.info("Job %s has no run that was started at or after %s yet; waiting for it.", job.label, started_after)
    elif started_after is not None:
        log.info(
            "Waiting for run %d of job %s, the first one started at or after %s.",
            run["run_count"],
            job.label,
            started_after,
        )
    elif next_run:
        log.info("Waiting for run %d of job %s, its next one.", run["run_count"], job.label)
    elif run_count is not None and run_count > latest:
        has = f"its latest run is {latest}" if latest else "it has never run"
        log.warning(
            "Job %s has not reached run %d: %s. Waiting for run %d; check 'run_count' if the job is not going to run "
            "that often.",
            job.label,
            run_count,
            has,
            run_count,
        )
    elif run_count is not None:
        log.info("Waiting for run %d of job %s.", run_count, job.label)
    elif latest:
        log.info("Waiting for run %d of job %s, its latest one.", latest, job.label)
    else:
        log.info("Job %s has never run; waiting for its first run.", job.label)


class ControlHubMixin:
    """A task with a connection to Control Hub."""

    control_hub_conn_id: str
    do_xcom_push: bool
    multiple_outputs: bool
    result_is_dict: ClassVar[bool] = False
    """Whether the task returns a dict, each key of which then is an XCom of its own by default."""
    _was_accepted: bool | None = None
    """Whether the leg before a deferral has worked with the connection; None if there was none."""

    @cached_property
    def client(self) -> ControlHubClient:
        """The client of the connection, made when the task runs."""
        from airflow_provider_streamsets.hooks.control_hub import ControlHubHook

        client = ControlHubHook(self.control_hub_conn_id).get_conn()
        if self._was_accepted:
            client.mark_accepted()
        return client

    def _render(self, template: Any, context: Context, dag: Any = None) -> Any:
        """
        Render a template as text, also in a DAG with ``render_template_as_native_obj=True``.

        There, Airflow evaluates text that looks like Python: the version "1.10" becomes 1.1. Only what a single
        expression yields is kept as it is, if it is a list or the like, a dict, a timedelta or None.
        """
        from jinja2 import Undefined
        from jinja2.nativetypes import NativeEnvironment

        if not isinstance(template.environment, NativeEnvironment):
            return super()._render(template, context, dag)  # type: ignore[misc]
        parts = {name: getattr(template, name) for name in ("environment", "globals", "name", "blocks")}
        # Jinja evaluates no node that is a list.
        of_nodes = SimpleNamespace(root_render_func=lambda scope: [list(template.root_render_func(scope))], **parts)
        nodes = super()._render(of_nodes, context, dag)  # type: ignore[misc]
        node = nodes[0] if len(nodes) == 1 else ""
        if node is None or (isinstance(node, (Iterable, timedelta)) and not isinstance(node, (str, Undefined))):
            return node
        return "".join(map(str, nodes))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral, before which the task has worked with the connection."""
        self.note_resumption(next_kwargs)
        return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]

    def note_resumption(self, next_kwargs: dict[str, Any] | None) -> None:
        """
        Note that the task was deferred before, so that a single refusal of the credential is not believed.

        If the trigger has confirmed a refusal, it is not confirmed once more.

        :param next_kwargs: what the task is resumed with
        """
        event = (next_kwargs or {}).get("event")
        error = event.get("error") if isinstance(event, Mapping) else None
        kind = error.get("type") if isinstance(error, Mapping) else None
        self._was_accepted = kind != "ControlHubAuthenticationError"

    def checked_outputs(self, multiple_outputs: bool | None) -> bool:
        """
        Return whether each key of the result is an XCom of its own; by default if the result is a dict.

        :param multiple_outputs: what the task was given; None if nothing
        :raises ValueError: if it is True and the result is no dict, which Airflow refuses only after the work
        """
        if multiple_outputs is None:
            return self.result_is_dict
        multiple_outputs = params.fixed_boolean(multiple_outputs, "multiple_outputs")
        if multiple_outputs and not self.result_is_dict:
            raise ValueError(f"{type(self).__name__} does not return a dict; leave out multiple_outputs=True.")
        return multiple_outputs

    def push_failed_result(self, context: Context, result: dict[str, Any]) -> None:
        """Push the result of a run that has failed the task to XCom, with its keys as if it were returned."""
        if self.do_xcom_push:
            for key, value in {**(result if self.multiple_outputs else {}), "result": result}.items():
                context["ti"].xcom_push(key=key, value=value)

    def push_job(self, context: Context, job_id: str) -> None:
        """Push the id of a job, and the link to it, to XCom."""
        context["ti"].xcom_push(key="job_id", value=job_id)
        ControlHubJobLink.persist(context, self.client.job_url(job_id))

    def push_jobs(self, context: Context, job_ids: Sequence[str]) -> None:
        """Push the ids of jobs, and the link to the first of them, to XCom."""
        context["ti"].xcom_push(key="job_ids", value=list(job_ids))
        self.push_link(context, job_ids)

    def push_link(self, context: Context, job_ids: Sequence[str]) -> None:
        """Push the link to the first of several jobs to XCom, if there is one."""
        if job_ids:
            ControlHubJobLink.persist(context, self.client.job_url(job_ids[0]))


class JobSelectorMixin(ControlHubMixin):
    """A task for one job, which is named by exactly one of id and name."""

    job_id: str | None
    job_name: str | None

    def check_selection(self, *, rendered: bool = False) -> None:
        """
        Check that exactly one of `job_id` and `job_name` is given.

        :param rendered: whether templates have been rendered
        :raises ValueError: if not, or the id cannot be one
        """
        check_job_selection(self.job_id, self.job_name, rendered=rendered)

    def resolve_job(self, *, templates: bool = False) -> Job:
        """
        Return the chosen job, in one request.

        :param templates: a name is that of a job template
        :raises ValueError: if rendering has left none or both of `job_id` and `job_name`
        :raises ControlHubNotFoundError: if there is no such job
        :raises ControlHubAmbiguousNameError: if several have the name
        """
        self.check_selection(rendered=True)
        return get_job(self.client, self.job_id, self.job_name, templates=templates)

    def find_job(self, context: Context, *, templates: bool = False) -> Job:
        """Return the chosen job, as :meth:`resolve_job`, and push its id and link to XCom."""
        job = self.resolve_job(templates=templates)
        self.push_job(context, job.job_id)
        return job


class JobsSelectorMixin(ControlHubMixin):
    """A task for many jobs, which are named by exactly one of ids, names, tag and search."""

    job_ids: Any
    job_names: Any
    job_tag: str | None
    search: str | None

    def check_selection(self, *, rendered: bool = False) -> None:
        """
        Check that exactly one of `job_ids`, `job_names`, `job_tag` and `search` is given.

        :param rendered: whether templates have been rendered
        :raises ValueError: if not
        """
        params.exactly_one(job_ids=self.job_ids, job_names=self.job_names, job_tag=self.job_tag, search=self.search)
        params.resource_ids(self.job_ids, "job_ids", rendered=rendered)
        params.string_list(self.job_names, "job_names", rendered=rendered)
        if rendered:
            params.string(self.job_tag, "job_tag", rendered=True)
            params.string(self.search, "search", rendered=True)

    def find_jobs(self, context: Context, *, missing_ok: bool = False) -> list[Job]:
        """
        Return the chosen jobs, and push their ids, and the link to the first of them, to XCom.

        A tag or a search can match no job: that is an empty list, and no error. Job templates are found by id only.

        :param missing_ok: leave out jobs named by id or name that do not exist
        :raises ValueError: if rendering has left none or several of the parameters
        :raises ControlHubNotFoundError: if a job named by id or name does not exist
        :raises ControlHubAmbiguousNameError: if several jobs have one of the names
        """
        jobs = self._resolve_jobs(missing_ok)
        self.push_jobs(context, [job.job_id for job in jobs])
        return jobs

    def _resolve_jobs(self, missing_ok: bool) -> list[Job]:
        self.check_selection(rendered=True)
        if self.job_ids is not None:
            job_ids = params.resource_ids(self.job_ids, "job_ids", rendered=True)
            read = self.client.jobs.get_many if missing_ok else self.client.jobs.get_all
            return list(read(job_ids).values())
        if self.job_names is not None:
            names = params.string_list(self.job_names, "job_names", rendered=True)
            return self.client.jobs.find_by_names(names, missing_ok=missing_ok)
        if self.job_tag is not None:
            return list(self.client.jobs.list(tag=str(self.job_tag).strip()))
        return list(self.client.jobs.list(search=str(self.search)))
