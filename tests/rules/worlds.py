"""What the tests of rules share: data whose items are described, models, and lists found by looking at everything."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from recsys.interactions import Interactions
from recsys.models import ALS, EASE

USERS, ITEMS = 40, 60
BRANDS, GENRES = ("a", "b", "c", "d"), ("drama", "comedy", "war", "noir", "short")


def interactions(seed=0):
    """Histories of 2 to 12 items; users 38 and 39 have only one item."""
    rng = np.random.default_rng(seed)
    pairs = [(user, item) for user in range(USERS - 2) for item in rng.choice(ITEMS, rng.integers(2, 13), False)]
    pairs += [(user, 0) for user in range(USERS - 2, USERS)] + [(item % (USERS - 2), item) for item in range(ITEMS)]
    return Interactions.from_frame(pd.DataFrame(sorted(set(pairs)), columns=["user_id", "item_id"]))


def described(seed=0):
    """A table of the items in another order, without some of them, and with some that nobody knows."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.arange(2, ITEMS + 5))
    return pd.DataFrame(
        {
            "item_id": ids,
            "brand": [
                None if draw < 0.2 else BRANDS[int(draw * 97) % 3 and int(draw * 4)] for draw in rng.random(len(ids))
            ],
            "price": np.where(rng.random(len(ids)) < 0.1, np.nan, rng.integers(1, 100, len(ids))),
            "stock": rng.integers(0, 3, len(ids)),
            "genres": [list(rng.choice(GENRES, rng.integers(0, 4), replace=False)) for _ in ids],
        }
    )


DATA = interactions()
TABLE = described()
MODELS = {
    "EASE": EASE(regularization=5.0).fit(DATA, show_progress=False),
    "ALS": ALS(factors=6, iterations=3, regularization=0.1).fit(DATA, show_progress=False),
}


def _values(cell):
    return cell if isinstance(cell, list) else [] if pd.isna(cell) else [cell]


_OF = {(item, name): _values(cell) for name in TABLE for item, cell in zip(TABLE["item_id"], TABLE[name], strict=True)}


def value_of(item, column):
    """The values of an item in a column, as a list."""
    return _OF.get((item, column), [])


def ranking(model, row, allowed, hidden=()):
    """(item, score) of all that may be recommended to the user of a row, by the scores of a call for everything."""
    history = DATA.matrix[[row]]
    ids, scores = model.recommend([row], history, ITEMS, filter_already_liked_items=False)
    found = zip(ids[0].tolist(), scores[0].tolist(), strict=True)
    return [(item, score) for item, score in found if item in allowed and item not in set(hidden)]


def scaled(pool):
    low, high = min(score for _, score in pool), max(score for _, score in pool)
    return [(item, (score - low) / (high - low) if high > low else 0.0) for item, score in pool]


def divergence(history, items, column, alpha=0.01):
    """KL(p, (1 − α) q + α p) by its definition; 0 without a p."""

    def mix(of):
        shares = {}
        valued = [value_of(item, column) for item in of if value_of(item, column)]
        for values in valued:
            for value in values:
                shares[value] = shares.get(value, 0.0) + 1 / len(values) / len(valued)
        return shares

    p, q = mix(history), mix(items)
    return sum(
        share * math.log(share / ((1 - alpha) * q.get(value, 0.0) + alpha * share)) for value, share in p.items()
    )


def greedy(pool, n, at_most, value):
    """The list that is chosen from a pool, one item after another, by the largest value, the first of equal ones."""
    chosen = []
    while len(chosen) < n:
        best = None
        for item, score in pool:
            if item in chosen or not fits(chosen, item, at_most):
                continue
            worth = value(chosen, item, score)
            if best is None or worth > best[0] + 1e-12:
                best = worth, item
        if best is None:
            break
        chosen.append(best[1])
    return chosen


def fits(chosen, item, at_most):
    """Whether an item may be added to a list."""
    for column, most in at_most.items():
        for value in value_of(item, column):
            if sum(value in value_of(other, column) for other in chosen) >= most:
                return False
    return True


def expected(model, row, n, rules, allowed, hidden):
    """The list of a user under rules, found by looking at all items."""
    whole, at_most = ranking(model, row, allowed, hidden), rules.at_most or {}
    if not rules.diversity and not rules.calibration:
        return greedy(whole, n, at_most, lambda chosen, item, score: 0.0)
    size = max(n, rules.pool)
    history = DATA.matrix[[row]].indices.tolist()
    while True:
        pool = scaled(whole[:size]) if whole else []

        def value(chosen, item, score):
            if rules.diversity:
                nearest = max((similarity(model, item, other) for other in chosen), default=0.0)
                return (1 - rules.diversity) * score - rules.diversity * nearest
            ((column, weight),) = rules.calibration.items()
            return (1 - weight) * score - weight * divergence(history, [*chosen, item], column)

        found = greedy(pool, n, at_most, value)
        if len(found) == n or size >= len(whole):
            return found
        size *= 4


_SIMILAR = {}


def similarity(model, item, other):
    name = type(model).__name__
    if name not in _SIMILAR:
        everything = np.arange(ITEMS)
        _SIMILAR[name] = model._item_similarity(everything, everything).double().numpy()
    return float(_SIMILAR[name][other, item])
