"""The examples of the chapters "Job Instances" and "Job Templates" of the StreamSets SDK guide."""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any
from uuid import uuid4

import pytest

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess

OFFSET = "$com.streamsets.datacollector.pollsource.offset$"

# The response for an unknown job is empty, which the SDK cannot parse.
UNKNOWN = "Expecting value"

# Properties of the seed's pipelines that the tests use.
BATCH, BATCH_RECORDS = "Quick check", 100
STREAM, STREAM_RATE = "Truck positions", 40
VERSIONED, VERSIONS = "Orders to warehouse", ["1", "2", "3"]


def unique(name: str) -> str:
    return f"{name} {uuid4().hex[:8]}"


def add_job(hub: Any, pipeline: str = BATCH, *, version: str | None = None, **settings: Any) -> Any:
    """Create a job with a unique name."""
    pipeline = hub.pipelines.get(name=pipeline)
    commit = pipeline.commits.get(version=version) if version else None
    job = hub.get_job_builder().build(unique("Guide"), pipeline=pipeline, pipeline_commit=commit, **settings)
    hub.add_job(job)
    return job


def add_template(hub: Any, **parameters: Any) -> Any:
    pipeline = hub.pipelines.get(name=STREAM)
    template = hub.get_job_builder().build(
        unique("Guide template"), pipeline=pipeline, job_template=True, runtime_parameters=parameters
    )
    hub.add_job(template)
    return template


def run_to_end(sandbox: SandboxProcess, hub: Any, job: Any, ends_in: str = "INACTIVE") -> None:
    hub.start_job(job, wait=False)
    sandbox.advance(60)
    hub.wait_for_job_status(job, ends_in, timeout_sec=10)


def position(offset: Any) -> str | None:
    """Return the position in a list of one offset."""
    (entry,) = offset
    return json.loads(entry.offset)["offsets"][OFFSET]


def ids(jobs: Any) -> set[str]:
    return {job.id for job in jobs}


def test_created_job_runs(sandbox, hub):
    pipeline = hub.pipelines.get(name=VERSIONED)
    job = hub.get_job_builder().build(unique("New"), pipeline=pipeline)
    hub.add_job(job)
    found = hub.jobs.get(job_name=job.job_name)
    assert found.id == job.id
    assert found.id.endswith(f":{hub.organization}")
    assert found.status is None
    assert (found.pipeline_id, found.commit_label) == (pipeline.id, f"v{VERSIONS[-1]}")
    assert found.created_by == found.last_modified_by
    assert found in hub.jobs
    run_to_end(sandbox, hub, found)
    assert found.history[0].run_count == 1
    assert found.metrics[0].input_count == 60_000


def test_job_is_created_with_pipeline_version(sandbox, hub):
    pipeline = hub.pipelines.get(name=VERSIONED)
    commit = pipeline.commits.get(version="1")
    job = hub.get_job_builder().build(unique("First version"), pipeline=pipeline, pipeline_commit=commit)
    hub.add_job(job)
    found = hub.jobs.get(id=job.id)
    assert (found.commit_id, found.commit_label) == (commit.commit_id, "v1")
    assert found.commit.version == "1"
    run_to_end(sandbox, hub, found)
    assert found.status.pipeline_commit_label == "v1"


def test_settings_of_new_job_are_stored(hub):
    job = hub.get_job_builder().build(
        unique("Settings"), pipeline=hub.pipelines.get(name=BATCH), runtime_parameters={"RECORDS": "7"}, tags=["a/b"]
    )
    job.description = "Created by a test"
    job.data_collector_labels = ["dev"]
    job.enable_failover = True
    job.number_of_instances = 1
    job.require_job_error_acknowledgement = True
    job.pipeline_force_stop_timeout = 9000
    hub.add_job(job)
    found = hub.jobs.get(id=job.id)
    assert found.description == "Created by a test"
    assert found.data_collector_labels == ["dev"]
    assert found.enable_failover is True
    assert found.require_job_error_acknowledgement is True
    assert found.pipeline_force_stop_timeout == 9000
    assert found.runtime_parameters["RECORDS"] == "7"
    assert [tag.tag for tag in found.tags] == ["a/b"]


