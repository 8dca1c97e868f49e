"""Error of predicted ratings: sums and counts per user, divided once.

The root mean squared error of a test set is the root of (all squared errors / all ratings). A mean of per-user
errors is another number: it gives a user with one rating the weight of a user with a hundred.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from recsys.errors import DataError

Floats = npt.NDArray[np.floating]
Sums = npt.NDArray[np.float64]
Counts = npt.NDArray[np.integer]


def error_sums(
    predicted: Floats, actual: Floats, rows: npt.NDArray[np.integer], n_users: int, kind: Literal["rmse", "mae"]
) -> Sums:
    """Return each user's sum of errors: squared for `rmse`, absolute for `mae`.

    Args:
        predicted: (n,) predicted ratings.
        actual: (n,) observed ratings.
        rows: (n,) user of each rating, in 0..n_users-1.
        n_users: length of the result.

    Returns:
        (n_users,) float64, 0 for users without a rating.

    Raises:
        DataError: the lengths disagree, or a prediction is NaN or infinite.
    """
    if not predicted.shape == actual.shape == rows.shape:
        raise DataError(f"expected one prediction per rating ({actual.shape}), got {predicted.shape}")
    wrong = np.count_nonzero(~np.isfinite(predicted))
    if wrong:
        raise DataError(f"{wrong} of {len(predicted)} predicted ratings are NaN or infinite; check the model")
    difference = predicted.astype(np.float64) - actual
    errors = difference**2 if kind == "rmse" else np.abs(difference)
    sums: Sums = np.bincount(rows, weights=errors, minlength=n_users).astype(np.float64, copy=False)
    return sums


def mae(sums: Sums, counts: Counts) -> tuple[float, float]:
    """Mean absolute error over all ratings, and its standard error.

    Formula: Σ |predicted - actual| over all held-out ratings, divided by their number.
    Denominator: the number of held-out ratings: a user with a hundred weighs a hundred times one with a single one.
    Range: 0 upwards, in units of the rating.
    Cut-off: none; there is no list.
    Ties: there is no order.
    No relevant items: users without held-out ratings are left out; `min_relevance` is not read.
    Paper: Herlocker et al. 2004.

    Users are the sample, because a user's ratings err together: with ē the mean and n the users with ratings,
    s.e. = sqrt(n / (n-1) · Σ_u (sums_u - ē · counts_u)²) / Σ_u counts_u, the standard error of a ratio estimate
    (Cochran 1977, ch. 6). With one rating per user it is the standard deviation (ddof 1) / sqrt(n).

    Args:
        sums: (n_users,) absolute errors added up per user.
        counts: (n_users,) ratings per user; users with 0 are left out.

    Returns:
        Value and standard error, in units of the rating; the standard error is NaN below two users.

    Raises:
        DataError: no ratings at all.
    """
    used = counts > 0
    n, total = int(np.count_nonzero(used)), int(counts.sum())
    if not total:
        raise DataError("there is no rating to compare a prediction with")
    value = float(sums.sum() / total)
    residual = sums[used] - value * counts[used]
    error = float(np.sqrt(n / (n - 1) * (residual @ residual)) / total) if n > 1 else float("nan")
    return value, error


def rmse(sums: Sums, counts: Counts) -> tuple[float, float]:
    """Root mean squared error over all ratings, and its standard error.

    Formula: root of (Σ (predicted - actual)² over all held-out ratings, divided by their number).
    Denominator: the number of held-out ratings, under the root: no mean of per-user errors.
    Range: 0 upwards, in units of the rating; at least `mae`.
    Cut-off: none; there is no list.
    Ties: there is no order.
    No relevant items: users without held-out ratings are left out; `min_relevance` is not read.
    Paper: Herlocker et al. 2004; the RMSE of Sedhain et al. 2015.

    The standard error is that of the mean squared error (as in `mae`) over 2 · rmse: the delta method.

    Args:
        sums: (n_users,) squared errors added up per user.
        counts: (n_users,) ratings per user; users with 0 are left out.

    Returns:
        Value and standard error, in units of the rating; the standard error is NaN below two users.

    Raises:
        DataError: no ratings at all.
    """
    mean, error = mae(sums, counts)
    root = float(np.sqrt(mean))
    return root, error / (2 * root) if root else error


def per_user(sums: Sums, counts: Counts, kind: Literal["rmse", "mae"]) -> Sums:
    """Return each user's own error, NaN for users without a rating; its mean is not the error of the test set."""
    means = np.full(len(sums), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return np.sqrt(means) if kind == "rmse" else means
