from __future__ import annotations
from typing import Any


def get_provider_info() -> dict[str, Any]:
    return {"package-name": "airflow-provider-streamsets", "name": "StreamSets", "description": "StreamSets"}
