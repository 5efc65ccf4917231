"""Users and their roles."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.serializers.schemas import Json, complete

ROLES = (
    "user",
    "org-user",
    "jobrunner:operator",
    "datacollector:manager",
    "pipelinestore:pipelineEditor",
    "timeseries:reader",
)


def principal_body(backend: ControlHubBackend) -> Json:
    """Return the ``SSOPrincipalJson`` of the user of the credential."""
    organization = backend.seed.organization
    return complete(
        "SSOPrincipalJson",
        {
            "expires": -1,
            "principalId": organization.user_id,
            "principalName": organization.user_name,
            "organizationId": organization.id,
            "organizationName": organization.name,
            "email": organization.user_email,
            "roles": list(ROLES),
            "groups": [f"all@{organization.id}"],
            "app": False,
            "attributes": {},
        },
    )
