"""log p(x) against integrals and sums that are exact."""

from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats
import torch

from recsys.analysis import compare_likelihoods, log_likelihood, popularity_likelihood
from recsys.errors import DataError, NotFittedError, UnsupportedError
from recsys.interactions import Interactions
from recsys.models import VAE, MultVAE
from recsys.nn.networks import Generating
from tests.contract import checkerboard, fitted, new_model, ratings

N_ITEMS, LATENT = 12, 2


class LinearGaussian(Generating):
    """x = W z + b + ε: log p(x) is that of N(b, W Wᵀ + I); q is the exact posterior, shifted and widened."""

    def __init__(self, shift: float = 0.0, widen: float = 0.0) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        orthogonal, _ = np.linalg.qr(rng.normal(size=(N_ITEMS, LATENT)))
        self.latent = LATENT
        self.output = torch.nn.Linear(LATENT, N_ITEMS)
        with torch.no_grad():
            self.output.weight.copy_(torch.from_numpy(orthogonal * [1.5, 0.7]))  # orthogonal: the posterior is diagonal
            self.output.bias.copy_(torch.from_numpy(rng.normal(size=N_ITEMS)))
        self.shift, self.widen = shift, widen

    def posterior(self, batch, noise=None):
        dense = torch.zeros(len(batch), batch.n_columns).index_put((batch.segments, batch.columns), batch.values)
        weight, bias = self.output.weight, self.output.bias
        variance = 1.0 / (1.0 + weight.square().sum(0))
        mean = (dense - bias) @ weight * variance
        return mean + self.shift, (variance.log() + self.widen).expand_as(mean)

    def encode(self, batch, noise=None):
        return self.posterior(batch)[0]


def linear_gaussian(**changes):
    model = VAE(likelihood="gaussian", latent=LATENT, decoder="affine", hidden=(3,), epochs=1)
    model.fit(ratings(6, N_ITEMS), show_progress=False)
    model.network_ = LinearGaussian(**changes)
    return model


def exact(model, rows):
    weight, bias = (
        tensor.detach().double().numpy() for tensor in (model.network_.output.weight, model.network_.output.bias)
    )
    return scipy.stats.multivariate_normal(bias, weight @ weight.T + np.eye(len(bias))).logpdf(rows)


ROWS = np.random.default_rng(1).normal(size=(4, N_ITEMS)).astype(np.float32)


def test_with_the_exact_posterior_every_draw_gives_the_integral():
    model = linear_gaussian()
    frame = log_likelihood(model, sp.csr_matrix(ROWS), samples=3)
    np.testing.assert_allclose(frame["log_likelihood"], exact(model, ROWS), atol=1e-4)
    assert (frame["effective_samples"] > 3 - 1e-6).all()
    assert (frame["standard_error"] < 1e-3).all()


def test_with_another_posterior_many_draws_give_the_integral():
    model = linear_gaussian(shift=0.05, widen=0.1)
    frame = log_likelihood(model, sp.csr_matrix(ROWS), samples=60_000)
    assert (frame["standard_error"] < 1e-3).all()
    np.testing.assert_allclose(frame["log_likelihood"], exact(model, ROWS), atol=1e-3)
    np.testing.assert_allclose(frame["per_entry"], frame["log_likelihood"] / N_ITEMS)


def test_a_trained_model_has_the_integral_of_its_own_weights():
    model = VAE(likelihood="gaussian", latent=2, decoder="affine", hidden=(8,), epochs=20, batch_size=5, beta=1.0)
    data = checkerboard(8)
    model.fit(data, show_progress=False)
    frame = log_likelihood(model, data, samples=20_000)
    apart = np.abs(frame["log_likelihood"] - exact(model, data.toarray()))
    assert (apart < 5 * frame["standard_error"]).all()
    assert (frame["standard_error"] < 0.05).all()


def test_it_grows_with_the_number_of_draws_and_its_error_says_how_far_it_moves():
    model = linear_gaussian(shift=0.4, widen=-0.6)
    many = sp.csr_matrix(np.repeat(ROWS[:1], 2000, axis=0))
    frames = [log_likelihood(model, many, samples=k) for k in (1, 5, 50)]
    means = [frame["log_likelihood"].mean() for frame in frames]
    assert means[0] < means[1] < means[2] < exact(model, ROWS[:1]) + 0.01
    assert frames[0]["standard_error"].isna().all()
    spread, said = frames[2]["log_likelihood"].std(), frames[2]["standard_error"].mean()
    assert 0.6 < said / spread < 1.1


@pytest.mark.parametrize("prior", ["standard", "vamp"])
def test_multinomial_histories_of_one_length_have_all_of_the_probability(prior):
    data = sp.csr_matrix(np.random.default_rng(0).integers(0, 3, (8, 3)).astype(np.float32))
    model = fitted("VAE", data, prior=prior, latent=2)
    counts = np.array([c for c in product(range(4), repeat=3) if sum(c) == 3], dtype=np.float32)
    frame = log_likelihood(model, sp.csr_matrix(counts), samples=4000)
    assert abs(np.exp(frame["log_likelihood"]).sum() - 1.0) < 0.02
    assert abs(np.exp(popularity_likelihood(model, sp.csr_matrix(counts))["log_likelihood"]).sum() - 1.0) < 1e-9


