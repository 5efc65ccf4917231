"""
Push events: subscriptions of Control Hub report status changes of jobs, so that no watcher polls for them.

A call is only a hint: the run is requested from Control Hub, and what it returns becomes the event. The event is
registered with Airflow's asset manager, as Airflow does for its REST API and for watchers, and not through that API,
because only one transaction can both find that an event is new and add it, and because the tokens of the API expire.
"""

from __future__ import annotations

import hmac
import logging
import time
from asyncio import TimeoutError as AsyncTimeoutError
from asyncio import sleep, wait_for
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, ParamSpec, TypeVar

import tenacity
from airflow.assets.manager import asset_manager
from airflow.models.asset import AssetEvent, AssetModel
from airflow.providers.common.compat.sdk import AirflowException
from airflow.utils.session import create_session
from cachetools import TTLCache
from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from airflow_provider_streamsets.assets.jobs import event_payload, job_uri
from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubError, JobRun, submission
from airflow_provider_streamsets.control_hub.errors import ControlHubRunLostError, ControlHubUnavailableError
from airflow_provider_streamsets.control_hub.models import ENDED_STATUSES, Outcome
from airflow_provider_streamsets.control_hub.tracking.finished_run import FinishedRunReader
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.control_hub.tracking.run import DEFAULT_METRICS_TIMEOUT, fetch_status
from airflow_provider_streamsets.hooks import ConnectionSettings
from airflow_provider_streamsets.hooks.control_hub import ControlHubHook
from airflow_provider_streamsets.plugins.sources import Sources
from airflow_provider_streamsets.plugins.threads import BoundedThreads

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

MAX_BODY = 16_384
"""Maximum size of a body, in bytes."""
# Seconds within which a body must arrive; a busy API server can take some to read it.
_BODY_TIMEOUT = 60.0
# Seconds before the requests for a run that has not ended yet: a call can overtake the status.
_CONFIRM_DELAYS = (0.0, 1.0, 4.0)
# Attempts of a request during an outage, with 1, 2, 4, 8 and 16 seconds between them.
_MAX_ATTEMPTS = 6
# Seconds after its end for which a run is still found if the job has been started again.
_SUCCESSOR_DELAY = 120.0
# Later calls are repetitions, or about errors that were acknowledged later. Airflow may have deleted their events.
_MAX_AGE = timedelta(days=1)
# Seconds between the first requests for the final metrics; the further ones are less frequent.
_POLL_INTERVAL = 1.0
# Seconds for everything else that an outage can delay.
_REPORT_TIMEOUT = 60.0
_MAX_METRICS_TIMEOUT = 300.0
_CLOCK_TOLERANCE = timedelta(hours=1)
# Seconds between two log lines about refused calls.
_LOG_INTERVAL = 60.0

# Many runs can end at the same time, and Control Hub may not repeat a call.
_threads = BoundedThreads(8, 1_000, "streamsets-events")
# Of their own, so that calls without a valid token take no place from the others.
_token_threads = BoundedThreads(2, 100, "streamsets-tokens")
_sources = Sources()
_logged: TTLCache[str, bool] = TTLCache(1, _LOG_INTERVAL)
router = APIRouter()


class StatusChange(BaseModel):
    """The payload of the subscription. Placeholders that Control Hub has not replaced are refused."""

    job_id: str = Field(max_length=250)
    from_status: str | None = Field(None, max_length=50)
    to_status: str = Field(pattern="^[A-Z_]{1,50}$")


