"""Ask a vulnerability service about what the project and its users install: ``make audit``."""

from __future__ import annotations

import json
import subprocess  # nosec B404 # runs programs of this project and its tools
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_BIN = Path(sys.executable).parent
SERVICES = ("pypi", "osv")
# Known to be vulnerable since 2018. A service that finds nothing in it has not been reached, whatever it says.
KNOWN = "requests==2.19.0"

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


class AuditError(Exception):
    """The audit could not be made."""


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # nosec B603 # no shell, and arguments of our own
        [str(_BIN / command[0]), *command[1:]], capture_output=True, text=True, check=False, timeout=600, cwd=ROOT
    )


def ask(service: str, requirements: Path, run: Run = _run) -> list[dict[str, Any]] | None:
    """
    Return what a service says of pinned requirements, None if it cannot be asked.

    :param service: name of a service, as ``pip-audit`` knows it
    :param requirements: file of pinned requirements
    :param run: runs a command
    :returns: for each package ``name`` and either ``version`` and ``vulns``, or ``skip_reason``
    """
    how = ("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "15")
    done = run(["pip-audit", "--vulnerability-service", service, "--requirement", str(requirements), *how])
    try:
        answer: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    return answer


def reachable_service(folder: Path, run: Run = _run) -> str:
    """
    Return a service that finds what is known to be vulnerable.

    :param folder: for a temporary file
    :raises AuditError: if none does
    """
    probe = folder / "known.txt"
    probe.write_text(f"{KNOWN}\n", encoding="utf-8")
    for service in SERVICES:
        if any(entry.get("vulns") for entry in ask(service, probe, run) or ()):
            return service
    raise AuditError(
        f"No vulnerability service can be reached from here ({' and '.join(SERVICES)} find nothing in {KNOWN}), so "
        "nothing was audited."
    )


def problems_of(service: str, requirements: Path, run: Run = _run) -> list[str]:
    """
    Return what is wrong with pinned requirements, a line each.

    :raises AuditError: if the service cannot be asked about all of them
    """
    answer = ask(service, requirements, run)
    skipped = [entry["name"] for entry in answer or () if "skip_reason" in entry]
    if answer is None or skipped:
        raise AuditError(f"{service} could not be asked about {', '.join(skipped) or requirements.name}.")
    return [
        f"{entry['name']} {entry['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'none'}"
        for entry in answer
        for found in entry["vulns"]
    ]


def audit(run: Run = _run) -> int:
    """Audit the requirement files, and what the newest versions are that the package asks for; return an exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            service = reachable_service(folder, run)
            package = folder / "the package itself"
            made = run(["uv", "pip", "compile", "--quiet", "setup.cfg", "--extra", "sandbox", "-o", str(package)])
            if made.returncode:
                raise AuditError(f"What the package requires could not be found out: {made.stderr.strip()[:500]}")
            files = [*sorted((ROOT / "requirements").glob("*.txt")), package]
            found = {file.name: problems_of(service, file, run) for file in files}
        except AuditError as error:
            print(error, file=sys.stderr)
            return 2
    for file, problems in found.items():
        print(f"{file}: {len(problems)} known vulnerabilities", *problems, sep="\n  ")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(audit())
