"""
Recover jobs: acknowledge errors and rerun failed jobs; synchronize jobs with their engines and balance them.

A job in INACTIVE_ERROR cannot be started until its error is acknowledged. Afterwards, Control Hub may show the failed
run as successful; the original error remains in the task log and in XCom.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_streamsets.hooks.control_hub import ControlHubHook
from airflow_provider_streamsets.operators.engines import (
    ControlHubBalanceEnginesOperator,
    ControlHubBalanceJobsOperator,
)
from airflow_provider_streamsets.operators.recovery import (
    ControlHubAcknowledgeErrorsOperator,
    ControlHubSyncJobsOperator,
)
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

with DAG("streamsets_run_again", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    # [START howto_acknowledge]
    acknowledge = ControlHubAcknowledgeErrorsOperator(task_id="acknowledge", job_names=["Ledger export"])
    # [END howto_acknowledge]
    run_again = ControlHubRunJobOperator(
        task_id="run_again",
        job_name="Ledger export",
        # Removes the cause of the failure: the sandbox's job fails after this many records, but has fewer.
        runtime_parameters={"FAILS_AFTER": 1_000_000},
        deferrable=True,
        poll_interval=5,
    )

    @task
    def report_errors(errors: list[dict[str, Any]]) -> None:
        """Process the result: the original errors."""
        for error in errors:
            logging.getLogger(__name__).warning(
                "Run %s of %s failed: %s", error["run_count"], error["job_name"], error["error_message"]
            )

    acknowledge >> run_again
    report_errors(acknowledge.output)

with DAG("streamsets_balance", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    # [START howto_synchronize]
    synchronize = ControlHubSyncJobsOperator(task_id="synchronize", job_tag="fleet", skip_inactive=True)
    # [END howto_synchronize]
    # [START howto_balance]
    balance_jobs = ControlHubBalanceJobsOperator(task_id="balance_jobs", job_tag="fleet", skip_inactive=True)
    balance_engines = ControlHubBalanceEnginesOperator(task_id="balance_engines", engine_labels=["all"])
    # [END howto_balance]

    # [START howto_hook]
    @task
    def silent_engines() -> list[str]:
        """Call the REST API with the hook: return the URLs of the engines that do not respond."""
        client = ControlHubHook("streamsets_default").get_conn()
        return [engine.url for engine in client.engines.list() if not engine.is_responding]

    # [END howto_hook]
    synchronize >> balance_jobs >> balance_engines >> silent_engines()
