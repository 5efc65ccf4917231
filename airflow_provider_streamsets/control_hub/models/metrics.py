"""Metrics of runs (contract section 12)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pendulum

from airflow_provider_streamsets.control_hub._json import JsonReader, as_list, as_object, checked_depth
from airflow_provider_streamsets.control_hub.models.base import Model
from airflow_provider_streamsets.control_hub.models.runs import JobRun


@dataclass(frozen=True)
class RunMetrics(Model):
    """
    Saved record counts of a run (contract section 12.1).

    Read from the record counts, the status or the metric registry of the run. Values that the source lacks are None.
    """

    run_count: int
    input_count: int
    output_count: int
    error_count: int
    stage_errors_count: int | None
    total_error_count: int | None
    last_updated: pendulum.DateTime | None = None
    pipeline_version: str | None = None
    input_per_second: float | None = None
    """Records per second over the minute before the save."""
    output_per_second: float | None = None
    error_per_second: float | None = None
    stage_errors_per_second: float | None = None

    @classmethod
    def from_wire(cls, value: object, run_count: int) -> RunMetrics:
        """
        Parse an entry of the record counts.

        :param run_count: number of the run that the entry belongs to; the newest entry does not contain it
        """
        read = JsonReader(value, "record counts")
        errors, stage_errors = read.integer("errorCount"), read.integer("stageErrorsCount")
        return cls(
            run_count=run_count,
            input_count=read.integer("inputCount"),
            output_count=read.integer("outputCount"),
            error_count=errors,
            stage_errors_count=stage_errors,
            total_error_count=errors + stage_errors,
            last_updated=read.timestamp("lastUpdatedOn"),
            pipeline_version=read.optional_string("pipelineVersion"),
            input_per_second=read.number("inputM1Rate"),
            output_per_second=read.number("outputM1Rate"),
            error_per_second=read.number("errorM1Rate"),
            stage_errors_per_second=read.number("stageErrorsM1Rate"),
        )

    @staticmethod
    def run_count_of(value: object) -> int:
        """Return the run count in an entry of the record counts; 0 for the newest entry, which has none."""
        run_count = as_object(value, "record counts").get("runCount")
        return run_count if isinstance(run_count, int) and not isinstance(run_count, bool) else 0

    @classmethod
    def from_status(cls, run: JobRun) -> RunMetrics | None:
        """Return the counts in the status of a run, which lacks stage errors; None if it has no counts."""
        if not run.has_counts:
            return None
        return cls(
            run_count=run.run_count,
            input_count=run.input_record_count,
            output_count=run.output_record_count,
            error_count=run.error_record_count,
            stage_errors_count=None,
            total_error_count=None,
            last_updated=run.metrics_saved,
            pipeline_version=run.pipeline_version,
        )

    @classmethod
    def from_registry(cls, registry: MetricRegistry, run_count: int) -> RunMetrics | None:
        """
        Return the record counts of the pipeline in a registry; None if any is missing.

        :param registry: metric registry
        :param run_count: number of the run that the registry belongs to
        """
        counts = [registry.record_count(name) for name in ("InputRecords", "OutputRecords", "ErrorRecords")]
        inputs, outputs, errors = counts
        stage_errors = registry.record_count("ErrorMessages")
        if inputs is None or outputs is None or errors is None:
            return None
        return cls(
            run_count=run_count,
            input_count=inputs,
            output_count=outputs,
            error_count=errors,
            stage_errors_count=stage_errors,
            total_error_count=None if stage_errors is None else errors + stage_errors,
            input_per_second=registry.value("pipeline.batchInputRecords.meter.m1_rate"),
            output_per_second=registry.value("pipeline.batchOutputRecords.meter.m1_rate"),
            error_per_second=registry.value("pipeline.batchErrorRecords.meter.m1_rate"),
            stage_errors_per_second=registry.value("pipeline.batchErrorMessages.meter.m1_rate"),
        )

    def counts(self) -> dict[str, int | None]:
        """Return run count and record counts in the format of the XCom values."""
        return {
            "run_count": self.run_count,
            "input_count": self.input_count,
            "output_count": self.output_count,
            "error_count": self.error_count,
            "stage_errors_count": self.stage_errors_count,
            "total_error_count": self.total_error_count,
        }


@dataclass(frozen=True)
class StageCounts(Model):
    """Record counts of a stage of a pipeline (contract section 12.2)."""

    name: str
    input_count: int = 0
    output_count: int = 0
    error_count: int = 0
    stage_errors_count: int = 0


# Fields by the names of the counters and meters of a stage.
_STAGE_FIELDS = {
    "inputRecords": "input_count",
    "outputRecords": "output_count",
    "errorRecords": "error_count",
    "stageErrors": "stage_errors_count",
}
_STAGE_METRIC = re.compile(rf"stage\.([^.:]+)\.({'|'.join(_STAGE_FIELDS)})\.(?:counter|meter)")


@dataclass(frozen=True)
class RecordCountSample(Model):
    """Record counts of a job at one time, from its time series; None if a series lacks the time."""

    time: pendulum.DateTime
    input_count: int | None = None
    output_count: int | None = None
    error_count: int | None = None

    @classmethod
    def series_from_wire(cls, value: object) -> list[RecordCountSample]:
        """Parse the time series of a job's record counts, oldest first (contract section 12.4)."""
        samples: dict[pendulum.DateTime, dict[str, int]] = {}
        for result in as_list(value, "time series"):
            for entry in JsonReader(result, "time series").array("series"):
                read = JsonReader(entry, "series")
                field_name = next((f for part, f in _SERIES_FIELDS.items() if part in read.string("name")), None)
                columns = read.strings("columns")
                if field_name is None or not {"time", "count"} <= set(columns):
                    continue
                for values in read.array("values"):
                    point = JsonReader(dict(zip(columns, as_list(values, "a point"), strict=False)), "point")
                    time = _point_time(point)
                    if time is not None:
                        counts = samples.setdefault(time, {})
                        # Several engines may have a series each.
                        counts[field_name] = counts.get(field_name, 0) + round(point.number("count"))
        return [cls(time, **counts) for time, counts in sorted(samples.items())]


