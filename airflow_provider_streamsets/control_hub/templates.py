"""Job templates: starting instances of them (contract, section 9)."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pendulum

from airflow_provider_streamsets.control_hub import submission
from airflow_provider_streamsets.control_hub._json import JsonReader, as_list
from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAmbiguousStartError,
    ControlHubBulkError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    may_have_executed,
)
from airflow_provider_streamsets.control_hub.models import Job
from airflow_provider_streamsets.control_hub.paging import paginate
from airflow_provider_streamsets.control_hub.services import Service, quote_id
from airflow_provider_streamsets.control_hub.submission import confirm_effect, search_time
from airflow_provider_streamsets.control_hub.transport import Retry

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

log = logging.getLogger(__name__)

InstanceSuffix = Literal["COUNTER", "TIME_STAMP", "PARAM_VALUE"]
INSTANCE_SUFFIXES: tuple[InstanceSuffix, ...] = ("COUNTER", "TIME_STAMP", "PARAM_VALUE")

_HISTORY_LENGTH = 1000
# Enough to tell the sets of a template apart; a thousand of them are recorded in 20 KB.
_DIGEST_LENGTH = 16
# Seconds between two polls for a start that may still be delivered.
_SEARCH_INTERVAL = 3.0


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
        on_submit: Callable[[TemplateStartIntent], None] | None = None,
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
        :param on_submit: called before the call with what it is to start, so that it can be written down; what it raises
            ends the start before anything is sent
        :returns: the instances, in the order of `runtime_parameters`
        :raises ControlHubConfigurationError: if the parameters cannot be right; nothing was started
        :raises ControlHubBulkError: if Control Hub has started another number of instances
        :raises ControlHubAmbiguousStartError: if the call got no answer, and several starts can be the one it has made
        :raises ControlHubUnavailableError: if Control Hub cannot be reached; with ``maybe_executed`` set, it is not
            known whether instances were started
        """
        check_template_start(template, runtime_parameters, suffix, suffix_parameter)
        values = complete_parameters(template, runtime_parameters)
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
        intent = self._intent(template, values, with_user=on_submit is not None)
        if on_submit is not None:
            on_submit(intent)
        action = f"start {len(runtime_parameters)} instances of job template {template.label}"
        error: ControlHubError | None = None
        try:
            answer = self._client.request(
                "POST",
                Service.JOBRUNNER,
                f"/v1/job/{quote_id(template.job_id)}/createAndStartJobInstances",
                action=action,
                params={"inheritPermissions": str(inherit_permissions).lower()},
                body=body,
                retry=Retry.NEVER,
            )
            entries = as_list(answer, "instances of a job template")
            ids = list(dict.fromkeys(_job_id(entry) for entry in entries))
        except ControlHubError as unclear:
            if not may_have_executed(unclear):
                raise
            error, ids = unclear, []
            log.warning("%s Checking whether the instances were started anyway.", error)
        if ids and len(ids) != len(values):
            only = "only " if len(ids) < len(values) else ""
            raise ControlHubBulkError(
                f"Control Hub has started {only}{len(ids)} of {len(values)} instances of job template "
                f"{template.label}.",
                done=dict.fromkeys(ids, 1),
            )
        if ids:
            try:
                return _order_instances(self._instances(template.job_id, ids), intent.parameters)
            except ControlHubError as unread:
                # They run, so that their ids are worth more than the rest.
                log.warning("The instances of job template %s were started. %s", template.label, unread)
                return [_unread_instance(template.job_id, job_id) for job_id in ids]
        return self._find_submitted(template, intent, error)

    def _intent(self, template: Job, values: Sequence[Mapping[str, Any]], *, with_user: bool) -> TemplateStartIntent:
        before = max((start.number for start in self._starts(template.job_id, template.label)), default=0)
        user = self._client.current_user().user_id if with_user else None
        at = submission.wall_clock() + self._client.clock_skew
        until = submission.latest_delivery(self._client, at)
        return TemplateStartIntent(template.job_id, before, user, at, tuple(map(parameters_digest, values)), until)

    def find_instances(self, intent: TemplateStartIntent, *, wait: bool = False) -> list[Job]:
        """
        Return the instances that a requested start has made, in the order of its sets of parameters.

        Others may start instances of the same template at the same time, so a start counts only if it was made with the
        same parameters by the same user.

        :param intent: the start
        :param wait: wait for the start until no gateway can deliver the call any more
        :returns: an empty list if there is no such start
        :raises ControlHubAmbiguousStartError: if there are several
        """
        found = self._find_starts(intent, intent.template_id)
        left = submission.delivery_time_left(self._client, intent.at) if wait and intent.at is not None else 0.0
        while not found and left > 0:
            self._client.sleep(_SEARCH_INTERVAL)
            left -= _SEARCH_INTERVAL
            found = self._find_starts(intent, intent.template_id)
        if len(found) > 1:
            raise ControlHubAmbiguousStartError(
                f"Cannot tell which start of job template {intent.template_id} this task has made. "
                f"{_describe_starts(found)}. Stop those that nobody needs before you start it again.",
                maybe_executed=True,
            )
        return found[0][1] if found else []

    def _find_starts(self, intent: TemplateStartIntent, label: str) -> list[tuple[_Start, list[Job]]]:
        intent = intent if intent.user else replace(intent, user=self._client.current_user().user_id)
        starts_made = self._starts(intent.template_id, label)
        made = [s for s in starts_made if intent.matches(s.number, s.user, s.time) and s.job_ids]
        candidates = [(start, self._instances(intent.template_id, start.job_ids)) for start in made]
        return [
            (start, _order_instances(instances, intent.parameters))
            for start, instances in candidates
            if _parameters_match(instances, intent.parameters)
        ]

    def _instances(self, template_id: str, ids: Sequence[str]) -> list[Job]:
        found = self._client.jobs.get_many(ids)
        # One that is deleted after completion may be gone already.
        return [found.get(job_id) or _unread_instance(template_id, job_id) for job_id in ids]

    def _find_submitted(self, template: Job, intent: TemplateStartIntent, error: ControlHubError | None) -> list[Job]:
        """Return the instances of a start whose answer did not name them."""
        found = confirm_effect(
            self._client,
            lambda: self._find_starts(intent, template.label),
            subject="Whether instances were started",
            error=error,
        )
        if len(found) == 1:
            ((_, instances),) = found
            log.info("%d instances of job template %s were started.", len(instances), template.label)
            return instances
        if isinstance(error, ControlHubRejectedError) and not found:
            raise error
        seconds = search_time(self._client, error)
        said = _describe_starts(found) if found else f"No start with these parameters has appeared within {seconds:g} s"
        unclear = ControlHubAmbiguousStartError if found else ControlHubUnavailableError
        raise unclear(
            f"{error or 'Control Hub accepted the call without naming an instance.'} {said}; look at the runs of job "
            f"template {template.label} before you start it again.",
            http_status=error.http_status if error else None,
            maybe_executed=True,
        )

    def _starts(self, template_id: str, label: str) -> list[_Start]:
        def read_page(offset: int, _: int) -> Any:
            return self._client.request(
                "GET",
                Service.JOBRUNNER,
                f"/v1/job/{quote_id(template_id)}/runHistory",
                action=f"read the starts of job template {label}",
                params={"offset": offset, "len": _HISTORY_LENGTH, "withTotalCount": "true"},
                needs_body=True,
            )

        # The direction of the list is not known, so the latest may be on any page.
        return [_Start.from_wire(entry) for entry in paginate(read_page, "starts of a template")]


