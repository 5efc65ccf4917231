"""The commands; :mod:`airflow_provider_streamsets.cli.definition` declares their arguments."""

from __future__ import annotations

import functools
import os
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException
from airflow.utils import cli
from airflow.utils.providers_configuration_loader import providers_configuration_loaded
from rich.markup import escape
from rich.prompt import Confirm
from sqlalchemy.exc import SQLAlchemyError

from airflow_provider_streamsets import __version__, params, task_runs
from airflow_provider_streamsets.cli.conformance import run_conformance, write_report
from airflow_provider_streamsets.cli.follow import follow_run
from airflow_provider_streamsets.cli.output import STRUCTURED, messages, print_facts, print_rows
from airflow_provider_streamsets.cli.snapshot import dump_snapshot, take_snapshot
from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubError, Job, JobRun, Outcome
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import ControlHubNotFoundError, ControlHubRunTimeoutError
from airflow_provider_streamsets.control_hub.tracking.report import RunReport, fetch_names, run_record
from airflow_provider_streamsets.control_hub.tracking.wait import request_stops, stop_runs
from airflow_provider_streamsets.hooks.control_hub import ControlHubHook
from airflow_provider_streamsets.job_selector import get_job
from airflow_provider_streamsets.sandbox.cli import main as run_sandbox
from airflow_provider_streamsets.task_runs import TaskKey, TaskRuns

_EXIT_CODES = {Outcome.SUCCEEDED: 0, Outcome.FAILED: 3, Outcome.STOPPED: 4}
_TIMED_OUT = 5
_INTERRUPTED = 130
_LATENCY_REQUESTS = 5
_ENGINE_TYPES = ("COLLECTOR", "TRANSFORMER")
# Seconds for which a stop is retried while the job activates.
_STOP_MAX_WAIT = 60.0
_ACKNOWLEDGE_MAX_WAIT = 6.0
# Seconds for which the report of an ended run is tried again.
_REPORT_TIMEOUT = 60.0
_JOB_COLUMNS = ("job_name", "status", "color", "run_count", "start_time", "pipeline_version", "tags")
_RUN_COLUMNS = (
    *("run_count", "status", "color", "outcome", "start_time", "duration"),
    *("input_count", "output_count", "error_count", "error_message"),
)


def _command(function: Callable[[Namespace], None]) -> Callable[[Namespace], None]:
    """Decorate a command: audit log, logs only with ``--verbose``, errors without traceback."""

    @cli.action_cli(check_db=False)  # type: ignore[untyped-decorator]
    @cli.suppress_logs_and_warning
    @providers_configuration_loaded
    @functools.wraps(function)
    def run_command(args: Namespace) -> None:
        # Connections in Airflow's database, as for Airflow's own commands.
        os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
        try:
            function(args)
        except (ControlHubError, AirflowException, OSError, ValueError) as error:
            raise SystemExit(str(error)) from None
        except (EOFError, KeyboardInterrupt):
            raise SystemExit(_INTERRUPTED) from None

    return run_command  # type: ignore[no-any-return]


def _print_message(text: str) -> None:
    messages.print(text, markup=False)


def _connect(conn_id: str) -> ControlHubClient:
    return ControlHubHook(conn_id).get_conn()


def _find_job(client: ControlHubClient, job: str) -> Job:
    """Return the job with an id or name; a name that has the form of an id is none."""
    try:
        job_id = params.resource_id(job, "job_id", rendered=True)
    except ValueError:
        return get_job(client, None, job)
    return get_job(client, job_id, None)


