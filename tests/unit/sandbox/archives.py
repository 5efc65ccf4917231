"""Helpers for tests of job archives."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from tests.unit.fakes.sandbox_app import JR, Hub

ORDERS = "Orders to warehouse"


def exported(hub: Hub, *names: str) -> bytes:
    response = hub.http.post(f"{JR}/jobs/exportJobs", json=[hub.id(name) for name in names])
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    return response.content


def entries(archive: bytes) -> list[Any]:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        assert file.testzip() is None
        return [json.loads(file.read(name)) for name in file.namelist()]


def packed(*contents: Any, name: str = "job-{}.json") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number, content in enumerate(contents):
            file.writestr(name.format(number), content if isinstance(content, (str, bytes)) else json.dumps(content))
    return buffer.getvalue()


def imported(hub: Hub, archive: bytes, **query: Any) -> Any:
    return hub.http.post(f"{JR}/jobs/importJobs", files={"file": ("jobs.zip", archive)}, params=query)


def job(hub: Hub, name: str) -> Any:
    return hub.get(f"{JR}/job/{hub.id(name)}")


def changed(entry: Any, **changes: Any) -> Any:
    return {**entry, "minimalJobJson": {**entry["minimalJobJson"], **changes}}


def foreign(**changes: Any) -> Any:
    """Return an archive entry of another Control Hub."""
    definition = {
        "schemaVersion": 6,
        "configuration": [
            {"name": "constants", "value": [{"key": "SITE", "value": "north"}, {"key": "N", "value": 5}]}
        ],
        "stages": [{"instanceName": "DevRawDataSource_01"}],
    }
    return {
        "minimalJobJson": {
            "id": "job:foreign",
            "name": "Foreign job",
            "pipelineId": "pipeline:foreign",
            "pipelineCommitId": "commit:foreign",
            "pipelineCommitLabel": "v7",
            "rulesId": "rules:foreign",
            "labels": ["all"],
            "numInstances": 1,
            "rawJobTags": ["visitors"],
            "runtimeParameters": '{"SITE": "south"}',
            "jobTemplate": False,
            **changes,
        },
        "commitPipelineJson": {"name": "Foreign pipeline", "pipelineDefinition": json.dumps(definition)},
        "connectionsMetadata": {},
    }
