"""
``make demo`` and ``make demo-ui``: a StreamSets job as an Airflow task, on this machine alone.

Starts the sandbox and a real Airflow, triggers ``example_dags/run_job.py`` and shows what happens until its end.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.json import JSON
from rich.table import Table

from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubError, Job
from dev.local_airflow import LocalAirflow, LocalAirflowError, pretty
from dev.local_sandbox import SandboxProcess

DAG_ID = "streamsets_run_job"
TASK_ID = "load_orders"
JOB_NAME = "Orders to warehouse"
CONNECTION_ID = "streamsets_default"
EXAMPLES = Path(__file__).resolve().parent.parent / "example_dags"

_PATIENCE = 120.0

console = Console(highlight=False)


def demo(home: Path) -> int:
    """Run the example DAG to its end and return an exit code: 0 if the task delivered the run's result."""
    began = time.monotonic()
    with SandboxProcess() as sandbox:
        console.print(f"A local Control Hub is at [link={sandbox.url}]{sandbox.url}[/link]")
        connection = {f"AIRFLOW_CONN_{CONNECTION_ID.upper()}": sandbox.airflow_conn}
        with LocalAirflow(home, EXAMPLES, connection) as airflow:
            console.print(f"Starting Airflow (scheduler, triggerer, dag processor, api server) in {home} ...")
            airflow.start()
            console.print(f"Airflow is up after {time.monotonic() - began:.0f} s.\n")
            run_id = airflow.trigger_dag(DAG_ID)
            console.print(f"Triggered the DAG [bold]{DAG_ID}[/bold]: its task {TASK_ID} runs the job '{JOB_NAME}'.\n")
            state = show_timeline(airflow, sandbox, run_id)
            ok = show_result(airflow, run_id, state)
    console.print(f"\nEverything that was started is stopped. The demo took {time.monotonic() - began:.0f} s.")
    return 0 if ok else 1


def show_timeline(airflow: LocalAirflow, sandbox: SandboxProcess, run_id: str) -> str:
    """Print a line whenever Airflow's or Control Hub's view changes, until the DAG run has ended; return its state."""
    client = ControlHubClient(sandbox.url, sandbox.credential_id, sandbox.token)
    job = client.jobs.find_by_name(JOB_NAME)
    began = time.monotonic()
    console.print(
        f"[bold]{'time':>7}  {'Airflow task':<12} {'job status':<20} {'run':>3} {'in':>8} {'out':>8} {'err':>5}"
    )
    last = ""
    state = ""
    while time.monotonic() - began < _PATIENCE:
        state = airflow.dag_run_state(DAG_ID, run_id)
        line = f"{airflow.task_state(DAG_ID, run_id, TASK_ID) or 'none':<12} {_job_line(client, job)}"
        if line != last:
            console.print(f"{time.monotonic() - began:6.1f}s  {line}")
            last = line
        if state in {"success", "failed"}:
            return state
        time.sleep(0.5)
    raise LocalAirflowError(f"The DAG run is still {state} after {_PATIENCE:g} s; its files are in {airflow.home}")


def _job_line(client: ControlHubClient, job: Job) -> str:
    run = client.runs.current(job.job_id)
    if run is None or run.run_count <= job.last_run_count:
        return "not started yet"
    status = f"{run.status}/{run.color}"
    counts = f"{run.input_record_count:>8} {run.output_record_count:>8} {run.error_record_count:>5}"
    return f"{status:<20} {run.run_count:>3} {counts}"


def show_result(airflow: LocalAirflow, run_id: str, state: str) -> bool:
    """Print the run's result and the task's XComs as Airflow's REST API gives them; return whether all is well."""
    table = Table("XCom key", "value", title=f"What {TASK_ID} pushed to XCom")
    for key in airflow.xcom_keys(DAG_ID, run_id, TASK_ID):
        if key != "return_value":
            table.add_row(key, str(airflow.xcom(DAG_ID, run_id, TASK_ID, key)))
    console.print()
    console.print(table)
    result: Any = airflow.xcom(DAG_ID, run_id, TASK_ID)
    console.print("The run's result, the task's return value:")
    console.print(JSON(pretty(result)))
    delivered = isinstance(result, dict) and result.get("outcome") == "SUCCEEDED" and bool(result.get("metrics"))
    if state != "success" or not delivered:
        console.print(f"[red]The DAG run is {state}. The task's log:")
        console.print(airflow.task_log(DAG_ID, run_id, TASK_ID), markup=False)
        return False
    console.print(
        f"[green]Run {result['run_count']} of '{result['job_name']}' has succeeded: "
        f"{result['metrics']['output_count']} records out in {result['duration']:.0f} s."
    )
    return True


def demo_ui(home: Path, port: int) -> int:
    """Leave the sandbox and Airflow running, with connection and examples in place, until Ctrl-C."""
    with SandboxProcess() as sandbox, LocalAirflow(home, EXAMPLES, port=port) as airflow:
        console.print(f"Starting Airflow in {home} ...")
        airflow.start()
        airflow.run_command("connections", "add", CONNECTION_ID, "--conn-json", sandbox.airflow_conn)
        console.print(f"\nAirflow:   {airflow.url}   (no password is asked: everybody on this machine is admin)")
        console.print(f"Sandbox:   {sandbox.url}")
        console.print(f"Try:       {airflow.url}/dags/{DAG_ID} and its button 'Trigger'")
        console.print(f"Form:      {airflow.url}/connections, connection '{CONNECTION_ID}'")
        console.print("\nCtrl-C stops everything.")
        signal.pause()
    return 0


def main() -> int:
    """Run the demo that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ui", action="store_true", help="leave everything running, for looking around")
    parser.add_argument("--port", type=int, default=8080, help="port of Airflow's user interface with --ui")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    home = Path(tempfile.mkdtemp(prefix="streamsets-demo-"))
    code = 1
    try:
        code = demo_ui(home, arguments.port) if arguments.ui else demo(home)
    except (LocalAirflowError, ControlHubError) as error:
        console.print(str(error), style="red", markup=False)
    except KeyboardInterrupt:
        console.print("\nStopped.")
        code = 0 if arguments.ui else 130
    if code == 1:
        console.print(f"Logs and database of the Airflow that was started are kept in {home}")
    else:
        shutil.rmtree(home, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
