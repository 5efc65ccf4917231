"""
A local Control Hub over HTTP, for trying the provider out and for testing it.

It shares no code with the rest of the package, so that neither can hide a mistake of the other.
"""

from __future__ import annotations
