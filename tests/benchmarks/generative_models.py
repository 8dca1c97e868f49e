"""The models that the measurements of `generate` and `density` compare, trained on the users of MovieLens-1M.

Every rating is an interaction. 500 users are for validation, 500 for testing, the others for training
(`hold_out_users(n_users=500)`). Training is short: 30 epochs, no choice of an epoch, no hyperparameter tuned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import recsys
from recsys import Split
from recsys.models import MODELS, Recommender

SHORT: dict[str, Any] = {
    "epochs": 30,
    "batch_size": 250,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "latent": 64,
    "seed": 0,
}
WIDE: dict[str, Any] = {**SHORT, "hidden": 200}
BERNOULLI: dict[str, Any] = {**SHORT, "hidden": (200,), "likelihood": "bernoulli", "beta": 1.0}
MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "MultVAE, β = 1": ("MultVAE", {**WIDE, "beta": 1.0}),
    "MultVAE, β = 0.2": ("MultVAE", {**WIDE, "beta": 0.2}),
    "MultVAE, β = 1, affine": ("MultVAE", {**WIDE, "beta": 1.0, "decoder": "affine"}),
    "VAE, vamp prior, β = 1": ("VAE", {**SHORT, "hidden": (200,), "prior": "vamp", "pseudo_inputs": 100, "beta": 1.0}),
    "HVamp (100), β = 1": ("HVamp", {**WIDE, "pseudo_inputs": 100, "beta": 1.0}),
    "AAE": ("AAE", WIDE),
    "VAE, Bernoulli, β = 1": ("VAE", {**BERNOULLI, "prior": "standard"}),
    "VAE, Bernoulli, vamp prior, β = 1": ("VAE", {**BERNOULLI, "prior": "vamp", "pseudo_inputs": 100}),
}
"""Class and hyperparameters by the names of the tables."""


def split() -> Split:
    """Return the split of MovieLens-1M."""
    data = recsys.datasets.load("ml-1m").binarized()
    return recsys.splits.hold_out_users(data, n_users=500, seed=0)


def model(name: str, parts: Split, folder: Path | None = None) -> Recommender:
    """Return the model of that name, trained now, or loaded from `folder`, where it is kept."""
    cls, options = MADE[name]
    place = None if folder is None else folder / name.replace(" ", "").replace(",", "-").replace("=", "")
    if place is not None and place.exists():
        return recsys.load(place)
    made = MODELS[cls](**options).fit(parts.train, show_progress=False)
    if place is not None:
        made.save(place)
    return made
