"""What models scored on a part of a split, one model's evaluation or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.columns import USER
from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.metrics import higher_is_better, of, parse, rating

RATINGS: Final = "ratings"
"""Column with each user's number of held-out ratings, next to errors of ratings per user."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What a model scored on a part of a split."""

    per_user: pd.DataFrame
    """`user_id` and one column per metric that has a value per user. NaN: the user has no relevant items (for `rmse`
    and `mae`: no held-out ratings; for `novelty` and `average_popularity` also: an empty list; for `diversity`: fewer
    than two items in it). With errors of ratings also `ratings`, the number that each error is a mean over."""
    summary: pd.DataFrame
    """`metric, value, standard_error, n`: n is the number of users that the value rests on. For metrics with a value
    per user it is the mean over those users and std(ddof=1) / sqrt(n); for errors of ratings the error over all ratings
    (see `recsys.metrics.rating`). Metrics of all lists together, such as `coverage`, have no standard error (NaN)."""
    per_item: pd.DataFrame | None = None
    """One row per item, in the order of the part's columns: `relevant`, its number of relevant entries, and for each
    cut-off k of a list metric `recommended@k`, the number of lists it is in, and `hits@k`, in how many of those it is
    relevant. None if no list was asked for."""

    @property
    def values(self) -> dict[str, float]:
        """Value of each metric by its name."""
        return dict(zip(self.summary["metric"], self.summary["value"].tolist(), strict=True))

    def __getitem__(self, name: str) -> float:
        values = self.values
        if name not in values:
            raise ConfigError(f"metric {name!r} was not evaluated{did_you_mean(name, values)}")
        return values[name]

    def only(self, metrics: Sequence[str]) -> Evaluation:
        """Return the evaluation of these metrics alone, in this order."""
        summary = self.summary.set_index("metric").loc[list(metrics)].reset_index()
        columns = [USER, *(name for name in metrics if name in self.per_user)]
        if RATINGS in self.per_user and any(of(name).rates for name in metrics):
            columns.append(RATINGS)
        return Evaluation(self.per_user[columns], summary, self.per_item)

    def by(self, groups: pd.Series) -> pd.DataFrame:
        """Return `metric, group, value, standard_error, n`: the metrics over the users of each group, as in `summary`.

        Only metrics with a value per user: `coverage` and `gini` belong to all lists together. A group without any
        value has NaN and n = 0.

        Args:
            groups: group of each user by user id, such as those of `activity_groups`; users not evaluated are ignored.
                Groups come in ascending order, or in that of a categorical; where they cannot be compared, in the order
                in which the users meet them.

        Raises:
            DataError: not such a series, a user twice in it, an evaluated user without a group, or groups that cannot
                be hashed.
        """
        if not isinstance(groups, pd.Series):
            raise DataError(f"groups must be a Series of groups indexed by user id, got {type(groups).__name__}")
        if not groups.index.is_unique:
            repeated = groups.index[groups.index.duplicated()]
            raise DataError(f"{len(repeated)} rows of the groups repeat a user, for instance {repeated.tolist()[0]!r}")
        users = pd.Index(self.per_user[USER])
        group_of_user = groups.reindex(users)
        missing = group_of_user.isna().to_numpy()
        if missing.any():
            raise DataError(
                f"{int(missing.sum())} of the {len(users)} evaluated users have no group, for instance "
                f"{users[missing].tolist()[0]!r}; index the groups by user id and fill in what is missing"
            )
        try:
            kinds = group_of_user.astype("category")
        except (TypeError, NotImplementedError) as error:
            raise DataError(f"groups must be hashable, such as text or numbers: {error}") from None
        rows = [
            (metric, group, *_over_users(lines, metric))
            for metric in self.summary["metric"]
            if metric in self.per_user
            for group, lines in self.per_user.groupby(kinds.array, observed=True)
        ]
        table = pd.DataFrame(rows, columns=["metric", "group", "value", "standard_error", "n"])
        return table.astype({"group": group_of_user.dtype})

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def beside(self, title: str, values: Mapping[str, float]) -> str:
        """Return the evaluation as text, as `repr` does, with the values of another model in a last column.

        Args:
            title: of the column.
            values: by metric.
        """
        head, *lines = self._lines()
        width = max(10, len(title))
        beside = [f"{values[name]:>{width},.4f}" for name in self.summary["metric"]]
        rows = [f"{line}  {value}" for line, value in zip(lines, beside, strict=True)]
        return "\n".join([f"{head}  {title:>{width}}", *rows])

    def _lines(self) -> list[str]:
        width = max(len(name) for name in self.summary["metric"])
        lines = [f"{'metric':<{width}}  {'value':>10}  {'± s.e.':>8}  {'users':>9}"]
        for name, value, error, n in self.summary.itertuples(index=False, name=None):
            known = "-" if np.isnan(error) else f"{error:.4f}"
            lines.append(f"{name:<{width}}  {value:>10,.4f}  {known:>8}  {n:>9,}")
        return lines


