"""What items score that training never saw: a ridge from features of items to what was learned of those it saw.

With F the features of the known items, λ the strength and f those of a new item, the ridge gives the item the shares

    a = (F Fᵀ + λ I)⁻¹ F f

in the known ones, and with that Σ_i a_i t_i of whatever t was learned of item i: its vector, or its column of a linear
model's B, or its scores themselves. A ridge makes short what it is unsure of, so that an item with few or rare features
would always lose: each result, seen from the mean of the known items' t, is brought to one length, their mean distance
from it times the trust: the slope of what known items score on what the ridge says of them without having seen them.
New items whose features say little so stand near the mean, and not before what is known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys import memory
from recsys.errors import BundleError
from recsys.metrics import Catalog, Lists, of
from recsys.models.base import Recommender
from recsys.models.described import ridge_duals
from recsys.models.leaning import Lent
from recsys.models.selection import Histories, Indices
from recsys.models.stored import Stored
from recsys.nn.products import affine, weighted_rows
from recsys.ranking import top_n
from recsys.sparse import Rows

STRENGTHS: Final = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""λ that are tried, for rows of features of length 1."""
NO_REMAINDER: Final = 1e6
"""λ with which the ridge says nothing, where there is something else to say."""
_HELD_OUT, _LEAST_HELD, _MOST_HELD, _MOST_USERS, _CUTOFF = 0.1, 20, 500, 2000, 20
_TOGETHER = 512
"""New items whose shares are solved for at a time."""
_SAMPLE = 256
"""Histories of one item by which it is measured how far the scores of an item reach."""


class NewItems(ABC):
    """What new items score, beside a fitted model that knows nothing of them."""

    kind: ClassVar[str]

    @abstractmethod
    def scores(self, model: Recommender, histories: Histories, userid: Indices, own: Tensor | None = None) -> Tensor:
        """Return the (rows, n_new) scores, as `Recommender._scores` would.

        Args:
            own: the model's scores of all of its items for these users, where they are known.
        """

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what was derived, for the bundle."""

    def vectors(self) -> Tensor | None:
        """Return vectors in the space of the model's own item vectors, None where there are none."""
        return None


class ByVectors(NewItems):
    """Models that score by q · w + b: new vectors w and offsets b (networks of users' rows, ALS, BPR, ELSA)."""

    kind = "vectors"

    def __init__(self, table: Tensor, offsets: Tensor) -> None:
        self.table, self.offsets = table, offsets

    def scores(self, model: Recommender, histories: Histories, userid: Indices, own: Tensor | None = None) -> Tensor:
        queries = model._queries(cast(sp.csr_matrix, histories), userid)
        return affine(queries, self.table.to(queries.device), self.offsets.to(queries.device))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"vectors": self.table.numpy(), "offsets": self.offsets.numpy()}

    def vectors(self) -> Tensor | None:
        return self.table


class ByWeights(NewItems):
    """Linear models: new columns of B."""

    kind = "weights"

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def scores(self, model: Recommender, histories: Histories, userid: Indices, own: Tensor | None = None) -> Tensor:
        rows = Rows(model._features(histories), self.weights.device)
        batch = rows.slice(0, len(rows))
        return weighted_rows(self.weights, batch, batch.values)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"weights": self.weights.numpy()}


class ByShares(NewItems):
    """Any other model: shares in the scores of the known items, each user's mean score aside."""

    kind = "shares"

    def __init__(self, shares: Tensor, known: Tensor) -> None:
        self.shares, self.known = shares, known

    def scores(self, model: Recommender, histories: Histories, userid: Indices, own: Tensor | None = None) -> Tensor:
        scores = model._checked(histories, userid, None, None) if own is None else own
        centered, mean = _centered(scores, self.known)
        return affine(centered, self.shares.to(centered.device)).add_(mean)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"shares": self.shares.numpy(), "known": self.known.numpy()}