@router.post("/events", status_code=201)
async def receive_event(
    request: Request,
    response: Response,
    conn_id: Annotated[str, Query(max_length=250, pattern=r"^[\w#!()\-.:/\\]+$")] = ControlHubHook.default_conn_name,
    metrics_timeout: Annotated[float, Query(ge=0, le=_MAX_METRICS_TIMEOUT)] = DEFAULT_METRICS_TIMEOUT,
    outcomes: Annotated[tuple[Outcome, ...], Query()] = tuple(Outcome),
    authorization: Annotated[str, Header()] = "",
) -> dict[str, Any]:
    """
    Register an asset event for the run of a job that has ended, unless it has one.

    The query parameters are those of the watcher, whose trigger is called ``ControlHubJobRunEventTrigger``.

    :param conn_id: id of the Airflow connection, which has the token of the calls
    :param metrics_timeout: maximum seconds to wait for the final metrics of the run
    :param outcomes: outcomes to report
    :returns: the event with 201; the reason with 200 if none is due
    """
    await _authenticate(conn_id, authorization)
    change = await _read_change(request)
    if change.to_status not in ENDED_STATUSES:
        response.status_code = 200
        return {"detail": f"Status {change.to_status} is not the end of a run."}
    try:
        asset_id = await _threads.run(_find_asset, change.job_id)
        client = await _threads.run(_sources.reader(conn_id).client)
        latest, run, has_event = await _find_run(client, change.job_id, asset_id)
        if run.finish_time is not None and _seconds_since_end(client, run) > _MAX_AGE.total_seconds():
            reason = f"ended more than {_MAX_AGE.days * 24} hours ago"
        elif has_event:
            reason = "already has an event"
        else:
            reader = FinishedRunReader(
                client,
                latest,
                job_id=change.job_id,
                run_count=run.run_count,
                metrics_timeout=metrics_timeout,
                log=log,
            )
            report = await _read_report(reader, metrics_timeout + _REPORT_TIMEOUT)
            if report.outcome not in outcomes:
                reason = f"{report.ending}, which is not to be reported"
            elif (event_id := await _threads.run(_register, asset_id, report, _earliest_event(client, run))) is None:
                reason = "already has an event"
            else:
                log.info("%s. Asset event %d.", report.summary, event_id)
                return {"event_id": event_id, "job_id": change.job_id, "run_count": run.run_count}
    except ControlHubRunLostError as error:
        raise HTTPException(409, error.message) from error
    except (ControlHubError, AirflowException) as error:
        log.error("Could not confirm that job %s has ended, so it gets no asset event: %s", change.job_id, error)
        raise HTTPException(502, "Control Hub could not confirm it.") from error
    response.status_code = 200
    return {"detail": f"Run {run.run_count} {reason}."}


async def _authenticate(conn_id: str, authorization: str) -> None:
    scheme, _, token = authorization.partition(" ")
    is_bearer = scheme.lower() == "bearer" and bool(token)
    problem = await _token_threads.run(_check_token, conn_id, token) if is_bearer else "it has no bearer token"
    if not problem:
        return
    if not _logged:
        _logged[conn_id] = True
        log.warning("Refused a call of /streamsets/events for connection %r: %s.", conn_id, problem)
    # The same for all reasons, so that callers learn nothing about connections.
    raise HTTPException(401, "The bearer token is missing or wrong.", headers={"WWW-Authenticate": "Bearer"})


def _check_token(conn_id: str, token: str) -> str:
    """Return why a token is refused; empty if it is accepted."""
    try:
        connection = ControlHubHook(conn_id).get_connection(conn_id)
        if connection.conn_type != ControlHubHook.conn_type:
            return "it is not one to Control Hub"
        expected = ConnectionSettings.from_connection(connection, connection.extra_dejson).webhook_token
    except (ControlHubError, AirflowException) as error:
        return str(error).removesuffix(".")
    if expected is None:
        return "it has no webhook token"
    return "" if hmac.compare_digest(token.strip().encode(), expected.encode()) else "the bearer token is wrong"


async def _read_change(request: Request) -> StatusChange:
    async def read() -> bytes:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise HTTPException(413, f"The body must have at most {MAX_BODY} bytes.")
        return body

    try:
        # Whatever the content type says: Control Hub's default is text/plain.
        return StatusChange.model_validate_json(await wait_for(read(), _BODY_TIMEOUT))
    except AsyncTimeoutError:
        raise HTTPException(408, "The body did not arrive in time.") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))} {one['msg']}".strip() for one in error.errors())
        raise HTTPException(400, f"The body is not valid: {problems}.") from None


def _find_asset(job_id: str) -> int:
    """Return the id of the active asset of a job."""
    try:
        uri = job_uri(job_id)
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
    with create_session() as session:
        asset_id = session.scalar(select(AssetModel.id).where(AssetModel.uri == uri, AssetModel.active.has()))
    if asset_id is None:
        raise HTTPException(404, f"No DAG uses the asset {uri}.")
    return int(asset_id)


