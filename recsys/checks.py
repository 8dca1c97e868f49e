"""Dataclasses whose fields declare type and range, such as `share: Annotated[float, Ge(0), Le(1)]`, check them."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from recsys.errors import ConfigError

SECTION: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
"""`__pydantic_config__` of a dataclass that is a section of a configuration file: unknown keys are errors."""


def check_fields(instance: object, section: str) -> None:
    """Check the fields of a dataclass instance against their declared types and ranges; for `__post_init__`.

    Args:
        section: how messages call the instance, as a section of a configuration file: `promote`.

    Raises:
        ConfigError: a value of the wrong type or out of range; the message names field, value and range.
    """
    cls: type = type(instance)
    for name, adapter in _adapters(cls).items():
        try:
            adapter.validate_python(getattr(instance, name))
        except ValidationError as error:
            mistake = error.errors()[0]
            place = ".".join(map(str, (section, name, *mistake["loc"])))
            raise ConfigError(f"{place} = {mistake['input']!r}: {mistake['msg']}") from None


@cache
def _adapters(cls: type) -> dict[str, TypeAdapter[Any]]:
    config = ConfigDict(strict=True, allow_inf_nan=False)
    return {name: TypeAdapter(hint, config=config) for name, hint in get_type_hints(cls, include_extras=True).items()}