def test_all_jobs_are_retrieved(hub):
    add_job(hub)
    jobs = list(hub.jobs)
    assert len(hub.jobs) == len(jobs) == len(ids(jobs))
    assert not any(job.job_template for job in jobs)
    assert hub.jobs[0].id == jobs[0].id
    assert hub.jobs[-1].id == jobs[-1].id
    assert [job.id for job in hub.jobs[1:3]] == [job.id for job in jobs[1:3]]


def test_jobs_are_retrieved_by_status(sandbox, hub):
    # Jobs that never ran count as inactive.
    never_run, ended, active = add_job(hub), add_job(hub), add_job(hub, STREAM)
    run_to_end(sandbox, hub, ended)
    hub.start_job(active)
    found = hub.jobs.get_all(job_status="INACTIVE")
    assert not any(job.job_template for job in found)
    inactive = ids(found)
    assert {never_run.id, ended.id} <= inactive
    assert hub.jobs.count("INACTIVE") == len(inactive)
    assert active.id not in inactive
    running = ids(hub.jobs.get_all(job_status="ACTIVE"))
    assert active.id in running
    assert not running & inactive
    hub.stop_job(active)


def test_jobs_are_retrieved_by_tag(hub):
    tag = unique("test").replace(" ", "-")
    tagged, _ = add_job(hub, tags=[tag]), add_job(hub, tags=[f"{tag}-2"])
    assert ids(hub.jobs.get_all(job_tag=tag)) == {tagged.id}


def test_jobs_with_same_tag_are_retrieved(hub):
    tag = f"nightly/{uuid4().hex[:8]}"
    first, second = add_job(hub, tags=[tag, "other"]), add_job(hub, tags=[tag])
    own = hub.jobs.get(job_name=first.job_name).tags.get(tag=tag)
    assert own.organization == hub.organization
    assert hub.jobs.get(job_tag=own.tag).id in {first.id, second.id}
    assert ids(hub.jobs.get_all(job_tag=own.tag)) == {first.id, second.id}


def test_job_is_retrieved_by_id(hub):
    job = add_job(hub)
    assert hub.jobs.get(id=job.id).job_name == job.job_name
    assert hub.jobs.get(job_id=job.id) == hub.jobs.get(id=job.id)
    assert hub.jobs.contains(id=job.id)
    with pytest.raises(ValueError, match=UNKNOWN):
        hub.jobs.get(id=f"{uuid4()}:{hub.organization}")


def test_jobs_are_retrieved_by_name(hub):
    job = add_job(hub)
    assert hub.jobs.get(job_name=job.job_name).id == job.id
    assert ids(hub.jobs.get_all(search=f'name=="{job.job_name}"')) == {job.id}
    assert not hub.jobs.contains(job_name=unique("Unknown"))


def test_jobs_are_retrieved_by_engine_type(hub):
    assert ids(hub.jobs.get_all(executor_type="COLLECTOR")) == ids(hub.jobs)
    assert hub.jobs.get_all(executor_type="TRANSFORMER") == []


def test_jobs_are_retrieved_by_commit_label(hub):
    old, new = add_job(hub, VERSIONED, version="1"), add_job(hub, VERSIONED)
    found = ids(hub.jobs.get_all(pipeline_commit_label="v1"))
    assert old.id in found
    assert new.id not in found


