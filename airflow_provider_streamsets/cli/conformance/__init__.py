"""
Check how a Control Hub behaves where contract section 18 does not know it.

Runs against a live Control Hub or a sandbox. Imports nothing from Airflow.
"""

from __future__ import annotations

from airflow_provider_streamsets.cli.conformance.report import (
    ConformanceReport,
    Finding,
    run_conformance,
    write_report,
)

__all__ = ["ConformanceReport", "Finding", "run_conformance", "write_report"]
