"""Whether generated users are like real ones, useful in their place, and not copies: one frame per question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.analysis.generate import largest
from recsys.columns import ITEM, USER
from recsys.errors import DataError
from recsys.evaluation import evaluate
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import EASE
from recsys.params import random_generator, seed_of_32_bits
from recsys.splits import Part

Doubles = npt.NDArray[np.float64]

LEVEL: Final = 0.01
"""Share of held-out users who come as near to a training user as a generated one that is flagged."""
_ROWS = 512
"""Users drawn, or compared with all others, at a time."""


def independent_users(real: Interactions, n: int, rng: int | np.random.Generator = 0) -> Interactions:
    """Return users without taste: lengths of real users, items by popularity without replacement."""
    rng = random_generator(rng)
    counts = np.bincount(real.matrix.indices, minlength=real.shape[1])
    lengths = rng.choice(np.diff(real.matrix.indptr), n)
    with np.errstate(divide="ignore"):
        logs = np.log(counts.astype(np.float64))
    rows = []
    for start in range(0, n, _ROWS):
        part = lengths[start : start + _ROWS]
        rows.append(sp.csr_matrix(largest(logs + rng.gumbel(size=(len(part), len(logs))), part), dtype=np.float32))
    return _named(sp.vstack(rows).tocsr(), "independent", real)


def bootstrapped_users(real: Interactions, n: int, rng: int | np.random.Generator = 0) -> Interactions:
    """Return real users drawn with replacement: nothing is more like them, and everything is memorized."""
    rows = random_generator(rng).integers(real.shape[0], size=n)
    return _named(real.matrix[rows], "bootstrapped", real)


def popularity_fit(generated: Interactions, real: Interactions) -> pd.DataFrame:
    """Return each item's share of users, `item_id, real, generated`; their correlation says how far they agree."""
    _check(generated, real)
    shares = (_counts(data) / max(1, data.shape[0]) for data in (real, generated))
    return pd.DataFrame({ITEM: list(real.items), **dict(zip(("real", "generated"), shares, strict=True))})


def length_fit(generated: Interactions, real: Interactions) -> pd.DataFrame:
    """Return quantiles of the numbers of items of a user: `quantile, real, generated`."""
    _check(generated, real)
    at = np.array([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])
    found = (np.quantile(np.diff(data.matrix.indptr), at) for data in (real, generated))
    return pd.DataFrame({"quantile": at, **dict(zip(("real", "generated"), found, strict=True))})


def pair_fit(generated: Interactions, real: Interactions, *, items: int = 100) -> pd.DataFrame:
    """Return the lift of each pair of the most popular items: how much oftener both occur together than by chance.

    lift = n · n_ij / (n_i n_j), with ½ added to n_ij. Users without taste have lifts near 1 but for what lengths do.

    Returns:
        `first`, `second` (item ids), `real`, `generated`.
    """
    _check(generated, real)
    top = np.argsort(-_counts(real), kind="stable")[:items]
    above = np.triu_indices(len(top), 1)
    lifts = []
    for data in (real, generated):
        some = sp.csr_matrix(data.matrix[:, top], copy=True)
        some.data = np.ones_like(some.data, dtype=np.float32)
        together = (some.T @ some).toarray().astype(np.float64)
        own = np.maximum(together.diagonal(), 0.5)
        lifts.append((data.shape[0] * (together + 0.5) / np.outer(own, own))[above])
    ids = np.asarray(list(real.items), dtype=object)[top]
    return pd.DataFrame({"first": ids[above[0]], "second": ids[above[1]], "real": lifts[0], "generated": lifts[1]})


