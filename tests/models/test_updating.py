"""Closed forms made of yesterday's: equal to a full fit, rows matched by what they hold, and when they are not used."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import recsys
from recsys.errors import BundleError, ConfigError, DataError, DataWarning
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import DLAE, EDLAE, FEASE, MODELS, HigherOrderEASE, updating
from recsys.models.updating import Gram, energy_of
from tests.contract import ratings

FAMILY = ["EASE", "EDLAE", "DLAE", "RDLAE", "DEQL"]
MATRIX = ratings(300, 40, 0.1)
DAN = {"item_exponent": 0.3, "user_exponent": 0.5}


@pytest.fixture(autouse=True)
def whatever_it_costs(monkeypatch):
    """Matrices this small are all change."""
    monkeypatch.setattr(updating, "PAYS_BELOW", 10.0)


def made(name, **options):
    return MODELS[name](**{"regularization": 20.0, **options})


def fitted(name, data, **options):
    return made(name, **options).fit(data, show_progress=False)


def tomorrow():
    """Two users gone, four new, one with other items, one whose value has changed; in another order."""
    cells = sp.vstack([MATRIX[2:], ratings(4, 40, 0.1, seed=3)]).toarray()
    cells[5] = 0
    cells[5, [3, 8]] = 2.0
    row = cells[9]
    row[np.flatnonzero(row)[0]] += 1.0
    return sp.csr_matrix(cells[np.random.default_rng(0).permutation(len(cells))], dtype=np.float32)


def same(found, expected, tolerance=1e-5):
    difference = (found.weights_ - expected.weights_).abs().max() / expected.weights_.abs().max()
    assert difference < tolerance


@pytest.mark.parametrize("options", [{}, DAN])
@pytest.mark.parametrize("name", FAMILY)
def test_an_update_equals_a_full_fit(name, options):
    start = fitted(name, MATRIX, keep_rows=True, **options)
    found = made(name, **options).fit(tomorrow(), show_progress=False, start=start)
    assert found.updated_rows_ == 2 + 4 + 2 * 2
    same(found, fitted(name, tomorrow(), **options), 1e-6)
    assert (start.weights_ - found.weights_).abs().max() > 1e-4, "there was something to do"


@pytest.mark.parametrize("name", ["EASE", "EDLAE"])
def test_a_year_of_updates_stays_exact(name):
    rng = np.random.default_rng(1)
    cells = MATRIX.toarray()
    model = fitted(name, MATRIX, keep_rows=True, **DAN)
    for _ in range(60):
        users = rng.integers(0, 300, 3)
        cells[users] = ratings(3, 40, 0.1, seed=int(rng.integers(2**31))).toarray()
        matrix = sp.csr_matrix(cells)
        model = made(name, keep_rows=True, **DAN).fit(matrix, show_progress=False, start=model)
        assert model.updated_rows_ is not None
    same(model, fitted(name, matrix, **DAN))


@pytest.mark.parametrize("name", ["EASE", "RDLAE"])
def test_items_and_users_are_found_again_by_their_ids(name):
    earlier = Interactions(MATRIX, IdMap([f"u{n}" for n in range(300)]), IdMap([f"i{n}" for n in range(40)]))
    frame = earlier.to_frame()
    frame = frame[~frame["item_id"].isin(["i7", "i20"]) & (frame["user_id"] != "u3")]
    new = pd.DataFrame({"user_id": ["new", "new", "u1"], "item_id": ["i1", "brand new", "brand new"], "rating": 3.0})
    later = Interactions.from_frame(pd.concat([new, frame]).astype({"rating": np.float32}))
    start = fitted(name, earlier, keep_rows=True, **DAN)
    found = made(name, **DAN).fit(later, show_progress=False, start=start)
    assert found.updated_rows_
    assert found.items_ == later.items
    same(found, fitted(name, later, **DAN), 1e-6)


def test_nothing_new_is_nothing_to_do():
    start = fitted("EASE", MATRIX, keep_rows=True)
    found = made("EASE").fit(MATRIX[::-1], show_progress=False, start=start)
    assert found.updated_rows_ == 0
    same(found, start, 1e-6)


def test_a_bundle_keeps_what_an_update_needs(tmp_path):
    start = fitted("EDLAE", MATRIX, keep_rows=True, **DAN)
    start.save(tmp_path / "m")
    fitted("EDLAE", MATRIX, **DAN).save(tmp_path / "without")
    again = recsys.load(tmp_path / "m")
    assert again.keep_rows
    found = made("EDLAE", **DAN).fit(tomorrow(), show_progress=False, start=again)
    assert found.updated_rows_
    same(found, fitted("EDLAE", tomorrow(), **DAN), 1e-6)
    sizes = [sum(file.stat().st_size for file in (tmp_path / name).iterdir()) for name in ("m", "without")]
    assert sizes[0] - sizes[1] < 8 * MATRIX.nnz + 8 * 300 + 8 * 40 + 2000
    # Not the matrix of the caller, which may change.
    matrix = MATRIX.copy()
    own = fitted("EASE", matrix, keep_rows=True)
    matrix.data[:] = 9.0
    assert own.rows_.data.max() < 9.0


@pytest.mark.parametrize("what", ["inverse_diagonal", "rows.indices"])
def test_a_bundle_that_holds_something_else_is_refused(what, tmp_path):
    model = fitted("EASE", MATRIX, keep_rows=True)
    arrays = model._arrays()
    arrays[what] = arrays[what] * -1
    model._arrays = lambda: arrays
    model.save(tmp_path / "m")
    with pytest.raises(BundleError, match=what.split(".")[-1]):
        recsys.load(tmp_path / "m")


def test_more_than_pays_is_fitted_in_full(monkeypatch):
    monkeypatch.setattr(updating, "PAYS_BELOW", 0.1)
    start = fitted("EASE", MATRIX, keep_rows=True)
    found = made("EASE").fit(tomorrow(), show_progress=False, start=start)
    assert found.updated_rows_ is None
    few = sp.csr_matrix(sp.vstack([MATRIX, MATRIX[:2] * 2]))
    assert made("EASE").fit(few, show_progress=False, start=start).updated_rows_ == 2
    assert made("EDLAE").fit(few, False, start=fitted("EDLAE", MATRIX, keep_rows=True)).updated_rows_ is None


def test_what_is_fitted_in_full_says_why():
    start = fitted("EASE", MATRIX, keep_rows=True)
    for model, other, why in (
        (made("EASE"), fitted("EASE", MATRIX), "which has kept no rows"),
        (made("EASE", regularization=3.0), start, r"other hyperparameters \(regularization 20.0\)"),
        (made("EASE"), made("EASE", keep_rows=True).fit(MATRIX, False, user_weights=range(1, 301)), "kept no rows"),
    ):
        with pytest.warns(DataWarning, match=why):
            model.fit(tomorrow(), show_progress=False, start=other)
        assert model.updated_rows_ is None
        same(model, fitted("EASE", tomorrow(), regularization=model.regularization), 1e-7)
    weighted = made("EASE").fit(MATRIX, show_progress=False, start=start, user_weights=range(1, 301))
    assert weighted.updated_rows_ is None


def test_an_update_that_is_not_exact_is_not_taken():
    start = fitted("EASE", MATRIX, keep_rows=True)
    start.inverse_diagonal_ = start.inverse_diagonal_ * (1 + 1e-3 * np.arange(40))
    model = made("EASE")
    with pytest.warns(DataWarning, match="an update of the earlier model would be off by"):
        model.fit(tomorrow(), show_progress=False, start=start)
    same(model, fitted("EASE", tomorrow()), 1e-7)


def test_the_error_that_is_estimated_is_the_error():
    start = fitted("EASE", MATRIX, keep_rows=True)
    rows = start.weighed_rows(MATRIX)
    gram = Gram(rows, start._penalty(energy_of(rows)))
    inverse = updating._inverse_of(start, np.arange(40), gram, start.torch_precision())
    exact = np.linalg.inv((rows.T @ rows).toarray() + 20.0 * np.eye(40))
    change = updating._change(start, MATRIX[:0], MATRIX[:3], MATRIX, gram)
    rng = np.random.default_rng(0)
    for size in (1e-4, 1e-6):
        noisy = inverse.clone()
        noisy += torch.from_numpy(size * exact.max() * rng.normal(size=(40, 40)))
        weights, expected = (p / np.diag(p) * (1 - np.eye(40)) for p in (noisy.numpy(), exact))
        largest = np.abs(weights - expected).max() / np.abs(expected).max()
        assert largest / 10 < updating._error(noisy, gram, change) < largest * 10


def test_what_is_refused():
    start = fitted("EASE", MATRIX, keep_rows=True)
    with pytest.raises(ConfigError, match="a EDLAE starts from a EDLAE, not a EASE"):
        EDLAE().fit(MATRIX, show_progress=False, start=start)
    with pytest.raises(DataError, match="without external ids nothing says which is which"):
        made("EASE").fit(MATRIX[:, :30], show_progress=False, start=start)
    for cls in (FEASE, HigherOrderEASE):
        with pytest.raises(ConfigError, match=f"{cls.__name__} .* no later fit can begin with it; leave out keep_rows"):
            cls(keep_rows=True).fit(MATRIX, show_progress=False)


def test_a_class_with_rows_or_columns_of_its_own_is_fitted_in_full():
    class WithRows(DLAE):
        def _rows(self, weighed):
            return sp.csr_matrix(sp.vstack([weighed, np.ones((1, 40))]))

    WithRows.capabilities = replace(DLAE.capabilities)
    start = WithRows(keep_rows=True).fit(MATRIX, show_progress=False)
    with pytest.warns(DataWarning, match="a WithRows adds rows or columns of its own"):
        found = WithRows().fit(tomorrow(), show_progress=False, start=start)
    same(found, WithRows().fit(tomorrow(), show_progress=False), 1e-7)