@torch.no_grad()
def derived(
    model: Recommender,
    known: Indices,
    features: sp.csr_matrix,
    new: sp.csr_matrix,
    strength: float,
    trust: float = 1.0,
    lent: Lent | None = None,
) -> NewItems:
    """Return what new items score.

    Args:
        model: fitted.
        known: (n_known,) items of the model that training had entries of.
        features: (n_known, d), their features, rows of length 1.
        new: (n_new, d) features of the new items, rows of length 1.
        strength: λ.
        trust: as a share of the mean distance of known items from their mean, that of the new ones.
        lent: what features lend to the vectors; the ridge is then to what they do not, and nothing is brought to a
            length, of which training has chosen what suits.
    """
    at = torch.from_numpy(known)
    if lent is not None:
        return _leaning(model, at, features, new, strength, trust, lent)
    if (table := model._vectors_for_new()) is not None:
        vectors, offsets = (tensor.detach().float().cpu()[at] for tensor in table)
        middle, center = offsets.mean(), vectors.mean(dim=0)
        vectors = vectors - center
        targets = torch.cat([vectors, (offsets - middle)[:, None]], dim=1).numpy()
        found = torch.from_numpy((new @ (features.T @ ridge_duals(features, targets, strength))).astype(np.float32))
        length = vectors.norm(dim=1).mean() * trust
        return ByVectors(_long_as(found[:, :-1], length) + center, found[:, -1] + middle)
    if (weights := model._weights_for_new()) is not None:
        columns = weights.detach().float().cpu()[:, at]
        memory.require(4 * (new.shape[0] + len(known)) * len(columns), "the weights of new items need", "add fewer")
        center = columns.mean(dim=1, keepdim=True)
        columns = columns - center
        pieces = [columns @ shares for shares in _shares(features, new, strength)]
        result = torch.cat([columns[:, :0], *pieces], dim=1)
        length = columns.norm(dim=0).mean() * trust
        return ByWeights((_long_as(result.T, length).T + center).contiguous())
    memory.require(8 * new.shape[0] * len(known), "the shares of new items in the known ones need", "add fewer items")
    shares = torch.cat([torch.zeros(len(known), 0), *_shares(features, new, strength)], dim=1)
    some = known[:: max(1, len(known) // _SAMPLE)]
    alone = sp.csr_matrix((np.ones(len(some), np.float32), (range(len(some)), some)), shape=(len(some), model.n_items_))
    own, _ = _centered(model._checked(alone, np.full(len(some), -1), None, None), at)
    reach = own.cpu().norm(dim=0).mean() * trust
    lengths = (own.cpu() @ shares).norm(dim=0)
    return ByShares((shares * (reach / lengths.clamp_min(1e-12))).T.contiguous(), at)


def _leaning(
    model: Recommender,
    known: Tensor,
    features: sp.csr_matrix,
    new: sp.csr_matrix,
    strength: float,
    trust: float,
    lent: Lent,
) -> ByVectors:
    """Return f W of the new items, and what the ridge says of what is left of the known ones' vectors."""
    table = model._vectors_for_new()
    assert table is not None  # networks that lean score by vectors
    shared = torch.cat([lent.weight, lent.bias[:, None]], dim=1).numpy()
    whole = torch.cat([table[0], table[1][:, None]], dim=1).detach().float().cpu()[known]
    rest = whole.numpy() - features @ shared
    middle = float(rest[:, -1].mean())
    rest[:, -1] -= middle
    found = torch.from_numpy(new @ shared + new @ (features.T @ ridge_duals(features, rest, strength)))
    center = whole.mean(dim=0)
    center[-1] = middle
    found[:, -1] += middle
    found = (found - center).mul_(trust) + center
    return ByVectors(found[:, :-1].float().contiguous(), found[:, -1].float().contiguous())


def restored(kind: Any, arrays: Stored, prefix: str, n_new: int, model: Recommender) -> NewItems:
    """Return what `arrays` gave, checked."""
    if kind == ByVectors.kind and (table := model._vectors_for_new()) is not None:
        vectors = arrays.array(f"{prefix}vectors", (n_new, table[0].shape[1]))
        return ByVectors(torch.from_numpy(vectors), torch.from_numpy(arrays.array(f"{prefix}offsets", (n_new,))))
    if kind == ByWeights.kind and (weights := model._weights_for_new()) is not None:
        return ByWeights(torch.from_numpy(arrays.array(f"{prefix}weights", (len(weights), n_new))))
    if kind != ByShares.kind:
        raise BundleError(f"{type(model).__name__} has no {kind!r} of new items")
    known = arrays.array(f"{prefix}known", (None,), np.int64, within=(0, model.n_items_ - 1))
    shares = arrays.array(f"{prefix}shares", (n_new, len(known)))
    return ByShares(torch.from_numpy(shares), torch.from_numpy(known))


class Trial:
    """Known items that are taken for new ones, and users who have them: how far the ridge finds what it has not seen.

    A tenth of the known items that have features, of few items 20 or half of them, 500 at most, are held out of the
    ridge, and leave the histories of up to 2,000 users who have one and something else. The model itself has seen them
    in training, the ridge from features to what it learned not.

    Args:
        known, features, lent: as in `derived`.
        seed: of the draws.
    """

    def __init__(
        self,
        model: Recommender,
        matrix: sp.csr_matrix,
        known: Indices,
        features: sp.csr_matrix,
        seed: int,
        lent: Lent | None = None,
    ) -> None:
        rng = np.random.default_rng(seed)
        able = np.flatnonzero(np.diff(features.indptr))
        n_held = min(_MOST_HELD, max(int(len(able) * _HELD_OUT), min(len(able) // 2, _LEAST_HELD)))
        held = np.sort(rng.permutation(able)[:n_held])
        rest = np.setdiff1d(np.arange(len(known)), held)
        target = sp.csr_matrix(matrix[:, known[held]])
        context = _without(matrix, known[held])
        users = np.flatnonzero((np.diff(target.indptr) > 0) & (np.diff(context.indptr) > 0))
        users = np.sort(rng.permutation(users)[:_MOST_USERS])
        self.model, self.held, self.lent = model, known[held], lent
        self.target, self.context = target[users], context[users]
        self.known = known[rest], features[rest], features[held]
        self.enough = len(held) > 1 and len(users) > 0
        """Whether there is anything to find."""

    def strength(self) -> float:
        """Return the λ of `STRENGTHS` with the highest mean nDCG@20 of lists of the held-out items."""
        tried = STRENGTHS if self.lent is None else (*STRENGTHS, NO_REMAINDER)
        return max(tried, key=self._quality) if self.enough else 1.0

    def trust(self, strength: float) -> float:
        """Return the slope, 0 to 1, of the held-out items' own scores on the ridge's, each user's means aside."""
        if not self.enough:
            return 1.0
        with torch.no_grad():
            scores = self.model._checked(self.context, self._strangers(), self.held, None).cpu()
            found = self._new(strength).scores(self.model, self.context, self._strangers()).cpu()
        scores, found = (table.double() - table.double().mean(1, keepdim=True) for table in (scores, found))
        return float(((scores * found).sum() / found.square().sum().clamp_min(1e-12)).clamp(0.0, 1.0))

    def _quality(self, strength: float) -> float:
        new, n_users = self._new(strength), self.target.shape[0]

        def block(rows: slice, out: Tensor | None) -> Tensor:
            return new.scores(self.model, self.context[rows], np.full(rows.stop - rows.start, -1))

        with torch.no_grad():
            ids, _ = top_n(block, n_users, len(self.held), min(_CUTOFF, len(self.held)))
        seen = sp.csr_matrix(np.zeros(self.target.shape, np.float32))
        found = Lists(Catalog(self.target, None), ids, self.target, seen)
        return float(np.nanmean(of(f"ndcg@{_CUTOFF}").of_lists(found, _CUTOFF)))

    def as_new(self, strength: float, trust: float) -> tuple[Recommender, Indices, Callable[[float], NewItems]]:
        """Return the model, the known items that are not held out, and what others would score as new ones.

        These are a tenth of the known items at most, though more were held out of a small catalog.
        """
        rest, features, new = self.known
        some = new[:: max(1, round(new.shape[0] / max(1.0, _HELD_OUT * (len(rest) + new.shape[0]))))]
        return (
            self.model,
            rest,
            lambda share: derived(self.model, rest, features, some, strength, trust * share, self.lent),
        )

    def _new(self, strength: float) -> NewItems:
        return derived(self.model, *self.known, strength, lent=self.lent)

    def _strangers(self) -> Indices:
        return np.full(self.target.shape[0], -1)


def nearest(new: sp.csr_matrix, features: sp.csr_matrix, known: Indices, n_items: int, n: int) -> sp.csr_matrix:
    """Return the shares of the known items in each new one, (n_new, n_items): its `n` nearest by cosine, with sum 1.

    A history with a new item is read as if it held these in its place.
    """
    rows = []
    for start in range(0, new.shape[0], _TOGETHER):
        cosines = sp.csr_matrix(new[start : start + _TOGETHER] @ features.T)
        for one in range(cosines.shape[0]):
            values = cosines.data[cosines.indptr[one] : cosines.indptr[one + 1]]
            columns = cosines.indices[cosines.indptr[one] : cosines.indptr[one + 1]]
            best = np.lexsort((columns, -values))[:n]
            best = best[values[best] > 0]
            rows.append((columns[best], values[best] / max(1e-12, values[best].sum())))
    indptr = np.append(0, np.cumsum([len(columns) for columns, _ in rows], dtype=np.int64))
    columns = np.concatenate([known[:0], *(known[columns] for columns, _ in rows)])
    data = np.concatenate([np.zeros(0, np.float32), *(values for _, values in rows)]).astype(np.float32)
    found = sp.csr_matrix((data, columns, indptr), shape=(new.shape[0], n_items))
    found.sort_indices()
    return found


def _shares(features: sp.csr_matrix, new: sp.csr_matrix, strength: float) -> Iterator[Tensor]:
    """Yield the shares of the known items in pieces of the new ones, (n_known, some) each."""
    for start in range(0, new.shape[0], _TOGETHER):
        products = (features @ new[start : start + _TOGETHER].T).toarray().astype(np.float32)
        yield torch.from_numpy(ridge_duals(features, products, strength))


def _long_as(rows: Tensor, length: Tensor) -> Tensor:
    scale: Tensor = length / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return rows * scale


def _centered(scores: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores of the known items less each user's mean, and the means, (rows, 1)."""
    own = scores[:, known.to(scores.device)].contiguous()
    low = torch.where(own == -torch.inf, torch.inf, own).amin(1, keepdim=True)
    own = torch.where(own == -torch.inf, low.nan_to_num(posinf=0.0), own)
    mean = own.mean(1, keepdim=True)
    return own - mean, mean


def _without(matrix: sp.csr_matrix, items: Indices) -> sp.csr_matrix:
    """Return the histories without these items."""
    kept = ~np.isin(matrix.indices, items)
    indptr = np.append(0, np.cumsum(kept))[matrix.indptr]
    return sp.csr_matrix((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)
