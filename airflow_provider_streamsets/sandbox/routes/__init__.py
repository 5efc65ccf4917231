"""The HTTP routes, by service."""

from __future__ import annotations