def test_jobs_of_first_version_are_upgraded(sandbox, hub):
    # Jobs with an unacknowledged error cannot be upgraded.
    hub.acknowledge_job_error(*hub.jobs.get_all(job_status="INACTIVE_ERROR"))
    old = [add_job(hub, VERSIONED, version="1"), add_job(hub, "Regional orders", version="1")]
    jobs = hub.jobs.get_all(pipeline_commit_label="v1")
    assert ids(old) < ids(jobs)
    upgraded = hub.upgrade_job(*jobs)
    assert [job.id for job in upgraded] == [job.id for job in jobs]
    for job in upgraded:
        assert job.commit.version == job.pipeline.commits[-1].version
    assert [upgraded.get(id=job.id).commit_label for job in old] == ["v3", "v2"]
    run_to_end(sandbox, hub, upgraded.get(id=old[0].id))
    assert hub.jobs.get(id=old[0].id).status.pipeline_commit_label == "v3"


def test_active_job_is_upgraded(hub):
    job = add_job(hub, "Clickstream to lake", version="1")
    hub.start_job(job)
    hub.upgrade_job(job)
    hub.wait_for_job_status(job, "ACTIVE", timeout_sec=20)
    assert job.commit_label == "v2"
    hub.stop_job(job)


def test_job_is_updated_with_other_version(sandbox, hub):
    name = add_job(hub, VERSIONED, version="2").job_name
    job = hub.jobs.get(job_name=name, pipeline_commit_label="v2")
    job.commit = hub.pipelines.get(name=VERSIONED).commits.get(version="1")
    result = hub.update_job(job)
    assert result.id == job.id
    found = hub.jobs.get(id=job.id)
    assert (found.commit_label, found.commit.version) == ("v1", "1")
    assert found.last_modified_on >= found.created_on
    run_to_end(sandbox, hub, found)
    assert found.status.pipeline_commit_label == "v1"


def test_job_is_updated_with_other_pipeline(sandbox, hub):
    job, pipeline = add_job(hub, VERSIONED), hub.pipelines.get(name=BATCH)
    job.commit = pipeline.commits.get(version="1")
    hub.update_job(job)
    found = hub.jobs.get(id=job.id)
    assert found.pipeline.name == BATCH
    assert (found.pipeline_id, found.pipeline_name) == (pipeline.id, BATCH)
    run_to_end(sandbox, hub, found)
    assert found.metrics[0].input_count == BATCH_RECORDS


def test_job_is_duplicated_twice(sandbox, hub):
    job = add_job(hub, VERSIONED, version="2", runtime_parameters={"RECORDS": "500"}, tags=["copied"])
    run_to_end(sandbox, hub, job)
    copies = hub.duplicate_job(job, number_of_copies=2)
    assert [copy.job_name for copy in copies] == [f"{job.job_name} copy1", f"{job.job_name} copy2"]
    assert len(ids([*copies, job])) == 3
    for copy in copies:
        found = hub.jobs.get(job_name=copy.job_name)
        assert found.id == copy.id
        assert found.status is None
        assert (found.pipeline_id, found.commit_id) == (job.pipeline_id, job.commit_id)
        assert found.runtime_parameters["RECORDS"] == "500"
        assert found.data_collector_labels == job.data_collector_labels
    run_to_end(sandbox, hub, copies[0])
    assert copies[0].metrics[0].input_count == 500
    assert hub.jobs.get(id=copies[1].id).status is None


def test_single_copy_has_no_number(hub):
    job = add_job(hub)
    (copy,) = hub.duplicate_job(job)
    assert hub.jobs.get(id=copy.id).job_name == f"{job.job_name} copy"


def test_copies_have_given_name_and_description(hub):
    name = unique("Twin")
    copies = hub.duplicate_job(add_job(hub), name=name, description="A twin", number_of_copies=3)
    found = hub.jobs.get_all(description="A twin")
    assert ids(found) == ids(copies)
    assert {copy.job_name for copy in found} == {f"{name}1", f"{name}2", f"{name}3"}


