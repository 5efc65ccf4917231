"""The routes, one module per service or group of calls."""

from __future__ import annotations
