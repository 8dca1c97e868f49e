"""Splitters by name: the functions that `[split] kind` of a configuration chooses from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from recsys.errors import ConfigError, did_you_mean
from recsys.options import Option, options_of
from recsys.splits.parts import Split

Splitter = TypeVar("Splitter", bound=Callable[..., Split])

_REGISTERED: dict[str, Callable[..., Split]] = {}

SPLITTERS: Final[Mapping[str, Callable[..., Split]]] = MappingProxyType(_REGISTERED)
"""Every registered splitter by its name; what is registered later appears here too."""


def register(splitter: Splitter) -> Splitter:
    """Make a splitter known by its function name: to `[split] kind` of a configuration, and to the documentation.

    A decorator for a function that takes `Interactions` and returns a `Split`. Its further parameters are the options
    of its kind: a configuration is checked against their annotations, and `Args` of the docstring explains them. Two
    names have a meaning: jobs keep the column that `column` names when they read the data, and add the number of a
    repeat to `seed`. Registered again, a splitter replaces its earlier self.

    Raises:
        ConfigError: not a function with a parameter for the data, an option without a readable type, or another
            module registered the name.
    """
    if not inspect.isfunction(splitter) or not inspect.signature(splitter).parameters:
        raise ConfigError(f"register takes a function of Interactions that returns a Split, got {splitter!r}")
    name = splitter.__name__
    other = _REGISTERED.get(name)
    if other is not None and other.__module__ != splitter.__module__:
        raise ConfigError(f"{other.__module__} registered a splitter {name} already; choose another function name")
    _options(splitter)  # refused here if a type cannot be read
    _REGISTERED[name] = splitter
    return splitter


def splitter_of(kind: str) -> Callable[..., Split]:
    """Return the splitter of that name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if kind not in _REGISTERED:
        raise ConfigError(f"there is no splitter {kind!r}{did_you_mean(kind, _REGISTERED)}")
    return _REGISTERED[kind]


def options_of_kind(kind: str) -> dict[str, Option]:
    """Return the options of the splitter of that name.

    Raises:
        ConfigError: there is no such splitter.
    """
    return _options(splitter_of(kind))


def _options(splitter: Callable[..., Split]) -> dict[str, Option]:
    data, *_ = inspect.signature(splitter).parameters
    return options_of(splitter, without=(data,))
