"""The form of connections of type ``streamsets``, for all Airflow versions. Light, as every DAG parse imports it."""

from __future__ import annotations

from typing import Any

CONNECTION_TYPE = "streamsets"
HOOK_NAME = "StreamSets Control Hub"
HOOK_CLASS = "airflow_provider_streamsets.hooks.control_hub.ControlHubHook"

_TEXT = {"type": ["string", "null"]}
_EXPERT_TEXT = {**_TEXT, "section": "Expert settings"}

CONN_FIELDS: dict[str, dict[str, Any]] = {
    "project_id": {
        "label": "Project ID",
        "description": "Project of the jobs: its ID, not its name. Default: the level of the organization",
        "schema": _TEXT,
    },
    "verify": {
        "label": "Verify TLS certificate",
        "description": "true, false, or the path of a CA file on the workers and the triggerer. Default: true",
        "schema": _TEXT,
    },
    "proxies": {
        "label": "Proxies",
        "description": 'URL of a proxy, or JSON by scheme: {"https": "http://proxy.example.com:3128"}',
        "schema": _TEXT,
    },
    "login_url": {
        "label": "Login service URL",
        "description": (
            "Returns the Control Hub URL of the token's organization if no Control Hub URL is set. "
            "Default: https://cloud.login.streamsets.com"
        ),
        "schema": {**_EXPERT_TEXT, "format": "url"},
    },
    "job_link": {
        "label": "Job link pattern",
        "description": "URL of the link 'StreamSets job'. Default: {hub}/sch/jobs/detail/{job_id}",
        "schema": _EXPERT_TEXT,
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "One number, or two for the connection and for the response. Default: 10, 60",
        "schema": _EXPERT_TEXT,
    },
    "bulk_size": {
        "label": "Jobs per request",
        "description": "Maximum number of jobs in a bulk request. Default: 250",
        "schema": _EXPERT_TEXT,
    },
    "credential_grace_period": {
        "label": "Credential grace period (seconds)",
        "description": "How long a rejected credential that worked before is retried before tasks fail. Default: 300",
        "schema": _EXPERT_TEXT,
    },
    "gateway_timeout": {
        "label": "Gateway timeout (seconds)",
        "description": (
            "Time after which no gateway or proxy delivers a request any more. A start whose response was lost is sent "
            "again only after it. Default: 120"
        ),
        "schema": _EXPERT_TEXT,
    },
    "webhook_token": {
        "label": "Webhook token",
        "description": "Token of at least 32 characters with which Control Hub's subscriptions push events to Airflow",
        "schema": {**_EXPERT_TEXT, "format": "password"},
    },
}
"""The extra fields, those that few connections need last: Airflow 3.2 and later show them in a section of their own."""

HIDDEN_FIELDS = ["schema", "port", "extra"]
RELABELING = {"host": "Control Hub URL", "login": "Credential ID", "password": "Token"}
PLACEHOLDERS = {
    "host": "https://na01.hub.streamsets.com (default: from the login service)",
    "login": "ID of an API credential",
    "password": "Token of the API credential, including the final dot",
    "login_url": "https://cloud.login.streamsets.com",
    "verify": "true",
    "timeout": "10, 60",
    "job_link": "{hub}/sch/jobs/detail/{job_id}",
    "bulk_size": "250",
    "credential_grace_period": "300",
    "gateway_timeout": "120",
}


def form_metadata() -> dict[str, Any]:
    """Return the entry of the connection type in the provider info (Airflow 3.2 and later)."""
    return {
        "connection-type": CONNECTION_TYPE,
        "hook-class-name": HOOK_CLASS,
        "hook-name": HOOK_NAME,
        "conn-fields": CONN_FIELDS,
        "ui-field-behaviour": {
            "hidden-fields": HIDDEN_FIELDS,
            "relabeling": RELABELING,
            "placeholders": PLACEHOLDERS,
        },
    }


def form_widgets() -> dict[str, Any]:
    """Return the fields as the form widgets of Airflow 2.11 to 3.1."""
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import StringField

    def description(field: dict[str, Any]) -> str:
        # These forms have no sections.
        return f"Expert: {field['description']}" if "section" in field["schema"] else str(field["description"])

    def widget(field: dict[str, Any]) -> Any:
        return BS3PasswordFieldWidget() if field["schema"].get("format") == "password" else BS3TextFieldWidget()

    return {
        name: StringField(lazy_gettext(field["label"]), widget=widget(field), description=description(field))
        for name, field in CONN_FIELDS.items()
    }


def ui_field_behaviour() -> dict[str, Any]:
    """Return hidden fields, labels and placeholders in the form of Airflow 2.11 to 3.1."""
    return {"hidden_fields": HIDDEN_FIELDS, "relabeling": RELABELING, "placeholders": PLACEHOLDERS}
