"""Waiting with the official SDK: a thread for each run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from streamsets import sdk

from tests.benchmarks.waiting.orders import Event, Orders, WaitedRun

_FOR_EVER = 86_400


def wait_in_threads(orders: Orders, on_event: Callable[[Event], None], started: Callable[[], None]) -> None:
    """
    Begin to wait for each run in a thread of its own, with a login of its own, as a task of its own would.

    How often the SDK looks is its own choice.

    :param orders: what to wait for
    :param on_event: called with the end of each wait
    :param started: called when all have begun
    """

    def wait(run: WaitedRun) -> None:
        hub = sdk.ControlHub(credential_id=orders.credential_id, token=orders.token, aster_url=orders.login_url)
        job = hub.jobs.get(id=run.job_id)
        logged_in.release()
        hub.wait_for_job_status(job, "INACTIVE", timeout_sec=_FOR_EVER)
        on_event(Event(run.job_id, time.time(), str(job.status)))

    logged_in = threading.Semaphore(0)
    for run in orders.runs:
        threading.Thread(target=wait, args=(run,), daemon=True).start()
        # One login after the other, so that none is refused or late.
        logged_in.acquire()
    started()
