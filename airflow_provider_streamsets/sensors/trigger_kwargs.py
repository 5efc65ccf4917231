"""Serialise trigger arguments that are stored with the DAG and rendered by the triggerer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

# Lookups that Airflow's triggerer (3.3.2) does not support: the rendering would wait for them forever.
_UNSUPPORTED = re.compile(
    r"""(?P<xcom>xcom_pull\((?![^)]*\bmap_indexes\s*=))|(?P<other>\bprev_\w+_success\b|\binlet_events\b)"""
)


def to_trigger_kwarg(value: Any, name: str) -> Any:
    """
    Convert an argument to JSON values; the output of another task becomes a template.

    :param value: value of the parameter
    :param name: name of the parameter, for messages
    :raises ValueError: if the triggerer cannot render it
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [to_trigger_kwarg(entry, name) for entry in value]
    if isinstance(value, Mapping):
        return {key: to_trigger_kwarg(entry, name) for key, entry in value.items()}
    if isinstance(value, str):
        return _check_template(value, name)
    return value if value is None or isinstance(value, (int, float, bool)) else _xcom_template(value, name)


def _check_template(template: str, name: str) -> str:
    unsupported = _UNSUPPORTED.search(template) if "{{" in template or "{%" in template else None
    if unsupported is None:
        return template
    if unsupported["xcom"]:
        raise ValueError(
            f"'{name}' pulls an XCom without 'map_indexes', which start_from_trigger=True requires: use "
            "ti.xcom_pull(..., map_indexes=-1) for the XCom of an unmapped task."
        )
    raise ValueError(f"'{name}' uses '{unsupported['other']}', which start_from_trigger=True does not support.")


def _xcom_template(value: Any, name: str) -> str:
    """Return a template that the triggerer can render, for an XCom argument."""
    task_id, key = getattr(getattr(value, "operator", None), "task_id", None), getattr(value, "key", None)
    if task_id is None or key is None or getattr(value.operator, "is_mapped", False):
        raise ValueError(
            f"'{name}' is of type {type(value).__name__}, which start_from_trigger=True does not support. Use a value, "
            "a template, or the output of an unmapped task."
        )
    return f"{{{{ ti.xcom_pull(task_ids={task_id!r}, key={key!r}, map_indexes=-1) }}}}"
