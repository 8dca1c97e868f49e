"""The rules for lists as they are declared: plain values, alike in a configuration, a manifest and a request."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from pydantic import ConfigDict, Strict

from recsys.columns import ITEM, USER
from recsys.errors import ConfigError, absent, did_you_mean
from recsys.files import sha256_of_json
from recsys.params import Count, Fraction, Whole, check_value, hints, plain
from recsys.rules.predicates import Predicate
from recsys.workspace import as_path

Id = Whole | Annotated[str, Strict()]
"""An external id that JSON and TOML hold: a whole number or text."""
FILE: Final = "file"
"""The one key of a table that names a file in place of ids."""
_EXAMPLE: Final = '{"at_most": {"brand": 2}}'
_SHOWN: Final = 1_000
"""Ids that a manifest lists; of more it holds a digest."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What may stand in a list, and what a list is made of: business rules, by external ids and columns of the items.

    They are applied in the order of the fields: only what is allowed, without what is excluded, without what the user
    has seen or is excluded for the user; and of the rest, best first, at most so many items of one value, or by the
    diversity or calibration of the whole list, until the list is full or nothing is left.

    Raises:
        ConfigError: a value of another type or out of range, a predicate that cannot be read, nothing that is allowed,
            or both a diversity and a calibration.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    allow: str | tuple[Id, ...] | Mapping[str, str] | None = None
    """Only these items: a list of ids, a file `{file = "ids.csv"}` (csv or parquet with a column item_id, or text with
    an id a line), or a predicate such as `'stock > 0 and not (brand = "x")'` ([rules.md](rules.md))."""
    exclude: str | tuple[Id, ...] | Mapping[str, str] | None = None
    """Never these items; as `allow`."""
    exclude_pairs: tuple[tuple[Id, Id], ...] | Mapping[str, str] | None = None
    """Never these items for these users, beside what they have seen: pairs of a user and an item, or a file with the
    columns user_id and item_id."""
    at_most: Mapping[str, Count] | None = None
    """Most items of one value of a column in a list, such as `{brand = 2}`. Items without a value are not limited; one
    with several values counts for each of them."""
    diversity: Fraction = 0.0
    """Weight λ of maximal marginal relevance (Carbonell and Goldstein 1998): the next item has the largest
    (1 − λ) · score − λ · its largest similarity to the items before it. Similarity is that of `similar_items`."""
    calibration: Mapping[str, Fraction] | None = None
    """Weight λ by the one column whose mix in the history the list should have, such as `{genre = 0.5}` (Steck 2018):
    the next item has the largest (1 − λ) · score − λ · KL, the divergence of the history's mix from the list's."""
    pool: Count = 100
    """From how many of the user's best candidates `diversity` and `calibration` choose, at least the length of the
    list; their scores are brought to 0..1. Where `at_most` leaves a list short, from four times as many, and so on."""
    items: str | None = None
    """Csv or parquet file of the items, with a column item_id and those that the rules name; by default `[data] items`,
    or what the data say of their items."""
    separators: Mapping[str, str] | None = None
    """What separates the values of a column of text that holds several, such as `{genres = "|"}`."""

    def __post_init__(self) -> None:
        for name in ("allow", "exclude"):
            object.__setattr__(self, name, _ids(getattr(self, name)))
        object.__setattr__(self, "exclude_pairs", _pairs(self.exclude_pairs))
        for name, hint in hints(Rules).items():
            object.__setattr__(self, name, check_value(f"rules.{name}", hint, getattr(self, name)))
        for name in ("allow", "exclude", "exclude_pairs"):
            given = getattr(self, name)
            if isinstance(given, Mapping) and list(given) != [FILE]:
                raise ConfigError(f'rules.{name} takes a file as {{{FILE} = "…"}}, got the keys {sorted(given)}')
            if isinstance(given, str):
                _named(name, given)
        if isinstance(self.allow, tuple) and not self.allow:
            raise ConfigError("rules.allow is an empty list, which allows nothing; leave it out to allow everything")
        for name in ("exclude", "exclude_pairs", "at_most", "calibration", "separators"):  # equal to their absence
            object.__setattr__(self, name, getattr(self, name) or None)
        if self.calibration is not None and len(self.calibration) != 1:
            raise ConfigError(f"rules.calibration takes one column, got {sorted(self.calibration)}")
        if self.diversity and self.calibration:
            raise ConfigError("rules.diversity and rules.calibration choose the same places of a list; leave one out")
        for name, separator in (self.separators or {}).items():
            if not separator:
                raise ConfigError(f"rules.separators.{name} is empty; write the text between two values")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Rules:
        """Return the rules of plain values, as `as_dict` gives them.

        Raises:
            ConfigError: an unknown key (the message names the nearest), or as the constructor.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping):
            raise ConfigError(f"rules are a table of keys and values, got {type(values).__name__}")
        for name in values:
            if name not in known:
                raise ConfigError(f"unknown key {f'rules.{name}'!r}{did_you_mean(str(name), known)}")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> Rules:
        """Return the rules that `as_json` wrote; a ConfigError where the text is something else."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"rules are written as JSON, such as {_EXAMPLE}: {error}") from None
        return cls.of(values)

    @classmethod
    def read(cls, path: str | Path) -> Rules:
        """Return the rules of a TOML file: of its section `[rules]`, or of the whole file where it has no sections.

        Raises:
            ConfigError: it cannot be read or is not TOML, has no rules, or as `of`.
        """
        file = as_path(path)
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise absent(ConfigError(f"there is no file of rules {file}")) from None
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{file} cannot be read as TOML: {error}") from None
        try:
            rules = cls.of(values.get("rules", values))
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error.__cause__
        if not rules:
            raise ConfigError(f"{file} holds no rules; it needs a key such as allow, exclude or at_most")
        return rules

    def as_dict(self) -> dict[str, Any]:
        """Return the rules as JSON values, without those that are at their defaults; `of` reads them."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if not self._is_default(field.name)}
        return {name: _listed(value) for name, value in given.items()}

    def as_json(self) -> str:
        """Return `as_dict` as text; equal rules give equal text."""
        return json.dumps(self.as_dict(), sort_keys=True)

    def shown(self) -> dict[str, Any]:
        """Return `as_dict` for a manifest: of more than a thousand ids it holds their number and a digest."""
        return {
            name: {"number": len(value), "sha256": sha256_of_json(value)}
            if isinstance(value, list) and len(value) > _SHOWN
            else value
            for name, value in self.as_dict().items()
        }

    def steps(self) -> dict[str, Rules]:
        """Return the rules as they grow one by one, in the order in which they are applied, by the name of the last."""
        grown, steps = Rules(pool=self.pool, items=self.items, separators=self.separators), {}
        for name in RULES:
            if not self._is_default(name):
                grown = replace(grown, **{name: getattr(self, name)})
                steps[name] = grown
        return steps

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table of items that the rules read."""
        read = [*(self.at_most or ()), *(self.calibration or ())]
        for name in ("allow", "exclude"):
            if isinstance(predicate := getattr(self, name), str):
                read += _named(name, predicate).columns
        return tuple(dict.fromkeys(read))

    @property
    def reads_files(self) -> bool:
        """Whether the rules name a file, which what comes from elsewhere may not."""
        named = (self.allow, self.exclude, self.exclude_pairs)
        return self.items is not None or any(isinstance(value, Mapping) for value in named)

    def __bool__(self) -> bool:
        """Whether there is any rule."""
        return any(not self._is_default(name) for name in RULES)

    def _is_default(self, name: str) -> bool:
        value = getattr(self, name)
        return bool(value == type(self)._default(name))

    @classmethod
    def _default(cls, name: str) -> Any:
        return next(field.default for field in fields(cls) if field.name == name)


