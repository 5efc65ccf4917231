"""Wait with the official SDK in one thread for each run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from streamsets import sdk

from tests.benchmarks.waiting.protocol import Event, WaitedRun, WaitRequest

_ONE_DAY = 86_400


def wait_in_threads(request: WaitRequest, on_event: Callable[[Event], None], started: Callable[[], None]) -> None:
    """
    Start one thread and login for each run, as a separate task would.

    The SDK uses its own poll interval.

    :param request: the request
    :param on_event: called at the end of each wait
    :param started: called when all waits have started
    """

    def wait(run: WaitedRun) -> None:
        hub = sdk.ControlHub(credential_id=request.credential_id, token=request.token, aster_url=request.login_url)
        job = hub.jobs.get(id=run.job_id)
        logged_in.release()
        hub.wait_for_job_status(job, "INACTIVE", timeout_sec=_ONE_DAY)
        on_event(Event(run.job_id, time.time(), str(job.status)))

    logged_in = threading.Semaphore(0)
    for run in request.runs:
        threading.Thread(target=wait, args=(run,), daemon=True).start()
        # Log in sequentially, so that no login is rejected or delayed.
        logged_in.acquire()
    started()
