"""Balancing of running pipelines across engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError
from airflow_provider_streamsets.sandbox.backend.runs import Move, Run, UserAction
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.seed.models import EngineSeed


def check_balance(backend: ControlHubBackend, job: Job) -> None:
    """
    Check that a job can be balanced.

    :raises ApiError: if it is not active, or if it has failover disabled and ``balance_without_failover`` is
        ``refused``.
    """
    backend.check_active(job)
    if not job.seed.failover and backend.variants.balance_without_failover == "refused":
        raise ApiError(400, "JOBRUNNER_25", f"Job '{job.seed.name}' cannot be balanced: failover is not enabled")


def balance_job(backend: ControlHubBackend, job: Job) -> None:
    """
    Move the pipelines of a job to less loaded engines, if the load is uneven.

    :raises ApiError: if the state of the job does not allow it.
    """
    check_balance(backend, job)
    _balance(backend, job, backend.engines)


def balance_engines(backend: ControlHubBackend, engine_ids: Collection[str]) -> None:
    """
    Move pipelines of all active jobs from the given engines to less loaded ones.

    :raises ApiError: if an engine does not exist.
    """
    for engine_id in engine_ids:
        if engine_id not in backend.engines:
            raise ApiError(404, "JOBRUNNER_04", f"Engine '{engine_id}' does not exist")
    now = backend.clock.now()
    for job in backend.jobs.values():
        is_affected = job.latest is not None and not set(engine_ids).isdisjoint(job.latest.engine_ids_at(now))
        if is_affected and backend.status(job) == "ACTIVE":
            _balance(backend, job, engine_ids)


def _balance(backend: ControlHubBackend, job: Job, engine_ids: Collection[str]) -> None:
    run, now = job.latest, backend.clock.now()
    if run is None or not job.seed.failover:
        return
    run.notes.append(UserAction(now, backend.user, "Job balanced"))
    if backend.run_state(run).phase_at(now).pipeline != "RUNNING" or backend.run_state(run).is_lost(now):
        return
    load = _load(backend, now)
    for instance, engine_id in enumerate(run.engine_ids_at(now)):
        if engine_id not in engine_ids or instance in run.moving_at(now):
            continue
        target = _least_loaded(backend, job, run, load, now)
        # A difference of one would only be reversed by the move.
        if target is not None and load[engine_id] - load[target.id] > 1:
            load[engine_id] -= 1
            load[target.id] += 1
            run.moves.append(_move(run, instance, target, now))


def _load(backend: ControlHubBackend, now: int) -> Counter[str]:
    return Counter(
        engine_id
        for job in backend.jobs.values()
        if (run := job.latest) is not None and backend.run_state(run).phase_at(now).pipeline is not None
        for engine_id in run.engine_ids_at(now)
    )


def _least_loaded(backend: ControlHubBackend, job: Job, run: Run, load: Counter[str], now: int) -> EngineSeed | None:
    candidates = [
        engine
        for engine in backend.matching_engines(job)
        if engine.id not in run.engine_ids_at(now) and backend.engine_health(engine, now)[0]
    ]
    return min(candidates, key=lambda engine: load[engine.id], default=None)


def _move(run: Run, instance: int, target: EngineSeed, now: int) -> Move:
    previous_url = run.engine_urls_at(now)[instance]
    return Move(
        at=now,
        resumed_at=now + run.scaled_ms(run.behaviour.activation),
        instance=instance,
        engine_id=target.id,
        engine_url=target.url,
        text=f"Pipeline moved from Data Collector '{previous_url}' to Data Collector '{target.url}'",
    )