@_command
def check(args: Namespace) -> None:
    """Print who and what a connection gives access to, and how well Control Hub responds."""
    if args.conformance:
        _check_conformance(_connect(args.conn_id), args)
        return
    if args.with_job:
        raise SystemExit("--with-job has no effect without --conformance.")
    client = _connect(args.conn_id).with_options(max_attempts=2)
    user = client.current_user()
    problems = []

    def read(fact: Callable[[], Any]) -> Any:
        try:
            return fact()
        except ControlHubError as error:
            problems.append(str(error))
            return None

    latencies = [_duration_of(client.current_user) for _ in range(_LATENCY_REQUESTS)]
    engines = read(lambda: [one for kind in _ENGINE_TYPES for one in client.engines.list(executor_type=kind)])
    facts = {
        "control_hub": client.base_url,
        "user": user.name or user.user_id,
        "user_id": user.user_id,
        "organization": user.organization_name or user.organization_id,
        "roles": list(user.roles),
        "project": read(lambda: _project_name(client)),
        "jobs": read(client.jobs.count),
        "engines": None if engines is None else len(engines),
        "engines_responding": None if engines is None else sum(engine.is_responding for engine in engines),
        "latency_ms": round(statistics.median(latencies) * 1000, 1),
        "clock_skew_s": round(client.clock_skew) if client.is_clock_skew_known else None,
        "rate_limited_requests": client.rate_limited,
        "provider_version": __version__,
    }
    print_facts(facts, args.output)
    if problems:
        raise SystemExit("\n".join(problems))


def _duration_of(call: Callable[[], Any]) -> float:
    started_at = time.perf_counter()
    call()
    return time.perf_counter() - started_at


def _project_name(client: ControlHubClient) -> str | None:
    if client.project_id is None:
        return None
    name = client.project_names().get(client.project_id)
    if name is None:
        raise ControlHubNotFoundError(f"The credential has no access to the project '{client.project_id}'.")
    return name


def _check_conformance(client: ControlHubClient, args: Namespace) -> None:
    path = Path(args.conformance)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise SystemExit(f"Cannot write the report to '{path}': not a file in a folder that can be written to.")
    job = _find_job(client, args.with_job) if args.with_job else None
    if job is not None and not args.yes:
        question = f"Start, stop, force-stop, upgrade and duplicate job {job.title}? Its records are processed."
        if not sys.stdin.isatty():
            raise SystemExit("--with-job needs a confirmation: --yes, or an answer on a terminal.")
        if not Confirm.ask(escape(question), console=messages, default=False):
            raise SystemExit("Nothing was started.")
    with messages.status("Reading") as status:
        report = run_conformance(
            client,
            job_id=job.job_id if job else None,
            on_probe=lambda probe: status.update(escape(probe)),
            on_warning=_print_message,
        )
    write_report(report, path)
    findings = report.as_dict()["findings"]
    if args.output in STRUCTURED:
        print_facts(report.as_dict(), args.output)
    else:
        keys = ("section", "question", "status", "variants")
        print_rows([{key: finding.get(key) for key in keys} for finding in findings], args.output)
    answered = sum(finding["status"] == "answered" for finding in findings)
    _print_message(f"Wrote {path}: {answered} of {len(findings)} questions are answered.")
    if report.unmatched:
        unmatched = ", ".join(report.unmatched)
        _print_message(f"No variant of the sandbox matches: {unmatched}. Please report this.")


@_command
def jobs(args: Namespace) -> None:
    """Print the jobs that match all filters."""
    client = _connect(args.conn_id)
    found = [job.summary() for job in islice(_select_jobs(client, args, templates=args.templates), args.limit)]
    print_rows(found, args.output, columns=_JOB_COLUMNS)


def _select_jobs(client: ControlHubClient, args: Namespace, *, templates: bool) -> Any:
    """Return an iterator over the jobs that match the filters of the command line."""
    params.at_most_one(name=args.name, name_starts_with=args.name_starts_with)
    return client.jobs.list(
        name=args.name,
        name_starts_with=args.name_starts_with,
        status=args.status,
        color=args.color,
        tag=args.job_tag,
        engine_label=args.engine_label,
        executor_type=args.executor_type,
        pipeline_version=args.pipeline_version,
        search=args.search,
        templates=templates,
        template_id=args.template_id,
    )


