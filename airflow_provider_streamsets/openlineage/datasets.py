"""
The datasets that the origin and the destinations of a pipeline name in their configuration.

The table :data:`STAGES` has the common stages of Data Collector. Other stages have no dataset, nor have those whose
values are unknown before the pipeline runs, such as expressions with the fields of a record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openlineage.client.naming.dataset import (
    DB2,
    GCS,
    HDFS,
    S3,
    BigQuery,
    DatasetNaming,
    Kafka,
    MySQL,
    Oracle,
    Postgres,
    PubSubNaming,
    PubSubResourceType,
)

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.models import PipelineDefinition, PipelineStage

Name = tuple[str, str]
"""Namespace and name of a dataset."""

_PARAMETER = re.compile(r"\$\{\s*(\w+)\s*\}")
_JDBC_URL = re.compile(
    r"jdbc:(?P<database_type>\w+):(?:thin:@|(?!thin:))(?://)?(?P<host>[\w.-]+)(?::(?P<port>\d+))?"
    r"(?P<database>[/:][\w.$-]+)?(?P<options>[/;?].*)?"
)
_SNOWFLAKE_DOMAIN = ".snowflakecomputing.com"


@dataclass(frozen=True)
class StageNames:
    """
    How the configuration of a stage type names datasets.

    A property is identified by the end of its name, as the beginning differs between versions of a stage: ``topic`` is
    ``conf.topic`` or ``kafkaConfigBean.topic``.

    :param name: returns the dataset for the value of `system`, if there is one, and those of `properties`
    :param properties: the properties that name the dataset
    :param system: the property that names the system; unknown if the stage uses a connection of Control Hub. Several
        names, separated by ``|``, are those of different versions
    :param each: a list with an element for each dataset, which has the `properties`, or is the value of the only one
    :param unless: a property with which the name is unknown if it is true
    """

    name: Callable[..., DatasetNaming | Name]
    properties: Sequence[str]
    system: str = ""
    each: str = ""
    unless: str = ""


def _bucket_and_path(bucket: str, prefix: str) -> tuple[str, str]:
    bucket, _, path = bucket.partition("/")
    return bucket, "/".join(part for part in (path.strip("/"), prefix.strip("/")) if part) or "/"


def _s3(bucket: str, prefix: str) -> DatasetNaming:
    return S3(*_bucket_and_path(bucket, prefix))


def _gcs(bucket: str, prefix: str) -> DatasetNaming:
    return GCS(*_bucket_and_path(bucket, prefix))


def _kafka(brokers: str, topic: str) -> DatasetNaming:
    host, _, port = brokers.partition(",")[0].strip().rpartition(":")
    return Kafka(host, port, topic)


def _hdfs(uri: str, path: str) -> DatasetNaming:
    host, _, port = uri.removeprefix("hdfs://").rstrip("/").partition(":")
    return HDFS(host, port or "8020", path)


def _snowflake(account: str, database: str, schema: str, table: str) -> Name:
    if not (account and database and schema and table):
        raise ValueError("The name of the table is incomplete.")
    return f"snowflake://{account.removesuffix(_SNOWFLAKE_DOMAIN)}", f"{database}.{schema}.{table}"


def _table(url: str, schema: str, table: str) -> DatasetNaming | Name:
    """Return the table of a database with a JDBC URL; no default schema is assumed."""
    match = _JDBC_URL.fullmatch(url)
    if match is None or not table or re.search("[%*]", table):
        raise ValueError("Not a URL with one host, or not the name of one table.")
    host, database, database_type = match["host"], (match["database"] or "")[1:], match["database_type"]
    options = dict(part.partition("=")[::2] for part in re.split("[/;?&]", match["options"] or ""))
    if database_type == "mysql":
        return MySQL(host, match["port"] or "3306", schema or database, table)
    if database_type == "snowflake":
        return _snowflake(host, options.get("db", ""), schema or options.get("schema", ""), table)
    if not schema:
        raise ValueError("The schema is unknown.")
    if database_type == "sqlserver":
        database = options.get("databaseName") or options["database"]
        return f"mssql://{host}:{match['port'] or 1433}", f"{database}.{schema}.{table}"
    naming, port = _DATABASES[database_type]
    return naming(host, match["port"] or port, database, schema, table)


_DATABASES: Mapping[str, tuple[Callable[..., DatasetNaming], str]] = {
    "db2": (DB2, "50000"),
    "oracle": (Oracle, "1521"),
    "postgresql": (Postgres, "5432"),
}


def _databricks(url: str, table: str) -> Name:
    match = _JDBC_URL.fullmatch(url)
    if match is None or not table:
        raise ValueError("Not a URL of Databricks, or no table.")
    return f"databricks://{match['host']}", table


_STAGE = "com_streamsets_pipeline_stage_"
_CDC_TABLES = StageNames(_table, ("schema", "table"), "connectionString", each="schemaTableConfigs")
_GCS_BUCKET = StageNames(_gcs, ("bucketTemplate", "commonPrefix"))

STAGES: Mapping[str, StageNames] = {
    f"{_STAGE}origin_jdbc_table_TableJdbcDSource": StageNames(
        _table, ("schema", "tablePattern"), "connectionString", each="tableConfigs"
    ),
    f"{_STAGE}origin_jdbc_cdc_oracle_OracleCDCDSource": _CDC_TABLES,
    f"{_STAGE}origin_jdbc_cdc_postgres_PostgresCDCDSource": _CDC_TABLES,
    f"{_STAGE}origin_kafka_KafkaDSource": StageNames(_kafka, ("topic",), "metadataBrokerList"),
    f"{_STAGE}origin_multikafka_MultiKafkaDSource": StageNames(
        _kafka, ("topic",), "metadataBrokerList|brokerURI", each="topicList"
    ),
    f"{_STAGE}origin_s3_AmazonS3DSource": StageNames(_s3, ("s3Config.bucket", "s3Config.commonPrefix")),
    f"{_STAGE}cloudstorage_origin_GoogleCloudStorageDSource": _GCS_BUCKET,
    f"{_STAGE}pubsub_origin_PubSubDSource": StageNames(
        lambda *names: PubSubNaming(PubSubResourceType.SUBSCRIPTION, *names), ("subscriptionId",), "projectId"
    ),
    f"{_STAGE}destination_jdbc_JdbcDTarget": StageNames(_table, ("schema", "tableNameTemplate"), "connectionString"),
    f"{_STAGE}destination_snowflake_SnowflakeDTarget": StageNames(
        _snowflake, ("database", "schema", "table"), "account"
    ),
    f"{_STAGE}destination_DatabricksDeltaLakeDTarget": StageNames(_databricks, ("table",), "connectionString"),
    f"{_STAGE}bigquery_destination_BigQueryDTarget": StageNames(BigQuery, ("datasetEL", "tableNameEL"), "projectId"),
    f"{_STAGE}destination_kafka_KafkaDTarget": StageNames(
        _kafka, ("topic",), "metadataBrokerList", unless="runtimeTopicResolution"
    ),
    f"{_STAGE}destination_s3_AmazonS3DTarget": StageNames(_s3, ("s3Config.bucketTemplate", "s3Config.commonPrefix")),
    f"{_STAGE}cloudstorage_destination_GoogleCloudStorageDTarget": _GCS_BUCKET,
    f"{_STAGE}destination_hdfs_HdfsDTarget": StageNames(
        _hdfs, ("dirPathTemplate",), "hdfsUri", unless="dirPathTemplateInHeader"
    ),
    f"{_STAGE}pubsub_destination_PubSubDTarget": StageNames(
        lambda *names: PubSubNaming(PubSubResourceType.TOPIC, *names), ("topicId",), "projectId"
    ),
}
"""The known stage types by the name of the type."""


@dataclass(frozen=True)
class PipelineDatasets:
    """The datasets of a pipeline."""

    inputs: tuple[Name, ...] = ()
    outputs: tuple[Name, ...] = ()
    has_one_destination: bool = False
    """Whether all records are written by the same stage."""

    @property
    def is_streaming(self) -> bool:
        """Whether the pipeline reads messages, and thus does not end by itself."""
        return any(namespace.startswith(("kafka:", "pubsub")) for namespace, _ in self.inputs)


def pipeline_datasets(definition: PipelineDefinition, parameters: Mapping[str, Any] | None) -> PipelineDatasets:
    """
    Return the datasets that the stages of a pipeline name.

    :param definition: the definition of the pipeline
    :param parameters: values of the runtime parameters of the run, which override the defaults of the definition; None
        if they are unknown
    """
    values = {} if parameters is None else {**definition.parameters, **parameters}
    # A destination is called "target" in StreamSets' code, for example JdbcDTarget.
    destinations = [stage for stage in definition.stages if stage.type_name.endswith("Target")]
    origins = [stage for stage in definition.stages if stage.type_name.endswith("Source")]
    return PipelineDatasets(
        tuple(dict.fromkeys(name for stage in origins for name in _stage_names(stage, values))),
        tuple(dict.fromkeys(name for stage in destinations for name in _stage_names(stage, values))),
        has_one_destination=len(destinations) == 1,
    )


def _stage_names(stage: PipelineStage, parameters: Mapping[str, Any]) -> Iterator[Name]:
    names = STAGES.get(stage.type_name)
    if names is None or (names.unless and _find(stage.configuration, names.unless) is True):
        return
    if names.system and _uses_connection(stage.configuration):
        return
    system = [_find(stage.configuration, names.system)] if names.system else []
    elements: Any = _find(stage.configuration, names.each) if names.each else [stage.configuration]
    for element in elements if isinstance(elements, list) else ():
        own = [_find(element, name) for name in names.properties] if isinstance(element, Mapping) else [element]
        values = [_resolve(value, parameters) for value in (*system, *own)]
        try:
            if None not in values:
                name = names.name(*values)
                yield name if isinstance(name, tuple) else (name.get_namespace(), name.get_name())
        except (KeyError, ValueError):
            # Incomplete, such as a database without a schema, or a database that is not known.
            continue


def _find(configuration: Mapping[str, Any], names: str) -> Any:
    """Return the value of the property whose name is one of the names or ends with it; empty if there is none."""
    endings = tuple(f".{name}" for name in names.split("|"))
    return next((value for name, value in configuration.items() if f".{name}".endswith(endings)), "")


def _uses_connection(configuration: Mapping[str, Any]) -> bool:
    """Return whether a connection of Control Hub has properties of the stage, whose values here are then unused."""
    selections = (value for name, value in configuration.items() if name.endswith("onnectionSelection"))
    return any(value not in (None, "", "MANUAL") for value in selections)


def _resolve(value: Any, parameters: Mapping[str, Any]) -> str | None:
    """Return a value with its runtime parameters replaced; None if it has other expressions, or is no text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return None
    text = _PARAMETER.sub(lambda match: str(parameters.get(match[1], match[0])), value).strip()
    return None if "${" in text else text
