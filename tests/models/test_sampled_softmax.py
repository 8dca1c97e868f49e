"""Models that train with an estimate of the softmax: what they learn, which rows move, checkpoints, memory."""

from unittest import mock

import numpy as np
import pytest
import torch

from recsys.errors import ConfigError
from recsys.models import MODELS, load
from recsys.nn.sampled import Negatives
from tests.contract import CASES, checkerboard, csr, fitted, interrupt, new_model, ratings

NAMES = ["MultVAE", "MultDAE", "RecVAE"]
EVERYONE = np.arange(20), checkerboard()
HOW = ["popularity", "uniform", "batch"]
every = pytest.mark.parametrize("name", NAMES)


def test_these_are_the_models_that_can():
    assert [name for name, cls in MODELS.items() if "negatives" in cls.__dataclass_fields__] == NAMES


@every
@pytest.mark.parametrize("how", HOW)
def test_the_withheld_item_comes_first(name, how):
    model = fitted(name, negatives=6, negatives_from=how)
    ids, _ = model.recommend(np.arange(20), checkerboard(), N=1)
    assert (ids[:, 0] == np.arange(20)).mean() > 0.9


@every
def test_with_every_item_drawn_once_it_trains_as_without(name):
    """Then the estimate is the softmax. The moments of rows that a step does not read would differ, so it reads all."""
    options = {"epochs": 4, "dropout": 0.0, "batch_size": 20}
    everything = torch.arange(20), torch.zeros(20)
    with mock.patch.object(Negatives, "draw", return_value=everything):
        sampled = fitted(name, negatives=20, **options)
    whole = fitted(name, **options)
    for key, weight in whole.network_.state_dict().items():
        torch.testing.assert_close(sampled.network_.state_dict()[key], weight, rtol=0, atol=2e-4)
    losses = [[entry["loss"] for entry in model.record_.epochs] for model in (sampled, whole)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@every
def test_rows_that_no_step_reads_stay_as_they_were(name):
    """The last ten items have no entry, and among the entries of the batch they are never drawn."""
    matrix = ratings(30, 20)
    wide = csr(np.hstack([np.where(matrix.toarray() > 0, 1.0, np.nan), np.full((30, 10), np.nan)]))
    short, long = (fitted(name, wide, negatives=5, negatives_from="batch", epochs=epochs) for epochs in (1, 8))
    one, other = short.network_.state_dict(), long.network_.state_dict()
    tables = [key for key, value in one.items() if value.ndim and len(value) == 30 and "old" not in key]
    assert len(tables) == 3
    for key in tables:
        assert torch.equal(one[key][20:], other[key][20:])
        assert not torch.equal(one[key][:20], other[key][:20])


@every
@pytest.mark.parametrize("how", HOW)
def test_an_interrupted_training_ends_at_the_same_weights(name, how, tmp_path):
    options = {"negatives": 4, "negatives_from": how, "epochs": 4, "weight_decay": 0.01, "seed": 3}
    whole, again = fitted(name, **options), fitted(name, **options)
    for own, other in zip(whole.recommend(*EVERYONE), again.recommend(*EVERYONE), strict=True):
        np.testing.assert_array_equal(own, other)
    interrupt(new_model(name, **options), checkerboard(), tmp_path / "checkpoint", epoch=2)
    again = new_model(name, **options).fit(checkerboard(), show_progress=False, checkpoint=tmp_path / "checkpoint")
    for key, weight in whole.network_.state_dict().items():
        assert torch.equal(again.network_.state_dict()[key], weight), key


@every
def test_a_penalty_acts_on_the_rows_that_are_read(name):
    lengths = [
        fitted(name, negatives=6, epochs=20, weight_decay=decay).network_.output.weight.norm() for decay in (0.0, 0.3)
    ]
    assert lengths[1] < 0.7 * lengths[0]


def test_it_is_saved_and_loaded(tmp_path):
    model = fitted("MultVAE", negatives=6, negatives_from="uniform")
    model.save(tmp_path / "model")
    found = load(tmp_path / "model")
    assert (found.negatives, found.negatives_from) == (6, "uniform")
    for own, read in zip(model.recommend(*EVERYONE), found.recommend(*EVERYONE), strict=True):
        np.testing.assert_array_equal(own, read)


def test_it_needs_less_memory():
    matrix = csr(np.where(np.eye(40, 2000) > 0, 1.0, np.nan))
    needs = [
        new_model("MultVAE", batch_size=500, negatives=negatives).memory_needed(matrix).bytes
        for negatives in (None, 10)
    ]
    tables = 4 * 2000 * (CASES["MultVAE"]["hidden"] * 2 + 1)
    assert needs[0] - needs[1] == pytest.approx(4 * 500 * (2000 - 10) + tables, rel=0.05)


@pytest.mark.parametrize("wrong", [{"negatives": 0}, {"negatives": 1.5}, {"negatives_from": "random"}])
def test_what_is_no_number_and_no_way_of_drawing_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        fitted("MultVAE", **wrong)
