"""Reading fault rules from a YAML or JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_streamsets.sandbox.documents import read_document
from airflow_provider_streamsets.sandbox.faults import BODIES, FAULTS, STATUSES, FaultRule, Faults
from airflow_provider_streamsets.sandbox.seed_place import Place


def load_faults(path: Path) -> Faults:
    """
    Read a file of fault rules.

    :param path: a YAML or JSON file.
    :raises SeedError: if it cannot be read or is wrong.
    """
    return parse_faults(read_document(path), source=path.name)


def parse_faults(document: Any, source: str = "faults") -> Faults:
    """
    Check a document of fault rules.

    :param document: what the file holds.
    :param source: the name that error messages begin with.
    :raises SeedError: naming the first place that is wrong.
    """
    top = Place(document, f"{source}: ")
    top.only("seed", "rules")
    rules = [_rule(place) for place in top.at("rules").items()]
    return Faults(rules, top.whole("seed") if top.has("seed") else 0)


def _rule(place: Place) -> FaultRule:
    fault = place.text("fault")
    if fault not in FAULTS:
        raise place.at("fault").wrong(f"must be one of {', '.join(FAULTS)}, not '{fault}'")
    place.only("fault", "method", "path", "probability", "after", "times", *FAULTS[fault])
    path = place.text("path")
    if path[0] not in "/*":
        raise place.at("path").wrong(f"must begin with / or *, not '{path}'")
    values: dict[str, Any] = {"fault": fault, "path": path, "method": place.text("method", "*").upper()}
    if place.has("probability"):
        values["probability"] = place.number("probability", most=1)
    if place.has("seconds"):
        values["seconds"] = place.number("seconds", most=3600)
    for count in ("after", "times", "retry_after"):
        if place.has(count):
            values[count] = place.whole(count)
    if fault in STATUSES:
        values["status"] = place.whole("status") if place.has("status") else STATUSES[fault][0]
        if values["status"] not in STATUSES[fault]:
            raise place.at("status").wrong(f"must be one of {', '.join(map(str, STATUSES[fault]))}")
    values["body"] = place.text("body", BODIES[0])
    if values["body"] not in BODIES:
        raise place.at("body").wrong(f"must be one of {', '.join(BODIES)}")
    values["processed"] = place.flag("processed", False)
    return FaultRule(**values)