@dataclass(frozen=True)
class TemplateStartIntent:
    """
    A start of instances that is about to be requested.

    :param template_id: id of the job template
    :param after: number of the template's latest start before
    :param user: id of the user who asks
    :param at: when, in epoch seconds of Control Hub's clock
    :param parameters: digest of each set of parameters, in the order in which they are sent
    :param until: when it can have been made at the latest
    """

    template_id: str
    after: int
    user: str | None
    at: float | None = None
    parameters: tuple[str, ...] = ()
    until: float = math.inf

    def matches(self, number: int, user: str | None, time: pendulum.DateTime | None) -> bool:
        """Return whether this can have been a start that has that number, user and time."""
        if number <= self.after or user not in (self.user, None):
            return False
        if time is None or self.at is None:
            return True
        return self.at - submission.CLOCK_TOLERANCE <= time.timestamp() <= self.until


@dataclass(frozen=True)
class _Start:
    """One start of a job template, from its run history."""

    number: int
    user: str | None
    time: pendulum.DateTime | None
    job_ids: tuple[str, ...]

    @classmethod
    def from_wire(cls, value: object) -> _Start:
        read = JsonReader(value, "start of a template")
        return cls(
            read.integer("runCount"), read.optional_text("user"), read.time("time"), read.strings("jobInstanceIds")
        )


