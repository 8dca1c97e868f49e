"""EDLAE, DLAE, RDLAE and DEQL, and normalisation by DAN: each closed form against the minimum of its own objective."""

import json
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from recsys.errors import ConfigError
from recsys.models import DEQL, DLAE, EASE, EDLAE, RDLAE
from tests.contract import cells_of, csr, random_cells, ratings

RATINGS = ratings(n_users=24, n_items=13, density=0.4)
UNSEEN = ratings(n_users=7, n_items=13, density=0.3, seed=1)
FAMILY = {
    "EASE": EASE(regularization=2.0),
    "EDLAE": EDLAE(regularization=2.0, dropout=0.3),
    "DLAE": DLAE(regularization=2.0, dropout=0.3),
    "RDLAE": RDLAE(regularization=2.0, dropout=0.3, relaxation=0.1),
    "DEQL": DEQL(regularization=2.0, dropout=0.3, emphasis=0.7),
}
DAN = {"item_exponent": 0.3, "user_exponent": 0.6}

each = pytest.mark.parametrize("name", FAMILY)
either = pytest.mark.parametrize("options", [{}, DAN], ids=["plain", "normalised"])


def fitted(name, matrix=RATINGS, **changes):
    model = FAMILY[name]
    return type(model)(**{**model.params(), **changes}).fit(matrix, show_progress=False)


def dense(matrix):
    return np.nan_to_num(cells_of(matrix)).astype(np.float64)


def noisy(x, dropout):
    """Every way to drop entries of every user: (rows kept, weights of the rows, inputs, targets)."""
    kept = np.array(list(product([0.0, 1.0], repeat=x.shape[1])))
    weight = dropout ** (1 - kept).sum(1) * (1 - dropout) ** kept.sum(1)
    inputs = (x[:, None, :] * kept[None] / (1 - dropout)).reshape(-1, x.shape[1])
    return np.tile(kept, (len(x), 1)), np.tile(weight, len(x)), inputs, np.repeat(x, len(kept), axis=0)


def least_squares(name, x, regularization, dropout, relaxation):
    """The expected loss over all draws of the noise, minimised a column at a time by a general solver."""
    n = x.shape[1]
    kept, weight, inputs, targets = noisy(x, dropout)
    b = np.zeros((n, n))
    for j in range(n):
        # EDLAE counts the error where the item itself was dropped, DEQL also elsewhere but less, the others everywhere.
        emphasis = {"EDLAE": 0.0, "DEQL": relaxation**2}.get(name, 1.0)
        counted = weight * np.where(kept[:, j] == 0, 1.0, emphasis)
        root = np.sqrt(counted / counted.sum() * len(x))
        bound = {"EDLAE": 1e-300, "RDLAE": relaxation}.get(name, np.inf)
        system = np.vstack([root[:, None] * inputs, np.sqrt(regularization) * np.eye(n)])
        upper = np.where(np.arange(n) == j, bound, np.inf)
        right = np.concatenate([root * targets[:, j], np.zeros(n)])
        b[:, j] = lsq_linear(system, right, (-np.inf, upper), tol=1e-14, lsq_solver="exact").x
    return b


@pytest.mark.parametrize("dropout", [0.2, 0.6])
@pytest.mark.parametrize("name", ["EDLAE", "DLAE", "RDLAE", "DEQL"])
@pytest.mark.parametrize("counts", [False, True])
def test_the_weights_minimise_the_expected_loss_over_all_draws_of_the_noise(name, dropout, counts):
    cells = random_cells(np.random.default_rng(4), 9, 5, 0.7, counts=counts)
    bound = {"RDLAE": {"relaxation": 0.31}, "DEQL": {"emphasis": 0.31}}.get(name, {})
    found = fitted(name, csr(cells), dropout=dropout, **bound).weights_.numpy()
    expected = least_squares(name, np.nan_to_num(cells), 2.0, dropout, 0.31)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    if name == "RDLAE" and dropout == 0.6:
        held = np.isclose(np.diag(found), 0.31, atol=1e-6)
        assert held.any()
        assert not held.all()  # the bound holds some items and leaves others


