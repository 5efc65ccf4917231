"""Apache Airflow provider for IBM StreamSets."""

from __future__ import annotations

__version__ = "0.1.0"
