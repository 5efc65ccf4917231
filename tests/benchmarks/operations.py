"""All operations that are measured, in the order of the SDK's guide; a login, which is part of each, comes first."""

from __future__ import annotations

from tests.benchmarks import job_operations as jobs
from tests.benchmarks import run_operations as runs
from tests.benchmarks.measuring import Operation, Waiting

A_QUARTER = 0.25

_TO_STOP = Waiting(after=r"/stopJobs$", looks=r"/currentStatus$|/jobs/status$")
_TO_BE_ACTIVE = Waiting(after=r"/createAndStartJobInstances$", looks=r"/currentStatus$|/jobs/status$")
_TO_END = Waiting(after=r"/startJobs$|/start$", looks=r"^GET .*/v1/job/[^/]+$|/jobs/status$")

OPERATIONS: tuple[Operation, ...] = (
    jobs.LogIn("log in"),
    jobs.CreateAJob("create a job"),
    jobs.CreateAJob("create a job with a version", version="1"),
    *jobs.RETRIEVALS,
    jobs.UpgradeJobs("upgrade 50 jobs", 50, goal=A_QUARTER),
    jobs.UpdateToAnotherVersion("update a job to another version"),
    jobs.DuplicateAJob("duplicate a job 10 times", 10, goal=A_QUARTER),
    jobs.ImportJobs("import 10 jobs", 10),
    jobs.ExportJobs("export 10 jobs", 10),
    runs.ResetOffsets("reset the offsets of 10 jobs", 10),
    runs.ReadCurrentOffsets("read the current offsets"),
    runs.ReadOffsetsOfARun("read the offsets of a run"),
    runs.UploadAnOffset("upload an offset"),
    runs.StatusHistory("read the status history"),
    runs.RunEvents("read the events of a run"),
    runs.MetricsOfAllRuns("read the metrics of all runs"),
    runs.MetricsOfOneRun("read the metrics of one run"),
    runs.RealtimeSummary("read the realtime summary"),
    runs.BalanceEngines("balance the engines"),
    runs.StartJobs("start 10 jobs", 10),
    runs.StopJobs("stop 10 jobs and wait", 10, waiting=_TO_STOP),
    jobs.DeleteJobs("delete 10 jobs", 10),
    runs.AcknowledgeAndStart("acknowledge an error and start"),
    runs.StartATemplate("start 5 instances of a template", 5, waiting=_TO_BE_ACTIVE),
    runs.RunAndWait("run a job and wait for its end", goal=A_QUARTER, waiting=_TO_END),
    runs.RunAndReport("the same, with events and counts", goal=A_QUARTER, waiting=_TO_END),
)
