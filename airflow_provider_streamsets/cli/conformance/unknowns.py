"""The questions of the check: the unknowns of contract section 18, and what answers each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_streamsets.cli.conformance import probes
from airflow_provider_streamsets.cli.conformance.hub import Survey


@dataclass(frozen=True)
class Unknown:
    """
    A question about Control Hub, answered by a probe, by the probes with a job, by both, or by neither.

    :param section: number of the section, mostly of contract section 18
    :param question: the question
    :param variants: names of the sandbox's variants that depend on the answer
    :param probe: reads the answer
    :param with_job: variants, or ``facts``, that only the probes with a job can answer
    :param not_probed: why there is no probe
    """

    section: str
    question: str
    variants: tuple[str, ...] = ()
    probe: Callable[[Survey], probes.Answer] | None = None
    with_job: tuple[str, ...] = ()
    not_probed: str = ""


UNKNOWNS = (
    Unknown("3", "Which API documents are published?", (), probes.api_documents),
    Unknown("15", "How is an unknown credential refused?", (), probes.wrong_credential),
    Unknown("18.1", "What does duplicate return?", ("duplicate_body",), with_job=("duplicate_body",)),
    Unknown("18.2", "What do actions return?", ("bulk_body", "start_body"), with_job=("bulk_body", "start_body")),
    Unknown("18.3", "Does one invalid id prevent a bulk action?", ("bulk_partial",), with_job=("bulk_partial",)),
    Unknown("18.4", "Which errors report unknown jobs and wrong states?", ("unknown_job", "wrong_state"),
            probes.unknown_job, ("wrong_state",)),
    Unknown("18.5", "What is the status of a job that has never run?", ("never_run_status",), probes.never_run_status),
    Unknown("18.6", "How do bulk reads show missing statuses?", ("bulk_missing",), probes.bulk_missing),
    Unknown("18.7", "Are the parameters of a start merged, and stored?", ("start_parameters", "start_parameters_kept"),
            with_job=("start_parameters_kept",),
            not_probed="start_parameters: no call returns the parameters of a run"),
    Unknown("18.8", "Which color has a run in transition, or acknowledged?",
            ("color_in_transition", "color_after_acknowledge"), probes.color_after_acknowledge,
            ("color_in_transition",)),
    Unknown("18.9", "How does a run end that fails at its start?", ("start_failure",), probes.start_failure),
    Unknown("18.10", "When does an error need an acknowledgement?", ("needs_ack_default",),
            not_probed="it would create a job"),
    Unknown("18.11", "Does an upgrade of an active job start a new run?", ("upgrade_active",),
            with_job=("upgrade_active",)),
    Unknown("18.12", "In which direction are runs listed?", ("runs_order",), probes.runs_order),
    Unknown("18.13", "What does a SAQL search with length 0 return?", ("saql_len_zero",), probes.saql_len_zero),
    Unknown("18.14", "What does filterText match?", ("filter_text",), probes.filter_text),
    Unknown("18.15", "Do lists without jobTemplate contain templates?", ("job_template_omitted",),
            probes.job_template_omitted),
    Unknown("18.16", "Do the numbers of template instances restart?", ("counter",), probes.counter),
    Unknown("18.17", "Which fields have the latest committed offsets?", (), probes.latest_committed_offsets),
    Unknown("18.18", "What status follows an offset upload to a job that has never run?",
            not_probed="it would change an offset"),
    Unknown("18.19", "How do record counts show runs without metrics?",
            ("counts_of_latest", "counts_key_0", "counts_of_earlier"), probes.record_counts),
    Unknown("18.20", "What is in an export archive?", not_probed="archives contain whole pipelines"),
    Unknown("18.21", "What are the limits of requests?", not_probed="it would overload Control Hub"),
    Unknown("18.22", "How long are runs kept?", (), probes.retention),
    Unknown("18.23", "What does the tunnel to a disconnected engine return?", ("tunnel_disconnected",),
            probes.tunnel_disconnected),
    Unknown("18.24", "Can deleted jobs be read?", ("deleted_instances",), probes.deleted_instances),
    Unknown("18.25", "Is the header X-SS-REST-CALL required?", not_probed="the client always sends it"),
    Unknown("18.26", "What else does the login service return?",
            not_probed="it is another host, which the connection need not use"),
    Unknown("18.27", "Where are the pages of jobs and engines?", not_probed="they need a login in a browser"),
    Unknown("18.28", "Can an activating or inactive job be stopped?", ("stop_while_activating", "stop_inactive"),
            with_job=("stop_while_activating", "stop_inactive")),
    Unknown("18.29", "Can a job without an error be acknowledged?", ("acknowledge_elsewhere",),
            with_job=("acknowledge_elsewhere",)),
    Unknown("18.30", "How does a forced stop end?", ("forced_stop_end",), with_job=("forced_stop_end",)),
    Unknown("18.31", "Do status reads lag behind a start?", ("start_status_lag",), with_job=("start_status_lag",)),
    Unknown("18.32", "Which run events have a user?", ("event_users",), probes.event_users),
    Unknown("18.33", "Are event times those of the engine?", ("engine_clock_behind",), probes.engine_clock),
    Unknown("18.34", "Can a job without failover be balanced?", ("balance_without_failover",),
            not_probed="it is not among the actions of the check"),
    Unknown("18.35", "Does the status have record counts?", ("counts_on_status",), probes.counts_on_status),
    Unknown("18.36", "What are the metrics of a run that has none?", ("no_metrics",), probes.no_metrics),
    Unknown("18.37", "In which order are jobs read by id?", ("jobs_by_ids",), probes.jobs_by_ids),
    Unknown("18.38", "What does an unknown engine return?", ("engine_unknown",), probes.engine_unknown),
    Unknown("18.39", "Do Data Collector jobs have log messages?", ("log_messages",), probes.log_messages),
    Unknown("18.40", "How does SAQL escape quotation marks?", (), probes.saql_quotes),
    Unknown("18.41", "How late are the final metrics saved?", ("metrics_lag",), probes.metrics_lag),
    Unknown("18.42", "Does an upgrade return jobs that are up to date?", with_job=("facts",)),
    Unknown("18.43", "Do tags change the time of modification?", not_probed="it would change the tags of a job"),
    Unknown("18.44", "Which form has the time series of record counts?", (), probes.time_series),
    Unknown("18.45", "How are webhooks called?", not_probed="it needs a subscription, and an address to call"),
)  # fmt: skip
"""All questions, in the order of their sections."""
