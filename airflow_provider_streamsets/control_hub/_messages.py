"""Formatting of ids and lists for messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def describe_ids(ids: list[str], kind: str = "job") -> str:
    """Return the only id, or the number of ids, for messages."""
    return f"{kind} {ids[0]}" if len(ids) == 1 else f"{len(ids)} {kind}s"


def join_truncated(texts: Sequence[str], separator: str = ", ", max_items: int = 10) -> str:
    """Join texts for messages, and append how many were omitted."""
    joined = separator.join(texts[:max_items])
    return f"{joined}{separator}and {len(texts) - max_items} more" if len(texts) > max_items else joined


def run_label(job_id: str, run_count: int, job_name: str = "") -> str:
    """
    Return a run for the beginning of a log line: the job by its name if that is known, otherwise by its id.

    :param job_id: id of the job
    :param run_count: number of the run
    :param job_name: name of the job, empty if unknown
    """
    job = f"'{job_name}'" if job_name else job_id
    return f"Job {job} run {run_count}"


def runs_label(runs: Mapping[str, int], names: Mapping[str, str]) -> str:
    """
    Return runs for the beginning of a log line: a single one as :func:`run_label`, several by their number.

    :param runs: run count by job id
    :param names: names of the jobs, by id, as far as they are known
    """
    if len(runs) != 1:
        return f"{len(runs)} runs"
    ((job_id, run_count),) = runs.items()
    return run_label(job_id, run_count, names.get(job_id, ""))