@given(
    n_users=st.integers(1, 9),
    n_items=st.integers(2, 8),
    dropout=st.sampled_from([0.0, 0.3, 0.8]),
    relaxation=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    seed=st.integers(0, 9999),
)
@settings(max_examples=50, deadline=None)
def test_the_relaxed_weights_satisfy_the_conditions_of_their_minimum(n_users, n_items, dropout, relaxation, seed):
    """Stationary off the diagonal; on it, at the bound with the gradient pushing against it, or below and at rest."""
    cells = random_cells(np.random.default_rng(seed), n_users, n_items, 0.6)
    cells[0, 0] = 1.0
    x = np.nan_to_num(cells)
    b = fitted("RDLAE", csr(cells), dropout=dropout, relaxation=relaxation).weights_.numpy().astype(np.float64)
    gram = x.T @ x
    penalty = 2.0 + dropout / (1 - dropout) * np.diag(gram)
    slope = gram @ b - gram + penalty[:, None] * b
    tolerance = 2e-6 * (np.abs(gram).max() + penalty.max())
    assert np.abs(slope[~np.eye(n_items, dtype=bool)]).max() < tolerance
    own, diagonal = np.diag(slope), np.diag(b)
    assert (diagonal <= relaxation + 1e-6).all()
    assert (own < tolerance).all()
    assert ((np.abs(own) < tolerance) | (np.abs(diagonal - relaxation) < 1e-6)).all()


# One model as another's limit


@either
def test_without_drop_out_edlae_is_ease(options):
    assert torch.equal(fitted("EDLAE", dropout=0.0, **options).weights_, fitted("EASE", **options).weights_)


@either
def test_the_relaxation_leads_from_edlae_to_dlae(options):
    assert torch.equal(fitted("RDLAE", relaxation=0.0, **options).weights_, fitted("EDLAE", **options).weights_)
    assert torch.equal(fitted("RDLAE", relaxation=1.0, **options).weights_, fitted("DLAE", **options).weights_)
    between = fitted("RDLAE", **options).weights_.diagonal()
    assert (between == np.float32(0.1)).any()


@either
def test_the_emphasis_leads_from_edlae_to_dlae_and_beyond(options):
    assert torch.equal(fitted("DEQL", emphasis=0.0, **options).weights_, fitted("EDLAE", **options).weights_)
    one = fitted("DEQL", emphasis=1.0, **options).weights_
    torch.testing.assert_close(one, fitted("DLAE", **options).weights_, rtol=0, atol=1e-6)
    diagonals = [fitted("DEQL", emphasis=e, **options).weights_.diagonal() for e in (0.3, 0.6, 1.0, 2.0, 1e6)]
    for less, more in pairwise(diagonals):
        assert (less < more).all()


@pytest.mark.parametrize("emphasis", [0.1, 0.7, 1.8])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_under_a_zero_diagonal_the_emphasis_only_changes_the_unit_of_the_penalty(emphasis, dropout):
    """The minimum of the emphasized loss with diag(B) = 0 is EDLAE's, whose penalty is divided by s."""
    x = dense(RATINGS)
    s = dropout + (1 - dropout) * emphasis**2
    gram = x.T @ x
    for j in range(3):
        others = np.delete(np.arange(13), j)
        noise = dropout / (1 - dropout) * np.diag(gram)[others]
        # Without B_jj the input of column j does not say whether its own entry was dropped: both errors are the same.
        system = s * (gram[np.ix_(others, others)] + np.diag(noise)) + 2.0 * np.eye(12)
        expected = np.linalg.solve(system, s * gram[others, j])
        found = fitted("EDLAE", dropout=dropout, regularization=2.0 / s).weights_.numpy()[others, j]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("emphasis", [0.1, 0.7, 1.0, 1.8])
