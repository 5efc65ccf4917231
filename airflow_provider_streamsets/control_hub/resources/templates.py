"""Start instances of job templates (contract section 9)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub import submission
from airflow_provider_streamsets.control_hub._json import as_list
from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.choices import INSTANCE_SUFFIXES, InstanceSuffix
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAmbiguousStartError,
    ControlHubBulkError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    may_have_executed,
)
from airflow_provider_streamsets.control_hub.models import (
    Job,
    TemplateStart,
    started_instance_id,
    template_start_request,
)
from airflow_provider_streamsets.control_hub.paging import page_params, paginate
from airflow_provider_streamsets.control_hub.services import Retry, Service, quote_id
from airflow_provider_streamsets.control_hub.submission import (
    TemplateStartIntent,
    complete_parameters,
    confirm_effect,
    parameters_digest,
    search_time,
)

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.resources.jobs import Jobs
    from airflow_provider_streamsets.control_hub.session import Session

log = logging.getLogger(__name__)


_HISTORY_LENGTH = 1000
# Seconds between two searches for a start that may still be delivered.
_SEARCH_INTERVAL = 3.0


class Templates:
    """Manage job templates; available as ``client.templates``."""

    def __init__(self, session: Session, jobs: Jobs) -> None:
        self._session = session
        self._jobs = jobs

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

        Each call creates instances, so it is never repeated. After an ambiguous failure, the client searches the
        template's run history for a new start with the same parameters. Control Hub chooses the names of the instances,
        which are not computed here (contract section 18.16).

        :param template: the template as just read
        :param runtime_parameters: for each instance the values that override the template's
        :param name: instances are named ``<name> - <suffix>``; None is the name of the template. Names can repeat
        :param description: description of the instances; None is that of the template
        :param suffix: ``COUNTER`` (1, 2, ...), ``TIME_STAMP`` (start time) or ``PARAM_VALUE``
        :param suffix_parameter: the parameter whose value is the suffix, for ``PARAM_VALUE``
        :param tags: tags of the instances, without organization; None is those of the template
        :param attach_to_template: instances follow changes of the template, cannot be edited or exported, and are
            deleted with it
        :param delete_after_completion: Control Hub deletes each instance when its run ends; the outcome may then be
            unknown
        :param inherit_permissions: give the instances the permissions of the template
        :param on_submit: called with the intent before the call, to persist it. An exception cancels the start before
            anything is sent
        :returns: the instances, in the order of `runtime_parameters`
        :raises ControlHubConfigurationError: if the parameters are invalid; nothing was started
        :raises ControlHubBulkError: if Control Hub started another number of instances
        :raises ControlHubAmbiguousStartError: if the call got no response and several starts match it
        :raises ControlHubUnavailableError: if Control Hub cannot be reached. If ``maybe_executed`` is set, instances
            may have been started
        """
        check_template_start(template, runtime_parameters, suffix, suffix_parameter)
        values = complete_parameters(template, runtime_parameters)
        body = template_start_request(
            values,
            suffix=suffix,
            suffix_parameter=suffix_parameter,
            name=name,
            description=description,
            tags=tags,
            attach_to_template=attach_to_template,
            delete_after_completion=delete_after_completion,
        )
        intent = self._intent(template, values, with_user=on_submit is not None)
        if on_submit is not None:
            on_submit(intent)
        action = f"start {len(runtime_parameters)} instances of job template {template.label}"
        error: ControlHubError | None = None
        try:
            response = self._session.request(
                "POST",
                Service.JOBRUNNER,
                f"/v1/job/{quote_id(template.job_id)}/createAndStartJobInstances",
                action=action,
                params={"inheritPermissions": str(inherit_permissions).lower()},
                body=body,
                retry=Retry.NEVER,
            )
            entries = as_list(response, "instances of a job template")
            ids = list(dict.fromkeys(started_instance_id(entry) for entry in entries))
        except ControlHubError as caught:
            if not may_have_executed(caught):
                raise
            error, ids = caught, []
            log.warning("%s Checking whether the instances were started anyway.", error)
        if ids and len(ids) != len(values):
            only = "only " if len(ids) < len(values) else ""
            raise ControlHubBulkError(
                f"Control Hub started {only}{len(ids)} of {len(values)} instances of job template {template.label}.",
                done=dict.fromkeys(ids, 1),
            )
        if ids:
            try:
                return _order_instances(self._instances(template.job_id, ids), intent.parameters)
            except ControlHubError as unread:
                # The instances run, so their ids must be returned even without the rest.
                log.warning("Job template %s: the instances were started, but not read. %s", template.label, unread)
                return [_unread_instance(template.job_id, job_id) for job_id in ids]
        return self._find_submitted(template, intent, error)

    def _intent(self, template: Job, values: Sequence[Mapping[str, Any]], *, with_user: bool) -> TemplateStartIntent:
        starts = self._starts(template.job_id, template.label)
        previous_start = max((start.number for start in starts), default=0)
        user = self._session.current_user().user_id if with_user else None
        requested_at = submission.wall_clock() + self._session.clock_skew

        return TemplateStartIntent(
            template.job_id,
            previous_start,
            user,
            requested_at,
            tuple(map(parameters_digest, values)),
            submission.latest_delivery(self._session, requested_at),
        )

    def find_instances(self, intent: TemplateStartIntent, *, wait: bool = False) -> list[Job]:
        """
        Return the instances of a submitted start, in the order of its parameter sets.

        Other users may start instances of the same template meanwhile, so only a start with the same parameters and
        user counts.

        :param intent: the intent of the start
        :param wait: keep searching until no gateway can deliver the call any more
        :returns: an empty list if there is no such start
        :raises ControlHubAmbiguousStartError: if several starts match
        """
        found = self._find_starts(intent, intent.template_id)
        if wait and intent.requested_at is not None:
            max_wait = submission.remaining_delivery_time(self._session, intent.requested_at)
            deadline = Deadline.of_retries(max_wait, self._session.sleep)
            while not found and not deadline.has_passed:
                deadline.sleep(_SEARCH_INTERVAL)
                found = self._find_starts(intent, intent.template_id)
        if len(found) > 1:
            raise ControlHubAmbiguousStartError(
                f"Cannot determine which start of job template {intent.template_id} belongs to this task: "
                f"{_describe_starts(found)}. Stop the surplus instances before starting the template again.",
                maybe_executed=True,
            )
        return found[0][1] if found else []

    def _find_starts(self, intent: TemplateStartIntent, label: str) -> list[tuple[TemplateStart, list[Job]]]:
        intent = intent if intent.user else replace(intent, user=self._session.current_user().user_id)
        starts = self._starts(intent.template_id, label)
        matching = [s for s in starts if intent.matches(s.number, s.user, s.time) and s.job_ids]
        candidates = [(start, self._instances(intent.template_id, start.job_ids)) for start in matching]
        return [
            (start, _order_instances(instances, intent.parameters))
            for start, instances in candidates
            if _parameters_match(instances, intent.parameters)
        ]

    def _instances(self, template_id: str, ids: Sequence[str]) -> list[Job]:
        found = self._jobs.get_many(ids)
        # An instance with 'delete after completion' may be deleted already.
        return [found.get(job_id) or _unread_instance(template_id, job_id) for job_id in ids]

    def _find_submitted(self, template: Job, intent: TemplateStartIntent, error: ControlHubError | None) -> list[Job]:
        """Return the instances of a start whose response did not name them."""
        found = confirm_effect(
            self._session,
            lambda: self._find_starts(intent, template.label),
            subject="whether instances were started",
            error=error,
        )
        if len(found) == 1:
            ((_, instances),) = found
            log.info("Job template %s: %d instances were started.", template.label, len(instances))
            return instances
        if isinstance(error, ControlHubRejectedError) and not found:
            raise error
        seconds = search_time(self._session, error)
        finding = _describe_starts(found) if found else f"No start with these parameters appeared within {seconds:g} s"
        error_class = ControlHubAmbiguousStartError if found else ControlHubUnavailableError
        raise error_class(
            f"{error or 'Control Hub accepted the request, but its response names no instance.'} {finding}. Check the "
            f"runs of job template {template.label} before starting it again.",
            http_status=error.http_status if error else None,
            maybe_executed=True,
        )

    def _starts(self, template_id: str, label: str) -> list[TemplateStart]:
        def read_page(offset: int, _: int) -> Any:
            return self._session.request(
                "GET",
                Service.JOBRUNNER,
                f"/v1/job/{quote_id(template_id)}/runHistory",
                action=f"read the starts of job template {label}",
                params={**page_params(offset, _HISTORY_LENGTH), "withTotalCount": "true"},
                needs_body=True,
            )

        # The order of the list is unknown, so the latest start may be on any page (contract section 18.12).
        return [TemplateStart.from_wire(entry) for entry in paginate(read_page, "starts of a template")]


