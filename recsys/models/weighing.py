"""The weights of a blend's parts: chosen on validation users for ranking, on validation ratings for rating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys.models.base import Recommender
from recsys.models.fallback import readable
from recsys.models.fitting import Validates
from recsys.models.selection import Histories, Indices, indices
from recsys.nn.graphs import standardized
from recsys.ranking import NO_ID, Ids, Scores, top_n
from recsys.sparse import as_csr
from recsys.splits import Part

MOST_BYTES: Final = 2**29
"""Bytes of scores that are kept while weights are chosen."""
AROUND: Final = 100
"""Items of each part that are kept per user, and three times as many as a list has places if that is more."""
_BLOCK_VALUES: Final = 2**23
"""Scores of a part that are computed at a time."""
_STEPS: Final = (0.5, 0.25, 0.12, 0.06, 0.03)


def part_of(validation: Validates | None) -> Part | None:
    """Return the part that a validation measures on; None where it does not say."""
    part = getattr(validation, "part", None)
    return part if isinstance(part, Part) and is_dataclass(validation) else None


def on_one_scale(model: Recommender, histories: Histories, userid: Indices, out: Tensor | None = None) -> Tensor:
    """Return the (rows, n_items) scores of a part, standardized by row; -inf stays for what it never recommends."""
    scores = model._checked(histories, model._scored_as(userid, histories), None, out)
    never = None
    if scores.numel() and float(scores.amin()) == -torch.inf:
        never = scores == -torch.inf
        low = torch.where(never, torch.inf, scores).amin(1, keepdim=True)
        scores = torch.where(never, low.nan_to_num(posinf=0.0), scores)
    # torch adds up a single long row by several threads, two rows by one each: a list does not depend on the block.
    single = len(scores) == 1
    result = standardized(scores.repeat(2, 1) if single else scores)[: len(scores)]
    return result if never is None else result.masked_fill(never, -torch.inf)


def searched_weights(models: Sequence[Recommender], validation: Any, seed: int) -> tuple[float, ...]:
    """Return the weights w_m ≥ 0, Σ w_m = 1, by which standardized scores rank best on validation users.

    Greedy selection (Caruana et al. 2004, with replacement and in ever smaller steps): from the best part alone, the
    step w ← (1 − t) w + t e_m towards or, with t < 0, away from a part m that gains most is taken as long as one gains,
    for t of 1/2, then 1/4, down to 1/32. It is the validation's own metric that decides. Of each user the items that
    lead any part's list are kept, and where the scores would take more than `MOST_BYTES`, a sample of the users.

    Args:
        models: fitted.
        validation: a `Validation`.
        seed: of the sample.
    """
    kept = KeptScores(models)
    measure = replace(validation, part=_sample(validation.part, len(models), seed), also=())
    sign = 1.0 if validation.higher_is_better else -1.0

    def value(weights: npt.NDArray[np.float64]) -> float:
        kept.place, kept.weights = 0, weights
        return sign * float(measure(kept)[validation.metric])

    alone = np.eye(len(models))
    best_value, best = max(((value(weights), number) for number, weights in enumerate(alone)), key=lambda pair: pair[0])
    weights = alone[best]
    for size in _STEPS:
        while True:
            steps = [(1 - step) * weights + step * part for part in alone for step in (size, -size)]
            tried = [(value(step), number) for number, step in enumerate(steps) if (step >= 0).all() and step.sum() > 0]
            found, number = max(tried, key=lambda pair: pair[0], default=(-np.inf, 0))
            if not found > best_value:
                break
            best_value, weights = found, steps[number]
    return tuple((weights / weights.sum()).tolist())


class KeptScores:
    """What a blend recommends with `weights`, from scores that are computed once.

    It is called as a model is; when `place` is 0 again, with the same calls in the same order.
    """

    def __init__(self, models: Sequence[Recommender]) -> None:
        self.models = models
        self.weights = np.ones(len(models))
        self.place = 0
        """Number of the next call; 0 begins again."""
        self._calls: list[list[tuple[Tensor, Tensor]]] = []

    def recommend(
        self,
        userid: Any,
        user_items: Any,
        N: int = 10,
        filter_already_liked_items: bool = True,
        recalculate_user: bool = False,
        *,
        items: Any = None,
        seen: Any = None,
    ) -> tuple[Ids, Scores]:
        """Return lists as `Recommender.recommend` does, of the items that are kept; what was seen never is."""
        if self.place == len(self._calls):
            users = indices(userid, "userid")
            users = np.full_like(users, -1) if recalculate_user else users
            with torch.inference_mode():
                self._calls.append(self._blocks(users, user_items, seen, items, N))
        blocks = self._calls[self.place]
        self.place += 1
        weights = torch.tensor([*self.weights.tolist(), 1.0])
        lists = [_lists(items, torch.tensordot(weights, scores, 1), N) for items, scores in blocks]
        ids, values = zip(*lists, strict=True)
        return np.concatenate(ids), np.concatenate(values)

    def _blocks(self, users: Indices, user_items: Any, seen: Any, chosen: Any, n: int) -> list[tuple[Tensor, Tensor]]:
        """Return the items (rows, kept) and their scores (models, rows, kept), -inf where a list may not hold them."""
        histories = as_csr(user_items)
        masked = histories if seen is None else as_csr(seen)
        step = max(1, _BLOCK_VALUES // histories.shape[1])
        able = None
        if chosen is not None:
            able = torch.zeros(histories.shape[1], dtype=torch.bool)
            able[torch.from_numpy(indices(chosen, "items", histories.shape[1]))] = True
        blocks = []
        for start in range(0, len(users), step):
            rows = slice(start, start + step)
            own, columns = masked[rows].nonzero()
            scores = []
            for model in self.models:
                block = on_one_scale(model, readable(histories[rows], model.popularity_), users[rows]).cpu()
                block[torch.from_numpy(own), torch.from_numpy(columns).long()] = -torch.inf
                if able is not None:
                    block[:, ~able] = -torch.inf
                scores.append(block)
            blocks.append(_leading(torch.stack(scores), max(AROUND, 3 * n)))
        return blocks


def least_squares(models: Sequence[Recommender], part: Part) -> tuple[tuple[float, ...], float]:
    """Return w_m ≥ 0 and b that minimize Σ (r − b − Σ_m w_m r̂_m)² over the ratings of a part.

    Args:
        models: fitted; they predict ratings.
        part: of which the targets are predicted, from the contexts.
    """
    users = np.flatnonzero(np.diff(part.target.indptr))
    columns = []
    for start in range(0, len(users), _USERS):
        block = users[start : start + _USERS]
        target = part.target[block]
        rows = np.repeat(np.arange(len(block)), np.diff(target.indptr))
        pairs = part.user_index[block], part.context[block], rows, target.indices
        columns.append(np.stack([target.data, *(model.predict_pairs(*pairs) for model in models)], 1))
    table = np.concatenate(columns).astype(np.float64)
    means = table.mean(0)
    table -= means  # the intercept is free
    from scipy.optimize import nnls  # its import costs every command a fifth of a second

    weights, _ = nnls(table[:, 1:], table[:, 0])
    return tuple(weights.tolist()), float(means[0] - means[1:] @ weights)


_USERS: Final = 4096


def _sample(part: Part, n_models: int, seed: int) -> Part:
    """Return as many users of a part, with targets, as have room; all where they have."""
    width = min(part.target.shape[1], AROUND * n_models)
    most = max(1, MOST_BYTES // (4 * width * (n_models + 2)))
    users = np.flatnonzero(np.diff(part.target.indptr))
    if len(users) > most:
        users = np.sort(np.random.default_rng(seed).choice(users, most, replace=False))
    seen = None if part.seen is None else part.seen[users]
    return replace(
        part,
        context=part.context[users],
        target=part.target[users],
        users=part.users.take(users),
        user_index=part.user_index[users],
        seen=seen,
    )


def _leading(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the items, (rows, kept) ascending, that are among the `n` best of a row for any model, and their scores.

    `scores` is (models, rows, items). An item that a model gives -inf has -inf for all models and is not recommended.
    """
    n_models, n_rows, n_items = scores.shape
    if n_models * n >= n_items:
        items = torch.arange(n_items).expand(n_rows, -1)
        kept = scores
    else:
        items = torch.cat(list(scores.topk(n, dim=2, sorted=False).indices), 1).sort(1).values
        kept = scores.gather(2, items.expand(n_models, -1, -1))
        kept[:, :, 1:].masked_fill_(items[:, 1:] == items[:, :-1], -torch.inf)
    never = (kept == -torch.inf).any(0)
    # Finite, so that a weight of 0 times it is 0: the mask is added as one more score.
    return items, torch.cat([kept.masked_fill(never, 0.0), torch.where(never, -torch.inf, 0.0)[None]])


def _lists(items: Tensor, scores: Tensor, n: int) -> tuple[Ids, Scores]:
    """Return the n best of each row's own items, by score and then by item."""
    places, values = top_n(lambda rows, out: scores[rows].contiguous(), len(scores), scores.shape[1], n)
    ids = np.take_along_axis(items.numpy(), places.clip(0).astype(np.int64), axis=1)
    return np.where(places == NO_ID, NO_ID, ids).astype(np.int32), values
