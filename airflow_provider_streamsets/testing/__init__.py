"""Testing kit for DAGs: a pytest plugin that runs them against the sandbox."""

from __future__ import annotations
