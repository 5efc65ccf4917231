"""The conformance check and its report."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.cli.conformance.hub import Hub, Json, NotAnswered, Survey
from airflow_provider_streamsets.cli.conformance.job import JobProbes, check_job
from airflow_provider_streamsets.cli.conformance.probes import UNEXPECTED, Answer, unexpected_form
from airflow_provider_streamsets.cli.conformance.unknowns import UNKNOWNS, Unknown
from airflow_provider_streamsets.control_hub import ControlHubClient
from airflow_provider_streamsets.sandbox.backend.variants import REPORT_FORMAT

_NO_VARIANT = "no variant matches"
_HEADER = """\
# Conformance report of a Control Hub, without names, ids, users, URLs and secrets.
# streamsets-sandbox --variants-from FILE behaves like this Control Hub.
"""


@dataclass(frozen=True)
class Finding:
    """
    What is known about one question.

    :param section: number of the section, mostly of contract section 18
    :param question: the question
    :param status: ``answered``, ``not answered``, ``needs a job`` or ``not probed``
    :param reason: why the question is not answered, or not completely
    :param variants: by variant, the matching values; empty if no variant matches
    :param observed: what was observed
    """

    section: str
    question: str
    status: str
    reason: str
    variants: dict[str, tuple[str | float, ...]]
    observed: Json

    def as_dict(self) -> Json:
        """Return the fields that have a value."""
        shown = {
            name: values[0] if len(values) == 1 else list(values) or _NO_VARIANT
            for name, values in self.variants.items()
        }
        optional = {"reason": self.reason, "variants": shown, "observed": self.observed}
        return {
            "section": self.section,
            "question": self.question,
            "status": self.status,
            **{key: value for key, value in optional.items() if value},
        }


@dataclass(frozen=True)
class ConformanceReport:
    """
    The behavior of a Control Hub where contract section 18 leaves it open.

    :param date: UTC date
    :param control_hub: version of Control Hub; None if it is unknown
    :param findings: one per question, in the order of their sections
    """

    date: str
    control_hub: str | None
    findings: tuple[Finding, ...]

    @property
    def variants(self) -> dict[str, str | float]:
        """The variants of the sandbox that match, without ambiguous ones."""
        return {
            name: values[0]
            for finding in self.findings
            for name, values in finding.variants.items()
            if len(values) == 1
        }

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The variants of which no value matches: behavior that the sandbox does not have yet."""
        return tuple(name for finding in self.findings for name, values in finding.variants.items() if not values)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the file, which can be serialized as JSON and YAML."""
        return {
            "format": REPORT_FORMAT,
            "provider": __version__,
            "date": self.date,
            "control hub": self.control_hub,
            "variants": self.variants,
            "findings": [finding.as_dict() for finding in self.findings],
        }


def write_report(report: ConformanceReport, path: Path) -> None:
    """
    Write a report as YAML.

    :param report: the report
    :param path: the file, which is overwritten
    """
    text = yaml.safe_dump(report.as_dict(), sort_keys=False, width=120, allow_unicode=True)
    path.write_text(_HEADER + text, encoding="utf-8")


def run_conformance(
    client: ControlHubClient,
    *,
    job_id: str | None = None,
    sections: Collection[str] | None = None,
    on_probe: Callable[[str], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> ConformanceReport:
    """
    Compare a Control Hub with the variants of the sandbox.

    Sends at most :data:`~airflow_provider_streamsets.cli.conformance.hub.MAX_READS` requests that only read, and a few
    to check user, job and credential, one after the other. With `job_id`, it starts and stops that job up to three
    times, upgrades and duplicates it, and deletes the copy; afterwards, and after an interrupt, it stops the job and
    restores its pipeline version.

    :param client: client of the Control Hub; its ``sleep`` is used for waits
    :param job_id: id of an inactive job to start and stop; the caller has the consent of the user
    :param sections: only the questions of these sections; all by default
    :param on_probe: called with a description of each probe before it begins
    :param on_warning: called with what could not be restored, also before an interrupt is raised again
    :raises ControlHubError: if Control Hub cannot be reached or refuses the credential, or if the job does not exist or
        is not inactive; nothing was started then
    """
    report_progress, warn = on_probe or (lambda _: None), on_warning or (lambda _: None)
    organization = client.current_user().organization_id or client.organization
    if job_id:
        check_job(client, job_id)
    hub = Hub(client)
    survey = Survey(hub, organization)
    unknowns = [unknown for unknown in UNKNOWNS if sections is None or unknown.section in sections]
    answers: dict[str, Answer] = {}
    reasons: dict[str, str] = {}
    for unknown in unknowns:
        if unknown.probe is None:
            continue
        report_progress(f"{unknown.section} {unknown.question}")
        try:
            answers[unknown.section] = unknown.probe(survey)
        except NotAnswered as reason:
            reasons[unknown.section] = str(reason)
        except UNEXPECTED as error:
            reasons[unknown.section] = unexpected_form(error)
    if job_id:
        # Again: it may have been started meanwhile.
        probes = JobProbes(client, organization, check_job(client, job_id), report_progress, warn)
        probes.run()
        reasons |= probes.reasons
        for section, found in probes.answers.items():
            answer = answers.setdefault(section, Answer())
            answer.facts |= found.facts
            answer.matches |= found.matches
    findings = (
        _finding(unknown, answers.get(unknown.section, Answer()), reasons.get(unknown.section, ""), bool(job_id))
        for unknown in unknowns
    )
    date = datetime.now(tz=timezone.utc).date().isoformat()
    return ConformanceReport(date, hub.version(), tuple(findings))


def _finding(unknown: Unknown, answer: Answer, reason: str, has_job: bool) -> Finding:
    missing = [name for name in unknown.variants if name not in answer.matches]
    needs_job = [] if has_job else [name for name in unknown.with_job if name in missing]
    reasons = [reason] if reason else []
    if needs_job and unknown.probe:
        reasons.append(f"{', '.join(needs_job)}: needs a job")
    if unknown.not_probed:
        reasons.append(unknown.not_probed)
    if answer.facts:
        status = "answered"
        reasons = reasons if missing or not unknown.variants else []
    elif reason:
        status = "not answered"
    elif unknown.with_job:
        status = "not answered" if has_job else "needs a job"
        reasons = reasons or (["an earlier probe with the job failed"] if has_job else [])
    else:
        status = "not probed"
    return Finding(unknown.section, unknown.question, status, "; ".join(reasons), answer.matches, answer.facts)
