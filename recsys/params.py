"""Hyperparameters: type, range and meaning are declared at the field, and one mechanism reads them.

A field such as

    hidden: Count = 600
    '''Width of the hidden layer.'''

is checked by `fit` and by a configuration file alike, shown by `help`, listed in the documentation and given to
scikit-learn's `clone`. Ranges are the standard `annotated_types` markers: `Annotated[int, Ge(1)]`.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Self, Union, get_args, get_origin

import numpy as np
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import ConfigDict, Strict, TypeAdapter, ValidationError

from recsys.errors import ConfigError, RecsysError, did_you_mean
from recsys.options import Seed as Seed
from recsys.options import types_of

Whole = Annotated[int, Strict()]
"""A whole number and neither true nor text, also where a type is not read by `check_value`."""
Real = Annotated[float, Strict()]
"""A number, whole or not, and neither true nor text."""
Count = Annotated[Whole, Ge(1)]
"""A number of things of which there must be one."""
Natural = Annotated[Whole, Ge(0)]
"""A number of things of which there may be none."""
Positive = Annotated[Real, Gt(0)]
NotNegative = Annotated[Real, Ge(0)]
Fraction = Annotated[Real, Ge(0), Le(1)]
"""A share from 0 to 1, both included."""
Rate = Annotated[Real, Ge(0), Lt(1)]
"""A share from 0 to 1, 1 excluded, such as that of dropout."""
OpenFraction = Annotated[Real, Gt(0), Lt(1)]
"""A share between 0 and 1, both excluded."""
Widths = tuple[Count, ...]
"""Widths of layers, from the input inward; there may be none."""

RENAMED: Final = {
    "centre": "center",
    "neighbours": "neighbors",
    "normalise": "normalize",
    "pretraining": "pretraining_share",
}
"""Names of hyperparameters in version 0.1.0, and what 0.2.0 calls them."""


class Parameters:
    """Keyword-only dataclass fields as hyperparameters, with the methods that scikit-learn expects of an estimator."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the hyperparameters as they were given.

        Args:
            deep: ignored; scikit-learn passes it, and no hyperparameter is an estimator.
        """
        del deep
        return {field.name: getattr(self, field.name) for field in _fields(type(self))}

    def set_params(self, **params: Any) -> Self:
        """Change hyperparameters; like the constructor it stores what it gets, and `fit` checks.

        Raises:
            ConfigError: there is no hyperparameter of that name.
        """
        known = [field.name for field in _fields(type(self))]
        for name in params:
            if name not in known:
                raise _unknown(type(self), name, known)
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def params(self) -> dict[str, Any]:
        """Return the hyperparameters as JSON values; a random generator as seed becomes None."""
        given = self.get_params()
        return {name: None if isinstance(value, np.random.Generator) else plain(value) for name, value in given.items()}

    def check_params(self) -> None:
        """Check the hyperparameters; `fit` begins with it. numpy scalars become Python numbers, lists tuples.

        Raises:
            ConfigError: a value of the wrong type or out of range, or values that exclude each other.
        """
        given = self.get_params()
        check(type(self), given)
        for name, value in given.items():
            setattr(self, name, plain(value))
        self._check_params()

    def _check_params(self) -> None:
        """Check what no single field can say, such as hyperparameters that exclude each other."""


def check(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters of a class checked, as Python values: numpy scalars as numbers, lists as tuples.

    Args:
        cls: a dataclass whose fields are hyperparameters.
        values: some of them or all.

    Raises:
        ConfigError: an unknown name (the message names the nearest), a value of the wrong type or out of range, or a
            field whose type cannot be read.
    """
    types = hints(cls)
    for name in values:
        if name not in types:
            raise _unknown(cls, name, types)
    return {name: check_value(f"{name} of {cls.__name__}", types[name], value) for name, value in values.items()}


def check_value(name: str, hint: Any, value: Any) -> Any:
    """Return a value as Python has it, checked against a type and its range.

    Args:
        name: what the value is, for messages.

    Raises:
        ConfigError: the value is of another type or out of range.
    """
    try:
        return _adapter(hint).validate_python(plain(value))
    except ValidationError as error:
        causes = [mistake.get("ctx", {}).get("error") for mistake in error.errors()]
        if own := [cause for cause in causes if isinstance(cause, ConfigError)]:  # a validator's, which knows more
            raise own[0] from None
        raise ConfigError(f"{name} must be {describe(hint)}, got {value!r}") from None


def check_count(name: str, value: Any, error: type[RecsysError] = ConfigError) -> int:
    """Return a number of things, of which there must be one, as a Python int; 2.0 is 2.

    Raises:
        ConfigError: no number, a fraction, below 1 or beyond 63 bits; `error` in its place, where another is given.
    """
    given = value.item() if isinstance(value, np.generic | np.ndarray) and not value.ndim else value
    if isinstance(given, bool) or not isinstance(given, int | float) or given != given // 1:  # NaN and infinity too
        raise error(f"{name} must be a whole number, got {value!r}")
    if given < 1:
        raise error(f"{name} must be at least 1, got {value!r}")
    if given > sys.maxsize:
        raise error(f"{name} must be at most {sys.maxsize:,}")
    return int(given)


