from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_streamsets.control_hub.models import PipelineDefinition, PipelineStage

datasets = pytest.importorskip("airflow_provider_streamsets.openlineage.datasets")

PREFIX = "com_streamsets_pipeline_stage_"
JDBC = "destination_jdbc_JdbcDTarget"
TABLES = "origin_jdbc_table_TableJdbcDSource"
KAFKA = "destination_kafka_KafkaDTarget"
URL = "jdbc:postgresql://db.example.com/shop"


def names_of(stage: str, configuration: dict[str, Any], **parameters: Any) -> list[tuple[str, str]]:
    definition = PipelineDefinition({}, (PipelineStage(PREFIX + stage, configuration),))
    found = datasets.pipeline_datasets(definition, parameters)
    return [*found.inputs, *found.outputs]


@pytest.mark.parametrize(
    ("stage", "configuration", "namespace", "name"),
    [
        ("origin_kafka_KafkaDSource", {"kafkaConfigBean.metadataBrokerList": "k:9092", "kafkaConfigBean.topic": "t"},
         "kafka://k:9092", "t"),
        ("origin_multikafka_MultiKafkaDSource", {"conf.brokerURI": "k1:9092,k2:9092", "conf.topicList": ["t"]},
         "kafka://k1:9092", "t"),
        (KAFKA, {"conf.connectionConfig.connection.metadataBrokerList": "k:9092", "conf.topic": "t"},
         "kafka://k:9092", "t"),
        ("origin_s3_AmazonS3DSource",
         {"s3ConfigBean.s3Config.bucket": "b", "s3ConfigBean.s3Config.commonPrefix": "in/"}, "s3://b", "in"),
        ("destination_s3_AmazonS3DTarget",
         {"s3TargetConfigBean.s3Config.bucketTemplate": "b/out", "s3TargetConfigBean.s3Config.commonPrefix": "day"},
         "s3://b", "out/day"),
        ("destination_s3_AmazonS3DTarget", {"s3TargetConfigBean.s3Config.bucketTemplate": "b"}, "s3://b", "/"),
        ("cloudstorage_origin_GoogleCloudStorageDSource", {"gcsOriginConfig.bucketTemplate": "b"}, "gs://b", "/"),
        ("cloudstorage_destination_GoogleCloudStorageDTarget",
         {"gcsTargetConfig.bucketTemplate": "b", "gcsTargetConfig.commonPrefix": "p"}, "gs://b", "p"),
        ("bigquery_destination_BigQueryDTarget",
         {"conf.credentials.projectId": "p", "conf.datasetEL": "d", "conf.tableNameEL": "t"}, "bigquery", "p.d.t"),
        ("pubsub_origin_PubSubDSource", {"conf.credentials.projectId": "p", "conf.subscriptionId": "s"},
         "pubsub", "subscription:p:s"),
        ("pubsub_destination_PubSubDTarget", {"conf.credentials.projectId": "p", "conf.topicId": "t"},
         "pubsub", "topic:p:t"),
        ("destination_hdfs_HdfsDTarget",
         {"hdfsTargetConfigBean.hdfsUri": "hdfs://nn:9000", "hdfsTargetConfigBean.dirPathTemplate": "/out"},
         "hdfs://nn:9000", "/out"),
        ("destination_snowflake_SnowflakeDTarget",
         {"config.account": "org-acct", "config.database": "D", "config.schema": "S", "config.table": "T"},
         "snowflake://org-acct", "D.S.T"),
        ("destination_DatabricksDeltaLakeDTarget",
         {"config.destinationConfig.connectionString": "jdbc:databricks://w.example.com:443/default;ssl=1",
          "config.destinationConfig.table": "c.s.t"}, "databricks://w.example.com", "c.s.t"),
        ("origin_jdbc_cdc_postgres_PostgresCDCDSource",
         {"hikariConf.connectionString": URL,
          "postgresCDCConfigBean.baseConfigBean.schemaTableConfigs": [{"schema": "s", "table": "t"}]},
         "postgres://db.example.com:5432", "shop.s.t"),
    ],
)  # fmt: skip
def test_stages_name_datasets(stage, configuration, namespace, name):
    assert names_of(stage, configuration) == [(namespace, name)]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("jdbc:postgresql://db/shop", ("postgres://db:5432", "shop.s.t")),
        ("jdbc:mysql://db:3307/shop?useSSL=true", ("mysql://db:3307", "s.t")),
        ("jdbc:oracle:thin:@db:1521:ORCL", ("oracle://db:1521", "ORCL.s.t")),
        ("jdbc:oracle:thin:@//db/service", ("oracle://db:1521", "service.s.t")),
        ("jdbc:sqlserver://db;databaseName=shop;encrypt=true", ("mssql://db:1433", "shop.s.t")),
        ("jdbc:db2://db:50001/SHOP", ("db2://db:50001", "SHOP.s.t")),
        ("jdbc:snowflake://org-acct.snowflakecomputing.com/?db=D&warehouse=w", ("snowflake://org-acct", "D.s.t")),
        # No part of a name may be guessed, or be a credential.
        ("jdbc:postgresql://user:password@db/shop", None),
        ("jdbc:oracle:thin:scott/tiger@db:1521:ORCL", None),
        ("jdbc:mysql://db1,db2/shop", None),
        ("jdbc:oracle:thin:@(DESCRIPTION=(ADDRESS=(HOST=db)))", None),
        ("jdbc:sqlserver://db;encrypt=true", None),
        ("jdbc:teradata://db/shop", None),
        ("db.example.com", None),
        ("", None),
    ],
)
def test_jdbc_urls_name_databases(url, expected):
    configuration = {"hikariConfigBean.connectionString": url, "schema": "s", "tableNameTemplate": "t"}
    assert names_of(JDBC, configuration) == ([expected] if expected else [])


