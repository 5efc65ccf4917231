"""Response bodies, computed from the backend at a point in time."""

from __future__ import annotations
