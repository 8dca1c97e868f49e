"""How a fit ends: with finite values or an error, and with one call of `callback` at least."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from recsys import Validation
from recsys.errors import NotFittedError, TrainingError
from recsys.ids import IdMap
from recsys.models import EASE, MODELS, MultVAE
from recsys.splits import Part
from tests.contract import CASES, checkerboard, new_model, quick, ratings

ITERATING = [name for name in CASES if quick(MODELS[name])]
NETWORKS = [name for name in ITERATING if MODELS[name].capabilities.trains_by_epochs]


@pytest.mark.parametrize("validated", [False, True], ids=["", "validated"])
@pytest.mark.parametrize("name", [*NETWORKS, "BPR"])
def test_a_last_step_into_the_infinite_is_an_error(name, validated):
    board = checkerboard()
    target = sp.csr_matrix(np.eye(20, dtype=np.float32))
    part = Part(board, target, IdMap(range(20)), np.arange(20, dtype=np.int32))
    one = {"iterations": 1} if name == "BPR" else {"epochs": 1, "batch_size": 20}
    extra = {"pretrain_epochs": 0} if name in ("DeepAutoRec", "GLocalK") else {}
    model = new_model(name, **one, **extra, learning_rate=3e38)
    options = {"validation": Validation(part, "ndcg@5")} if validated else {}
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match=r"lower (its )?learning_rate"):
        model.fit(board, show_progress=False, **options)
    with pytest.raises(NotFittedError):
        model.recommend(0, board[0])
    assert not [key for key in vars(model) if key.endswith("_")]


def test_the_error_names_what_is_not_finite_and_what_to_do():
    model = MultVAE(hidden=4, latent=2, epochs=1, learning_rate=3e38)
    with pytest.raises(TrainingError, match=r"infinite values \(network\.input\.weight.*\); lower learning_rate"):
        model.fit(checkerboard(), show_progress=False)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ITERATING])
def test_what_a_closed_form_learns_of_the_largest_values_is_finite_or_an_error(name):
    values = checkerboard()
    values.data[::3] = 1e15
    with np.errstate(all="ignore"):
        model = new_model(name)
        try:
            model.fit(values, show_progress=False)
        except TrainingError:
            assert not [key for key in vars(model) if key.endswith("_")]
        else:
            assert all(np.isfinite(array).all() for array in model.learned_arrays().values())


def test_weights_that_overflow_in_float32_are_an_error(monkeypatch):
    of_float64 = EASE._weights
    monkeypatch.setattr(EASE, "_weights", lambda self, *parts: of_float64(self, *parts).mul_(1e60))
    model = EASE()
    with pytest.raises(TrainingError, match=r"values \(weights\); raise regularization \(now 500.0\)"):
        model.fit(checkerboard(), show_progress=False)
    assert not [key for key in vars(model) if key.endswith("_")]


@pytest.mark.parametrize("name", CASES)
def test_the_callback_is_called(name):
    calls = []
    model = new_model(name, **quick(MODELS[name]))
    model.fit(checkerboard(), show_progress=False, callback=lambda *figures: calls.append(figures))
    assert all(seconds >= 0 for _, seconds, _ in calls)
    if name == "Blend":  # EASE, 20 epochs of MultVAE, and the choice of weights
        assert [(call[0], call[2] is None) for call in calls] == [(n, n in (0, 21)) for n in range(22)]
        return
    if name in ("WithFeatures", "WithUserFeatures"):  # EASE, and what new items or users score
        assert [(call[0], call[2] is None) for call in calls] == [(0, True), (1, True)]
        return
    assert [call[0] for call in calls] == ([0, 1] if name in ITERATING else [0])
    assert all((loss is None) == (name not in NETWORKS) for _, _, loss in calls)


def test_a_callback_that_fails_leaves_an_unfitted_model():
    model = EASE()
    with pytest.raises(ZeroDivisionError):
        model.fit(checkerboard(), show_progress=False, callback=lambda *figures: 1 // 0)
    with pytest.raises(NotFittedError):
        model.recommend(0, checkerboard()[0])


@pytest.mark.parametrize(("name", "rate"), [("VASP", 1e10), ("HVamp", 1e5)])
def test_finite_weights_too_large_to_score_with_are_an_error(name, rate):
    model = new_model(name, epochs=1, batch_size=500, learning_rate=rate)
    with pytest.raises(TrainingError, match=r"scores that are NaN or infinite; lower learning_rate \(now "):
        model.fit(ratings(200, 50), show_progress=False)
    assert not [key for key in vars(model) if key.endswith("_")]
