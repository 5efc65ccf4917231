"""Who may do what with a job; kept and shown, not enforced: everybody here is the one user."""

from __future__ import annotations

from typing import Any

from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import Job, Permission
from airflow_provider_streamsets.sandbox.backend.payload import Fields

ACTIONS = ("READ", "WRITE", "EXECUTE")
SUBJECT_TYPES = ("USER", "GROUP")


def change_permissions(world: World, job: Job, body: Any) -> None:
    """
    Replace the permissions of a job.

    :param world: the world.
    :param job: the job.
    :param body: an ``AclJson``.
    :raises ProblemError: if the body is none.
    """
    entries = Fields(body, "an ACL").value("permissions")
    if not isinstance(entries, list):
        raise bad_request("permissions of an ACL must be a list")
    job.permissions = tuple(_permission(Fields(entry, "a permission")) for entry in entries)
    job.permitted_by, job.permitted_on = world.user, world.clock.now()


def _permission(fields: Fields) -> Permission:
    subject_type, actions = fields.text("subjectType"), fields.texts("actions") or ()
    if subject_type not in SUBJECT_TYPES:
        raise fields.wrong("subjectType", f"one of {', '.join(SUBJECT_TYPES)}")
    if not set(actions) <= set(ACTIONS):
        raise fields.wrong("actions", f"of {', '.join(ACTIONS)}")
    return Permission(fields.given_text("subjectId"), subject_type, actions)
