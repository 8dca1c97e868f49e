"""Every trained model repeats its recorded losses.

After a change that is meant to move them: `python -m tests.golden.test_losses` writes the file anew, and the
commit says why.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from recsys.models import MODELS
from tests.contract import ratings

FILE = Path(__file__).with_name("losses.json")
GOLDEN = json.loads(FILE.read_text()) if FILE.exists() else {}

TINY = {"epochs": 4, "batch_size": 7, "learning_rate": 0.01, "seed": 5}
CASES = {
    "UAutoRec": ("UAutoRec", {"hidden": 6, "weight_decay": 1.0}),
    "UAutoRec ranking": ("UAutoRec", {"hidden": 6, "weight_decay": 1.0, "unobserved_weight": 0.2}),
    "IAutoRec": ("IAutoRec", {"hidden": 6, "weight_decay": 1.0}),
    "IAutoRec ranking": ("IAutoRec", {"hidden": 6, "weight_decay": 1.0, "unobserved_weight": 0.2}),
    "MultVAE": ("MultVAE", {"hidden": 8, "latent": 4, "beta": 0.5}),
    "MultDAE": ("MultDAE", {"latent": 6, "weight_decay": 0.01}),
}


def losses(name):
    model, params = CASES[name]
    fitted = MODELS[model](**TINY, **params).fit(ratings(), show_progress=False)
    return [epoch["loss"] for epoch in fitted.record_.epochs]


def test_every_trained_model_is_here():
    trained = {name for name, model in MODELS.items() if model.trains_by_epochs and model.__module__ != ALIEN}
    assert trained == {model for model, _ in CASES.values()}
    assert set(GOLDEN) == set(CASES)


ALIEN = "recsys.models.baselines"
"""implicit's models are not ours to pin."""


@pytest.mark.parametrize("name", CASES)
def test_losses_are_as_recorded(name):
    # Exponentials differ in their last bit between processors; a wrong factor, mask or draw moves far more.
    np.testing.assert_allclose(losses(name), GOLDEN[name], rtol=1e-5)


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: losses(name) for name in CASES}, indent=1) + "\n")
