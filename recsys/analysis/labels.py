"""Properties of users, predicted from their histories: what a code tells of them that the row itself does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.analysis.heads import Probabilities, check, predicted, trained
from recsys.analysis.users import unknown_of, values_of
from recsys.errors import ConfigError, DataError
from recsys.interactions import Interactions
from recsys.models import Autoencoder, Recommender
from recsys.params import check_count, random_generator

Method = Literal["raw", "frozen", "fine-tuned", "joint"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
SHARES: Final = (0.01, 0.05, 0.2, 1.0)
SETTINGS: Final[dict[Method, tuple[float, ...]]] = {
    "raw": (3e-3, 3e-2, -3.0, -30.0),
    "frozen": (1e-4, 1e-3, 1e-2, 1e-1),
    "fine-tuned": (1e-4, 1e-2),
    "joint": (1.0, 10.0),
}
"""What the inner cross-validation chooses from: C of logistic regression (in `raw` a negative one means C on rows of
length 1), weight decay, weight of the head's cross-entropy."""
FOLDS: Final = 2
"""Of the inner cross-validation."""
LEAST: Final = 2
"""Labeled users of a class in a draw, at least: one for either fold."""
RESAMPLES: Final = 200
TEST: Final = 0.2
START: Final = 1e-2
"""C of the logistic regression on the codes that a network's head begins as."""

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Fit = Callable[[float, Indices, Indices], Probabilities]
"""Maps a setting, the labeled users and the users to predict to the probabilities of classes of the latter."""


@dataclass(frozen=True, eq=False)
class _Task:
    """Users with a label, and who of them is for testing."""

    matrix: sp.csr_matrix
    """All users, (n_users, n_items), in the columns of the model."""
    classes: npt.NDArray[Any]
    target: Indices
    """(n_users,) place of the user's value in `classes`, -1 without one."""
    train: Indices
    test: Indices
    seed: int


