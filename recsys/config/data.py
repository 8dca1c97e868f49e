"""The sections whose keys are parameters of functions: what to read, and how to split it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from inspect import Parameter
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args

import numpy as np
import pandas as pd
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from recsys import datasets, shards
from recsys.columns import ITEM, USER
from recsys.datasets import NAMES, SYNTHETIC
from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.interactions import Interactions
from recsys.options import Option, options_of
from recsys.params import check_value, plain
from recsys.splits import Split, check_together, options_of_kind, splitter_of

_COLUMNS = options_of(Interactions.from_frame, skip=1, without=("keep", "titles", "items", "users"))
READ: Final = options_of(datasets.read, skip=1, without=["keep"]) | _COLUMNS
"""Keys of `[data]` for data that are read."""
GENERATE: Final = options_of(datasets.synthetic)
"""Keys of `[data]` for the synthetic data set."""
FILTER: Final = options_of(Interactions.filter, skip=1)
"""Keys of `[data]` that select interactions."""


class Section(BaseModel):
    """A part of the configuration; it cannot be changed, and has no other keys than its fields.

    Values are not converted: neither `"3"` nor `true` is a number. Lists become tuples, a whole number is a number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return plain(value)


class OpenSection(Section):
    """A section whose further keys are the parameters of functions. It holds those that are given, unchecked."""

    model_config = ConfigDict(extra="allow")

    @property
    def given(self) -> dict[str, Any]:
        """The further keys with a value."""
        return {name: value for name, value in (self.model_extra or {}).items() if value is not None}

    def _checked(self, section: str, options: Mapping[str, Option]) -> dict[str, Any]:
        """Return the further keys as Python values, checked against these parameters; messages name the section."""
        known = [*type(self).model_fields, *options]
        unknown = [name for name in self.given if name not in options]
        mistakes = [f"unknown key '{section}.{name}'{did_you_mean(name, known)}" for name in unknown]
        needed = [name for name, option in options.items() if option.default is Parameter.empty]
        missing = [name for name in needed if name not in self.given]
        mistakes += [f"{section}.{name} is needed: {options[name].meaning}" for name in missing]
        if mistakes:
            raise ConfigError("; ".join(mistakes))
        return {name: _as_python(f"{section}.{name}", options[name], value) for name, value in self.given.items()}


