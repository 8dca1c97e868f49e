"""Rating models that read rows of one length."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recsys.grid import Grid
from recsys.models import DeepAutoRec, DeepRecommender, GLocalK, IAutoRec, SparseFC, UAutoRec, load
from recsys.sparse import Rows
from tests.contract import ratings

MATRIX = ratings(n_users=18, n_items=11, density=0.35)
TINY = {"epochs": 3, "batch_size": 7, "learning_rate": 0.05, "weight_decay": 2.0, "normalize": True}
SMALL = {
    UAutoRec: {"hidden": 4},
    IAutoRec: {"hidden": 4},
    DeepAutoRec: {"hidden": (5,), "latent": 3},
    DeepRecommender: {"hidden": (5,), "latent": 3},
    SparseFC: {"hidden": (5, 4), "dim": 2},
    GLocalK: {"hidden": (5, 4), "dim": 2, "pretrain_epochs": 1},
}

every = pytest.mark.parametrize("model_class", SMALL, ids=lambda cls: cls.__name__)


def fit(model_class, matrix=MATRIX, **changes):
    return model_class(**{**TINY, **SMALL[model_class], **changes}).fit(matrix, show_progress=False)


def everything(model, matrix=MATRIX):
    users = np.arange(matrix.shape[0])
    return model.predict(users, matrix, np.tile(np.arange(matrix.shape[1]), (len(users), 1)))


def rows_of(model, matrix=MATRIX):
    """The rows that the model trains on, as a csr_matrix."""
    shifted = sp.csr_matrix((matrix.data - np.float32(model.mean_), matrix.indices, matrix.indptr), shape=matrix.shape)
    return sp.csr_matrix(shifted.T) if model.over_items else shifted


@every
def test_the_network_reads_rows_of_the_typical_length(model_class):
    model = fit(model_class)
    rows = rows_of(model)
    lengths = np.sqrt(rows.multiply(rows).sum(axis=1)).A1
    typical = np.sqrt(np.mean(lengths**2))
    assert float(model.network_.scale.length) == pytest.approx(typical, rel=1e-5)

    scaled = sp.csr_matrix(sp.diags(typical / lengths) @ rows).astype(np.float32)
    plain = fit(model_class, normalize=False, epochs=1).network_
    state = model.network_.state_dict()
    assert set(state) - set(plain.state_dict()) == {"scale.length"}
    plain.load_state_dict({name: tensor for name, tensor in state.items() if name != "scale.length"})
    if model_class is GLocalK:
        plain.convolves = True
        assert plain.global_kernel().count_nonzero() > 1
    kind = Grid if model_class is GLocalK else Rows
    found, expected = model.network_.encode(kind(rows).slice(0, 99)), plain.encode(kind(scaled).slice(0, 99))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@every
def test_a_saved_model_keeps_the_length(model_class, tmp_path):
    model = fit(model_class)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.normalize is True
    np.testing.assert_array_equal(everything(again), everything(model))
    assert np.abs(everything(model) - everything(fit(model_class, normalize=False))).max() > 1e-3


@pytest.mark.parametrize("model_class", [UAutoRec, DeepRecommender], ids=lambda cls: cls.__name__)
def test_how_long_a_history_is_does_not_matter(model_class):
    model = fit(model_class, center=False)
    np.testing.assert_allclose(model.encode(2 * MATRIX), model.encode(MATRIX), rtol=0, atol=1e-6)
    nothing = sp.csr_matrix((1, 11), dtype=np.float32)
    assert np.isfinite(model.encode(nothing)).all()
    plain = fit(model_class, center=False, normalize=False)
    assert np.abs(plain.encode(2 * MATRIX) - plain.encode(MATRIX)).max() > 1e-3


def test_the_typical_length_is_of_rows_that_have_any():
    matrix = sp.csr_matrix(np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 1.0]], dtype=np.float32))
    assert Rows(matrix).typical_length() == pytest.approx(np.sqrt((25 + 1) / 2))
    assert Rows(sp.csr_matrix((3, 2), dtype=np.float32)).typical_length() == 1.0
