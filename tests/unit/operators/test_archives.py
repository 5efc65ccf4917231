from __future__ import annotations

import hashlib
import io
import json

import pytest
import requests
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_streamsets.control_hub import (
    ControlHubConfigurationError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.operators.archives import ControlHubExportJobsOperator, ControlHubImportJobsOperator
from tests.unit.fakes.job_catalog_hub import ARCHIVE, JR, JobCatalogHub, job_json
from tests.unit.fakes.memory_store import memory_store
from tests.unit.fakes.single_job_hub import HUB

pytestmark = pytest.mark.usefixtures("connection")

SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
EXPORT = f"{JR}/jobs/exportJobs"


@pytest.fixture
def hub(http):
    return JobCatalogHub(
        http,
        job_json("a:org", "Orders"),
        job_json("b:org", "Customers"),
        job_json("i:org", "Regional - 1", rawJobTags=[], templateJobId="t:org"),
    )


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "jobs.zip"
    path.write_bytes(ARCHIVE)
    return path


def export(path, **arguments):
    if not {"job_ids", "job_names", "search"} & arguments.keys():
        arguments.setdefault("job_tag", "nightly")
    return ControlHubExportJobsOperator(task_id="export", path=path, **arguments)


def import_(path, **arguments):
    return ControlHubImportJobsOperator(task_id="import", path=path, **arguments)


def test_export_writes_archive_and_returns_summary(hub, context, tmp_path):
    path = tmp_path / "jobs.zip"
    result = export(str(path)).execute(context)
    assert path.read_bytes() == ARCHIVE
    assert json.loads(json.dumps(result)) == {
        "path": str(path),
        "size": len(ARCHIVE),
        "sha256": SHA256,
        "jobs": [{"job_id": "a:org", "job_name": "Orders"}, {"job_id": "b:org", "job_name": "Customers"}],
    }
    assert hub.exported == [["a:org", "b:org"]]
    assert context["ti"].xcoms == {
        "job_ids": ["a:org", "b:org"],
        "streamsets_job_link": f"{HUB}/sch/jobs/detail/a:org",
        "path": str(path),
        "sha256": SHA256,
    }


def test_archive_round_trips_through_object_store(hub, context):
    store = memory_store()
    result = export("memory://bucket/{{ day }}/jobs.zip", job_names=["Orders"])
    result.render_template_fields({"day": "monday"})
    exported = result.execute(context)
    assert exported["path"] == "memory://bucket/monday/jobs.zip"
    assert store.find("") == ["/bucket/monday/jobs.zip"]
    assert store.cat_file("/bucket/monday/jobs.zip") == ARCHIVE
    import_(ObjectStoragePath(exported["path"]), sha256=exported["sha256"]).execute(context)
    assert ARCHIVE in hub.imported[0][1]


@pytest.mark.parametrize("how", ["path", "ObjectStoragePath"])
def test_path_may_be_path_object(hub, context, tmp_path, how):
    path = tmp_path / "jobs.zip"
    task = export(path if how == "path" else ObjectStoragePath(f"file://{path}"))
    task.render_template_fields({})
    task.execute(context)
    assert path.read_bytes() == ARCHIVE


def test_export_of_template_instances_raises(hub, context, tmp_path):
    with pytest.raises(ControlHubJobStateError, match=r"attached to a job template: 'Regional - 1' \(i:org\)\. Export"):
        export(tmp_path / "jobs.zip", job_ids=["a:org", "i:org"]).execute(context)
    assert hub.exported == []
    assert list(tmp_path.iterdir()) == []


def test_export_without_jobs_raises(hub, context, tmp_path):
    with pytest.raises(ControlHubNotFoundError, match="Cannot export jobs: no job matches the selection"):
        export(tmp_path / "jobs.zip", job_tag="weekly").execute(context)
    assert hub.exported == []
    assert list(tmp_path.iterdir()) == []


def test_export_without_overwrite_keeps_existing_file(hub, context, archive):
    archive.write_bytes(b"old")
    with pytest.raises(FileExistsError, match="overwriting is disabled"):
        export(archive, overwrite=False).execute(context)
    assert hub.exported == []
    assert archive.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"text": "<html>proxy</html>"}, ControlHubUnexpectedResponseError),
        ({"content": b""}, ControlHubUnexpectedResponseError),
        ({"status_code": 503}, ControlHubUnavailableError),
        ({"exc": requests.exceptions.ConnectionError}, ControlHubUnavailableError),
    ],
)
def test_failed_export_keeps_old_file(http, hub, context, archive, sleep_calls, answer, error):
    archive.write_bytes(b"old")
    http.post(EXPORT, **answer)
    with pytest.raises(error):
        export(archive).execute(context)
    assert [entry.name for entry in archive.parent.iterdir()] == ["jobs.zip"]
    assert archive.read_bytes() == b"old"


