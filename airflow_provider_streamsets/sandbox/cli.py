"""Entry point of the command ``streamsets-sandbox``."""

from __future__ import annotations

import sys

REQUIRED_MODULES = frozenset(
    {"click", "fastapi", "jinja2", "multipart", "pydantic", "python_multipart", "starlette", "uvicorn", "yaml"}
)


def main(arguments: list[str] | None = None) -> None:
    """
    Run the command, or exit with the command that installs a missing requirement.

    :param arguments: arguments of the command line; those of this process by default
    """
    try:
        # Not at the top: a missing requirement must be reported, not raised.
        from airflow_provider_streamsets.sandbox.server import command
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in REQUIRED_MODULES:
            raise
        sys.exit(
            f"The sandbox needs {error.name}, which is not installed: "
            "pip install 'airflow-provider-streamsets[sandbox]'"
        )
    command(arguments)