def test_job_is_exported_and_imported_elsewhere(sandbox, hub, other_sandbox, other_hub, tmp_path):
    job = add_job(hub, runtime_parameters={"RECORDS": "40"}, tags=["moved"])
    run_to_end(sandbox, hub, job)
    path = tmp_path / "jobs.zip"
    path.write_bytes(hub.export_jobs([job]))
    assert not other_hub.jobs.contains(id=job.id)
    with path.open("rb") as archive:
        (imported,) = other_hub.import_jobs(archive=archive)
    assert (imported.id, imported.job_name) == (job.id, job.job_name)
    found = other_hub.jobs.get(id=job.id)
    assert found.status is None
    assert (found.pipeline.name, found.commit_label) == (BATCH, job.commit_label)
    assert [tag.tag for tag in found.tags] == ["moved"]
    run_to_end(other_sandbox, other_hub, found)
    assert found.history[0].run_count == 1
    assert found.metrics[0].input_count == 40


def test_import_restores_deleted_job(hub):
    job = add_job(hub)
    archive = hub.export_jobs([job])
    hub.delete_job(job)
    (imported,) = hub.import_jobs(archive=io.BytesIO(archive))
    assert hub.jobs.get(id=job.id).job_name == imported.job_name == job.job_name


def test_import_restores_selected_values_of_job(hub):
    job = add_job(hub, VERSIONED, version="1", runtime_parameters={"RECORDS": "1"})
    archive = hub.export_jobs([job])
    (job,) = hub.upgrade_job(job)
    job.data_collector_labels = ["dev"]
    job.runtime_parameters = {"RECORDS": "2"}
    hub.update_job(job)
    hub.import_jobs(archive=io.BytesIO(archive))
    found = hub.jobs.get(id=job.id)
    assert (found.commit_label, found.data_collector_labels) == ("v1", ["dev"])
    assert found.runtime_parameters["RECORDS"] == "2"
    hub.import_jobs(archive=io.BytesIO(archive), labels=True, runtime_parameters=True)
    found = hub.jobs.get(id=job.id)
    assert found.data_collector_labels == ["all"]
    assert found.runtime_parameters["RECORDS"] == "1"


def test_archive_restores_all_jobs(hub, tmp_path):
    # Instances attached to a template cannot be exported.
    hub.delete_job(*(job for job in hub.jobs if job.template_job_id is not None))
    before = ids(hub.jobs)
    path = tmp_path / "jobs.zip"
    path.write_bytes(hub.export_jobs(hub.jobs))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(before)
    hub.stop_job(*hub.jobs.get_all(job_status="ACTIVE"))
    hub.acknowledge_job_error(*hub.jobs.get_all(job_status="INACTIVE_ERROR"))
    hub.delete_job(*hub.jobs)
    assert len(hub.jobs) == 0
    with path.open("rb") as archive:
        imported = hub.import_jobs(archive=archive)
    assert ids(imported) == ids(hub.jobs) == before


def test_origins_of_all_jobs_are_reset(sandbox, hub):
    hub.stop_job(*hub.jobs.get_all(job_status="ACTIVE"))
    assert [job for job in hub.jobs if job.status and job.status.offsets]
    reset = hub.reset_origin(*hub.jobs)
    assert ids(reset) == ids(hub.jobs)
    assert not [job for job in [*reset, *hub.jobs] if job.status and job.status.offsets]
    job = hub.jobs.get(job_name="Regional orders - 1")
    run_to_end(sandbox, hub, job)
    assert position(job.status.offsets) == "regional.csv::10000"


def test_current_offset_is_retrieved(sandbox, hub):
    job = add_job(hub)
    assert job.current_status is None
    run_to_end(sandbox, hub, job)
    (offset,) = job.current_status.offsets
    assert offset.pipeline_id == job.id
    assert hub.engines.get(id=offset.sdc_id).engine_type == "COLLECTOR"
    assert position([offset]) == "100"
    assert job.committed_offsets.offsets == {OFFSET: "100"}


def test_offsets_of_runs_are_retrieved(sandbox, hub):
    job = add_job(hub)
    run_to_end(sandbox, hub, job)
    run_to_end(sandbox, hub, job)
    assert [position(run.offsets) for run in job.history] == ["200", "100"]


