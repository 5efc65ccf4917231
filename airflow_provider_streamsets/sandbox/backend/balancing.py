"""Balancing: moving pipelines of running jobs from more to less loaded engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.backend.runs import Ask, Move, Run
from airflow_provider_streamsets.sandbox.seed.models import EngineSeed


def check_balance(world: World, job: Job) -> None:
    """
    Check that a job can be balanced.

    :raises ProblemError: if it is not active, or cannot fail over and the variant says so.
    """
    world.check_active(job)
    if not job.seed.failover and world.variants.balance_without_failover == "refused":
        raise ProblemError(400, "JOBRUNNER_25", f"Job '{job.seed.name}' cannot be balanced: failover is not enabled")


def balance_job(world: World, job: Job) -> None:
    """
    Move the pipelines of a job to less loaded engines; where the load is even, nothing moves.

    :raises ProblemError: if its state does not allow it.
    """
    check_balance(world, job)
    _balance(world, job, world.engines)


def balance_engines(world: World, engine_ids: Collection[str]) -> None:
    """
    Do the same for what runs on some engines.

    :raises ProblemError: if there is no such engine.
    """
    for engine_id in engine_ids:
        if engine_id not in world.engines:
            raise ProblemError(404, "JOBRUNNER_04", f"Engine '{engine_id}' does not exist")
    now = world.clock.now()
    for job in world.jobs.values():
        on_them = job.latest is not None and not set(engine_ids).isdisjoint(job.latest.engine_ids_at(now))
        if on_them and world.status(job) == "ACTIVE":
            _balance(world, job, engine_ids)


def _balance(world: World, job: Job, engine_ids: Collection[str]) -> None:
    run, now = job.latest, world.clock.now()
    if run is None or not job.seed.failover:
        return
    run.remarks.append(Ask(now, world.user, "Job balanced"))
    if world.lifecycle(run).at(now).pipeline != "RUNNING" or world.lifecycle(run).is_lost(now):
        return
    load = _load(world, now)
    for instance, engine_id in enumerate(run.engine_ids_at(now)):
        if engine_id not in engine_ids or instance in run.moving_at(now):
            continue
        target = _least_loaded(world, job, run, load, now)
        # A move that leaves as much of a difference as it finds would only be undone by the next one.
        if target is not None and load[engine_id] - load[target.id] > 1:
            load[engine_id] -= 1
            load[target.id] += 1
            run.moves.append(_move(run, instance, target, now))


def _load(world: World, now: int) -> Counter[str]:
    return Counter(
        engine_id
        for job in world.jobs.values()
        if (run := job.latest) is not None and world.lifecycle(run).at(now).pipeline is not None
        for engine_id in run.engine_ids_at(now)
    )


def _least_loaded(world: World, job: Job, run: Run, load: Counter[str], now: int) -> EngineSeed | None:
    free = [
        engine
        for engine in world.matching_engines(job)
        if engine.id not in run.engine_ids_at(now) and world.responding(engine, now)[0]
    ]
    return min(free, key=lambda engine: load[engine.id], default=None)


def _move(run: Run, instance: int, target: EngineSeed, now: int) -> Move:
    left = run.engine_urls_at(now)[instance]
    return Move(
        at=now,
        settled=now + run.lasting(run.behaviour.activation),
        instance=instance,
        engine_id=target.id,
        engine_url=target.url,
        text=f"Pipeline moved from Data Collector '{left}' to Data Collector '{target.url}'",
    )
