"""Permissions on jobs. They are stored but not enforced, because the sandbox has a single user."""

from __future__ import annotations

from typing import Any

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import Job, Permission
from airflow_provider_streamsets.sandbox.backend.payload import Payload

ACTIONS = ("READ", "WRITE", "EXECUTE")
SUBJECT_TYPES = ("USER", "GROUP")


def change_permissions(backend: ControlHubBackend, job: Job, body: Any) -> None:
    """
    Replace the permissions of a job.

    :param backend: the simulated Control Hub.
    :param job: the job.
    :param body: an ``AclJson``.
    :raises ApiError: if the body is invalid.
    """
    entries = Payload(body, "an ACL").value("permissions")
    if not isinstance(entries, list):
        raise bad_request("'permissions' of an ACL must be a list.")
    job.permissions = tuple(_permission(Payload(entry, "a permission")) for entry in entries)
    job.permitted_by, job.permitted_on = backend.user, backend.clock.now()


def _permission(fields: Payload) -> Permission:
    subject_type, actions = fields.string("subjectType"), fields.strings("actions") or ()
    if subject_type not in SUBJECT_TYPES:
        raise fields.invalid("subjectType", f"one of {', '.join(SUBJECT_TYPES)}")
    if not set(actions) <= set(ACTIONS):
        raise fields.invalid("actions", f"a list of {', '.join(ACTIONS)}")
    return Permission(fields.required_string("subjectId"), subject_type, actions)
