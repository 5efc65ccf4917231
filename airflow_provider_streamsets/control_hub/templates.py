"""Job templates: starting instances of them (contract, section 9)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pendulum

from airflow_provider_streamsets.control_hub import starts
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubBulkError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    may_have_been_executed,
)
from airflow_provider_streamsets.control_hub.models import Job
from airflow_provider_streamsets.control_hub.paging import pages
from airflow_provider_streamsets.control_hub.services import Service, in_path
from airflow_provider_streamsets.control_hub.transport import Repeat
from airflow_provider_streamsets.control_hub.unclear import PATIENCE, find_out
from airflow_provider_streamsets.control_hub.wire import Reader, as_list

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

log = logging.getLogger(__name__)

InstanceSuffix = Literal["COUNTER", "TIME_STAMP", "PARAM_VALUE"]
INSTANCE_SUFFIXES: tuple[InstanceSuffix, ...] = ("COUNTER", "TIME_STAMP", "PARAM_VALUE")

_HISTORY_LENGTH = 1000


class Templates:
    """Job templates; reached as ``client.templates``."""

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def start(
        self,
        template: Job,
        runtime_parameters: Sequence[Mapping[str, Any]],
        *,
        name: str | None = None,
        description: str | None = None,
        suffix: InstanceSuffix = "COUNTER",
        suffix_parameter: str | None = None,
        tags: Sequence[str] | None = None,
        attach_to_template: bool = True,
        delete_after_completion: bool = False,
        inherit_permissions: bool = False,
        announce: Callable[[TemplateStart], None] | None = None,
    ) -> list[Job]:
        """
        Create instances of a job template and start them, in one request.

        Every call creates instances, so it is never repeated: after an unclear end, the template's run history tells
        whether there is a start with the same parameters that was not there before.

        :param template: the template as just read
        :param runtime_parameters: for each instance the values that replace the template's of the same names
        :param name: instances are named ``<name> - <suffix>``; None is the name of the template. Names can repeat
        :param description: description of the instances; None is that of the template
        :param suffix: ``COUNTER`` (1, 2, ...), ``TIME_STAMP`` (time of the start) or ``PARAM_VALUE``
        :param suffix_parameter: the parameter whose value is the suffix, for ``PARAM_VALUE``
        :param tags: tags of the instances, without organization; None is those of the template
        :param attach_to_template: instances follow changes of the template, cannot be edited or exported, and are
            deleted with it
        :param delete_after_completion: Control Hub deletes each instance when its run is over; what the run came to can
            then not be found out
        :param inherit_permissions: give the instances the permissions of the template
        :param announce: called before the call with what it is to start, so that it can be written down; what it raises
            ends the start before anything is sent
        :returns: the instances, in the order of `runtime_parameters`
        :raises ControlHubConfigurationError: if the parameters cannot be right; nothing was started
        :raises ControlHubBulkError: if Control Hub has started fewer than that
        :raises ControlHubUnavailableError: if Control Hub cannot be reached; with ``maybe_executed`` set, it is not
            known whether instances were started
        """
        check_template_start(template, runtime_parameters, suffix, suffix_parameter)
        values = [{**template.runtime_parameters, **own} for own in runtime_parameters]
        body = {
            "namePostfixType": suffix,
            "paramName": suffix_parameter,
            "runtimeParametersList": values,
            "name": name,
            "description": description,
            "rawJobTags": None if tags is None else list(tags),
            "attachToTemplate": attach_to_template,
            "deleteAfterCompletion": delete_after_completion,
        }
        intent = self._intent(template, who_is_known=announce is not None)
        if announce is not None:
            announce(intent)
        what = f"start {len(runtime_parameters)} instances of job template {template.label}"
        error: ControlHubError | None = None
        try:
            answer = self._client.call(
                "POST",
                Service.JOBRUNNER,
                f"/v1/job/{in_path(template.job_id)}/createAndStartJobInstances",
                what=what,
                params={"inheritPermissions": str(inherit_permissions).lower()},
                body=body,
                repeat=Repeat.NEVER,
            )
            ids = [_job_id(entry) for entry in as_list(answer, "instances of a job template")]
        except ControlHubError as unclear:
            if not may_have_been_executed(unclear):
                raise
            error, ids = unclear, []
            log.warning("%s Looking whether the instances were started all the same.", error)
        if ids and len(ids) < len(values):
            raise ControlHubBulkError(
                f"Control Hub has started only {len(ids)} of {len(values)} instances of job template {template.label}.",
                done=dict.fromkeys(ids, 1),
            )
        if ids:
            try:
                return _in_order(self._instances(template, ids), values)
            except ControlHubError as unread:
                # They run, so that their ids are worth more than the rest.
                log.warning("The instances of job template %s were started. %s", template.label, unread)
                return [_unread(template, job_id) for job_id in ids]
        return self._started_after_all(template, intent, values, error)

    def _intent(self, template: Job, *, who_is_known: bool) -> TemplateStart:
        before = max((start.number for start in self._starts(template)), default=0)
        user = self._client.current_user().user_id if who_is_known else None
        return TemplateStart(template.job_id, before, user, starts.wall_clock() + self._client.clock_ahead)

    def instances_of(
        self, template: Job, intent: TemplateStart, runtime_parameters: Sequence[Mapping[str, Any]]
    ) -> list[Job]:
        """
        Return the instances that a start which was announced has made, in the order of the parameters.

        Others may start instances of the same template at the same time, so a start counts only if it was made with the
        same parameters by the same user.

        :param template: the template as just read
        :param intent: the start
        :param runtime_parameters: the values that it gave
        :returns: an empty list if there is no such start
        :raises ControlHubUnavailableError: if there are several
        """
        wanted = [{**template.runtime_parameters, **own} for own in runtime_parameters]
        found = self._made(template, intent, wanted)
        if len(found) > 1:
            raise ControlHubUnavailableError(
                f"{len(found)} starts of job template {template.label} with the same parameters have been made since "
                "one was announced; look at its runs before you start it again.",
                maybe_executed=True,
            )
        return _in_order(found[0], wanted) if found else []

    def read_instances(self, template: Job, job_ids: Sequence[str]) -> list[Job]:
        """Return instances of a template by their ids; of one that does not exist any more only the id is known."""
        return self._instances(template, job_ids)

    def _made(self, template: Job, intent: TemplateStart, wanted: Sequence[Mapping[str, Any]]) -> list[list[Job]]:
        intent = intent if intent.user else replace(intent, user=self._client.current_user().user_id)
        made = [s for s in self._starts(template) if intent.explains(s.number, s.user, s.time) and s.job_ids]
        candidates = [self._instances(template, start.job_ids) for start in made]
        return [instances for instances in candidates if _have_parameters(instances, wanted)]

    def _instances(self, template: Job, ids: Sequence[str]) -> list[Job]:
        found = self._client.jobs.get_many(ids)
        # One that is deleted after completion may be gone already.
        return [found.get(job_id) or _unread(template, job_id) for job_id in ids]

    def _started_after_all(
        self,
        template: Job,
        intent: TemplateStart,
        wanted: Sequence[Mapping[str, Any]],
        error: ControlHubError | None,
    ) -> list[Job]:
        """Return the instances of a start whose answer did not name them."""
        found = find_out(
            self._client,
            lambda: self._made(template, intent, wanted),
            question="Whether instances were started",
            error=error,
        )
        if len(found) == 1:
            log.info("%d instances of job template %s were started.", len(found[0]), template.label)
            return _in_order(found[0], wanted)
        if isinstance(error, ControlHubRejectedError) and not found:
            raise error
        said = (
            f"{len(found)} starts with the same parameters have been made since"
            if found
            else f"No start with these parameters has appeared within {PATIENCE:g} s"
        )
        raise ControlHubUnavailableError(
            f"{error or 'Control Hub accepted the call without naming an instance.'} {said}; look at the runs of job "
            f"template {template.label} before you start it again.",
            http_status=error.http_status if error else None,
            maybe_executed=True,
        )

    def _starts(self, template: Job) -> list[_Start]:
        def read_page(offset: int, _: int) -> Any:
            return self._client.call(
                "GET",
                Service.JOBRUNNER,
                f"/v1/job/{in_path(template.job_id)}/runHistory",
                what=f"read the starts of job template {template.label}",
                params={"offset": offset, "len": _HISTORY_LENGTH, "withTotalCount": "true"},
                needs_body=True,
            )

        # The direction of the list is not known, so the latest may be on any page.
        return [_Start.from_wire(entry) for entry in pages(read_page, "starts of a template")]


@dataclass(frozen=True)
class TemplateStart:
    """
    A start of instances that is about to be asked for.

    :param template_id: id of the job template
    :param after: number of the template's latest start before
    :param user: id of the user who asks
    :param at: when, in epoch seconds of Control Hub's clock
    """

    template_id: str
    after: int
    user: str | None
    at: float | None = None

    def explains(self, number: int, user: str | None, time: pendulum.DateTime | None) -> bool:
        """Return whether this can have been a start that has that number, user and time."""
        if number <= self.after or user not in (self.user, None):
            return False
        return time is None or self.at is None or abs(time.timestamp() - self.at) <= starts.TOLERANCE


@dataclass(frozen=True)
class _Start:
    """One start of a job template, from its run history."""

    number: int
    user: str | None
    time: pendulum.DateTime | None
    job_ids: tuple[str, ...]

    @classmethod
    def from_wire(cls, value: object) -> _Start:
        read = Reader(value, "start of a template")
        return cls(
            read.integer("runCount"), read.optional_text("user"), read.time("time"), read.strings("jobInstanceIds")
        )


def _unread(template: Job, job_id: str) -> Job:
    """Return an instance of which only the id is known."""
    return Job(job_id=job_id, name="", template_id=template.job_id)


def _have_parameters(instances: Sequence[Job], wanted: Sequence[Mapping[str, Any]]) -> bool:
    left = [dict(instance.runtime_parameters) for instance in instances]
    for values in wanted:
        if values not in left:
            return False
        left.remove(dict(values))
    return not left


def _in_order(instances: list[Job], wanted: Sequence[Mapping[str, Any]]) -> list[Job]:
    """Return the instances in the order of the parameters, which the answer need not have."""
    if not _have_parameters(instances, wanted):
        return instances
    left, ordered = list(instances), []
    for values in wanted:
        instance = next(instance for instance in left if dict(instance.runtime_parameters) == values)
        left.remove(instance)
        ordered.append(instance)
    return ordered


def check_template_start(
    template: Job,
    runtime_parameters: Sequence[Mapping[str, Any]],
    suffix: str,
    suffix_parameter: str | None,
) -> None:
    """
    Check that instances of a template can be started as it is asked for.

    :raises ControlHubConfigurationError: if not
    """
    what = f"Cannot start instances of job template {template.label}"
    if not template.is_template:
        raise ControlHubConfigurationError(f"{what}: it is a job, not a template. Start the job itself.")
    if not runtime_parameters:
        raise ControlHubConfigurationError(f"{what}: no instance is asked for.")
    if suffix not in INSTANCE_SUFFIXES:
        raise ControlHubConfigurationError(f"{what}: the suffix must be one of {', '.join(INSTANCE_SUFFIXES)}.")
    if (suffix == "PARAM_VALUE") != (suffix_parameter is not None):
        raise ControlHubConfigurationError(
            f"{what}: the parameter whose value is the suffix must be given with PARAM_VALUE, and only then."
        )
    fixed = set(template.static_parameters)
    for number, values in enumerate(runtime_parameters, start=1):
        overridden = sorted(fixed & set(values))
        if overridden:
            raise ControlHubConfigurationError(
                f"{what}: instance {number} gives a value to {', '.join(overridden)}, which the template does not let "
                "its instances override."
            )
        if suffix_parameter is not None:
            own = {**template.runtime_parameters, **values}
            if suffix_parameter not in own:
                raise ControlHubConfigurationError(
                    f"{what}: the names of instances are to end in the value of parameter '{suffix_parameter}', but "
                    f"instance {number} of {len(runtime_parameters)} has only {', '.join(sorted(own)) or 'none'}."
                )
            if own[suffix_parameter] is None or not str(own[suffix_parameter]).strip():
                raise ControlHubConfigurationError(
                    f"{what}: parameter '{suffix_parameter}' of instance {number} of {len(runtime_parameters)}, which "
                    "is to be the end of its name, is empty."
                )


def _job_id(entry: object) -> str:
    """Return the id of an instance from its status or from its job: which of the two comes depends on the call."""
    read = Reader(entry, "instance of a job template")
    return read.optional_text("jobId") or read.required_text("id")
