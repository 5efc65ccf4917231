"""Hook of the connection type `streamsets`; loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub._lazy import lazy_attributes

if TYPE_CHECKING:
    from airflow_provider_streamsets.hooks.connection import ConnectionSettings
    from airflow_provider_streamsets.hooks.control_hub import ControlHubHook
    from airflow_provider_streamsets.hooks.credential_refresh import BlockingCredentialRefresher

__all__ = ["BlockingCredentialRefresher", "ConnectionSettings", "ControlHubHook"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "connection": ("ConnectionSettings",),
        "control_hub": ("ControlHubHook",),
        "credential_refresh": ("BlockingCredentialRefresher",),
    },
)
