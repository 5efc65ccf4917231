"""The hook: create a :class:`~airflow_provider_streamsets.control_hub.ControlHubClient` from an Airflow connection."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_streamsets import hooks
from airflow_provider_streamsets.connection_form import CONNECTION_TYPE, HOOK_NAME, form_widgets, ui_field_behaviour
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.errors import ControlHubError, ControlHubNotFoundError

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient

# Seconds to read the report of an ended run.
_REPORT_TIMEOUT = 60.0


class ControlHubHook(BaseHook):
    """
    Connect to StreamSets Control Hub with the API credential of an Airflow connection.

    The connection's host is the Control Hub URL (optional; by default, the login service returns the URL for the
    token's organization), its login the Credential ID, and its password the Token. The extra can hold ``project_id``,
    ``login_url``, ``verify`` (true, false or the path of a CA file), ``timeout`` (seconds, or two numbers for the
    connection and for the response), ``proxies``, ``job_link``, ``bulk_size`` (maximum jobs per request),
    ``credential_grace_period`` (seconds for which a rejected credential that worked before is retried; default 300),
    ``gateway_timeout`` (minimum seconds before a start is sent again after its response was lost; default 120) and
    ``webhook_token`` (token of the subscriptions that push events).

    .. code-block:: python

        client = ControlHubHook("streamsets_default").get_conn()
        job = client.jobs.find_by_name("Orders to warehouse")

    Its own methods change nothing and return JSON values or text, as agents need them.

    :param control_hub_conn_id: id of the connection
    """

    conn_name_attr = "control_hub_conn_id"
    default_conn_name = "streamsets_default"
    conn_type = CONNECTION_TYPE
    hook_name = HOOK_NAME

    def __init__(self, control_hub_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.control_hub_conn_id = control_hub_conn_id

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the connection form for Airflow before 3.2; later versions read the provider info."""
        return form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and placeholders of the connection form for Airflow before 3.2."""
        return ui_field_behaviour()

    @cached_property
    def _client(self) -> ControlHubClient:
        settings = self._settings()
        refresher = hooks.BlockingCredentialRefresher(
            self.control_hub_conn_id, self._settings, grace_period=settings.credential_grace_period
        )
        return settings.client(on_unauthorized=refresher)

    def _settings(self, *, show_id: bool = True) -> hooks.ConnectionSettings:
        connection = self.get_connection(self.control_hub_conn_id)
        return hooks.ConnectionSettings.from_connection(connection, connection.extra_dejson, show_id=show_id)

    def get_conn(self) -> ControlHubClient:
        """
        Return the client. All calls return the same one.

        When Control Hub rejects a credential that it accepted before, the client re-reads the connection and retries
        the request, with back-off, for ``credential_grace_period`` seconds.

        :raises AirflowNotFoundException: if the connection does not exist
        :raises ControlHubConfigurationError: if a field of the connection is invalid
        :raises ControlHubAuthenticationError: if Credential ID or Token are missing or malformed
        """
        return self._client

    def list_jobs(
        self,
        name_starts_with: str | None = None,
        tag: str | None = None,
        status: str | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """
        Return jobs with the status, color and number of their latest runs.

        :param name_starts_with: only jobs whose names start with this
        :param tag: only jobs with this tag, which must be complete, such as nightly/orders
        :param status: only jobs with this status: INACTIVE, ACTIVATING, ACTIVE, DEACTIVATING, ACTIVATION_ERROR or
            INACTIVE_ERROR
        :param limit: maximum number of jobs
        """
        jobs = self.get_conn().jobs.list(name_starts_with=name_starts_with, tag=tag, status=status)
        return [job.summary() for job in islice(jobs, limit)]

    def list_runs(self, job_name: str, limit: int = 10) -> list[dict[str, Any]]:
        """
        Return the runs of a job, newest first, with their status, error message and record counts.

        :param job_name: exact name of the job
        :param limit: maximum number of runs
        """
        job = self.get_conn().jobs.find_by_name(job_name)
        return [tracking.run_record(job.name, run) for run in self.get_conn().runs.history(job.job_id, limit)]

    def explain_run(self, job_name: str, run_count: int | None = None) -> str:
        """
        Return a report of a run: its outcome, error message, engines, warnings, record counts and last events.

        :param job_name: exact name of the job
        :param run_count: number of the run; by default the latest one
        """
        client = self.get_conn()
        job = client.jobs.find_by_name(job_name)
        run = job.current_run if run_count is None else client.runs.get(job.job_id, run_count)
        if run is None:
            raise ControlHubNotFoundError(
                f"Job {job.label} has {'never run' if run_count is None else f'no run {run_count}'}."
            )
        if not run.has_ended:
            report = tracking.RunReport.from_active_run(job_id=job.job_id, job_name=job.name, run=run)
        else:
            report = replace(client.runs.wait(run, timeout=_REPORT_TIMEOUT, metrics_timeout=0), job_name=job.name)
        return report.details(tracking.fetch_names(client, report))

    def test_connection(self) -> tuple[bool, str]:
        """
        Log in, look up the project if one is set, and return whether both succeeded, and a message.

        The message does not name the connection: Airflow's user interface tests it under a temporary id.
        """
        try:
            settings = self._settings(show_id=False)
            with settings.client(max_attempts=1) as client:
                user = client.current_user()
                logged_in = (
                    f"Logged in to {client.base_url} as {user.name or user.user_id} of organization "
                    f"{user.organization_name or user.organization_id}"
                )
                if settings.project_id is None:
                    return True, f"{logged_in}."
                found, project = _find_project(client, settings.project_id)
                return found, f"{logged_in}{project}"
        except ControlHubError as error:
            return False, str(error)


def _find_project(client: ControlHubClient, project_id: str) -> tuple[bool, str]:
    try:
        names = client.project_names()
    except ControlHubError as error:
        return True, f". Could not verify that project '{project_id}' exists: {error}"
    if project_id in names:
        return True, f", in project '{names[project_id]}'."
    accessible = join_truncated([f"'{name}' (ID {known_id})" for known_id, name in names.items()]) or "none"
    return False, (
        f", but the credential has no access to a project with the ID '{project_id}'. Set 'Project ID' to the ID, not "
        "the name, of a project, or to nothing to work at the level of the organization. Accessible projects: "
        f"{accessible}."
    )