async def _request(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a function that sends requests to Control Hub, again during an outage: the call may not be repeated."""
    attempts = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(ControlHubUnavailableError),
        wait=tenacity.wait_exponential(),
        stop=tenacity.stop_after_attempt(_MAX_ATTEMPTS),
        sleep=sleep,
        reraise=True,
    )
    result: _T = await attempts(_threads.run, function, *args, **kwargs)
    return result


async def _find_run(client: ControlHubClient, job_id: str, asset_id: int) -> tuple[JobRun, JobRun, bool]:
    """
    Return the latest run of a job, the run to report, and whether that has an event already.

    The run to report is the latest one, or the one before it if that has just ended and only the latest has an event.

    :raises HTTPException: if the latest run is active, and the one before is not to be reported
    """
    for delay in _CONFIRM_DELAYS:
        await sleep(delay)
        latest = await _fetch_latest(client, job_id)
        if latest.has_ended and not await _has_event_of_run(client, job_id, latest, asset_id):
            return latest, latest, False
        for run in await _request(client.runs.history, job_id, 2):
            is_previous = run.run_count == latest.run_count - 1 and run.has_ended and run.finish_time is not None
            if (
                is_previous
                and _seconds_since_end(client, run) < _SUCCESSOR_DELAY
                and not await _has_event_of_run(client, job_id, run, asset_id)
            ):
                return latest, run, False
        if latest.has_ended:
            return latest, latest, True
    raise HTTPException(409, f"Run {latest.run_count} has not ended: it is {latest.status}.")


async def _fetch_latest(client: ControlHubClient, job_id: str) -> JobRun:
    latest = await _request(fetch_status, client, job_id)
    if latest is None or not latest.has_started:
        raise HTTPException(404, "Control Hub knows no run of the job.")
    return latest


async def _has_event_of_run(client: ControlHubClient, job_id: str, run: JobRun, asset_id: int) -> bool:
    return await _threads.run(_is_registered, asset_id, _identity(job_id, run), _earliest_event(client, run))


def _seconds_since_end(client: ControlHubClient, run: JobRun) -> float:
    ended = run.finish_time or run.start_time
    now = submission.wall_clock() + client.clock_skew
    return 0.0 if ended is None else max(now - ended.timestamp(), 0.0)


def _earliest_event(client: ControlHubClient, run: JobRun) -> datetime:
    age = timedelta(seconds=_seconds_since_end(client, run))
    return datetime.now(timezone.utc) - age - _CLOCK_TOLERANCE


async def _read_report(reader: FinishedRunReader, timeout: float) -> RunReport:
    began = time.monotonic()
    while (report := await _request(reader.poll)) is None:
        elapsed = time.monotonic() - began
        if elapsed > timeout:
            raise ControlHubError(f"The report of the run was not complete in {timeout:g} s.")
        await sleep(reader.next_delay(max(_POLL_INTERVAL, elapsed / 2)))
    return report


def _identity(job_id: str, run: JobRun) -> tuple[Any, ...]:
    """Return what identifies a run in an event. The runs of a job that is imported again have the same numbers."""
    start_time = run.start_time.to_iso8601_string() if run.start_time else None
    return job_id.casefold(), run.run_count, start_time


def _is_registered(asset_id: int, identity: tuple[Any, ...], since: datetime) -> bool:
    with create_session() as session:
        return _has_event(session, asset_id, identity, since)


def _has_event(session: Session, asset_id: int, identity: tuple[Any, ...], since: datetime) -> bool:
    """
    Return whether a run has an event, from a call or from a watcher.

    :param since: earliest time of the event
    """
    query = select(AssetEvent.extra).where(AssetEvent.asset_id == asset_id, AssetEvent.timestamp >= since)
    return any(identity in _identities(extra) for extra in session.scalars(query))


def _identities(extra: Any) -> list[tuple[Any, ...]]:
    """Return the identities of the runs in the extra of an event, which others can have created, too."""
    payload = extra.get("payload") if isinstance(extra, Mapping) else None
    runs = payload.get("runs") if isinstance(payload, Mapping) else None
    return [
        (str(run.get("job_id")).casefold(), run.get("run_count"), run.get("start_time"))
        for run in (runs if isinstance(runs, list) else ())
        if isinstance(run, Mapping)
    ]


def _register(asset_id: int, report: RunReport, since: datetime) -> int | None:
    """Register the event of a run, and return its id; None if the run has one."""
    with create_session() as session:
        # Changes nothing, but locks the row in all databases, so that no other call checks at the same time.
        session.execute(
            update(AssetModel).where(AssetModel.id == asset_id).values(updated_at=AssetModel.updated_at),
            execution_options={"synchronize_session": False},
        )
        if _has_event(session, asset_id, _identity(report.job_id, report.run), since):
            return None
        # The same as from a watcher.
        extra = {"from_trigger": True, "payload": event_payload([report.to_result()])}
        asset = session.get(AssetModel, asset_id)
        event = asset and asset_manager.register_asset_change(asset=asset, extra=extra, session=session)
        if not event:
            raise HTTPException(404, "The asset does not exist any more.")
        return int(event.id)
