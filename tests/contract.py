"""What the tests of arithmetic and models share: batches by hand, a world of known answer, tiny models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recsys.models import MODELS, Recommender
from recsys.sparse import Batch

NO_SCORE = -np.finfo(np.float32).max

torch.set_num_threads(1)  # tensors are tiny here: a second thread costs more than it gives, above all on a busy machine


def csr(cells: Any) -> sp.csr_matrix:
    """A csr of a dense array in which NaN is unstored and 0.0 is stored."""
    cells = np.asarray(cells, dtype=np.float32)
    rows, columns = np.nonzero(~np.isnan(cells))
    return sp.csr_matrix((cells[rows, columns], (rows, columns)), shape=cells.shape)


def cells_of(matrix: sp.csr_matrix) -> np.ndarray:
    """The inverse of `csr`."""
    cells = np.full(matrix.shape, np.nan)
    cells[np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)), matrix.indices] = matrix.data
    return cells


def batch_of(cells: Any, dtype: torch.dtype = torch.float64) -> Batch:
    """A batch of all rows of such an array, in any precision."""
    cells = np.asarray(cells, dtype=np.float64)
    stored = ~np.isnan(cells)
    segments, columns = np.nonzero(stored)
    return Batch(
        rows=torch.arange(len(cells)),
        offsets=torch.from_numpy(np.append(0, np.cumsum(stored.sum(1)))),
        columns=torch.from_numpy(columns),
        values=torch.from_numpy(cells[stored]).to(dtype),
        segments=torch.from_numpy(segments),
        n_columns=cells.shape[1],
    )


def random_cells(
    rng: np.random.Generator, n_rows: int, n_columns: int, density: float, *, counts: bool = False
) -> np.ndarray:
    """Random cells: some rows empty, some stored values 0.0; non-negative where they are counts."""
    values = rng.integers(0, 4, (n_rows, n_columns)) if counts else rng.normal(size=(n_rows, n_columns))
    values = np.where(rng.random(values.shape) < 0.1, 0.0, values)
    stored = (rng.random(values.shape) < density) & (rng.random((n_rows, 1)) > 0.15)
    return np.where(stored, values, np.nan)


def checkerboard(size: int = 20) -> sp.csr_matrix:
    """Even users like all even items, odd users all odd ones; the diagonal is withheld.

    So the one right recommendation to user u is item u, and two items are similar if and only if they are of a parity.
    """
    index = np.arange(size)
    liked = (index[:, None] % 2 == index[None, :] % 2) & (index[:, None] != index[None, :])
    return csr(np.where(liked, 1.0, np.nan))


def ratings(n_users: int = 30, n_items: int = 20, density: float = 0.4, seed: int = 0) -> sp.csr_matrix:
    """Ratings 1 to 5 with a structure to learn: every user and item has some, none is stored as 0."""
    rng = np.random.default_rng(seed)
    tastes = rng.normal(size=(n_users, 2)) @ rng.normal(size=(2, n_items)) + 0.3 * rng.normal(size=(n_users, n_items))
    stored = rng.random((n_users, n_items)) < density
    stored[np.arange(n_users), np.arange(n_users) % n_items] = True
    stored[np.arange(n_items) % n_users, np.arange(n_items)] = True
    return csr(np.where(stored, np.clip(np.round(3 + tastes), 1, 5), np.nan))


@dataclass(frozen=True)
class Case:
    """A tiny model of one class, and what the class can do."""

    params: dict[str, Any] = field(default_factory=dict)
    """Hyperparameters with which it fits in a fraction of a second and still solves the checkerboard."""
    personal: bool = True
    """Lists differ from user to user."""
    knows_users: bool = False
    """Training users are served without a history."""
    user_vectors: bool = False
    """`similar_users` and `recommend_users` work without histories."""
    similar_items: bool = True
    encodes: bool = True
    rates: bool = False
    """`predict` gives ratings."""


AUTOREC: dict[str, Any] = {
    "hidden": 8,
    "epochs": 20,
    "batch_size": 5,
    "learning_rate": 0.1,
    "weight_decay": 0.1,
    "unobserved_weight": 0.2,
}
DEEP: dict[str, Any] = {**AUTOREC, "hidden": (8,), "learning_rate": 0.02, "epochs": 40}
VAE: dict[str, Any] = {"epochs": 20, "batch_size": 5, "learning_rate": 0.05}

CASES: dict[str, Case] = {
    "UAutoRec": Case(AUTOREC, user_vectors=True, rates=True),
    "IAutoRec": Case(AUTOREC, knows_users=True, user_vectors=True, rates=True),
    "DeepAutoRec": Case({**DEEP, "latent": 6, "learning_rate": 0.03}, knows_users=True, user_vectors=True, rates=True),
    "DeepRecommender": Case(
        {**DEEP, "epochs": 20, "latent": 8, "activation": "sigmoid", "dropout": 0.2}, user_vectors=True, rates=True
    ),
    "SparseFC": Case({**DEEP, "hidden": (8, 8)}, knows_users=True, user_vectors=True, rates=True),
    "GLocalK": Case({**DEEP, "hidden": (8, 8), "pretrain_epochs": 30}, knows_users=True, user_vectors=True, rates=True),
    "MultVAE": Case({**VAE, "hidden": 16, "latent": 4}, user_vectors=True),
    "MultDAE": Case({**VAE, "latent": 8}, user_vectors=True),
    "VAE": Case({**VAE, "hidden": (16,), "latent": 4, "prior": "vamp", "pseudo_inputs": 5}, user_vectors=True),
    "RecVAE": Case({**VAE, "epochs": 24, "hidden": 16, "layers": 2, "latent": 4}, user_vectors=True),
    "HVamp": Case({**VAE, "hidden": 16, "latent": 4, "pseudo_inputs": 5}, user_vectors=True),
    "FLVAE": Case(
        {**VAE, "hidden": 16, "latent": 4, "layers": 2, "decoder_layers": 2, "alpha": 0.5}, user_vectors=True
    ),
    "VASP": Case({**VAE, "hidden": 16, "latent": 4, "layers": 2, "decoder_layers": 2, "alpha": 0.5}),
    "BottleneckAE": Case({**VAE, "hidden": (8,), "latent": 4}, user_vectors=True),
    "SparseAE": Case({**VAE, "latent": 8}, user_vectors=True),
    "DenoisingAE": Case({**VAE, "latent": 8}, user_vectors=True),
    "ContractiveAE": Case({**VAE, "hidden": (8,), "latent": 4}, user_vectors=True),
    "CDAE": Case({**VAE, "latent": 8}, knows_users=True, user_vectors=True),
    "FeatureConsistentAE": Case(
        {**VAE, "hidden": 16, "latent": 4, "perceptual": (8,), "likelihood_weight": 0.1}, user_vectors=True
    ),
    "AAE": Case({**VAE, "hidden": 16, "latent": 4, "discriminator": (8,)}, user_vectors=True),
    "VAEGAN": Case(
        {**VAE, "hidden": 16, "latent": 4, "discriminator": (8,), "likelihood_weight": 0.1}, user_vectors=True
    ),
    "ALI": Case({**VAE, "hidden": 16, "latent": 4, "discriminator": (8,)}, user_vectors=True),
    "UAE": Case({**VAE, "hidden": (16,), "latent": 4}, user_vectors=True),
    "EASE": Case({"regularization": 1.0}, encodes=False),
    "EDLAE": Case({"regularization": 1.0}, encodes=False),
    "DLAE": Case({"regularization": 1.0}, encodes=False),
    "RDLAE": Case({"regularization": 1.0}, encodes=False),
    "HigherOrderEASE": Case({"regularization": 1.0, "pairs": 20, "pair_regularization": 10.0}, encodes=False),
    "ELSA": Case({**VAE, "factors": 8}),
    "SANSA": Case({"regularization": 1.0, "density": 0.3}, encodes=False),
    "InfiniteAE": Case(encodes=False),
    "ALS": Case({"factors": 2, "iterations": 5, "regularization": 0.1}, knows_users=True, user_vectors=True),
    "BPR": Case({"factors": 4, "iterations": 60, "learning_rate": 0.1}, knows_users=True, user_vectors=True),
    "ItemKNN": Case({"neighbours": 20}, encodes=False),
    "Popularity": Case(personal=False, knows_users=True, similar_items=False, encodes=False),
}


def new_model(name: str, **changes: Any) -> Recommender:
    """An unfitted tiny model."""
    return MODELS[name](**{**CASES[name].params, **changes})


def fitted(name: str, matrix: Any = None, **changes: Any) -> Recommender:
    """A tiny model fitted, on the checkerboard by default."""
    return new_model(name, **changes).fit(checkerboard() if matrix is None else matrix, show_progress=False)


def same(found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray], *, rtol: float = 0.0) -> None:
    """Ids equal, scores equal within `rtol`."""
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=rtol, atol=rtol)
