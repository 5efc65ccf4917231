"""Reading YAML and JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from airflow_provider_streamsets.sandbox.seed_place import SeedError


def read_document(path: Path) -> Any:
    """
    Return what a YAML or JSON file holds.

    :raises SeedError: if it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise SeedError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise SeedError(f"{path}: is no valid {path.suffix.lstrip('.') or 'YAML'}: {error}") from error
