"""Fault rules of the sandbox."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.chaos.plan import Plan

_START = "/jobrunner/rest/v1/job/*/start"
_START_MANY = "/jobrunner/rest/v1/jobs/startJobs"
_START_INSTANCES = "/jobrunner/rest/v1/job/*/createAndStartJobInstances*"
_STATUS = "/jobrunner/rest/v1/jobs/status"
_CURRENT = "/jobrunner/rest/v1/job/*/currentStatus"


def is_start(path: str) -> bool:
    """Return whether a path starts jobs or template instances."""
    return any(fnmatchcase(path, pattern) for pattern in (_START, _START_MANY, _START_INSTANCES))


def fault_rules(late: float) -> list[dict[str, Any]]:
    """
    Return the fault rules.

    Stop calls are exempt, but not the reads before them.

    :param late: delay of late start calls, in seconds
    """
    on_start: list[dict[str, Any]] = [
        {"fault": "late", "seconds": late, "probability": 0.08},
        {"fault": "reset_after", "probability": 0.1},
        {"fault": "reset_before", "probability": 0.05},
        {"fault": "server_error", "status": 503, "processed": True, "probability": 0.08},
        {"fault": "server_error", "status": 502, "probability": 0.05},
        {"fault": "truncated", "probability": 0.05},
        {"fault": "html", "probability": 0.05},
        # Leaves time for a kill during the start call.
        {"fault": "delay", "seconds": 1.5, "processed": True, "probability": 0.12},
        {"fault": "delay", "seconds": 1.5, "probability": 0.12},
    ]
    on_status: list[dict[str, Any]] = [
        {"fault": "too_many_requests", "retry_after": 2, "probability": 0.03},
        {"fault": "server_error", "status": 503, "probability": 0.03},
        {"fault": "drip", "seconds": 2, "probability": 0.03},
        {"fault": "html", "probability": 0.02},
        {"fault": "truncated", "probability": 0.02},
        {"fault": "reset_before", "probability": 0.02},
    ]
    on_read: list[dict[str, Any]] = [
        {"fault": "server_error", "status": 500, "probability": 0.03},
        {"fault": "too_many_requests", "retry_after": 1, "probability": 0.03},
        {"fault": "reset_after", "probability": 0.02},
        {"fault": "tls_close", "probability": 0.02},
    ]
    rules = [{"method": "POST", "path": path, **rule} for path in (_START, _START_INSTANCES) for rule in on_start]
    # Concurrent bulk starts must collide, and the resulting rejections must reach the tasks.
    rules += [
        {"method": "POST", "path": _START_MANY, **rule, "probability": rule["probability"] * factor}
        for rule in on_start
        for factor in [1.5 if rule["fault"] == "delay" else 0.4]
    ]
    rules += [{"method": "POST", "path": _STATUS, **rule} for rule in on_status]
    rules += [{"method": "GET", "path": _CURRENT, **rule} for rule in on_status]
    rules += [{"method": "GET", "path": "/*", **rule} for rule in on_read]
    return rules


def write_faults(file: Path, plan: Plan) -> Path:
    """Write the fault file of the sandbox, which is reloaded after a restart."""
    file.write_text(json.dumps({"seed": plan.seed, "rules": fault_rules(plan.size.late)}), "utf-8")
    return file
