"""Users and their organizations."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_streamsets.control_hub._json import JsonReader, as_list
from airflow_provider_streamsets.control_hub.models.base import Model


@dataclass(frozen=True)
class CurrentUser(Model):
    """User of a credential (contract section 1.5)."""

    user_id: str
    name: str
    organization_id: str
    organization_name: str
    email: str
    roles: tuple[str, ...]

    @classmethod
    def from_wire(cls, value: object) -> CurrentUser:
        """Parse an ``SSOPrincipalJson``."""
        read = JsonReader(value, "current user")
        return cls(
            user_id=read.string("principalId"),
            name=read.string("principalName"),
            organization_id=read.string("organizationId"),
            organization_name=read.string("organizationName"),
            email=read.string("email"),
            roles=read.strings("roles"),
        )


def parse_project_names(value: object) -> dict[str, str]:
    """Return the names of projects by id (contract section 1.6)."""
    projects = [JsonReader(entry, "project") for entry in as_list(value, "projects")]
    return {project.required_string("id"): project.string("name") for project in projects}


def parse_landing_url(value: object) -> str:
    """Return the landing URL in the login service's information about an organization (contract section 1.3)."""
    read = JsonReader(JsonReader(value, "organization info").get("data"), "organization info")
    return read.required_string("landingUrl")
