"""The form of a connection of type ``streamsets``, once, for all Airflow versions. Light: read at every DAG parse."""

from __future__ import annotations

from typing import Any

CONNECTION_TYPE = "streamsets"
HOOK_NAME = "StreamSets Control Hub"
HOOK_CLASS = "airflow_provider_streamsets.hooks.control_hub.ControlHubHook"

CONN_FIELDS: dict[str, dict[str, Any]] = {
    "project_id": {
        "label": "Project ID",
        "description": "Project to work in. Empty: the organization level.",
        "schema": {"type": ["string", "null"]},
    },
    "login_url": {
        "label": "Login service URL",
        "description": (
            "Asked for the Control Hub URL of the token's organization when no Control Hub URL is given. "
            "Empty: https://cloud.login.streamsets.com"
        ),
        "schema": {"type": ["string", "null"], "format": "url"},
    },
    "verify": {
        "label": "Verify TLS certificate",
        "description": "true, false, or the path of a CA file on the workers and the triggerer. Empty: true",
        "schema": {"type": ["string", "null"]},
    },
    "timeout": {
        "label": "Time-out (seconds)",
        "description": "One number, or two: to connect, and to wait for data. Empty: 10, 60",
        "schema": {"type": ["string", "null"]},
    },
    "proxies": {
        "label": "Proxies",
        "description": 'Address of a proxy, or JSON by scheme: {"https": "http://proxy.example.com:3128"}',
        "schema": {"type": ["string", "null"]},
    },
    "job_link": {
        "label": "Pattern of job links",
        "description": "Where the link 'StreamSets job' leads. Empty: {hub}/sch/jobs/detail/{job_id}",
        "schema": {"type": ["string", "null"]},
    },
    "bulk_size": {
        "label": "Jobs in one request",
        "description": "How many jobs one request asks for, at the most, where it can ask for many. Empty: 250",
        "schema": {"type": ["string", "null"]},
    },
    "credential_grace_period": {
        "label": "Credential grace period (seconds)",
        "description": (
            "For how long a credential that worked before is tried again when Control Hub refuses it, before tasks "
            "fail. Empty: 300"
        ),
        "schema": {"type": ["string", "null"]},
    },
    "gateway_timeout": {
        "label": "Gateway time-out (seconds)",
        "description": (
            "After how long no gateway or proxy delivers a request any more: a start whose answer was lost is not sent "
            "again before. Empty: 120"
        ),
        "schema": {"type": ["string", "null"]},
    },
}

HIDDEN_FIELDS = ["schema", "port", "extra"]
RELABELING = {"host": "Control Hub URL", "login": "Credential ID", "password": "Token"}
PLACEHOLDERS = {
    "host": "https://na01.hub.streamsets.com (empty: found through the login service)",
    "login": "ID of an API credential",
    "password": "its token, including the dot at its end",
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
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import StringField

    return {
        name: StringField(lazy_gettext(field["label"]), widget=BS3TextFieldWidget(), description=field["description"])
        for name, field in CONN_FIELDS.items()
    }


def ui_field_behaviour() -> dict[str, Any]:
    """Return hidden fields, labels and placeholders in the form of Airflow 2.11 to 3.1."""
    return {"hidden_fields": HIDDEN_FIELDS, "relabeling": RELABELING, "placeholders": PLACEHOLDERS}