@pytest.mark.parametrize("dropout", [0.0, 0.3, 0.8])
@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.4, 0.7)])
def test_the_emphasized_loss_has_no_slope_at_the_weights(emphasis, dropout, alpha, beta):
    """By autograd, on the expectation over the noise, which a column's own entry and those of others share out."""
    x = dense(RATINGS)
    users, kept = (x != 0).sum(0), 1.0 - dropout
    inputs = torch.from_numpy((x != 0).sum(1)[:, None] ** (-beta / 2) * x * users**-alpha)
    options = {"dropout": dropout, "emphasis": emphasis, "item_exponent": alpha, "user_exponent": beta}
    b = torch.from_numpy(fitted("DEQL", **options).weights_.numpy().astype(np.float64)).requires_grad_()
    own, square = b.diagonal(), emphasis**2
    others = inputs @ (b - torch.diag(own))
    dropped = (inputs - others).square().sum()
    stayed = (inputs * (1.0 - own / kept) - others).square().sum()
    energy = inputs.square().sum(0)
    noise = dropout / kept * (energy[:, None] * (b - torch.diag(own)).square()).sum()
    ridge = 2.0 * (torch.from_numpy(users ** (-2.0 * alpha))[:, None] * b.square()).sum()
    loss = (dropout * dropped + kept * square * stayed) / (dropout + kept * square) + noise + ridge
    (slope,) = torch.autograd.grad(loss, b)
    assert float(slope.abs().max()) < 1e-5 * float(energy.max())


def test_dlae_is_ridge_regression_with_a_penalty_by_popularity():
    x = dense(RATINGS)
    gram = x.T @ x
    expected = np.linalg.solve(gram + np.diag(2.0 + 0.3 / 0.7 * np.diag(gram)), gram)
    np.testing.assert_allclose(fitted("DLAE").weights_.numpy(), expected, rtol=0, atol=1e-6)


def test_more_drop_out_gives_smaller_weights():
    norms = [float(fitted("EDLAE", dropout=p).weights_.norm()) for p in (0.0, 0.3, 0.6, 0.9)]
    assert norms == sorted(norms, reverse=True)
    assert norms[0] > 2 * norms[-1]


def test_what_is_allowed_on_the_diagonal_does_not_mask_what_is_new():
    """The diagonal counts for seen items alone: setting it to 0 leaves lists of unseen ones as they are."""
    model = fitted("RDLAE")
    before = model.recommend(np.arange(24), RATINGS, N=13)
    model.weights_.fill_diagonal_(0.0)
    after = model.recommend(np.arange(24), RATINGS, N=13)
    np.testing.assert_array_equal(before[0], after[0])


# Normalisation


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "DEQL"])  # which has a test of its own above
@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.0), (0.0, 0.5), (0.4, 0.7)])
def test_normalised_weights_minimise_the_normalised_objective(name, alpha, beta):
    x = dense(RATINGS)
    users = (x != 0).sum(0)
    inputs = (x != 0).sum(1)[:, None] ** (-beta / 2) * x
    model = FAMILY[name]
    dropout, relaxation = getattr(model, "dropout", 0.0), getattr(model, "relaxation", np.inf)
    penalty = 2.0 + dropout / (1 - dropout) * np.square(inputs).sum(0)
    inputs = inputs * users**-alpha
    penalty = penalty * users ** (-2 * alpha)
    expected = np.zeros((13, 13))
    for j in range(13):
        upper = np.full(13, np.inf)
        upper[j] = relaxation if name in ("DLAE", "RDLAE") else 1e-300
        system = np.vstack([inputs, np.diag(np.sqrt(penalty))])
        right = np.concatenate([inputs[:, j], np.zeros(13)])
        expected[:, j] = lsq_linear(system, right, (-np.inf, upper), tol=1e-14, lsq_solver="exact").x
    found = fitted(name, item_exponent=alpha, user_exponent=beta).weights_.numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    plain = fitted(name).weights_.numpy()
    assert np.abs(found - plain).max() > 0.01


