"""Run the sandbox with ``python -m airflow_provider_streamsets.sandbox``."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.cli import main

if __name__ == "__main__":
    main()
