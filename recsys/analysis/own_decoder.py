"""What a model's own decoder makes of codes, where it was trained by a likelihood of whole rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recsys.analysis.plain_codes import BLOCK, lengths
from recsys.models import Recommender
from recsys.models.whole_rows import Multinomial, WholeRow
from recsys.nn.losses import LikelihoodName


def own_decoder(
    model: Recommender,
    codes: npt.NDArray[np.float32],
    rows: sp.csr_matrix,
    unit: sp.csr_matrix,
    mean: npt.NDArray[np.float64],
    counted: Sequence[sp.csr_matrix],
) -> dict[str, float]:
    """Return what the model's decoder makes of codes, by the names of `reduction`'s columns.

    Args:
        codes: (m, d) of the rows.
        rows, unit: (m, n_items), as stored and divided by their length.
        mean: (n_items,) mean unit row of the training users.
        counted: matrices of (m, n_items), entries whose likelihood is asked for: of the rows, and perhaps further ones.

    Returns:
        `own_unexplained`, and `own_nll` and `own_target_nll` of a multinomial likelihood; nothing where the model has
        no likelihood of whole rows, or does not decode codes.
    """
    name = likelihood_of(model)
    if name is None or not model.capabilities.decodes:
        return {}
    error = total = 0.0
    nll = np.zeros(len(counted))
    for block, means in _expected(model, name, codes, rows):
        stored, dense = rows[block], unit[block].toarray()
        error += float(np.square(dense - means / lengths(stored)[:, None]).sum())
        total += float(np.square(dense - mean).sum())
        if name == "multinomial":
            logs = np.log(np.maximum(means / np.asarray(stored.sum(1)), np.finfo(np.float32).tiny))
            nll -= [float(matrix[block].multiply(logs).sum()) for matrix in counted]
    figures = {"own_unexplained": error / total}
    if name == "multinomial":
        sums = [float(matrix.sum()) or np.nan for matrix in counted]
        figures |= dict(zip(("own_nll", "own_target_nll"), (nll / sums).tolist(), strict=False))
    return figures


def likelihood_of(model: Recommender) -> LikelihoodName | None:
    """Return the likelihood of whole rows that a model's decoder was trained by; None where it has another loss."""
    name: LikelihoodName | None = "multinomial" if isinstance(model, Multinomial) else None
    return model.likelihood if isinstance(model, WholeRow) else name


def _expected(
    model: Recommender, name: LikelihoodName, codes: npt.NDArray[np.float32], rows: sp.csr_matrix
) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Yield blocks of users with the rows that the decoder expects; of a multinomial, for as many entries as read."""
    for start in range(0, len(codes), BLOCK):
        block = slice(start, start + BLOCK)
        scores = torch.from_numpy(model.decode(codes[block])).double()
        if name == "multinomial":
            means = scores.softmax(1).numpy() * np.asarray(rows[block].sum(1), dtype=np.float64)
        else:
            means = (scores.sigmoid() if name == "bernoulli" else scores).numpy()
        yield block, means
