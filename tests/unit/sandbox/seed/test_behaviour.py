"""The behaviour of pipelines."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from airflow_provider_streamsets.sandbox.seed.behaviour import (
    Behaviour,
    apply_parameters,
    write_behaviour,
)
from airflow_provider_streamsets.sandbox.seed.document import validate
from tests.unit.fakes.sandbox_app import SEED

BATCH = Behaviour(records=10_000, rate=1000, error_share=0.01)


def test_parameters_override_behaviour():
    changed = apply_parameters(BATCH, {"RECORDS": "50", "RATE": "2.5", "ERROR_SHARE": "0.5", "OTHER": "x"})
    assert (changed.records, changed.rate, changed.error_share) == (50, 2.5, 0.5)
    assert apply_parameters(BATCH, {"RECORDS": ""}) == BATCH


@pytest.mark.parametrize(
    ("name", "value"),
    [("RECORDS", "many"), ("RECORDS", "1.5"), ("RATE", "0"), ("ERROR_SHARE", "2"), ("RATE", "nan"), ("RATE", "inf")],
)
def test_invalid_parameter_fails_validation(name, value):
    error = apply_parameters(BATCH, {name: value}).start_error
    assert "CONTAINER_0800" in error
    assert name in error


@pytest.mark.parametrize("pipeline", SEED.pipelines, ids=lambda pipeline: pipeline.name)
def test_behaviour_round_trip(pipeline):
    assert validate(TypeAdapter(Behaviour), write_behaviour(pipeline.behaviour), "here") == pipeline.behaviour
