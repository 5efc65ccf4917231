"""Audit the dependencies of the project and its users for known vulnerabilities: ``make audit``."""

from __future__ import annotations

import json
import subprocess  # nosec B404 # runs only programs of this project
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_BIN = Path(sys.executable).parent
SERVICES = ("pypi", "osv")
# The others have old versions of Airflow or the SDK with dependencies of their time, and only tests use them.
AUDITED = ("airflow-3.3.txt", "docs.txt", "ecosystem.txt", "cluster.txt")
# Known to be vulnerable since 2018. If a service reports nothing for it, the service was not reached.
KNOWN = "requests==2.19.0"

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


class AuditError(Exception):
    """The audit failed."""


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # nosec B603 # no shell, trusted arguments
        [str(_BIN / command[0]), *command[1:]], capture_output=True, text=True, check=False, timeout=600, cwd=ROOT
    )


def query_service(service: str, requirements: Path, run: Run = _run) -> list[dict[str, Any]] | None:
    """
    Return a service's report on pinned requirements, or None if the query fails.

    :param service: service name for ``pip-audit``
    :param requirements: file with pinned requirements
    :param run: function that runs a command
    :returns: for each package, ``name`` and either ``version`` and ``vulns``, or ``skip_reason``
    """
    options = ("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "15")
    done = run(["pip-audit", "--vulnerability-service", service, "--requirement", str(requirements), *options])
    try:
        report: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    return report


def reachable_service(folder: Path, run: Run = _run) -> str:
    """
    Return a service that detects a known vulnerable package.

    :param folder: folder for a temporary file
    :param run: function that runs a command
    :raises AuditError: if no service does
    """
    probe = folder / "known.txt"
    probe.write_text(f"{KNOWN}\n", encoding="utf-8")
    for service in SERVICES:
        if any(entry.get("vulns") for entry in query_service(service, probe, run) or ()):
            return service
    raise AuditError(
        f"No vulnerability service can be reached ({' and '.join(SERVICES)} report nothing for {KNOWN}); "
        "nothing was audited."
    )


def find_vulnerabilities(service: str, requirements: Path, run: Run = _run) -> list[str]:
    """
    Return the vulnerabilities of pinned requirements, one line each.

    :raises AuditError: if the service did not check all packages
    """
    report = query_service(service, requirements, run)
    skipped = [entry["name"] for entry in report or () if "skip_reason" in entry]
    if report is None or skipped:
        raise AuditError(f"{service} did not check {', '.join(skipped) or requirements.name}.")
    return [
        f"{entry['name']} {entry['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'none'}"
        for entry in report
        for found in entry["vulns"]
    ]


def audit(run: Run = _run) -> int:
    """Audit the requirement files and the package's newest dependencies, and return the exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            service = reachable_service(folder, run)
            package = folder / "the package itself"
            compiled = run(["uv", "pip", "compile", "--quiet", "setup.cfg", "--extra", "sandbox", "-o", str(package)])
            if compiled.returncode:
                raise AuditError(f"Could not resolve the package's dependencies: {compiled.stderr.strip()[:500]}")
            files = [*(ROOT / "requirements" / name for name in AUDITED), package]
            found = {file.name: find_vulnerabilities(service, file, run) for file in files}
        except AuditError as error:
            print(error, file=sys.stderr)
            return 2
    for file, vulnerabilities in found.items():
        print(f"{file}: {len(vulnerabilities)} known vulnerabilities", *vulnerabilities, sep="\n  ")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(audit())
