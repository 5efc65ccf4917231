"""What README, documentation, docstrings and examples show works as it stands, however a DAG run is triggered."""

from __future__ import annotations

import ast
import configparser
import importlib
import importlib.metadata
import importlib.util
import itertools
import json
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from datetime import datetime, timezone
from types import SimpleNamespace
from uuid import uuid4

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.models.connection import Connection
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import DagRun, TIRunContext
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_streamsets.__main__ import create_parser
from airflow_provider_streamsets.control_hub import errors
from airflow_provider_streamsets.get_provider_info import get_provider_info
from airflow_provider_streamsets.operators.archives import ControlHubExportJobsOperator
from airflow_provider_streamsets.operators.jobs import ControlHubDuplicateJobOperator, ControlHubListJobsOperator
from airflow_provider_streamsets.operators.metrics import ControlHubJobMetricsOperator, ControlHubJobRunHistoryOperator
from airflow_provider_streamsets.operators.offsets import ControlHubGetOffsetsOperator
from airflow_provider_streamsets.sandbox.api.bodies import NewSubscription
from airflow_provider_streamsets.sandbox.api.validation import check_body
from airflow_provider_streamsets.sandbox.faults.rules import FAULT_TYPES, FaultRule, parse_faults
from airflow_provider_streamsets.sandbox.seed.models import load_seed
from airflow_provider_streamsets.sensors.metrics import ControlHubJobMetricSensor
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from airflow_provider_streamsets.testing.sandbox_process import STATUS_CHANGE_PAYLOAD
from airflow_provider_streamsets.triggers.job_events import ControlHubJobRunEventTrigger
from tests.documentation import (
    CONTRIBUTING,
    DOCS,
    EXAMPLES,
    PAGES,
    README,
    ROOT,
    documented_code,
    own_airflow_commands,
    page_blocks,
    section,
    write_dags,
)

NOW = datetime(2026, 11, 23, 2, tzinfo=timezone.utc)
# They leave the jobs that they name as they are.
READERS = (
    ControlHubDuplicateJobOperator,
    ControlHubExportJobsOperator,
    ControlHubGetOffsetsOperator,
    ControlHubJobMetricSensor,
    ControlHubJobMetricsOperator,
    ControlHubJobRunHistoryOperator,
    ControlHubJobRunSensor,
    ControlHubListJobsOperator,
)
# Airflow gives a DAG run of any type but the first two no logical date, unless whoever triggers it chooses one.
TRIGGERED = {
    "scheduled": NOW,
    "backfill": NOW,
    "manual": None,
    "asset_triggered": None,
}
CODE = dict(documented_code())
TEMPLATES = [
    pytest.param(node.value, id=f"{where}:{node.lineno}")
    for where, code in CODE.items()
    for node in ast.walk(ast.parse(code))
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and "{{" in node.value
]


def context_of(run_type, logical_date):
    """The real template context of a task in a DAG run."""
    with DAG("dag", schedule=None, params={"archive": "/tmp/archive.zip", "run_count": 1}) as dag:
        task = EmptyOperator(task_id="task")
    # Of a mapped task.
    task.runtime_parameters = [{"REGION": "emea"}]
    run = DagRun(
        dag_id="dag",
        run_id=f"{run_type}__1",
        logical_date=logical_date,
        data_interval_start=logical_date,
        data_interval_end=logical_date,
        run_after=NOW,
        start_date=NOW,
        end_date=None,
        run_type=run_type,
        state="running",
        consumed_asset_events=[],
        partition_key=None,
    )
    ids = {"id": uuid4(), "task_id": "task", "dag_id": "dag", "run_id": run.run_id, "map_index": -1, "try_number": 1}
    server = TIRunContext(dag_run=run, max_tries=0)
    ti = RuntimeTaskInstance.model_construct(
        **ids, task=task, start_date=NOW, _cached_template_context=None, _ti_context_from_server=server
    )
    return dag, {
        **ti.get_template_context(),
        "ti": SimpleNamespace(xcom_pull=lambda *_, **__: defaultdict(lambda: "value")),
    }


def test_there_is_code_of_every_kind():
    assert {"README.md, Python block 1", "run_job.py", "airflow_provider_streamsets/operators/runs.py, block 1"} <= set(
        CODE
    )
    assert len(TEMPLATES) > 10


@pytest.mark.parametrize(("run_type", "logical_date"), TRIGGERED.items(), ids=list(TRIGGERED))
@pytest.mark.parametrize("template", TEMPLATES)
def test_template_renders_however_the_run_is_triggered(template, run_type, logical_date):
    dag, context = context_of(run_type, logical_date)
    assert dag.get_template_env().from_string(template).render(context)


def test_python_blocks_are_dag_files(tmp_path):
    files = write_dags(tmp_path)
    bag = DagBag(tmp_path)
    assert bag.import_errors == {}
    assert len(bag.dags) == len(files)
    assert all(dag.tasks for dag in bag.dags.values())


def test_every_example_is_a_dag_file():
    assert DagBag(EXAMPLES).import_errors == {}


