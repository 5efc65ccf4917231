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
            }
        ],
        "connection-types": [form_metadata()],
        "extra-links": [f"{_PACKAGE}.links.job.ControlHubJobLink"],
    }
