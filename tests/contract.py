"""What the tests of arithmetic and models share: batches by hand, a world of known answer, tiny models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recsys.models import MODELS, Recommender
from recsys.models.capabilities import Capabilities
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

CASES: dict[str, dict[str, Any]] = {
    "UAutoRec": AUTOREC,
    "IAutoRec": AUTOREC,
    "DeepAutoRec": {**DEEP, "latent": 6, "learning_rate": 0.03},
    "DeepRecommender": {**DEEP, "epochs": 20, "latent": 8, "activation": "sigmoid", "dropout": 0.2},
    "SparseFC": {**DEEP, "hidden": (8, 8)},
    "GLocalK": {**DEEP, "hidden": (8, 8), "pretrain_epochs": 30},
    "MultVAE": {**VAE, "hidden": 16, "latent": 4},
    "MultDAE": {**VAE, "latent": 8},
    "VAE": {**VAE, "hidden": (16,), "latent": 4, "prior": "vamp", "pseudo_inputs": 5},
    "RecVAE": {**VAE, "epochs": 24, "hidden": 16, "layers": 2, "latent": 4},
    "MacridVAE": {**VAE, "concepts": 2, "hidden": 16, "latent": 4, "temperature": 0.3, "prior_scale": 0.3},
    "HVamp": {**VAE, "hidden": 16, "latent": 4, "pseudo_inputs": 5},
    "FLVAE": {**VAE, "hidden": 16, "latent": 4, "layers": 2, "decoder_layers": 2, "alpha": 0.5},
    "VASP": {**VAE, "hidden": 16, "latent": 4, "layers": 2, "decoder_layers": 2, "alpha": 0.5},
    "BottleneckAE": {**VAE, "hidden": (8,), "latent": 4},
    "SparseAE": {**VAE, "latent": 8},
    "DenoisingAE": {**VAE, "latent": 8},
    "ContractiveAE": {**VAE, "hidden": (8,), "latent": 4},
    "CDAE": {**VAE, "latent": 8},
    "ClusteringAE": {**VAE, "latent": 8, "clusters": 2, "clustering": 0.1},
    "FeatureConsistentAE": {**VAE, "hidden": 16, "latent": 4, "perceptual": (8,), "likelihood_weight": 0.1},
    "AAE": {**VAE, "hidden": 16, "latent": 4, "discriminator": (8,)},
    "VAEGAN": {**VAE, "hidden": 16, "latent": 4, "discriminator": (8,), "likelihood_weight": 0.1},
    "ALI": {**VAE, "hidden": 16, "latent": 4, "discriminator": (8,)},
    "UAE": {**VAE, "hidden": (16,), "latent": 4},
    "EASE": {"regularization": 1.0},
    "EDLAE": {"regularization": 1.0},
    "DLAE": {"regularization": 1.0},
    "RDLAE": {"regularization": 1.0},
    "DEQL": {"regularization": 1.0},
    "HigherOrderEASE": {"regularization": 1.0, "pairs": 20, "pair_regularization": 10.0},
    "ELSA": {**VAE, "factors": 8},
    "SANSA": {"regularization": 1.0, "density": 0.3},
    "InfiniteAE": {},
    "ALS": {"factors": 2, "iterations": 5, "regularization": 0.1},
    "BPR": {"factors": 4, "iterations": 60, "learning_rate": 0.3},
    "ItemKNN": {"neighbors": 20},
    "Popularity": {},
    "ContentKNN": {},
    "FEASE": {"regularization": 1.0},
    "WithFeatures": {"model": {"name": "EASE", "regularization": 1.0}},
    "WithUserFeatures": {"model": {"name": "EASE", "regularization": 1.0}},
    "Blend": {
        "parts": ({"name": "EASE", "regularization": 1.0}, {"name": "MultVAE", **VAE, "hidden": 16, "latent": 4})
    },
}
"""Hyperparameters with which each model fits in a fraction of a second and still solves the checkerboard."""
COMPOSED = ("Blend", "WithFeatures", "WithUserFeatures")
"""Those made of others, whose epochs and values to search are those of their parts."""


def new_model(name: str, **changes: Any) -> Recommender:
    """An unfitted tiny model."""
    return MODELS[name](**{**CASES[name], **changes})


def fitted(name: str, matrix: Any = None, **changes: Any) -> Recommender:
    """A tiny model fitted, on the checkerboard by default."""
    return new_model(name, **changes).fit(checkerboard() if matrix is None else matrix, show_progress=False)


def interrupt(model: Recommender, matrix: Any, checkpoint: Any, *, epoch: int, **options: Any) -> None:
    """Fit a model and break off when the entry of an epoch comes, as a kill does; the checkpoint stays."""

    class Interrupt(Exception):
        pass

    def stop(entry: dict[str, float]) -> None:
        if entry["epoch"] == epoch:
            raise Interrupt

    with pytest.raises(Interrupt):
        model.fit(matrix, show_progress=False, checkpoint=checkpoint, on_epoch=stop, **options)


def quick(cls: type[Recommender]) -> dict[str, int]:
    """Changes that make the longest fits short, for tests that need no good model."""
    names = {field.name for field in fields(cls)}
    return {key: 2 for key in ("epochs", "iterations") if key in names}


def kinds_first(names: Sequence[str]) -> list[Any]:
    """Parameters of a test that takes long: one model of each kind of abilities each time, the others if slow."""
    kinds = {repr(MODELS[name].capabilities): name for name in reversed(names)}
    return [name if name in kinds.values() else pytest.param(name, marks=pytest.mark.slow) for name in names]


ABILITIES = [field.name for field in fields(Capabilities) if field.type == "bool" and field.name != "in_ranks"]
"""What one process can observe; `tests/training/test_ranks.py` starts several."""


def declared(cls: type[Recommender]) -> dict[str, bool]:
    """What a class says it can do."""
    return {ability: getattr(cls.capabilities, ability) for ability in ABILITIES}


def observed(model: Recommender) -> dict[str, bool]:
    """What a model does once nothing is refused, whatever its class declares; it is fitted here."""

    class Counting:
        metric, higher_is_better, calls = "calls", True, 0

        def __call__(self, model: Recommender) -> dict[str, float]:
            self.calls += 1
            return {"calls": float(self.calls)}

    matrix = ratings(n_users=24, n_items=15, density=0.3)
    model.fit(matrix, show_progress=False, validation=Counting())
    model = copy.copy(model)
    allowed = dict.fromkeys(ABILITIES, True) | {"popularity_fallback": False}
    model.capabilities = replace(model.capabilities, **allowed, ranks_with=None)  # type: ignore[misc]
    users, items = np.arange(24), np.arange(15)
    everything = {"N": 15, "filter_already_liked_items": False}
    ids, _ = model.recommend(users - 24, matrix, **everything)
    found = model.recommend(users, matrix, **everything)[1]
    personal = bool((ids != ids[0]).any())

    def best_users_agree() -> bool:
        model.similar_users(users)
        known = model.recommend_users(items, N=24)[1]
        given = model.recommend_users(items, matrix, N=24, filter_already_liked_users=False, userid=users)[1]
        return np.allclose(known, given, rtol=2e-5, atol=2e-5)

    def scores_known_users() -> bool:
        model.recommend(users, None, **everything)
        odd = users % 2 == 1
        known, unknown, mixed = (
            model.recommend(index, matrix, **everything)[1] for index in (users, users - 24, np.where(odd, users, -1))
        )
        differs = not np.array_equal(known, unknown)
        return not personal or (differs and np.allclose(mixed, np.where(odd[:, None], known, unknown), atol=2e-5))

    def weighs_users() -> bool:
        again = copy.copy(model)
        again.fit(matrix, show_progress=False, user_weights=np.where(users % 3, 1.0, 20.0))
        return not np.allclose(again.recommend(users, matrix, **everything)[1], found, rtol=1e-4, atol=1e-4)

    def starts_from() -> bool:
        if hasattr(model, "keep_rows"):  # a closed form: the result is the same, with less work
            earlier, later = copy.copy(model), copy.copy(model)
            earlier.keep_rows = True
            rest = np.arange(24) != np.diff(matrix.indptr).argmin()
            later.fit(matrix, show_progress=False, start=earlier.fit(matrix[rest], show_progress=False))
            return later.updated_rows_ == 1
        again, anew = copy.copy(model), copy.copy(model)
        again.fit(matrix, show_progress=False, start=model)
        anew.fit(matrix, show_progress=False)
        differs = [one.recommend(users, matrix, **everything)[1] for one in (again, anew)]
        return not np.allclose(*differs, rtol=1e-4, atol=1e-4)

    def decodes() -> bool:
        ids, scores = model.recommend(users - 24, matrix, **everything)
        found = np.take_along_axis(model.decode(model.encode(matrix)), ids, 1)
        return np.allclose(found, scores, rtol=2e-5, atol=2e-5)

    def generates() -> bool:
        mean, log_variance = model.posterior(matrix)
        codes, log_density = model.draw_posterior(matrix, 0)
        sizes = codes.shape == mean.shape == log_variance.shape and log_density.shape == (24,)
        likelihood = model.log_conditional(matrix, codes)
        return sizes and np.allclose(mean, model.encode(matrix), atol=1e-6) and bool((likelihood < 0).all())

    def explains() -> bool:
        found = [model.explain(user, matrix[user], items) for user in range(3)]
        for one in (one for of_user in found for one in of_user):
            rest = one.score - one.baseline - one.contributions["contribution"].sum()
            assert np.isclose(rest, one.remainder, atol=1e-9)
        return any(one.contributions["contribution"].any() for of_user in found for one in of_user)

    def has_prior() -> bool:
        codes = model.draw_prior(50, 0)
        densities = model.log_prior(codes), model.log_prior(codes + 100.0)
        drawn = len(np.unique(codes, axis=0)) == 50 and bool((densities[0] > densities[1] + 100.0).all())
        return drawn and generates()

    return {
        "rates": _works(lambda: model.predict(users, matrix, np.tile(items, (24, 1)))),
        "personal": personal,
        "explains": _works(explains),
        "encodes": _works(lambda: model.encode(matrix)),
        "decodes": _works(decodes),
        "generates": _works(generates),
        "has_prior": _works(has_prior),
        "compares_items": _works(lambda: model.similar_items(items)),
        "keeps_users": _works(best_users_agree),
        "scores_known_users": _works(scores_known_users),
        "weighs_users": _works(weighs_users),
        "starts_from": _works(starts_from),
        "trains_by_epochs": len(model.record_.epochs) > 1 and all("calls" in epoch for epoch in model.record_.epochs),
        "popularity_fallback": not model.recommend(-1, sp.csr_matrix((1, 15)), **everything)[1].any(),
    }


def _works(call: Callable[[], Any]) -> bool:
    try:
        return call() is not False
    except Exception:
        return False


def same(found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray], *, rtol: float = 0.0) -> None:
    """Ids equal, scores equal within `rtol`."""
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=rtol, atol=rtol)
