"""The command ``streamsets-sandbox``, without a process."""

from __future__ import annotations

from click.testing import CliRunner

from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.server import command


def test_list_variants_describes_each_variant():
    result = CliRunner().invoke(command, ["--list-variants"])
    assert result.exit_code == 0
    paragraphs = [paragraph.split("\n") for paragraph in result.output.strip().split("\n\n")]
    described = {line.partition(" = ")[0]: lines for line, *lines in paragraphs}
    assert list(described) == list(Variants.choices())
    assert "wrong_state = 400 (default) | 409 | 500" in result.output
    assert "metrics_lag = 2.0 (default) | any other number\n    Seconds between" in result.output
    for lines in described.values():
        meaning = " ".join(line.strip() for line in lines)
        assert meaning.endswith(".")
        assert ". " not in meaning
