"""The link from an Airflow task to the page of its job in Control Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class ControlHubJobLink(BaseOperatorLink):
    """
    Link "StreamSets job" from a task to its job in Control Hub.

    The task pushes the URL to XCom as soon as it knows the job, so that the link is available while the task is running
    or deferred, and after it has failed.
    """

    name = "StreamSets job"
    xcom_key = "streamsets_job_link"

    @classmethod
    def persist(cls, context: Context, url: str) -> None:
        """
        Push the URL of the job's page to XCom.

        :param context: context of the running task
        :param url: the URL
        """
        context["ti"].xcom_push(key=cls.xcom_key, value=url)

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the URL that the task has pushed, empty before that."""
        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""
