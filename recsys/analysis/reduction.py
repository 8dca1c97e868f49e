"""How well a code of d numbers stands for a user's row, beside PCA, truncated SVD and Isomap of as many numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.analysis.own_decoder import own_decoder
from recsys.analysis.plain_codes import Code, Codes, lengths, plain_codes, unit_rows
from recsys.analysis.read_out import softmax_nll, unexplained
from recsys.errors import DataError
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.params import check_count, random_generator
from recsys.sparse import as_csr

DIMENSIONS: Final = (2, 8, 32, 128)
NEIGHBORS: Final = 10
READ: Final = 10_000
"""Training users, drawn, from whom the plain methods and all read-outs learn."""
HELD_OUT: Final = 2_000
"""Held-out users, drawn, on whom everything is measured."""
COMPARED: Final = 1_500
"""Held-out users, drawn, whose neighbors are compared: the distances of all pairs are held."""


def reduction(
    models: Recommender | Sequence[Recommender],
    train: Any,
    held_out: Any,
    *,
    target: Any = None,
    dimensions: Sequence[int] = DIMENSIONS,
    neighbors: int = NEIGHBORS,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what codes keep of held-out users: those of fitted models and those of the plain methods.

    The plain methods learn from the training users' rows divided by their Euclidean length, which is what most encoders
    read, too. What is measured:

    - `unexplained`: share of the variance of such rows that an affine function of the code does not explain, by least
      squares on the training users. No code can have less there than PCA (Eckart and Young 1936);
    - `nll`: −log softmax(W z + b), in nats per entry of the held-out rows, with W and b learned on the training users:
      the decoder of Mult-DAE for any code. `target_nll`: the same of the entries of `target`, which the code has not
      read;
    - `own_unexplained`, `own_nll`, `own_target_nll`: the same by the model's own decoder, where it has a likelihood of
      whole rows: its expected row, divided by the length of the row read, and its softmax if it is multinomial;
    - `trustworthiness` and `continuity` (Venna and Kaski 2001): 1 where the `neighbors` nearest users by the code are
      the nearest by the cosine of their rows, and the other way round; about 1/2 by chance. Codes by Euclidean
      distance.

    At most 10,000 training and 2,000 held-out users are read, 1,500 for the neighbors, drawn by `seed`.

    Args:
        models: fitted models that encode, such as one per width; their code is measured at its own width.
        train: what they were trained on: `Interactions`, or any scipy sparse format.
        held_out: histories of users not in `train`, whose rows are compressed.
        target: further entries of the same users.
        dimensions: d of the plain methods; those that the rows' rank does not reach are left out.
        neighbors: how many neighbors are compared.

    Returns:
        A row per method and dimension: `method, dimension`, the figures above, and `users`, how many they are of. The
        first row, `mean row` of dimension 0, is what a decoder without any code knows.

    Raises:
        UnsupportedError: a model has no embeddings of users.
        DataError: too few users with a history; matrices of other items or users.
    """
    chosen = [models] if isinstance(models, Recommender) else list(models)
    for model in chosen:
        check_encodes(model)
    wanted = sorted({check_count("dimensions", d) for d in dimensions})
    data = _Data.drawn(chosen, train, held_out, target, check_count("neighbors", neighbors), seed)
    codes = [Code(type(model).__name__, 0, _encoder(model), model) for model in chosen]
    rows = [_measured(data, code) for code in (*plain_codes(data.unit, wanted, seed), *codes)]
    return pd.DataFrame([_mean_row(data), *rows])


def check_encodes(model: Recommender) -> None:
    """Refuse a model that has no embeddings of users, or is not fitted."""
    model._check_fitted()
    model._require("encodes")


