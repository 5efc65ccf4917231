from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path

import airflow
import pytest

import airflow_provider_streamsets
from airflow_provider_streamsets.get_provider_info import get_provider_info
from airflow_provider_streamsets.sensors.metrics import ControlHubJobMetricSensor
from tests.unit.fakes.task_factory import given, leaves, own_heavy_modules

AIRFLOW = Path(airflow.__file__).parent


def _schema(name: str) -> dict:
    path = AIRFLOW / name
    if not path.exists():
        pytest.skip(f"this Airflow does not ship {name}")
    return json.loads(path.read_text())


def test_provider_info_matches_airflow_schema():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(get_provider_info(), _schema("provider_info.schema.json"))


def test_connection_form_matches_airflow_schema():
    jsonschema = pytest.importorskip("jsonschema")
    schema = _schema("provider.yaml.schema.json")["properties"]["connection-types"]
    if "conn-fields" not in schema["items"]["properties"]:
        pytest.skip("the schema of this Airflow has no connection fields yet (they came with 3.2)")
    jsonschema.validate(get_provider_info()["connection-types"], schema)


def test_entry_point_loads_provider_info():
    (entry,) = (
        e for e in entry_points(group="apache_airflow_provider") if e.value.startswith("airflow_provider_streamsets")
    )
    assert entry.load() is get_provider_info


def test_name_and_version_match_distribution():
    installed = distribution("airflow-provider-streamsets")
    assert installed.metadata["Name"] == get_provider_info()["package-name"]
    assert installed.version == airflow_provider_streamsets.__version__


def test_listed_modules_and_classes_exist():
    info = get_provider_info()
    for kind in ("operators", "sensors", "hooks", "triggers"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                importlib.import_module(module)
    for path in [*info["extra-links"], info["connection-types"][0]["hook-class-name"]]:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("kind", ["operators", "sensors"])
def test_all_modules_with_operators_and_sensors_are_listed(kind):
    (entry,) = get_provider_info()[kind]
    modules = {leaf.__module__ for leaf in leaves() if f".{kind}." in leaf.__module__}
    assert entry["python-modules"] == sorted(modules)


def test_form_widgets_match_connection_fields():
    pytest.importorskip("flask_appbuilder", reason="Airflow 3 builds no forms with widgets")
    from airflow_provider_streamsets.hooks.control_hub import ControlHubHook

    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    widgets = ControlHubHook.get_connection_form_widgets()
    assert set(widgets) == set(fields)
    # Newer forms show them in a section of their own.
    assert {name for name, widget in widgets.items() if widget.kwargs["description"].startswith("Expert: ")} == {
        name for name, field in fields.items() if "section" in field["schema"]
    }


def test_ui_field_behaviour_matches_in_both_forms():
    from airflow_provider_streamsets.hooks.control_hub import ControlHubHook

    old, new = ControlHubHook.get_ui_field_behaviour(), get_provider_info()["connection-types"][0]["ui-field-behaviour"]
    assert old == {key.replace("-", "_"): value for key, value in new.items()}


_HEAVY = {"requests", "urllib3", "tenacity", "fastapi", "uvicorn", "fsspec", "upath"}
_PARSE = """
import importlib, json, sys
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseSensorOperator, BaseOperatorLink, XCom, conf
BaseOperator(task_id="t")
before = set(sys.modules)
for module, name, arguments in json.loads(sys.argv[1]):
    getattr(importlib.import_module(module), name)(**arguments)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def modules_loaded_by(*tasks):
    arguments = json.dumps([(kind.__module__, kind.__name__, arguments) for kind, arguments in tasks])
    command = [sys.executable, "-W", "ignore", "-c", _PARSE, arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def metric_sensor(expect):
    return ControlHubJobMetricSensor, given(ControlHubJobMetricSensor, metric=None, threshold=None, expect=expect)


def test_dag_parse_imports_nothing_heavy():
    others = [(kind, given(kind)) for kind in leaves() if kind is not ControlHubJobMetricSensor]
    loaded = modules_loaded_by(metric_sensor("{{ c }}"), *others)
    assert not own_heavy_modules(loaded)
    assert not {name for name in loaded if name.partition(".")[0] in _HEAVY}


def test_condition_check_at_parse_skips_http_client():
    loaded = modules_loaded_by(metric_sensor(["a.b > 1"]))
    assert "airflow_provider_streamsets.control_hub.tracking.conditions" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in _HEAVY}