class DataConfig(OpenSection):
    """Which interactions to read, and which of them to keep."""

    name: str = SYNTHETIC
    """A known data set (see data/README.md), or any name together with `file`, by default that of the file."""
    file: str | None = None
    """A file or folder of your own, in a layout that `recsys.datasets.read` knows, relative to the working folder."""
    shards: str | None = None
    """A folder that `recsys prepare` has written, in place of a table: the data are read, filtered and split already,
    so that no other key goes with it, and no `[split]` ([scale.md](scale.md))."""
    binary: bool = False
    """Give every interaction the value 1."""

    @model_validator(mode="before")
    @classmethod
    def _named_by_file(cls, values: Any) -> Any:
        for source in ("file", "shards"):
            if isinstance(values, Mapping) and isinstance(values.get(source), str) and values.get("name") is None:
                return {**values, "name": Path(values[source]).name.partition(".")[0] or values[source]}
        return values

    def load(self, keep: str | Iterable[str] = (), root: Path | None = None) -> Interactions:
        """Read, filter and binarize, with further columns to keep; `root` as in `recsys.datasets.load`."""
        return self.training_data(self.read(keep, root))

    def histories(self, root: Path | None = None) -> tuple[Interactions, Interactions | None]:
        """Return the histories to recommend from: what a model reads, and everything that its users have seen.

        The first is `load` without the filters by count, which select what to train on. The second also holds items
        that a user has seen and rated below `min_rating`; it is None without that filter. A table of users is not read:
        what a model knows of them it has learned.

        Of shards that were not split (`recsys prepare --unsplit`) they stay on disk.

        Raises:
            ConfigError: the data are shards of a split, which do not hold everybody's history in one place.
        """
        if self.shards is not None:
            whole = shards.open(self.shards)
            if whole.manifest["parts"]:
                raise ConfigError(
                    f"{self.shards} holds parts of a split; name a table of the histories, or what "
                    "recsys prepare --unsplit has made of it"
                )
            return whole.train, None
        return self.histories_of(self.read((), root, users=False))

    def read(self, keep: str | Iterable[str] = (), root: Path | None = None, *, users: bool = True) -> Interactions:
        """Read the data before any filter; arguments as in `load`. Of shards the entries stay on disk.

        Args:
            users: read the table of users too, if one is named.
        """
        if self.shards is not None:
            return shards.Stored(shards.open(self.shards), whole=True)
        if self.file is None and self.name == SYNTHETIC:
            return datasets.synthetic(**self._values(GENERATE))
        options = {name: value for name, value in self._values(READ).items() if users or name != "users"}
        if self.file:
            return datasets.read(self.file, keep=keep, **options)
        return datasets.load(self.name, root=root, keep=keep, **options)

    def table(self) -> tuple[str, dict[str, Any]]:
        """Return the file that is read, and the keys for reading it; a ConfigError for data that are no file."""
        if self.file is None:
            raise ConfigError(f"data.file is needed, got the data set {self.name!r}")
        return self.file, self._values(READ)

    def filters(self) -> dict[str, Any]:
        """Return the keys that select interactions."""
        return self._values(FILTER)

    def item_table(self) -> tuple[pd.DataFrame, str] | None:
        """Return the table of items that `items` names, and the name of the column of items; None without one."""
        given = self._values(READ)
        if self._sources[0] is GENERATE or given.get("items") is None:  # there it is how many are generated
            return None
        options = {name: given[name] for name in ("item", "item_key", "item_title", "ids", "encoding") if name in given}
        return datasets.read_items(given["items"], **options), options.get("item", ITEM)

    def items_in(self, file: str) -> pd.DataFrame:
        """Return another table of items, csv or parquet, read as `item_table`, its items under `item_id`."""
        return self._table_in(datasets.read_items, file, "item", ITEM)

    def users_in(self, file: str) -> pd.DataFrame:
        """Return a table of users, csv or parquet, read as the data read theirs, its users under `user_id`."""
        return self._table_in(datasets.read_users, file, "user", USER)

    def _table_in(self, read: Callable[..., pd.DataFrame], file: str, key: str, usual: str) -> pd.DataFrame:
        """Return a table read as the data are, the column that `key` names under its usual name."""
        given = self._values(READ)
        options = {name: given[name] for name in (key, "ids", "encoding") if name in given}
        table, own = read(file, **options), options.get(key, usual)
        return table.rename(columns={own: usual}) if own in table and usual not in table else table

    def training_data(self, raw: Interactions) -> Interactions:
        """Return the result of `read`, filtered and binarized for training."""
        if self.shards is not None:
            return raw
        data = raw.filter(**self.filters())
        return data.binarized() if self.binary else data

    def histories_of(self, raw: Interactions) -> tuple[Interactions, Interactions | None]:
        """Return `histories` of the result of `read`."""
        least = self.given.get("min_rating")
        without_counts = self.model_copy(update={"min_user": 0, "min_item": 0})
        return of_everyone(without_counts.training_data(raw), None if least is None else raw)

    def check(self) -> dict[str, Any]:
        """Return the keys that are parameters of functions, checked; ConfigError if they or the name are wrong."""
        if self.shards is not None:
            others = [*self.given, *(name for name in ("file", "binary") if getattr(self, name))]
            if others:
                raise ConfigError(
                    f"data.{others[0]} does not go with data.shards, whose data are read and filtered already"
                )
            return {}
        if self.file is None and self.name not in NAMES:
            raise ConfigError(f"unknown data set {self.name!r}{did_you_mean(self.name, NAMES)}")
        own, other = self._sources
        options = {**other, **own, **{name: other[name] for name in self.unread()}, **FILTER}
        return self._checked("data", options)

    def unread(self) -> list[str]:
        """Return the given keys that are for other data than these: generated ones, or ones that are read."""
        own, other = self._sources
        of_other = {name: value for name, value in self.given.items() if name in other}
        return [name for name, value in of_other.items() if name not in own or not _fits(own[name], value)]

    @property
    def _sources(self) -> tuple[dict[str, Option], dict[str, Option]]:
        """The keys that say how these data are generated or read, and those for data of the other kind."""
        return (GENERATE, READ) if self.file is None and self.name == SYNTHETIC else (READ, GENERATE)

    def of(self, source: Mapping[str, str]) -> DataConfig:
        """Return the section of other data, a `file` or a `name`, with those keys of this one that apply to them."""
        kept = self.model_dump(exclude_none=True, exclude={"name", "file", "shards"})
        if "shards" in source:
            self._check_prepared_alike(source["shards"])
            return DataConfig.model_validate(dict(source))
        there = DataConfig.model_validate({**kept, **source})
        return DataConfig.model_validate(there.model_dump(exclude_none=True, exclude=set(there.unread())))

    def _check_prepared_alike(self, folder: str) -> None:
        """Refuse shards whose values were made in another way than those of this section."""
        made = shards.open(folder, check=False).manifest.get("made_of", {}).get("data", {})
        mine = (
            shards.open(self.shards, check=False).manifest.get("made_of", {}).get("data", {}) if self.shards else None
        )
        own = self.model_dump(mode="json", exclude_none=True) if mine is None else mine
        for key in ("binary", "min_rating", "weights"):
            if (made.get(key) or None) != (own.get(key) or None):
                raise ConfigError(
                    f"{folder} was prepared with data.{key} = {made.get(key)!r}, the model was trained with "
                    f"{own.get(key)!r}: prepare the histories alike, or name the table"
                )

    def _values(self, options: Mapping[str, Option]) -> dict[str, Any]:
        other = self.unread()
        return {name: value for name, value in self.check().items() if name in options and name not in other}


