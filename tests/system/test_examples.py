"""Every example DAG, all of them at the same time."""

from __future__ import annotations

import pytest

from dev.local_airflow import LocalAirflowError
from tests.system.examples import EXAMPLES

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.mark.parametrize("dag_id", EXAMPLES)
def test_the_example_succeeds(ran, airflow, dag_id):
    done = ran[dag_id]
    if done.state != "success":
        _, _, run_id = done._where
        tasks = airflow.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        logs = []
        for task in tasks:
            if task["state"] == "failed":
                try:
                    logs.append(f"{task['task_id']}:\n{done.log(task['task_id'])}")
                except LocalAirflowError as error:
                    logs.append(f"{task['task_id']}: {error}")
        pytest.fail("\n".join(logs) or str({task["task_id"]: task["state"] for task in tasks}))


def test_every_example_is_run(ran, airflow):
    dags = airflow.api("GET", "/dags", limit=100)["dags"]
    examples = {dag["dag_id"] for dag in dags if dag["dag_id"].startswith("streamsets_")}
    assert examples == set(ran)


def test_a_job_is_run_deferred_and_its_metrics_are_delivered(ran, sandbox):
    done = ran["streamsets_run_job"]
    result = done.result("load_orders")
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
    assert done.result("report") == 59700
    link = f"{sandbox.url}/sch/jobs/detail/{sandbox.job_id('Orders to warehouse')}"
    assert done.links("load_orders") == {"StreamSets job": link}
    assert [start["run_count"] for start in sandbox.starts("Orders to warehouse")] == [4]


def test_a_streaming_job_is_stopped(ran, sandbox):
    result = ran["streamsets_stop_job"].result("stop_clickstream")
    assert (result["outcome"], result["status"]) == ("STOPPED", "INACTIVE")
    assert sandbox.job_state("Clickstream to lake")["status"] == "INACTIVE"


def test_a_run_that_another_task_started_is_waited_for(ran):
    assert ran["streamsets_wait_for_run"].result("wait_for_snapshot")["outcome"] == "SUCCEEDED"


def test_a_sensor_without_worker_renders_its_templates_and_gives_its_result_to_the_next_task(ran, sandbox):
    done = ran["streamsets_wait_without_worker"]
    result = done.result("wait_for_snapshot")
    assert (result["job_name"], result["outcome"]) == ("Suppliers snapshot", "SUCCEEDED")
    assert result["run_count"] == done.result("start_snapshot")["run_count"]
    assert done.result("report") == f"run {result['run_count']}: SUCCEEDED"
    link = f"{sandbox.url}/sch/jobs/detail/{sandbox.job_id('Suppliers snapshot')}"
    assert done.links("wait_for_snapshot") == {"StreamSets job": link}
    assert done.task("wait_for_snapshot")["pid"] is None
    assert done.task("report")["pid"] is not None


def test_a_created_job_is_changed_upgraded_and_copied(ran, sandbox):
    done = ran["streamsets_create_and_change_jobs"]
    job_id = done.result("create_job")
    assert sandbox.job_id("Orders of the north") == job_id
    assert done.result("use_released_version")["pipeline_version"] == "2"
    (upgrade,) = done.result("upgrade_job")
    assert (upgrade["version_before"], upgrade["version_after"]) == ("2", "3")
    copies = done.result("copy_job")
    assert len(set(copies)) == 2
    assert {job_id, *copies} == {job["job_id"] for job in done.result("list_jobs")}
    assert done.links("create_job") == {"StreamSets job": f"{sandbox.url}/sch/jobs/detail/{job_id}"}


def test_a_reloaded_job_reads_from_the_start(ran):
    done = ran["streamsets_weekly_full_reload"]
    assert done.result("keep_offset")["engines"]
    assert done.result("reload")["metrics"]["input_count"] == 10000


def test_the_gate_opens_when_enough_records_have_passed_while_the_run_goes_on(ran):
    gate = ran["streamsets_metric_gate"].result("enough_clicks")
    assert gate["run_ended"] is False
    assert gate["values"]["output_count"] >= 10000


def test_a_job_that_required_acknowledgement_runs_again(ran):
    done = ran["streamsets_run_again"]
    (error,) = done.result("acknowledge")
    assert "REMOTE_14" in error["error_message"]
    assert done.result("run_again")["outcome"] == "SUCCEEDED"


