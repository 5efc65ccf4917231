"""Run the example DAGs on the Airflow of the system tests."""

from __future__ import annotations

from typing import Any

from dev.local_airflow import LocalAirflow, wait_until

EXAMPLES = (
    "streamsets_balance",
    "streamsets_clean_up",
    "streamsets_copy_offset",
    "streamsets_create_and_change_jobs",
    "streamsets_export_import",
    "streamsets_job_template",
    "streamsets_many_jobs",
    "streamsets_metric_gate",
    "streamsets_metrics_and_history",
    "streamsets_nightly_batch",
    "streamsets_promote_pipeline",
    "streamsets_run_again",
    "streamsets_run_job",
    "streamsets_stop_job",
    "streamsets_wait_for_run",
    "streamsets_wait_without_worker",
    "streamsets_weekly_full_reload",
)
# Waits for a person, see `test_dags.py`.
APPROVAL_EXAMPLE = "streamsets_approved_run"
# Timeout in seconds for a machine under load.
TIMEOUT = 240.0


def wait_for_end(airflow: LocalAirflow, dag_id: str, run_id: str, timeout: float = TIMEOUT) -> str:
    """Wait for the end of a DAG run and return its state."""

    def state() -> str:
        current = airflow.dag_run_state(dag_id, run_id)
        return current if current in {"success", "failed"} else ""

    return str(wait_until(state, f"the end of {dag_id}", timeout, interval=1))


class FinishedDagRun:
    """A finished DAG run."""

    def __init__(self, airflow: LocalAirflow, dag_id: str, run_id: str, state: str) -> None:
        self.identity = airflow, dag_id, run_id
        self.state = state

    def result(self, task_id: str, key: str = "return_value") -> Any:
        airflow, dag_id, run_id = self.identity
        return airflow.xcom(dag_id, run_id, task_id, key)

    def task(self, task_id: str) -> dict[str, Any]:
        airflow, dag_id, run_id = self.identity
        return airflow.task_instance(dag_id, run_id, task_id)

    def links(self, task_id: str) -> dict[str, str]:
        airflow, dag_id, run_id = self.identity
        return airflow.links(dag_id, run_id, task_id)

    def log(self, task_id: str, map_index: int = -1) -> str:
        airflow, dag_id, run_id = self.identity
        return airflow.task_log(dag_id, run_id, task_id, map_index=map_index)


def run_examples(airflow: LocalAirflow) -> dict[str, FinishedDagRun]:
    """Run all examples concurrently and return the finished run of each DAG."""
    started = {dag_id: airflow.trigger_dag(dag_id) for dag_id in EXAMPLES}
    return {
        dag_id: FinishedDagRun(airflow, dag_id, run_id, wait_for_end(airflow, dag_id, run_id, 2 * TIMEOUT))
        for dag_id, run_id in started.items()
    }
