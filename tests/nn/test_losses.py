"""Losses against dense autograd: values and all gradients, in both precisions, dense and sampled."""

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recsys.nn import products
from recsys.nn.losses import (
    MultinomialNLL,
    bernoulli_nll,
    gaussian_kl,
    likelihood,
    masked_squared_error,
)
from recsys.nn.products import stored_products
from tests.contract import batch_of, random_cells

PATHS = {"dense": -1.0, "sampled": 2.0}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}

problems = st.tuples(
    st.integers(1, 7), st.integers(1, 9), st.integers(1, 5), st.sampled_from([0.0, 0.15, 0.5, 1.0]), st.integers(0, 999)
)


def through(path):
    """Use one of the two paths for products, at any density."""
    return mock.patch.dict(products.DENSE_ABOVE, cpu=PATHS[path])


def problem(n_rows, n_columns, width, density, seed, *, counts=False):
    """Cells, and hidden, weight and bias as float64 leaves."""
    rng = np.random.default_rng(seed)
    cells = random_cells(rng, n_rows, n_columns, density, counts=counts)
    shapes = ((n_rows, width), (n_columns, width), (n_columns,))
    return cells, [torch.from_numpy(rng.normal(size=shape)).requires_grad_() for shape in shapes]


def dense_squared_error(hidden, weight, bias, cells, unobserved_weight=0.0):
    predicted = hidden @ weight.T + bias
    stored = torch.from_numpy(~np.isnan(cells))
    errors = (torch.from_numpy(np.nan_to_num(cells)).to(predicted.dtype) - predicted).square()
    return errors[stored].sum() + unobserved_weight * predicted.square()[~stored].sum()


def dense_nll(hidden, weight, bias, cells):
    targets = torch.from_numpy(np.nan_to_num(cells)).to(hidden.dtype)
    return -(targets * torch.log_softmax(hidden @ weight.T + bias, dim=1)).sum()


def value_and_gradients(loss, leaves, dtype=torch.float64):
    leaves = [leaf.detach().to(dtype).requires_grad_() for leaf in leaves]
    value = loss(*leaves)
    # The loss is scaled, as in the training loop, which divides by the number of rows.
    gradients = torch.autograd.grad(0.5 * value, leaves)
    return [value.detach(), *gradients]