def test_normalised_ease_is_the_published_formula():
    """W = D^α · (I − P / diag P) · D^−α with P = (Xᵀ D_U^−β X + λI)⁻¹, on binary data as there."""
    x = (dense(RATINGS) != 0).astype(np.float64)
    gram = (x * x.sum(1)[:, None] ** -0.6).T @ x
    p = np.linalg.inv(gram + 2.0 * np.eye(13))
    scale = x.sum(0) ** 0.3
    expected = scale[:, None] * (np.eye(13) - p / np.diag(p)) / scale
    found = fitted("EASE", csr(np.where(x > 0, 1.0, np.nan)), **DAN).weights_.numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@each
def test_exponents_of_zero_change_nothing_and_items_without_users_do_no_harm(name):
    assert torch.equal(fitted(name, item_exponent=0.0, user_exponent=0.0).weights_, fitted(name).weights_)
    cells = cells_of(RATINGS)
    cells[:, 4] = np.nan
    cells[7] = np.nan
    weights = fitted(name, csr(cells), **DAN).weights_
    assert weights.isfinite().all()
    assert weights[4].abs().max() < 1e-12
    assert weights[:, 4].abs().max() < 1e-12


def test_a_longer_item_exponent_gains_for_items_with_few_users():
    popular = np.argsort(-np.diff(RATINGS.tocsc().indptr), kind="stable")[:4]
    shares = []
    for alpha in (0.0, 0.5, 1.0):
        ids, _ = fitted("EASE", item_exponent=alpha).recommend(np.arange(24), RATINGS, N=3)
        shares.append(np.isin(ids, popular).mean())
    assert shares[0] > shares[1] > shares[2]


# The rest


@each
@either
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_similar_items_go_by_partial_correlation(name, options, precision):
    model = fitted(name, precision=precision, **options)
    x = dense(RATINGS)
    weighed = (x != 0).sum(1)[:, None] ** (-model.user_exponent / 2) * x
    gram = weighed.T @ weighed
    dropout = getattr(model, "dropout", 0.0)
    p = np.linalg.inv(gram + np.diag(2.0 + dropout / (1 - dropout) * np.diag(gram)))
    expected = -p / np.sqrt(np.outer(np.diag(p), np.diag(p)))
    np.fill_diagonal(expected, 1.0)
    ids, scores = model.similar_items(np.arange(13), N=13)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(int), 1), rtol=0, atol=2e-5)


@each
def test_scores_are_the_history_times_the_weights(name):
    model = fitted(name, **DAN)
    expected = dense(UNSEEN) @ model.weights_.numpy()
    ids, scores = model.recommend(np.arange(7), UNSEEN, N=13, filter_already_liked_items=False)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(int), 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("EASE", "item_exponent", -0.1),
        ("EASE", "user_exponent", 1.1),
        ("EDLAE", "dropout", 1.0),
        ("DLAE", "dropout", -0.1),
        ("DLAE", "regularization", 0.0),
        ("RDLAE", "relaxation", -0.1),
        ("RDLAE", "dropout", 1.5),
        ("DEQL", "emphasis", -0.1),
    ],
)
def test_options_out_of_range_are_refused_by_name(name, option, value):
    with pytest.raises(ConfigError, match=f"{option} of {name} must be a finite number .*, got {value}"):
        fitted(name, **{option: value})


def test_a_bundle_from_before_there_was_normalisation_is_read(tmp_path):
    model = fitted("EASE")
    model.save(tmp_path / "ease")
    config = json.loads((tmp_path / "ease" / "config.json").read_text())
    for name in ("item_exponent", "user_exponent"):
        del config["params"][name]
    config["schema"] = 1
    del config["checksum"]
    (tmp_path / "ease" / "config.json").write_text(json.dumps(config))
    again = EASE.load(tmp_path / "ease")
    assert torch.equal(again.weights_, model.weights_)
    assert (again.item_exponent, again.user_exponent) == (0.0, 0.0)
