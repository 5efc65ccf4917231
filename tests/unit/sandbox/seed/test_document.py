"""Reading documents."""

from __future__ import annotations

import pytest

from airflow_provider_streamsets.sandbox.seed.document import parse_duration


def test_durations_are_parsed():
    assert [parse_duration(text) for text in ("250ms", "1.5s", "2m", "26h", "3d")] == [
        250,
        1500,
        120_000,
        93_600_000,
        259_200_000,
    ]
    for invalid in ("", "5", "-1s", "1w"):
        with pytest.raises(ValueError, match=r".*"):
            parse_duration(invalid)
