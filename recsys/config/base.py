"""What every section is made of, and sections whose keys are the parameters of functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from recsys.errors import ConfigError, did_you_mean
from recsys.options import Option
from recsys.params import describe, plain


class Section(BaseModel):
    """A part of the configuration; it cannot be changed, and has no other keys than its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class OpenSection(Section):
    """A section whose further keys are the parameters of functions. It holds those that are given, unchecked."""

    model_config = ConfigDict(extra="allow")

    @property
    def given(self) -> dict[str, Any]:
        """The further keys with a value."""
        return {name: value for name, value in (self.model_extra or {}).items() if value is not None}


def checked(
    section: str, given: Mapping[str, Any], options: Mapping[str, Option], others: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the given parameters of functions as Python values, checked against their annotations.

    Args:
        section: name of the section, for messages.
        given: values by parameter.
        options: the parameters.
        others: further keys of the section, which an unknown key may have meant.

    Raises:
        ConfigError: unknown keys (the message names the nearest), values of the wrong type or out of range, or a
            parameter without a default that is not given.
    """
    values, mistakes = {}, []
    for name, value in given.items():
        if name not in options:
            mistakes.append(f"unknown key '{section}.{name}'{did_you_mean(name, [*others, *options])}")
            continue
        try:
            values[name] = _adapter(options[name].type).validate_python(plain(value))
        except ValidationError:
            mistakes.append(f"{section}.{name} must be {describe(options[name].type)}, got {value!r}")
    mistakes += [
        f"{section}.{name} is needed: {option.meaning}"
        for name, option in options.items()
        if option.required and name not in given
    ]
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    return values


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True))
