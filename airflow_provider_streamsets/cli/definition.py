"""
Declaration of the commands. Light, as every command of Airflow imports it (from 3.2 on).

Airflow's own classes declare them, so that ``airflow streamsets`` and ``python -m airflow_provider_streamsets`` parse
the same arguments.
"""

from __future__ import annotations

import argparse
from typing import Any

from airflow.cli.cli_config import (
    ARG_OUTPUT,
    ARG_VERBOSE,
    ActionCommand,
    Arg,
    GroupCommand,
    lazy_load_command,
)

from airflow_provider_streamsets.control_hub.choices import COLORS, EXECUTOR_TYPES, STATUSES

_COMMANDS = "airflow_provider_streamsets.cli.commands"
DEFAULT_POLL_INTERVAL = 5.0
"""Seconds; shorter than that of tasks, as a user waits for the output."""


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got '{text}'")
    return value


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer above 0, got '{text}'")
    return int(text)


def _command(name: str, summary: str, *args: Arg, epilog: str | None = None) -> ActionCommand:
    return ActionCommand(name, summary, lazy_load_command(f"{_COMMANDS}.{name}"), (*args, ARG_VERBOSE), epilog=epilog)


def _connection(*flags: str, **options: Any) -> Arg:
    return Arg(flags=flags, help="Id of the connection to Control Hub (default: streamsets_default)", **options)


_CONN = _connection("conn_id", nargs="?", metavar="CONN", default="streamsets_default")
_CONN_OPTION = _connection("-c", "--conn-id", metavar="CONN", default="streamsets_default")
_JOB = Arg(("job",), metavar="JOB", help="Exact name or id of the job")
_YES = Arg(("-y", "--yes"), action="store_true", help="Skip the confirmation")
_TIMEOUT = Arg(("--timeout",), type=_seconds, metavar="SECONDS", help="Stop waiting after this time (default: never)")
_POLL_INTERVAL = Arg(
    ("--poll-interval",),
    type=_seconds,
    metavar="SECONDS",
    default=DEFAULT_POLL_INTERVAL,
    help="Time between two polls (default: %(default)g)",
)
_NO_WAIT = Arg(("--no-wait",), action="store_true", help="Return without waiting for the end of the run")
_FILTERS = (
    Arg(("--name",), help="Exact name"),
    Arg(("--name-starts-with",), metavar="TEXT", help="Beginning of the name"),
    Arg(("--status",), choices=STATUSES, metavar="STATUS", help=f"Status of the latest run: {', '.join(STATUSES)}"),
    Arg(("--color",), choices=COLORS, metavar="COLOR", help=f"Color of the latest run: {', '.join(COLORS)}"),
    Arg(("--job-tag",), metavar="TAG", help="Tag without organization, such as nightly/orders"),
    Arg(("--engine-label",), metavar="LABEL", help="One of the engine labels of the job"),
    Arg(("--executor-type",), choices=EXECUTOR_TYPES, metavar="TYPE", help=f"One of {', '.join(EXECUTOR_TYPES)}"),
    Arg(("--pipeline-version",), metavar="NUMBER", help="Number of the pipeline version"),
    Arg(("--search",), help='Search of Control Hub, such as \'name=="orders*" and tag=="nightly"\''),
    Arg(("--template-id",), metavar="ID", help="Only instances of this job template"),
    Arg(("--limit",), type=_positive, metavar="NUMBER", help="Maximum number of jobs"),
)

_RUN_EXIT_CODES = (
    "Exit codes: 0 the run has succeeded (or, with --no-wait, was started); 1 an error; 3 the run has failed; 4 it was "
    "stopped; 5 it has not ended within --timeout; 130 interrupted. Ctrl-C asks whether to stop the run."
)


