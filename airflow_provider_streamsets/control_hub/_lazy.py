"""Packages that load their modules on first use (PEP 562), so that DAG parsing does not load them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_attributes(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """
    Return the ``__getattr__`` of a package that imports its public names on first use.

    ``from package import name`` is such a use; import the package, and write ``package.name``.

    :param package: name of the package
    :param names: the names, by the module of the package that defines them
    """
    modules = {name: module for module, defined in names.items() for name in defined}

    def getattribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return getattribute
