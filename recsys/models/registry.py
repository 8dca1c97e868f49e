"""The one place that finds a model's class by its name, for this package's models and for a user's own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar, dataclass_transform

from recsys.artifacts import Bundle, read_bundle
from recsys.errors import BundleError, ConfigError, did_you_mean
from recsys.models.base import Recommender
from recsys.models.capabilities import Capabilities
from recsys.models.spaces import check_space
from recsys.params import help_of, hints
from recsys.workspace import as_path

Model = TypeVar("Model", bound=Recommender)

_REGISTERED: dict[str, type[Recommender]] = {}

MODELS: Final[Mapping[str, type[Recommender]]] = MappingProxyType(_REGISTERED)
"""Every registered class by its name; what is registered later appears here too."""


@dataclass_transform(kw_only_default=True, eq_default=False)
def register(cls: type[Model]) -> type[Model]:
    """Make a model known by its class name: to configuration files, to `recsys.load` and to every job.

    A decorator. The class becomes a keyword-only dataclass if it is none of its own, and its docstring gains a line for
    each hyperparameter. Registered again, as when a notebook's cell is run twice, a class replaces its earlier self.

    Raises:
        ConfigError: not a concrete model, no capabilities, hyperparameters whose types cannot be read, a search space
            with what is no hyperparameter or no value of it, or another model has the name.
    """
    if not (isinstance(cls, type) and issubclass(cls, Recommender)):
        raise ConfigError(f"register takes a class that inherits from recsys.Recommender, got {cls!r}")
    if inspect.isabstract(cls):
        lacking = ", ".join(sorted(cls.__abstractmethods__))
        raise ConfigError(f"{cls.__name__} lacks {lacking}; define what a model must have, then register it")
    if not isinstance(getattr(cls, "capabilities", None), Capabilities):
        raise ConfigError(f"{cls.__name__} does not say what it can do: give it capabilities = Capabilities(...)")
    other = _REGISTERED.get(cls.__name__)
    if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ConfigError(f"{other.__module__} registered a model {cls.__name__} already; choose another class name")
    inherited = {field.name for base in cls.__mro__[1:] if is_dataclass(base) for field in fields(base)}
    for name in sorted(inherited & vars(cls).keys() - vars(cls).get("__annotations__", {}).keys()):
        raise ConfigError(f"{cls.__name__}.{name} overrides a hyperparameter: give it a type, such as {name}: float")
    text = inspect.cleandoc(vars(cls).get("__doc__") or f"{cls.__name__} has no docstring.")
    if "__dataclass_fields__" not in vars(cls):
        cls = dataclass(kw_only=True, eq=False)(cls)
    hints(cls)  # type: ignore[arg-type]  # refused here if a type cannot be read
    check_space(cls)
    if cls is not other:
        cls.__doc__ = f"{text}\n\n{help_of(cls)}"
    _REGISTERED[cls.__name__] = cls
    return cls


def model_class(name: str) -> type[Recommender]:
    """Return the class of that name; a ConfigError names the nearest if there is none."""
    if name not in _REGISTERED:
        raise ConfigError(
            f"unknown model {name!r}{did_you_mean(name, MODELS)}; "
            "a model of your own is known once the module that registers it is imported (--import MODULE)"
        )
    return _REGISTERED[name]


def load(path: str | Path, *, device: str = "auto") -> Recommender:
    """Read a saved model of any registered class from its folder; nothing in it is executed, and nothing imported.

    It computes on `device` from now on, whatever it was trained on.

    Raises:
        BundleError: nothing there, damaged, of a newer schema, or of a class that is not registered.
    """
    bundle = read_bundle(as_path(path))
    return class_of(bundle, str(path))._from_bundle(bundle, str(path), device)


def class_of(bundle: Bundle, where: str) -> type[Recommender]:
    """Return the class of a saved model; a BundleError says what to import if it is not registered."""
    if bundle.model in _REGISTERED:
        return _REGISTERED[bundle.model]
    module = bundle.module
    if module == "__main__":
        hint = "it was defined in a script or notebook: run what defines and registers it, then load again"
    elif not isinstance(module, str) or module.startswith("recsys."):
        hint = f"this version knows {', '.join(MODELS)}"
    else:
        hint = f"import {module}, which registers it, then load again (in a command: --import {module})"
    raise BundleError(f"{where} holds a {bundle.model}, which is not registered: {hint}")