@_command
def runs(args: Namespace) -> None:
    """Print the runs of a job."""
    since, until = (params.timestamp(getattr(args, name), f"--{name}", rendered=True) for name in ("since", "until"))
    client = _connect(args.conn_id)
    job = _find_job(client, args.job)
    history = client.runs.history(job.job_id, args.limit, since=since, until=until)
    records = [run_record(job.name, run, client.runs.events(run.run_id)) for run in history]
    print_rows(records, args.output, columns=_RUN_COLUMNS)


@_command
def run(args: Namespace) -> None:
    """Start a job, follow its run, and exit with a code for its outcome."""
    parameters = params.json_object(_read_argument(args.parameters), "--parameters", rendered=True)
    client = _connect(args.conn_id)
    job = _find_job(client, args.job)
    try:
        started = client.runs.start(job, parameters)
    except KeyboardInterrupt:
        _print_message(f"Interrupted during the start: job {job.title} may be active. The command 'runs' shows it.")
        raise
    name = f"run {started.run_count} of {job.title}"
    if args.no_wait:
        _print_message(f"Started {name}.")
        if args.output in STRUCTURED:
            print_facts(run_record(job.name, started), args.output)
        return
    try:
        report = follow_run(client, job, started, timeout=args.timeout, poll_interval=args.poll_interval)
    except ControlHubRunTimeoutError as error:
        _print_message(str(error))
        sys.exit(_TIMED_OUT)
    except KeyboardInterrupt:
        sys.exit(_interrupted(client, job, started))
    _print_report(client, args.output, report)
    sys.exit(_EXIT_CODES[report.outcome] if report.outcome else 1)


def _read_argument(value: str | None) -> str | None:
    """Return the value of an argument, or the content of the file that it names after an ``@``."""
    if value is None or not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"Cannot read the parameters from '{value[1:]}': {error}") from None


def _interrupted(client: ControlHubClient, job: Job, started: JobRun) -> int:
    """Ask whether to stop the run, and return the exit code."""
    name = f"run {started.run_count} of {job.title}"
    try:
        if sys.stdin.isatty() and Confirm.ask(escape(f"Stop {name}?"), console=messages, default=False):
            if client.runs.stop_run(job.job_id, started.run_count, max_wait=_STOP_MAX_WAIT):
                _print_message(f"Requested the stop of {name}.")
                return _EXIT_CODES[Outcome.STOPPED]
            _print_message(f"There is nothing to stop: {name} has ended.")
            return _INTERRUPTED
    except (KeyboardInterrupt, EOFError):
        # Interrupted again: no answer.
        messages.print()
    _print_message(f"Left {name} active; the command 'stop' stops it.")
    return _INTERRUPTED


@_command
def stop(args: Namespace) -> None:
    """Stop the current run of a job, and wait until it has ended."""
    client = _connect(args.conn_id)
    job = _find_job(client, args.job)
    current = job.current_run
    if current is None or current.has_ended or args.run_count not in (None, current.run_count):
        number = "" if args.run_count is None else f" {args.run_count}"
        _print_message(f"Job {job.title} has no active run{number} to stop.")
        return
    selected = {job.job_id: current.run_count}
    requested = request_stops(client, selected, in_bulk=False, max_wait=_STOP_MAX_WAIT, force=args.force)
    if args.no_wait:
        _print_message(f"Requested the stop of run {current.run_count} of {job.title}.")
        return
    stop_runs(
        client,
        selected,
        Deadline(args.timeout, sleep=client.sleep),
        poll_interval=args.poll_interval,
        force_stop_after=0 if args.force else None,
        requested=requested,
    )
    ended = client.runs.get(job.job_id, current.run_count) or current
    # Who stopped the run is clear.
    _print_report(client, args.output, replace(_report(client, job.name, ended), stopped_by=None))


