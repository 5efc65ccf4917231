"""The behaviour of a job in the sandbox, derived from its runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import pendulum

from airflow_provider_streamsets.control_hub import JobRun, Outcome
from airflow_provider_streamsets.control_hub.models import RunEvent
from airflow_provider_streamsets.control_hub.tracking.outcome import decide_outcome

DEFAULT_BEHAVIOUR = {"kind": "batch", "records": 1000, "rate": 100}
"""Of a pipeline without a run whose length is known."""
DEFAULT_SECONDS = 12
"""Length of a run with this behaviour."""
PAST_RUNS = 3
"""Number of runs of a job in a snapshot."""

Counts = tuple[int, int, int]
"""Numbers of input, output and error records."""

# Of a run in the sandbox, in seconds: before and after the pipeline runs.
_ACTIVATION = _DEACTIVATION = 1.0
_MAX_ERROR_LENGTH = 300
_ENGINE_REPORT = re.compile(r"^.*?_ERROR\W*:\s*")
# With the decimals that keep the order of what happens within a second.
_UNITS = (("d", 86400, 6), ("h", 3600, 5), ("m", 60, 4), ("s", 1, 4))


def duration(seconds: float) -> str:
    """Return a duration in the format of a seed."""
    unit, length, decimals = next((entry for entry in _UNITS if seconds >= 2 * entry[1]), _UNITS[-1])
    return f"{max(0.0, seconds) / length:.{decimals}f}".rstrip("0").rstrip(".") + unit


@dataclass
class RunHistory:
    """
    Recent runs of a job.

    :param now: time of the snapshot
    :param runs: the runs, newest first
    :param counts: record counts of one pipeline instance, by number of the run
    :param saves_metrics: whether the pipeline saves metrics; without them, the counts are unknown
    """

    now: pendulum.DateTime
    runs: Sequence[JobRun] = ()
    counts: dict[int, Counts] = field(default_factory=dict)
    saves_metrics: bool = True
    _outcomes: dict[int, Outcome] = field(default_factory=dict)

    def decide_outcomes(self, read_events: Callable[[JobRun], Iterable[RunEvent]]) -> None:
        """
        Decide the outcomes of the ended runs.

        The status of a run that was stopped is that of a finished one; the events distinguish them. They cost a
        request for each run, so earlier runs without other evidence are taken to have ended as the latest one.

        :param read_events: returns the events of a run
        """
        unclear = Outcome.SUCCEEDED
        for run in [run for run in self.runs if run.has_ended]:
            decision = decide_outcome(run, ())
            outcome = decision.outcome
            if outcome is not Outcome.FAILED and run.error_message:
                # It was acknowledged.
                outcome = Outcome.FAILED
            elif not decision.is_confirmed:
                if not self._outcomes:
                    outcome = decide_outcome(run, read_events(run)).outcome
                    unclear = Outcome.STOPPED if outcome is Outcome.STOPPED else unclear
                else:
                    outcome = unclear
            self._outcomes[run.run_count] = outcome

    def _with_outcome(self, outcome: Outcome) -> list[JobRun]:
        return [run for run in self.runs if self._outcomes.get(run.run_count) is outcome and self._length(run)]

    def _length(self, run: JobRun) -> float:
        """Return the seconds from the start of a run to its end, or until now."""
        if run.start_time is None:
            return 0.0
        end = run.finish_time if run.has_ended else self.now
        return (end - run.start_time).total_seconds() if end else 0.0

    def typical_behaviour(self) -> dict[str, Any] | None:
        """Return the behaviour of a run that succeeds; None if the runs do not show it."""
        finished = self._with_outcome(Outcome.SUCCEEDED)
        if finished:
            return self._batch(finished)
        streams = [run for run in self.runs if not run.has_ended and self._length(run)]
        streams += self._with_outcome(Outcome.STOPPED)
        return self._streaming(streams) if streams else None

    def _batch(self, runs: Sequence[JobRun]) -> dict[str, Any]:
        """Return the behaviour with the median length and record counts of runs."""
        seconds = max(0.004, median(map(self._length, runs)))
        # Runs shorter than the defaults of activation and deactivation need shorter ones.
        step = min(_ACTIVATION, seconds / 4)
        running = seconds - 2 * step
        counts = self._median_counts(runs)
        # Without a record, a run in the sandbox ends at once.
        records = max(1, counts[0] if counts else round(running))
        behaviour = {"kind": "batch", "records": records, "rate": _rounded(records / running), **self._shares(counts)}
        if step < _ACTIVATION:
            behaviour["activation"] = behaviour["deactivation"] = f"{round(step * 1000)}ms"
        return behaviour

    def _streaming(self, runs: Sequence[JobRun]) -> dict[str, Any]:
        """Return the behaviour with the median rate of runs."""
        rates = [
            self.counts[run.run_count][0] / max(1.0, self._length(run) - _ACTIVATION)
            for run in runs
            if run.run_count in self.counts
        ]
        rate = _rounded(median(rates)) if rates else 0.0
        return {"kind": "streaming", **({"rate": rate} if rate else {}), **self._shares(self._median_counts(runs))}

    def _median_counts(self, runs: Sequence[JobRun]) -> Counts | None:
        counts = [self.counts[run.run_count] for run in runs if run.run_count in self.counts]
        if not counts:
            return None
        inputs, outputs, errors = (round(median(column)) for column in zip(*counts, strict=True))
        return inputs, outputs, errors

    def _shares(self, counts: Counts | None) -> dict[str, Any]:
        if counts is None:
            return {} if self.saves_metrics else {"saves_metrics": False}
        inputs, outputs, errors = counts
        shares = {}
        if inputs and errors:
            shares["error_share"] = _rounded(min(1.0, errors / inputs))
        if inputs > errors and outputs != inputs - errors:
            shares["output_share"] = _rounded(outputs / (inputs - errors))
        return shares

    def past(self, versions: dict[str, int], to_text: Callable[[str | None], str]) -> list[dict[str, Any]]:
        """
        Return the latest runs as those before the start of the sandbox, oldest first.

        :param versions: numbers of the pipeline versions in the snapshot by those in Control Hub
        :param to_text: converts an error message to that of the snapshot
        """
        typical = self.typical_behaviour()
        # The number of an imported job's runs can start again.
        runs = sorted(self.runs[:PAST_RUNS], key=lambda run: run.start_time or self.now)
        entries = [self._past_run(run, typical, versions, to_text) for run in runs]
        return [entry for entry in entries if entry]

    def _past_run(
        self,
        run: JobRun,
        typical: dict[str, Any] | None,
        versions: dict[str, int],
        to_text: Callable[[str | None], str],
    ) -> dict[str, Any] | None:
        is_stream = typical is not None and typical["kind"] == "streaming"
        if run.start_time is None or not self._length(run) or not (run.has_ended or is_stream):
            # An active batch run would end, and leave the job in another state, at a random time.
            return None
        started = (self.now - run.start_time).total_seconds()
        entry: dict[str, Any] = {"started": duration(started)}
        if run.pipeline_version in versions:
            entry["version"] = versions[run.pipeline_version]
        if not run.has_ended:
            return entry
        ended = started - self._length(run)
        outcome = self._outcomes[run.run_count]
        behaviour = None
        if outcome is Outcome.STOPPED:
            entry["stopped"] = duration(min(started, ended + _DEACTIVATION))
            behaviour = typical if is_stream else self._streaming([run])
        elif outcome is Outcome.FAILED:
            # A job whose error is not acknowledged cannot be started.
            entry["acknowledged"] = duration(max(0.0, ended - _DEACTIVATION))
            behaviour = self._failing(run, to_text(run.error_message))
        else:
            behaviour = self._batch([run])
        return entry if behaviour == typical else {**entry, "behaviour": behaviour}

    def _failing(self, run: JobRun, error: str) -> dict[str, Any]:
        error = _ENGINE_REPORT.sub("", " ".join(error.split()))[:_MAX_ERROR_LENGTH]
        behaviour = self._batch([run])
        if run.has_failed_at_start:
            return {**behaviour, "fails_at_start": error or True}
        return {**behaviour, "fails_after": behaviour["records"], **({"error": error} if error else {})}


def _rounded(number: float) -> float:
    """Return a number with six significant digits, without a fraction if it is integral."""
    rounded = float(f"{number:.6g}")
    return int(rounded) if rounded.is_integer() else rounded
