"""The parameters of a function as options of a configuration: type, default and meaning, declared once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Lt

from recsys.errors import ConfigError

Seed = Annotated[int, Ge(0), Lt(2**32)]
"""Seed of a random generator; the upper limit is that of numpy's legacy generator."""


@dataclass(frozen=True)
class Option:
    """One parameter of a function."""

    type: Any
    """Its annotation, ranges included."""
    default: Any
    """`inspect.Parameter.empty` if it must be given."""
    meaning: str
    """What `Args` of the docstring says about it; empty if it says nothing."""

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty


def options_of(function: Callable[..., Any], *, without: Iterable[str] = ()) -> dict[str, Option]:
    """Return the parameters of a function by name, in its order; `*args` and `**kwargs` are left out.

    Args:
        without: parameters that are no options.

    Raises:
        ConfigError: an option has no type, or a type cannot be read.
    """
    try:
        types = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigError(
            f"the types of {function.__name__}'s parameters cannot be read ({error}); "
            "import them at the top of its module, outside functions and TYPE_CHECKING"
        ) from None
    meanings = _meanings(function)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    options = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in without or parameter.kind in variadic:
            continue
        if name not in types:
            raise ConfigError(f"{name} of {function.__name__} needs a type, such as {name}: float = 0.1")
        options[name] = Option(types[name], parameter.default, meanings.get(name, ""))
    return options


def _meanings(function: Callable[..., Any]) -> dict[str, str]:
    """Return the entries under `Args:` of a docstring by parameter name, each as one line."""
    section = re.search(r"^Args:\n((?: .*\n?|\n)*)", inspect.getdoc(function) or "", flags=re.MULTILINE)
    if section is None:
        return {}
    _, *parts = re.split(r"^    (\w+): ", section[1], flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}