def complete_parameters(template: Job, runtime_parameters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """
    Return the sets of parameters that are sent, each with the template's values for the names that it lacks.

    :param template: the template as just read
    :param runtime_parameters: for each instance the values that replace the template's of the same names
    """
    return [{**template.runtime_parameters, **own} for own in runtime_parameters]


def parameters_digest(values: Mapping[str, Any]) -> str:
    """
    Return a digest of a set of runtime parameters as they are on the wire: tuples are lists there, and names strings.

    :param values: the complete set, as it is sent or as an instance has it
    :raises ControlHubConfigurationError: if it cannot be sent
    """
    try:
        wire = json.loads(json.dumps(dict(values)), parse_float=_number)
    except (TypeError, ValueError, RecursionError) as error:
        raise ControlHubConfigurationError(
            f"Cannot send runtime parameters {join_truncated(sorted(map(str, values)))}: they cannot be written as JSON "
            f"({error})."
        ) from None
    text = json.dumps(wire, sort_keys=True, ensure_ascii=False)
    # As halves of characters are read.
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:_DIGEST_LENGTH]


def _number(text: str) -> float:
    """Return a number, as a whole one if it is: 1.0 and 1 are the same."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _instance_digest(instance: Job) -> str:
    return parameters_digest(instance.runtime_parameters)


def _unread_instance(template_id: str, job_id: str) -> Job:
    """Return an instance of which only the id is known."""
    return Job(job_id=job_id, name="", template_id=template_id)


def _parameters_match(instances: Sequence[Job], digests: Sequence[str]) -> bool:
    """Return whether a start has these sets of parameters, judged by those of its instances that are not deleted."""
    found = Counter(_instance_digest(instance) for instance in instances if instance.name)
    return bool(found) and len(instances) == len(digests) and not found - Counter(digests)


def _order_instances(instances: Sequence[Job], digests: Sequence[str]) -> list[Job]:
    """Return as many instances in the order of the sets of parameters, which the answer need not have."""
    left: dict[str, list[Job]] = {}
    for instance in instances:
        left.setdefault(_instance_digest(instance), []).append(instance)
    ordered = [left[digest].pop(0) if left.get(digest) else None for digest in digests]
    placed = {instance.job_id for instance in ordered if instance is not None}
    # Those that are gone, or whose parameters are stored in another form, keep the order of the answer.
    others = iter([instance for instance in instances if instance.job_id not in placed])
    return [instance or next(others) for instance in ordered]


def _describe_starts(found: Sequence[tuple[_Start, Sequence[Job]]]) -> str:
    """Return that several starts can be the one that was requested, naming them."""
    named = [
        f"start {start.number} ({join_truncated([job.job_id for job in instances], most=3)})"
        for start, instances in sorted(found, key=lambda one: one[0].number)
    ]
    return f"{len(found)} starts with the same parameters have been made since: {join_truncated(named, '; ')}"


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
    action = f"Cannot start instances of job template {template.label}"
    if not template.is_template:
        raise ControlHubConfigurationError(f"{action}: it is a job, not a template. Start the job itself.")
    if not runtime_parameters:
        raise ControlHubConfigurationError(f"{action}: no instance is asked for.")
    if suffix not in INSTANCE_SUFFIXES:
        raise ControlHubConfigurationError(f"{action}: the suffix must be one of {', '.join(INSTANCE_SUFFIXES)}.")
    if (suffix == "PARAM_VALUE") != (suffix_parameter is not None):
        raise ControlHubConfigurationError(
            f"{action}: the parameter whose value is the suffix must be given with PARAM_VALUE, and only then."
        )
    fixed = set(template.static_parameters)
    for number, values in enumerate(runtime_parameters, start=1):
        overridden = sorted(fixed & set(values))
        if overridden:
            raise ControlHubConfigurationError(
                f"{action}: instance {number} gives a value to {', '.join(overridden)}, which the template does not let "
                "its instances override."
            )
        if suffix_parameter is not None:
            own = {**template.runtime_parameters, **values}
            if suffix_parameter not in own:
                raise ControlHubConfigurationError(
                    f"{action}: the names of instances are to end in the value of parameter '{suffix_parameter}', but "
                    f"instance {number} of {len(runtime_parameters)} has only {', '.join(sorted(own)) or 'none'}."
                )
            if own[suffix_parameter] is None or not str(own[suffix_parameter]).strip():
                raise ControlHubConfigurationError(
                    f"{action}: parameter '{suffix_parameter}' of instance {number} of {len(runtime_parameters)}, which "
                    "is to be the end of its name, is empty."
                )


def _job_id(entry: object) -> str:
    """Return the id of an instance from its status or from its job: which of the two comes depends on the call."""
    read = JsonReader(entry, "instance of a job template")
    return read.optional_text("jobId") or read.required_text("id")
