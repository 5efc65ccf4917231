"""All measured operations in the order of the SDK's guide, after the login that is part of each."""

from __future__ import annotations

from tests.benchmarks import job_operations as jobs
from tests.benchmarks import run_operations as runs
from tests.benchmarks.measurement import Operation, PollPattern

QUARTER = 0.25

_UNTIL_STOPPED = PollPattern(after=r"/stopJobs$", poll=r"/currentStatus$|/jobs/status$")
_UNTIL_ACTIVE = PollPattern(after=r"/createAndStartJobInstances$", poll=r"/currentStatus$|/jobs/status$")
_UNTIL_FINISHED = PollPattern(after=r"/startJobs$|/start$", poll=r"^GET .*/v1/job/[^/]+$|/jobs/status$")

OPERATIONS: tuple[Operation, ...] = (
    jobs.LogIn("log in"),
    jobs.CreateJob("create a job"),
    jobs.CreateJob("create a job with a version", version="1"),
    *jobs.RETRIEVALS,
    jobs.UpgradeJobs("upgrade 50 jobs", 50, goal=QUARTER),
    jobs.UpdateVersion("update a job to another version"),
    jobs.DuplicateJob("duplicate a job 10 times", 10, goal=QUARTER),
    jobs.ImportJobs("import 10 jobs", 10),
    jobs.ExportJobs("export 10 jobs", 10),
    runs.ResetOffsets("reset the offsets of 10 jobs", 10),
    runs.ReadCurrentOffsets("read the current offsets"),
    runs.ReadRunOffsets("read the offsets of a run"),
    runs.UploadOffset("upload an offset"),
    runs.StatusHistory("read the status history"),
    runs.RunEvents("read the events of a run"),
    runs.AllRunMetrics("read the metrics of all runs"),
    runs.RunMetrics("read the metrics of one run"),
    runs.RealtimeSummary("read the realtime summary"),
    runs.BalanceEngines("balance the engines"),
    runs.StartJobs("start 10 jobs", 10),
    runs.StopJobs("stop 10 jobs and wait", 10, poll_pattern=_UNTIL_STOPPED),
    jobs.DeleteJobs("delete 10 jobs", 10),
    runs.AcknowledgeAndStart("acknowledge an error and start"),
    runs.StartTemplate("start 5 instances of a template", 5, poll_pattern=_UNTIL_ACTIVE),
    runs.RunAndWait("run a job and wait for its end", goal=QUARTER, poll_pattern=_UNTIL_FINISHED),
    runs.RunAndReport("run a job and report events and counts", goal=QUARTER, poll_pattern=_UNTIL_FINISHED),
)
