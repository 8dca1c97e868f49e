"""Error of predicted ratings: sums and counts per user, divided once.

The root mean squared error of a test set is the root of (all squared errors / all ratings). A mean of per-user
errors is another number: it gives a user with one rating the weight of a user with a hundred.
"""

import numpy as np
import numpy.typing as npt

from recsys.errors import DataError
from recsys.metrics.lists import Counts, PerUser
from recsys.metrics.ranking import divide
from recsys.metrics.registry import metric

Floats = npt.NDArray[np.floating]


@metric(
    "rmse",
    "root of the mean squared error of a predicted rating",
    higher_is_better=False,
    unit="units of the rating",
    root=True,
)
def squared_error(predicted: Floats, actual: Floats) -> PerUser:
    """Root mean squared error over all ratings; this function returns the squared error of each.

    Formula: root of (Σ (predicted - actual)² over all held-out ratings, divided by their number).
    Denominator: the number of held-out ratings, under the root: no mean of per-user errors.
    Range: 0 upwards, in units of the rating; at least `mae`.
    Cut-off: none; there is no list.
    Ties: there is no order.
    No relevant items: users without held-out ratings are left out; `min_relevance` is not read.
    Paper: Herlocker et al. 2004; the RMSE of Sedhain et al. 2015.
    """
    return np.square(np.subtract(predicted, actual, dtype=np.float64))


@metric("mae", "mean absolute error of a predicted rating", higher_is_better=False, unit="units of the rating")
def absolute_error(predicted: Floats, actual: Floats) -> PerUser:
    """Mean absolute error over all ratings; this function returns the absolute error of each.

    Formula: Σ |predicted - actual| over all held-out ratings, divided by their number.
    Denominator: the number of held-out ratings: a user with a hundred weighs a hundred times one with a single one.
    Range: 0 upwards, in units of the rating.
    Cut-off: none; there is no list.
    Ties: there is no order.
    No relevant items: users without held-out ratings are left out; `min_relevance` is not read.
    Paper: Herlocker et al. 2004.
    """
    return np.abs(np.subtract(predicted, actual, dtype=np.float64))


def mean_error(sums: PerUser, counts: Counts, *, root: bool = False) -> tuple[float, float]:
    """Return the mean error over all ratings, or its root, and the standard error.

    Users are the sample, because a user's ratings err together: with ē the mean and n the users with ratings,
    s.e. = sqrt(n / (n-1) · Σ_u (sums_u - ē · counts_u)²) / Σ_u counts_u, the standard error of a ratio estimate
    (Cochran 1977, ch. 6). With one rating per user it is the standard deviation (ddof 1) / sqrt(n). That of the root is
    the same over 2 · root: the delta method.

    Args:
        sums: (n_users,) errors added up per user.
        counts: (n_users,) ratings per user; users with 0 are left out.

    Returns:
        Value and standard error, which is NaN below two users.

    Raises:
        DataError: no ratings at all.
    """
    used = counts > 0
    n, total = int(np.count_nonzero(used)), int(counts.sum())
    if not total:
        raise DataError("there is no rating to compare a prediction with")
    mean = float(sums.sum() / total)
    residual = sums[used] - mean * counts[used]
    error = float(np.sqrt(n / (n - 1) * (residual @ residual)) / total) if n > 1 else float("nan")
    if not root:
        return mean, error
    value = float(np.sqrt(mean))
    return value, error / (2 * value) if value else error


def per_user(sums: PerUser, counts: Counts, *, root: bool = False) -> PerUser:
    """Return each user's own error, NaN for users without a rating; its mean is not the error of the test set."""
    means = divide(sums, counts)
    return np.sqrt(means) if root else means


def sums_of(values: PerUser, counts: Counts | PerUser, *, root: bool = False) -> PerUser:
    """Return the sums of errors from which `per_user` made these values; the shapes of both must broadcast."""
    return np.asarray((values**2 if root else values) * counts)
