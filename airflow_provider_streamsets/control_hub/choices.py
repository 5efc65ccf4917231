"""Allowed values and defaults of parameters; a separate module, so that DAG parsing does not load the models."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Literal, get_args

DEFAULT_POLL_INTERVAL = 30.0
"""Seconds."""
STATUSES = ("INACTIVE", "ACTIVATING", "ACTIVE", "DEACTIVATING", "ACTIVATION_ERROR", "INACTIVE_ERROR")
COLORS = ("GRAY", "GREEN", "RED")
EXECUTOR_TYPES = ("COLLECTOR", "TRANSFORMER", "EDGE", "SNOWPARK")

IfExists = Literal["fail", "skip", "update"]
IF_EXISTS: tuple[str, ...] = get_args(IfExists)
InstanceSuffix = Literal["COUNTER", "TIME_STAMP", "PARAM_VALUE"]
INSTANCE_SUFFIXES: tuple[str, ...] = get_args(InstanceSuffix)
Join = Literal["all", "any"]
JOINS: tuple[str, ...] = get_args(Join)
OnRunEnd = Literal["fail", "evaluate", "skip"]
ON_RUN_END: tuple[str, ...] = get_args(OnRunEnd)

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