def agree(found, expected, dtype):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        scale = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(one.double(), other.double(), rtol=0.0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("path", PATHS)
@given(drawn=problems, unobserved_weight=st.sampled_from([0.0, 0.05, 1.0]))
@example(drawn=(3, 4, 2, 0.0, 0), unobserved_weight=0.0)
@example(drawn=(3, 4, 2, 0.0, 0), unobserved_weight=0.3)
@settings(max_examples=40, deadline=None)
def test_squared_error_equals_dense_autograd(path, dtype, drawn, unobserved_weight):
    cells, leaves = problem(*drawn)
    batch = batch_of(cells, dtype)
    with through(path):
        found = value_and_gradients(
            lambda h, w, b: masked_squared_error(h, w, b, batch, unobserved_weight), leaves, dtype
        )
    rounded = np.where(np.isnan(cells), np.nan, cells.astype(np.float32)) if dtype == torch.float32 else cells
    expected = value_and_gradients(lambda h, w, b: dense_squared_error(h, w, b, rounded, unobserved_weight), leaves)
    agree(found, expected, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@given(drawn=problems, width=st.sampled_from([None, 1, 2, 3, 5]))
@example(drawn=(3, 4, 2, 0.0, 0), width=3)
@settings(max_examples=60, deadline=None)
def test_multinomial_likelihood_equals_dense_autograd(dtype, drawn, width):
    cells, leaves = problem(*drawn, counts=True)
    batch = batch_of(cells, dtype)
    found = value_and_gradients(lambda h, w, b: MultinomialNLL(width=width)(h, w, b, batch), leaves, dtype)
    agree(found, value_and_gradients(lambda h, w, b: dense_nll(h, w, b, cells), leaves), dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@given(drawn=problems, width=st.sampled_from([None, 1, 2, 3, 5]))
@example(drawn=(3, 4, 2, 0.0, 0), width=3)
@settings(max_examples=60, deadline=None)
def test_bernoulli_likelihood_equals_dense_autograd(dtype, drawn, width):
    cells, leaves = problem(*drawn, counts=True)
    cells = cells / 3.0  # probabilities, including 0 and 1
    rounded = np.where(np.isnan(cells), np.nan, cells.astype(np.float32)) if dtype == torch.float32 else cells
    batch = batch_of(cells, dtype)

    def dense(hidden, weight, bias):
        target = torch.from_numpy(np.nan_to_num(rounded, nan=0.0))
        logits = hidden @ weight.T + bias
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")

    found = value_and_gradients(lambda h, w, b: bernoulli_nll(h, w, b, batch, width), leaves, dtype)
    agree(found, value_and_gradients(dense, leaves), dtype)


def test_bernoulli_gradient_is_added_to_an_existing_one():
    cells, leaves = problem(4, 6, 3, 0.5, 3, counts=True)
    batch = batch_of(cells / 3.0)
    hidden, weight, bias = (leaf.detach().clone().requires_grad_() for leaf in leaves)
    weight.gradient_buffer = torch.empty_like(weight)
    for _ in range(2):
        (2.0 * bernoulli_nll(hidden, weight, bias, batch, 2)).backward()
    plain = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    (4.0 * bernoulli_nll(*plain, batch, 2)).backward()
    for one, other in zip((hidden, weight, bias), plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize(("name", "expected"), [("multinomial", None), ("bernoulli", None), ("gaussian", 0.5)])
def test_likelihoods_by_name(name, expected):
    cells, leaves = problem(4, 6, 3, 0.5, 4, counts=True)
    batch, arguments = batch_of(cells / 3.0), [leaf.detach() for leaf in leaves]
    found = likelihood(name, 0.3)(*arguments, batch)
    whole = {
        "multinomial": MultinomialNLL(),
        "bernoulli": bernoulli_nll,
        "gaussian": lambda *given: 0.5 * masked_squared_error(*given, 0.3),
    }
    assert float(found) == float(whole[name](*arguments, batch))


def test_multinomial_likelihood_by_hand():
    # Two items with logits 0 and ln 3, so probabilities 1/4 and 3/4; counts 2 and 1.
    hidden, weight, bias = torch.zeros(1, 1), torch.zeros(2, 1), torch.tensor([1.0, 3.0]).log()
    loss = MultinomialNLL()(hidden, weight, bias, batch_of([[2.0, 1.0]], torch.float32))
    assert float(loss) == pytest.approx(2 * np.log(4) + np.log(4 / 3), rel=1e-6)


def test_multinomial_likelihood_of_huge_logits_is_finite():
    cells, leaves = problem(4, 6, 3, 0.8, 1, counts=True)
    leaves[0] = leaves[0].detach() * 1e3
    batch = batch_of(cells)
    found = value_and_gradients(lambda h, w, b: MultinomialNLL()(h, w, b, batch), leaves)
    expected = value_and_gradients(lambda h, w, b: dense_nll(h, w, b, cells), leaves)
    assert float(leaves[0].abs().max()) > 800  # exp would overflow
    agree(found, expected, torch.float64)


@pytest.mark.parametrize("path", PATHS)
def test_squared_error_by_a_loop_over_cells(path):
    cells, leaves = problem(5, 6, 3, 0.4, 2)
    hidden, weight, bias = (leaf.detach() for leaf in leaves)
    by_loop = 0.0
    for row in range(5):
        for column in range(6):
            predicted = float(hidden[row] @ weight[column] + bias[column])
            missing = np.isnan(cells[row, column])
            by_loop += 0.3 * predicted**2 if missing else (cells[row, column] - predicted) ** 2
    with through(path):
        loss = masked_squared_error(hidden, weight, bias, batch_of(cells), unobserved_weight=0.3)
    assert float(loss) == pytest.approx(by_loop, rel=1e-12)


@pytest.mark.parametrize("path", PATHS)
@given(drawn=problems, where=st.integers(0, 62))
@settings(max_examples=40, deadline=None)
def test_a_stored_zero_counts_as_an_error(path, drawn, where):
    cells, leaves = problem(*drawn)
    hidden, weight, bias = (leaf.detach() for leaf in leaves)
    row, column = np.unravel_index(where % cells.size, cells.shape)
    without, with_zero = cells.copy(), cells.copy()
    without[row, column], with_zero[row, column] = np.nan, 0.0
    predicted = hidden[row] @ weight[column] + bias[column]
    with through(path):
        less = masked_squared_error(hidden, weight, bias, batch_of(without))
        more = masked_squared_error(hidden, weight, bias, batch_of(with_zero))
    torch.testing.assert_close(more - less, predicted.square(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
@given(drawn=problems, column=st.integers(0, 8))
@settings(max_examples=40, deadline=None)
def test_a_column_without_entries_changes_neither_loss_nor_gradient(path, drawn, column):
    cells, leaves = problem(*drawn)
    column %= cells.shape[1]
    cells[:, column] = np.nan
    moved = [leaf.detach().clone() for leaf in leaves]
    moved[1][column] += 7.0
    moved[2][column] -= 3.0
    batch = batch_of(cells)
    with through(path):
        before = value_and_gradients(lambda h, w, b: masked_squared_error(h, w, b, batch), leaves)
        after = value_and_gradients(lambda h, w, b: masked_squared_error(h, w, b, batch), moved)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-12)
    assert not before[2][column].any()
    assert not before[3][column].any()


@pytest.mark.parametrize("path", PATHS)
def test_squared_error_passes_gradcheck(path):
    cells, leaves = problem(4, 5, 3, 0.5, 3)
    batch = batch_of(cells)
    with through(path):
        assert torch.autograd.gradcheck(lambda h, w, b: masked_squared_error(h, w, b, batch, 0.2), leaves)
        assert torch.autograd.gradcheck(lambda h, w, b: stored_products(h, w, b, batch), leaves)


def test_multinomial_likelihood_and_divergence_pass_gradcheck():
    cells, leaves = problem(4, 5, 3, 0.5, 4, counts=True)
    batch = batch_of(cells)
    assert torch.autograd.gradcheck(lambda h, w, b: MultinomialNLL()(h, w, b, batch), leaves)
    assert torch.autograd.gradcheck(gaussian_kl, [leaves[0], leaves[0].detach().flip(0).requires_grad_()])


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_a_frozen_leaf_does_not_change_the_other_gradients(frozen):
    cells, leaves = problem(4, 5, 3, 0.5, 5, counts=True)
    batch = batch_of(cells)
    for loss in (masked_squared_error, MultinomialNLL()):
        full = torch.autograd.grad(loss(*leaves, batch), leaves)
        some = [leaf.detach() if place == frozen else leaf for place, leaf in enumerate(leaves)]
        asked = [leaf for leaf in some if leaf.requires_grad]
        partly = torch.autograd.grad(loss(*some, batch), asked)
        for one, other in zip(partly, [g for place, g in enumerate(full) if place != frozen], strict=True):
            torch.testing.assert_close(one, other, rtol=0.0, atol=0.0)


def test_the_density_chooses_the_path():
    with (
        mock.patch.object(products, "_DenseProducts") as dense,
        mock.patch.object(products, "sampled_products") as sampled,
    ):
        for product in (dense.apply, sampled):
            product.side_effect = lambda hidden, weight, batch: hidden.new_zeros(len(batch.columns))
        leaves = torch.zeros(1, 2), torch.zeros(1000, 2), torch.zeros(1000)
        cells = np.full((1, 1000), np.nan)
        cells[0, : int(1000 * products.DENSE_ABOVE["cpu"])] = 1.0
        stored_products(*leaves, batch_of(cells, torch.float32))
        assert (dense.apply.call_count, sampled.call_count) == (0, 1)
        cells[0, int(1000 * products.DENSE_ABOVE["cpu"])] = 1.0
        stored_products(*leaves, batch_of(cells, torch.float32))
        assert (dense.apply.call_count, sampled.call_count) == (1, 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@given(drawn=problems, rows_at_once=st.integers(1, 4), width=st.sampled_from([None, 2]))
@settings(max_examples=40, deadline=None)
def test_a_likelihood_in_parts_equals_the_whole(dtype, drawn, rows_at_once, width):
    cells, leaves = problem(*drawn, counts=True)
    batch = batch_of(cells, dtype)
    size = torch.empty((), dtype=dtype).element_size()
    in_parts = MultinomialNLL(memory=rows_at_once * cells.shape[1] * size, width=width)
    found = value_and_gradients(lambda h, w, b: in_parts(h, w, b, batch), leaves, dtype)
    agree(found, value_and_gradients(lambda h, w, b: dense_nll(h, w, b, cells), leaves), dtype)


def test_memory_is_reused_and_two_losses_before_a_backward_do_not_share_it():
    cells, leaves = problem(4, 5, 3, 0.5, 7, counts=True)
    batch, nll = batch_of(cells), MultinomialNLL()
    (alone,) = torch.autograd.grad(nll(*leaves, batch), leaves[1])
    kept = nll._free
    (again,) = torch.autograd.grad(nll(*leaves, batch), leaves[1])
    assert nll._free is kept
    first, second = nll(*leaves, batch), nll(2 * leaves[0], leaves[1], leaves[2], batch)
    (both,) = torch.autograd.grad(first + 0 * second, leaves[1])
    assert torch.equal(alone, again)
    torch.testing.assert_close(both, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
def test_gradients_into_kept_buffers_are_those_of_autograd(path):
    cells, leaves = problem(6, 8, 3, 0.4, 8, counts=True)
    batch, nll = batch_of(cells), MultinomialNLL()

    def gradients(parameters):
        hidden, weight, bias = parameters
        for parameter in parameters:
            parameter.grad = None
        with through(path):
            # Two losses share one weight: the second gradient is added to the first.
            (nll(hidden, weight, bias, batch) + 3 * masked_squared_error(hidden, weight, bias, batch, 0.2)).backward()
        return [parameter.grad.clone() for parameter in parameters]

    ordinary = gradients(leaves)
    leaves[1].gradient_buffer = torch.full_like(leaves[1], torch.nan)
    for _ in range(2):
        for one, other in zip(gradients(leaves), ordinary, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        assert leaves[1].grad is leaves[1].gradient_buffer


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@given(n_rows=st.integers(1, 5), width=st.integers(1, 6), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_divergence_equals_that_of_torch_distributions(dtype, n_rows, width, seed):
    rng = np.random.default_rng(seed)
    leaves = [torch.from_numpy(rng.normal(size=(n_rows, width))) for _ in range(2)]

    def reference(mean, log_variance):
        standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
        posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
        return torch.distributions.kl_divergence(posterior, standard).sum(1)

    found = gaussian_kl(*(leaf.to(dtype) for leaf in leaves))
    assert found.shape == (n_rows,)
    agree([found], [reference(*leaves)], dtype)
    agree(
        value_and_gradients(lambda m, v: gaussian_kl(m, v).sum(), leaves, dtype),
        value_and_gradients(lambda m, v: reference(m, v).sum(), leaves),
        dtype,
    )


def test_inputs_are_not_changed():
    cells, leaves = problem(4, 5, 3, 0.5, 6, counts=True)
    batch = batch_of(cells)
    before = [tensor.detach().clone() for tensor in (*leaves, batch.values, batch.columns, batch.offsets)]
    for loss in (masked_squared_error, MultinomialNLL()):
        loss(*leaves, batch).backward()
    for kept, tensor in zip(before, (*leaves, batch.values, batch.columns, batch.offsets), strict=True):
        assert torch.equal(kept, tensor.detach())
