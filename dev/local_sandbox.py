"""A sandbox in a separate process, for the demo, the benchmarks and tests over HTTP."""

from __future__ import annotations

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess

__all__ = ["SandboxProcess"]
