"""The models, and the one place that finds a model's class by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from recsys.artifacts import read_bundle
from recsys.errors import ConfigError, did_you_mean
from recsys.models.adversarial import AAE, ALI, VAEGAN
from recsys.models.autorec import IAutoRec, UAutoRec
from recsys.models.base import Recommender
from recsys.models.baselines import ALS, BPR, ItemKNN, Popularity
from recsys.models.deep_autorec import DeepAutoRec, DeepRecommender
from recsys.models.elsa import ELSA
from recsys.models.feature_consistent import FeatureConsistentAE
from recsys.models.higher_order import HigherOrderEASE
from recsys.models.infinite import InfiniteAE
from recsys.models.kernel import GLocalK, SparseFC
from recsys.models.linear import DLAE, EASE, EDLAE, RDLAE
from recsys.models.recvae import RecVAE
from recsys.models.registry import class_of
from recsys.models.regularised import CDAE, BottleneckAE, ContractiveAE, DenoisingAE, SparseAE
from recsys.models.sansa import SANSA
from recsys.models.uncertainty import UAE
from recsys.models.vae import VAE
from recsys.models.vamp import HVamp
from recsys.models.variational import MultDAE, MultVAE
from recsys.models.vasp import FLVAE, VASP

MODELS: Final[dict[str, type[Recommender]]] = {
    model.__name__: model
    for model in (
        UAutoRec,
        IAutoRec,
        DeepAutoRec,
        DeepRecommender,
        SparseFC,
        GLocalK,
        MultVAE,
        MultDAE,
        VAE,
        RecVAE,
        HVamp,
        FLVAE,
        VASP,
        BottleneckAE,
        SparseAE,
        DenoisingAE,
        ContractiveAE,
        CDAE,
        FeatureConsistentAE,
        AAE,
        VAEGAN,
        ALI,
        UAE,
        EASE,
        EDLAE,
        DLAE,
        RDLAE,
        HigherOrderEASE,
        ELSA,
        SANSA,
        InfiniteAE,
        ALS,
        BPR,
        ItemKNN,
        Popularity,
    )
}


def model_class(name: str) -> type[Recommender]:
    """Return the class of that name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}{did_you_mean(name, MODELS)}")
    return MODELS[name]


def load(path: str | Path, *, device: str = "auto") -> Recommender:
    """Read a saved model of any class from its folder. Nothing in it is executed.

    Args:
        device: where it shall compute from now on, whatever it was trained on.

    Raises:
        BundleError: nothing there, damaged, of a newer schema, or of a class this version does not know.
    """
    bundle = read_bundle(path)
    if bundle.model not in MODELS:
        return class_of(bundle, str(path)).from_bundle(bundle, str(path), device)
    return MODELS[bundle.model].from_bundle(bundle, str(path), device)


__all__ = [
    "AAE",
    "ALI",
    "ALS",
    "BPR",
    "CDAE",
    "DLAE",
    "EASE",
    "EDLAE",
    "ELSA",
    "FLVAE",
    "MODELS",
    "RDLAE",
    "SANSA",
    "UAE",
    "VAE",
    "VAEGAN",
    "VASP",
    "BottleneckAE",
    "ContractiveAE",
    "DeepAutoRec",
    "DeepRecommender",
    "DenoisingAE",
    "FeatureConsistentAE",
    "GLocalK",
    "HVamp",
    "HigherOrderEASE",
    "IAutoRec",
    "InfiniteAE",
    "ItemKNN",
    "MultDAE",
    "MultVAE",
    "Popularity",
    "RecVAE",
    "Recommender",
    "SparseAE",
    "SparseFC",
    "UAutoRec",
    "load",
    "model_class",
]
