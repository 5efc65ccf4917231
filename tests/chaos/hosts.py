"""
What Airflow's configuration names in ``make chaos-cluster``: a host name for each process, and logs in a folder.

Airflow imports this module in all its processes, before most of its own.
"""

from __future__ import annotations

import os
import select
import shutil
import time
from pathlib import Path
from typing import Any

from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG
from airflow.configuration import conf

HOST_VARIABLE = "CHAOS_HOST"
LOGS_VARIABLE = "CHAOS_LOGS"
LOGGING_CONFIG = DEFAULT_LOGGING_CONFIG


def host_name() -> str:
    """Return the name of the component, as if each ran on a machine of its own."""
    return os.environ.get(HOST_VARIABLE, "localhost")


def sleep(seconds: float) -> None:
    """Sleep with a system call that works with libfaketime, in which `clock_nanosleep` of Python 3.11 fails."""
    select.select((), (), (), seconds)


if "FAKETIME" in os.environ:
    time.sleep = sleep


class FolderLogs:
    """Keeps the logs of tasks and triggers in a folder that all machines share, and nowhere else."""

    processors = ()

    def upload(self, path: os.PathLike[str] | str, ti: Any = None) -> None:
        """Move a log to the folder; a part that an earlier process has moved there stays."""
        local = Path(conf.get("logging", "base_log_folder"), path)
        remote = self._folder / path
        if not local.exists():
            return
        remote.parent.mkdir(parents=True, exist_ok=True)
        with local.open("rb") as source, remote.open("ab") as target:
            shutil.copyfileobj(source, target)
        local.unlink()

    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str] | None]:
        """Return the logs below a path, as sources and contents."""
        files = sorted(self._folder.glob(f"{relative_path}*"))
        return [str(file) for file in files], [file.read_text("utf-8", errors="replace") for file in files]

    @property
    def _folder(self) -> Path:
        return Path(os.environ[LOGS_VARIABLE])


REMOTE_TASK_LOG = FolderLogs()