def get_commands() -> list[GroupCommand]:
    """Return the commands, for the key ``cli`` of the provider metadata."""
    return [
        GroupCommand(
            name="streamsets",
            help="Check, run and watch jobs of StreamSets Control Hub",
            subcommands=(
                _command(
                    "check",
                    "Check a connection and what its credential can see",
                    _CONN,
                    Arg(
                        ("--conformance",),
                        metavar="FILE",
                        help="Find out which variants of the sandbox the Control Hub matches, and write a report",
                    ),
                    Arg(
                        ("--with-job",),
                        metavar="JOB",
                        help="With --conformance: also start, stop, force-stop, upgrade and duplicate this job",
                    ),
                    _YES,
                    ARG_OUTPUT,
                    epilog="docs/howto/first-contact.md describes the requests and the report of --conformance.",
                ),
                _command(
                    "jobs",
                    "List jobs that match all filters, oldest first",
                    _CONN_OPTION,
                    *_FILTERS,
                    Arg(("--templates",), action="store_true", help="List job templates instead of jobs"),
                    ARG_OUTPUT,
                ),
                _command(
                    "runs",
                    "List the runs of a job, newest first",
                    _JOB,
                    _CONN_OPTION,
                    Arg(("--limit",), type=_positive, metavar="NUMBER", default=20, help="Default: %(default)d"),
                    Arg(("--since",), metavar="TIME", help="Only runs started at this time or later (ISO 8601)"),
                    Arg(("--until",), metavar="TIME", help="Only runs started before this time (ISO 8601)"),
                    ARG_OUTPUT,
                ),
                _command(
                    "run",
                    "Start a job and follow its run",
                    _JOB,
                    _CONN_OPTION,
                    Arg(
                        ("-p", "--parameters"),
                        metavar="JSON",
                        help='Runtime parameters that override those of the job, such as \'{"DAY": "2026-01-31"}\', or '
                        "@FILE, a file with them",
                    ),
                    _NO_WAIT,
                    _TIMEOUT,
                    _POLL_INTERVAL,
                    ARG_OUTPUT,
                    epilog=_RUN_EXIT_CODES,
                ),
                _command(
                    "stop",
                    "Stop the current run of a job",
                    _JOB,
                    _CONN_OPTION,
                    Arg(("--run-count",), type=_positive, metavar="NUMBER", help="Stop only the run with this number"),
                    Arg(("--force",), action="store_true", help="Do not wait for the engines; the offset may be lost"),
                    _NO_WAIT,
                    _TIMEOUT,
                    _POLL_INTERVAL,
                    ARG_OUTPUT,
                ),
                _command(
                    "acknowledge",
                    "Acknowledge the errors of jobs in INACTIVE_ERROR, so that they can be started again",
                    Arg(("job",), metavar="JOB", nargs="+", help="Exact names or ids of jobs"),
                    _CONN_OPTION,
                    ARG_OUTPUT,
                ),
                _command(
                    "why",
                    "Report how the runs of a task instance have ended, and why",
                    Arg(("dag_id",), help="Id of the DAG"),
                    Arg(("run_id",), help="Id of the DAG run"),
                    Arg(("task_id",), help="Id of the task"),
                    Arg(("--map-index",), type=int, default=-1, metavar="NUMBER", help="Index of a mapped task"),
                    ARG_OUTPUT,
                ),
                _command(
                    "snapshot",
                    "Print jobs, pipelines and engines as a seed of the sandbox",
                    _CONN,
                    *_FILTERS,
                    Arg(("--anonymise",), action="store_true", help="Replace all names and values by neutral ones"),
                ),
                _command(
                    "sandbox",
                    "Run a local Control Hub",
                    Arg(("--port",), help="Port to listen on; 0 selects a free one"),
                    Arg(("--seed",), metavar="FILE", help="Engines, pipelines and jobs, such as a snapshot"),
                    Arg(("--state",), metavar="FILE", help="Persist the state in this file"),
                    Arg(("--variants-from",), metavar="REPORT", help="Behave like the hub of a conformance report"),
                    Arg(("--time-scale",), metavar="FACTOR", help="Shorten the durations of runs by this factor"),
                    Arg(("arguments",), nargs="*", metavar="-- ARGUMENT", help="Further ones of streamsets-sandbox"),
                ),
            ),
        )
    ]
