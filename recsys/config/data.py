"""The sections whose keys are parameters of functions: what to read, and how to split it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from recsys import datasets
from recsys.config.base import OpenSection, checked
from recsys.datasets import NAMES
from recsys.errors import ConfigError, did_you_mean
from recsys.interactions import Interactions
from recsys.options import Option, options_of
from recsys.splits import Split, options_of_kind, splitter_of

READ: Final = options_of(datasets.read, without=("path", "keep")) | options_of(
    Interactions.from_frame, without=("frame", "keep", "titles")
)
"""Keys of `[data]` for data that are read."""
GENERATE: Final = options_of(datasets.synthetic)
"""Keys of `[data]` for the synthetic data set."""
FILTER: Final = options_of(Interactions.filter, without=("self",))
"""Keys of `[data]` that select interactions."""


class DataConfig(OpenSection):
    """Which interactions to read, and which of them to keep."""

    name: str = "synthetic"
    """A known data set (see data/README.md), or any name together with `file`."""
    file: str | None = None
    """A file or folder of your own, in a layout that `recsys.datasets.read` knows, relative to the working folder."""
    binary: bool = False
    """Give every interaction the value 1."""

    def load(self, keep: str | Iterable[str] = (), root: Path | None = None) -> Interactions:
        """Read, filter and binarize.

        Args:
            keep: further columns to carry along, such as a published split.
            root: folder whose `data/raw` holds the data sets by name, after `$RECSYS_DATA`; the working folder by
                default.
        """
        return self.training_data(self.read(keep, root))

    def histories(self, root: Path | None = None) -> tuple[Interactions, Interactions | None]:
        """Return the histories to recommend from: what a model reads, and everything that its users have seen.

        The first is `load` without the filters by count, which select what to train on. The second is without the
        filter by value either: it also holds items that a user has seen and rated too low to be read. It is None if
        nothing is filtered by value.
        """
        return self.histories_of(self.read((), root))

    def read(self, keep: str | Iterable[str] = (), root: Path | None = None) -> Interactions:
        """Read the data before any filter; arguments as in `load`."""
        if self.file:
            return datasets.read(self.file, keep=keep, **self._values(READ))
        if self.name == "synthetic":
            return datasets.synthetic(**self._values(GENERATE))
        return datasets.load(self.name, root=root, keep=keep, **self._values(READ))

    def training_data(self, raw: Interactions) -> Interactions:
        """Return the result of `read`, filtered and binarized for training."""
        return self._prepared(raw, self._values(FILTER))

    def histories_of(self, raw: Interactions) -> tuple[Interactions, Interactions | None]:
        """Return `histories` of the result of `read`."""
        by_value = {name: value for name, value in self._values(FILTER).items() if name == "min_rating"}
        return self._prepared(raw, by_value), raw if by_value else None

    def check(self) -> dict[str, Any]:
        """Return the keys that are parameters of functions, checked.

        Raises:
            ConfigError: an unknown data set or key, or a value of the wrong type or out of range.
        """
        if self.file is None and self.name not in NAMES:
            raise ConfigError(f"unknown data set {self.name!r}{did_you_mean(self.name, NAMES)}")
        return checked("data", self.given, {**READ, **FILTER, **GENERATE}, type(self).model_fields)

    def _values(self, options: Mapping[str, Option]) -> dict[str, Any]:
        return {name: value for name, value in self.check().items() if name in options}

    def _prepared(self, data: Interactions, filters: Mapping[str, Any]) -> Interactions:
        data = data.filter(**filters)
        return data.binarized() if self.binary else data


class SplitConfig(OpenSection):
    """How to hold out validation and test parts: a registered splitter, and its options."""

    kind: str = "hold_out_users"
    """Name of the splitter."""

    @property
    def column(self) -> str | None:
        """Name of the column that the splitter reads, if it has an option `column`."""
        column = self._value_of("column")
        return column if isinstance(column, str) else None

    def split(self, data: Interactions) -> Split:
        """Split the data."""
        return splitter_of(self.kind)(data, **self.check())

    def repeat(self, number: int) -> SplitConfig:
        """Return the split of a repeat: `number` is added to the seed, if the kind has one."""
        first = self._value_of("seed")
        return self.model_copy(update={"seed": first + number}) if isinstance(first, int) else self

    def check(self) -> dict[str, Any]:
        """Return the options of the splitter, checked.

        Raises:
            ConfigError: an unknown kind, or an option that is unknown, missing, of the wrong type or out of range.
        """
        try:
            return checked("split", self.given, options_of_kind(self.kind), ["kind"])
        except ConfigError as error:
            raise ConfigError(f"split.kind = {self.kind!r}: {error}") from None

    def _value_of(self, option: str) -> Any:
        options = options_of_kind(self.kind)
        if option not in options or options[option].required:
            return self.given.get(option)
        return self.given.get(option, options[option].default)