@pytest.mark.parametrize("where", ["local", "memory"])
def test_interrupted_export_is_rewritten(http, hub, context, tmp_path, sleep_calls, where):
    store = memory_store()
    path = str(tmp_path / "jobs.zip") if where == "local" else "memory://bucket/jobs.zip"

    class CutOff(io.BytesIO):
        def read(self, *arguments):
            if chunk := super().read(*arguments):
                return chunk
            raise requests.exceptions.ConnectionError("cut off")

    http.post(EXPORT, [{"body": CutOff(ARCHIVE[:300_000])}, {"content": ARCHIVE}])
    assert export(path).execute(context)["sha256"] == SHA256
    written = (tmp_path / "jobs.zip").read_bytes() if where == "local" else store.cat_file("/bucket/jobs.zip")
    assert written == ARCHIVE


def test_import_sends_archive_unchanged(hub, context, archive, task_log):
    result = import_(str(archive)).execute(context)
    assert json.loads(json.dumps(result)) == [
        {"job_id": "a:org", "job_name": "Orders", "pipeline_version": "2"},
        {"job_id": "b:org", "job_name": "Customers", "pipeline_version": "2"},
        {"job_id": "i:org", "job_name": "Regional - 1", "pipeline_version": "2"},
    ]
    ((flags, body),) = hub.imported
    assert flags == {
        "updatePipelineRefs": "true",
        "updateNumInstances": "false",
        "updateRuntimeParameters": "false",
        "updateLabels": "false",
        "updateMigrateOffsets": "true",
    }
    assert ARCHIVE in body
    assert context["ti"].xcoms == {
        "job_ids": ["a:org", "b:org", "i:org"],
        "streamsets_job_link": f"{HUB}/sch/jobs/detail/a:org",
    }
    assert f"Imported 3 jobs from '{archive}'" in task_log()


def test_import_update_options_are_sent(hub, context, archive):
    import_(
        archive,
        update_pipeline=False,
        update_number_of_instances=True,
        update_runtime_parameters="true",
        update_engine_labels=True,
        update_failover=False,
    ).execute(context)
    assert hub.imported[0][0] == {
        "updatePipelineRefs": "false",
        "updateNumInstances": "true",
        "updateRuntimeParameters": "true",
        "updateLabels": "true",
        "updateMigrateOffsets": "false",
    }


@pytest.mark.parametrize("digits", [SHA256, SHA256.upper()])
def test_import_accepts_matching_sha256(hub, context, archive, digits):
    import_(archive, sha256=digits).execute(context)
    assert len(hub.imported) == 1


def test_import_rejects_mismatched_sha256(hub, context, archive):
    archive.write_bytes(ARCHIVE + b"x")
    with pytest.raises(ControlHubConfigurationError, match=f"its SHA-256 is .*, expected {SHA256}. Nothing was sent"):
        import_(archive, sha256=SHA256).execute(context)
    assert hub.imported == []


def test_import_rejects_non_archive(hub, context, archive):
    archive.write_bytes(b"not a zip")
    with pytest.raises(ControlHubConfigurationError, match=r"not a zip archive\. Nothing was sent"):
        import_(archive).execute(context)
    assert hub.imported == []


def test_import_names_missing_archive(hub, context, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.zip"):
        import_(tmp_path / "missing.zip").execute(context)
    assert hub.imported == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: export(""), "'path' must be a non-empty string"),
        (lambda: export(None), "'path' must be a path or URL of a file"),
        (lambda: export(7), "'path' must be a path or URL of a file"),
        (lambda: export("x", overwrite="perhaps"), "'overwrite' must be true or false"),
        (lambda: export("x", job_tag="x", job_ids=["y"]), "got 'job_ids' and 'job_tag'"),
        (lambda: import_(["x"]), "'path' must be a path or URL of a file"),
        (lambda: import_("x", sha256="abc"), "'sha256' must be a SHA-256 digest of 64 hexadecimal digits"),
        (lambda: import_("x", update_pipeline="perhaps"), "'update_pipeline' must be true or false"),
    ],
)
def test_rejects_invalid_arguments_at_parse(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: export("{{ '' }}"), "'path' must be a non-empty string"),
        (lambda: export("x", overwrite="{{ 7 }}"), "'overwrite' must be true or false"),
        (lambda: import_("x", sha256="{{ 'abc' }}"), "'sha256' must be a SHA-256 digest"),
        (lambda: import_("x", update_engine_labels="{{ 'x' }}"), "'update_engine_labels' must be true or false"),
    ],
)
def test_rejects_invalid_rendered_values_before_requests(http, context, make, said):
    task = make()
    task.render_template_fields({})
    with pytest.raises(ValueError, match=said):
        task.execute(context)
    assert not http.request_history


@pytest.mark.parametrize("make", [export, import_])
def test_executing_changes_no_template_field(hub, context, archive, make):
    task = make(archive)
    before = {name: getattr(task, name) for name in task.template_fields}
    task.execute(context)
    assert {name: getattr(task, name) for name in task.template_fields} == before
