"""Metrics by name. Each is declared once, as a `Metric`; other code reads its fields and never asks for its name.

A metric is requested by its name and, unless it is an error of ratings, a cut-off: `ndcg@10`, `coverage@100`, `rmse`.
"""

from __future__ import annotations

import re
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
"""Argument of metrics of all lists together: (n_items,) how often each item is among the first k of a list."""
OF_RATINGS: Final = frozenset({"predicted", "actual"})
"""Arguments of errors of ratings: (n,) predicted and (n,) observed ratings."""
Floats = npt.NDArray[np.floating]
PerUser = npt.NDArray[np.float64]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Metric:
    """A metric: a pure function of arrays, what to call it with, and what its value means.

    `needs` names the function's arguments in order. They decide what kind of metric it is:

    - Attributes of `Lists` and `Catalog`: a value per user. `function(*needs, k)` is called for a block of B users and
      returns (B,) float64, NaN for a user without a value. The metric's value is the mean over users.
    - `counts`, alone or with attributes of `Catalog`: one value for all lists. `function(*needs)` returns a float.
    - `predicted` and `actual`: error of ratings. `function(predicted, actual)` returns (n,) an error of each rating,
      and the metric's value is their mean over all ratings.

    Raises:
        ConfigError: the name is not one word, or `needs` has an unknown argument or mixes kinds.
    """

    name: str
    """Without cut-off, such as `ndcg`."""
    function: Callable[..., Any]
    needs: tuple[str, ...]
    meaning: str
    """What the value says, in a few words."""
    higher_is_better: bool = True
    unit: str = "mean over users"
    """Unit of the value; labels the axes of charts."""
    root: bool = False
    """For errors of ratings: the value is the square root of the mean, as in rmse."""

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
                raise ConfigError(f"metric {self.name} needs {need!r}, which is unknown{did_you_mean(need, known)}")
        if not self.needs or not any(set(self.needs) <= kind for kind in kinds):
            raise ConfigError(
                f"metric {self.name} needs {', '.join(self.needs) or 'nothing'}: needs must be attributes of "
                "Lists and Catalog, or counts and attributes of Catalog, or predicted and actual"
            )
        if self.root and not self.rates:
            raise ConfigError(f"metric {self.name} is not an error of ratings; leave root=False")

    @property
    def rates(self) -> bool:
        """Whether it is an error of ratings, which has no list and no cut-off."""
        return set(self.needs) <= OF_RATINGS

    @property
    def per_user(self) -> bool:
        """Whether each user has a value, so that models can be compared user by user."""
        return COUNTS not in self.needs

    @property
    def needs_item_vectors(self) -> bool:
        """Whether `evaluate` must be given `item_vectors`."""
        return not {"item_vectors", "unit_vectors"}.isdisjoint(self.needs)

    def at(self, k: int | str) -> str:
        """Return the name with the cut-off, such as `ndcg@10`; errors of ratings have the name alone."""
        return self.name if self.rates else f"{self.name}@{k}"

    def of_lists(self, lists: Lists, k: int) -> PerUser:
        """Return the value of each user of a block, (B,); DataError if the function returns another shape."""
        given = [getattr(lists if need in OF_LISTS else lists.catalog, need) for need in self.needs]
        return self._check_shape(self.function(*given, k), "a value per user", len(lists.ids))

    def of_all_lists(self, counts: npt.NDArray[np.integer], catalog: Catalog) -> float:
        """Return the value for all lists together, from how often each item is recommended, (n_items,)."""
        return float(self.function(*(counts if need == COUNTS else getattr(catalog, need) for need in self.needs)))

    def of_ratings(self, predicted: Floats, actual: Floats) -> PerUser:
        """Return the error of each rating, (n,); DataError if the function returns another shape."""
        given = {"predicted": predicted.astype(np.float64), "actual": actual.astype(np.float64)}
        return self._check_shape(self.function(*map(given.get, self.needs)), "an error per rating", len(actual))

    def _check_shape(self, values: Any, what: str, n: int) -> PerUser:
        checked: PerUser = np.asarray(values, dtype=np.float64)
        if checked.shape != (n,):
            raise DataError(f"metric {self.name} must return {what} ({n},), got {checked.shape}")
        return checked


_REGISTERED: dict[str, Metric] = {}

METRICS: Final[Mapping[str, Metric]] = MappingProxyType(_REGISTERED)
"""Every registered metric by its name; what is registered later appears here too."""


def register(metric: Metric) -> Metric:
    """Make a metric known by its name: to `evaluate`, configuration files, comparisons, reports and every job.

    A metric with the same function replaces the earlier one, so that a notebook's cell can be run twice.

    Raises:
        ConfigError: another metric has the name.
    """
    other = METRICS.get(metric.name)
    if other is not None and _qualified_name(other) != _qualified_name(metric):
        raise ConfigError(f"the name {metric.name} is taken by {'.'.join(_qualified_name(other))}; choose another name")
    _REGISTERED[metric.name] = metric
    return metric


def metric(name: str, meaning: str, **options: Any) -> Callable[[F], F]:
    """Register the decorated function as a metric; the names of its parameters, without `k`, are its `needs`."""

    def add(function: F) -> F:
        needs = tuple(need for need in signature(function).parameters if need != "k")
        register(Metric(name, function, needs, meaning, **options))
        return function

    return add


def parse(name: str) -> tuple[str, int | None]:
    """Return a metric's name and cut-off: `ndcg@10` is `("ndcg", 10)`, `rmse` is `("rmse", None)`.

    Raises:
        ConfigError: no such metric, a missing or invalid cut-off, or a cut-off for an error of ratings.
    """
    if not isinstance(name, str):
        raise ConfigError(f"a metric is named by text such as 'ndcg@10', got {name!r}")
    kind, at, cut = name.partition("@")
    if kind not in METRICS:
        known = [other.at(cut) if at else other.name for other in METRICS.values()]
        raise ConfigError(f"unknown metric {name!r}{did_you_mean(name, known)}")
    if METRICS[kind].rates:
        if at:
            raise ConfigError(f"{kind} has no cut-off, got {name!r}; write {kind!r}")
        return kind, None
    if not re.fullmatch(r"[1-9][0-9]{0,17}", cut):  # what 64 bits hold
        raise ConfigError(
            f"{kind} needs a positive whole number as cut-off, got {name!r}; write for instance '{kind}@10'"
        )
    if len(cut) > 18:  # beyond 64 bits
        raise ConfigError(f"the cut-off of {kind} has {len(cut)} digits; a number of the items is enough")
    return kind, int(cut)


def of(name: str) -> Metric:
    """Return the `Metric` that a name such as `ndcg@10` requests; errors as in `parse`."""
    return METRICS[parse(name)[0]]


def higher_is_better(name: str) -> bool:
    """Return whether higher values of a requested metric such as `ndcg@10` are better; errors as in `parse`."""
    return of(name).higher_is_better


def _qualified_name(metric: Metric) -> tuple[str, str]:
    function = metric.function
    return getattr(function, "__module__", ""), getattr(function, "__qualname__", repr(function))
