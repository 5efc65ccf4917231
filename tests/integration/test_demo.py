"""The ways to try the provider: ``make demo-ui``, and the same in containers."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys

import pytest
import yaml
from airflow.models.connection import Connection

from airflow_provider_streamsets.hooks.connection import ConnectionSettings
from airflow_provider_streamsets.sandbox.backend.credentials import parse_organization_id
from airflow_provider_streamsets.sandbox.seed.models import load_seed
from tests.documentation import ROOT

COMPOSE_FILE = ROOT / "dev/docker-compose.yaml"


def test_demo_ui_refuses_port_in_use():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "dev.demo", "--ui", "--port", str(port)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Cannot listen on port {port} (")
    assert "make demo-ui PORT=" in result.stderr


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(COMPOSE_FILE.read_text("utf-8"))["services"]


def test_containers_have_sandbox_of_each_connection(services):
    airflow = services["airflow"]
    for name, conn_id in (("sandbox", "streamsets_default"), ("production", "streamsets_production")):
        connection = Connection.from_json(airflow["environment"][f"AIRFLOW_CONN_{conn_id.upper()}"], conn_id)
        settings = ConnectionSettings.from_connection(connection, connection.extra_dejson)
        sandbox = services[name]
        assert settings.base_url == f"http://{name}:18631"
        assert sandbox["environment"] == {
            "STREAMSETS_SANDBOX_CREDENTIAL_ID": settings.credential_id,
            "STREAMSETS_SANDBOX_TOKEN": settings.token,
        }
        assert parse_organization_id(settings.token) == load_seed().organization.id
        ((address, port, target),) = (text.split(":") for text in sandbox["ports"])
        assert settings.job_link == f"http://{address}:{port}/sch/jobs/detail/{{job_id}}"
        assert target == "18631"
        assert airflow["depends_on"][name] == {"condition": "service_healthy"}


def test_containers_use_existing_files_and_tested_airflow(services):
    lines = services["airflow"]["build"]["dockerfile_inline"].splitlines()
    sources = [source for line in lines if line.startswith("COPY") for source in line.split()[2:-1]]
    assert len(sources) == 5
    (dags,) = (volume.split(":")[0] for volume in services["airflow"]["volumes"])
    assert all((ROOT / source).exists() for source in sources)
    assert (COMPOSE_FILE.parent / dags / "run_job.py").exists()
    (pin,) = (line for line in (ROOT / "requirements/airflow-3.3.in").read_text().splitlines() if "==" in line)
    assert lines[0] == f"FROM {pin.replace('apache-airflow==', 'apache/airflow:')}"
    assert f" {pin} " in lines[-1]


def test_docker_accepts_compose_file():
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    command = [docker, "compose", "--file", str(COMPOSE_FILE), "config", "--format", "json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(json.loads(result.stdout)["services"]) == {"sandbox", "production", "airflow"}
