"""Provider metadata for Airflow. Light, as every Airflow command imports it."""

from __future__ import annotations

from typing import Any

from airflow_provider_streamsets.connection_form import form_metadata

_INTEGRATION = "StreamSets"
_PACKAGE = "airflow_provider_streamsets"


def get_provider_info() -> dict[str, Any]:
    """Return the provider metadata, as specified by Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-streamsets",
        "name": "StreamSets",
        "description": "Run and wait for jobs of IBM StreamSets Control Hub.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://docs.streamsets.com/",
                # Served by Airflow from 3.1.1 on, with the pages of this provider.
                "logo": "/streamsets/static/icon.svg",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    f"{_PACKAGE}.operators.archives",
                    f"{_PACKAGE}.operators.bulk",
                    f"{_PACKAGE}.operators.engines",
                    f"{_PACKAGE}.operators.jobs",
                    f"{_PACKAGE}.operators.metrics",
                    f"{_PACKAGE}.operators.offsets",
                    f"{_PACKAGE}.operators.recovery",
                    f"{_PACKAGE}.operators.runs",
                    f"{_PACKAGE}.operators.templates",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [f"{_PACKAGE}.sensors.metrics", f"{_PACKAGE}.sensors.runs"],
            }
        ],
        "hooks": [{"integration-name": _INTEGRATION, "python-modules": [f"{_PACKAGE}.hooks.control_hub"]}],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    f"{_PACKAGE}.triggers.job_events",
                    f"{_PACKAGE}.triggers.runs",
                    f"{_PACKAGE}.triggers.sensors",
                ],
            }
        ],
        "asset-uris": [
            {
                "schemes": ["streamsets"],
                "handler": f"{_PACKAGE}.assets.jobs.sanitize_uri",
                "factory": f"{_PACKAGE}.assets.jobs.create_asset",
                "to_openlineage_converter": f"{_PACKAGE}.assets.jobs.convert_asset_to_openlineage",
            }
        ],
        "connection-types": [form_metadata()],
        "cli": [f"{_PACKAGE}.cli.definition.get_commands"],
        "config": {
            "streamsets": {
                "description": "Options of the StreamSets provider.",
                "options": {
                    "progress_interval": {
                        "description": (
                            "Seconds between two lines in the task log with the record counts and the throughput of "
                            "the runs that a task waits for; 0 for none. With more than 600 deferred waits on a "
                            "connection, a triggerer logs 10 of these lines a second, so that each wait has its line "
                            "less often."
                        ),
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "300",
                        "default": "60",
                    }
                },
            }
        },
        "extra-links": [f"{_PACKAGE}.links.job.ControlHubJobLink", f"{_PACKAGE}.links.job.ControlHubRunLink"],
    }
