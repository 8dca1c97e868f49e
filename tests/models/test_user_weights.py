"""`fit(user_weights=...)`: what a weight means, who takes one, and that checkpoints know it."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.errors import DataError, TrainingError, UnsupportedError
from recsys.models import MODELS, Blend
from tests.contract import CASES, new_model, quick, ratings

MATRIX = ratings(n_users=24, n_items=15, density=0.3)
WEIGHING = [name for name in CASES if MODELS[name].capabilities.weighs_users]
REFUSING = [name for name in CASES if not MODELS[name].capabilities.weighs_users]
LINEAR = ["EASE", "EDLAE", "DLAE", "RDLAE", "DEQL", "HigherOrderEASE"]


def fit(name, matrix=MATRIX, weights=None, options=None, **changes):
    model = new_model(name, **{**quick(MODELS[name]), **changes})
    return model.fit(matrix, show_progress=False, user_weights=weights, **(options or {}))


def arrays(model):
    return model.learned_arrays()


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_in_a_linear_model_a_weight_counts_copies_of_a_row(name, exponent):
    """Σ_u w_u ‖x_u − x_u B‖² with w of mean 1: n copies of a row weigh n, with a penalty as many times as large."""
    times = np.random.default_rng(0).integers(1, 5, size=24)
    strength = {"regularization": 2.0, "user_exponent": exponent}
    extra = {"pairs": 200, "pair_regularization": 9.0} if name == "HigherOrderEASE" else {}
    weighted = fit(name, weights=times, **strength, **extra)
    scale = times.mean()
    larger = {key: value * scale for key, value in {**strength, **extra}.items() if key.endswith("regularization")}
    copied = fit(name, MATRIX[np.repeat(np.arange(24), times)], **{**strength, **extra, **larger})
    np.testing.assert_allclose(weighted.recommend(np.full(24, -1), MATRIX, N=15)[1],
                               copied.recommend(np.full(24, -1), MATRIX, N=15)[1], rtol=2e-4, atol=2e-5)  # fmt: skip
    assert not np.allclose(arrays(weighted)["weights"], arrays(fit(name, **strength, **extra))["weights"], atol=1e-3)


@pytest.mark.parametrize("name", WEIGHING)
def test_equal_weights_change_nothing_and_others_do(name):
    plain, same, other = fit(name), fit(name, weights=[2.5] * 24), fit(name, weights=np.where(np.arange(24) % 2, 1, 9))
    assert all(np.array_equal(values, arrays(same)[key]) for key, values in arrays(plain).items())
    assert any(not np.array_equal(values, arrays(other)[key]) for key, values in arrays(plain).items())
    np.testing.assert_array_equal(plain.popularity_, other.popularity_)


@pytest.mark.parametrize("name", ["MultVAE", "EASE"])
def test_only_ratios_matter(name):
    weights = np.random.default_rng(1).random(24) + 0.1
    one, other = (arrays(fit(name, weights=scale * weights)) for scale in (1.0, 1024.0))
    assert all(np.array_equal(values, other[key]) for key, values in one.items())


@pytest.mark.parametrize("name", REFUSING)
def test_who_cannot_weigh_users_says_so(name):
    model = new_model(name)
    with pytest.raises(UnsupportedError, match=rf"^{name} cannot weigh its training users \(user_weights\); use EASE"):
        model.fit(MATRIX, show_progress=False, user_weights=np.arange(1, 25))
    assert not hasattr(model, "n_items_")


def test_a_blend_weighs_users_if_all_of_its_parts_do():
    parts = ({"name": "EASE", "regularization": 1.0}, {"name": "EDLAE", "regularization": 1.0})
    weights = np.arange(1, 25)
    blend = Blend(parts=parts).fit(MATRIX, show_progress=False, user_weights=weights)
    for model, name in zip(blend.parts_, ("EASE", "EDLAE"), strict=True):
        np.testing.assert_array_equal(arrays(model)["weights"], arrays(fit(name, weights=weights))["weights"])
    with pytest.raises(UnsupportedError, match="Blend cannot weigh"):
        Blend(parts=(*parts, {"name": "ItemKNN"})).fit(MATRIX, show_progress=False, user_weights=weights)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(23), r"a number per row of user_items \(24\), got float64 of shape \(23,\)"),
        (np.ones((24, 1)), r"got float64 of shape \(24, 1\)"),
        (["a"] * 24, r"a number per row of user_items \(24\), got <U1"),
        (np.ones(24, bool), "got bool"),
        (np.arange(24), "must be finite and above 0, got 0 in row 0; leave users that should not count out"),
        ([1.0] * 23 + [np.nan], "must be finite and above 0, got nan in row 23"),
        ([1.0] * 23 + [np.inf], "got inf in row 23"),
        ([1.0] * 23 + [-1.0], "got -1.0 in row 23"),
    ],
)
def test_weights_are_checked(weights, message):
    with pytest.raises(DataError, match=message):
        fit("EASE", weights=weights)


@pytest.mark.parametrize("name", ["MultVAE", "Blend"])
def test_a_checkpoint_belongs_to_its_weights(name, tmp_path):
    class Interrupt(Exception):
        pass

    def stop(entry):
        if entry.get("part", 1.0) == 1.0 and entry["epoch"] >= 2:
            raise Interrupt

    weights = np.random.default_rng(1).random(24) + 0.1
    quiet = {"epochs": 4} if name == "MultVAE" else {}
    unbroken = fit(name, weights=weights, **quiet)
    with pytest.raises(Interrupt):
        fit(name, weights=weights, options={"checkpoint": tmp_path / "run", "on_epoch": stop}, **quiet)
    for other in (weights[::-1], None):
        with pytest.raises(TrainingError, match=r"belongs to another run \(differs in row_weights\)"):
            fit(name, weights=other, options={"checkpoint": tmp_path / "run"}, **quiet)
    resumed = fit(name, weights=weights, options={"checkpoint": tmp_path / "run"}, **quiet)
    assert all(np.array_equal(values, arrays(resumed)[key]) for key, values in arrays(unbroken).items())


def test_a_sparse_matrix_of_rows_without_entries_keeps_its_weights():
    """The weight of a row is its place in the matrix, empty rows included."""
    empty = sp.vstack([sp.csr_matrix((3, 15), dtype=np.float32), MATRIX]).tocsr()
    weights = np.arange(1.0, 25.0)
    found = fit("EASE", empty, weights=np.concatenate([np.full(3, weights.mean()), weights]))
    np.testing.assert_allclose(arrays(found)["weights"], arrays(fit("EASE", weights=weights))["weights"], atol=1e-6)
