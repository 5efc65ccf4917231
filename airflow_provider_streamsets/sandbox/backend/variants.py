"""
Variants: the plausible behaviours where that of Control Hub is unknown.

Contract, section 18, lists the unknowns. A client should work with every value.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any, Literal


class VariantError(ValueError):
    """An unknown variant, or an invalid value of a variant."""


@dataclass(frozen=True)
class Variants:
    """The selected behaviours. The first value of each variant is the default."""

    unknown_job: Literal["empty", "404", "400", "403", "500", "foreign_code"] = "empty"
    """Response if the path or query contains the id of an unknown job: 200 without a body, an error with this status,
    or 404 with a code that does not start with ``JOBRUNNER_``. With ``empty``, requests that contain the id in their
    body, such as bulk actions, are answered with 404. Bulk reads always omit the job."""

    wrong_state: Literal["400", "409", "500"] = "400"
    """HTTP status if the state of the job does not allow the action, for example starting an active job."""

    never_run_status: Literal["empty", "null", "object"] = "empty"
    """``currentStatus`` of a job that never ran: no body, ``null`` or a status with run count 0."""

    bulk_missing: Literal["omit", "null"] = "omit"
    """Jobs that never ran or do not exist in the response to ``POST jobs/status``."""

    bulk_partial: Literal["all_or_nothing", "partial"] = "all_or_nothing"
    """A bulk action that is not allowed for one id: applied to no job, or to all others; an error in both cases."""

    bulk_body: Literal["empty", "list"] = "empty"
    """Response to bulk actions: no body, or the list of job statuses."""

    start_body: Literal["status", "empty"] = "status"
    """Response to the start of one job: its status, or no body."""

    start_status_lag: Literal["none", "previous"] = "none"
    """``currentStatus`` and ``jobs/status`` show the new run at once, or the previous one for another half second."""

    start_parameters: Literal["replace", "merge"] = "replace"
    """The parameters of a start replace the stored ones, or are merged with them."""

    start_parameters_kept: Literal["not_stored", "stored"] = "not_stored"
    """Whether the parameters of a start are stored in the job."""

    start_failure: Literal["inactive", "activation_error", "stays_red"] = "inactive"
    """A pipeline that fails at start: ``ACTIVE``/``RED`` and then inactive, ``ACTIVATION_ERROR`` at once, or
    ``ACTIVE``/``RED`` until it is stopped, with the reason only in acknowledgements and reports of the engine."""

    stop_while_activating: Literal["refused", "accepted"] = "refused"
    """Stopping a job that is still ``ACTIVATING``."""

    stop_inactive: Literal["refused", "accepted"] = "refused"
    """Stopping a job that is not running."""

    acknowledge_elsewhere: Literal["no_effect", "refused"] = "no_effect"
    """Acknowledging a job that has no error to acknowledge."""

    forced_stop_end: Literal["inactive", "inactive_error"] = "inactive"
    """Status of a run after a forced stop; ``inactive_error`` must be acknowledged regardless of the settings of the
    job."""

    upgrade_active: Literal["same_run", "successor"] = "same_run"
    """Upgrading an active job: its run continues with the new pipeline version, or ends and a successor with the next
    run count and an ``upgradeStatus`` starts. The log of starts does not include the successor."""

    event_users: Literal["person", "starter_on_all"] = "person"
    """User of run events: the user who caused the event, if any, or the user who started the run on every event."""

    engine_clock_behind: float = 0.0
    """Seconds by which the times of run events reported by an engine lag behind those of Control Hub, in wall time."""

    balance_without_failover: Literal["no_effect", "refused"] = "no_effect"
    """Balancing an active job with failover disabled."""

    color_in_transition: Literal["GREEN", "GRAY"] = "GREEN"
    """Color while ``ACTIVATING`` or ``DEACTIVATING`` without an error."""

    color_after_acknowledge: Literal["GRAY", "RED"] = "GRAY"
    """Color of an acknowledged run."""

    runs_order: Literal["desc", "asc"] = "desc"
    """Direction of ``saql/jobs/search/{id}/runs``."""

    saql_len_zero: Literal["all", "none"] = "all"
    """Result of a SAQL search with ``len=0``, the default. The SDK relies on it when it selects a run by its index in
    ``job_history``."""

    filter_text: Literal["substring", "exact"] = "substring"
    """How ``filterText`` is compared with names."""

    job_template_omitted: Literal["all", "instances"] = "all"
    """Result of ``GET jobs`` without ``jobTemplate``."""

    jobs_by_ids: Literal["asked", "stored"] = "asked"
    """Order of ``POST jobs``: as requested, or as stored; unknown ids are omitted."""

    counts_of_latest: Literal["previous", "absent", "zeros"] = "previous"
    """Entry ``"0"`` of the record counts while the latest run has no saved metrics: the previous run, absent, or zeros.

    The SDK cannot read a response that has other entries but not this one.
    """

    counts_of_earlier: Literal["zeros", "omit", "gap"] = "zeros"
    """An earlier run without saved metrics in the record counts: zeros, omitted, or omitted together with its key. If
    it is omitted, the run count that clients compute for entry ``"0"`` can be wrong."""

    counts_key_0: Literal["latest", "missing"] = "latest"
    """Key ``"0"`` of the record counts: the latest run, or missing; the latest run is then numbered like the others and
    has a run count."""

    counts_on_status: Literal["saved", "never"] = "saved"
    """Record counts in the status of a run: the saved ones, or always 0 with ``lastReportedMetricTime`` 0. The time
    series and the metric registry have them in both cases."""

    no_metrics: Literal["404", "empty"] = "404"
    """Metrics of a run that does not exist or has no saved metrics: an error, or an empty registry."""

    engine_unknown: Literal["empty", "404"] = "empty"
    """``GET sdc/{id}`` of an unknown engine."""

    tunnel_disconnected: Literal["empty", "no_instance", "error"] = "empty"
    """``GET tunneling/rest/connection/{id}`` of an engine that does not respond."""

    needs_ack_default: Literal["true", "false"] = "true"
    """``needsManualAck`` of jobs that are created, imported or seeded without a value for it."""

    duplicate_body: Literal["empty", "list"] = "empty"
    """Response to the duplication of a job: no body, or the list of copies."""

    counter: Literal["continue", "restart"] = "continue"
    """Numbers in the names of template instances: continued from the highest existing one, or from 1 at every start."""

    deleted_instances: Literal["gone", "readable"] = "gone"
    """``GET job/{id}`` of an instance deleted after completion: an unknown job, or the deleted one."""

    log_messages: Literal["events", "empty"] = "events"
    """Result of ``job/logMessages``: a message per event of the pipeline, or always an empty list."""

    metrics_lag: float = 2.0
    """Seconds between the end of a pipeline and the save of its final metrics."""

    def changed(self, changes: dict[str, Any]) -> Variants:
        """
        Return a copy with changed values.

        :param changes: values by name; numbers may be strings.
        :raises VariantError: for an unknown name or value.
        """
        checked: dict[str, Any] = {name: self._validate(name, value) for name, value in changes.items()}
        return dataclasses.replace(self, **checked)

    def as_dict(self) -> dict[str, str | float]:
        """Return the values by name."""
        return dataclasses.asdict(self)

    @classmethod
    def choices(cls) -> dict[str, tuple[str, ...]]:
        """Return the possible values of each variant, the default first; empty for numbers."""
        hints = typing.get_type_hints(cls)
        return {field.name: tuple(typing.get_args(hints[field.name])) for field in dataclasses.fields(cls)}

    @classmethod
    def _validate(cls, name: str, value: Any) -> str | float:
        known = cls.choices()
        if name not in known:
            raise VariantError(f"Unknown variant {name!r}. Known variants: {', '.join(sorted(known))}.")
        choices = known[name]
        if choices:
            if str(value) not in choices:
                raise VariantError(f"Variant '{name}' must be {' or '.join(choices)}, got {value!r}.")
            return str(value)
        try:
            number = -1.0 if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number < float("inf"):
            raise VariantError(f"Variant '{name}' must be a number of seconds, got {value!r}.")
        return number
