"""The commands of ``airflow streamsets``, against a sandbox."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from airflow_provider_streamsets.compat import HAS_PAGES

if not HAS_PAGES:
    pytest.skip("Needs the tables of Airflow 3.", allow_module_level=True)

from airflow_provider_streamsets.__main__ import main
from airflow_provider_streamsets.cli.definition import get_commands
from airflow_provider_streamsets.operators.jobs import ControlHubListJobsOperator
from airflow_provider_streamsets.sandbox.seed.models import load_seed
from airflow_provider_streamsets.testing.virtual_time import VirtualTime
from tests.integration.airflow_rows import create_tables, delete_rows, store_task
from tests.integration.conftest import start_run as start

CONN_ID = "streamsets_cli"
ORDERS = "Orders to warehouse"
CUSTOMERS = "Customers nightly"
CLICKSTREAM = "Clickstream to lake"
LEDGER = "Ledger export"


@pytest.fixture(scope="module", autouse=True)
def tables() -> Iterator[None]:
    """The tables of Airflow's database."""
    create_tables()
    yield
    delete_rows()


@pytest.fixture
def while_waiting() -> list[Callable[[], None]]:
    """Functions to call during each wait of a command."""
    return []


@pytest.fixture
def hub(sandbox, while_waiting, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The sandbox as a connection; waits advance its clock."""

    def advance(seconds: float) -> None:
        sandbox.advance(seconds)
        for function in while_waiting:
            function()

    for name in (CONN_ID, "streamsets_default"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", sandbox.airflow_conn)
    # Results of the commands for the process, not for the test.
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")
    with VirtualTime(advance).installed():
        yield sandbox
    sandbox.call("DELETE", "/sandbox/v1/faults")


class Result:
    """What a command has printed, and its exit code or message."""

    def __init__(self, code: Any, printed: Any) -> None:
        self.code = code
        self.out, self.err = printed.out, printed.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def command(hub, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs a command in this process."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        code: Any = 0
        try:
            main(list(arguments))
        except SystemExit as exit_:
            code = exit_.code
        return Result(code or 0, capsys.readouterr())

    return run


(GROUP,) = get_commands()


@pytest.mark.parametrize("name", [command.name for command in GROUP.subcommands])
def test_each_command_has_help(command, name):
    result = command(name, "--help")
    assert result.code == 0
    assert f"{name} [-h]" in result.out


def test_definition_is_light():
    code = (
        "import sys, airflow.cli.cli_config\n"
        "before = set(sys.modules)\n"
        "import airflow_provider_streamsets.cli.definition\n"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('airflow_provider')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_shows_access_and_latency(hub, command):
    result = command("check", CONN_ID, "-o", "json")
    assert result.code == 0
    facts = result.json
    assert facts["control_hub"] == hub.url
    assert facts["organization"] == "Example org"
    assert "jobrunner:operator" in facts["roles"]
    jobs = [job for job in hub.state()["jobs"] if not job["template"]]
    assert facts["jobs"] == len(jobs)
    assert (facts["engines"], facts["engines_responding"]) == (3, 3)
    assert facts["latency_ms"] > 0
    assert facts["rate_limited_requests"] == 0
    assert facts["project"] is None


def test_check_counts_rate_limits(hub, command):
    hub.add_fault({"path": "*/currentUser", "fault": "too_many_requests", "times": 1})
    assert command("check", "-o", "json").json["rate_limited_requests"] == 1


def test_check_goes_on_without_permission(hub, command):
    hub.add_fault({"path": "*/sdcs", "fault": "gateway", "status": 403})
    result = command("check", "-o", "json")
    assert result.json["engines"] is None
    assert result.json["jobs"] > 0
    assert "Cannot list engines" in result.code


def test_check_names_unknown_project(hub, command, monkeypatch):
    connection = {**json.loads(hub.airflow_conn), "extra": {"project_id": "elsewhere"}}
    monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_PROJECT", json.dumps(connection))
    result = command("check", "streamsets_project")
    assert "no access to the project 'elsewhere'" in result.code


def test_unknown_connection_is_one_line(command):
    result = command("check", "nowhere")
    assert "nowhere" in result.code
    assert "Traceback" not in result.err


def test_conformance_report_is_written(hub, command, tmp_path):
    hub.set_variants(unknown_job="404")
    file = tmp_path / "report.yaml"
    result = command("check", CONN_ID, "--conformance", str(file))
    assert result.code == 0
    assert yaml.safe_load(file.read_text("utf-8"))["variants"]["unknown_job"] == "404"
    assert "unknown_job=404" in result.out
    assert f"Wrote {file}" in result.err
    assert not [job for job in hub.state()["jobs"] if job["running"] and job["name"] == CLICKSTREAM]


def test_conformance_with_job_is_confirmed_first(hub, command, tmp_path, monkeypatch):
    before = len(hub.starts())
    arguments = ("check", "--conformance", str(tmp_path / "report.yaml"), "--with-job", CLICKSTREAM)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert "needs a confirmation" in command(*arguments).code
    monkeypatch.setattr("sys.stdin", _Terminal("n\n"))
    assert command(*arguments).code == "Nothing was started."
    assert len(hub.starts()) == before
    monkeypatch.setattr("sys.stdin", _Terminal("y\n"))
    result = command(*arguments, "-o", "json")
    assert result.code == 0
    assert result.json["variants"]["start_body"] == "status"
    assert len(hub.starts()) > before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--with-job", CLICKSTREAM), "no effect without --conformance"),
        (("--conformance", "missing/report.yaml"), "Cannot write the report"),
    ],
)
def test_conformance_is_refused_before_any_request(hub, command, arguments, message):
    hub.forget_requests()
    assert message in command("check", *arguments).code
    assert not hub.requests()["total"]


def test_snapshot_is_a_seed(command, tmp_path):
    result = command("snapshot", CONN_ID, "--name", ORDERS)
    assert result.code == 0
    file = tmp_path / "seed.yaml"
    file.write_text(result.out, "utf-8")
    assert [job.name for job in load_seed(file).jobs] == [ORDERS]
    assert ORDERS not in command("snapshot", "--name", ORDERS, "--anonymise").out
    assert command("snapshot", "--name", "nope").code == "No job matches the filters."


def test_filters_are_those_of_the_list_operator():
    (declared,) = (command for command in GROUP.subcommands if command.name == "jobs")
    options = {flag.lstrip("-").replace("-", "_") for argument in declared.args for flag in argument.flags}
    parameters = set(ControlHubListJobsOperator.template_fields) - {"result", "control_hub_conn_id"}
    assert parameters <= options


def test_jobs_in_each_format(command):
    selection = ("jobs", "--job-tag", "warehouse", "--limit", "1")
    (job,) = command(*selection, "-o", "json").json
    assert (job["job_name"], job["run_count"]) == (ORDERS, job["run_count"])
    assert yaml.safe_load(command(*selection, "-o", "yaml").out) == [job]
    plain = command(*selection, "-o", "plain").out.splitlines()
    assert plain[0].split()[:2] == ["job_id", "job_name"]
    assert plain[1].startswith(job["job_id"])
    table = command(*selection).out
    assert ORDERS in table
    assert job["job_id"] not in table


def test_text_is_printed_as_it_is(hub, command, client):
    job = client.jobs.find_by_name(ORDERS)
    name = "[red]1.10[/red] copy"
    (copy,) = client.jobs.duplicate(job.job_id, name=name)
    try:
        for output in ("table", "plain"):
            assert name in command("jobs", "--name", copy.name, "-o", output).out
    finally:
        client.jobs.delete([copy.job_id])


def test_exclusive_filters_are_refused(command):
    assert "name_starts_with" in command("jobs", "--name", "a", "--name-starts-with", "b").code


def test_runs_with_outcomes(hub, command):
    start(hub, CUSTOMERS, 60)
    (latest, *_) = command("runs", CUSTOMERS, "-o", "json").json
    assert (latest["outcome"], latest["status"]) == ("FAILED", "INACTIVE")
    assert "JDBC_34" in latest["error_message"]
    assert "JDBC_34" in command("runs", hub.job_id(CUSTOMERS), "--limit", "1").out
    assert command("runs", CUSTOMERS, "--since", "2100-01-01", "-o", "json").json == []
    assert "'--since' must be a datetime" in command("runs", CUSTOMERS, "--since", "yesterday").code


def test_run_succeeds(command):
    result = command("run", ORDERS)
    assert result.code == 0
    assert "succeeded" in result.out.splitlines()[0]
    assert "ACTIVATING" in result.err
    assert "ACTIVE/GREEN" in result.err


def test_run_fails(command):
    result = command("run", CUSTOMERS, "-o", "json")
    assert result.code == 3
    assert result.json["outcome"] == "FAILED"
    assert "JDBC_34" in result.err


def test_run_that_is_stopped(hub, command, while_waiting):
    while_waiting.append(lambda: hub.call("POST", f"/jobrunner/rest/v1/job/{hub.job_id(CLICKSTREAM)}/stop"))
    result = command("run", CLICKSTREAM, "-o", "json")
    assert result.code == 4
    assert result.json["outcome"] == "STOPPED"


def test_run_that_takes_too_long(command):
    result = command("run", CLICKSTREAM, "--timeout", "60")
    assert result.code == 5
    assert "60 s" in result.err
    assert command("stop", CLICKSTREAM).code == 0


@pytest.mark.parametrize("is_file", [False, True])
def test_run_with_parameters_without_wait(hub, command, tmp_path, is_file):
    value = '{"RECORDS": "500"}'
    if is_file:
        (tmp_path / "parameters.json").write_text(value, "utf-8")
        value = f"@{tmp_path / 'parameters.json'}"
    result = command("run", ORDERS, "-p", value, "--no-wait", "-o", "json")
    assert result.code == 0
    assert result.json["status"] == "ACTIVATING"
    assert hub.job_state(ORDERS)["running"]
    hub.advance(60)
    (run,) = command("runs", ORDERS, "--limit", "1", "-o", "json").json
    assert run["input_count"] == 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "no job has that name"),
        ((ORDERS, "-p", "[1]"), "'--parameters' must be a JSON object"),
        ((ORDERS, "-p", "@missing.json"), "Cannot read the parameters"),
        ((LEDGER,), "Acknowledge the error first"),
    ],
)
def test_run_that_cannot_start(command, arguments, message):
    assert message in command("run", *arguments).code


@pytest.mark.parametrize("option", ["--timeout", "--poll-interval"])
@pytest.mark.parametrize("value", ["0", "-1", "soon", "inf", "nan"])
def test_times_are_checked_first(command, option, value):
    result = command("run", ORDERS, f"{option}={value}")
    assert result.code == 2
    assert "number of seconds above 0" in result.err


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "code", "is_stopped"), [("y\n", 4, True), ("n\n", 130, False), ("", 130, False), (None, 130, False)]
)
def test_interrupted_run(hub, command, while_waiting, monkeypatch, answer, code, is_stopped):
    monkeypatch.setattr("sys.stdin", io.StringIO() if answer is None else _Terminal(answer))

    def interrupt() -> None:
        if hub.job_state(CLICKSTREAM)["status"] == "ACTIVE":
            raise KeyboardInterrupt

    while_waiting.append(interrupt)
    result = command("run", CLICKSTREAM)
    hub.advance(60)
    assert result.code == code
    assert hub.job_state(CLICKSTREAM)["running"] is not is_stopped
    assert ("the command 'stop' stops it" in result.err) is not is_stopped


def test_name_is_no_markup_in_the_question(hub, command, client, while_waiting, monkeypatch):
    (copy,) = client.jobs.duplicate(client.jobs.find_by_name(CLICKSTREAM), name="Load [/eu] orders")
    monkeypatch.setattr("sys.stdin", _Terminal("y\n"))

    def interrupt() -> None:
        if hub.job_state(copy.name)["status"] == "ACTIVE":
            raise KeyboardInterrupt

    while_waiting.append(interrupt)
    result = command("run", copy.name)
    while_waiting.clear()
    hub.advance(60)
    assert result.code == 4
    assert copy.name in result.err
    client.jobs.delete([copy.job_id])


def test_interrupted_start_says_that_the_run_may_be_active(hub, command, while_waiting):
    # The response is lost, so that the command waits for the new run.
    hub.add_fault({"path": "*/start", "method": "POST", "fault": "reset_after", "times": 1})
    hub.set_variants(start_status_lag="previous")
    while_waiting.append(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    result = command("run", CLICKSTREAM)
    assert result.code == 130
    assert "may be active" in result.err


def test_stop_waits_for_the_end(hub, command):
    run = start(hub, CLICKSTREAM)
    result = command("stop", CLICKSTREAM, "-o", "json")
    assert (result.json["outcome"], result.json["run_count"]) == ("STOPPED", run["run_count"])
    result = command("stop", CLICKSTREAM)
    assert result.code == 0
    assert "no active run" in result.err


@pytest.mark.parametrize("stop_while_activating", ["accepted", "refused"])
def test_activating_run_is_stopped(hub, command, stop_while_activating):
    hub.set_variants(stop_while_activating=stop_while_activating)
    start(hub, CLICKSTREAM, 0)
    assert hub.job_state(CLICKSTREAM)["status"] == "ACTIVATING"
    assert command("stop", CLICKSTREAM, "-o", "json").json["outcome"] == "STOPPED"


def test_interrupted_stop_ends_without_traceback(hub, command, while_waiting):
    start(hub, CLICKSTREAM)
    while_waiting.append(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert command("stop", CLICKSTREAM).code == 130


def test_stop_of_another_run_does_nothing(hub, command):
    run = start(hub, CLICKSTREAM)
    result = command("stop", CLICKSTREAM, "--run-count", str(run["run_count"] + 1))
    assert "no active run" in result.err
    assert hub.job_state(CLICKSTREAM)["running"]
    assert "Requested the stop" in command("stop", CLICKSTREAM, "--force", "--no-wait").err
    hub.advance(60)
    assert not hub.job_state(CLICKSTREAM)["running"]


def test_acknowledge(hub, command):
    (acknowledged,) = command("acknowledge", LEDGER, ORDERS, "-o", "json").json
    assert acknowledged["job_name"] == LEDGER
    result = command("acknowledge", LEDGER)
    assert result.out == ""
    assert "None of the jobs" in result.err


def task_of(**xcoms: Any) -> tuple[str, ...]:
    """Store a task instance, and return the arguments of ``why``."""
    key = store_task("orders", state="failed", streamsets_conn_id=CONN_ID, **xcoms)
    return "why", key["dag_id"], key["run_id"], key["task_id"]


def test_why_reports_failed_run(hub, command):
    arguments = task_of(**start(hub, CUSTOMERS, 60))
    result = command(*arguments)
    assert "Task 'load' is failed, try 1." in result.err
    assert "failed: JDBC_34" in result.out.splitlines()[0]
    assert CUSTOMERS in result.out
    (entry,) = command(*arguments, "-o", "json").json
    assert entry["outcome"] == "FAILED"


def test_why_reports_what_can_be_read(hub, command):
    arguments = task_of(**start(hub, CUSTOMERS, 60))
    hub.add_fault({"path": "*/jobStatusHistory", "fault": "server_error"})
    result = command(*arguments)
    assert result.code == 0
    assert "JDBC_34" in result.out
    assert "Events: none available" in result.out


def test_why_of_active_run(hub, command):
    result = command(*task_of(**start(hub, CLICKSTREAM)))
    assert "is active" in result.out


def test_why_of_run_that_is_gone(hub, command):
    job_id = hub.job_id(CUSTOMERS)
    stored = {"job_id": job_id, "outcome": "FAILED", "error_message": "JDBC_34 - no such column"}
    result = command(*task_of(job_id=job_id, run_count=99, result=stored))
    assert "does not know run 99" in result.err
    assert "JDBC_34 - no such column" in result.err


def test_why_of_task_without_run(hub, command):
    assert "has started no run" in command(*task_of(job_id=hub.job_id(ORDERS))).err
    result = command("why", "orders", "never", "load")
    assert "has found no job in run 'never'" in result.code


def test_sandbox_passes_arguments_on(command, monkeypatch):
    # The command configures the logging of its process.
    monkeypatch.setattr("logging.config.dictConfig", lambda config: None)
    result = command("sandbox", "--port", "0", "--", "--list-variants")
    assert result.code == 0
    assert "unknown_job" in result.out
    result = command("sandbox", "--variants-from", "missing.yaml", "--port", "0")
    assert "missing.yaml" in result.err