# Fields by a part of the names of the series.
_SERIES_FIELDS = {"InputRecords": "input_count", "OutputRecords": "output_count", "ErrorRecords": "error_count"}


def _point_time(point: JsonReader) -> pendulum.DateTime | None:
    """Return the time of a point, in ISO 8601 or epoch milliseconds (contract section 18.44); None if invalid."""
    text = point.get("time")
    if not isinstance(text, str):
        return point.timestamp("time")
    try:
        time = pendulum.parse(text)
    except ValueError:
        return None
    return time if isinstance(time, pendulum.DateTime) else None


@dataclass(frozen=True)
class MetricRegistry(Model):
    """Counters and meters of a pipeline and its stages, by name (contract section 12.2)."""

    counters: Mapping[str, Any] = field(default_factory=dict)
    meters: Mapping[str, Any] = field(default_factory=dict)
    gauges: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_wire(cls, value: object) -> MetricRegistry:
        """Parse a ``MetricRegistryJson``."""
        read = JsonReader(value, "metric registry")
        return cls(**{kind: _object_or_empty(read, kind) for kind in ("counters", "meters", "gauges")})

    def record_count(self, name: str) -> int | None:
        """
        Return a record count of the pipeline; None if missing.

        :param name: ``InputRecords``, ``OutputRecords``, ``ErrorRecords`` or ``ErrorMessages`` (stage errors)
        """
        count = self.value(f"pipeline.batch{name}.counter")
        count = self.value(f"pipeline.batch{name}.meter") if count is None else count
        return None if count is None else round(count)

    @property
    def is_empty(self) -> bool:
        """Whether there is no counter and no meter."""
        return not self.counters and not self.meters

    def counts(self) -> dict[str, int]:
        """Return the values of all counters, by name."""
        counts = ((name, _optional_number(counter, "count", name)) for name, counter in self.counters.items())
        return {name: round(count) for name, count in counts if count is not None}

    def stages(self) -> list[StageCounts]:
        """Return the record counts of the stages, by name."""
        stages: dict[str, dict[str, int]] = {}
        for name in (*self.meters, *self.counters):
            match, value = _STAGE_METRIC.fullmatch(name), self.value(name)
            if match and value is not None:
                stages.setdefault(match[1], {})[_STAGE_FIELDS[match[2]]] = round(value)
        return [StageCounts(name, **counts) for name, counts in sorted(stages.items())]

    def value(self, name: str) -> float | None:
        """
        Return the value of a metric; None if missing.

        :param name: name of a counter or meter for its count, or of a meter followed by a dot and one of its rates, for
            example ``pipeline.batchOutputRecords.meter.m1_rate``
        """
        if name in self.counters:
            return _optional_number(self.counters[name], "count", name)
        if name in self.meters:
            return _optional_number(self.meters[name], "count", name)
        meter, _, rate = name.rpartition(".")
        return _optional_number(self.meters[meter], rate, name) if meter in self.meters else None