def labels(
    model: Recommender,
    interactions: Interactions,
    values: pd.Series[Any],
    *,
    shares: Sequence[float] = SHARES,
    methods: Sequence[Method] = METHODS,
    draws: int = 3,
    test: float | Sequence[Any] = TEST,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how well a property of users is predicted from their histories, by the share of users who are labeled.

    - `raw`: logistic regression on the rows, as they are or of length 1;
    - `frozen`: logistic regression on the model's codes, scaled to variance 1 over all users;
    - `fine-tuned`: the model's encoder and a head on it, trained on the labeled users;
    - `joint`: encoder, decoder and head, trained on the labeled users and on the rows of all users who are not for
      testing, by the model's own loss beside the cross-entropy of the head.

    What regularizes each (`SETTINGS`) is chosen by two-fold cross-validation of the log-likelihood within the labeled
    users of a draw. Classes count the same, however many users they have. A draw has the share of each class, and two
    users of it at least. With all labels there is one draw. Test users serve only for testing; what the model itself
    was fitted to is the caller's.

    Args:
        values: by external user id; missing ones are left out.
        shares: of the labeled users who are not for testing, above 0 to 1.
        draws: of labeled users, for each share below 1.
        test: share of the labeled users for testing, or the ids of those.

    Returns:
        `share, method, users, auc, f1, metric, value, low, high, gain, gain_low, gain_high`: a row per share and
        method. `users`: labeled ones; `auc`: area under the ROC curve, of several classes the mean of each against the
        rest; `f1`: mean over classes; `value`: of the two `auc` for two classes, else `f1`, as a mean over draws, with
        its 95 % bootstrap interval over test users; `gain`: over `raw` on the same users and draws.

    Raises:
        UnsupportedError: the model has no codes, or no head can be trained on its network.
        DataError: users of `values` who are not in the interactions, one class only, or too few users of a class.
        ConfigError: an unknown method, or a share outside 0 to 1.
    """
    model._check_fitted()
    tried = _checked(model, shares, methods)
    rng = random_generator(seed)
    task = _task(model, interactions, values, test, rng)
    fits = {method: _fit_of(method, model, task) for method in tried}
    resamples = [rng.integers(len(task.test), size=len(task.test)) for _ in range(RESAMPLES)]
    rows: list[dict[str, Any]] = []
    for share in shares:
        drawn = [_draw(task, share, rng) for _ in range(check_count("draws", draws) if share < 1 else 1)]
        found = {
            method: [_predict(fit, SETTINGS[method], task, some, int(rng.integers(2**31))) for some in drawn]
            for method, fit in fits.items()
        }
        rows += _measured(found, task, share, len(drawn[0]), resamples)
    return pd.DataFrame(rows)


def _checked(model: Recommender, shares: Sequence[float], methods: Sequence[Method]) -> list[Method]:
    if unknown := [method for method in methods if method not in METHODS]:
        raise ConfigError(f"methods must be of {', '.join(METHODS)}, got {unknown[0]!r}")
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"shares must be above 0 and at most 1, got {list(shares)}")
    if "frozen" in methods:
        model._require("encodes")
    for method in ("fine-tuned", "joint"):
        if method in methods:
            check(model, method == "joint")
    return [method for method in METHODS if method in methods]


def _task(
    model: Recommender,
    interactions: Interactions,
    values: pd.Series[Any],
    test: float | Sequence[Any],
    rng: np.random.Generator,
) -> _Task:
    given = values_of(values, interactions.users, "the labels")
    unknown = unknown_of(values, interactions.users)
    if len(unknown):
        raise DataError(
            f"{len(unknown):,} of the {len(values):,} labeled users have no interactions here, such as "
            f"{', '.join(map(repr, unknown[:3].tolist()))}; leave them out: "
            "labels[labels.index.isin(interactions.users.ids())]"
        )
    matrix = model._matrix(interactions)
    has = np.array([value is not None for value in given]) & (np.diff(matrix.indptr) > 0)
    if not has.any():
        raise DataError("all labels are missing, or of users without interactions; give the value of some users")
    classes, codes = np.unique(given[has].astype(str), return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"the labels have one value only, {str(classes[0])!r}; there is nothing to predict")
    target = np.full(len(given), -1, dtype=np.int64)
    target[has] = codes
    if isinstance(test, int | float):
        if not 0 < test < 1:
            raise ConfigError(f"test must be a share above 0 and below 1, or ids of users, got {test}")
        chosen = np.concatenate([_some(np.flatnonzero(target == k), test, 1, rng) for k in range(len(classes))])
    else:
        chosen = interactions.users.codes(test).astype(np.int64)
        chosen = chosen[target[chosen] >= 0]
    held = np.zeros(len(given), dtype=bool)
    held[chosen] = True
    train, tested = np.flatnonzero(has & ~held), np.flatnonzero(has & held)
    for what, users, least in (("to learn from", train, LEAST), ("to test", tested, 1)):
        counts = np.bincount(target[users], minlength=len(classes))
        if (counts < least).any():
            rare = int(counts.argmin())
            raise DataError(
                f"the value {str(classes[rare])!r} has {counts[rare]} users {what}, at least {least} are needed; "
                "leave it out or join it with another"
            )
    return _Task(matrix, classes, target, train, tested, int(rng.integers(2**31)))


def _some(users: Indices, share: float, least: int, rng: np.random.Generator) -> Indices:
    return rng.choice(users, min(len(users), max(least, round(share * len(users)))), replace=False)


def _draw(task: _Task, share: float, rng: np.random.Generator) -> Indices:
    """Return the labeled users of a draw, in ascending order."""
    own = task.target[task.train]
    parts = [_some(task.train[own == k], share, LEAST, rng) for k in range(len(task.classes))]
    return np.sort(np.concatenate(parts))


def _fit_of(method: Method, model: Recommender, task: _Task) -> Fit:
    """Return how a method is fitted."""
    if method in ("fine-tuned", "joint"):
        assert isinstance(model, Autoencoder)  # `check` has refused any other
        return _network_fit(model, task, method == "joint")
    if method == "frozen":
        features, _, _ = _standardized(model, task)
        return lambda setting, some, asked: _logistic(features, task.target, abs(setting), some, asked)
    from sklearn.preprocessing import normalize

    rows = task.matrix.astype(np.float64)
    unit = normalize(rows)
    return lambda setting, some, asked: _logistic(rows if setting > 0 else unit, task.target, abs(setting), some, asked)


def _standardized(model: Recommender, task: _Task) -> tuple[Floats, Floats, Floats]:
    """Return the codes of all users, each column of mean 0 and variance 1, and their means and deviations before."""
    codes = model.encode(task.matrix).astype(np.float64)
    mean, spread = codes.mean(0), codes.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    return (codes - mean) / spread, mean, spread


def _logistic(features: Any, target: Indices, strength: float, some: Indices, asked: Indices) -> Probabilities:
    """Return the probabilities that a logistic regression on the users `some` gives to the users `asked`."""
    found: Probabilities = _regression(features, target, strength, some).predict_proba(features[asked])
    return found


def _regression(features: Any, target: Indices, strength: float, some: Indices) -> Any:
    """Return the logistic regression fitted to the users `some`; `strength` is scikit-learn's C."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=strength, class_weight="balanced", max_iter=200, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a weak penalty, which the folds then refuse
        fitted.fit(features[some], target[some])
    return fitted


def _network_fit(model: Autoencoder, task: _Task, joint: bool) -> Fit:
    features, mean, spread = _standardized(model, task)
    known = np.setdiff1d(np.arange(len(task.target)), task.test)  # the rows that a joint training may read

    def fit(setting: float, some: Indices, asked: Indices) -> Probabilities:
        own = np.full(len(task.target), -1, dtype=np.int64)
        own[some] = task.target[some]
        first = _regression(features, task.target, START, some)
        weight, bias = first.coef_, first.intercept_
        if len(task.classes) == 2:  # one logit, as the difference of two
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        head = weight / spread, bias - weight @ (mean / spread)
        headed = trained(model, task.matrix[known], own[known], head, setting=setting, joint=joint, seed=task.seed)
        return predicted(headed, model, task.matrix[asked])

    return fit


def _predict(fit: Fit, settings: Sequence[float], task: _Task, some: Indices, seed: int) -> Probabilities:
    """Return the probabilities of the test users, with the setting that the inner cross-validation prefers."""
    from sklearn.model_selection import StratifiedKFold

    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(some, task.target[some]))
    scores = []
    for setting in settings:
        found = [
            _log_likelihood(fit(setting, some[a], some[b]), task.target[some[b]], len(task.classes)) for a, b in folds
        ]
        scores.append(np.mean(found))
    return fit(settings[int(np.argmax(scores))], some, task.test)


