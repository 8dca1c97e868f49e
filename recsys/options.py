"""The parameters of a function as options of a configuration: type, default and meaning, declared once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Annotated, Any, NamedTuple, get_type_hints

from annotated_types import Ge, Lt

from recsys.errors import ConfigError

Seed = Annotated[int, Ge(0), Lt(2**32)]
"""Seed of a random generator; the upper limit is that of numpy's legacy generator."""


class Option(NamedTuple):
    """One parameter of a function."""

    type: Any
    """Its annotation, ranges included."""
    default: Any
    """`inspect.Parameter.empty` if it must be given."""
    meaning: str
    """What `Args` of the docstring says about it; empty if it says nothing."""


def options_of(function: Callable[..., Any], *, skip: int = 0, without: Iterable[str] = ()) -> dict[str, Option]:
    """Return the parameters of a function by name, in its order; `*args` and `**kwargs` are left out.

    Args:
        skip: number of first parameters that are no options.
        without: further parameters that are none.

    Raises:
        ConfigError: an option has no type, or a type cannot be read.
    """
    types = types_of(function, "parameters")
    meanings = _meanings(function)
    options = {}
    for name, parameter in islice(inspect.signature(function).parameters.items(), skip, None):
        if name in without or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name not in types:
            raise ConfigError(f"{name} of {function.__name__} needs a type, such as {name}: float = 0.1")
        options[name] = Option(types[name], parameter.default, meanings.get(name, ""))
    return options


def types_of(owner: Any, what: str) -> dict[str, Any]:
    """Return the annotations of a class or function, ranges included; ConfigError if one cannot be read."""
    try:
        return get_type_hints(owner, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigError(
            f"the types of {owner.__name__}'s {what} cannot be read ({error}); "
            "import them at the top of its module, outside functions and TYPE_CHECKING"
        ) from None


def _meanings(function: Callable[..., Any]) -> dict[str, str]:
    """Return the entries under `Args:` of a docstring by parameter name, each as one line."""
    section = re.search(r"^Args:\n((?: .*\n?|\n)*)", inspect.getdoc(function) or "", flags=re.MULTILINE)
    if section is None:
        return {}
    _, *parts = re.split(r"^    (\w+): ", section[1], flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}
