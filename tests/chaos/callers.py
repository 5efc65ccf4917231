"""Identify the task instance behind each request to the sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import requests
import structlog

from airflow_provider_streamsets.sandbox.backend.credentials import CALLER_HEADER

_FIELDS = ("dag_id", "run_id", "task_id", "map_index", "try_number")


@dataclass(frozen=True)
class Caller:
    """
    The try of a task instance that sent a request, or on whose behalf a trigger sent it.

    The task instance, regardless of the try, owns the runs started by the request.

    :param dag_id: DAG id
    :param run_id: DAG run id
    :param task_id: task id
    :param map_index: map index
    :param try_number: try number
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int

    @classmethod
    def parse(cls, text: str | None) -> Caller | None:
        """Parse the header; return None without a header, for requests sent by a user."""
        if text is None:
            return None
        dag_id, run_id, task_id, map_index, try_number = text.split("/")
        return cls(dag_id, run_id, task_id, int(map_index), int(try_number))

    @property
    def task_key(self) -> tuple[str, int]:
        """Task id and map index, which identify a task instance within the DAG run."""
        return self.task_id, self.map_index

    def __str__(self) -> str:
        return f"{self.task_id}[{self.map_index}] try {self.try_number}"


def describe_caller(caller: Caller | None) -> str:
    """Return a caller as message text."""
    return "a user" if caller is None else str(caller)


def send_caller_header() -> None:
    """
    Add the caller header to all requests of this process.

    Airflow binds the task instance to the logging context, both in the task process and around each trigger on the
    triggerer. Threads inherit it, as does the code that stops the run of a killed task.
    """
    send = requests.Session.send

    def send_with_header(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> Any:
        bound = structlog.contextvars.get_contextvars()
        if all(bound.get(field) is not None for field in _FIELDS):
            request.headers[CALLER_HEADER] = "/".join(str(bound[field]) for field in _FIELDS)
        return send(session, request, **options)

    requests.Session.send = send_with_header  # type: ignore[method-assign, assignment]
