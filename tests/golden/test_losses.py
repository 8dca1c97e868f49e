"""Every trained model reproduces its recorded losses.

If a change is meant to move them, run `python -m tests.golden.test_losses` to rewrite the file, and say why in the
commit.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from recsys.models import MODELS
from tests.contract import COMPOSED, ratings

FILE = Path(__file__).with_name("losses.json")
GOLDEN = json.loads(FILE.read_text()) if FILE.exists() else {}

TINY = {"epochs": 4, "batch_size": 7, "learning_rate": 0.01, "seed": 5}
CASES = {
    "UAutoRec": ("UAutoRec", {"hidden": 6, "weight_decay": 1.0}),
    "UAutoRec ranking": ("UAutoRec", {"hidden": 6, "weight_decay": 1.0, "unobserved_weight": 0.2}),
    "IAutoRec": ("IAutoRec", {"hidden": 6, "weight_decay": 1.0}),
    "IAutoRec ranking": ("IAutoRec", {"hidden": 6, "weight_decay": 1.0, "unobserved_weight": 0.2}),
    "DeepAutoRec": ("DeepAutoRec", {"hidden": (6,), "latent": 4, "weight_decay": 1.0, "pretrain_epochs": 0}),
    "DeepAutoRec greedy": ("DeepAutoRec", {"hidden": (6, 5), "latent": 4, "weight_decay": 1.0, "pretrain_epochs": 2}),
    "IAutoRec normalized": ("IAutoRec", {"hidden": 6, "weight_decay": 1.0, "normalize": True}),
    "DeepRecommender": ("DeepRecommender", {"hidden": (6,), "latent": 4, "weight_decay": 1.0, "dropout": 0.3}),
    "SparseFC": ("SparseFC", {"hidden": (6, 5), "weight_decay": 1.0, "kernel_decay": 0.1}),
    "SparseFC ranking": ("SparseFC", {"hidden": (6,), "weight_decay": 1.0, "unobserved_weight": 0.2}),
    "GLocalK": ("GLocalK", {"hidden": (6, 5), "weight_decay": 1.0, "pretrain_epochs": 2}),
    "MultVAE": ("MultVAE", {"hidden": 8, "latent": 4, "beta": 0.5}),
    "MultVAE affine": ("MultVAE", {"hidden": 8, "latent": 4, "beta": 0.5, "decoder": "affine", "weight_decay": 0.01}),
    "MultDAE": ("MultDAE", {"latent": 6, "weight_decay": 0.01}),
    "ELSA": ("ELSA", {"factors": 6}),
    "BottleneckAE": ("BottleneckAE", {"hidden": (6,), "latent": 4, "activation": "selu", "weight_decay": 0.01}),
    "SparseAE l1": ("SparseAE", {"latent": 6, "activation": "tanh", "sparsity": 0.1, "weight_decay": 0.01}),
    "SparseAE kl": (
        "SparseAE",
        {"latent": 6, "penalty": "kl", "activation": "sigmoid", "sparsity": 0.1, "target": 0.1, "weight_decay": 0.0},
    ),
    "DenoisingAE masking": ("DenoisingAE", {"latent": 6, "level": 0.3, "weight_decay": 0.0}),
    "DenoisingAE gaussian": ("DenoisingAE", {"latent": 6, "corruption": "gaussian", "level": 0.1, "weight_decay": 0.0}),
    "DenoisingAE salt and pepper": (
        "DenoisingAE",
        {"latent": 6, "corruption": "salt-and-pepper", "level": 0.2, "weight_decay": 0.0},
    ),
    "ContractiveAE": ("ContractiveAE", {"latent": 6, "contraction": 0.2, "weight_decay": 0.01}),
    "ContractiveAE deep": (
        "ContractiveAE",
        {"hidden": (6,), "latent": 4, "contraction": 0.2, "probes": 1, "weight_decay": 0.01},
    ),
    "CDAE": ("CDAE", {"latent": 6, "activation": "sigmoid", "weight_decay": 0.01}),
    "ClusteringAE": (
        "ClusteringAE",
        {"hidden": (6,), "latent": 4, "clusters": 3, "clustering": 0.5, "pretraining_share": 0.5, "weight_decay": 0.01},
    ),
    "FeatureConsistentAE": (
        "FeatureConsistentAE",
        {
            "hidden": 8,
            "latent": 4,
            "perceptual": (6, 4),
            "pretraining_share": 0.5,
            "beta": 0.01,
            "likelihood_weight": 0.1,
        },
    ),
    "FeatureConsistentAE affine": (
        "FeatureConsistentAE",
        {"hidden": 8, "latent": 4, "perceptual": (6, 4), "likelihood_weight": 0.1, "decoder": "affine"},
    ),
    "VAE": ("VAE", {"hidden": (8, 6), "latent": 4, "samples": 2}),
    "VAE vamp": ("VAE", {"hidden": (8,), "latent": 4, "prior": "vamp", "pseudo_inputs": 5}),
    "VAE composite": ("VAE", {"hidden": (8,), "latent": 4, "prior": "composite"}),
    "MacridVAE": ("MacridVAE", {"concepts": 3, "hidden": 8, "latent": 4, "prior_scale": 0.3, "beta": 0.5}),
    "VAE affine": ("VAE", {"hidden": (8, 6), "latent": 4, "decoder": "affine"}),
    "RecVAE": ("RecVAE", {"hidden": 8, "layers": 3, "latent": 4, "gamma": 0.01}),
    "HVamp": ("HVamp", {"hidden": 8, "latent": 4, "pseudo_inputs": 5}),
    "FLVAE": ("FLVAE", {"hidden": 8, "latent": 4, "layers": 3, "decoder_layers": 2}),
    "VASP": ("VASP", {"hidden": 8, "latent": 4, "layers": 3, "decoder_layers": 2}),
    "AAE": ("AAE", {"hidden": 8, "latent": 4, "discriminator": (5,), "adversarial_weight": 2.0}),
    "VAEGAN": (
        "VAEGAN",
        {"hidden": 8, "latent": 4, "discriminator": (5, 4), "beta": 0.1, "gamma": 2.0, "likelihood_weight": 0.1},
    ),
    "VAEGAN affine": (
        "VAEGAN",
        {"hidden": 8, "latent": 4, "discriminator": (5, 4), "likelihood_weight": 0.1, "decoder": "affine"},
    ),
    "ALI": ("ALI", {"hidden": 8, "latent": 4, "discriminator": (5,), "reconstruction_weight": 0.1}),
    "UAE": ("UAE", {"hidden": (8,), "latent": 4, "noise": 0.5}),
    "UAE network": ("UAE", {"hidden": (8,), "latent": 4, "acquisition": "network", "likelihood": "gaussian"}),
}


def losses(name):
    model, params = CASES[name]
    fitted = MODELS[model](**TINY, **params).fit(ratings(), show_progress=False)
    return [epoch["loss"] for epoch in fitted.record_.epochs]


def test_every_trained_model_is_here():
    trained = {
        name
        for name, model in MODELS.items()
        if model.capabilities.trains_by_epochs and model.__module__ != IMPLICIT and name not in COMPOSED
    }
    assert trained == {model for model, _ in CASES.values()}
    assert set(GOLDEN) == set(CASES)


IMPLICIT = "recsys.models.baselines"
"""The models of `implicit` are not pinned here."""


@pytest.mark.parametrize("name", CASES)
def test_losses_are_as_recorded(name):
    # Exponentials differ in the last bit between processors; a wrong factor, mask or draw changes much more.
    np.testing.assert_allclose(losses(name), GOLDEN[name], rtol=1e-5)


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: losses(name) for name in CASES}, indent=1) + "\n")