def _instance_digest(instance: Job) -> str:
    return parameters_digest(instance.runtime_parameters)


def _unread_instance(template_id: str, job_id: str) -> Job:
    """Return an instance of which only the id is known."""
    return Job(job_id=job_id, name="", template_id=template_id)


def _parameters_match(instances: Sequence[Job], digests: Sequence[str]) -> bool:
    """Return whether the parameters of the instances that still exist are among these sets."""
    found = Counter(_instance_digest(instance) for instance in instances if instance.name)
    return bool(found) and len(instances) == len(digests) and not found - Counter(digests)


def _order_instances(instances: Sequence[Job], digests: Sequence[str]) -> list[Job]:
    """Return instances in the order of the parameter sets, which the response may not have."""
    remaining: dict[str, list[Job]] = {}
    for instance in instances:
        remaining.setdefault(_instance_digest(instance), []).append(instance)
    ordered = [remaining[digest].pop(0) if remaining.get(digest) else None for digest in digests]
    placed = {instance.job_id for instance in ordered if instance is not None}
    # Deleted instances, and those whose parameters are stored in another form, keep the order of the response.
    others = iter([instance for instance in instances if instance.job_id not in placed])
    return [instance or next(others) for instance in ordered]


def _describe_starts(found: Sequence[tuple[TemplateStart, Sequence[Job]]]) -> str:
    """Return a message about several starts that match one intent."""
    named = [
        f"start {start.number} ({join_truncated([job.job_id for job in instances], max_items=3)})"
        for start, instances in sorted(found, key=lambda one: one[0].number)
    ]
    return f"{len(found)} starts with the same parameters exist: {join_truncated(named, '; ')}"