def along_k(metrics: Sequence[str], n_items: int) -> list[str]:
    """Return the metrics, and the list metrics at further cut-offs: points of a curve, from the same top-N pass."""
    names = dict.fromkeys(metrics)
    for kind, k in map(parse, metrics):
        if k is not None:
            names |= dict.fromkeys(f"{kind}@{cut}" for cut in (1, 2, 5, 10, 20, 50, 100) if cut <= max(1, n_items // 2))
    return list(names)


def table(evaluations: Mapping[str, Evaluation], *, sort_by: str | None = None) -> pd.DataFrame:
    """Return a row per model, the best by `sort_by` (the first metric by default) first.

    Returns:
        Columns (metric, `value`) and (metric, `standard_error`), NaN where a model has none; the index is its name.

    Raises:
        ConfigError: no model was evaluated on `sort_by`.
        DataError: there are no evaluations.
    """
    if not evaluations:
        raise DataError("expected at least one evaluation to compare, got none")
    metrics = list(dict.fromkeys(name for evaluation in evaluations.values() for name in evaluation.values))
    sort_by = metrics[0] if sort_by is None else sort_by
    if sort_by not in metrics:
        raise ConfigError(f"no model was evaluated on {sort_by!r}{did_you_mean(sort_by, metrics)}")
    fields = ["value", "standard_error"]
    rows = [one.summary.set_index("metric")[fields].reindex(metrics).to_numpy().ravel() for one in evaluations.values()]
    columns = pd.MultiIndex.from_product([metrics, fields])
    frame = pd.DataFrame(np.array(rows), index=pd.Index(list(evaluations), name="model"), columns=columns)
    return frame.sort_values((sort_by, "value"), ascending=not higher_is_better(sort_by), kind="stable")


def formatted(comparison: pd.DataFrame, *, digits: int = 4) -> pd.DataFrame:
    """Return a `table` as text: `0.3212 ± 0.0021` per cell, without ± if there is no standard error."""

    def cell(value: float, error: float) -> str:
        if np.isnan(value):
            return "-"
        return f"{value:.{digits}f}" if np.isnan(error) else f"{value:.{digits}f} ± {error:.{digits}f}"

    cells = {
        name: [cell(*pair) for pair in zip(comparison[name, "value"], comparison[name, "standard_error"], strict=True)]
        for name in comparison.columns.get_level_values(0).unique()
    }
    return pd.DataFrame(cells, index=comparison.index)


def mean_over_users(values: Floats) -> tuple[float, float, int]:
    """Return mean, standard error and number of the values that are not NaN."""
    known = values[~np.isnan(values)]
    n = len(known)
    if not n:
        return float("nan"), float("nan"), 0
    return float(known.mean()), float(known.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan"), n


def _over_users(lines: pd.DataFrame, name: str) -> tuple[float, float, int]:
    """Return value, standard error and number of users of a metric over some users."""
    values = lines[name].to_numpy(dtype=np.float64)
    metric = of(name)
    if not metric.rates or np.isnan(values).all():
        return mean_over_users(values)
    counts = lines[RATINGS].to_numpy()
    sums = rating.sums_of(np.nan_to_num(values), counts, root=metric.root)
    return (*rating.mean_error(sums, counts, root=metric.root), int(np.count_nonzero(counts)))
