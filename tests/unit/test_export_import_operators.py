from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys

import pytest
import requests
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_streamsets.control_hub import (
    ControlHubConfigurationError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubUnavailableError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.operators.archives import ControlHubExportJobsOperator, ControlHubImportJobsOperator
from tests.unit.memory_store import memory_store
from tests.unit.scripted_hub import HUB
from tests.unit.scripted_jobs import ARCHIVE, JR, ScriptedJobs, job_json

pytestmark = pytest.mark.usefixtures("connection")

SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
EXPORT = f"{JR}/jobs/exportJobs"


@pytest.fixture
def hub(http):
    return ScriptedJobs(
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


def test_it_exports_the_chosen_jobs_and_says_what_it_has_written(hub, context, tmp_path):
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


def test_an_archive_can_go_to_an_object_store_and_come_from_it(hub, context):
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
def test_a_path_can_be_an_object(hub, context, tmp_path, how):
    path = tmp_path / "jobs.zip"
    task = export(path if how == "path" else ObjectStoragePath(f"file://{path}"))
    task.render_template_fields({})
    task.execute(context)
    assert path.read_bytes() == ARCHIVE


def test_instances_of_a_template_are_named_and_nothing_is_exported(hub, context, tmp_path):
    with pytest.raises(ControlHubJobStateError, match=r"attached to a job template: 'Regional - 1' \(i:org\)\. Export"):
        export(tmp_path / "jobs.zip", job_ids=["a:org", "i:org"]).execute(context)
    assert hub.exported == []
    assert list(tmp_path.iterdir()) == []


def test_to_export_no_job_fails_the_task(hub, context, tmp_path):
    with pytest.raises(ControlHubNotFoundError, match="There is no job to export"):
        export(tmp_path / "jobs.zip", job_tag="weekly").execute(context)
    assert hub.exported == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_to_be_overwritten_stays_and_nothing_is_exported(hub, context, archive):
    archive.write_bytes(b"old")
    with pytest.raises(FileExistsError, match="is not to be overwritten"):
        export(archive, overwrite=False).execute(context)
    assert hub.exported == []
    assert archive.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"text": "<html>proxy</html>"}, ControlHubUnexpectedAnswerError),
        ({"content": b""}, ControlHubUnexpectedAnswerError),
        ({"status_code": 503}, ControlHubUnavailableError),
        ({"exc": requests.exceptions.ConnectionError}, ControlHubUnavailableError),
    ],
)
def test_after_a_failed_export_the_old_file_is_there_and_nothing_of_the_new_one(
    http, hub, context, archive, pauses, answer, error
):
    archive.write_bytes(b"old")
    http.post(EXPORT, **answer)
    with pytest.raises(error):
        export(archive).execute(context)
    assert [entry.name for entry in archive.parent.iterdir()] == ["jobs.zip"]
    assert archive.read_bytes() == b"old"


@pytest.mark.parametrize("where", ["local", "memory"])
def test_an_export_that_is_interrupted_is_written_anew(http, hub, context, tmp_path, pauses, where):
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


def test_it_imports_an_archive_as_it_is(hub, context, archive, task_log):
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


def test_what_an_import_overwrites_can_be_chosen(hub, context, archive):
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
def test_an_archive_that_has_the_sha256_is_imported(hub, context, archive, digits):
    import_(archive, sha256=digits).execute(context)
    assert len(hub.imported) == 1


def test_an_archive_that_has_another_sha256_is_not_sent(hub, context, archive):
    archive.write_bytes(ARCHIVE + b"x")
    with pytest.raises(
        ControlHubConfigurationError, match=f"is not the archive .*, and not {SHA256}. Nothing was sent"
    ):
        import_(archive, sha256=SHA256).execute(context)
    assert hub.imported == []


def test_a_file_that_is_no_archive_is_not_sent(hub, context, archive):
    archive.write_bytes(b"not a zip")
    with pytest.raises(ControlHubConfigurationError, match="no zip archive; nothing was sent"):
        import_(archive).execute(context)
    assert hub.imported == []


def test_an_archive_that_does_not_exist_is_named(hub, context, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.zip"):
        import_(tmp_path / "missing.zip").execute(context)
    assert hub.imported == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: export(""), "'path' must be a text that is not empty"),
        (lambda: export(None), "'path' must be a path or URL of a file"),
        (lambda: export(7), "'path' must be a path or URL of a file"),
        (lambda: export("x", overwrite="perhaps"), "'overwrite' must be true or false"),
        (lambda: export("x", job_tag="x", job_ids=["y"]), "given are job_ids and job_tag"),
        (lambda: import_(["x"]), "'path' must be a path or URL of a file"),
        (lambda: import_("x", sha256="abc"), "'sha256' must be a SHA-256 in 64 hexadecimal digits"),
        (lambda: import_("x", update_pipeline="perhaps"), "'update_pipeline' must be true or false"),
    ],
)
def test_bad_arguments_are_refused_when_the_dag_is_parsed(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: export("{{ '' }}"), "'path' must be a text that is not empty"),
        (lambda: export("x", overwrite="{{ 7 }}"), "'overwrite' must be true or false"),
        (lambda: import_("x", sha256="{{ 'abc' }}"), "'sha256' must be a SHA-256"),
        (lambda: import_("x", update_engine_labels="{{ 'x' }}"), "'update_engine_labels' must be true or false"),
    ],
)
def test_bad_rendered_values_are_refused_before_anything_is_sent(http, context, make, said):
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


_PARSE = """
import sys
from airflow.providers.common.compat.sdk import BaseOperator
before = set(sys.modules)
import airflow_provider_streamsets.operators.archives as archives
import airflow_provider_streamsets.operators.jobs as jobs
archives.ControlHubExportJobsOperator(task_id="a", job_tag="x", path="s3://bucket/key")
archives.ControlHubImportJobsOperator(task_id="b", path="s3://bucket/key", sha256="0" * 64)
jobs.ControlHubCreateJobOperator(task_id="c", job_name="x", pipeline_name="y", engine_labels=["z"])
jobs.ControlHubUpdateJobOperator(task_id="d", job_name="x", unchanged_since="2026-01-01T00:00:00Z", failover=True)
jobs.ControlHubUpgradeJobsOperator(task_id="e", job_tag="x")
jobs.ControlHubDuplicateJobOperator(task_id="f", job_id="x:org")
jobs.ControlHubListJobsOperator(task_id="g", status="ACTIVE")
print(*sorted(set(sys.modules) - before))
"""


def test_a_dag_parse_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _PARSE], capture_output=True, text=True, check=True)
    loaded = done.stdout.strip().splitlines()[-1].split()
    assert "airflow_provider_streamsets.operators.archives" in loaded
    ours = {name.split(".")[1] for name in loaded if name.startswith("airflow_provider_streamsets.")}
    assert not ours & {"control_hub", "hooks", "triggers", "sandbox"}
    assert not {name.partition(".")[0] for name in loaded} & {"requests", "urllib3", "fsspec", "upath"}
