"""Links from an Airflow task: to its job in Control Hub, and to the page of its runs."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_streamsets.compat import HAS_PAGES, task_page_url

CONNECTION_XCOM_KEY = "streamsets_conn_id"
"""Key of the XCom by which pages and command line find the tasks with jobs, and their Control Hub."""


class _XComLink(BaseOperatorLink):
    xcom_key: str

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the URL that the task has pushed, empty before that."""
        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""


class ControlHubJobLink(_XComLink):
    """
    Link "StreamSets job" from a task to its job in Control Hub.

    The task pushes the URL to XCom as soon as it knows the job, so that the link is available while the task is running
    or deferred, and after it has failed. If the task has deleted the job, there is no link.
    """

    name = "StreamSets job"
    xcom_key = "streamsets_job_link"


class ControlHubRunLink(_XComLink):
    """
    Link "StreamSets run" from a task to the page of its runs in Airflow (since Airflow 3.1.1).

    The page lists all jobs of a task with several, with a link to each. Unlike the tab "StreamSets", it does not need
    the permission to read plugins.
    """

    name = "StreamSets run"
    xcom_key = "streamsets_run_link"


LINKS: tuple[BaseOperatorLink, ...] = (ControlHubJobLink(), *([ControlHubRunLink()] if HAS_PAGES else ()))
"""The links of all operators and sensors."""


def link_xcoms(task_instance: Any, conn_id: str, job_url: str) -> dict[str, str]:
    """
    Return the XComs of the links of a task.

    :param task_instance: the task instance
    :param conn_id: id of the task's connection
    :param job_url: URL of the job's page in Control Hub; empty if there is none (any more)
    """
    xcoms = {ControlHubJobLink.xcom_key: job_url, CONNECTION_XCOM_KEY: conn_id}
    if HAS_PAGES:
        xcoms[ControlHubRunLink.xcom_key] = task_page_url(task_instance)
    return xcoms
