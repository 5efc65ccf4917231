from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from tests.system.leaks import contains_any, encodings_of
from tests.ui.conftest import USERS
from tests.ui.scene import ACTIVE, ENDED

POLICY = {
    "default-src": {"'none'"},
    "script-src": {"'self'"},
    "style-src": {"'self'"},
    "connect-src": {"'self'"},
    "base-uri": {"'none'"},
    "frame-ancestors": {"'self'"},
}


@pytest.fixture(scope="module")
def answers(scene, send):
    """All responses of the plugin, to all users, about all tasks."""
    answers = []
    for user in (*USERS, None):
        answers += [send(user, "GET", path) for path in ("", "run", "api/health", "static/tab.js", "static/style.css")]
        answers.append(send(user, "GET", "api/runs", limit=500))
        for task in chain(ACTIVE, ENDED):
            answer = send(user, "GET", "api/task", **task.query)
            answers.append(answer)
            runs = answer.json()["runs"] if answer.ok else []
            answers += [send(user, "GET", "api/run", **task.query, job_id=run["job_id"]) for run in runs[:3]]
    return answers


def test_no_response_contains_a_secret(answers, sandbox):
    secrets = encodings_of(sandbox.token)
    assert sum(answer.ok for answer in answers) > 50
    for answer in answers:
        content = answer.content + repr(answer.headers).encode()
        assert not contains_any(secrets, content), answer.url
        assert sandbox.credential_id.encode() not in content, answer.url


def test_no_log_contains_a_secret(answers, sandbox, airflow):
    secrets = encodings_of(sandbox.token)
    for path in Path(airflow.home).rglob("*.log"):
        assert not contains_any(secrets, path.read_bytes()), path.name


def test_every_response_has_a_strict_policy(answers):
    for answer in answers:
        directives = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        for name, sources in POLICY.items():
            assert set(directives[name].split()) == sources, answer.url
        assert "unsafe" not in str(directives)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_data_are_not_cached(answers):
    assert {answer.headers["Cache-Control"] for answer in answers if "/api/" in answer.url} == {"no-store"}
