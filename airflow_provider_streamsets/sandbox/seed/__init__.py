"""The data that the sandbox starts with, and the files it is read from."""

from __future__ import annotations
