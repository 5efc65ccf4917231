"""Who sends a request to the sandbox: every process of Airflow names the task instance that it works for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import requests
import structlog

from airflow_provider_streamsets.sandbox.backend.caller import CALLER_HEADER

_FIELDS = ("dag_id", "run_id", "task_id", "map_index", "try_number")


@dataclass(frozen=True)
class Caller:
    """
    A try of a task instance, which has sent a request or for which it was sent.

    The task instance without the try owns what the request has started.

    :param dag_id: its DAG
    :param run_id: its DAG run
    :param task_id: its task
    :param map_index: its map index
    :param try_number: the number of the try
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int

    @classmethod
    def parse(cls, text: str | None) -> Caller | None:
        """Return the caller that a header names, None for a request without that header: it was sent by hand."""
        if text is None:
            return None
        dag_id, run_id, task_id, map_index, try_number = text.split("/")
        return cls(dag_id, run_id, task_id, int(map_index), int(try_number))

    @property
    def place(self) -> tuple[str, int]:
        """Task id and map index, which tell the task instances of one DAG run apart."""
        return self.task_id, self.map_index

    def __str__(self) -> str:
        return f"{self.task_id}[{self.map_index}] try {self.try_number}"


def shown(caller: Caller | None) -> str:
    """Return a caller for messages."""
    return "a person" if caller is None else str(caller)


def send_callers() -> None:
    """
    Let all requests of this process carry the caller from now on.

    Airflow binds the task instance to the context of its log lines, in the process of a task as well as around a
    trigger on the triggerer, where it is inherited by threads and by what stops the run of a killed task.
    """
    send = requests.Session.send

    def send_for_caller(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> Any:
        bound = structlog.contextvars.get_contextvars()
        if all(bound.get(field) is not None for field in _FIELDS):
            request.headers[CALLER_HEADER] = "/".join(str(bound[field]) for field in _FIELDS)
        return send(session, request, **options)

    requests.Session.send = send_for_caller  # type: ignore[method-assign, assignment]
