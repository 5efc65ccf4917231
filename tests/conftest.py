"""Keeps tests away from the Airflow and the network settings of whoever runs them."""

from __future__ import annotations

import os
import tempfile

from hypothesis import HealthCheck, settings

_NETWORK = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"}

for name in list(os.environ):
    if name.startswith("AIRFLOW") or name.lower() in _NETWORK:
        del os.environ[name]
# Deleted when the interpreter exits.
_airflow_home = tempfile.TemporaryDirectory(prefix="airflow-home-", ignore_cleanup_errors=True)
os.environ["AIRFLOW_HOME"] = _airflow_home.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"

# On a loaded machine, generating examples may take long. A change must not fail because of that, nor because of an
# example that the one before it did not happen to meet.
settings.register_profile("local", suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
