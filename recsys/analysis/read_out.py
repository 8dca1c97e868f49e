"""What one simple decoder reads out of a code: the same for every method, learned from training users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys.analysis.plain_codes import BLOCK, Codes
from recsys.nn.layers import Output
from recsys.nn.losses import MultinomialNLL
from recsys.params import seed_of_32_bits
from recsys.sparse import Batch, Rows
from recsys.training import Loss, TrainingConfig, train
from recsys.training.loop import Watch

_EPOCHS: Final = 10
_STEPS: Final = 24
"""Steps of an epoch, of 50 to 500 users each."""
_FEWEST: Final = 6
"""Steps of an epoch below which the learning rate grows no further."""
_SETTINGS: Final = ((6.0, 0.0), (1.5, 25.0))
"""The first learning rate times the steps, which bounds how far a weight moves, with the precision of a normal prior of
the weights: for few numbers that tell much, and for many of which each tells little."""
_WATCHED: Final = 0.1
"""Share of the training users by whom setting and epoch of the softmax are chosen."""
_NEGLIGIBLE: Final = 1e-10
"""Variance of a direction of the code, relative to the largest, below which it is left out."""


def unexplained(codes: Codes, rows: sp.csr_matrix, of: Codes, held_out: sp.csr_matrix) -> float:
    """Return the share of the variance of held-out rows that an affine function of their codes does not explain.

    Σ ‖x − (W z + b)‖² / Σ ‖x − x̄‖² over the held-out rows, with W, b and the mean row x̄ from the training rows, by
    least squares. On these no code of d numbers leaves less than PCA's (Eckart and Young 1936): centered, what is read
    out of it has rank d.

    Args:
        codes, rows: (n, d) and (n, n_items) of the training users.
        of, held_out: (m, d) and (m, n_items).
    """
    whitened, white = _whitened(codes, of)
    mean = np.asarray(rows.mean(0), dtype=np.float64).ravel()
    weight = (rows.T @ whitened).T / len(codes)  # the columns are uncorrelated, of mean 0 and variance 1
    error = total = 0.0
    for start in range(0, len(of), BLOCK):
        centered = held_out[start : start + BLOCK].toarray() - mean
        total += float(np.square(centered).sum())
        error += float(np.square(centered - white[start : start + BLOCK] @ weight).sum())
    return error / total


def softmax_nll(
    codes: Codes, rows: sp.csr_matrix, of: Codes, held_out: Sequence[sp.csr_matrix], seed: int
) -> list[npt.NDArray[np.float64]]:
    """Return −log π of each held-out row's entries, summed, with π = softmax(W z + b) of its code; one (m,) per matrix.

    W and b maximize the multinomial likelihood of the training rows (Liang et al. 2018, eq. 2): the decoder of
    Mult-DAE, for any code. The code is whitened, b begins at the items' log shares, W at 0, and of two trainings of
    10 epochs the weights are kept that are best for a tenth of the training users.

    Args:
        codes, rows: (n, d) and (n, n_items) of the training users, whose entries count by their values.
        of, held_out: (m, d), and matrices of (m, n_items).
    """
    whitened, white = (torch.from_numpy(part.astype(np.float32)) for part in _whitened(codes, of))
    generator = torch.Generator().manual_seed(seed_of_32_bits(seed))
    order = torch.randperm(len(codes), generator=generator).numpy()
    watched, learned = np.split(order, [max(1, int(_WATCHED * len(codes)))])
    shares = np.asarray(rows[learned].sum(0), dtype=np.float64).ravel() + 0.5
    loss, of_learned = MultinomialNLL(), whitened[learned]

    def learn(reach: float, prior: float) -> tuple[float, Output]:
        network = Output(whitened.shape[1], rows.shape[1], generator)
        with torch.no_grad():
            network.weight.zero_()
            network.bias.copy_(torch.from_numpy(np.log(shares / shares.sum()).astype(np.float32)))

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            return Loss(loss(of_learned[batch.rows], network.weight, network.bias, batch), len(batch))

        def measure() -> dict[str, float]:
            return {"nll": float(_nll(network, whitened[watched], rows[watched]).sum())}

        size = int(np.clip(len(learned) // _STEPS, 50, 500))
        config = TrainingConfig(
            epochs=_EPOCHS,
            batch_size=size,
            learning_rate=reach / (_EPOCHS * max(_FEWEST, -(-len(learned) // size))),
            weight_decay=prior / len(learned),
            schedule="cosine",
        )
        watch = Watch(measure, "nll", higher_is_better=False)
        record = train(network, Rows(rows[learned]), objective, config, generator=generator, watch=watch)
        return min(entry["nll"] for entry in record.epochs), network

    network = min((learn(*setting) for setting in _SETTINGS), key=lambda pair: pair[0])[1]
    return [_nll(network, white, matrix) for matrix in held_out]


def _nll(network: nn.Module, codes: Tensor, rows: sp.csr_matrix) -> npt.NDArray[np.float64]:
    """Return −Σ_i x_i log π_i of each row."""
    pieces = []
    with torch.inference_mode():
        for start in range(0, len(codes), BLOCK):
            logs = network(codes[start : start + BLOCK]).log_softmax(1).numpy()
            pieces.append(-np.asarray(rows[start : start + BLOCK].multiply(logs).sum(1), np.float64).ravel())
    return np.concatenate(pieces)


def _whitened(codes: Codes, of: Codes) -> tuple[Codes, Codes]:
    """Return training codes with uncorrelated columns of mean 0 and variance 1, and other codes mapped alike.

    A read-out of the codes is one of these; only how fast a softmax is learned depends on it.
    """
    mean = codes.mean(0)
    values, axes = np.linalg.eigh(np.atleast_2d(np.cov(codes, rowvar=False, ddof=0)))
    kept = values > _NEGLIGIBLE * values.max(initial=0)
    scaled = axes[:, kept] / np.sqrt(values[kept])
    return (codes - mean) @ scaled, (of - mean) @ scaled