def check_template_start(
    template: Job,
    runtime_parameters: Sequence[Mapping[str, Any]],
    suffix: str,
    suffix_parameter: str | None,
) -> None:
    """
    Check the arguments of a template start.

    :raises ControlHubConfigurationError: if they are invalid
    """
    action = f"Cannot start instances of job template {template.label}"
    if not template.is_template:
        raise ControlHubConfigurationError(f"{action}: it is a job, not a job template. Start the job itself.")
    if not runtime_parameters:
        raise ControlHubConfigurationError(f"{action}: 'runtime_parameters' is empty. Set one entry per instance.")
    if suffix not in INSTANCE_SUFFIXES:
        raise ControlHubConfigurationError(
            f"{action}: 'suffix' must be one of {', '.join(INSTANCE_SUFFIXES)}, got {suffix!r}."
        )
    if (suffix == "PARAM_VALUE") != (suffix_parameter is not None):
        raise ControlHubConfigurationError(
            f"{action}: 'suffix_parameter' must be set with suffix PARAM_VALUE, and only with it."
        )
    fixed = set(template.static_parameters)
    for number, values in enumerate(runtime_parameters, start=1):
        overridden = sorted(fixed & set(values))
        if overridden:
            raise ControlHubConfigurationError(
                f"{action}: instance {number} overrides {', '.join(overridden)}, which the template does not allow."
            )
        if suffix_parameter is not None:
            own = {**template.runtime_parameters, **values}
            if suffix_parameter not in own:
                raise ControlHubConfigurationError(
                    f"{action}: suffix parameter '{suffix_parameter}' is missing in instance {number} of "
                    f"{len(runtime_parameters)}, which has {', '.join(sorted(own)) or 'none'}."
                )
            if own[suffix_parameter] is None or not str(own[suffix_parameter]).strip():
                raise ControlHubConfigurationError(
                    f"{action}: suffix parameter '{suffix_parameter}' is empty in instance {number} of "
                    f"{len(runtime_parameters)}."
                )