def _log_likelihood(found: Probabilities, target: Indices, classes: int) -> float:
    """Return the mean log-probability of the classes, each class counting the same."""
    own = np.log(np.maximum(found[np.arange(len(target)), target], 1e-12))
    return float(np.mean([own[target == k].mean() for k in range(classes) if (target == k).any()]))


def _measured(
    found: dict[Method, list[Probabilities]], task: _Task, share: float, users: int, resamples: Sequence[Indices]
) -> list[dict[str, Any]]:
    """Return the rows of one share."""
    target = task.target[task.test]
    measure = auc if len(task.classes) == 2 else macro_f1
    at = {
        m: np.mean([[measure(p[r], target[r]) for r in resamples] for p in draws], axis=0) for m, draws in found.items()
    }
    value = {m: float(np.mean([measure(p, target) for p in draws])) for m, draws in found.items()}
    rows = []
    for method, draws in found.items():
        low, high = np.nanquantile(at[method], (0.025, 0.975))
        gain, ends = np.nan, (np.nan, np.nan)
        if "raw" in found and method != "raw":
            gain, ends = value[method] - value["raw"], np.nanquantile(at[method] - at["raw"], (0.025, 0.975))
        rows.append(
            {
                "share": share,
                "method": method,
                "users": users,
                "auc": float(np.mean([auc(p, target) for p in draws])),
                "f1": float(np.mean([macro_f1(p, target) for p in draws])),
                "metric": "auc" if measure is auc else "f1",
                "value": value[method],
                "low": float(low),
                "high": float(high),
                "gain": gain,
                "gain_low": float(ends[0]),
                "gain_high": float(ends[1]),
            }
        )
    return rows


def auc(found: Probabilities, target: Indices) -> float:
    """Return the area under the ROC curve, of several classes the mean over those present, each against the rest."""
    from scipy.stats import rankdata

    values = []
    for k in range(found.shape[1]) if found.shape[1] > 2 else (1,):
        own = target == k
        n, m = int(own.sum()), int((~own).sum())
        if n and m:
            values.append((rankdata(found[:, k])[own].sum() - n * (n + 1) / 2) / (n * m))
    return float(np.mean(values)) if values else float("nan")


def macro_f1(found: Probabilities, target: Indices) -> float:
    """Return the F1 score of the likeliest class, as a mean over all classes; a class that nobody has or gets is 0."""
    guess, classes = found.argmax(1), found.shape[1]
    hits = np.bincount(target[guess == target], minlength=classes)
    total = np.bincount(target, minlength=classes) + np.bincount(guess, minlength=classes)
    return float(np.mean(2 * hits / np.maximum(total, 1)))
