"""Fault injection for requests to the sandbox."""

from __future__ import annotations
