"""Users and the roles that they can have."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.serializers.schemas import Json, complete

ROLES = (
    "user",
    "org-user",
    "jobrunner:operator",
    "datacollector:manager",
    "pipelinestore:pipelineEditor",
    "timeseries:reader",
)


def principal_body(world: World) -> Json:
    """Return the ``SSOPrincipalJson`` of the credential's user."""
    organization = world.seed.organization
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
