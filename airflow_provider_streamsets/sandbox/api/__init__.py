"""The HTTP API of the sandbox."""

from __future__ import annotations