def test_an_export_is_imported_again(ran):
    done = ran["streamsets_export_import"]
    exported = done.result("export_jobs")
    assert exported["size"] > 0
    assert {job["job_id"] for job in exported["jobs"]} == {job["job_id"] for job in done.result("import_jobs")}


def test_a_copy_of_a_job_continues_from_the_offset_of_the_job(ran, sandbox):
    done = ran["streamsets_copy_offset"]
    (copy,) = done.result("copy_job")
    assert done.result("try_copy")["job_id"] == copy
    assert done.result("delete_copy") == [copy]
    assert copy not in {job["id"] for job in sandbox.state()["jobs"]}


def test_metrics_history_and_live_metrics_are_read(ran):
    done = ran["streamsets_metrics_and_history"]
    assert done.result("metrics_of_run")["output_count"] == 100
    runs = [run["run_count"] for run in done.result("runs_before")]
    assert runs == sorted(runs, reverse=True)
    assert done.result("live_metrics")["realtime"]["output_count"] > 0


def test_balancing_has_moved_jobs_off_the_engine_that_ran_them_both(ran, sandbox):
    assert len(ran["streamsets_balance"].result("balance_jobs")) == 2
    engines = sandbox.call("GET", "/jobrunner/rest/v1/sdcs").json()
    (before,) = (engine["id"] for engine in engines if "sdc-prod" in engine["httpUrl"])
    jobs = [
        sandbox.call("GET", f"/jobrunner/rest/v1/job/{sandbox.job_id(name)}").json()
        for name in ("Truck positions north", "Truck positions south")
    ]
    assert [job["currentJobStatus"]["sdcIds"] for job in jobs] != [[before], [before]]


def test_a_job_is_promoted_to_the_other_control_hub_and_runs_there(ran, sandbox, production):
    done = ran["streamsets_promote_pipeline"]
    assert done.result("run_job")["outcome"] == "SUCCEEDED"
    assert [start["run_count"] for start in production.starts("Release check")] == [1]
    assert sandbox.starts("Release check") == []
    assert done.links("run_job")["StreamSets job"].startswith(production.url)


def test_a_nightly_batch_passes_its_gate_and_hands_its_records_on(ran):
    done = ran["streamsets_nightly_batch"]
    assert "Its metrics are as expected: output_count >= 50000 (satisfied: 59700)" in done.log("load_orders")
    assert done.result("publish") == 59700


def test_a_fan_out_delivers_each_instance_and_the_sum(ran, sandbox):
    done = ran["streamsets_job_template"]
    result = done.result("load_regions")
    names = [f"Nightly region - {region}" for region in ("north", "east", "south")]
    assert [instance["job_name"] for instance in result["instances"]] == names
    assert {instance["outcome"] for instance in result["instances"]} == {"SUCCEEDED"}
    assert result["metrics"]["output_count"] == 15000
    assert done.result("load_regions", "job_ids") == [instance["job_id"] for instance in result["instances"]]
    # They are deleted once their outcome is known.
    assert not set(names) & {job["name"] for job in sandbox.state()["jobs"]}


def test_a_mapped_fan_out_has_a_task_for_each_instance(ran, airflow):
    _, dag_id, run_id = ran["streamsets_job_template"]._where
    tasks = airflow.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
    assert [task["state"] for task in tasks if task["task_id"] == "load_region"] == ["success"] * 3
    assert ran["streamsets_job_template"].result("report") == 15000


def test_overdue_jobs_are_stopped_and_old_ones_deleted(ran, sandbox):
    done = ran["streamsets_clean_up"]
    copies = set(done.result("copy_job"))
    assert set(done.result("overdue")) == set(done.result("old")) == copies
    assert {result["status"] for result in done.result("stop_overdue")} == {"INACTIVE"}
    assert not copies & {job["id"] for job in sandbox.state()["jobs"]}


def test_many_jobs_are_started_stopped_and_deleted(ran, sandbox):
    done = ran["streamsets_many_jobs"]
    copies = done.result("copy_job")
    assert len(copies) == 3
    assert {result["job_id"]: result["status"] for result in done.result("start_streams")} == dict.fromkeys(
        copies, "ACTIVE"
    )
    assert {result["outcome"] for result in done.result("stop_streams")} == {"STOPPED"}
    assert set(done.result("delete_streams")) == set(copies)
    assert not set(copies) & {job["id"] for job in sandbox.state()["jobs"]}
