"""
Variants: the plausible behaviours where that of Control Hub is unknown.

Contract, section 18, lists the unknowns. A client should work with every value.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Value = TypeVar("Value")

REPORT_FORMAT = 1
"""Format of the reports with variants that ``airflow streamsets check --conformance`` writes."""


class VariantError(ValueError):
    """An unknown variant, or an invalid value of a variant."""


def variant(default: Value, meaning: str) -> Value:
    """
    Declare a variant.

    :param default: the default value.
    :param meaning: the meaning of the variant and its values, one sentence for ``--list-variants``.
    """
    return dataclasses.field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Variants:
    """The selected behaviours. The first value of each variant is the default."""

    # With "empty", requests that contain the id in their body, such as bulk actions, are answered with 404. Bulk reads
    # always omit the job.
    unknown_job: Literal["empty", "404", "400", "403", "500", "foreign_code"] = variant(
        "empty",
        "Response if the path or query contains the id of an unknown job: 200 without a body, an error with this "
        "status, or 404 with a code that does not start with JOBRUNNER_.",
    )
    wrong_state: Literal["400", "409", "500"] = variant(
        "400", "HTTP status if the state of the job does not allow the action, for example starting an active job."
    )
    never_run_status: Literal["empty", "null", "object"] = variant(
        "empty", "currentStatus of a job that never ran: no body, null, or a status with run count 0."
    )
    bulk_missing: Literal["omit", "null"] = variant(
        "omit", "Jobs that never ran or do not exist in the response to POST jobs/status: omitted or null."
    )
    bulk_partial: Literal["all_or_nothing", "partial"] = variant(
        "all_or_nothing",
        "A bulk action that is not allowed for one id returns an error and is applied to no job, or to all others.",
    )
    bulk_body: Literal["empty", "list"] = variant(
        "empty", "Response to bulk actions: no body, or the list of job statuses."
    )
    start_body: Literal["status", "empty"] = variant(
        "status", "Response to the start of one job: its status, or no body."
    )
    start_status_lag: Literal["none", "previous"] = variant(
        "none",
        "Run in currentStatus and jobs/status after a start: the new one at once, or the previous one for another half "
        "second.",
    )
    start_parameters: Literal["replace", "merge"] = variant(
        "replace", "The parameters of a start replace the stored ones, or are merged with them."
    )
    start_parameters_kept: Literal["not_stored", "stored"] = variant(
        "not_stored", "Whether the parameters of a start are stored in the job."
    )
    start_failure: Literal["inactive", "activation_error", "stays_red"] = variant(
        "inactive",
        "A pipeline that fails at start: ACTIVE and RED and then inactive, ACTIVATION_ERROR at once, or ACTIVE and RED "
        "until it is stopped, with the reason only in acknowledgements and reports of the engine.",
    )
    stop_while_activating: Literal["refused", "accepted"] = variant(
        "refused", "Whether a job that is still ACTIVATING can be stopped."
    )
    stop_inactive: Literal["refused", "accepted"] = variant(
        "refused", "Response to the stop of a job that is not running."
    )
    acknowledge_elsewhere: Literal["no_effect", "refused"] = variant(
        "no_effect", "Response to the acknowledgement of a job that has no error to acknowledge."
    )
    forced_stop_end: Literal["inactive", "inactive_error"] = variant(
        "inactive",
        "Status of a run after a forced stop; inactive_error must be acknowledged whatever the settings of the job.",
    )
    # The log of starts does not include the successor.
    upgrade_active: Literal["same_run", "successor"] = variant(
        "same_run",
        "Upgrade of an active job: its run continues with the new pipeline version, or ends and a successor with the "
        "next run count and an upgradeStatus starts.",
    )
    event_users: Literal["person", "starter_on_all"] = variant(
        "person",
        "User of run events: the user who caused the event, if any, or the user who started the run on every event.",
    )
    engine_clock_behind: float = variant(
        0.0, "Seconds of wall time by which an engine's times of run events lag behind those of Control Hub."
    )
    balance_without_failover: Literal["no_effect", "refused"] = variant(
        "no_effect", "Response to the balancing of an active job with failover disabled."
    )
    color_in_transition: Literal["GREEN", "GRAY"] = variant(
        "GREEN", "Color while ACTIVATING or DEACTIVATING without an error."
    )
    color_after_acknowledge: Literal["GRAY", "RED"] = variant("GRAY", "Color of an acknowledged run.")
    runs_order: Literal["desc", "asc"] = variant("desc", "Direction of saql/jobs/search/{id}/runs by run count.")
    # The SDK relies on "all" when it selects a run by its index in job_history.
    saql_len_zero: Literal["all", "none"] = variant("all", "Result of a SAQL search with len=0, the default.")
    filter_text: Literal["substring", "exact"] = variant("substring", "How filterText is compared with names.")
    job_template_omitted: Literal["all", "instances"] = variant(
        "all", "Result of GET jobs without jobTemplate: jobs and job templates, or jobs only."
    )
    jobs_by_ids: Literal["asked", "stored"] = variant("asked", "Order of POST jobs: as requested, or as stored.")
    # The SDK cannot read a response that has other entries but not "0".
    counts_of_latest: Literal["previous", "absent", "zeros"] = variant(
        "previous",
        'Entry "0" of the record counts while the latest run has no saved metrics: the previous run, absent, or zeros.',
    )
    # If a run is omitted, the run count that clients compute for entry "0" can be wrong.
    counts_of_earlier: Literal["zeros", "omit", "gap"] = variant(
        "zeros",
        "An earlier run without saved metrics in the record counts: zeros, omitted, or omitted together with its key.",
    )
    counts_key_0: Literal["latest", "missing"] = variant(
        "latest",
        'Key "0" of the record counts: the latest run, or missing, with the latest run numbered like the others.',
    )
    # The time series and the metric registry have the counts in both cases.
    counts_on_status: Literal["saved", "never"] = variant(
        "saved",
        "Record counts in the status of a run: the saved ones, or always 0 with lastReportedMetricTime 0.",
    )
    no_metrics: Literal["404", "empty"] = variant(
        "404", "Metrics of a run that does not exist or has no saved metrics: an error, or an empty registry."
    )
    engine_unknown: Literal["empty", "404"] = variant(
        "empty", "Response to GET sdc/{id} of an unknown engine: no body, or an error."
    )
    tunnel_disconnected: Literal["empty", "no_instance", "error"] = variant(
        "empty", "Response to GET tunneling/rest/connection/{id} of an engine that does not respond."
    )
    needs_ack_default: Literal["true", "false"] = variant(
        "true", "needsManualAck of jobs that are created, imported or seeded without a value for it."
    )
    duplicate_body: Literal["empty", "list"] = variant(
        "empty", "Response to the duplication of a job: no body, or the list of copies."
    )
    counter: Literal["continue", "restart"] = variant(
        "continue",
        "Numbers in the names of template instances: continued from the highest one, or from 1 at every start.",
    )
    deleted_instances: Literal["gone", "readable"] = variant(
        "gone", "GET job/{id} of an instance deleted after completion: an unknown job, or the deleted one."
    )
    log_messages: Literal["events", "empty"] = variant(
        "events", "Result of job/logMessages: a message per event of the pipeline, or always an empty list."
    )
    metrics_lag: float = variant(2.0, "Seconds between the end of a pipeline and the save of its final metrics.")

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
    def meanings(cls) -> dict[str, str]:
        """Return the meaning of each variant in one sentence."""
        return {field.name: field.metadata["meaning"] for field in dataclasses.fields(cls)}

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
