from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from dev.audit import KNOWN, audit

CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "requests", "version": "2.19.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.20.0"]}]}
SKIPPED = {"name": "b", "skip_reason": "not found on the index"}


class Services:
    """Answers as pip-audit would."""

    def __init__(self, known: list[dict] | None, others: list[dict] | None, *, only: str = "osv") -> None:
        self.known, self.others, self.only = known, others, only
        self.asked: list[tuple[str, str]] = []

    def __call__(self, command):
        done = subprocess.CompletedProcess(command, 0, "", "")
        if command[0] != "pip-audit":
            Path(command[-1]).write_text("a==1\n")
            return done
        service, file = command[2], Path(command[4])
        self.asked.append((service, file.name))
        answer = self.known if KNOWN in file.read_text() else self.others
        if service != self.only or answer is None:
            return subprocess.CompletedProcess(command, 1, "", "Traceback: ConnectionError")
        return subprocess.CompletedProcess(command, 0, json.dumps({"dependencies": answer}), "")


@pytest.mark.parametrize("known", [None, [], [CLEAN], [{"name": "requests", "skip_reason": "not found"}]])
def test_unreachable_services_fail_audit_in_one_line(capsys, known):
    assert audit(Services(known, [CLEAN])) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "No vulnerability service can be reached" in said.err


@pytest.mark.parametrize("service", ["pypi", "osv"])
def test_audit_covers_all_requirements_and_package(capsys, service):
    services = Services([BAD], [CLEAN], only=service)
    assert audit(services) == 0
    audited = [file for asked, file in services.asked if asked == service][1:]
    assert audited == ["airflow-3.3.txt", "docs.txt", "ecosystem.txt", "cluster.txt", "the package itself"]
    assert "airflow-3.3.txt: 0 known vulnerabilities" in capsys.readouterr().out


def test_vulnerability_fails_audit_and_is_named(capsys):
    assert audit(Services([BAD], [CLEAN, BAD])) == 1
    assert "requests 2.19.0: PYSEC-1, fixed in 2.20.0" in capsys.readouterr().out


@pytest.mark.parametrize("others", [None, [CLEAN, SKIPPED]])
def test_incomplete_audit_fails(capsys, others):
    assert audit(Services([BAD], others)) == 2
    assert "did not check" in capsys.readouterr().err