def _as_python(name: str, option: Option, value: Any) -> Any:
    """Return a checked value; false is None where that may be given and is not the default, for TOML has no None."""
    kinds = get_args(option.type)
    if value is False and option.default is not None and NoneType in kinds and bool not in kinds:
        return None
    return check_value(name, option.type, value)


def _fits(option: Option, value: Any) -> bool:
    try:
        _as_python("", option, value)
    except ConfigError:
        return False
    return True


def of_everyone(histories: Interactions, seen: Interactions | None) -> tuple[Interactions, Interactions | None]:
    """Return histories with a row for each user of `seen`, also for those without any: they are recommended to too."""
    if seen is None or histories.users == seen.users:
        return histories, seen
    rows = seen.users.codes(histories.users.ids())
    ordered = histories.take_users(np.argsort(rows))
    lengths = np.zeros(len(seen.users), dtype=np.int64)
    lengths[rows] = np.diff(histories.matrix.indptr)
    entries = ordered.matrix.data, ordered.matrix.indices, np.append(0, np.cumsum(lengths))
    matrix = sp.csr_matrix(entries, shape=(len(seen.users), histories.shape[1]))
    return replace(ordered, matrix=matrix, users=seen.users), seen


class SplitConfig(OpenSection):
    """How to hold out validation and test parts: a registered splitter, and its options."""

    kind: str = "hold_out_users"
    """Name of the splitter."""

    @property
    def without_validation(self) -> bool:
        """Whether there is certainly no validation part: its share is set to 0."""
        share = options_of_kind(self.kind).get("validation")
        return share is not None and isinstance(share.default, float) and self.given.get("validation") == 0

    @property
    def column(self) -> str | None:
        """Name of the column that the splitter reads, if it has an option `column`."""
        column: str | None = self._value_of("column", str)
        return column

    def split(self, data: Interactions) -> Split:
        """Split the data."""
        return splitter_of(self.kind)(data, **self.check())

    def repeat(self, number: int) -> SplitConfig:
        """Return the split of a repeat: `number` is added to the seed, if the kind has one."""
        first = self._value_of("seed", int)
        return self if first is None else self.model_copy(update={"seed": first + number})

    def check(self) -> dict[str, Any]:
        """Return the options of the splitter, checked, by themselves and together.

        Raises:
            ConfigError: an option or the kind is unknown, an option is wrong or missing, or some do not go together.
        """
        try:
            options = self._checked("split", options_of_kind(self.kind))
            check_together(self.kind, options)
            return options
        except (ConfigError, DataError) as error:
            raise ConfigError(f"split.kind = {self.kind!r}: {error}") from None

    def _value_of(self, option: str, kind: type) -> Any:
        """Return the value of an option, given or by default; None if it is not of this kind."""
        options = options_of_kind(self.kind)
        value = self.given.get(option, options[option].default if option in options else None)
        return value if isinstance(value, kind) else None