def test_each_table_is_dataset():
    tables = [{"schema": "s", "tablePattern": name} for name in ("a", "b_c", "d%", "a")]
    configuration = {"hikariConfigBean.connectionString": URL, "tableJdbcConfigBean.tableConfigs": tables}
    assert [name for _, name in names_of(TABLES, configuration)] == ["shop.s.a", "shop.s.b_c"]


@pytest.mark.parametrize("value", [None, 5, ["t"], "${record:value('/t')}", "${T}", "${YESTERDAY}", ""])
def test_unknown_value_names_no_dataset(value):
    configuration = {"conf.metadataBrokerList": "k:9092", "conf.topic": value}
    assert names_of(KAFKA, configuration, YESTERDAY="${time:now()}") == []


def test_parameters_of_run_override_defaults():
    stages = (PipelineStage(PREFIX + KAFKA, {"conf.metadataBrokerList": "${ K }:9092", "conf.topic": "${A}-${B}"}),)
    definition = PipelineDefinition({"K": "kafka", "A": "a", "B": "b"}, stages)
    found = datasets.pipeline_datasets(definition, {"B": 2})
    assert found.outputs == (("kafka://kafka:9092", "a-2"),)
    assert datasets.pipeline_datasets(definition, None).outputs == ()


def test_connection_of_control_hub_names_no_system():
    configuration = {
        "hikariConfigBean.connectionSelection": "9c960db9-7904-47c4-bbc8-4c95dcf9c959:org",
        "hikariConfigBean.connection.connectionString": URL,
        "schema": "s",
        "tableNameTemplate": "t",
    }
    assert names_of(JDBC, configuration) == []
    assert names_of(JDBC, {**configuration, "hikariConfigBean.connectionSelection": "MANUAL"})


def test_bucket_is_known_with_connection_of_control_hub():
    configuration = {
        "s3TargetConfigBean.s3Config.connectionSelection": "9c960db9:org",
        "s3TargetConfigBean.s3Config.bucketTemplate": "b",
    }
    assert names_of("destination_s3_AmazonS3DTarget", configuration) == [("s3://b", "/")]


def test_topic_that_records_decide_names_no_dataset():
    configuration = {"conf.metadataBrokerList": "k:9092", "conf.topic": "t", "conf.runtimeTopicResolution": True}
    assert names_of(KAFKA, configuration) == []


def test_unknown_stage_names_no_dataset():
    assert names_of("origin_spooldir_SpoolDirDSource", {"conf.spoolDir": "/data"}) == []


def test_several_destinations_share_records():
    topic = {"conf.metadataBrokerList": "k:9092", "conf.topic": "t"}
    known, other = PipelineStage(PREFIX + KAFKA, topic), PipelineStage(PREFIX + "destination_devnull_NullDTarget", {})
    assert datasets.pipeline_datasets(PipelineDefinition({}, (known,)), {}).has_one_destination
    assert not datasets.pipeline_datasets(PipelineDefinition({}, (known, other)), {}).has_one_destination