def random_generator(seed: int | np.random.Generator | None) -> np.random.Generator:
    """Return the generator of a seed; a generator is returned as it is, and None gives fresh entropy.

    Raises:
        ConfigError: a seed that is no whole number, or is negative.
    """
    return np.random.default_rng(check_value("seed", Natural | np.random.Generator | None, seed))


def seed_of_32_bits(seed: int) -> int:
    """Return a seed below 2^32, which is what scikit-learn takes; one that is below stays as it is.

    Raises:
        ConfigError: a seed that is no whole number, or is negative.
    """
    return int(check_value("seed", Natural, seed)) % 2**32


def modern(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters that version 0.1.0 stored under the names that the class gives them now."""
    names = {field.name for field in _fields(cls)}
    return {name if name in names else RENAMED.get(name, name): value for name, value in values.items()}


def plain(value: Any) -> Any:
    """Return a value as Python has it: numpy scalars as numbers, lists as tuples, anything else as it is."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value


@cache
def hints(cls: Any) -> dict[str, Any]:
    """Return the type of each hyperparameter of a class, ranges included.

    Raises:
        ConfigError: a type cannot be read, such as one that is only imported for type checkers.
    """
    found = types_of(cls, "hyperparameters")
    return {field.name: found[field.name] for field in _fields(cls)}


def describe(hint: Any) -> str:
    """Return a type in words: `a whole number ≥ 1 or None`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{describe(arguments[0])}{_ranges(arguments[1:])}"
    if origin in (Union, UnionType):
        return " or ".join(map(describe, arguments))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is tuple:
        return f"a tuple with each entry {describe(arguments[0])}"
    if origin is Mapping:
        return "a table" if arguments[1] is Any else f"a table with each value {describe(arguments[1])}"
    words = {
        int: "a whole number",
        float: "a finite number",
        bool: "True or False",
        str: "text",
        NoneType: "None",
        np.random.Generator: "a numpy Generator",
    }
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def help_of(cls: type) -> str:
    """Return a line for each hyperparameter of a class: name, type, range, default and meaning."""
    docs, types = field_docs(cls), hints(cls)
    lines = []
    for field in _fields(cls):
        default = "" if field.default is MISSING else f" Default {field.default!r}."
        text = f"{field.name}: {describe(types[field.name])}.{default} {docs.get(field.name, '')}"
        lines.append(textwrap.fill(" ".join(text.split()), 116, initial_indent="    ", subsequent_indent="        "))
    return "Hyperparameters:\n" + "\n".join(lines) if lines else "No hyperparameters."


def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring under each field of a class, those that it inherits included; empty without its source."""
    docs: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if "__annotations__" in vars(owner) and owner.__module__ != "builtins":
            docs |= _own_docs(owner)
    return docs


def _unknown(cls: type, name: str, known: Iterable[str]) -> ConfigError:
    today = RENAMED.get(name, name)
    hint = f": it was renamed to {today!r} in 0.2.0" if today in known else did_you_mean(name, known)
    return ConfigError(f"{cls.__name__} has no hyperparameter {name!r}{hint}")


def _fields(cls: type) -> tuple[Field[Any], ...]:
    return fields(cls) if hasattr(cls, "__dataclass_fields__") else ()


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True))


def _own_docs(cls: type) -> dict[str, str]:
    try:
        body = _classes(str(inspect.getsourcefile(cls)))[cls.__qualname__].body
    except (OSError, TypeError, KeyError, SyntaxError):  # typed at a prompt, say
        return {}
    docs = {}
    for node, after in pairwise(body):
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and is_text:
            docs[node.target.id] = " ".join(str(after.value.value).split())  # type: ignore[attr-defined]
    return docs


@cache
def _classes(file: str) -> dict[str, ast.ClassDef]:
    """Return the classes of a file by their qualified names; each file is parsed once."""
    return dict(_definitions(ast.parse(Path(file).read_text(encoding="utf-8")), ""))


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield f"{prefix}{child.name}", child
            yield from _definitions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef):
            yield from _definitions(child, f"{prefix}{child.name}.<locals>.")
        elif isinstance(child, ast.stmt):
            yield from _definitions(child, prefix)


def _ranges(markers: tuple[Any, ...]) -> str:
    signs: dict[type, tuple[str, str]] = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
    bounds = [
        f"{signs[type(marker)][0]} {getattr(marker, signs[type(marker)][1])}"
        for marker in markers
        if type(marker) in signs
    ]
    filled = any(isinstance(marker, MinLen) for marker in markers)
    return (f" {' and '.join(bounds)}" if bounds else "") + (", not empty" if filled else "")
