"""What the operators that create and change jobs share: a job's settings, and the pipeline version that it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_streamsets import params
from airflow_provider_streamsets.operators.base import ControlHubOperator

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import JobSettings

_ENDLESS = -1
_ON_ALL_ENGINES = -1


class ControlHubJobSettingsOperator(ControlHubOperator):
    """
    Base of the operators that say what a job is to be. What is None is left as it is, or to Control Hub.

    :param pipeline_version: number of the pipeline version that the job runs, or ``latest`` (templated)
    :param pipeline_commit_id: its commit id, instead (templated)
    :param pipeline_tag: a tag of the version, instead (templated)
    :param description: free text (templated)
    :param engine_labels: labels that an engine must have, all of them, to run the job: a list of texts, or a text
        holding one (templated)
    :param job_tags: tags without organization, for example ``nightly/orders``: a list of texts, or a text holding one
        (templated)
    :param runtime_parameters: the job's values of the pipeline's parameters: a dict, or a text holding a JSON object
        (templated)
    :param number_of_instances: pipeline instances; -1 is one on every engine with the labels (templated)
    :param failover: restart a pipeline on another engine when its engine is lost (templated)
    :param failover_retries: failover retries over all engines; -1 is endless (templated)
    :param failover_retries_per_engine: failover retries on each engine; -1 is endless (templated)
    :param needs_acknowledgement: whether an error must be acknowledged before the job can run again (templated)
    :param statistics_interval: seconds, or timedelta, between two saves of metrics (templated)
    :param force_stop_after: seconds, or timedelta, that Control Hub waits for engines to confirm a stop (templated)
    :param static_parameters: names of parameters that instances of a job template may not override: a list of texts,
        or a text holding one (templated)
    :param time_series: keep metrics as time series (templated)
    """

    template_fields: Sequence[str] = (
        *ControlHubOperator.template_fields,
        "pipeline_version",
        "pipeline_commit_id",
        "pipeline_tag",
        "description",
        "engine_labels",
        "job_tags",
        "runtime_parameters",
        "strict_parameters",
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
        params.boolean(strict_parameters, "strict_parameters")
        self.wanted_version(rendered=False)
        self._checked_settings()

    def job_settings(self, name: str | None) -> JobSettings:
        """
        Return the settings, after rendering.

        :param name: name that the job is to have
        :raises ValueError: if one of them cannot be right
        :raises ControlHubConfigurationError: if one of them cannot be right
        """
        from airflow_provider_streamsets.control_hub import JobSettings

        return JobSettings(name=name, **self._checked_settings(rendered=True))

    def check_settings(self, settings: JobSettings, job: str, commit_id: str | None, known: Iterable[str] = ()) -> None:
        """
        Check the names of the runtime parameters, as :meth:`check_parameter_names`.

        :param settings: the settings
        :param job: name of the job, for messages
        :param commit_id: the pipeline version that it is to run
        :param known: names that this version is known to have
        """
        strict = params.boolean(self.strict_parameters, "strict_parameters", rendered=True)
        self.check_parameter_names(job, commit_id, settings.runtime_parameters or (), known=known, strict=strict)

    @property
    def names_a_setting(self) -> bool:
        """Whether a setting is asked for."""
        return any(value is not None for value in self._checked_settings().values())

    @property
    def names_a_version(self) -> bool:
        """Whether a pipeline version is asked for."""
        return any(v is not None for v in (self.pipeline_version, self.pipeline_commit_id, self.pipeline_tag))

    def wanted_version(self, *, rendered: bool = True) -> dict[str, Any]:
        """
        Return how the pipeline version is to be chosen, for :meth:`Pipelines.version`; by default the newest.

        :raises ValueError: if that cannot be right
        """
        params.at_most_one(
            pipeline_version=self.pipeline_version,
            pipeline_commit_id=self.pipeline_commit_id,
            pipeline_tag=self.pipeline_tag,
        )
        version = params.version(self.pipeline_version, "pipeline_version", rendered=rendered, latest=True)
        return {
            "version": None if version == "latest" else version,
            "commit_id": params.string(self.pipeline_commit_id, "pipeline_commit_id", rendered=rendered),
            "tag": params.string(self.pipeline_tag, "pipeline_tag", rendered=rendered),
        }

    def _checked_settings(self, *, rendered: bool = False) -> dict[str, Any]:
        """Return the settings by the names that they have in :class:`JobSettings`, without that of the job itself."""

        def texts(name: str) -> Any:
            return params.string_list(getattr(self, name), name, rendered=rendered)

        def seconds(name: str) -> Any:
            return params.seconds(getattr(self, name), name, rendered=rendered)

        def flag(name: str) -> Any:
            value = getattr(self, name)
            return None if value is None else params.boolean(value, name, rendered=rendered)

        def number(name: str, minimum: int, also: int) -> Any:
            return params.integer(getattr(self, name), name, rendered=rendered, minimum=minimum, also=also)

        given = self.runtime_parameters
        return {
            "description": params.string(self.description, "description", rendered=rendered, empty=True),
            "engine_labels": texts("engine_labels"),
            "tags": texts("job_tags"),
            "runtime_parameters": None
            if given is None
            else params.json_object(given, "runtime_parameters", rendered=rendered),
            "number_of_instances": number("number_of_instances", 1, _ON_ALL_ENGINES),
            "failover": flag("failover"),
            "failover_retries": number("failover_retries", 0, _ENDLESS),
            "failover_retries_per_engine": number("failover_retries_per_engine", 0, _ENDLESS),
            "needs_acknowledgement": flag("needs_acknowledgement"),
            "statistics_interval": seconds("statistics_interval"),
            "force_stop_after": seconds("force_stop_after"),
            "static_parameters": texts("static_parameters"),
            "time_series": flag("time_series"),
        }
