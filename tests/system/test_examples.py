"""All example DAGs run concurrently, with the expected results."""

from __future__ import annotations

import pytest

from dev.local_airflow import LocalAirflowError
from tests.system.examples import APPROVAL_EXAMPLE, EXAMPLES

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.mark.parametrize("dag_id", EXAMPLES)
def test_example_succeeds(finished_runs, airflow, dag_id):
    finished = finished_runs[dag_id]
    if finished.state != "success":
        _, _, run_id = finished.identity
        tasks = airflow.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        logs = []
        for task in tasks:
            if task["state"] == "failed":
                try:
                    logs.append(f"{task['task_id']}:\n{finished.log(task['task_id'], task['map_index'])}")
                except LocalAirflowError as error:
                    logs.append(f"{task['task_id']}: {error}")
        pytest.fail("\n".join(logs) or str({task["task_id"]: task["state"] for task in tasks}))


def test_all_examples_are_run(finished_runs, airflow):
    dags = airflow.api("GET", "/dags", limit=100)["dags"]
    examples = {dag["dag_id"] for dag in dags if dag["dag_id"].startswith("streamsets_")}
    assert examples == {*finished_runs, APPROVAL_EXAMPLE}


def test_run_job_returns_metrics(finished_runs, sandbox):
    finished = finished_runs["streamsets_run_job"]
    result = finished.result("load_orders")
    assert (result["job_name"], result["run_count"], result["outcome"]) == ("Orders to warehouse", 4, "SUCCEEDED")
    assert result["metrics"] == {
        "run_count": 4,
        "input_count": 60000,
        "output_count": 59700,
        "error_count": 300,
        "stage_errors_count": 0,
        "total_error_count": 300,
    }
    assert result["metrics_final"] is True
    assert finished.result("report") == 59700
    link = f"{sandbox.url}/sch/jobs/detail/{sandbox.job_id('Orders to warehouse')}"
    assert finished.links("load_orders")["StreamSets job"] == link
    assert [start["run_count"] for start in sandbox.starts("Orders to warehouse")] == [4]


def test_streaming_job_is_stopped(finished_runs, sandbox):
    result = finished_runs["streamsets_stop_job"].result("stop_clickstream")
    assert (result["outcome"], result["status"]) == ("STOPPED", "INACTIVE")
    assert sandbox.job_state("Clickstream to lake")["status"] == "INACTIVE"


def test_sensor_waits_for_run_of_other_task(finished_runs):
    assert finished_runs["streamsets_wait_for_run"].result("wait_for_snapshot")["outcome"] == "SUCCEEDED"


def test_workerless_sensor_renders_templates_and_pushes_result(finished_runs, sandbox):
    finished = finished_runs["streamsets_wait_without_worker"]
    result = finished.result("wait_for_snapshot")
    assert (result["job_name"], result["outcome"]) == ("Suppliers snapshot", "SUCCEEDED")
    assert result["run_count"] == finished.result("start_snapshot")["run_count"]
    assert finished.result("report") == f"run {result['run_count']}: SUCCEEDED"
    link = f"{sandbox.url}/sch/jobs/detail/{sandbox.job_id('Suppliers snapshot')}"
    links = finished.links("wait_for_snapshot")
    assert links["StreamSets job"] == link
    assert "/streamsets/run?dag_id=streamsets_wait_without_worker&" in links["StreamSets run"]
    assert finished.task("wait_for_snapshot")["pid"] is None
    assert finished.task("report")["pid"] is not None


def test_created_job_is_updated_upgraded_and_duplicated(finished_runs, sandbox):
    finished = finished_runs["streamsets_create_and_change_jobs"]
    job_id = finished.result("create_job")
    assert sandbox.job_id("Orders of the north") == job_id
    assert finished.result("use_released_version")["pipeline_version"] == "2"
    (upgrade,) = finished.result("upgrade_job")
    assert (upgrade["version_before"], upgrade["version_after"]) == ("2", "3")
    copies = finished.result("copy_job")
    assert len(set(copies)) == 2
    assert {job_id, *copies} == {job["job_id"] for job in finished.result("list_jobs")}
    assert finished.links("create_job")["StreamSets job"] == f"{sandbox.url}/sch/jobs/detail/{job_id}"


def test_reloaded_job_reads_all_records(finished_runs):
    finished = finished_runs["streamsets_weekly_full_reload"]
    assert finished.result("keep_offset")["engines"]
    assert finished.result("reload")["metrics"]["input_count"] == 10000


def test_metric_gate_opens_during_run(finished_runs):
    gate = finished_runs["streamsets_metric_gate"].result("enough_clicks")
    assert gate["run_ended"] is False
    assert gate["values"]["output_count"] >= 10000


