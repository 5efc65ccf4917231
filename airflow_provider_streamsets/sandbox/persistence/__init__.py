"""Persistence of the sandbox's state in a file."""

from __future__ import annotations
