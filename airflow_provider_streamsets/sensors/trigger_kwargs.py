"""What a task that starts in the triggerer is given: stored with its DAG, and rendered by the triggerer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

# What Airflow's triggerer is not able to answer (3.3.2): the rendering would wait for it for ever.
_UNANSWERED = re.compile(
    r"""(?P<xcom>xcom_pull\((?![^)]*\bmap_indexes\s*=))|(?P<other>\bprev_\w+_success\b|\binlet_events\b)"""
)


def to_trigger_kwarg(value: Any, name: str) -> Any:
    """
    Return an argument as JSON values; what another task returns becomes a template.

    :param value: what the user has given
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
        return _checked(value, name)
    return value if value is None or isinstance(value, (int, float, bool)) else _template_of(value, name)


def _checked(text: str, name: str) -> str:
    unanswered = _UNANSWERED.search(text) if "{{" in text or "{%" in text else None
    if unanswered is None:
        return text
    if unanswered["xcom"]:
        raise ValueError(
            f"'{name}' pulls an XCom, which with start_from_trigger=True works only with 'map_indexes': write "
            "ti.xcom_pull(..., map_indexes=-1) for the XCom of a task that is not mapped."
        )
    raise ValueError(f"'{name}' uses '{unanswered['other']}', which does not work with start_from_trigger=True.")


def _template_of(value: Any, name: str) -> str:
    """Return the template for what another task returns, of the kind that the triggerer can render."""
    task_id, key = getattr(getattr(value, "operator", None), "task_id", None), getattr(value, "key", None)
    if task_id is None or key is None or getattr(value.operator, "is_mapped", False):
        raise ValueError(
            f"'{name}' is {type(value).__name__}, which does not work with start_from_trigger=True. Give a value, a "
            "template, or the output of a task that is not mapped."
        )
    return f"{{{{ ti.xcom_pull(task_ids={task_id!r}, key={key!r}, map_indexes=-1) }}}}"