def jobs_of(dag, jobs):
    """Yield which jobs of the sandbox tasks and schedule of a DAG touch, and whether they change them."""
    for task in dag.tasks:
        arguments, kind = (
            (task.partial_kwargs, task.operator_class) if isinstance(task, MappedOperator) else (vars(task), type(task))
        )
        if arguments.get("control_hub_conn_id") == "streamsets_production":
            continue
        names = {arguments.get("job_name"), *(arguments.get("job_names") or ())}
        for job in jobs:
            if job.name in names or arguments.get("job_tag") in job.tags:
                yield job, not issubclass(kind, READERS)
            elif job.name == arguments.get("from_job_name"):
                yield job, False
    # The URI of a job's asset holds the first part of its id.
    assets = repr(dag.timetable.asset_condition)
    yield from ((job, False) for job in jobs if job.id.partition(":")[0] in assets)


def test_examples_that_run_at_the_same_time_share_no_job_that_one_of_them_changes():
    touching, changing = defaultdict(set), defaultdict(set)
    for dag_id, dag in DagBag(EXAMPLES).dags.items():
        for job, changes in jobs_of(dag, load_seed().jobs):
            touching[job.name].add(dag_id)
            if changes:
                changing[job.name].add(dag_id)
    for job_name, dag_id in (
        ("Orders to warehouse", "streamsets_run_job"),
        ("Truck positions north", "streamsets_balance"),
        ("Regional orders", "streamsets_job_template"),
    ):
        assert changing[job_name] == {dag_id}
    assert touching["Inventory snapshot"] == {"streamsets_after_finished_runs"}
    assert {job_name: touching[job_name] for job_name in changing if len(touching[job_name]) > 1} == {}


def text_of_pages():
    return "\n".join(page.read_text("utf-8") for page in [*PAGES, CONTRIBUTING])


def first_cells(page, heading):
    """Return the names in code style in the first column of the table below a heading."""
    rows = re.findall(r"^\| ([^|]*) \|", section(DOCS / page, heading), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z0-9_-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z0-9-]+)", text_of_pages()))
    assert {"demo", "test", "chaos", "docs"} <= named <= targets


def test_paths_named_for_contributors_exist():
    folders = (ROOT, ROOT / "airflow_provider_streamsets")
    names = re.findall(r"`([\w./-]*(?:/|\.py))`", CONTRIBUTING.read_text("utf-8"))
    assert len(names) > 40
    generated = {line.lstrip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines()}
    # Some are named relative to the folder before them.
    missing = {name for name in names if not any((folder / name).exists() for folder in folders)} - generated
    assert {name for name in missing if not list((ROOT / "airflow_provider_streamsets").glob(f"*/{name}"))} == set()


def test_commands_exist():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = {line.partition("=")[0].strip() for line in setup["options.entry_points"]["console_scripts"].split("\n")}
    for _, block in page_blocks("console"):
        for line in block.splitlines():
            command, *arguments = shlex.split(line.removeprefix("$ "), comments=True)
            assert command in {"airflow", "cp", "curl", "make", "openssl", "pip", *scripts}, line
            for extra in re.findall(r"\.\[(\w+)\]", " ".join(arguments)):
                assert setup["options.extras_require"][extra]
            if [command, *arguments[:1]] == ["airflow", "streamsets"]:
                own = itertools.takewhile(lambda argument: argument not in {"|", ">"}, arguments[1:])
                assert create_parser().parse_args(list(own)), line
    for module in re.findall(r"`python -m ([\w.]+)", text_of_pages()):
        assert importlib.util.find_spec(module), module


def test_dependencies_are_documented_with_their_licenses():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = f"{setup['options']['install_requires']}\n{setup['options.extras_require']['sandbox']}"
    rows = re.findall(r"^\| (`.*?`) \| ([^|]+) \|", section(CONTRIBUTING, "Dependencies"), re.MULTILINE)
    licenses = {
        name.strip("`"): license_name
        for names, license_names in rows
        for name, license_name in zip(names.split(", "), license_names.split(", "), strict=True)
    }
    assert set(licenses) == set(re.findall(r"^([\w.-]+)", required, re.MULTILINE))
    assert set(licenses.values()) <= {"Apache", "BSD", "MIT"}
    for name, license_name in licenses.items():
        fields = importlib.metadata.metadata(name)
        named = [fields.get("License-Expression"), fields.get("License"), *fields.get_all("Classifier", [])]
        assert any(license_name in value for value in named if value), name