@dataclass(frozen=True, eq=False)
class _Data:
    """The rows that are read: of training users and of held-out ones, as stored and divided by their length."""

    rows: sp.csr_matrix
    unit: sp.csr_matrix
    held_out: sp.csr_matrix
    held_out_unit: sp.csr_matrix
    target: sp.csr_matrix | None
    neighbors: int
    seed: int

    @classmethod
    def drawn(
        cls, models: Sequence[Recommender], train: Any, held_out: Any, target: Any, neighbors: int, seed: int
    ) -> _Data:
        """Return users with a history, drawn where there are too many."""
        rng = random_generator(seed)
        items = models[0].items_ if models else None
        rows, other = histories(train, items), histories(held_out, items)
        further = None if target is None else histories(target, items)
        widths = {rows.shape[1], other.shape[1], *(model.n_items_ for model in models)}
        if len(widths) > 1:
            raise DataError(f"models, training and held-out rows must have the same items, got {sorted(widths)}")
        if further is not None and further.shape != other.shape:
            raise DataError(f"target must have the shape of the held-out rows {other.shape}, got {further.shape}")
        rows = rows[some(np.flatnonzero(lengths(rows)), READ, rng)]
        kept = some(np.flatnonzero(lengths(other)), HELD_OUT, rng)
        if rows.shape[0] < 20 or len(kept) < 2 * neighbors + 2:
            raise DataError(
                f"expected at least 20 training users and {2 * neighbors + 2} held-out ones with a history "
                f"(2 · neighbors + 2), got {rows.shape[0]} and {len(kept)}"
            )
        other = other[kept]
        return cls(
            rows, unit_rows(rows), other, unit_rows(other), None if further is None else further[kept], neighbors, seed
        )

    @property
    def counted(self) -> list[sp.csr_matrix]:
        """The matrices whose entries have a likelihood; none where some are negative."""
        matrices = [self.held_out, *([] if self.target is None else [self.target])]
        known = all(matrix.nnz == 0 or matrix.data.min() >= 0 for matrix in (self.rows, *matrices))
        return matrices if known else []


def histories(data: Any, items: Any) -> sp.csr_matrix:
    """Return a matrix with the columns of a model."""
    if isinstance(data, Interactions):
        return data.histories(items) if items is not None else data.matrix
    return as_csr(data)


def some(places: npt.NDArray[np.intp], most: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return the places, or `most` drawn ones, ascending."""
    return places if len(places) <= most else np.sort(rng.choice(places, most, replace=False))


def _encoder(model: Recommender) -> Any:
    return lambda rows: np.asarray(model.encode(rows), dtype=np.float64)


def _measured(data: _Data, code: Code) -> dict[str, Any]:
    """Return the row of the frame of one code."""
    plain = code.model is None
    codes = code.encode(data.unit if plain else data.rows)
    of = code.encode(data.held_out_unit if plain else data.held_out)
    known, continuous = neighbors_kept(data.held_out_unit, of, data.neighbors, data.seed)
    nll = softmax_nll(codes, data.rows, of, data.counted, data.seed) if data.counted else []
    per_entry = [_per_entry(values, matrix) for values, matrix in zip(nll, data.counted, strict=True)]
    own: dict[str, float] = {}
    if code.model is not None:
        mean = np.asarray(data.unit.mean(0), dtype=np.float64).ravel()
        own = own_decoder(code.model, of.astype(np.float32), data.held_out, data.held_out_unit, mean, data.counted)
    return {
        "method": code.method,
        "dimension": of.shape[1],
        "unexplained": unexplained(codes, data.unit, of, data.held_out_unit),
        **dict(zip(("nll", "target_nll"), [*per_entry, np.nan, np.nan][:2], strict=True)),
        **{name: own.get(name, np.nan) for name in ("own_unexplained", "own_nll", "own_target_nll")},
        "trustworthiness": known,
        "continuity": continuous,
        "users": data.held_out.shape[0],
    }


def _mean_row(data: _Data) -> dict[str, Any]:
    """Return the figures of the mean row of the training users, which no code can change."""
    shares = np.asarray(data.rows.sum(0), dtype=np.float64).ravel() + 0.5
    logs = np.log(shares / shares.sum()) if data.counted else shares
    nll = [_per_entry(-(matrix @ logs), matrix) for matrix in data.counted]
    figures = dict(zip(("nll", "target_nll"), [*nll, np.nan, np.nan][:2], strict=True))
    return {"method": "mean row", "dimension": 0, "unexplained": 1.0, **figures, "users": data.held_out.shape[0]}


def _per_entry(nll: npt.NDArray[np.float64], matrix: sp.csr_matrix) -> float:
    total = float(matrix.sum())
    return float(nll.sum()) / total if total else np.nan


def neighbors_kept(unit: sp.csr_matrix, codes: Codes, neighbors: int, seed: int) -> tuple[float, float]:
    """Return trustworthiness and continuity of codes against the cosine of rows of length 1, of at most 1,500 drawn."""
    from sklearn.manifold import trustworthiness

    kept = some(np.arange(len(codes)), COMPARED, random_generator(seed))
    rows, points = unit[kept].astype(np.float64), codes[kept]
    # Of rows of length 1 the order by Euclidean distance is that by cosine.
    return (
        float(trustworthiness(rows, points, n_neighbors=neighbors)),
        float(trustworthiness(points, rows, n_neighbors=neighbors)),
    )