def two_sample_test(
    generated: Interactions, real: Interactions, *, components: int = 32, folds: int = 3, seed: int = 0
) -> pd.DataFrame:
    """Return how well classifiers tell generated users from real ones: AUC near ½ means that they cannot.

    Classifier two-sample tests (Lopez-Paz and Oquab 2017). `items` is a logistic regression on the entries, which sees
    what single items tell; `components` are boosted trees on the first singular vectors of both samples and the length,
    which see how items go together. As many users of each kind are drawn. AUCs are of held-out folds. Real users whom
    training did not see make a fair test; bootstrapped users pass it against training users.

    Returns:
        `classifier`, `fold`, `auc`.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    _check(generated, real)
    rng, n = random_generator(seed), min(generated.shape[0], real.shape[0])
    if n < 2 * folds:
        raise DataError(f"a two-sample test with {folds} folds needs {2 * folds} users of each kind, got {n}")
    pairs = (data.matrix[np.sort(rng.choice(data.shape[0], n, replace=False))] for data in (real, generated))
    rows = sp.vstack(list(pairs)).tocsr()
    rows.data = np.ones_like(rows.data)
    labels = np.repeat([0, 1], n)
    width, state = min(components, min(rows.shape) - 1), seed_of_32_bits(seed)
    codes = TruncatedSVD(width, random_state=state).fit_transform(rows)
    codes = np.column_stack([codes, np.diff(rows.indptr)])
    found = []
    for fold, (train, test) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=state).split(codes, labels)):
        for name, classifier, table in (
            ("items", LogisticRegression(C=0.01, max_iter=200), rows),
            ("components", HistGradientBoostingClassifier(max_iter=60, random_state=state), codes),
        ):
            chances = classifier.fit(table[train], labels[train]).predict_proba(table[test])[:, 1]
            found.append({"classifier": name, "fold": fold, "auc": roc_auc_score(labels[test], chances)})
    return pd.DataFrame(found).sort_values(["classifier", "fold"], ignore_index=True)


def train_on_generated(
    generated: Mapping[str, Interactions],
    real: Interactions,
    test: Part,
    *,
    regularization: float = 300.0,
    metric: str = "ndcg@10",
    seed: int = 0,
) -> pd.DataFrame:
    """Return what a model learns of generated users, tested on real ones: EASE, by source.

    Each source trains EASE with the same `regularization` on as many users as the smallest source, or `real`, has.

    Returns:
        `source` (the row `real` first), `users`, the metric, and `share` of what as many real users give.
    """
    sources = {"real": real, **generated}
    rng, n = random_generator(seed), min(data.shape[0] for data in sources.values())
    rows = []
    for name, data in sources.items():
        _check(data, real)
        some = data.matrix[np.sort(rng.choice(data.shape[0], n, replace=False))].copy()
        some.data = np.ones_like(some.data)
        model = EASE(regularization=regularization).fit(some, show_progress=False)
        strangers = replace(test, user_index=np.full(len(test.users), -1, np.int32))
        rows.append({"source": name, "users": n, metric: evaluate(model, strangers, [metric])[metric]})
    frame = pd.DataFrame(rows)
    frame["share"] = frame[metric] / frame[metric].iloc[0]
    return frame


def memorization(
    generated: Interactions, train: Interactions, held_out: Interactions, *, level: float = LEVEL
) -> pd.DataFrame:
    """Return how near each generated user comes to a training user, beside users whom training did not see.

    The distance is 1 − cosine of the sets of items. A user is flagged whose nearest training user is nearer than it is
    for all but a share `level` of the held-out users: about that share is flagged where nothing is memorized, and all
    of bootstrapped users. Users without items have no distance.

    Returns:
        one row per generated user: `user_id`, `distance`, `nearest` (id of the training user), `flagged`, `threshold`.
    """
    _check(held_out, train)
    return _copies(generated, train, _threshold(held_out, train, level))


def _threshold(held_out: Interactions, train: Interactions, level: float) -> float:
    """Return the distance to a training user below which only a share `level` of held-out users come."""
    return float(np.nanquantile(_nearest(held_out.matrix, train.matrix)[0], level))


def _copies(generated: Interactions, train: Interactions, threshold: float) -> pd.DataFrame:
    """Return `memorization` at a distance."""
    _check(generated, train)
    distances, nearest = _nearest(generated.matrix, train.matrix)
    return pd.DataFrame(
        {
            USER: list(generated.users),
            "distance": distances,
            "nearest": np.asarray(list(train.users), dtype=object)[nearest],
            "flagged": distances < threshold,
            "threshold": threshold,
        }
    )


def compare_generators(
    sources: Mapping[str, Interactions], train: Interactions, test: Part, *, seed: int = 0
) -> pd.DataFrame:
    """Return a row per source of users with the figures of all questions.

    Args:
        sources: users by the name of what made them.
        train: the users that the models were trained on.
        test: users whom training did not see; context and target together are their histories.

    Returns:
        `source`; `popularity` (correlation of items' shares with those of the test users) and `pairs` (rank correlation
        of the lifts of pairs); `length` (mean) and `real_length`; `auc_items`, `auc_components` against test users;
        `ease` (nDCG@10 of EASE trained on it) and `ease_share`; `flagged` (share that comes too near to a training
        user; 0.01 is what held-out users have) and `distance` (median).
    """
    return compare_with_copies(sources, train, test, seed=seed)[0]


def compare_with_copies(
    sources: Mapping[str, Interactions], train: Interactions, test: Part, *, seed: int = 0
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return `compare_generators`, and the `memorization` of each source that it is made of."""
    from scipy.stats import spearmanr

    real = held_out_users(test, train)
    threshold, copies = _threshold(real, train, LEVEL), dict[str, pd.DataFrame]()
    learned = train_on_generated(sources, train, test, seed=seed)
    rows = []
    for name, data in sources.items():
        shares, lifts = popularity_fit(data, real), pair_fit(data, train)
        tests = two_sample_test(data, real, seed=seed)
        auc = {kind: float(tests.loc[tests["classifier"] == kind, "auc"].mean()) for kind in ("items", "components")}
        gained = learned[learned["source"] == name].iloc[0]
        near = copies[name] = _copies(data, train, threshold)
        rows.append(
            {
                "source": name,
                "popularity": float(np.corrcoef(shares["real"], shares["generated"])[0, 1]),
                "pairs": float(spearmanr(lifts["real"], lifts["generated"]).statistic),
                "length": float(np.diff(data.matrix.indptr).mean()),
                "real_length": float(np.diff(real.matrix.indptr).mean()),
                "auc_items": auc["items"],
                "auc_components": auc["components"],
                "ease": float(gained["ndcg@10"]),
                "ease_share": float(gained["share"]),
                "flagged": float(near["flagged"].mean()),
                "distance": float(near["distance"].median()),
            }
        )
    return pd.DataFrame(rows), copies


