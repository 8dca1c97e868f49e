"""Which users are odd, by how badly a model explains what they have; which items make them so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.analysis.conformal import LEAST, adjusted, conformal_p_within, standardized
from recsys.analysis.density import log_likelihood
from recsys.analysis.own_decoder import likelihood_of
from recsys.analysis.reconstruction import ErrorKind, Floats, entry_errors, row_means
from recsys.columns import ITEM, USER
from recsys.errors import ConfigError, DataError
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.params import Count, OpenFraction, check_value, random_generator

LENGTH: Final = "length"
"""Column of the numbers of items of histories."""
_ENOUGH: Final = 2 * LEAST
DENSITY: Final = "density"
SAMPLES: Final = 20
"""Draws of `density` for each user."""

UserErrorKind = ErrorKind | Literal["density"]
"""What a user's error is: a mean over entries, or how unlikely the whole history is."""


def anomalies(
    model: Recommender,
    user_items: Any,
    normal: Any = None,
    *,
    error: UserErrorKind | None = None,
    folds: Count = 1,
    strata: Count = 1,
    level: OpenFraction = 0.05,
    seed: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Score users by how badly the model explains their histories, with p-values against normal users.

    A user's error is the mean of `error` over the entries of the history. Long histories have other errors than short
    ones, so `z` is what is left of it: the error less the mean of reference users of the nearest lengths, over their
    standard deviation (`conformal.standardized`). `p` is the conformal p-value of `z` among calibration users, `q` that
    of Benjamini and Hochberg: the users with q ≤ `level` are a list of which about that share is normal. With n
    calibration users p is at least 1 / (n + 1), so a list of m users is empty unless m / (level · (n + 1)) of them are
    odder than all of those: `p` ranks, and to make lists takes many normal users.

    A p-value holds for users who are exchangeable with the normal ones. So users whom training did not see are to be
    held against others whom it did not see, and training users against training users: a model explains those better.

    Args:
        user_items: the users to score: `Interactions`, or a matrix as in `recommend`.
        normal: users known to be normal, one half of whom drawn at random is the reference and the other the
            calibration. None: the users are held against each other, each half against the other. What is odd in
            many of them then passes for normal: no p-value is below about the share of odd users.
        error: `rank`, `likelihood` or `squared` (see `reconstruction.entry_errors`), or `density`, −log p(x) per entry
            (`log_likelihood` with 20 draws), by models that have one: how unlikely the whole history is, its code
            included. None: `likelihood` for models of a multinomial likelihood, else `rank`.
        folds: 1 scores an entry from a history that holds it, k > 1 from one without a k-th part in which it is.
        strata: groups of lengths of the calibration users, each of which has p-values of its own: they hold within
            each group even where `z` still depends on the length, and n is that of the group.
        level: share of normal users that the list of flagged ones may hold.

    Returns:
        A row per user with an entry, oddest first: `user_id`, `length` (items of the history), `error`, `z`, `p`, `q`,
        `flagged`.

    Raises:
        DataError: fewer than 40 normal users with entries, or without `normal` fewer than 80 users.
        ConfigError: an option out of range, or `density` with folds.
        UnsupportedError: `density` of a model that has none.
    """
    folds, strata = check_value("folds", Count, folds), check_value("strata", Count, strata)
    level = check_value("level", OpenFraction, level)
    rng = random_generator(seed)
    users, histories = with_entries(model, user_items)
    errors_of = _error_of_users(model, error, folds, rng)
    lengths = np.diff(histories.indptr).astype(np.float64)
    errors = errors_of(histories)
    if normal is None:
        _check_number(len(errors), 2 * _ENOUGH, "user_items")
        first = rng.permutation(len(errors)) < len(errors) // 2
        z, p = np.empty(len(errors)), np.empty(len(errors))
        for half in (first, ~first):
            z[half], p[half] = _held_against(
                errors[half], lengths[half], errors[~half], lengths[~half], strata=strata, rng=rng
            )
    else:
        _, others = with_entries(model, normal)
        _check_number(others.shape[0], _ENOUGH, "normal")
        of_others = np.diff(others.indptr).astype(np.float64)
        z, p = _held_against(errors, lengths, errors_of(others), of_others, strata=strata, rng=rng)
    q = adjusted(p)
    table = {USER: users, LENGTH: lengths.astype(np.int64), "error": errors, "z": z, "p": p, "q": q}
    frame = pd.DataFrame({**table, "flagged": q <= level})
    return frame.sort_values(["p", "z"], ascending=[True, False], kind="stable", ignore_index=True)


def _error_of_users(
    model: Recommender, error: UserErrorKind | None, folds: int, rng: np.random.Generator
) -> Callable[[sp.csr_matrix], Floats]:
    """Return what maps histories to an error per user."""
    if error == DENSITY:
        if folds != 1:
            raise ConfigError(f"density is of whole histories: folds must be 1, got {folds}")
        return lambda rows: -log_likelihood(model, rows, samples=SAMPLES, seed=rng)["per_entry"].to_numpy(np.float64)
    kind = kind_of(model, error)
    return lambda rows: row_means(entry_errors(model, rows, kind, folds, rng), rows)


def odd_entries(
    model: Recommender,
    user_items: Any,
    *,
    error: ErrorKind | None = None,
    folds: Count = 1,
    seed: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Return what each entry adds to its user's error, the most first: which items make a user odd.

    Arguments are those of `anomalies`; `user_items` may be a few users, such as `data.take_users(codes)`.

    Returns:
        A row per entry, users in their order: `user_id`, `item_id`, `title` if items have titles, `error` of the entry
        and `share`, its part of the user's sum of errors.
    """
    folds = check_value("folds", Count, folds)
    users, histories = with_entries(model, user_items)
    errors = entry_errors(model, histories, kind_of(model, error), folds, random_generator(seed))
    counts = np.diff(histories.indptr)
    rows = np.repeat(np.arange(len(counts)), counts)
    sums = np.bincount(rows, weights=errors, minlength=len(counts))[rows]
    order = np.lexsort((-errors, rows))
    table = {USER: users[rows[order]], **names_of(model, user_items, histories.indices[order])}
    share = np.divide(errors, sums, out=1.0 / counts[rows], where=sums > 0)
    return pd.DataFrame({**table, "error": errors[order], "share": share[order]})


def odd_items(
    model: Recommender,
    user_items: Any,
    *,
    error: ErrorKind | None = None,
    folds: Count = 1,
    min_users: Count = 5,
    seed: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Return the items that the model explains worst in the histories that hold them, for their number of users.

    An item's error is the mean over the users who have it. Rare items have larger ones, so `z` is what the other items
    of the nearest numbers of users leave of it, as for the lengths of `anomalies`. It has no p-value: there are no
    items that training did not see.

    Args:
        min_users: items of fewer users are left out.

    Returns:
        A row per item, oddest first: `item_id`, `title` if items have titles, `users`, `error`, `z`.

    Raises:
        DataError: fewer than 20 items have `min_users` users.
    """
    folds, min_users = check_value("folds", Count, folds), check_value("min_users", Count, min_users)
    _, histories = with_entries(model, user_items)
    errors = entry_errors(model, histories, kind_of(model, error), folds, random_generator(seed))
    users = np.bincount(histories.indices, minlength=histories.shape[1])
    kept = np.flatnonzero(users >= min_users)
    if len(kept) < LEAST:
        raise DataError(
            f"items are held against items of as many users, which takes {LEAST} of them; {len(kept)} have at least "
            f"min_users={min_users}"
        )
    means = np.bincount(histories.indices, weights=errors, minlength=len(users))[kept] / users[kept]
    z = standardized(means, users[kept].astype(np.float64), means, users[kept].astype(np.float64))
    frame = pd.DataFrame({**names_of(model, user_items, kept), "users": users[kept], "error": means, "z": z})
    return frame.sort_values("z", ascending=False, kind="stable", ignore_index=True)


def with_entries(model: Recommender, user_items: Any) -> tuple[npt.NDArray[Any], sp.csr_matrix]:
    """Return the external ids, or row numbers, of the users with an entry, and their histories as the model reads."""
    model._check_fitted()
    matrix = model._matrix(user_items)
    rows = np.flatnonzero(np.diff(matrix.indptr))
    if not len(rows):
        raise DataError("no user has an entry of an item that the model knows; pass histories that hold some")
    ids = user_items.users.ids(rows) if isinstance(user_items, Interactions) else rows
    return ids, matrix[rows]


def kind_of(model: Recommender, error: ErrorKind | None) -> ErrorKind:
    """Return the error that is asked for; None: that of the model's own likelihood where scores are its logits."""
    if error is not None:
        chosen: ErrorKind = check_value("error", ErrorKind, error)
        return chosen
    return "likelihood" if likelihood_of(model) == "multinomial" else "rank"


def names_of(model: Recommender, user_items: Any, columns: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return the ids of the model's items, column numbers if it knows none, and titles where there are any."""
    ids = columns if model.items_ is None else model.items_.ids(columns)
    titles = model.titles_
    if titles is None and isinstance(user_items, Interactions) and user_items.items == model.items_:
        titles = user_items.titles
    return {ITEM: ids} if titles is None else {ITEM: ids, "title": titles[columns]}


def _held_against(
    errors: Floats, lengths: Floats, normal: Floats, of_normal: Floats, *, strata: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return z and p of errors, against a half of the normal ones each."""
    reference = rng.permutation(len(normal)) < len(normal) // 2
    fitted = normal[reference], of_normal[reference]
    z = standardized(errors, lengths, *fitted)
    calibration = standardized(normal[~reference], of_normal[~reference], *fitted)
    return z, conformal_p_within(z, lengths, calibration, of_normal[~reference], strata)


def _check_number(found: int, least: int, name: str) -> None:
    if found < least:
        raise DataError(
            f"{name} must hold at least {least} users with entries to hold others against, got {found}: "
            f"with n of them for calibration no p-value is below 1 / (n + 1)"
        )
