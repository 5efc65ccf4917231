"""
OpenLineage events of the runs of a task, each a run of its own and a child of the task's run.

Nothing is emitted, and no request is sent, without an active OpenLineage provider. What goes wrong is logged, and never
fails the task.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job
    from airflow_provider_streamsets.operators._run_operators import (
        ControlHubRunOwnerOperator,
        ControlHubRunWaitOperator,
    )

log = logging.getLogger(__name__)

PARENT_PARAMETER = "OPENLINEAGE_CONTEXT"
"""The runtime parameter with the parent, which Databricks' operators and its jobs know under the same name."""
# Seconds, like the default that Airflow allows for the events of a task. A transport may take longer.
_START_MAX_WAIT = 10.0


def _events() -> ModuleType | None:
    """Return the module that builds the events; None without an active OpenLineage provider of 2.19 or newer."""
    try:
        # Without this check, a task would spend seconds on imports for nothing where the provider is only installed.
        if importlib.import_module("airflow.providers.openlineage.conf").is_disabled():
            return None
        return importlib.import_module("airflow_provider_streamsets.openlineage.events")
    except ImportError as error:
        log.debug("No OpenLineage events: %s", error)
    except Exception as error:  # noqa: BLE001 - an invalid configuration of lineage must not fail the task
        log.warning("No OpenLineage events: %s", error)
    return None


def emit_starts(task: ControlHubRunOwnerOperator, context: Context, runs: Mapping[str, int]) -> None:
    """
    Emit the starts of runs that a task owns, within ten seconds.

    :param task: the operator
    :param context: the context of the task
    :param runs: run count by job id
    """
    events = _events()
    if not runs or events is None:
        return
    try:
        if not events.is_emitting(task, context["ti"]):
            return
        parent = events.parent_of(context["ti"])
        # A thread, because the transport of the events can block for longer than the start of a run should take.
        thread = threading.Thread(target=_logging_errors, args=(events.emit_starts, task, parent, runs), daemon=True)
        thread.start()
        thread.join(_START_MAX_WAIT)
        if thread.is_alive():
            log.warning("The OpenLineage events of %d started runs take too long; continuing without.", len(runs))
    except Exception as error:  # noqa: BLE001 - lineage must not fail the task
        log.warning("Could not emit OpenLineage events of started runs: %s", error)


def _logging_errors(function: Any, *arguments: Any) -> None:
    try:
        function(*arguments)
    except Exception as error:  # noqa: BLE001 - an error of a thread would be lost
        log.warning("Could not emit OpenLineage events of started runs: %s", error)


def emit_ends(task: ControlHubRunWaitOperator, task_instance: Any) -> Any:
    """
    Emit the ends of the runs that a task has waited for, and return the task's own lineage, which is empty.

    The OpenLineage provider calls this in a process of its own when the task has ended, and logs its errors.

    :param task: the operator
    :param task_instance: its task instance
    """
    events = _events()
    return None if events is None else events.emit_ends(task, task_instance)


def with_parent(
    task: Any, context: Context, job: Job, runtime_parameters: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """
    Return runtime parameters with the task's run in :data:`PARENT_PARAMETER`, if wanted and the pipeline declares it.

    :param task: an operator with the parameter `openlineage_inject_parent_job_info`
    :param context: the context of the task
    :param job: the job to start
    :param runtime_parameters: the runtime parameters of the task
    """
    wanted = task.rendered.openlineage_inject_parent_job_info
    try:
        if wanted is None:
            wanted = conf.getboolean("openlineage", "spark_inject_parent_job_info", fallback=False)
        if not wanted or PARENT_PARAMETER in (runtime_parameters or {}):
            return runtime_parameters
        events = _events()
        if events is None or not events.is_emitting(task, context["ti"]):
            task.log.info("Not injecting the OpenLineage parent: OpenLineage is not active for this task.")
        elif not events.declares(task.client, job, PARENT_PARAMETER):
            task.log.info("Job %s: its pipeline has no parameter %s for the parent.", job.title, PARENT_PARAMETER)
        else:
            return {**(runtime_parameters or {}), PARENT_PARAMETER: events.parent_json(context["ti"])}
    except Exception as error:  # noqa: BLE001 - lineage must not fail the task
        task.log.warning("Could not inject the OpenLineage parent: %s", error)
    return runtime_parameters