def test_job_continues_from_uploaded_file(sandbox, hub, tmp_path):
    first, second = add_job(hub), add_job(hub)
    run_to_end(sandbox, hub, first)
    path = tmp_path / "offset.json"
    path.write_text(first.status.offsets[0].offset)
    with path.open() as offset_file:
        result = hub.upload_offset(second, offset_file=offset_file)
    assert result.id == second.id
    assert position(result.current_status.offsets) == "100"
    run_to_end(sandbox, hub, second)
    assert second.status.run_count == 1
    assert position(second.status.offsets) == "200"


def test_job_continues_from_uploaded_document(sandbox, hub):
    job = add_job(hub)
    run_to_end(sandbox, hub, job)
    result = hub.upload_offset(job, offset_json={"version": 2, "offsets": {OFFSET: "5000"}})
    assert position(result.current_status.offsets) == "5000"
    run_to_end(sandbox, hub, job)
    assert position(job.status.offsets) == "5100"


def test_null_offset_restarts_from_first_record(sandbox, hub):
    job = add_job(hub)
    run_to_end(sandbox, hub, job)
    result = hub.upload_offset(job, offset_json={"version": 2, "offsets": {OFFSET: None}})
    assert position(result.current_status.offsets) is None
    run_to_end(sandbox, hub, job)
    assert position(job.status.offsets) == "100"


def test_uploaded_offset_without_run_is_reset(hub):
    job = hub.upload_offset(add_job(hub), offset_json={"version": 2, "offsets": {OFFSET: "5000"}})
    assert len(job.current_status.offsets) == 1
    (reset,) = hub.reset_origin(job)
    assert reset.current_status.offsets is None


def test_job_history_has_all_runs(sandbox, hub):
    job = add_job(hub)
    assert list(job.job_history) == []
    run_to_end(sandbox, hub, job)
    run_to_end(sandbox, hub, job)
    assert [(run.run_count, run.status) for run in job.job_history] == [(2, "INACTIVE"), (1, "INACTIVE")]
    assert [run.run_count for run in job.history] == [2, 1]
    newest, oldest = job.job_history
    assert oldest.start_time < oldest.finish_time < newest.start_time < newest.finish_time


def test_run_is_found_by_start_time(hub):
    job = hub.jobs.get(job_name="Orders to warehouse")
    failed = job.history.get(color="RED")
    found = job.history.get(start_time=failed.start_time)
    assert (found.run_count, found.pipeline_commit_label) == (2, "v2")
    assert job.job_history.get(start_time=failed.start_time).id == found.id


def test_run_events_have_statuses_and_users(hub):
    job = add_job(hub, STREAM)
    hub.start_job(job)
    hub.stop_job(job)
    events = sorted(job.job_history[0].run_history, key=lambda event: event.time)
    statuses = list(dict.fromkeys(event.status for event in events))
    assert statuses == ["ACTIVATING", "ACTIVE", "DEACTIVATING", "INACTIVE"]
    by_user = [event.status for event in events if event.user == job.created_by]
    assert by_user == ["ACTIVATING", "DEACTIVATING"]
    assert all(event.user is None for event in events if event.status in ("ACTIVE", "INACTIVE"))


def test_metrics_of_runs_are_listed_newest_first(hub):
    job = hub.jobs.get(job_name="Orders to warehouse")
    assert [(run.run_count, run.input_count, run.output_count, run.total_error_count) for run in job.metrics] == [
        (3, 60_000, 59_700, 300),
        (2, 21_000, 21_000, 0),
        (1, 60_000, 59_700, 300),
    ]


def test_metrics_of_run_are_found_by_start_time(hub):
    job = hub.jobs.get(job_name="Orders to warehouse")
    start_time = min(run.start_time for run in job.history)
    run_count = job.history.get(start_time=start_time).run_count
    assert run_count == 1
    metrics = job.metrics.get(run_count=run_count)
    assert (metrics.input_count, metrics.output_count) == (60_000, 59_700)
    assert (metrics.error_count, metrics.stage_errors_count) == (300, 0)


