"""Base class of the operators that create and update jobs: job settings and pipeline version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from airflow_provider_streamsets import params
from airflow_provider_streamsets.control_hub import models
from airflow_provider_streamsets.operators.base import ControlHubOperator
from airflow_provider_streamsets.params import Parameter

_UNLIMITED = -1
_ON_ALL_ENGINES = -1
# Parameters that are fields of JobSettings, in which `job_tags` are named "tags".
_SETTINGS = (
    "description",
    "engine_labels",
    "job_tags",
    "runtime_parameters",
    "number_of_instances",
    "failover",
    "failover_retries",
    "failover_retries_per_engine",
    "needs_acknowledgement",
    "statistics_interval",
    "force_stop_after",
    "static_parameters",
    "time_series",
)


class ControlHubJobSettingsOperator(ControlHubOperator):
    """
    Base class of operators that set job settings. None leaves a setting unchanged, or at Control Hub's default.

    :param pipeline_version: number of the pipeline version, or ``latest`` (templated)
    :param pipeline_commit_id: commit id of the version, instead of `pipeline_version` (templated)
    :param pipeline_tag: tag of the version, instead of `pipeline_version` (templated)
    :param description: free text (templated)
    :param engine_labels: labels, all of which an engine must have to run the job: a list of strings, or a string with a
        list (templated)
    :param job_tags: tags without organization, for example ``nightly/orders``: a list of strings, or a string with a
        list (templated)
    :param runtime_parameters: values of the pipeline's parameters: a dict, or a string with a JSON object (templated)
    :param number_of_instances: pipeline instances; -1 means one on each matching engine (templated)
    :param failover: restart a pipeline on another engine when its engine is lost (templated)
    :param failover_retries: failover retries over all engines; -1 means unlimited (templated)
    :param failover_retries_per_engine: failover retries on each engine; -1 means unlimited (templated)
    :param needs_acknowledgement: whether an error must be acknowledged before the next run (templated)
    :param statistics_interval: seconds or timedelta between two saves of metrics (templated)
    :param force_stop_after: seconds or timedelta for which Control Hub waits for engines to confirm a stop (templated)
    :param static_parameters: names of parameters that instances of a job template cannot override: a list of strings,
        or a string with a list (templated)
    :param time_series: keep metrics as time series (templated)
    """

    pipeline_version = Parameter(params.version, latest=True)
    pipeline_commit_id = Parameter(params.string)
    pipeline_tag = Parameter(params.string)
    description = Parameter(params.string, empty=True)
    engine_labels = Parameter(params.string_list)
    job_tags = Parameter(params.string_list)
    runtime_parameters = Parameter(params.json_object, optional=True)
    strict_parameters = Parameter(params.boolean)
    number_of_instances = Parameter(params.integer, also=_ON_ALL_ENGINES)
    failover = Parameter(params.boolean, optional=True)
    failover_retries = Parameter(params.integer, minimum=0, also=_UNLIMITED)
    failover_retries_per_engine = Parameter(params.integer, minimum=0, also=_UNLIMITED)
    needs_acknowledgement = Parameter(params.boolean, optional=True)
    statistics_interval = Parameter(params.seconds)
    force_stop_after = Parameter(params.seconds)
    static_parameters = Parameter(params.string_list)
    time_series = Parameter(params.boolean, optional=True)
    template_fields_renderers: ClassVar[dict[str, str]] = {"runtime_parameters": "json"}

    def __init__(
        self,
        *,
        pipeline_version: str | int | None = None,
        pipeline_commit_id: str | None = None,
        pipeline_tag: str | None = None,
        description: str | None = None,
        engine_labels: Sequence[str] | str | None = None,
        job_tags: Sequence[str] | str | None = None,
        runtime_parameters: Mapping[str, Any] | str | None = None,
        strict_parameters: bool | str = False,
        number_of_instances: int | str | None = None,
        failover: bool | str | None = None,
        failover_retries: int | str | None = None,
        failover_retries_per_engine: int | str | None = None,
        needs_acknowledgement: bool | str | None = None,
        statistics_interval: float | timedelta | str | None = None,
        force_stop_after: float | timedelta | str | None = None,
        static_parameters: Sequence[str] | str | None = None,
        time_series: bool | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline_version = pipeline_version
        self.pipeline_commit_id = pipeline_commit_id
        self.pipeline_tag = pipeline_tag
        self.description = description
        self.engine_labels = engine_labels
        self.job_tags = job_tags
        self.runtime_parameters = runtime_parameters
        self.strict_parameters = strict_parameters
        self.number_of_instances = number_of_instances
        self.failover = failover
        self.failover_retries = failover_retries
        self.failover_retries_per_engine = failover_retries_per_engine
        self.needs_acknowledgement = needs_acknowledgement
        self.statistics_interval = statistics_interval
        self.force_stop_after = force_stop_after
        self.static_parameters = static_parameters
        self.time_series = time_series
        self._check_version()

    def job_settings(self, name: str | None) -> models.JobSettings:
        """
        Return the settings after rendering.

        :param name: name of the job
        :raises ValueError: if a setting is invalid
        :raises ControlHubConfigurationError: if :class:`JobSettings` does not allow a value
        """
        settings = {name: getattr(self.rendered, name) for name in _SETTINGS}
        return models.JobSettings(name=name, tags=settings.pop("job_tags"), **settings)

    def check_settings(
        self, settings: models.JobSettings, job: str, commit_id: str | None, known: Iterable[str] = ()
    ) -> None:
        """
        Check the names of the runtime parameters; see :meth:`check_parameter_names`.

        :param settings: the settings
        :param job: name of the job, for messages
        :param commit_id: commit id of the pipeline version
        :param known: parameter names that the version is known to define
        """
        strict = self.rendered.strict_parameters
        self.check_parameter_names(job, commit_id, settings.runtime_parameters or (), known=known, strict=strict)

    @property
    def has_settings(self) -> bool:
        """Whether any job setting is given."""
        return any(getattr(self, name) is not None for name in _SETTINGS)

    @property
    def has_version(self) -> bool:
        """Whether a pipeline version is given."""
        return any(v is not None for v in (self.pipeline_version, self.pipeline_commit_id, self.pipeline_tag))

    def version_selector(self) -> dict[str, Any]:
        """
        Return the arguments of :meth:`Pipelines.version` that select the pipeline version; by default the newest.

        :raises ValueError: if they are invalid or contradictory
        """
        self._check_version()
        version = self.rendered.pipeline_version
        return {
            "version": None if version == "latest" else version,
            "commit_id": self.rendered.pipeline_commit_id,
            "tag": self.rendered.pipeline_tag,
        }

    def _check_version(self) -> None:
        params.at_most_one(
            pipeline_version=self.pipeline_version,
            pipeline_commit_id=self.pipeline_commit_id,
            pipeline_tag=self.pipeline_tag,
        )
