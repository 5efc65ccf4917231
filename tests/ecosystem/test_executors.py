"""
An Airflow whose connection is in a secrets backend only, with tasks in local processes and in pods.

The backend is the one for HashiCorp Vault, the executors are ``LocalExecutor`` and ``KubernetesExecutor``, all as
installed; only the servers they call are local ones: :mod:`tests.ecosystem.local_vault` and
:mod:`tests.ecosystem.local_cluster`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import COMPONENTS, LocalAirflow, free_port, wait_until
from tests.documentation import ROOT
from tests.ecosystem.local_cluster import LocalCluster, Pod
from tests.ecosystem.local_vault import LocalVault

BIN = ROOT / ".venv-ecosystem/bin"
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (BIN / "airflow").exists(), reason="`make test-ecosystem` installs the other tools"),
]

EXECUTORS = "LocalExecutor,KubernetesExecutor"
CONN_ID = "streamsets_default"
TOKEN = secrets.token_hex(32)
# Seconds for what takes some seconds on an idle machine.
TIMEOUT = 180
ORDERS = "Orders to warehouse"
STREAMS = {"lost": "Stream 1", "failed": "Stream 2", "evicted": "Stream 3", "drained": "Stream 4"}
BLOCKED = "async thread was blocked"
PLUGIN = "from airflow_provider_streamsets.plugins.streamsets import StreamSetsPlugin  # noqa: F401\n"


@pytest.fixture(scope="module")
def hub() -> Iterator[SandboxProcess]:
    with SandboxProcess(time_scale=5) as process:
        path = f"/jobrunner/rest/v1/job/{process.job_id('Clickstream to lake')}/duplicate"
        body = {"namePrefix": "Stream ", "description": None, "numberOfCopies": len(STREAMS)}
        assert process.call("POST", path, body).ok
        yield process


@pytest.fixture(scope="module")
def vault(hub: SandboxProcess) -> Iterator[LocalVault]:
    with LocalVault({CONN_ID: {**json.loads(hub.airflow_conn), "extra": {"webhook_token": TOKEN}}}) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of Airflow, with the DAGs."""
    home = tmp_path_factory.mktemp("airflow")
    shutil.copytree(Path(__file__).parent / "executor_dags", home / "dags")
    (home / "logs").mkdir()
    return home


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def cluster(home: Path, vault: LocalVault, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    image = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    values = {"backend-kwargs": vault.backend_kwargs}
    with LocalCluster(tmp_path_factory.mktemp("pods"), home / "logs", image, values) as running:
        yield running


def pod_variables(home: Path, port: int) -> dict[str, str]:
    """Return the variables of the template: no database, no connection."""
    return {
        "AIRFLOW__CORE__EXECUTOR": EXECUTORS,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DAG_FACTORY__ENABLE_TELEMETRY": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__SECRETS__BACKEND": "airflow.providers.hashicorp.secrets.vault.VaultBackend",
    }


def pod_template(home: Path, port: int) -> dict[str, Any]:
    """Return a template like those of Airflow's documentation."""
    secret = {"name": "airflow-vault", "key": "backend-kwargs"}
    container = {
        "name": "base",
        "image": "placeholder",
        "env": [
            *({"name": name, "value": value} for name, value in pod_variables(home, port).items()),
            {"name": "AIRFLOW__SECRETS__BACKEND_KWARGS", "valueFrom": {"secretKeyRef": secret}},
        ],
        "securityContext": {"readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "logs", "mountPath": str(home / "logs")}],
    }
    volume = {"name": "logs", "persistentVolumeClaim": {"claimName": "airflow-logs"}}
    spec = {"containers": [container], "restartPolicy": "Never", "volumes": [volume]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "placeholder"}, "spec": spec}


def kubeconfig(url: str) -> dict[str, Any]:
    """Return a configuration of Kubernetes' client."""
    context = {"name": "local", "context": {"cluster": "local", "user": "local"}}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "local",
        "contexts": [context],
        "clusters": [{"name": "local", "cluster": {"server": url}}],
        "users": [{"name": "local", "user": {}}],
    }


@pytest.fixture(scope="module")
def airflow(
    home: Path, port: int, hub: SandboxProcess, vault: LocalVault, cluster: LocalCluster
) -> Iterator[LocalAirflow]:
    (home / "template.yaml").write_text(json.dumps(pod_template(home, port)), "utf-8")
    (home / "kubeconfig").write_text(json.dumps(kubeconfig(cluster.url)), "utf-8")
    (home / "plugins").mkdir()
    (home / "plugins" / "streamsets.py").write_text(PLUGIN, "utf-8")
    environment = {
        "AIRFLOW__CORE__EXECUTOR": EXECUTORS,
        # More than there are tasks that wait in pods.
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__DAG_FACTORY__ENABLE_TELEMETRY": "False",
        "AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER": "False",
        "AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE": str(home / "kubeconfig"),
        "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": str(home / "template.yaml"),
        "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY": "registry.example.com/airflow",
        "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG": "latest",
        "AIRFLOW__SECRETS__BACKEND": "airflow.providers.hashicorp.secrets.vault.VaultBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": vault.backend_kwargs,
    }
    with LocalAirflow(home, home / "dags", environment, port=port, programs=BIN) as running:
        running.start()
        yield running


