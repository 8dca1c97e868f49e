"""MacridVAE: its loss by hand, draws, the likelihood in parts, one concept, what a code means."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Gumbel, Normal, kl_divergence

from recsys.models import MacridVAE
from recsys.nn import disentangled
from recsys.nn.disentangled import log_add_exp, log_sum_exp, mixture_nll
from recsys.nn.layers import standard_gumbel
from recsys.nn.losses import MultinomialNLL
from recsys.nn.variational import GaussianEncoder, TanhLayers
from recsys.sparse import DenseRows, Rows
from tests.contract import batch_of, cells_of, csr, random_cells, ratings

N_USERS, N_ITEMS, K, D = 14, 11, 3, 5
CELLS = cells_of(ratings(n_users=N_USERS, n_items=N_ITEMS, density=0.35))
CELLS[3] = np.nan  # a user of whom nothing is known
MATRIX = csr(CELLS)
TINY = {"concepts": K, "hidden": 6, "latent": D, "epochs": 3, "batch_size": 5, "temperature": 0.4, "prior_scale": 0.3}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def network_of(model, seed=1):
    """Its network with all parameters off their start."""
    network, generator = model._network(N_ITEMS, rng()), rng(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


def by_hand(network, target, log_concepts, epsilon, beta):
    """The loss of one user, entry by entry: `epsilon` (K, d) is the noise of the codes."""
    tau, sigma = network.temperature, torch.tensor(network.prior_scale, dtype=torch.float64)
    items = [row / row.norm() for row in network.items]
    mixed = torch.zeros(N_ITEMS, dtype=torch.float64)
    kl = torch.zeros((), dtype=torch.float64)
    for k in range(K):
        shares = log_concepts[:, k].exp()
        row = target * shares
        length = row.norm() if row.any() else 1.0
        hidden = torch.tanh(row @ network.input.weight / length + network.input.bias)
        both = network.posterior_layer.layer(hidden)
        mean, deviation = both[:D] / both[:D].norm(), sigma * (0.5 * both[D:]).exp()
        code = mean + epsilon[k] * deviation
        kl = kl + kl_divergence(Normal(mean, deviation), Normal(0.0 * sigma, sigma)).sum() - 0.5 / sigma**2
        cosines = torch.stack([item @ code / code.norm() for item in items])
        mixed = mixed + shares * (cosines / tau).exp()
    return -(target * (mixed / mixed.sum()).log()).sum() + beta * kl


def test_the_loss_and_its_gradients_are_those_written_out_user_by_user():
    model = MacridVAE(**TINY, dropout=0.0, beta=0.7, anneal_steps=4)
    network = network_of(model).double()
    batch = batch_of(CELLS)
    objective = model._objective(network, Rows(MATRIX))
    for step, beta in ((0, 0.0), (1, 0.175), (9, 0.7)):
        network.zero_grad()
        loss = objective(batch, step, rng(step))
        loss.total.backward()
        found = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
        network.zero_grad()
        noise = rng(step)
        log_concepts = network.log_concepts(noise)
        epsilon = torch.randn(K * N_USERS, D, generator=noise, dtype=torch.float64).view(K, N_USERS, D)
        targets = torch.from_numpy(np.nan_to_num(CELLS))
        expected = sum(by_hand(network, targets[u], log_concepts, epsilon[:, u], beta) for u in range(N_USERS))
        torch.testing.assert_close(loss.total, expected)
        torch.testing.assert_close(loss.total, loss.parts["nll"] + beta * loss.parts["kl"])
        assert loss.count == N_USERS
        expected.backward()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad)


def test_shares_are_a_softmax_of_cosines_and_training_draws_from_them():
    network = network_of(MacridVAE(**TINY))
    cosines = F.cosine_similarity(network.items[:, None], network.prototypes[None], dim=2)
    torch.testing.assert_close(network.log_concepts(), (cosines / 0.4).log_softmax(1))
    noise, draws = rng(2), torch.zeros(N_ITEMS, K)
    with torch.no_grad():
        for _ in range(4000):
            drawn = network.log_concepts(noise)
            draws[torch.arange(N_ITEMS), drawn.argmax(1)] += 1
            torch.testing.assert_close(drawn.exp().sum(1), torch.ones(N_ITEMS))
    # The largest of a relaxed draw is the one-hot draw itself (Maddison et al. 2017): chosen with the shares.
    torch.testing.assert_close(draws / 4000, network.log_concepts().exp().detach(), rtol=0, atol=0.035)
    assert drawn.exp().max(1).values.min() < 0.99  # relaxed, not one-hot


def test_gumbel_noise_has_its_moments():
    values = standard_gumbel(torch.empty(400, 500), rng())
    assert values.isfinite().all()
    reference = Gumbel(0.0, 1.0)
    assert values.mean() == pytest.approx(reference.mean.item(), abs=0.01)
    assert values.std() == pytest.approx(reference.stddev.item(), abs=0.01)


def leaves(rng_, n_rows, n_columns, width, concepts):
    shapes = (concepts * n_rows, width), (n_columns, width), (n_columns, concepts)
    return [torch.from_numpy(rng_.normal(size=shape)).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("block", [1, 2**20])
@pytest.mark.parametrize("memory", [2**30, 7 * 8 * 400])
def test_the_likelihood_of_the_mixture_in_blocks_and_in_parts(monkeypatch, block, memory):
    """400 columns make several blocks of 128, and parts of 7 rows cut through the concepts."""
    monkeypatch.setattr(disentangled, "_BLOCK", block)
    generator = np.random.default_rng(3)
    cells = random_cells(generator, 9, 400, 0.1, counts=True)
    latent, vectors, logs = leaves(generator, 9, 400, 4, 3)
    batch = batch_of(cells)
    found = mixture_nll(
        latent, vectors, logs, batch, batch.copies(torch.ones(3, 400, dtype=torch.float64)), memory=memory
    )
    gradients = torch.autograd.grad(found, (latent, vectors, logs))
    logits = latent.view(3, 9, 4) @ vectors.T + logs.T[:, None]
    chances = logits.exp().sum(0) / logits.exp().sum((0, 2))[:, None]
    expected = -(torch.from_numpy(np.nan_to_num(cells)) * chances.log()).sum()
    torch.testing.assert_close(found, expected)
    for one, other in zip(gradients, torch.autograd.grad(expected, (latent, vectors, logs)), strict=True):
        torch.testing.assert_close(one, other)


def test_large_logits_do_not_overflow():
    hidden, weight = torch.tensor([[300.0], [-300.0]]), torch.tensor([[1.0], [2.0]])
    torch.testing.assert_close(log_sum_exp(hidden, weight), torch.tensor([600.0, -300.0]))
    left, right = torch.tensor([700.0, -700.0, 1.0]), torch.tensor([0.0, -690.0, 1.0])
    torch.testing.assert_close(log_add_exp(left, right), torch.logaddexp(left, right))


def test_copies_are_the_rows_times_each_row_of_factors():
    cells = random_cells(np.random.default_rng(5), 6, 8, 0.4)
    factors = torch.rand(3, 8, generator=rng(), dtype=torch.float64)
    batch = batch_of(cells)
    copies = batch.copies(factors)
    wanted = np.concatenate([cells * row.numpy() for row in factors])
    again = batch_of(wanted)
    for name in ("offsets", "columns", "segments"):
        assert torch.equal(getattr(copies, name), getattr(again, name)), name
    torch.testing.assert_close(copies.values, again.values)
    assert len(copies) == 18
    dense = DenseRows(torch.from_numpy(np.nan_to_num(cells))).copies(factors)
    torch.testing.assert_close(dense.values, torch.from_numpy(np.nan_to_num(wanted)))


def test_with_one_concept_it_is_a_vae_of_cosines():
    """The encoder of VAE with a mean of length 1, the multinomial likelihood of z Hᵀ / τ: to the same gradients."""
    model = MacridVAE(**{**TINY, "concepts": 1}, dropout=0.4, beta=0.5, anneal_steps=0)
    network, batch = network_of(model), Rows(MATRIX).slice(0, N_USERS)
    encoder = GaussianEncoder(N_ITEMS, TanhLayers([6], rng()), D, 0.4, rng())
    encoder.load_state_dict(
        {name: value for name, value in network.state_dict().items() if name in encoder.state_dict()}
    )
    items = network.items.detach().clone().requires_grad_()
    noise = rng(8)
    standard_gumbel(torch.empty(N_ITEMS, 1), noise)  # the draw of a concept, of which there is one
    mean, log_ratio = encoder(batch, noise)
    deviation = 0.3 * (0.5 * log_ratio).exp()
    latent = F.normalize(F.normalize(mean) + deviation * torch.randn(mean.shape, generator=noise))
    expected = MultinomialNLL()(latent, F.normalize(items) / 0.4, torch.zeros(N_ITEMS), batch)
    kl = kl_divergence(Normal(F.normalize(mean), deviation), Normal(0.0, 0.3)).sum() - N_USERS * 0.5 / 0.3**2
    (expected + 0.5 * kl).backward()
    loss = model._objective(network, Rows(MATRIX))(batch, 0, rng(8))
    loss.total.backward()
    torch.testing.assert_close(loss.total, expected + 0.5 * kl)
    torch.testing.assert_close(network.items.grad, items.grad)
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(dict(network.named_parameters())[name].grad, parameter.grad)
    assert not network.prototypes.grad.any()  # there is nothing to choose


def test_scores_are_the_mixture_at_the_means_without_any_draw():
    model = MacridVAE(**TINY).fit(MATRIX, show_progress=False)
    ids, scores = model.recommend(np.arange(N_USERS), MATRIX, N=N_ITEMS, filter_already_liked_items=False)
    network, counts = model.network_.double(), torch.from_numpy(np.nan_to_num(CELLS))
    known = [user for user in range(N_USERS) if user != 3]
    with torch.no_grad():
        shares = network.log_concepts().exp()
        mixed = torch.zeros(N_USERS, N_ITEMS, dtype=torch.float64)
        for k in range(K):
            first = F.normalize(counts * shares[:, k]) @ network.input.weight + network.input.bias
            mean = network.posterior_layer.layer(torch.tanh(first))[:, :D]
            mixed += shares[:, k] * (F.cosine_similarity(mean[:, None], network.items[None], dim=2) / 0.4).exp()
    found = np.empty((N_USERS, N_ITEMS))
    np.put_along_axis(found, ids.astype(np.int64), scores, axis=1)
    np.testing.assert_allclose(found[known], mixed.log().numpy()[known], atol=1e-5)


def test_a_code_has_a_mean_of_length_one_for_each_concept():
    model = MacridVAE(**TINY).fit(MATRIX, show_progress=False)
    codes = model.encode(MATRIX)
    assert codes.shape == (N_USERS, K * D)
    np.testing.assert_allclose(np.linalg.norm(codes.reshape(N_USERS, K, D), axis=2), 1.0, rtol=1e-5)


def test_memory_counts_the_logits_of_every_concept():
    one, four = (MacridVAE(concepts=k).memory_needed(MATRIX).bytes for k in (1, 4))
    prototypes = 3 * 100 * 4 * 5  # weights, the best so far, gradient, two moments
    assert four - one == 3 * 500 * N_ITEMS * 4 + prototypes
