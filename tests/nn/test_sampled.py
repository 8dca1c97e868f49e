"""The sampled softmax against the whole one: its sum without bias, its gradients, and rows that nothing touches."""

import numpy as np
import pytest
import torch

from recsys.nn.lazy import make_lazy, read_rows, rows_of
from recsys.nn.losses import MultinomialNLL
from recsys.nn.products import weighted_rows
from recsys.nn.sampled import Negatives, SampledMultinomialNLL
from tests.contract import batch_of, random_cells

N_ROWS, N_ITEMS, WIDTH = 12, 30, 5


@pytest.fixture
def batch():
    return batch_of(random_cells(np.random.default_rng(0), N_ROWS, N_ITEMS, 0.3, counts=True))


@pytest.fixture
def layer():
    noise = torch.Generator().manual_seed(1)
    shapes = (N_ROWS, WIDTH), (N_ITEMS, WIDTH), (N_ITEMS,)
    return [torch.randn(shape, generator=noise, dtype=torch.float64, requires_grad=True) for shape in shapes]


def counts_of(batch):
    return torch.bincount(batch.columns, minlength=N_ITEMS).double()


def estimate(batch, how, number):
    return SampledMultinomialNLL(Negatives(counts_of(batch), how, number))


@pytest.mark.parametrize("how", ["popularity", "uniform"])
def test_the_sum_over_items_is_estimated_without_bias(batch, how):
    """Mean of the weights of an item over many draws: 1 for each item, within four standard errors."""
    negatives, noise = Negatives(counts_of(batch), how, 8), torch.Generator().manual_seed(0)
    total, squares, draws = torch.zeros(N_ITEMS), torch.zeros(N_ITEMS), 4000
    for _ in range(draws):
        items, log_weight = negatives.draw(batch, noise)
        assert (items.diff() > 0).all()
        total[items] += log_weight.exp()
        squares[items] += log_weight.exp().square()
    mean = total / draws
    error = ((squares / draws - mean.square()) / draws).sqrt()
    assert ((mean - 1.0).abs() < 4.0 * error).all()


def test_entries_of_batches_are_drawn_without_bias_over_the_batches():
    """Rows of equally many entries: the mean over draws of all batches of two rows."""
    cells = np.full((4, 8), np.nan)
    for row, columns in enumerate([(0, 1, 2), (0, 1, 3), (0, 4, 5), (5, 6, 7)]):
        cells[row, columns] = 1.0
    whole, noise, total, draws = batch_of(cells), torch.Generator().manual_seed(0), torch.zeros(8), 6000
    negatives = Negatives(torch.bincount(whole.columns, minlength=8).double(), "batch", 3)
    batches = [batch_of(cells[[a, b]]) for a in range(4) for b in range(a)]
    for number in range(draws):
        items, log_weight = negatives.draw(batches[number % 6], noise)
        total[items] += log_weight.exp()
    torch.testing.assert_close(total / draws, torch.ones(8), rtol=0, atol=0.1)


@pytest.mark.parametrize(("how", "far"), [("popularity", 0.03), ("uniform", 0.03), ("batch", 0.06)])
def test_with_many_draws_loss_and_gradients_are_those_of_the_softmax(batch, layer, how, far):
    hidden, weight, bias = layer
    exact = MultinomialNLL()(hidden, weight, bias, batch)
    expected = torch.autograd.grad(exact, layer)
    if how == "batch":  # what no row of the batch holds is not drawn
        bias.data[counts_of(batch) == 0] = -30.0
        exact = MultinomialNLL()(hidden, weight, bias, batch)
        expected = torch.autograd.grad(exact, layer)
    loss = estimate(batch, how, 200_000)(hidden, weight, bias, batch, torch.Generator().manual_seed(0))
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=0.01)
    for found, right in zip(torch.autograd.grad(loss, layer), expected, strict=True):
        assert (found - right).norm() < far * right.norm()


def test_one_draw_is_the_estimate_by_hand(batch, layer):
    hidden, weight, bias = layer
    negatives = Negatives(counts_of(batch), "popularity", 7)
    items, log_weight = negatives.draw(batch, torch.Generator().manual_seed(3))
    logits = (hidden @ weight.T + bias).detach()
    expected = 0.0
    for row in range(N_ROWS):
        own = batch.columns[batch.segments == row]
        values = batch.values[batch.segments == row]
        others = [k for k, item in enumerate(items.tolist()) if item not in own.tolist()]
        total = logits[row, own].exp().sum() + (logits[row, items[others]] + log_weight[others]).exp().sum()
        expected += float(values.sum() * total.log() - values.dot(logits[row, own]))
    loss = SampledMultinomialNLL(negatives)(hidden, weight, bias, batch, torch.Generator().manual_seed(3))
    assert float(loss.detach()) == pytest.approx(expected)


def test_gradients_of_lazy_tables_are_sparse_and_the_same(batch, layer):
    hidden, weight, bias = layer
    loss = estimate(batch, "popularity", 6)
    loss(hidden, weight, bias, batch, torch.Generator().manual_seed(0)).backward()
    dense = [weight.grad, bias.grad]
    weight.grad = bias.grad = None
    make_lazy([weight, bias])
    loss(hidden, weight, bias, batch, torch.Generator().manual_seed(0)).backward()
    for table, expected in zip((weight, bias), dense, strict=True):
        assert table.grad.is_sparse
        torch.testing.assert_close(table.grad.to_dense(), expected)


def test_the_first_layer_reads_its_rows_alone(batch, layer):
    _, table, _ = layer
    expected = weighted_rows(table, batch, batch.values)
    expected.square().sum().backward()
    dense, table.grad = table.grad, None
    make_lazy([table])
    found = weighted_rows(table, batch, batch.values)
    found.square().sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(table.grad.to_dense(), dense)
    assert table.grad.coalesce().indices()[0].tolist() == sorted(set(batch.columns.tolist()))
    with torch.no_grad():
        assert read_rows(table, batch) == (table, batch)


def test_rows_without_entries_have_no_loss_and_gradients_of_no_rows(layer):
    hidden, weight, bias = layer
    empty = batch_of(np.full((N_ROWS, N_ITEMS), np.nan))
    make_lazy([weight, bias])
    for how in ("popularity", "batch"):
        rows = weighted_rows(weight, empty, empty.values)
        loss = estimate(empty, how, 4)(hidden, weight, bias, empty, torch.Generator().manual_seed(0)) + rows.sum()
        loss.backward()
        assert float(loss.detach()) == 0.0
    assert not weight.grad.to_dense().any()
    assert rows_of(weight, torch.tensor([1, 4])).shape == (2, WIDTH)
