"""What the README, docstrings and examples show works as it stands, however a DAG run is triggered."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import json
import re
import shlex
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
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_streamsets.sandbox.fault_file import parse_faults
from tests.documentation import EXAMPLES, README, ROOT, documented_code, readme_blocks, write_readme_dags

NOW = datetime(2026, 11, 23, 2, tzinfo=timezone.utc)
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


def test_every_python_block_of_the_readme_is_a_dag_file(tmp_path):
    files = write_readme_dags(tmp_path)
    bag = DagBag(tmp_path)
    assert bag.import_errors == {}
    assert len(bag.dags) == len(files)
    assert all(dag.tasks for dag in bag.dags.values())


def test_every_example_is_a_dag_file():
    assert DagBag(EXAMPLES).import_errors == {}


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z0-9_-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z0-9-]+)", README.read_text("utf-8")))
    assert {"demo", "test", "chaos"} <= named <= targets


def test_every_command_of_the_readme_exists():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = {line.partition("=")[0].strip() for line in setup["options.entry_points"]["console_scripts"].split("\n")}
    for line in "".join(readme_blocks("console")).splitlines():
        command, *arguments = shlex.split(line.removeprefix("$ "), comments=True)
        assert command in {"make", "pip", *scripts}, line
        for extra in re.findall(r"\.\[(\w+)\]", " ".join(arguments)):
            assert setup["options.extras_require"][extra]
    for module in re.findall(r"`python -m ([\w.]+)", README.read_text("utf-8")):
        assert importlib.util.find_spec(module), module


def test_the_connections_of_the_readme_are_connections():
    lines = "".join(readme_blocks("bash")).splitlines()
    as_json, as_uri = (shlex.split(line)[1].partition("=")[2] for line in lines)
    connection = Connection.from_json(as_json)
    assert (connection.conn_type, connection.login, connection.password) == (
        "streamsets",
        "<credential id>",
        "<token>",
    )
    connection = Connection(uri=as_uri)
    assert (connection.conn_type, connection.extra_dejson) == ("streamsets", {"project_id": "<project>"})


def test_the_results_and_fault_rules_of_the_readme_are_what_they_say():
    (result,) = readme_blocks("json")
    assert json.loads(result)["outcome"] == "SUCCEEDED"
    (rules,) = readme_blocks("yaml")
    assert parse_faults(yaml.safe_load(rules))
