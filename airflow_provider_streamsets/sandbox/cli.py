"""The command ``streamsets-sandbox``."""

from __future__ import annotations

import sys

NEEDED = frozenset({"click", "fastapi", "jinja2", "multipart", "python_multipart", "starlette", "uvicorn", "yaml"})


def main() -> None:
    """Run the command, or say what is missing for it."""
    try:
        from airflow_provider_streamsets.sandbox.server import command
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        sys.exit(
            f"The sandbox needs {error.name}, which is not installed: "
            "pip install 'airflow-provider-streamsets[sandbox]'"
        )
    command()
