"""The instances that a task starts, keeps and resumes for one job template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAmbiguousStartError,
    ControlHubBulkError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    may_have_executed,
)
from airflow_provider_streamsets.control_hub.models import Outcome, RunIdentity
from airflow_provider_streamsets.control_hub.submission import (
    TemplateStartIntent,
    complete_parameters,
    parameters_digest,
)
from airflow_provider_streamsets.operators._resume import is_complete, was_stopped_by_task
from airflow_provider_streamsets.operators._run_ownership import RunOwnership

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job, JobRun
    from airflow_provider_streamsets.operators._task_state import TaskState
    from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator


@dataclass(frozen=True)
class Instance:
    """
    The instance for one set of runtime parameters, started or to be started.

    :param digest: digest of the set of runtime parameters
    :param job_id: id of the instance; empty if it is not started, or the start is not confirmed
    :param run_count: number of the run that this task started, which is the first, even if others start more
    :param identity: distinguishes that run from another one with the same number, as JSON
    :param name: name of the instance; empty if it is not known
    :param run: that run as last fetched, or its successor after an upgrade
    """

    digest: str
    job_id: str = ""
    run_count: int = 1
    identity: Any = None
    name: str = ""
    run: JobRun | None = None

    @classmethod
    def from_job(cls, digest: str, job: Job) -> Instance:
        """Return the instance of a job that was just started or found."""
        first = job.current_run if job.last_run_count == 1 else None
        return cls(digest, job.job_id, identity=RunIdentity.from_run(first).to_json(), name=job.name, run=first)

    def to_json(self) -> list[Any]:
        """Return the first fields, which a later try needs, as a small JSON value."""
        return [self.digest, self.job_id, self.run_count, self.identity] if self.job_id else [self.digest]

    @property
    def is_active(self) -> bool:
        """Whether the run has not ended, or is not visible yet."""
        return bool(self.job_id) and (self.run is None or not self.run.has_ended)

    @property
    def label(self) -> str:
        """Name and id, for messages."""
        return f"'{self.name}' ({self.job_id})" if self.name else self.job_id


def _start_json(start: TemplateStartIntent) -> dict[str, Any]:
    """Return a start as JSON, without its parameters, which are saved with the instances."""
    return {name: value for name, value in asdict(start).items() if name != "parameters"}


def _recorded_start(state: TaskState) -> TemplateStartIntent | None:
    """Return the latest start that the task requested, without its parameters; None if there is none."""
    start = state.values.get("template_start")
    return TemplateStartIntent(**start) if isinstance(start, dict) else None


def _recorded_instances(state: TaskState) -> list[Instance]:
    """Return the saved instances, in the order of the sets of parameters."""
    return [Instance(*entry) for entry in state.values.get("instances") or []]


def _assign_instances(
    earlier: Sequence[Instance], kept: Mapping[str, Instance], digests: Sequence[str]
) -> list[Instance]:
    """
    Return the kept instance for each set of parameters, or a new one that is to be started.

    Each try may render other values. Therefore an equal number of sets is matched by position, unless they are the
    same sets in another order; otherwise sets are matched by digest.

    :param earlier: the instances of the earlier try, by position
    :param kept: the instances to keep, by job id
    :param digests: digests of the sets of this try
    """
    previous_digests = [instance.digest for instance in earlier]
    is_reordered = previous_digests != list(digests) and sorted(previous_digests) == sorted(digests)
    if len(previous_digests) == len(digests) and not is_reordered:
        return [kept.get(instance.job_id, Instance(digest)) for instance, digest in zip(earlier, digests, strict=True)]
    by_digest: dict[str, list[Instance]] = {}
    for instance in kept.values():
        by_digest.setdefault(instance.digest, []).append(instance)
    return [by_digest[digest].pop(0) if by_digest.get(digest) else Instance(digest) for digest in digests]


class InstancesOwnership(RunOwnership):
    """
    What a task does with the instances of a job template that it starts, and with their runs.

    :param task: the operator
    """

    task: ControlHubRunJobTemplateOperator

    def __init__(self, task: ControlHubRunJobTemplateOperator) -> None:
        super().__init__(task)
        self._intent: TemplateStartIntent | None = None
        self._kept: dict[str, int] = {}

    def record_instances(self, context: Context, instances: Sequence[Instance]) -> None:
        """Save the started instances, whose runs this task owns from now on."""
        self.record_started(context, {instance.job_id: instance.run_count for instance in instances})
        self._kept, self._intent = {}, None
        self.raise_if_killed("while it started instances")

    @property
    def restart_failed_runs(self) -> bool:
        """Whether the next try starts all instances again, and not only those that did not succeed."""
        return bool(self.task.rendered.retry == "all")

    def resume_instances(self, context: Context, template: Job, *, wait: bool) -> Sequence[Instance]:
        """Return the kept instance of an earlier try for each set of parameters, or a new one to be started."""
        digests = [parameters_digest(values) for values in complete_parameters(template, self.task.parameter_sets())]
        none_kept = [Instance(digest) for digest in digests]
        state = self.state(context)
        start, abandon_reason = _recorded_start(state), state.abandon_reason
        if start is None:
            return none_kept
        self.previous = {i.job_id: i.run_count for i in _recorded_instances(state) if i.job_id}
        if start.template_id != template.job_id or state.was_cleared:
            reason = abandon_reason or f"the task now runs job template {template.label}"
            runs = self.find_recorded_runs(context)
            self.log.info("Not resuming instances of an earlier try (%s); stopping %d still active.", reason, len(runs))
            if runs:
                # Saving the stop hides from later tries that the task was cleared, so the reason is saved, too.
                state.write(template_start=_start_json(start), started=runs, abandon_reason=reason)
                self._stop_or_raise(runs, reason)
            return none_kept
        try:
            earlier = self._load_recorded_instances(state)
        except ControlHubAmbiguousStartError as error:
            if abandon_reason is None:
                raise
            self.log.warning("%s", error)
            earlier = _recorded_instances(state)
        self.previous = {instance.job_id: instance.run_count for instance in earlier if instance.job_id}
        found = self._with_own_runs(earlier)
        kept = self._select_kept(context, earlier, found, wait)
        instances = _assign_instances(earlier, kept, digests)
        if self.restart_failed_runs and not all(instance.job_id for instance in instances):
            instances = none_kept
        self._log_kept([found.get(instance.job_id, instance) for instance in earlier], instances)
        is_kept = {instance.job_id for instance in instances}
        runs = {job_id: n for job_id, n in self._active_runs(state, earlier).items() if job_id not in is_kept}
        if runs:
            self._stop_or_raise(runs, abandon_reason or "they are replaced")
        return instances

    def _select_kept(
        self, context: Context, earlier: Sequence[Instance], found: Mapping[str, Instance], wait: bool
    ) -> Mapping[str, Instance]:
        """Return the instances of an earlier try that need not be started again, by job id."""
        state = self.state(context)
        if not wait and state.abandon_reason is None:
            # Their outcomes are irrelevant without a wait.
            instances = [found.get(instance.job_id, instance) for instance in earlier if instance.job_id]
            is_left_active = self.has_left_runs_active(context)
            return {
                i.job_id: i
                for i in instances
                if is_left_active or i.run is None or not was_stopped_by_task(self.client, i.run, state)
            }
        kept = {job_id: instance for job_id, instance in found.items() if self._should_keep(instance, state)}
        if self.restart_failed_runs and len(kept) < len(earlier) == len(found):
            active = [instance for instance in found.values() if instance.is_active]
            if active and all(instance.job_id in kept for instance in active):
                # All instances are started again only when all have ended.
                return found
        return kept

    def _log_kept(self, earlier: Sequence[Instance], instances: Sequence[Instance]) -> None:
        kept = [instance for instance in instances if instance.job_id]
        self.log.info(
            "Keeping %d of %d instances of the previous try, which succeeded or are still active: %s.",
            len(kept),
            sum(bool(instance.job_id) for instance in earlier),
            join_truncated([instance.label for instance in kept]) or "none",
        )
        missing = [str(number) for number, instance in enumerate(instances, start=1) if not instance.job_id]
        if missing:
            is_kept = {instance.job_id for instance in kept}
            replaced = [i.label for i in earlier if i.job_id and i.job_id not in is_kept]
            self.log.info(
                "Starting new instances for %d of %d sets of parameters: numbers %s. Instances not kept: %s.",
                len(missing),
                len(instances),
                join_truncated(missing),
                join_truncated(replaced) or "none",
            )

    def _load_recorded_instances(self, state: TaskState) -> list[Instance]:
        """Return the saved instances, including those of a start whose response was lost."""
        instances, start = _recorded_instances(state), _recorded_start(state)
        missing = tuple(instance.digest for instance in instances if not instance.job_id)
        if start is None or not missing or state.values.get("withdrawn"):
            return instances
        created = iter(self.client.templates.find_instances(replace(start, parameters=missing), wait=True))
        # All or none: a start matches only with the same sets.
        return [
            instance
            if instance.job_id or (job := next(created, None)) is None
            else Instance.from_job(instance.digest, job)
            for instance in instances
        ]

    def find_recorded_runs(self, context: Context) -> Mapping[str, int]:
        """
        Return the runs that earlier tries started and that have not ended: run count by job id.

        Uses only the saved state and the connection, because the other parameters may have changed.
        """
        state = self.state(context)
        try:
            instances = self._load_recorded_instances(state)
        except (ControlHubAmbiguousStartError, ControlHubNotFoundError, ControlHubRejectedError) as error:
            # No candidate may be stopped if the start is ambiguous; a deleted template has no history.
            self.log.warning("%s", error)
            instances = _recorded_instances(state)
        return self._active_runs(state, instances)

    def _active_runs(self, state: TaskState, instances: Sequence[Instance]) -> dict[str, int]:
        """Return the runs of instances, and others saved as started, that have not ended: run count by job id."""
        known = {instance.job_id: instance for instance in instances if instance.job_id}
        runs = {str(job_id): int(run_count) for job_id, run_count in (state.values.get("started") or {}).items()}
        runs.update({job_id: instance.run_count for job_id, instance in known.items()})
        return {
            job_id: runs[job_id]
            for job_id, run in self.client.runs.get_active(runs).items()
            if job_id not in known or not RunIdentity.from_json(known[job_id].identity).contradicts(run, runs[job_id])
        }

    def _stop_or_raise(self, runs: Mapping[str, int], reason: str) -> None:
        if not self.stop_runs(runs, reason):
            raise ControlHubUnavailableError(
                "The instances of an earlier try could not be stopped, so no new ones were started."
            )

    def _with_own_runs(self, instances: Sequence[Instance]) -> dict[str, Instance]:
        """Return the instances that still exist, with the runs that this task started, by job id."""
        jobs = self.client.jobs.get_many(instance.job_id for instance in instances if instance.job_id)
        found = [self._with_own_run(i, jobs[i.job_id]) for i in instances if i.job_id in jobs]
        return {instance.job_id: instance for instance in found if instance is not None}

    def _with_own_run(self, instance: Instance, job: Job) -> Instance | None:
        identity, latest = RunIdentity.from_json(instance.identity), job.current_run
        if latest is not None and identity.contradicts(latest, instance.run_count):
            return None
        if latest is not None and latest.run_count > instance.run_count:
            latest = self.client.runs.get_or_successor(job.job_id, instance.run_count, latest, run_id=identity.run_id)
            if latest is None:
                return None
        return replace(instance, name=job.name, run=latest)

    def _should_keep(self, instance: Instance, state: TaskState) -> bool:
        """Return whether an instance is active or succeeded, and was not stopped by this task."""
        run = instance.run
        if run is None:
            return True
        was_asked_to_stop = (state.values.get("stopped") or {}).get(instance.job_id) == instance.run_count
        if not run.has_ended:
            is_stopped = was_asked_to_stop or was_stopped_by_task(self.client, run, state)
            return state.abandon_reason is None and not is_stopped
        if not is_complete(self.client, run, state, accept_stopped=self.task.rendered.accept_stopped):
            return False
        if not was_asked_to_stop:
            return True
        # It may have finished before the stop, but the status alone is no evidence of that.
        decision = tracking.decide_outcome(run, self.client.runs.events(run.run_id))
        return decision.outcome is Outcome.SUCCEEDED and decision.is_confirmed

    def with_runs_being_started(self, known: Mapping[str, int]) -> Mapping[str, int]:
        """Return the runs that this task started, kept or is starting."""
        return known or {**self._kept, **self._runs_of_unconfirmed_start()}

    def _runs_of_unconfirmed_start(self) -> dict[str, int]:
        if self._intent is None:
            return {}
        try:
            instances = self.kill_client().templates.find_instances(self._intent)
        except ControlHubError as error:
            self.log.warning("%s", error)
            return {}
        return {job.job_id: 1 for job in instances}

    def start(
        self, context: Context, template: Job, instances: Sequence[Instance], *, wait: bool
    ) -> Sequence[Instance]:
        """Start the missing instances, and return all instances."""
        state = self.state(context)
        self._kept = {instance.job_id: instance.run_count for instance in instances if instance.is_active}
        self.previous = {}

        def save(start: Any) -> None:
            recorded = [instance.to_json() for instance in instances]
            state.write(template_start=start, instances=recorded, **self.left_running_values(context))

        def withdraw() -> None:
            # The start created no instances, so no later try may mistake others for them.
            self._intent = None
            if any(instance.job_id for instance in instances):
                state.add(withdrawn=True)
            else:
                state.clear()

        def on_submit(intent: TemplateStartIntent) -> None:
            save(_start_json(intent))
            if self.task.was_killed:
                withdraw()
            self.raise_if_killed("before it started instances")
            self._intent = intent

        self.raise_if_killed("before it started instances")
        values = [
            values
            for instance, values in zip(instances, self.task.parameter_sets(), strict=True)
            if not instance.job_id
        ]
        if not values:
            if state.abandon_reason is None:
                state.add(instances=[instance.to_json() for instance in instances])
            else:
                save(state.values.get("template_start"))
            return instances
        try:
            jobs = self.client.templates.start(
                template,
                values,
                name=self.task.rendered.instance_name,
                description=self.task.rendered.description,
                suffix=self.task.rendered.suffix,
                suffix_parameter=self.task.rendered.suffix_parameter,
                tags=self.task.rendered.job_tags,
                attach_to_template=self.task.rendered.attach_to_template,
                # The outcome of an instance that Control Hub deletes could not be fetched.
                delete_after_completion=self.task.rendered.delete_after_completion and (not wait or self.until_active),
                inherit_permissions=self.task.rendered.inherit_permissions,
                on_submit=on_submit,
            )
        except ControlHubBulkError as error:
            self.record_started(context, {**self._kept, **error.done})
            self._intent = None
            state.add(withdrawn=True)
            self.stop_runs(error.done, "not all instances were started")
            raise
        except ControlHubError as error:
            if self._intent is not None and not may_have_executed(error):
                withdraw()
            raise
        for job in jobs:
            self.log.info("Job %s: started as instance of job template %s.", job.title, template.title)
        started = iter(jobs)
        instances = [i if i.job_id else Instance.from_job(i.digest, next(started)) for i in instances]
        state.add(instances=[instance.to_json() for instance in instances])
        return instances

    def on_first_failure(self, group: tracking.RunGroup) -> bool:
        """Stop the other instances."""
        for failure in group.failures.values():
            self.log.error(failure)
        unfinished = group.unfinished
        group.stopped.update(unfinished)
        return self.stop_runs(unfinished, "another instance failed")