def wait_for_state(airflow: LocalAirflow, dag_id: str, run_id: str, *states: str) -> str:
    def state() -> str:
        current = airflow.task_state(dag_id, run_id, "run")
        return current if current in states else ""

    return str(wait_until(state, f"{dag_id}.run to be {' or '.join(states)}", TIMEOUT))


def test_worker_and_triggerer_read_connection(airflow, vault):
    run_id = airflow.trigger_dag("executors_local")
    assert wait_for_state(airflow, "executors_local", run_id, "success", "failed") == "success"
    result = airflow.xcom("executors_local", run_id, "run")
    assert (result["job_name"], result["outcome"]) == (ORDERS, "SUCCEEDED")
    assert airflow.api("GET", "/connections")["connections"] == []
    assert set(vault.statuses(CONN_ID)) == {200}


def test_watcher_reads_connection(airflow, hub):
    run_count = hub.start_job("Quick check")["runCount"]
    hub.wait_for_status("Quick check", "INACTIVE", timeout=TIMEOUT)

    def reported() -> list[int]:
        runs = airflow.api("GET", "/dags/executors_watching/dagRuns")["dag_runs"]
        ended = [run["dag_run_id"] for run in runs if run["state"] == "success"]
        return [count for run_id in ended for count in airflow.xcom("executors_watching", run_id, "report")]

    assert wait_until(reported, "the DAG to have run", TIMEOUT) == [run_count]


# No DAG is scheduled on the asset of the job.
@pytest.mark.parametrize(("token", "status"), [(TOKEN, 404), (TOKEN[::-1], 401)], ids=["right", "forged"])
def test_pushed_event_is_checked_with_token_in_vault(airflow, hub, token, status):
    event = {"job_id": hub.job_id("Quick check"), "from_status": "DEACTIVATING", "to_status": "INACTIVE"}
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {token}"
        assert session.post(f"{airflow.url}/streamsets/events", json=event, timeout=60).status_code == status


def test_slow_vault_delays_but_does_not_block(airflow, vault, hub):
    log = airflow.home / "triggerer.log"
    blocks, reads = log.read_text("utf-8").count(BLOCKED), len(vault.reads)
    vault.delay = 3.0
    run_id = airflow.trigger_dag("executors_local")
    wait_for_state(airflow, "executors_local", run_id, "deferred")
    assert page(airflow, "executors_local", run_id)["connection"] == {"id": CONN_ID, "error": None}
    facts = json.loads(airflow.run_command("streamsets", "check", CONN_ID, "--output", "json"))
    assert facts["control_hub"] == hub.url
    assert wait_for_state(airflow, "executors_local", run_id, "success", "failed") == "success"
    vault.delay = 0.0
    assert len(vault.reads) >= reads + 4
    assert log.read_text("utf-8").count(BLOCKED) == blocks


def page(airflow: LocalAirflow, dag_id: str, run_id: str) -> dict[str, Any]:
    """Return what the tab of a task instance receives."""
    key = {"dag_id": dag_id, "run_id": run_id, "task_id": "run"}
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {airflow.token()}"
        return dict(session.get(f"{airflow.url}/streamsets/api/task", params=key, timeout=60).json())


def test_wait_survives_sealed_vault(airflow, vault, hub):
    hub.freeze()
    starts = len(hub.starts(ORDERS))
    run_id = airflow.trigger_dag("executors_local")
    wait_for_state(airflow, "executors_local", run_id, "deferred")
    airflow.kill_component("triggerer")
    vault.sealed = True
    refused = vault.statuses(CONN_ID).count(503)
    airflow.start_component("triggerer")
    # The backend sends each request up to four times.
    wait_until(lambda: vault.statuses(CONN_ID).count(503) > refused + 4, "the second read of the connection", TIMEOUT)
    assert airflow.task_state("executors_local", run_id, "run") == "deferred"
    hub.advance(600)
    hub.unfreeze()
    vault.sealed = False
    assert wait_for_state(airflow, "executors_local", run_id, "success", "failed") == "success"
    assert len(hub.starts(ORDERS)) == starts + 1


@pytest.fixture(scope="module")
def runs(airflow: LocalAirflow) -> dict[str, str]:
    """DAG runs with tasks in pods, by DAG; all at the same time, because each waits for several pods."""
    return {dag_id: airflow.trigger_dag(dag_id) for dag_id in ("executors_pods", *map(dag_of, STREAMS))}


