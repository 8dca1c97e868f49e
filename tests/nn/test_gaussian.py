"""Densities, divergences and priors of latent variables against torch.distributions, integrals and brute force."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from recsys.nn.gaussian import (
    composite_log_density,
    gaussian_log_density,
    kl_between,
    mixture_log_density,
    reparameterized,
)
from recsys.nn.losses import gaussian_kl
from recsys.nn.variational import CompositePrior, DenseResidual, GaussianEncoder, VampPrior
from tests.contract import batch_of, random_cells

D = torch.float64


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=rng(seed), dtype=D)


def normal(mean, log_variance):
    return Normal(mean, (0.5 * log_variance).exp())


def an_encoder(n_in=7, latent=3, **options):
    encoder = GaussianEncoder(n_in, DenseResidual(6, 2, rng()), latent, 0.5, rng(), **options)
    return encoder.double()


MEAN, LOG_VARIANCE = draw(5, 4), draw(5, 4, seed=1)
OTHER_MEAN, OTHER_LOG_VARIANCE = draw(5, 4, seed=2), draw(5, 4, seed=3)


def test_log_density_is_that_of_torch():
    values = draw(5, 4, seed=4)
    expected = normal(MEAN, LOG_VARIANCE).log_prob(values)
    torch.testing.assert_close(gaussian_log_density(values, MEAN, LOG_VARIANCE), expected)


def test_divergence_is_that_of_torch():
    expected = kl_divergence(normal(MEAN, LOG_VARIANCE), normal(OTHER_MEAN, OTHER_LOG_VARIANCE)).sum(1)
    torch.testing.assert_close(kl_between(MEAN, LOG_VARIANCE, OTHER_MEAN, OTHER_LOG_VARIANCE), expected)
    zero = torch.zeros_like(MEAN)
    torch.testing.assert_close(kl_between(MEAN, LOG_VARIANCE, zero, zero), gaussian_kl(MEAN, LOG_VARIANCE))
    assert kl_between(MEAN, LOG_VARIANCE, MEAN, LOG_VARIANCE).abs().max() < 1e-12


def test_samples_have_their_mean_and_deviation():
    n = 200_000
    sample = reparameterized(MEAN[:1].expand(n, 4), LOG_VARIANCE[:1].expand(n, 4), rng())
    deviation = (0.5 * LOG_VARIANCE[0]).exp()
    assert ((sample.mean(0) - MEAN[0]).abs() < 5 * deviation / n**0.5).all()
    assert ((sample.std(0) / deviation - 1).abs() < 5 / (2 * n) ** 0.5).all()


@pytest.mark.parametrize("prior", ["gaussian", "mixture", "composite"])
def test_a_monte_carlo_divergence_approaches_the_exact_one(prior):
    """log q(z) − log p(z) at samples of q; exact in closed form, or by a fine grid in one dimension."""
    n, mean, log_variance = 400_000, torch.tensor([[0.7]], dtype=D), torch.tensor([[-0.8]], dtype=D)
    density = {
        "gaussian": lambda z: gaussian_log_density(z, 0.0, torch.zeros_like(z)).sum(1),
        "mixture": lambda z: mixture_log_density(z, MEAN[:, :1], LOG_VARIANCE[:, :1]),
        "composite": lambda z: composite_log_density(z, OTHER_MEAN[:1, :1], OTHER_LOG_VARIANCE[:1, :1]).sum(1),
    }[prior]

    def difference(z):
        return gaussian_log_density(z, mean, log_variance).sum(1) - density(z)

    sampled = difference(reparameterized(mean.expand(n, 1), log_variance.expand(n, 1), rng()))
    grid = torch.linspace(-12, 12, 200_001, dtype=D)[:, None]
    exact = torch.trapezoid(difference(grid) * gaussian_log_density(grid, mean, log_variance).sum(1).exp(), grid[:, 0])
    if prior == "gaussian":
        torch.testing.assert_close(exact, gaussian_kl(mean, log_variance)[0])
    assert abs(float(sampled.mean() - exact)) < 5 * float(sampled.std()) / n**0.5
    assert float(sampled.std()) / n**0.5 < 0.01 * float(exact)


def test_mixture_density_is_that_of_torch_at_all_scales():
    for scale, shift in ((1.0, 0.0), (3.0, 0.0), (1.0, -10.0)):  # the last case has sharp components
        means, log_variances = draw(6, 4, scale=scale), draw(6, 4, seed=1) + shift
        values = means[[0, 3, 3]] + draw(3, 4, seed=2, scale=0.01)
        parts = Independent(normal(means, log_variances), 1)
        expected = MixtureSameFamily(Categorical(torch.ones(6, dtype=D)), parts).log_prob(values)
        torch.testing.assert_close(mixture_log_density(values, means, log_variances), expected)
        single = mixture_log_density(values.float(), means.float(), log_variances.float())
        parts = Independent(normal(means.float().double(), log_variances.float().double()), 1)
        expected = MixtureSameFamily(Categorical(torch.ones(6, dtype=D)), parts).log_prob(values.float().double())
        torch.testing.assert_close(single, expected)  # float32 input loses no digits


@pytest.mark.parametrize("old_log_variance", [-6.0, 0.0, 2.0])
def test_priors_integrate_to_one(old_log_variance):
    grid = torch.cat([torch.linspace(-1500, -20, 50_001, dtype=D), torch.linspace(-20, 20, 200_001, dtype=D)[1:]])
    grid = torch.cat([grid, -grid[:50_000].flip(0)])[:, None]
    mean, log_variance = torch.full_like(grid, 0.4), torch.full_like(grid, old_log_variance)
    densities = (
        composite_log_density(grid, mean, log_variance).sum(1),
        mixture_log_density(grid, MEAN[:, :1], LOG_VARIANCE[:, :1] + old_log_variance),
    )
    for log_density in densities:
        assert float(torch.trapezoid(log_density.exp(), grid[:, 0])) == pytest.approx(1.0, abs=1e-4)


def test_the_composite_prior_is_the_documented_mixture():
    values = draw(5, 4, seed=5, scale=3.0)
    zero, one = torch.zeros_like(MEAN), torch.ones_like(MEAN)
    parts = (Normal(zero, one), normal(MEAN, LOG_VARIANCE), Normal(zero, one * np.exp(5.0)))
    expected = sum(w * part.log_prob(values).exp() for w, part in zip((0.15, 0.75, 0.1), parts, strict=True)).log()
    torch.testing.assert_close(composite_log_density(values, MEAN, LOG_VARIANCE), expected)


def test_the_old_posterior_is_a_copy_that_changes_only_when_remembered():
    encoder = an_encoder()
    prior = CompositePrior(encoder)
    cells = random_cells(np.random.default_rng(0), 6, 7, 0.5, counts=True)
    batch, latent = batch_of(cells), draw(6, 3)

    def expected():
        with torch.no_grad():  # the old posterior reads the whole row: no dropout
            return composite_log_density(latent, *encoder(batch)).sum(1)

    before = expected()
    torch.testing.assert_close(prior.log_density(latent, batch, encoder), before)
    assert not any(parameter.requires_grad for parameter in prior.parameters())
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3)
    torch.testing.assert_close(prior.log_density(latent, batch, encoder), before)
    assert (expected() - before).abs().max() > 1e-3
    prior.remember(encoder)
    torch.testing.assert_close(prior.log_density(latent, batch, encoder), expected())
    assert not any(parameter.requires_grad for parameter in prior.parameters())
    assert prior.state_dict().keys() == {f"old.{name}" for name in encoder.state_dict()}


def test_the_vamp_prior_mixes_the_posteriors_of_its_pseudo_inputs():
    encoder, prior = an_encoder(bounds=(-12.0, 4.0)), VampPrior(4, 7, rng()).double()
    with torch.no_grad():
        prior.pseudo_inputs.copy_(0.4 + draw(4, 7, seed=1, scale=0.5))  # some lie outside 0..1
    latent = draw(6, 3).requires_grad_()
    rows = prior.pseudo_inputs.detach().clamp(0, 1)
    mean, log_variance = encoder(batch_of(rows.numpy()))  # as rows of data, without noise
    parts = Independent(normal(mean, log_variance), 1)
    expected = MixtureSameFamily(Categorical(torch.ones(4, dtype=D)), parts).log_prob(latent)
    found = prior.log_density(latent, batch_of(np.ones((1, 7))), encoder)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), latent, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), latent)[0])
    (gradient,) = torch.autograd.grad(found.sum(), prior.pseudo_inputs)
    inside = (prior.pseudo_inputs > 0) & (prior.pseudo_inputs < 1)
    assert (gradient[inside] != 0).all()
    assert (gradient[~inside] == 0).all()


def test_pseudo_inputs_start_as_in_the_authors_code():
    start = VampPrior(400, 50, rng()).pseudo_inputs.detach()
    assert float(start.mean()) == pytest.approx(0.05, abs=5 * 0.01 / 20_000**0.5)
    assert float(start.std()) == pytest.approx(0.01, rel=0.05)
