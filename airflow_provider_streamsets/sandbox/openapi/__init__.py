"""OpenAPI descriptions of the sandbox's API."""

from __future__ import annotations