def test_time_series_of_record_counts(hub):
    # Documented in older editions of the guide only, but still supported by the SDK.
    job = hub.jobs.get(job_name="Web logs to lake")
    counts = job.time_series_metrics("Record Count Time Series")
    for records in (counts.input_records, counts.output_records, counts.error_records):
        times, values = zip(*records.time_series.items(), strict=True)
        assert len(times) >= 50
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", time) for time in times)
        assert list(values) == sorted(values)
    assert set(counts.input_records.time_series) == set(counts.output_records.time_series)
    hour = job.time_series_metrics("Record Count Time Series", time_filter_condition="LAST_1H").input_records
    assert min(hour.time_series) < min(counts.input_records.time_series)


def test_time_series_of_throughput(hub):
    job = hub.jobs.get(job_name="Web logs to lake")
    records = job.time_series_metrics("Record Throughput Time Series").input_records
    assert all(value == pytest.approx(220) for value in records.time_series.values())
    assert records.name == "pipeline_batchInputRecords_meter"
    for metric_type, name in (
        ("Batch Throughput Time Series", "batch_counter"),
        ("Stage Batch Processing Timer seconds", "batch_processing_timer"),
    ):
        assert all(value > 0 for value in getattr(job.time_series_metrics(metric_type), name).time_series.values())


def test_realtime_summary_counts_batches_and_records(sandbox, hub):
    job = add_job(hub, STREAM, runtime_parameters={"RATE": "1500"})
    hub.start_job(job)
    job.refresh()
    sandbox.advance(60)
    hub.wait_for_job_metric(job, "input_record_count", 1, timeout_sec=10)
    sandbox.freeze()
    try:
        before = job.realtime_summary
        sandbox.advance(10)
        after = job.realtime_summary
    finally:
        sandbox.unfreeze()
    # Ten seconds at time scale 2.
    assert after.input_record_count - before.input_record_count == 10 * 2 * 1500
    assert after.output_record_count == after.input_record_count
    assert after.data_batch_count > before.data_batch_count > 0
    assert after.idle_batch_count == 0
    hub.stop_job(job)


def test_balancing_engines_uses_idle_engine(sandbox, hub):
    before = [hub.jobs.get(job_name=f"Truck positions {region}") for region in ("north", "south")]
    assert len({job.pipeline_status[0].sdc_id for job in before}) == 1
    hub.balance_engines(*hub.data_collectors)
    sandbox.advance(10)
    after = [hub.jobs.get(id=job.id) for job in before]
    assert len({job.pipeline_status[0].sdc_id for job in after}) == 2
    for job, earlier in zip(after, before, strict=True):
        assert job.status == "ACTIVE"
        assert job.status.color == "GREEN"
        assert job.status.run_count == earlier.status.run_count
        assert job.pipeline_status[0].status == "RUNNING"
        assert job.realtime_summary.input_record_count > 0


def test_balancing_job_moves_it_to_idle_engine(sandbox, hub):
    job = hub.jobs.get(job_name="Truck positions south")
    (before,) = job.data_collectors
    hub.balance_job(job)
    sandbox.advance(10)
    job.refresh()
    (after,) = job.data_collectors
    assert after.id != before.id
    assert job.status == "ACTIVE"


def test_several_jobs_are_started_and_stopped(hub):
    jobs = [add_job(hub, STREAM), add_job(hub, STREAM)]
    hub.start_job(*jobs)
    for job in jobs:
        assert job.status == "ACTIVE"
        assert job.pipeline_status[0].status == "RUNNING"
    hub.stop_job(*jobs)
    assert [job.status.status for job in jobs] == ["INACTIVE", "INACTIVE"]
    assert [job.status.color for job in jobs] == ["GRAY", "GRAY"]


def test_job_is_deleted(hub):
    job = add_job(hub)
    before = len(hub.jobs)
    hub.delete_job(job)
    assert len(hub.jobs) == before - 1
    assert job.id not in ids(hub.jobs)
    with pytest.raises(ValueError, match=UNKNOWN):
        hub.jobs.get(id=job.id)