def dag_of(end: str) -> str:
    return f"executors_pod_{end}"


def test_pod_is_rendered_from_template_and_task(cluster, hub, vault, runs):
    body = wait_until(lambda: cluster.pods_of("executors_pods"), "the pod", TIMEOUT)[0].body
    (container,) = body["spec"]["containers"]
    assert container["args"][:4] == ["python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string"]
    workload = json.loads(container["args"][4])
    assert (workload["dag_rel_path"], workload["ti"]["task_id"]) == ("executors.py", "run")
    assert container["image"] == "registry.example.com/airflow:latest"
    assert container["resources"] == {"limits": {"memory": "512Mi"}}
    assert container["securityContext"] == {"readOnlyRootFilesystem": True}
    assert body["spec"]["restartPolicy"] == "Never"
    names = {variable["name"] for variable in container["env"]}
    assert names == {*pod_variables(Path(), 0), "AIRFLOW__SECRETS__BACKEND_KWARGS", "AIRFLOW_IS_K8S_EXECUTOR_POD"}
    assert {key: body["metadata"]["labels"][key] for key in ("dag_id", "task_id", "try_number")} == {
        "dag_id": "executors_pods",
        "task_id": "run",
        "try_number": "1",
    }
    for secret in (hub.token, vault.token, TOKEN):
        assert secret not in json.dumps([pod.body for pod in cluster.pods])


def waiting_pod(cluster: LocalCluster, end: str) -> Pod:
    """Return the pod of a task that waits in it for a run."""
    pod = wait_until(lambda: cluster.pods_of(dag_of(end)), "the pod", TIMEOUT)[-1]
    wait_until(lambda: "ACTIVE/GREEN" in pod.log.read_text("utf-8"), "the task to wait", TIMEOUT)
    return pod


def wait_for_retry(cluster: LocalCluster, pod: Pod, text: str) -> None:
    """Wait until the retry in another pod has logged a text."""
    dag_id, _ = pod.task
    retry = wait_until(lambda: cluster.pods_of(dag_id)[1:], f"the retry of {dag_id}", TIMEOUT)[-1]
    wait_until(lambda: text in retry.log.read_text("utf-8"), f"the retry of {dag_id} to log {text!r}", TIMEOUT)


def test_retry_after_lost_pod_resumes_run(cluster, hub, runs):
    pod = waiting_pod(cluster, "lost")
    pod.kill()
    wait_for_retry(cluster, pod, "resuming the wait, not starting another run")
    assert len(hub.starts(STREAMS["lost"])) == 1


def test_failed_task_in_pod_stops_run(airflow, cluster, hub, runs):
    pod = waiting_pod(cluster, "failed")
    airflow.set_task_state(dag_of("failed"), runs[dag_of("failed")], "run", "failed")
    hub.wait_for_status(STREAMS["failed"], "INACTIVE", timeout=TIMEOUT)
    pod.process.wait(TIMEOUT)
    assert len(hub.starts(STREAMS["failed"])) == 1


def test_evicted_pod_stops_run_for_retry(cluster, hub, runs):
    pod = waiting_pod(cluster, "evicted")
    cluster.delete(pod.body["metadata"]["name"])
    wait_for_retry(cluster, pod, "not resuming it because the previous try was killed")
    wait_until(lambda: len(hub.starts(STREAMS["evicted"])) == 2, "the retry to start a run", TIMEOUT)


def test_drained_pod_leaves_run_for_retry(cluster, hub, runs):
    pod = waiting_pod(cluster, "drained")
    cluster.delete(pod.body["metadata"]["name"])
    wait_for_retry(cluster, pod, "resuming the wait, not starting another run")
    assert len(hub.starts(STREAMS["drained"])) == 1


def test_legs_run_in_pods_without_common_files(airflow, cluster, hub, runs):
    run_id = runs["executors_pods"]
    assert wait_for_state(airflow, "executors_pods", run_id, "success", "failed") == "success"
    result = airflow.xcom("executors_pods", run_id, "run")
    assert (result["job_name"], result["run_count"], result["outcome"]) == ("Inventory snapshot", 1, "SUCCEEDED")
    assert len(hub.starts("Inventory snapshot")) == 1
    first, second = cluster.pods_of("executors_pods")
    assert (first.files, second.files) == ([], [])
    assert page(airflow, "executors_pods", run_id)["runs"][0]["outcome"] == "Succeeded"


def test_logs_contain_no_token(airflow, cluster, hub):
    logs = [*airflow.home.glob("*.log"), *(airflow.home / "logs").rglob("*.log"), *(pod.log for pod in cluster.pods)]
    assert len(logs) > len(cluster.pods) + len(COMPONENTS)
    texts = {log: log.read_text("utf-8", errors="replace") for log in logs}
    assert [log for log, text in texts.items() if hub.token in text or TOKEN in text] == []