def test_every_block_is_run_or_checked():
    # Blocks in other languages, or in none, would be checked by no test.
    fences = re.findall(r"^```(.*)$", "\n".join(page.read_text("utf-8") for page in PAGES), re.MULTILINE)
    checked = {"bash", "console", "json", "python", "yaml"}
    assert {language for language in fences if language and "{" not in language} <= checked | {"text"}
    assert fences[1::2] == [""] * (len(fences) // 2)


def test_readme_runs_example_in_own_airflow_with_six_commands():
    # `tests/system/test_own_airflow.py` runs them.
    assert len(own_airflow_commands()) == 6


def test_connections_are_connections():
    lines = "".join(block for _, block in page_blocks("bash")).splitlines()
    documented = [shlex.split(line)[1].partition("=")[2] for line in lines]
    short, as_json = (Connection.from_json(text) for text in documented[:2])
    for connection in (short, as_json):
        assert (connection.conn_type, connection.login, connection.password) == (
            "streamsets",
            "<credential id>",
            "<token>",
        )
    for connection in (as_json, Connection(uri=documented[2])):
        assert (connection.conn_type, connection.extra_dejson) == ("streamsets", {"project_id": "<project>"})


def test_results_and_fault_rules_are_valid():
    (result,) = (json.loads(block) for page, block in page_blocks("json") if "push-events" not in page)
    assert result["outcome"] == "SUCCEEDED"
    (rules,) = (code for page, code in page_blocks("yaml") if page == "docs/reference/sandbox.md")
    assert parse_faults(yaml.safe_load(rules))


def test_payload_and_subscription_are_those_of_the_sandbox():
    payload, subscription = (json.loads(block) for page, block in page_blocks("json") if "push-events" in page)
    assert payload == json.loads(STATUS_CHANGE_PAYLOAD)
    webhook = check_body(NewSubscription, subscription).external_actions[0].webhook
    assert (webhook.method, json.loads(webhook.payload)) == ("POST", payload)


def test_connection_fields_are_documented():
    (form,) = get_provider_info()["connection-types"]
    page = (DOCS / "reference/connection.md").read_text("utf-8")
    documented = re.findall(r"^\| ([^|]*) \| `(\w+)` \|", page, re.MULTILINE)
    assert [(name, label) for label, name in documented] == [
        (name, field["label"].removesuffix(" (seconds)")) for name, field in form["conn-fields"].items()
    ]
    experts = page.partition("*Expert settings*")[2]
    assert {name for _, name in documented if f"`{name}`" in experts} == {
        name for name, field in form["conn-fields"].items() if "section" in field["schema"]
    }


def test_errors_are_documented():
    classes = {name for name in vars(errors) if re.fullmatch(r"ControlHub\w+Error", name)}
    table = (DOCS / "reference/errors.md").read_text("utf-8").partition("## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == classes


def test_sandbox_options_are_documented():
    command = [sys.executable, "-m", "airflow_provider_streamsets.sandbox", "--help"]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    options = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", usage, re.MULTILINE)) - {"--help", "--version"}
    assert first_cells("reference/sandbox.md", "Options") == options


def test_sandbox_faults_are_documented():
    faults_section = section(DOCS / "reference/sandbox.md", "Faults")
    rows = re.findall(r"^\| (`[^|]*) \| ([^|]*)\|", faults_section, re.MULTILINE)
    documented = {
        fault: set(re.findall(r"`(\w+)`", options))
        for faults, options in rows
        for fault in re.findall(r"`(\w+)`", faults)
    }
    common = set(FaultRule.model_fields)
    assert documented == {fault: set(rule.model_fields) - common for fault, rule in FAULT_TYPES.items()}


def classes_in_dags():
    """Return the import paths of the classes that DAG authors use, each with the page of its reference."""
    pages = {"operators": "operators.rst", "sensors": "sensors.rst", "hooks": "client.rst"}
    found = {
        f"{module.__name__}.{name}": page
        for kind, page in pages.items()
        for entry in get_provider_info()[kind]
        for module in map(importlib.import_module, entry["python-modules"])
        for name, value in vars(module).items()
        if re.fullmatch(r"ControlHub\w+(Operator|Sensor|Hook)", name) and value.__module__ == module.__name__
    }
    return {**found, f"{ControlHubJobRunEventTrigger.__module__}.ControlHubJobRunEventTrigger": "assets.rst"}


def snippet(options):
    """Return what a directive includes from an example."""
    path, start, end = re.search(
        r"example_dags/(\w+\.py)\n.*:start-after: (.*?)\n.*:end-before: (.*?)\n", options, re.DOTALL
    ).groups()
    text = (EXAMPLES / path).read_text("utf-8")
    assert text.count(start) == text.count(end) == 1, path
    return text.partition(start)[2].partition(end)[0]


@pytest.mark.parametrize(("path", "page"), classes_in_dags().items())
def test_class_is_documented_with_example(path, page):
    name = path.rpartition(".")[2]
    assert f"`{name}`" in README.read_text("utf-8")
    before, directive, _ = (DOCS / "reference" / page).read_text("utf-8").partition(f".. autoapiclass:: {path}\n")
    assert directive
    # Examples above the class, in its section. All of them run in the system tests.
    section_before = re.split(r"^(?:-{3,}|={3,})$", before, flags=re.MULTILINE)[-1]
    examples = "".join(map(snippet, section_before.split(".. literalinclude:: ")[1:]))
    assert re.search(rf"\b{name}(\.partial)?\(", examples), f"no example of {name} in {page}"
