"""A Control Hub for unit tests whose runs are RED at times, with the reason only in what engines say."""

from __future__ import annotations

from typing import Any

from tests.unit.fakes.simulated_hub import SimulatedHub

REFUSED: dict[str, Any] = {
    "color": "RED",
    "warnings": [],
    "sdcIds": ["engine-1"],
    "ackTrackers": [
        {"sdcId": "engine-1", "eventType": "SAVE_PIPELINE", "ackStatus": "SUCCESS", "message": None},
        {
            "sdcId": "engine-1",
            "eventType": "START_PIPELINE",
            "ackStatus": "ERROR",
            "message": "VALIDATION_0071 - no lib",
        },
    ],
    "pipelineStatus": [{"sdcId": "engine-1", "status": "START_ERROR", "message": "VALIDATION_0071 - no lib"}],
}
REASON = "VALIDATION_0071 - no lib (engine engine-1)"


class UnhealthyHub(SimulatedHub):
    """Shows active runs as they are at their age, by number of the run."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.red: dict[int, list[tuple[float, float]]] = {}
        """From and until when, in seconds since its start, each run is RED."""
        self.activates_until: float = 0.0
        """Seconds since their starts until which runs are ACTIVATING."""
        self.starts_pipeline_until: float = 0.0
        """Seconds since their starts until which engines report that they start the pipelines of active runs."""

    def is_red(self, run_count: int = 1, *, since: float = 0.0, until: float = float("inf")) -> None:
        self.red.setdefault(run_count, []).append((since, until))

    @property
    def latest(self) -> dict[str, Any] | None:
        run = super().latest
        if run is None or run["status"] not in {"ACTIVE", "DEACTIVATING"}:
            return run
        age = self._clock.current_time - run["startTime"] / 1000
        if any(since <= age < until for since, until in self.red.get(run["runCount"], [])):
            return {**run, **REFUSED}
        if run["status"] == "ACTIVE" and age < self.activates_until:
            return {**run, "status": "ACTIVATING"}
        if run["status"] == "ACTIVE" and age < self.starts_pipeline_until:
            return {**run, "pipelineStatus": [{"sdcId": "engine-1", "status": "STARTING"}]}
        return run
