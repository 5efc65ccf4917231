"""HTML pages of the sandbox."""

from __future__ import annotations