def test_several_jobs_are_deleted(hub):
    jobs = [add_job(hub), add_job(hub)]
    hub.delete_job(*jobs)
    assert not ids(jobs) & ids(hub.jobs)


def test_tags_are_added_and_removed(hub):
    job, tag = add_job(hub, tags=["kept"]), f"added/{uuid4().hex[:8]}:with-colon"
    job.add_tag(tag)
    hub.update_job(job)
    found = hub.jobs.get(job_tag=tag)
    assert found.id == job.id
    assert [entry.tag for entry in found.tags] == ["kept", tag]
    found.remove_tag(tag)
    hub.update_job(found)
    assert [entry.tag for entry in hub.jobs.get(id=job.id).tags] == ["kept"]
    assert hub.jobs.get_all(job_tag=tag) == []


def test_job_restarts_after_acknowledgement(sandbox, hub):
    job = hub.get_job_builder().build(unique("Acknowledged"), pipeline=hub.pipelines.get(name="Ledger export"))
    job.require_job_error_acknowledgement = True
    hub.add_job(job)
    run_to_end(sandbox, hub, job, "INACTIVE_ERROR")
    assert "RUN_ERROR" in job.status.error_message
    hub.acknowledge_job_error(job)
    job.refresh()
    assert job.status == "INACTIVE"
    run_to_end(sandbox, hub, job, "INACTIVE_ERROR")
    assert job.status.run_count == 2


def test_job_template_is_created(hub):
    template = add_template(hub, REGION="north")
    found = hub.jobs.get(job_name=template.job_name, job_template=True)
    assert found.id == template.id
    assert found.job_template is True
    assert found.status is None
    assert template.id not in ids(hub.jobs)
    assert ids(hub.jobs.get_all(search=f'name=="{template.job_name}"', job_template=True)) == {template.id}


def test_template_starts_instance_per_parameter_set(hub):
    template = add_template(hub, REGION="north", RATE="10")
    parameters = [{"REGION": "east", "RATE": "20"}, {"REGION": "west", "RATE": "30"}]
    jobs = hub.start_job_template(
        template, instance_name_suffix="PARAM_VALUE", parameter_name="REGION", runtime_parameters=parameters
    )
    assert [job.job_name for job in jobs] == [f"{template.job_name} - east", f"{template.job_name} - west"]
    for job, expected in zip(jobs, parameters, strict=True):
        assert job.status == "ACTIVE"
        assert job.template_job_id == template.id
        assert job.runtime_parameters._data == expected
        assert job.id in ids(hub.jobs)
    hub.stop_job(*jobs)


def test_template_starts_instances_with_own_parameters(hub):
    template = add_template(hub, REGION="north", RATE="10")
    jobs = hub.start_job_template(template, number_of_instances=3)
    assert [job.job_name for job in jobs] == [f"{template.job_name} - {number}" for number in (1, 2, 3)]
    for job in jobs:
        assert job.status == "ACTIVE"
        assert job.runtime_parameters._data == {"REGION": "north", "RATE": "10"}
    assert template.id not in ids(jobs)
    hub.stop_job(*jobs)


def test_template_starts_instances_asynchronously(hub):
    template = add_template(hub, REGION="north")
    jobs = hub.start_job_template(template, number_of_instances=2, asynchronous=True, wait=False)
    assert len(ids(jobs)) == 2
    for job in jobs:
        hub.wait_for_job_status(job, "ACTIVE", timeout_sec=20)
        assert job.template_job_id == template.id
    hub.stop_job(*jobs)


def test_deleting_template_deletes_instances(hub):
    template = add_template(hub, REGION="north")
    (job,) = hub.start_job_template(template)
    hub.stop_job(job)
    hub.delete_job(template)
    for deleted in (template, job):
        with pytest.raises(ValueError, match=UNKNOWN):
            hub.jobs.get(id=deleted.id)