def test_acknowledged_job_runs_again(finished_runs):
    finished = finished_runs["streamsets_run_again"]
    (error,) = finished.result("acknowledge")
    assert "REMOTE_14" in error["error_message"]
    assert finished.result("run_again")["outcome"] == "SUCCEEDED"


def test_exported_jobs_are_imported(finished_runs):
    finished = finished_runs["streamsets_export_import"]
    exported = finished.result("export_jobs")
    assert exported["size"] > 0
    assert {job["job_id"] for job in exported["jobs"]} == {job["job_id"] for job in finished.result("import_jobs")}


def test_copied_job_runs_and_is_deleted(finished_runs, sandbox):
    finished = finished_runs["streamsets_copy_offset"]
    (copy,) = finished.result("copy_job")
    assert finished.result("try_copy")["job_id"] == copy
    assert finished.result("delete_copy") == [copy]
    assert copy not in {job["id"] for job in sandbox.state()["jobs"]}


def test_metrics_and_history_are_read(finished_runs):
    finished = finished_runs["streamsets_metrics_and_history"]
    assert finished.result("metrics_of_run")["output_count"] == 100
    runs = [run["run_count"] for run in finished.result("runs_before")]
    assert runs == sorted(runs, reverse=True)
    assert finished.result("live_metrics")["realtime"]["output_count"] > 0


def test_balancing_moves_job_to_other_engine(finished_runs, sandbox):
    finished = finished_runs["streamsets_balance"]
    assert len(finished.result("balance_jobs")) == 2
    assert finished.result("silent_engines") == []
    engines = sandbox.call("GET", "/jobrunner/rest/v1/sdcs").json()
    (before,) = (engine["id"] for engine in engines if "sdc-prod" in engine["httpUrl"])
    jobs = [
        sandbox.call("GET", f"/jobrunner/rest/v1/job/{sandbox.job_id(name)}").json()
        for name in ("Truck positions north", "Truck positions south")
    ]
    assert [job["currentJobStatus"]["sdcIds"] for job in jobs] != [[before], [before]]


def test_promoted_job_runs_in_production(finished_runs, sandbox, production):
    finished = finished_runs["streamsets_promote_pipeline"]
    assert finished.result("run_job")["outcome"] == "SUCCEEDED"
    assert [start["run_count"] for start in production.starts("Release check")] == [1]
    assert sandbox.starts("Release check") == []
    assert finished.links("run_job")["StreamSets job"].startswith(production.url)


def test_nightly_batch_passes_quality_gate(finished_runs):
    finished = finished_runs["streamsets_nightly_batch"]
    assert "Metrics as expected: output_count >= 50000 (satisfied: 59700)" in finished.log("load_orders")
    assert finished.result("publish") == 59700


def test_fan_out_returns_instances_and_total(finished_runs, sandbox):
    finished = finished_runs["streamsets_job_template"]
    result = finished.result("load_regions")
    names = [f"Nightly region - {region}" for region in ("north", "east", "south")]
    assert [instance["job_name"] for instance in result["instances"]] == names
    assert {instance["outcome"] for instance in result["instances"]} == {"SUCCEEDED"}
    assert result["metrics"]["output_count"] == 15000
    assert finished.result("load_regions", "job_ids") == [instance["job_id"] for instance in result["instances"]]
    # The instances are deleted after completion.
    assert not set(names) & {job["name"] for job in sandbox.state()["jobs"]}


def test_mapped_fan_out_has_task_per_instance(finished_runs, airflow):
    _, dag_id, run_id = finished_runs["streamsets_job_template"].identity
    tasks = airflow.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
    assert [task["state"] for task in tasks if task["task_id"] == "load_region"] == ["success"] * 3
    assert finished_runs["streamsets_job_template"].result("report") == 15000


def test_overdue_jobs_are_stopped_and_deleted(finished_runs, sandbox):
    finished = finished_runs["streamsets_clean_up"]
    copies = set(finished.result("copy_job"))
    assert set(finished.result("overdue")) == set(finished.result("old")) == copies
    assert {result["status"] for result in finished.result("stop_overdue")} == {"INACTIVE"}
    assert not copies & {job["id"] for job in sandbox.state()["jobs"]}


def test_many_jobs_are_started_stopped_and_deleted(finished_runs, sandbox):
    finished = finished_runs["streamsets_many_jobs"]
    copies = finished.result("copy_job")
    assert len(copies) == 3
    assert {result["job_id"]: result["status"] for result in finished.result("start_streams")} == dict.fromkeys(
        copies, "ACTIVE"
    )
    assert {result["outcome"] for result in finished.result("stop_streams")} == {"STOPPED"}
    assert set(finished.result("delete_streams")) == set(copies)
    assert not set(copies) & {job["id"] for job in sandbox.state()["jobs"]}
