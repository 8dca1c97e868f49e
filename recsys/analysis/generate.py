"""Synthetic users of a generative model: drawn from its prior, completed from a history, or between two users."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.errors import DataError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.params import check_count, random_generator
from recsys.sparse import as_csr

Lengths = npt.NDArray[np.int64]

_ROWS = 512
"""Users drawn at a time, for the memory of their scores."""


def sample_users(
    model: Recommender, n: int, rng: int | np.random.Generator = 0, *, lengths: npt.ArrayLike | None = None
) -> Interactions:
    """Return `n` users drawn from a model: z ~ p(z), then a history from p(x|z).

    - multinomial: as many different items as a length says, by their probabilities, without replacement (Gumbel top-k:
      the items with the largest log π_i(z) + Gumbel noise; Kool, van Hoof and Welling 2019).
    - bernoulli: each item on its own by its chance p_i(z), so that lengths follow from z. A user may have no item.
    - gaussian: the items with the largest means f_i(z), as many as a length says: the noise of variance 1 that the
      likelihood adds to values of 0 and 1 would leave nothing of them. Users with one z and length are alike.

    A user is a draw of the model and no person, but a model may repeat what it has learned by heart: see
    `memorization` before a table is shared.

    Args:
        rng: a seed or a generator.
        lengths: numbers of items to draw from, each as likely as the others; by default those of the training users.
            The Bernoulli likelihood takes none.

    Returns:
        users `generated-0`, `generated-1`, …, with the items' ids of training (or their numbers), each entry 1;
        `to_frame()` gives the table `user_id, item_id, rating`.

    Raises:
        UnsupportedError: the model has no prior, or one that reads a history (RecVAE: use `complete_users`).
        DataError: lengths that are none, or a saved model of an earlier version, which does not keep those of training.
    """
    rng = random_generator(rng)
    drawn = _lengths(model, check_count("n", n, DataError), lengths, rng)
    return _interactions(model, draw_histories(model, model.draw_prior(n, rng), drawn, rng), "generated")


def complete_users(
    model: Recommender,
    user_items: Any,
    rng: int | np.random.Generator = 0,
    *,
    lengths: npt.ArrayLike | None = None,
    keep: bool = True,
) -> Interactions:
    """Return users that continue histories: z ~ q(z|x), then further items from p(·|z), as `sample_users` draws them.

    Models whose prior reads a history (RecVAE, `prior="composite"`) and MacridVAE do this too.

    Args:
        user_items: (n, n_items) histories, or `Interactions`.
        lengths: numbers of items, those of the history included, to draw from; by default those of the training users.
            A history that is longer already gains no item.
        keep: the history is part of the result. False: all items are drawn anew, and those of the history may recur.

    Returns:
        users `completed-0`, … in the order of the rows; entries of the history have its values, others are 1.

    Raises:
        UnsupportedError: the model has no posterior with a likelihood.
    """
    rng = random_generator(rng)
    model.distribution()
    histories = model._matrix(user_items)
    codes, _ = model.draw_posterior(histories, rng)
    total = _lengths(model, histories.shape[0], lengths, rng)
    given = histories if keep else None
    return _interactions(model, draw_histories(model, codes, total, rng, given=given), "completed")


def interpolate_users(
    model: Recommender,
    user_items: Any,
    n: int = 5,
    rng: int | np.random.Generator = 0,
    *,
    lengths: npt.ArrayLike | None = None,
) -> Interactions:
    """Return `n` users whose codes lie on the line between two users' posterior means, both ends included.

    Args:
        user_items: two histories.
        n: users, at least 2.
        lengths: numbers of items to draw from; by default the line between the lengths of the two.

    Returns:
        users `between-0` (the first user's code) to `between-{n-1}` (the second's).

    Raises:
        UnsupportedError: the model has no posterior with a likelihood.
        DataError: not two histories.
    """
    rng = random_generator(rng)
    model.distribution()
    histories, n = model._matrix(user_items), check_count("n", n, DataError)
    if histories.shape[0] != 2 or n < 2:
        raise DataError(f"two histories and n of at least 2 make a line, got {histories.shape[0]} and n={n}")
    ends, shares = model.encode(histories).astype(np.float64), np.linspace(0.0, 1.0, n)
    codes = (1.0 - shares)[:, None] * ends[:1] + shares[:, None] * ends[1:]
    if lengths is None:
        first, last = np.diff(histories.indptr)
        total = np.rint((1.0 - shares) * first + shares * last).astype(np.int64)
    else:
        total = _lengths(model, n, lengths, rng)
    return _interactions(model, draw_histories(model, codes, total, rng), "between")


def draw_histories(
    model: Recommender,
    codes: npt.ArrayLike,
    lengths: Lengths,
    rng: np.random.Generator,
    *,
    given: sp.csr_matrix | None = None,
) -> sp.csr_matrix:
    """Return a history of each code, (n, n_items), as `sample_users` says.

    Args:
        lengths: (n,) items of each; not read by the Bernoulli likelihood.
        given: (n, n_items) entries that the histories have already; only others are drawn.
    """
    name, table = model.distribution().likelihood, np.asarray(codes, dtype=np.float32)
    n, n_items = len(table), model.n_items_
    parts = []
    for start in range(0, n, _ROWS):
        rows = slice(start, min(n, start + _ROWS))
        scores = model.decode(table[rows]).astype(np.float64)
        own = _nothing(len(scores), n_items) if given is None else given[rows]
        if name == "bernoulli":
            drawn = rng.random(scores.shape) < 1.0 / (1.0 + np.exp(-scores))
            drawn[own.nonzero()] = False
        else:
            if name == "multinomial":
                scores += rng.gumbel(size=scores.shape)
            scores[own.nonzero()] = -np.inf
            wanted = np.minimum(lengths[rows], n_items) - np.diff(own.indptr)
            drawn = largest(scores, np.maximum(wanted, 0))
        parts.append(own + sp.csr_matrix(drawn, dtype=np.float32))
    return as_csr(sp.vstack(parts)) if parts else _nothing(0, n_items)


def _nothing(n: int, n_items: int) -> sp.csr_matrix:
    return sp.csr_matrix(np.zeros((n, n_items), dtype=np.float32))


def largest(scores: npt.NDArray[np.float64], counts: Lengths) -> npt.NDArray[np.bool_]:
    """Return which entries are among the counts[r] largest of row r."""
    chosen = np.zeros(scores.shape, dtype=bool)
    most = int(counts.max(initial=0))
    if most:
        best = np.argpartition(-scores, min(most, scores.shape[1] - 1), axis=1)[:, :most]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, 1)
        np.put_along_axis(chosen, best, np.arange(most) < counts[:, None], 1)
    return chosen


def _lengths(model: Recommender, n: int, given: npt.ArrayLike | None, rng: np.random.Generator) -> Lengths:
    """Return `n` lengths, drawn from those given or from those of the training users."""
    if model.distribution().likelihood == "bernoulli":
        if given is not None:
            raise DataError("a bernoulli likelihood draws each item on its own; leave out lengths")
        return np.zeros(n, dtype=np.int64)
    if given is None:
        model._check_fitted()
        counts = np.asarray(model.user_counts_)
        # A bundle of an earlier version kept no lengths, and they all read as 1.
        if abs(float(model.popularity_.sum(dtype=np.float64)) * model.n_users_ - counts.sum()) > 0.5 + 1e-5 * len(
            counts
        ):
            raise DataError(
                f"this {type(model).__name__} was saved by an earlier version, which kept no lengths of histories; "
                "pass lengths=, such as those of the training users, or fit it again"
            )
        pool = counts[counts > 0]
    else:
        pool = np.asarray(given)
        if pool.ndim != 1 or not len(pool) or pool.dtype.kind not in "iu" or pool.min() < 1:
            raise DataError("lengths must be a flat list of whole numbers of at least 1")
    return rng.choice(pool, n).astype(np.int64)


def _interactions(model: Recommender, matrix: sp.csr_matrix, kind: str) -> Interactions:
    """Return histories with ids."""
    items = IdMap(np.arange(model.n_items_)) if model.items_ is None else model.items_
    users = IdMap([f"{kind}-{row}" for row in range(matrix.shape[0])])
    return Interactions(matrix, users, items, titles=model.titles_)