@dataclass(frozen=True)
class EngineLiveMetrics(Model):
    """Live metrics of the pipeline on one engine (contract section 12.3)."""

    engine_id: str
    batch_count: int
    idle_batch_count: int
    input_count: int
    output_count: int
    error_count: int

    @classmethod
    def from_registry(cls, engine_id: str, registry: MetricRegistry) -> EngineLiveMetrics:
        """Return the summary of a registry."""
        gauge = registry.gauges.get("RuntimeStatsGauge.gauge")
        value = JsonReader(gauge, "runtime gauge").get("value") if gauge is not None else None
        stats = JsonReader(value if value is not None else {}, "runtime gauge")

        def count(name: str) -> int:
            return round(registry.value(f"pipeline.{name}.meter") or 0)

        return cls(
            engine_id=engine_id,
            batch_count=stats.integer("batchCount"),
            idle_batch_count=stats.integer("idleBatchCount"),
            input_count=count("batchInputRecords"),
            output_count=count("batchOutputRecords"),
            error_count=count("batchErrorRecords"),
        )


@dataclass(frozen=True)
class LiveMetrics(Model):
    """Live metrics of a running job: totals, and the metrics of each engine."""

    job_id: str
    run_count: int
    engines: tuple[EngineLiveMetrics, ...]
    engines_without: Mapping[str, str] = field(default_factory=dict)
    """Errors of the engines without metrics, by engine id."""

    @property
    def batch_count(self) -> int:
        """Batches with data."""
        return sum(engine.batch_count for engine in self.engines)

    @property
    def idle_batch_count(self) -> int:
        """Batches without data."""
        return sum(engine.idle_batch_count for engine in self.engines)

    @property
    def input_count(self) -> int:
        """Records read."""
        return sum(engine.input_count for engine in self.engines)

    @property
    def output_count(self) -> int:
        """Records written."""
        return sum(engine.output_count for engine in self.engines)

    @property
    def error_count(self) -> int:
        """Error records."""
        return sum(engine.error_count for engine in self.engines)

    def to_dict(self) -> dict[str, Any]:
        """Return totals and engines as JSON."""
        sums = ("batch_count", "idle_batch_count", "input_count", "output_count", "error_count")
        return {**{name: getattr(self, name) for name in sums}, **super().to_dict()}


def _object_or_empty(read: JsonReader, key: str) -> Mapping[str, Any]:
    value = read.get(key)
    name = f"'{key}' of the metric registry"
    return {} if value is None else as_object(checked_depth(value, name), name)


def _optional_number(value: object, key: str, name: str) -> float | None:
    read = JsonReader(value, f"metric '{name}'")
    return None if read.get(key) is None else read.number(key)
