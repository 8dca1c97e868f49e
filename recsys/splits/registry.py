"""The registry of splitters, and the checks of their options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Any, Final, TypeVar

from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.interactions import Interactions
from recsys.options import Option, options_of
from recsys.params import check_value
from recsys.splits.parts import Split

Splitter = TypeVar("Splitter", bound=Callable[..., Split])
Rule = Callable[..., None]

_REGISTERED: dict[str, Callable[..., Split]] = {}
_RULES: dict[Callable[..., Split], Rule] = {}

SPLITTERS: Final[Mapping[str, Callable[..., Split]]] = MappingProxyType(_REGISTERED)
"""Every registered splitter by its name; what is registered later appears here too."""


def register(splitter: Splitter) -> Splitter:
    """Make a function from `Interactions` to a `Split` known by its name to `[split] kind` of a configuration.

    Its further parameters are the options of its kind: a configuration is checked against their annotations, and `Args`
    of the docstring explains them. Two names have a meaning: jobs keep the column that `column` names when they read
    the data, and add the number of a repeat to `seed`. Registered again, a splitter replaces its earlier self.

    Raises:
        ConfigError: not a function with a parameter for the data, an option without a readable type, or another
            module registered the name.
    """
    if not inspect.isfunction(splitter) or not inspect.signature(splitter).parameters:
        raise ConfigError(f"register takes a function of Interactions that returns a Split, got {splitter!r}")
    name = splitter.__name__
    if (known := _REGISTERED.get(name, splitter).__module__) != splitter.__module__:
        raise ConfigError(f"{known} registered a splitter {name} already; choose another function name")
    options_of(splitter, skip=1)  # refused here if a type cannot be read
    _REGISTERED[name] = splitter
    return splitter


def checked(rule: Rule | None = None) -> Callable[[Splitter], Splitter]:
    """Return a decorator of a splitter that checks its options by their annotations, and together by a rule.

    In Python a wrong option is a DataError. In a configuration types are checked without it, and the rule before data
    are read, if `register` stands above it.

    Args:
        rule: function of some of the options, by their names, that raises a DataError if they do not go together.
    """

    def decorate(splitter: Splitter) -> Splitter:
        signature, options = inspect.signature(splitter), options_of(splitter, skip=1)

        @wraps(splitter)
        def split(data: Interactions, *positional: Any, **named: Any) -> Split:
            given = signature.bind(data, *positional, **named).arguments
            try:
                given |= {name: check_value(name, options[name].type, given[name]) for name in given if name in options}
            except ConfigError as error:
                raise DataError(str(error)) from None
            _obey(rule, options, given)
            return splitter(**given)

        if rule is not None:
            _RULES[split] = rule
        return split  # type: ignore[return-value]

    return decorate


def splitter_of(kind: str) -> Callable[..., Split]:
    """Return the splitter of that name; ConfigError if there is none."""
    if kind not in _REGISTERED:
        raise ConfigError(f"there is no splitter {kind!r}{did_you_mean(kind, _REGISTERED)}")
    return _REGISTERED[kind]


def options_of_kind(kind: str) -> dict[str, Option]:
    """Return the options of the splitter of that name; ConfigError if there is none."""
    return options_of(splitter_of(kind), skip=1)


def check_together(kind: str, given: Mapping[str, Any]) -> None:
    """Raise a DataError if options of the splitter of that name do not go together; those not given have defaults."""
    _obey(_RULES.get(splitter_of(kind)), options_of_kind(kind), given)


def _obey(rule: Rule | None, options: Mapping[str, Option], given: Mapping[str, Any]) -> None:
    if rule is not None:
        values = {name: option.default for name, option in options.items()} | dict(given)
        rule(**{name: values[name] for name in inspect.signature(rule).parameters})
