"""The fields of the API objects, used for response bodies and OpenAPI documents."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


_FIELDS: dict[str, str] = {
    "JobJson": """
        id:string name:string description:string organization:string creator:string createTime:int64
        lastModifiedBy:string lastModifiedOn:int64 destroyer:string deleteTime:int64 jobDeleted:boolean
        pipelineName:string pipelineId:string pipelineCommitId:string rulesId:string pipelineCommitLabel:string
        labels:string[] currentJobStatus:JobStatusJson currentUpgradeStatus:UpgradeStatusJson parentJobId:string
        systemJobId:string numInstances:int32 migrateOffsets:boolean statsRefreshInterval:int64
        runtimeParameters:string edge:boolean timeSeries:boolean forceStopTimeout:int64
        maxRetriesForFailedJob:int32 provenanceMetaData:object jobTemplate:boolean templateJobId:string
        cdConfig:object rawJobTags:string[] jobTags:JobTagJson[] executorType:string globalMaxRetries:int32
        needsManualAck:boolean staticParameters:string[] archived:boolean deleteAfterCompletion:boolean
        draftRun:boolean effectiveParameters:string projectId:string jobSequence:boolean
    """,
    "NewJobJson": """
        name:string description:string pipelineName:string pipelineId:string pipelineCommitId:string
        rulesId:string pipelineCommitLabel:string labels:string[] statsRefreshInterval:int64 numInstances:int32
        maxRetriesForFailedJob:int32 migrateOffsets:boolean runtimeParameters:string edge:boolean
        timeSeries:boolean forceStopTimeout:int64 jobTemplate:boolean rawJobTags:string[] executorType:string
        globalMaxRetries:int32 needsManualAck:boolean staticParameters:string[] draftRun:boolean
    """,
    "DuplicateJobJson": "namePrefix:string description:string numberOfCopies:int32",
    "JobTemplateCreationInfoJson": """
        namePostfixType:string paramName:string runtimeParametersList:object[] name:string description:string
        rawJobTags:string[] deleteAfterCompletion:boolean attachToTemplate:boolean
    """,
    "MinimalJobJson": """
        id:string name:string description:string organization:string creator:string createTime:int64
        lastModifiedBy:string lastModifiedOn:int64 destroyer:string deleteTime:int64 jobDeleted:boolean
        pipelineName:string pipelineId:string pipelineCommitId:string rulesId:string pipelineCommitLabel:string
        labels:string[] numInstances:int32 migrateOffsets:boolean statsRefreshInterval:int64
        runtimeParameters:string edge:boolean provenanceMetaData:object jobTemplate:boolean templateJobId:string
        executorType:string maxRetriesForFailedJob:int32 forceStopTimeout:int64 timeSeries:boolean
        rawJobTags:string[] globalMaxRetries:int32 needsManualAck:boolean staticParameters:string[]
    """,
    "CommitPipelineJson": """
        name:string commitMessage:string pipelineDefinition:string libraryDefinitions:string
        rulesDefinition:string fragment:boolean sdcId:string failIfExists:boolean executorType:string
    """,
    "JobEnvelopeWithConnectionsMetadataJson": """
        minimalJobJson:MinimalJobJson commitPipelineJson:CommitPipelineJson connectionsMetadata:object
    """,
    "JobTagJson": "id:string tag:string parentId:string organization:string",
    "JobTag": "id:string tag:string organization:string parentId:string optimisticLockVersion:int64",
    "JobStatusJson": """
        id:string jobId:string pipelineCommitId:string runCount:int32 user:string startTime:int64
        finishTime:int64 errorMessage:string color:string sdcIds:string[] status:string
        errorInfos:ErrorInfoJson[] warnings:string[] ackTrackers:AckTrackerJson[]
        pipelineOffsets:PipelineOffsetJson[] pipelineStatus:PipelineStatusJson[] upgradeStatus:UpgradeStatusJson
        pipelineCommitLabel:string edge:boolean inputRecordCount:int64 outputRecordCount:int64
        errorRecordCount:int64 lastReportedMetricTime:int64 enginePipelineId:string runtimeAttributes:object[]
    """,
    "UpgradeStatusJson": """
        id:string user:string startTime:int64 finishTime:int64 currentJobStatusId:string
        previousJobStatusId:string status:string errorMessage:string verifiedPipeline:boolean
    """,
    "JobStatusHistoryJson": "user:string time:int64 message:string status:string jobStatusId:string",
    "PipelineStatusJson": """
        sdcId:string name:string title:string jobId:string localPipeline:boolean status:string
        lastReportedTime:int64 worker:object[] message:string clusterMode:boolean
    """,
    "PipelineOffsetJson": "sdcId:string pipelineId:string offset:string resetOffset:boolean",
    "SourceOffsetJson": "version:int32 offsets:object",
    "ErrorInfoJson": "lastErrorTimestamp:int64 globalErrorCount:int64 sdcId:string",
    "AckTrackerJson": "sdcId:string createTime:int64 ackStatus:string message:string eventType:string",
    "JobLogMessage": """
        optimisticLockVersion:int64 id:string jobId:string runCount:int64 component:string logLevel:string
        logMessage:string logTimestamp:int64 jobStatus:object
    """,
    "JobTemplateRunHistoryJson": """
        id:string jobTemplateId:string user:string time:int64 runCount:int32 configuration:string
        jobInstanceIds:string[]
    """,
    "AclJson": """
        resourceId:string organization:string resourceOwner:string resourceCreatedTime:int64
        resourceType:string lastModifiedBy:string lastModifiedOn:int64 permissions:PermissionJson[]
    """,
    "PermissionJson": """
        resourceId:string subjectId:string subjectType:string lastModifiedBy:string lastModifiedOn:int64
        actions:string[]
    """,
    "SavedFilterJson": """
        id:string orgId:string type:string name:string mode:string query:string creator:string createTime:int64
        lastModifiedBy:string lastModifiedOn:int64 favorite:object
    """,
    "EventSubscriptionJson": """
        id:string name:string description:string organization:string enabled:boolean deleted:boolean
        events:object[] externalActions:object[]
    """,
    "PaginationWrapperJson": "totalCount:int64 offset:int64 len:int64 data:object[]",
    "SDCJson": """
        id:string organization:string httpUrl:string version:string labels:string[] reportedLabels:string[]
        pipelinesCommitted:string[] lastReportedTime:int64 startUpTime:int64 offsetProtocolVersion:int32
        edge:boolean cpuLoad:double totalMemory:double usedMemory:double memoryUsedPercentage:double
        pipelinesCount:int32 responding:boolean idSeparator:string executorType:string maxCpuLoad:double
        maxMemoryUsed:double maxPipelinesRunning:int64 cspDeploymentId:string deploymentId:string
        buildTime:int64 overrideEngineMaxes:boolean lastShutdownTimestamp:int64
    """,
    "MetricRegistryJson": """
        version:string gauges:object counters:object histograms:object meters:object timers:object
        slaves:string[]
    """,
    "PipelineJson": """
        commitId:string organization:string pipelineId:string name:string description:string
        parentVersion:string version:string committer:string commitMessage:string commitTime:int64
        pipelineDefinition:string libraryDefinitions:string currentRules:RulesJson definitionRemover:string
        definitionRemoveMessage:string definitionRemoveTime:int64 pipelineLabels:PipelineLabelJson[]
        system:boolean sdcVersion:string sdcId:string lastModifiedBy:string lastModifiedOn:int64 draft:boolean
        executionMode:string provenanceMetaData:object fragment:boolean currentExternalCIStatus:object
        externalCiStatuses:object[] fragmentCommitIds:string[] ciConfig:object executorType:string
        projectId:string
    """,
    "PipelineLabelJson": "id:string label:string parentId:string organization:string projectId:string",
    "RulesJson": """
        id:string commitId:string name:string rulesCommitter:string message:string rulesTime:int64
        rulesDefinition:string definitionRemover:string definitionRemoveMessage:string
        definitionRemoveTime:int64
    """,
    "TagJson": "id:string commitId:string name:string message:string tagger:string tagTime:int64",
    "SSOPrincipalJson": """
        tokenStr:string issuerUrl:string expires:int64 principalId:string principalName:string
        organizationId:string organizationName:string email:string roles:string[] groups:string[] app:boolean
        attributes:object containerId:string filteredEntityManagerEnabled:boolean
    """,
    "RoleJson": "id:string label:string requiredRoles:string[]",
    "ProjectJson": """
        id:string organizationId:string name:string description:string createdBy:string createdOn:int64
        lastModifiedBy:string lastModifiedOn:int64 membersCount:int32
    """,
}


FIELDS: dict[str, dict[str, str]] = {
    name: dict(entry.split(":") for entry in text.split()) for name, text in _FIELDS.items()
}
"""Names and types of the fields of each object, in their order on the wire."""


_NULLS: dict[str, dict[str, Any]] = {name: dict.fromkeys(fields) for name, fields in FIELDS.items()}


def complete(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """
    Return an object with all its fields; missing ones are null.

    :param name: name of the schema.
    :param values: the values of fields.
    :raises KeyError: if the schema does not have a field.
    """
    nulls = _NULLS[name]
    result = {**nulls, **values}
    if len(result) > len(nulls):
        raise KeyError(f"{name} has no field {', '.join(sorted(values.keys() - nulls.keys()))}")
    return result