RULES: Final = ("allow", "exclude", "exclude_pairs", "at_most", "diversity", "calibration")
"""The fields that are rules, in the order in which they are applied."""


def _named(name: str, text: str) -> Predicate:
    try:
        return Predicate.parse(text)
    except ConfigError as error:
        raise ConfigError(f"rules.{name}: {error}") from None


def _ids(given: Any) -> Any:
    """Return ids in one order, each once, so that equal rules are equal; other values as they are."""
    if isinstance(given, pd.Series | pd.Index | np.ndarray):
        given = given.tolist()
    return _in_order(map(plain, given)) if isinstance(given, list | tuple | set | frozenset) else given


def _pairs(given: Any) -> Any:
    """Return pairs in one order, each once; of a frame those in its columns user_id and item_id."""
    if hasattr(given, "to_pandas"):
        given = given.to_pandas()
    if isinstance(given, pd.DataFrame):
        if absent := {USER, ITEM} - set(given):
            raise ConfigError(f"rules.exclude_pairs needs the columns user_id and item_id, and lacks {sorted(absent)}")
        given = list(zip(given[USER].tolist(), given[ITEM].tolist(), strict=True))
    return _in_order(map(plain, given)) if isinstance(given, list | tuple | set | frozenset) else given


def _in_order(values: Iterable[Any]) -> tuple[Any, ...]:
    distinct = {(type(value).__name__, repr(value)): value for value in values}
    return tuple(distinct[key] for key in sorted(distinct))


def _listed(value: Any) -> Any:
    """Return a value as JSON has it: tuples as lists, mappings as objects."""
    if isinstance(value, tuple):
        return [_listed(inner) for inner in value]
    return dict(value) if isinstance(value, Mapping) else value
