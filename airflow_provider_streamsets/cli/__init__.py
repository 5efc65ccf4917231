"""The commands ``airflow streamsets ...`` and ``python -m airflow_provider_streamsets ...``."""

from __future__ import annotations
