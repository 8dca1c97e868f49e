"""What users score of whom nothing is known but features: a ridge from these to the scores of the known users.

With F the features of the known users in rows of length 1, S their scores of all items, each user's on one scale (mean
0 and standard deviation 1), s̄ the mean of its rows and λ the strength, a user with features f scores

    f W + s̄,   W = (FᵀF + λI)⁻¹ Fᵀ(S − 1 s̄ᵀ).

So the list of a user whose features say nothing is that of the mean user. Only FᵀF, FᵀS and s̄ are kept while the users
are read in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys import memory
from recsys.metrics import Catalog, Lists, of
from recsys.models.base import Recommender
from recsys.models.selection import Indices
from recsys.models.weighing import on_one_scale
from recsys.nn.products import affine
from recsys.ranking import top_n

STRENGTHS: Final = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 1e6)
"""λ that are tried; with the last features say nothing."""
_HELD_OUT, _MOST_HELD, _CUTOFF, _ROWS = 0.1, 2000, 20, 512


@dataclass(frozen=True)
class FromFeatures:
    """Scores of users from their features."""

    table: Tensor
    """(n_items, n_features) W, transposed; float32."""
    offsets: Tensor
    """(n_items,) s̄; -inf for items that some known user is never recommended."""

    def scores(self, features: sp.csr_matrix, items: Indices | None = None) -> Tensor:
        """Return the (rows, items) scores of users with these features, rows of length 1."""
        at = slice(None) if items is None else torch.from_numpy(items)
        return affine(torch.from_numpy(features.toarray()), self.table[at].contiguous(), self.offsets[at].contiguous())


@dataclass
class Sums:
    """What some users say together."""

    gram: npt.NDArray[np.float64]
    """(d, d) FᵀF."""
    product: npt.NDArray[np.float64]
    """(d, n_items) FᵀS."""
    features: npt.NDArray[np.float64]
    """(d,) Fᵀ1."""
    scores: npt.NDArray[np.float64]
    """(n_items,) Sᵀ1."""
    never: npt.NDArray[np.bool_]
    """(n_items,) whether an item scored -inf."""
    n: int = 0

    @classmethod
    def of(cls, model: Recommender, histories: sp.csr_matrix, features: sp.csr_matrix, users: Indices) -> Sums:
        """Return the sums over some training users, given the histories and features of all."""
        d, n_items = features.shape[1], model.n_items_
        sums = cls(np.zeros((d, d)), np.zeros((d, n_items)), np.zeros(d), np.zeros(n_items), np.zeros(n_items, bool))
        with torch.no_grad():
            for start in range(0, len(users), _ROWS):
                some = users[start : start + _ROWS]
                scores = on_one_scale(model, sp.csr_matrix(histories[some]), some).cpu().double().numpy()
                low = np.isneginf(scores)
                scores[low] = 0.0
                rows = sp.csr_matrix(features[some], dtype=np.float64)
                sums.gram += (rows.T @ rows).toarray()
                sums.product += rows.T @ scores
                sums.features += np.asarray(rows.sum(axis=0)).ravel()
                sums.scores += scores.sum(axis=0)
                sums.never |= low.any(axis=0)
                sums.n += len(some)
        return sums

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.gram + other.gram,
            self.product + other.product,
            self.features + other.features,
            self.scores + other.scores,
            self.never | other.never,
            self.n + other.n,
        )

    def ridge(self, strength: float) -> FromFeatures:
        """Return the scores that a ridge of this λ gives."""
        mean = self.scores / max(1, self.n)
        targets = self.product - np.outer(self.features, mean)
        weights = np.linalg.solve(self.gram + strength * np.eye(len(self.gram)), targets)
        weights[:, self.never] = 0.0
        offsets = np.where(self.never, -np.inf, mean)
        table = np.ascontiguousarray(weights.T, dtype=np.float32)
        return FromFeatures(torch.from_numpy(table), torch.from_numpy(offsets.astype(np.float32)))


def learned(
    model: Recommender, histories: sp.csr_matrix, features: sp.csr_matrix, strength: float | None, seed: int
) -> tuple[FromFeatures, float]:
    """Return what features of users say of items, and λ.

    A tenth of the users, 2,000 at most, are held out of the ridge to choose λ: by the mean nDCG@20 of lists from their
    features alone, in which all of their items are wanted.

    Args:
        model: fitted to the histories.
        histories: (n_users, n_items of the model), of the training users in their order.
        features: (n_users, d), rows of length 1; empty where nothing is known of a user.
        strength: λ; None: chosen.
        seed: of the draw.
    """
    d, n_items = features.shape[1], model.n_items_
    memory.require(8 * (2 * d * d + 4 * d * n_items), "the ridge from features of users needs", "name fewer columns")
    able = np.flatnonzero((np.diff(features.indptr) > 0) & (np.diff(histories.indptr) > 0))
    drawn = np.random.default_rng(seed).permutation(able)
    n_held = min(_MOST_HELD, int(_HELD_OUT * len(able))) if strength is None else 0
    held, rest = np.sort(drawn[:n_held]), np.sort(drawn[n_held:])
    of_rest, of_held = (Sums.of(model, histories, features, users) for users in (rest, held))
    if strength is None:
        wanted = (histories[held], sp.csr_matrix(features[held]))
        strength = max(STRENGTHS, key=lambda tried: _quality(of_rest.ridge(tried), *wanted)) if n_held else STRENGTHS[2]
    return (of_rest + of_held).ridge(strength), strength


def _quality(found: FromFeatures, wanted: sp.csr_matrix, features: sp.csr_matrix) -> float:
    def block(rows: slice, out: Tensor | None) -> Tensor:
        return found.scores(features[rows])

    ids, _ = top_n(block, *wanted.shape, min(_CUTOFF, wanted.shape[1]))
    seen = sp.csr_matrix(np.zeros(wanted.shape, np.float32))
    lists: Any = Lists(Catalog(wanted, None), ids, wanted, seen)
    return float(np.nanmean(of(f"ndcg@{_CUTOFF}").of_lists(lists, _CUTOFF)))