@pytest.mark.parametrize("name", ["HVamp", "MultVAE"])
def test_so_have_those_of_other_models(name):
    data = sp.csr_matrix(np.random.default_rng(0).integers(0, 3, (8, 3)).astype(np.float32))
    model = fitted(name, data, latent=2)
    counts = np.array([c for c in product(range(3), repeat=3) if sum(c) == 2], dtype=np.float32)
    frame = log_likelihood(model, sp.csr_matrix(counts), samples=4000)
    total = np.exp(frame["log_likelihood"])
    error = np.sqrt(((total * frame["standard_error"]) ** 2).sum())
    assert abs(total.sum() - 1.0) < max(0.02, 4 * error)
    assert error < 0.1


def test_bernoulli_histories_have_all_of_the_probability():
    data = sp.csr_matrix(np.random.default_rng(0).integers(0, 2, (8, 4)).astype(np.float32))
    model = fitted("VAE", data, prior="standard", likelihood="bernoulli", latent=2, beta=1.0)
    every = sp.csr_matrix(np.array(list(product(range(2), repeat=4)), dtype=np.float32))
    frame = log_likelihood(model, every, samples=4000)
    assert abs(np.exp(frame["log_likelihood"]).sum() - 1.0) < 0.02
    assert abs(np.exp(popularity_likelihood(model, every)["log_likelihood"]).sum() - 1.0) < 1e-6
    assert (frame["entries"] == 4).all()


def test_a_history_that_is_empty_is_certain_and_columns_are_those_of_the_model():
    board = checkerboard(10)
    frame = pd_frame(board)
    data = Interactions.from_frame(frame)
    model = new_model("MultVAE").fit(data, show_progress=False)
    found = log_likelihood(model, data, samples=20)
    assert found["user_id"].tolist() == list(data.users)
    assert (found["entries"] == 4).all()
    np.testing.assert_allclose(found["log_coefficient"], np.log(24.0))
    np.testing.assert_allclose(found["per_entry"], (found["log_likelihood"] - np.log(24.0)) / 4)
    again = log_likelihood(model, data, samples=20)
    np.testing.assert_array_equal(found["log_likelihood"], again["log_likelihood"])
    empty = log_likelihood(model, sp.csr_matrix((1, 10), dtype=np.float32), samples=20).iloc[0]
    assert empty["log_likelihood"] == 0.0
    assert np.isnan(empty["per_entry"])
    assert len(log_likelihood(model, board[:0], samples=20)) == 0


def pd_frame(matrix):
    import pandas as pd

    rows, columns = matrix.nonzero()
    return pd.DataFrame({"user_id": [f"u{r}" for r in rows], "item_id": columns * 10})


def test_blocks_of_users_do_not_change_which_model_is_asked(monkeypatch):
    model = fitted("MultVAE")
    whole = log_likelihood(model, checkerboard(), samples=300)
    monkeypatch.setattr("recsys.analysis.density._SCORES", 20 * 70)  # 70 draws at a time
    parts = log_likelihood(model, checkerboard(), samples=300)
    error = np.hypot(whole["standard_error"], parts["standard_error"])
    assert (np.abs(whole["log_likelihood"] - parts["log_likelihood"]) < 5 * error).all()


def test_models_are_ordered_by_what_they_find_likely():
    board = checkerboard()
    good, bad = fitted("MultVAE", beta=1.0), fitted("MultVAE", epochs=1, learning_rate=1e-4)
    table = compare_likelihoods({"bad": bad, "good": good}, board, samples=50)
    assert table["model"].tolist()[0] == "good"
    assert table["log_likelihood"].is_monotonic_decreasing
    row = table.set_index("model").loc["popularity"]
    assert row["perplexity"] == pytest.approx(20.0, rel=1e-6)  # every item is as popular as the others


def test_what_has_no_likelihood_is_refused():
    board = checkerboard()
    for name, reason in (("EASE", "has no posterior"), ("FLVAE", "has no posterior"), ("RecVAE", "composite prior")):
        with pytest.raises(UnsupportedError, match=f"{name} .*{reason}.*use MultVAE"):
            log_likelihood(fitted(name, epochs=2) if name != "EASE" else fitted(name), board)
    with pytest.raises(NotFittedError):
        log_likelihood(MultVAE(), board)
    model = fitted("MultVAE")
    with pytest.raises(DataError, match="whole counts, and 180 values are fractions"):
        log_likelihood(model, board * 0.5)
    with pytest.raises(DataError, match="samples must be at least 1"):
        log_likelihood(model, board, samples=0)
    with pytest.raises(DataError, match="of 0 and 1, and 180 values are others"):
        log_likelihood(fitted("VAE", likelihood="bernoulli", epochs=2), board * 0.5)
