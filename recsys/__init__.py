"""Top-N recommendation with autoencoders: train, evaluate, register, promote and score in batch.

`__init__.pyi` lists the public names. They are imported when they are first used: torch takes seconds to load, and a
command's --help should not.
"""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def _homes() -> dict[str, str]:
    """Return the module of each public name; models are found by their registry."""
    stub = ast.parse(__loader__.get_data(str(Path(__file__).with_suffix(".pyi"))))  # also from a zip file
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names if alias.name != "*"}


_HOMES = _homes()


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name == "__version__":
        try:
            return version("recsys")
        except PackageNotFoundError:
            raise AttributeError("recsys has no version: it runs from its source and is not installed") from None
    home = _HOMES.get(name)
    if home == "recsys":
        return import_module(f"recsys.{name}")
    if home is not None:
        return getattr(import_module(home), name)
    if name[:1].isupper() and name in (models := _models()):  # not for a module, which may be one that they import
        return models[name]
    raise AttributeError(f"module 'recsys' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_HOMES, *_models(), "__version__"])


def _models() -> dict[str, Any]:
    """Return the models of this package by name; a user's own stay in the user's module."""
    registered = import_module("recsys.models").MODELS
    return {name: cls for name, cls in registered.items() if cls.__module__.startswith("recsys.")}
