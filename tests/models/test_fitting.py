"""What every fit does at its end: it calls back, and refuses what is not finite."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from recsys import datasets
from recsys.errors import NotFittedError, RecsysError, TrainingError
from recsys.evaluation import Validation
from recsys.models import EASE, MODELS
from recsys.splits import hold_out_ratings
from tests.contract import CASES, checkerboard, csr, new_model, quick

LEARNING_RATES = [name for name in CASES if "learning_rate" in {field.name for field in fields(MODELS[name])}]


@pytest.mark.parametrize("name", CASES)
def test_the_callback_counts_from_0_and_is_called_at_least_once(name):
    calls = []
    model = new_model(name, **quick(MODELS[name]))
    model.fit(checkerboard(), show_progress=False, callback=lambda *call: calls.append(call))
    assert [iteration for iteration, _, _ in calls] == list(range(len(model.record_.epochs)))
    assert all(seconds >= 0 and (loss is None or np.isfinite(loss)) for _, seconds, loss in calls)


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("name", LEARNING_RATES)
def test_what_the_last_step_leaves_is_finite_or_refused(name, validated):
    split = hold_out_ratings(datasets.synthetic(60, 30, 900))
    short = dict.fromkeys(quick(MODELS[name]), 1)
    model = new_model(name, **{**short, "learning_rate": 1e30})
    validation = Validation(split.validation) if validated else None
    try:
        model.fit(split.train, show_progress=False, validation=validation)
    except TrainingError:
        with pytest.raises(NotFittedError):
            model.recommend([0], split.train.matrix[:1])
    except RecsysError as error:
        raise AssertionError(f"another error than in the middle of a training: {error!r}") from error
    else:
        assert all(np.isfinite(array).all() for array in model._arrays().values() if array.dtype.kind == "f")


def test_a_solution_that_is_not_finite_is_refused(monkeypatch):
    monkeypatch.setattr(EASE, "_arrays", lambda self: {"weights": np.array([1.0, np.nan], dtype=np.float32)})
    with pytest.raises(TrainingError, match="EASE learned weights with values that are NaN or infinite"):
        EASE().fit(csr([[1, 1], [1, 0]]), show_progress=False)
