"""
Where the behaviour of Control Hub is not known, every plausible one, to be switched between.

Contract, section 18, lists the gaps. A client that is right under each value here needs no luck.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any, Literal


class VariantError(ValueError):
    """An unknown variant or a value it does not have."""


@dataclass(frozen=True)
class Variants:
    """What the sandbox answers where the real answer is not known; the defaults come first."""

    unknown_job: Literal["empty", "404", "400", "403", "500", "foreign_code"] = "empty"
    """A call whose path or query names a job that does not exist: 200 without a body, an error of that status, or a 404
    whose code does not begin with ``JOBRUNNER_``. With ``empty``, calls that name it in their body, such as bulk
    actions, are refused with 404. Bulk reads leave it out under each value."""

    wrong_state: Literal["400", "409", "500"] = "400"
    """Status of the refusal when a job's state does not allow the action, for example starting an active job."""

    never_run_status: Literal["empty", "null", "object"] = "empty"
    """``currentStatus`` of a job that never ran: no body, ``null``, or a status with run count 0."""

    bulk_missing: Literal["omit", "null"] = "omit"
    """Jobs that never ran or do not exist, in the answer of ``POST jobs/status``."""

    bulk_partial: Literal["all_or_nothing", "partial"] = "all_or_nothing"
    """A bulk action with an id that is refused: nothing is done, or everything that can be; a refusal either way."""

    bulk_body: Literal["empty", "list"] = "empty"
    """Answer of bulk actions: no body, or the list of job statuses."""

    start_body: Literal["status", "empty"] = "status"
    """Answer of starting one job: its status, or no body."""

    start_status_lag: Literal["none", "previous"] = "none"
    """``currentStatus`` and ``jobs/status`` show the new run at once, or still the one before for half a second."""

    start_parameters: Literal["replace", "merge"] = "replace"
    """Parameters given to a start replace the stored ones, or are merged with them."""

    start_parameters_kept: Literal["not_stored", "stored"] = "not_stored"
    """Whether a start also stores its parameters in the job."""

    start_failure: Literal["inactive", "activation_error", "stays_red"] = "inactive"
    """A pipeline that fails at start: ACTIVE/RED and then inactive, ``ACTIVATION_ERROR`` at once, or ACTIVE/RED until
    it is stopped, with the reason only in what the engine has answered and reports."""

    stop_while_activating: Literal["refused", "accepted"] = "refused"
    """Stopping a job that is still ``ACTIVATING``."""

    stop_inactive: Literal["refused", "accepted"] = "refused"
    """Stopping a job that is not running."""

    acknowledge_elsewhere: Literal["no_effect", "refused"] = "no_effect"
    """Acknowledging a job that has no error to acknowledge."""

    forced_stop_end: Literal["inactive", "inactive_error"] = "inactive"
    """Status of a run that was ended by a forced stop; ``inactive_error`` must be acknowledged, whatever the job
    says."""

    upgrade_active: Literal["same_run", "successor"] = "same_run"
    """Upgrading an active job: its run continues with the new pipeline version, or ends, and a successor with the next
    run count and an ``upgradeStatus`` is started. The log of starts does not list the successor."""

    event_users: Literal["person", "starter_on_all"] = "person"
    """User of run events: the person who caused the event, none where nobody did, or on every event the user who
    started the run."""

    engine_clock_behind: float = 0.0
    """Seconds by which the times of run events that an engine reports are earlier than those of the hub. In wall time,
    whatever the time scale."""

    balance_without_failover: Literal["no_effect", "refused"] = "no_effect"
    """Balancing an active job that has failover not enabled."""

    color_in_transition: Literal["GREEN", "GRAY"] = "GREEN"
    """Color while ``ACTIVATING`` or ``DEACTIVATING`` without an error."""

    color_after_acknowledge: Literal["GRAY", "RED"] = "GRAY"
    """Color of an acknowledged run."""

    runs_order: Literal["desc", "asc"] = "desc"
    """Direction of ``saql/jobs/search/{id}/runs``."""

    saql_len_zero: Literal["all", "none"] = "all"
    """What a SAQL search returns for ``len=0``, its default. The SDK relies on it where it picks a run by its place
    in ``job_history``."""

    filter_text: Literal["substring", "exact"] = "substring"
    """What ``filterText`` compares names for."""

    job_template_omitted: Literal["all", "instances"] = "all"
    """What ``GET jobs`` lists without ``jobTemplate``."""

    jobs_by_ids: Literal["asked", "stored"] = "asked"
    """Order of ``POST jobs``: as asked for, or as stored; unknown ids are left out."""

    counts_of_latest: Literal["previous", "absent", "zeros"] = "previous"
    """Entry ``"0"`` of the record counts while the latest run has saved nothing: the run before it, absent, or zeros.

    The SDK cannot read the answer at all if other entries are there and this one is absent.
    """

    counts_of_earlier: Literal["zeros", "omit", "gap"] = "zeros"
    """An earlier run that saved nothing, in the record counts: zeros, left out, or left out together with its key.
    Where it is left out, the run count that clients have to compute for entry ``"0"`` can be wrong."""

    counts_key_0: Literal["latest", "missing"] = "latest"
    """Key ``"0"`` of the record counts: the latest run, or missing, so that the latest run is numbered like the others
    and has its run count."""

    counts_on_status: Literal["saved", "never"] = "saved"
    """Record counts in the status of a run: the saved ones, or always 0, with ``lastReportedMetricTime`` 0. The time
    series and the registry have them either way."""

    no_metrics: Literal["404", "empty"] = "404"
    """The metrics of a run that does not exist or has saved nothing: an error, or a registry with nothing in it."""

    engine_unknown: Literal["empty", "404"] = "empty"
    """``GET sdc/{id}`` of an unknown engine."""

    tunnel_disconnected: Literal["empty", "no_instance", "error"] = "empty"
    """``GET tunneling/rest/connection/{id}`` of an engine that does not respond."""

    needs_ack_default: Literal["true", "false"] = "true"
    """``needsManualAck`` of jobs that are created, imported or seeded without a value for it."""

    duplicate_body: Literal["empty", "list"] = "empty"
    """Answer of duplicating a job: no body, or the list of copies."""

    counter: Literal["continue", "restart"] = "continue"
    """Numbers in the names of template instances: after the highest there is, or from 1 at every start."""

    deleted_instances: Literal["gone", "readable"] = "gone"
    """``GET job/{id}`` of an instance that was deleted after its completion: an unknown job, or a deleted one."""

    log_messages: Literal["events", "empty"] = "events"
    """``job/logMessages``: a message per event of the pipeline, or always an empty list."""

    metrics_lag: float = 2.0
    """Seconds from a pipeline's end until its final metrics are saved."""

    def changed(self, changes: dict[str, Any]) -> Variants:
        """
        Return these variants with some of them changed.

        :param changes: values by name; text is accepted for numbers.
        :raises VariantError: for an unknown name or value.
        """
        checked: dict[str, Any] = {name: self._checked(name, value) for name, value in changes.items()}
        return dataclasses.replace(self, **checked)

    def as_dict(self) -> dict[str, str | float]:
        """Return the values by name."""
        return dataclasses.asdict(self)

    @classmethod
    def choices(cls) -> dict[str, tuple[str, ...]]:
        """Return the values that every variant can have, the default first; a number has none."""
        hints = typing.get_type_hints(cls)
        return {field.name: tuple(typing.get_args(hints[field.name])) for field in dataclasses.fields(cls)}

    @classmethod
    def _checked(cls, name: str, value: Any) -> str | float:
        known = cls.choices()
        if name not in known:
            raise VariantError(f"there is no variant {name!r}; there are: {', '.join(sorted(known))}")
        choices = known[name]
        if choices:
            if str(value) not in choices:
                raise VariantError(f"variant {name} can be {' or '.join(choices)}, not {value!r}")
            return str(value)
        try:
            number = -1.0 if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number < float("inf"):
            raise VariantError(f"variant {name} must be a number of seconds, not {value!r}")
        return number
