"""The bodies that go over the wire, made from the world at a moment."""

from __future__ import annotations
