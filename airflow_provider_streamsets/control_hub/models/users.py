"""Who is logged in."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_streamsets.control_hub._json import JsonReader
from airflow_provider_streamsets.control_hub.models.base import Model


@dataclass(frozen=True)
class CurrentUser(Model):
    """Whom a credential belongs to (contract, section 1.5)."""

    user_id: str
    name: str
    organization_id: str
    organization_name: str
    email: str
    roles: tuple[str, ...]

    @classmethod
    def from_wire(cls, value: object) -> CurrentUser:
        """Read an ``SSOPrincipalJson``."""
        read = JsonReader(value, "current user")
        return cls(
            user_id=read.text("principalId"),
            name=read.text("principalName"),
            organization_id=read.text("organizationId"),
            organization_name=read.text("organizationName"),
            email=read.text("email"),
            roles=read.strings("roles"),
        )
