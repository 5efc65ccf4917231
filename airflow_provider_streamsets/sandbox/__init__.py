"""
A local Control Hub that serves the REST API, for trial use, tests and continuous integration.

Shares no code with the rest of the package, so that neither side can hide an error of the other.
"""

from __future__ import annotations
