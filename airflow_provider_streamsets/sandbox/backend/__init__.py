"""The state of the simulated Control Hub and the rules for changing it."""

from __future__ import annotations
