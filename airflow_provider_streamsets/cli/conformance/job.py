"""Probes that start and stop a job that the user named for it; afterwards, the job is as it was."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_streamsets.cli.conformance.hub import (
    Hub,
    Json,
    NotAnswered,
    Reply,
    Survey,
    first,
    state_of,
    status_name,
)
from airflow_provider_streamsets.cli.conformance.probes import (
    UNEXPECTED,
    Answer,
    counts_of_latest,
    decision,
    describe_events,
    shape,
    unexpected_form,
    unknown_id,
)
from airflow_provider_streamsets.control_hub import (
    ControlHubClient,
    ControlHubJobStateError,
    ControlHubNotFoundError,
)
from airflow_provider_streamsets.control_hub._json import as_object
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.services import Retry, Service, quote_id

MAX_JOB_REQUESTS = 600
"""Maximum number of requests of the probes with a job, not counting retries and the cleanup."""

_POLL_SECONDS = 2.0
_WAIT_SECONDS = 180.0
_LAG_POLL_SECONDS = 0.25
_IDLE = (None, "INACTIVE", "ACTIVATION_ERROR")
_ENDED = ("INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR")
# Changed by an upgrade, and perhaps by a start with parameters.
_RESTORED = ("pipelineCommitId", "pipelineCommitLabel", "runtimeParameters")
_COPY_PREFIX = "Conformance check "


def check_job(client: ControlHubClient, job_id: str) -> Json:
    """
    Return the job if its state allows the probes.

    :param job_id: id of the job
    :raises ControlHubNotFoundError: if there is no such job
    :raises ControlHubJobStateError: if it is active, has an error to acknowledge, or cannot be started or changed
    """
    action = f"check the conformance with job {job_id}"
    response = client.request("GET", Service.JOBRUNNER, _path(job_id), action=action)
    job = dict(as_object(response or {}, "job"))
    if job.get("id") != job_id or job.get("jobDeleted"):
        raise ControlHubNotFoundError(f"Cannot {action}: the job was not found.")
    status = (job.get("currentJobStatus") or {}).get("status")
    if status not in _IDLE:
        raise ControlHubJobStateError(f"Cannot {action}: it is {status}, and must be inactive. Nothing was started.")
    # Contract section 6.2: the pipeline version of an attached instance could not be restored.
    kinds = (
        ("jobTemplate", "a job template"),
        ("draftRun", "a draft run"),
        ("templateJobId", "attached to a job template"),
    )
    for flag, kind in kinds:
        if job.get(flag):
            raise ControlHubJobStateError(f"Cannot {action}: it is {kind}. Nothing was started.")
    return job


def _path(job_id: str, action: str = "") -> str:
    return f"/v1/job/{quote_id(job_id)}{action and f'/{action}'}"


class JobProbes:
    """
    Starts and stops the job up to three times, and duplicates and upgrades it.

    :param client: the client
    :param organization: id of the organization
    :param job: the job, from :func:`check_job`
    :param on_probe: called with a description of each step
    :param on_warning: called with what could not be restored
    """

    def __init__(
        self,
        client: ControlHubClient,
        organization: str,
        job: Json,
        on_probe: Callable[[str], None],
        on_warning: Callable[[str], None],
    ) -> None:
        self._hub = Hub(client, MAX_JOB_REQUESTS)
        self._survey = Survey(self._hub, organization)
        self._job, self._id = job, str(job["id"])
        self._on_probe, self._on_warning = on_probe, on_warning
        self._copy: str | None = None
        self._last_run = 0
        self.answers: dict[str, Answer] = {}
        """Answers by section."""
        self.reasons: dict[str, str] = {}
        """Why a section has no answer, or no complete one."""

    def run(self) -> None:
        """Run all steps, then restore the job, even after an interrupt."""
        try:
            self._while_inactive()
            self._while_active()
            self._forced_stop()
        finally:
            self._restore()

    def _answer(self, section: str) -> Answer:
        return self.answers.setdefault(section, Answer())

    @contextmanager
    def _step(self, description: str, *sections: str) -> Iterator[None]:
        self._on_probe(f"{sections[0]} Job: {description}")
        try:
            yield
        except NotAnswered as reason:
            self.reasons.update(dict.fromkeys(sections, str(reason)))
        except UNEXPECTED as error:
            self.reasons.update(dict.fromkeys(sections, unexpected_form(error)))

    def _post(self, action: str, body: Any = None) -> Reply:
        return self._hub.send("POST", _path(self._id, action), body, retry=Retry.NEVER)

    def _post_bulk(self, action: str, *job_ids: str) -> Reply:
        return self._hub.send("POST", f"/v1/jobs/{action}", list(job_ids), retry=Retry.NEVER)

    def _status(self, hub: Hub | None = None) -> Json:
        reply = (hub or self._hub).send("GET", _path(self._id, "currentStatus"))
        return reply.require("the status of the job").object

    def _wait(self, is_reached: Callable[[Json], bool]) -> Json:
        """Return the status of the job as soon as it is the expected one."""
        status: Json = {}
        deadline = Deadline.of_retries(_WAIT_SECONDS, self._hub.client.sleep)
        for _ in deadline.polls(_POLL_SECONDS):
            status = self._status()
            if is_reached(status):
                return status
        raise NotAnswered(f"the run was {state_of(status)} after {_WAIT_SECONDS:g} s")

    def _wait_for(self, *statuses: str, after: int) -> Json:
        """Return the status of a run after the given one as soon as it is one of these."""
        return self._wait(lambda status: (status.get("runCount") or 0) > after and status.get("status") in statuses)

    def _while_inactive(self) -> None:
        with self._step("acknowledge it without an error", "18.29"):
            reply = self._post("acknowledgeError")
            self._answer("18.29").facts = {"acknowledgement": reply.facts()}
            self._answer("18.29").match(
                "acknowledge_elsewhere", [decision(reply, "no_effect", "refused", "the acknowledgement")]
            )
        with self._step("stop it while it is inactive", "18.28"):
            reply = self._post("stop")
            self._answer("18.28").facts["stop while inactive"] = reply.facts()
            self._answer("18.28").match("stop_inactive", [decision(reply, "accepted", "refused", "the stop")])
        with self._step("duplicate it, and delete the copy", "18.1", "18.24"):
            self._duplicate()

    def _duplicate(self) -> None:
        self._copy = f"{_COPY_PREFIX}{uuid.uuid4()}"
        body = {"namePrefix": self._copy, "description": None, "numberOfCopies": 1}
        reply = self._post("duplicate", body)
        reply.require_permission("the duplication")
        self._answer("18.1").facts = {"duplicate": reply.facts()}
        if reply.ok:
            self._answer("18.1").match("duplicate_body", [shape(reply, "empty", "list")])
        try:
            # Also after an error: the copy may exist.
            copy_id, deletion = self._delete_copy(self._hub)
        except NotAnswered:
            if reply.is_refusal:
                self._copy = None
            raise
        read = self._hub.send("GET", _path(copy_id))
        # Whether an instance that was deleted after its completion is readable does not follow from this.
        self._answer("18.24").facts |= {"deletion": deletion.facts(), "copy after its deletion": read.facts()}

    def _delete_copy(self, hub: Hub) -> tuple[str, Reply]:
        """Delete the copy of the job, and return its id and the response."""
        named = {"jobSearchOperation": "EQUALS", "jobSearchText": self._copy, "jobTemplate": False}
        jobs = Survey(hub, self._survey.organization).list_jobs(**named)
        copy_id = str(first((job for job in jobs if job.get("name") == self._copy), "copy of the job")["id"])
        deletion = hub.send("DELETE", f"/v2/job/{quote_id(copy_id)}").require("the deletion of the copy")
        self._copy = None
        return copy_id, deletion

    def _while_active(self) -> None:
        sections = ("18.3", "18.4", "18.11", "18.31", "18.32", "18.35", "18.42")
        with self._step("start it", *sections):
            before, status = self._first_start()
            with self._step("stop it while it is activating", "18.28"):
                if self._stop_while_activating(status):
                    self._wait_for(*_ENDED, after=before)
                    before, _ = self._start()
            status = self._wait_for("ACTIVE", *_ENDED, after=before)
            if status["status"] != "ACTIVE":
                raise NotAnswered(f"the run ended {state_of(status)} before the probe")
            self._answer("18.35").facts["active run"] = {
                "state": state_of(status),
                "pipelines": [status_name(pipeline.get("status")) for pipeline in status.get("pipelineStatus") or ()],
                "has record counts": bool(status.get("lastReportedMetricTime")),
            }
            with self._step("start it again", "18.4"):
                self._start_active()
            with self._step("upgrade it", "18.11", "18.42"):
                self._upgrade(status)
            with self._step("stop it together with an unknown job", "18.3"):
                self._stop_with_unknown_job()
            self._record_events("stopped run", self._wait_for(*_ENDED, after=before))

    def _start(self) -> tuple[int, Reply]:
        """Start the job with its own parameters, in another order, and return the run count before."""
        before = int(self._status().get("runCount") or 0)
        parameters = json.loads(self._job.get("runtimeParameters") or "{}")
        reply = self._send_start(before, lambda: self._post("start", dict(reversed(parameters.items())) or None))
        return before, reply.require("the start of the job")

    def _send_start(self, before: int, send: Callable[[], Reply]) -> Reply:
        """Send a start, after noting that there may be a run that has to be stopped."""
        self._last_run = before + 1
        reply = send()
        if reply.is_refusal:
            self._last_run = before
        return reply

    def _first_start(self) -> tuple[int, Json]:
        """Start the job, and return the run count before and the first status of the run."""
        before, reply = self._start()
        status = self._status()
        answer = self._answer("18.2")
        answer.facts["start"] = reply.facts()
        answer.match("start_body", ["status" if reply.object.get("runCount") else shape(reply, "empty")])
        deadline = Deadline.of_retries(_WAIT_SECONDS, self._hub.client.sleep)
        for _ in deadline.polls(_LAG_POLL_SECONDS):
            if (status.get("runCount") or 0) > before:
                break
            status = self._status()
        self._answer("18.31").facts["seconds until the status is that of the new run, at most"] = deadline.elapsed
        self._answer("18.31").match("start_status_lag", ["previous" if deadline.elapsed else "none"])
        self._record_color(status)
        with self._step("read its record counts", "18.19"):
            runs = self._survey.runs(self._job)
            if len(runs) > 1 and not self._survey.has_metrics(self._job, runs[0]):
                facts, values = counts_of_latest(self._survey, self._job, runs)
                self._answer("18.19").facts["just started run"] = facts
                # Without an entry, it depends on the counts of other jobs whether that of the previous run is missing.
                self._answer("18.19").match("counts_of_latest", [] if values == ["absent"] else values)
        with self._step("read its parameters", "18.7"):
            self._compare_parameters()
        return before, status

    def _compare_parameters(self) -> None:
        before = self._job.get("runtimeParameters")
        if len(json.loads(before or "{}")) < 2:
            raise NotAnswered("the job has fewer than two runtime parameters")
        job = self._hub.send("GET", _path(self._id)).require("the job").object
        is_kept = job.get("runtimeParameters") != before
        self._answer("18.7").facts["order of the stored parameters"] = "as sent" if is_kept else "as before"
        self._answer("18.7").match("start_parameters_kept", ["stored"] if is_kept else ["not_stored", "stored"])

    def _record_color(self, status: Json) -> None:
        # Red is the color of an error.
        if status.get("status") not in ("ACTIVATING", "DEACTIVATING") or status.get("color") == "RED":
            return
        answer = self._answer("18.8")
        seen = sorted({state_of(status), *answer.facts.get("transitions", ())})
        answer.facts["transitions"] = seen
        colors = {state.partition("/")[2] for state in seen}
        answer.match("color_in_transition", [color if color in ("GREEN", "GRAY") else None for color in colors])

    def _stop_while_activating(self, status: Json) -> bool:
        """Try to stop an activating run; return whether it was accepted."""
        if status.get("status") != "ACTIVATING":
            self.reasons["18.28"] = "the run was active at once"
            return False
        reply = self._post("stop")
        self._answer("18.28").facts["stop while activating"] = reply.facts()
        self._answer("18.28").match("stop_while_activating", [decision(reply, "accepted", "refused", "the stop")])
        return reply.ok

    def _start_active(self) -> None:
        reply = self._post("start")
        self._answer("18.4").facts["start while active"] = reply.facts()
        is_known = reply.status in (400, 409, 500)
        self._answer("18.4").match("wrong_state", [str(reply.status) if is_known else None])

    def _upgrade(self, active: Json) -> None:
        path = f"/v1/pipeline/{quote_id(str(self._job.get('pipelineId')))}/latest"
        latest = self._hub.read(path, service=Service.PIPELINES, onlyPublished=True).require("the pipeline").object
        commit = latest.get("commitId")
        if commit is None:
            raise NotAnswered("the latest pipeline version is unknown")
        if commit == active.get("pipelineCommitId"):
            self.reasons["18.11"] = "the job has the latest pipeline version"
        else:
            reply = self._post_bulk("upgradeJobs", self._id)
            self._answer("18.11").facts["upgrade while active"] = reply.facts()
            reply.require("the upgrade")
            upgraded = self._wait(
                lambda status: status.get("pipelineCommitId") == commit and status.get("status") in ("ACTIVE", *_ENDED)
            )
            is_same = upgraded.get("runCount") == active.get("runCount")
            self._answer("18.11").match("upgrade_active", ["same_run" if is_same else "successor"])
        self._answer("18.42").facts["upgrade at the latest version"] = self._post_bulk("upgradeJobs", self._id).facts()

    def _stop_with_unknown_job(self) -> None:
        """Stop the job and an unknown one in one request."""
        reply = self._post_bulk("stopJobs", self._id, unknown_id(self._survey))
        status = self._status()
        is_applied = status.get("status") not in ("ACTIVATING", "ACTIVE")
        answer = self._answer("18.3")
        answer.facts = {"stop with an unknown job": reply.facts(), "job was stopped": is_applied}
        answer.match("bulk_partial", [None if reply.ok else "partial" if is_applied else "all_or_nothing"])
        if not is_applied:
            self._post("stop").require("the stop of the job")
            status = self._status()
        self._record_color(status)

    def _forced_stop(self) -> None:
        with self._step("start it, and force the stop", "18.30", "18.2", "18.8"):
            before = int(self._status().get("runCount") or 0)
            reply = self._send_start(before, lambda: self._post_bulk("startJobs", self._id))
            reply.require("the bulk start")
            self._answer("18.2").facts["bulk start"] = reply.facts()
            self._answer("18.2").match("bulk_body", [shape(reply, "empty", "list")])
            status = self._wait_for("ACTIVE", *_ENDED, after=before)
            if status["status"] != "ACTIVE":
                raise NotAnswered(f"the run ended {state_of(status)} before the forced stop")
            answer = self._answer("18.30")
            forced = self._post("forceStop")
            answer.facts["forced stop while active"] = forced.facts()
            if not forced.ok:
                self._post("stop").require("the stop of the job")
                answer.facts["forced stop while stopping"] = self._post("forceStop").require("the forced stop").facts()
            ended = self._wait_for(*_ENDED, after=before)
            self._record_events("force-stopped run", ended)
            answer.facts["end"] = state_of(ended)
            end = {"INACTIVE/GRAY": "inactive", "INACTIVE_ERROR/RED": "inactive_error"}.get(state_of(ended))
            # After an ordinary stop, the run may have ended before it was forced.
            is_ambiguous = end == "inactive" and not forced.ok
            answer.match("forced_stop_end", ["inactive", "inactive_error"] if is_ambiguous else [end])
            if ended["status"] == "INACTIVE_ERROR":
                self._post("acknowledgeError").require("the acknowledgement")
                color = self._wait_for("INACTIVE", after=before).get("color")
                self._answer("18.8").facts["acknowledged run"] = str(color) if color in ("GRAY", "RED") else "another"
                self._answer("18.8").match("color_after_acknowledge", [color if color in ("GRAY", "RED") else None])

    def _record_events(self, what: str, run: Json) -> None:
        self._answer("18.32").facts[what] = describe_events(self._survey.events(run))

    def _restore(self) -> None:
        """Stop and acknowledge what the probes started, delete the copy, and restore the pipeline version."""
        self._on_probe("Stopping and restoring the job")
        hub = Hub(self._hub.client, MAX_JOB_REQUESTS)
        try:
            for restore in (self._restore_job, self._restore_copy):
                try:
                    restore(hub)
                except NotAnswered as reason:
                    self._warn(str(reason))
        except KeyboardInterrupt:
            self._warn("interrupted")
            raise

    def _warn(self, reason: str) -> None:
        copy = "" if self._copy is None else f", and whether a job '{self._copy}' is to be deleted"
        self._on_warning(
            f"The job may not be as it was: {reason}. Check whether it is inactive, its pipeline version{copy}."
        )

    def _restore_job(self, hub: Hub) -> None:
        status = self._stop_started_run(hub)
        if status.get("status") == "INACTIVE_ERROR":
            hub.send("POST", _path(self._id, "acknowledgeError")).require("the acknowledgement")
        job = hub.send("GET", _path(self._id)).require("the job").object
        restored = {name: self._job.get(name) for name in _RESTORED}
        if any(job.get(name) != value for name, value in restored.items()):
            # Contract section 6.2: the complete job.
            hub.send("POST", _path(self._id), {**job, **restored}).require("the update of the job")

    def _restore_copy(self, hub: Hub) -> None:
        if self._copy is not None:
            self._delete_copy(hub)

    def _stop_started_run(self, hub: Hub) -> Json:
        """Stop the run, also one that cannot be stopped before it is active, and return its last status."""
        deadline = Deadline.of_retries(_WAIT_SECONDS, hub.client.sleep)
        for is_last in deadline.polls(_POLL_SECONDS):
            try:
                status = self._status(hub)
                # Statuses can lag behind a start (contract section 18.31), and so can the start behind its request.
                if (status.get("runCount") or 0) < self._last_run:
                    continue
                if status.get("status") in (None, *_ENDED):
                    return status
                if is_last or deadline.elapsed > _WAIT_SECONDS / 2:
                    hub.send("POST", _path(self._id, "forceStop"))
                elif status.get("status") != "DEACTIVATING":
                    hub.send("POST", _path(self._id, "stop"))
            except NotAnswered:
                if is_last:
                    raise
        raise NotAnswered(f"no end of its last run was seen within {_WAIT_SECONDS:g} s")