def _nearest(rows: sp.csr_matrix, among: sp.csr_matrix) -> tuple[Doubles, npt.NDArray[np.intp]]:
    """Return the distance of each row to the nearest of others, and which it is; NaN and 0 for an empty row."""
    own, table = _unit(rows), _unit(among).T.tocsr()
    distances, nearest = np.full(rows.shape[0], np.nan), np.zeros(rows.shape[0], dtype=np.intp)
    for start in range(0, rows.shape[0], _ROWS):
        part = slice(start, start + _ROWS)
        cosines = (own[part] @ table).toarray()
        nearest[part] = cosines.argmax(1)
        distances[part] = 1.0 - cosines.max(1)
    distances[np.diff(rows.indptr) == 0] = np.nan
    return np.maximum(distances, 0.0), nearest


def _unit(matrix: sp.csr_matrix) -> sp.csr_matrix:
    lengths = np.diff(matrix.indptr)
    values = np.repeat(1.0 / np.sqrt(np.maximum(lengths, 1)), lengths)
    return sp.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape)


def _counts(data: Interactions) -> Doubles:
    return np.bincount(data.matrix.indices, minlength=data.shape[1]).astype(np.float64)


def _check(data: Interactions, real: Interactions) -> None:
    if data.shape[1] != real.shape[1] or list(data.items) != list(real.items):
        raise DataError(
            f"both must have the same items, got {data.shape[1]:,} and {real.shape[1]:,}; generate with the model that "
            "was trained on these, or align them by Interactions.histories"
        )


def _named(matrix: sp.csr_matrix, kind: str, like: Interactions) -> Interactions:
    users = IdMap([f"{kind}-{row}" for row in range(matrix.shape[0])])
    return Interactions(matrix, users, like.items, titles=like.titles)


def held_out_users(test: Part, train: Interactions) -> Interactions:
    """Return the users of a part with all their entries, context and target, as interactions."""
    return Interactions(sp.csr_matrix(test.context + test.target), test.users, train.items, titles=train.titles)
