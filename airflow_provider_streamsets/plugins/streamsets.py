"""The plugin. Light, as every Airflow process imports it, in all versions; only the API server uses what it names."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_streamsets.compat import HAS_PAGES, PAGES_PATH, base_path


class _LazyApp:
    """The ASGI application of the pages, imported at the first request."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            from airflow_provider_streamsets.plugins.app import create_app

            self._app = create_app()
        await self._app(scope, receive, send)


# The operators and sensors of this provider whose tasks have jobs.
_OPERATORS = (
    *("AcknowledgeErrors", "BalanceJobs", "CreateJob", "DeleteJobs", "DuplicateJob", "ExportJobs", "GetOffsets"),
    *("ImportJobs", "JobMetrics", "JobRunHistory", "ListJobs", "ResetOffsets", "RunJob", "RunJobTemplate"),
    *("StartJobs", "StopJob", "StopJobs", "SyncJobs", "UpdateJob", "UpgradeJobs", "UploadOffset"),
)
_SENSORS = ("ControlHubJobMetricSensor", "ControlHubJobRunSensor")
_APPLIES_TO = {"operator_name": [*(f"ControlHub{name}Operator" for name in _OPERATORS), *_SENSORS]}


def _react_app(name: str, module: str, destination: str, **fields: Any) -> dict[str, Any]:
    static = f"{base_path()}{PAGES_PATH}/static"
    return {
        "name": name,
        "bundle_url": f"{static}/{module}",
        "destination": destination,
        "icon": f"{static}/icon.svg",
        **fields,
    }


_FASTAPI_APPS: list[Any] = []
_REACT_APPS: list[Any] = []
if HAS_PAGES:
    _FASTAPI_APPS += [{"app": _LazyApp(), "url_prefix": PAGES_PATH, "name": "StreamSets"}]
    _REACT_APPS += [
        # `applies_to` since Airflow 3.4; before, the tab of other tasks says that they have no run.
        _react_app("StreamSets", "tab.js", "task_instance", url_route="streamsets", applies_to=_APPLIES_TO),
        _react_app("StreamSets runs", "runs.js", "nav", url_route="streamsets-runs", category="browse"),
    ]


class StreamSetsPlugin(AirflowPlugin):
    """
    Tab "StreamSets" on task instances, page "StreamSets runs" in the menu "Browse", and their API.

    Before Airflow 3.1.1, this plugin is empty: older versions have no such pages, or cannot read connections in the API
    server.
    """

    name = "streamsets"
    fastapi_apps = _FASTAPI_APPS
    react_apps = _REACT_APPS
