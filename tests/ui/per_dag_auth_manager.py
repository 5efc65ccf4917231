"""Airflow's simple auth manager, with DAGs that only admins may read."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

SECRET_PREFIX = "secret_"


class PerDagAuthManager(SimpleAuthManager):
    """Denies access to DAGs named ``secret_*`` to all users who are not admins."""

    def is_authorized_dag(self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        dag_id = details.id if details else None
        if dag_id and dag_id.startswith(SECRET_PREFIX) and user.role.lower() != "admin":
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
