"""Metrics by name: each is one record, and whatever treats metrics differently reads the record.

A metric is asked for by its name and, unless it is an error of ratings, a cut-off: `ndcg@10`, `coverage@100`, `rmse`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from types import MappingProxyType
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.metrics.lists import OF_CATALOG, OF_LISTS, Catalog, Lists

COUNTS: Final = "counts"
"""What only metrics of all lists together read: (n_items,) how often each item is among the first k of a list."""
OF_RATINGS: Final = frozenset({"predicted", "actual"})
"""What errors of ratings read: (n,) predicted and (n,) observed ratings."""
Floats = npt.NDArray[np.floating]
PerUser = npt.NDArray[np.float64]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Metric:
    """A metric: a pure function of arrays, what to call it with, and what its value means.

    `needs` names the arguments of the function, in its order, and thereby the kind of metric:

    - Attributes of `Lists` and `Catalog`: a value per user. `function(*needs, k)` is called for a block of B users and
      returns (B,) float64, NaN for a user without a value. The metric's value is the mean over users.
    - `counts`, alone or with attributes of `Catalog`: one value for all lists. `function(*needs)` returns a float.
    - `predicted` and `actual`: error of ratings. `function(predicted, actual)` returns (n,) an error of each rating,
      and the metric's value is their mean over all ratings.

    Raises:
        ConfigError: the name is not one word, or `needs` names what there is not or what does not go together.
    """

    name: str
    """Without cut-off, such as `ndcg`."""
    function: Callable[..., Any]
    needs: tuple[str, ...]
    meaning: str
    """What the value says, in a few words."""
    higher_is_better: bool = True
    unit: str = "mean over users"
    """What the value counts: the label of an axis."""
    root: bool = False
    """Of an error of ratings: the value is the root of the mean."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(
                f"the name of a metric is one word of letters, digits and '_', got {self.name!r}; "
                "a cut-off is part of a request such as 'ndcg@10', not of the name"
            )
        kinds = (OF_LISTS | OF_CATALOG, OF_CATALOG | {COUNTS}, OF_RATINGS)
        known = frozenset().union(*kinds)
        for need in self.needs:
            if need not in known:
                raise ConfigError(f"metric {self.name} needs {need!r}, which there is not{did_you_mean(need, known)}")
        if not self.needs or not any(set(self.needs) <= kind for kind in kinds):
            raise ConfigError(
                f"metric {self.name} needs {', '.join(self.needs) or 'nothing'}: name what it reads of lists, "
                "or counts, or predicted and actual ratings"
            )
        if self.root and not self.rates:
            raise ConfigError(f"metric {self.name} is no error of ratings, so its mean has no root")

    @property
    def rates(self) -> bool:
        """Whether it is an error of ratings, which has no list and no cut-off."""
        return set(self.needs) <= OF_RATINGS

    @property
    def per_user(self) -> bool:
        """Whether each user has a value, so that users can be resampled and models compared."""
        return COUNTS not in self.needs

    @property
    def needs_item_vectors(self) -> bool:
        """Whether `evaluate` must be given `item_vectors`."""
        return not {"item_vectors", "unit_vectors"}.isdisjoint(self.needs)

    def at(self, k: int | str) -> str:
        """Return the name to ask for: `ndcg@10`; of an error of ratings the name alone."""
        return self.name if self.rates else f"{self.name}@{k}"

    def of_lists(self, lists: Lists, k: int) -> PerUser:
        """Return the value of each user of a block, (B,); DataError if the function returns another shape."""
        given = [getattr(lists if need in OF_LISTS else lists.catalog, need) for need in self.needs]
        return self._checked(self.function(*given, k), "a value per user", len(lists.ids))

    def of_all_lists(self, counts: npt.NDArray[np.integer], catalog: Catalog) -> float:
        """Return the value for all lists together, from how often each item is recommended, (n_items,)."""
        return float(self.function(*(counts if need == COUNTS else getattr(catalog, need) for need in self.needs)))

    def of_ratings(self, predicted: Floats, actual: Floats) -> PerUser:
        """Return the error of each rating, (n,); DataError if the function returns another shape."""
        given = {"predicted": predicted.astype(np.float64), "actual": actual.astype(np.float64)}
        return self._checked(self.function(*map(given.get, self.needs)), "an error per rating", len(actual))

    def _checked(self, values: Any, what: str, n: int) -> PerUser:
        checked: PerUser = np.asarray(values, dtype=np.float64)
        if checked.shape != (n,):
            raise DataError(f"metric {self.name} must return {what} ({n},), got {checked.shape}")
        return checked


_REGISTERED: dict[str, Metric] = {}

METRICS: Final[Mapping[str, Metric]] = MappingProxyType(_REGISTERED)
"""Every registered metric by its name; what is registered later appears here too."""


def register(metric: Metric) -> Metric:
    """Make a metric known by its name: to `evaluate`, configuration files, comparisons, reports and every job.

    Registered again with the same function, as when a notebook's cell is run twice, a metric replaces its earlier self.

    Raises:
        ConfigError: another metric has the name.
    """
    other = METRICS.get(metric.name)
    if other is not None and _home(other) != _home(metric):
        raise ConfigError(f"there is a metric {metric.name} already, {'.'.join(_home(other))}; choose another name")
    _REGISTERED[metric.name] = metric
    return metric


def metric(name: str, meaning: str, **options: Any) -> Callable[[F], F]:
    """Register the decorated function as a metric that needs what its parameters are called."""

    def add(function: F) -> F:
        needs = tuple(need for need in signature(function).parameters if need != "k")
        register(Metric(name, function, needs, meaning, **options))
        return function

    return add


def parse(name: str) -> tuple[str, int | None]:
    """Return a metric's name and cut-off: `ndcg@10` is `("ndcg", 10)`, `rmse` is `("rmse", None)`.

    Raises:
        ConfigError: no such metric, a cut-off that is missing or not a positive integer, or one that has no meaning.
    """
    kind, at, cut = name.partition("@")
    if kind not in METRICS:
        known = [other.at(cut) if at else other.name for other in METRICS.values()]
        raise ConfigError(f"unknown metric {name!r}{did_you_mean(name, known)}")
    if METRICS[kind].rates:
        if at:
            raise ConfigError(f"{kind} has no cut-off, got {name!r}; write {kind!r}")
        return kind, None
    if not (cut.isascii() and cut.isdigit() and not cut.startswith("0")):
        raise ConfigError(
            f"{kind} needs a positive whole number as cut-off, got {name!r}; write for instance '{kind}@10'"
        )
    return kind, int(cut)


def of(name: str) -> Metric:
    """Return the record of the metric that a name such as `ndcg@10` asks for; errors as in `parse`."""
    return METRICS[parse(name)[0]]


def higher_is_better(name: str) -> bool:
    """Return the direction of the metric that a name such as `ndcg@10` asks for; errors as in `parse`."""
    return of(name).higher_is_better


def _home(metric: Metric) -> tuple[str, str]:
    function = metric.function
    return getattr(function, "__module__", ""), getattr(function, "__qualname__", repr(function))