@_command
def acknowledge(args: Namespace) -> None:
    """Acknowledge the errors of jobs."""
    client = _connect(args.conn_id)
    found = {job.job_id: job for job in (_find_job(client, name) for name in args.job)}
    acknowledged = client.runs.acknowledge(list(found), max_wait=_ACKNOWLEDGE_MAX_WAIT)
    if not acknowledged and args.output not in STRUCTURED:
        _print_message("None of the jobs has an error to acknowledge.")
        return
    rows = [run_record(found[run.job_id].name, run) for run in acknowledged]
    print_rows(rows, args.output, columns=("job_name", "run_count", "error_message"))


@_command
def why(args: Namespace) -> None:
    """Print the reports of the runs of a task instance."""
    key = TaskKey(args.dag_id, args.run_id, args.task_id, args.map_index)
    try:
        task = task_runs.read_task(key)
    except SQLAlchemyError as error:
        # The other lines are the statement.
        raise SystemExit(f"Cannot read Airflow's database: {str(error).splitlines()[0]}") from None
    if task is None:
        raise SystemExit(
            f"Task '{args.task_id}' of DAG '{args.dag_id}' has found no job in run '{args.run_id}'. Check the ids, and "
            "--map-index of a mapped task. A task that has failed before it found its job says why in its log."
        )
    _print_message(f"Task '{args.task_id}' is {task.state or 'not scheduled'}, try {task.try_number}.")
    client = _connect(task.conn_id)
    reports = []
    for job_id, run_count in task.run_counts.items():
        if run_count is None:
            _print_message(f"The task has started no run of job {job_id}.")
        elif (report := _read_report(client, task, job_id, run_count)) is not None:
            reports.append(report)
    if args.output in STRUCTURED:
        print_rows([report.to_result() for report in reports], args.output)
        return
    for report in reports:
        _print_report(client, args.output, report)


def _read_report(client: ControlHubClient, task: TaskRuns, job_id: str, run_count: int) -> RunReport | None:
    try:
        job = client.jobs.get(job_id)
        found = client.runs.get(job_id, run_count)
    except ControlHubNotFoundError as error:
        _print_message(str(error))
        found = None
    if found is not None:
        return _report(client, job.name, found)
    stored = task.results.get(job_id)
    known = f" The task has stored: {stored.outcome}, {stored.error_message or 'no error'}." if stored else ""
    _print_message(f"Control Hub does not know run {run_count} of job {job_id} any more.{known}")
    return None


def _report(client: ControlHubClient, job_name: str, run: JobRun) -> RunReport:
    if not run.has_ended:
        return RunReport.from_active_run(job_id=run.job_id, job_name=job_name, run=run)
    return replace(client.runs.wait(run, timeout=_REPORT_TIMEOUT, metrics_timeout=0), job_name=job_name)


def _print_report(client: ControlHubClient, output: str, report: RunReport) -> None:
    if output in STRUCTURED:
        print_facts(report.to_result(), output)
    else:
        print(report.details(fetch_names(client, report)))  # noqa: T201


@_command
def snapshot(args: Namespace) -> None:
    """Print a seed of the sandbox with the jobs that match all filters, and their templates, pipelines and engines."""
    client = _connect(args.conn_id)
    found = chain.from_iterable(_select_jobs(client, args, templates=templates) for templates in (False, True))
    selected = list(islice(found, args.limit))
    if not selected:
        raise SystemExit("No job matches the filters.")
    with messages.status("Reading") as status:
        document = take_snapshot(
            client,
            selected,
            anonymise=args.anonymise,
            on_progress=lambda done, total: status.update(f"Read {done} of {total} jobs"),
            on_warning=_print_message,
        )
    source = None if args.anonymise else f"'{document['organization']['name']}' at {client.base_url}"
    print(dump_snapshot(document, source=source), end="")  # noqa: T201


def sandbox(args: Namespace) -> None:
    """Run the sandbox until it is interrupted."""
    given = ["--log-level", "info"] if args.verbose else []
    for name in ("port", "seed", "state", "variants_from", "time_scale"):
        value = getattr(args, name)
        given += [] if value is None else [f"--{name.replace('_', '-')}", value]
    run_sandbox([*given, *args.arguments])
