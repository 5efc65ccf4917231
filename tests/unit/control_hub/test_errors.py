from __future__ import annotations

import pickle

import pytest

from airflow_provider_streamsets import control_hub
from airflow_provider_streamsets.control_hub import ControlHubError, ControlHubUnavailableError, Issue, errors

FAMILY = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ControlHubError)]


def test_all_errors_are_exported():
    assert len(FAMILY) >= 14
    assert all(error.__name__ in control_hub.__all__ for error in FAMILY)


@pytest.mark.parametrize("error", FAMILY)
def test_errors_survive_pickling(error):
    issues = [Issue("JOBRUNNER_1", "one"), Issue(None, "two")]
    details = {"retry_after": 7.0, "maybe_executed": True} if issubclass(error, ControlHubUnavailableError) else {}
    original = error("Cannot do it.", http_status=400, issues=issues, **details)
    copy = pickle.loads(pickle.dumps(original))
    assert type(copy) is error
    assert str(copy) == copy.message == "Cannot do it."
    assert vars(copy) == vars(original)
    assert copy.http_status == 400
    assert copy.issues == tuple(issues)
    assert copy.codes == ("JOBRUNNER_1",)


def test_issue_formats_code_and_message():
    assert str(Issue("A_1", "wrong")) == "A_1 - wrong"
    assert str(Issue(None, "wrong")) == "wrong"
