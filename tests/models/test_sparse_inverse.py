"""The sparse inverse factor against the Cholesky factor, its own optimality, and its budget."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recsys.models.sansa import inverse_factor
from tests.contract import ratings

X = ratings(n_users=40, n_items=30, density=0.12).astype(np.float64)
A = (X.T @ X).toarray() + 3.0 * np.eye(30)
SPARSE = sp.csr_matrix(A)
INVERSE = np.linalg.inv(A)


def factor_of(n_entries, matrix=SPARSE):
    return inverse_factor(matrix, n_entries)


def test_with_all_places_it_is_the_inverse_of_the_cholesky_factor():
    assert SPARSE.nnz < 900  # places that A leaves empty are filled too
    for n_entries in (465, 900):
        found = factor_of(n_entries).toarray()
        np.testing.assert_allclose(found, np.linalg.inv(np.linalg.cholesky(A)), rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.T @ found, INVERSE, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_entries", [40, 90, 200])
def test_in_its_places_no_triangle_is_better(n_entries):
    """The gradient of tr(GᵀG A) − 2 Σ log g_ii vanishes there, and its lengths are those of whitened rows."""
    found = factor_of(n_entries)
    there = found.toarray() != 0
    assert not np.triu(there, 1).any()
    assert there.diagonal().all()
    values = torch.from_numpy(found.toarray()).requires_grad_()
    objective = (values.T @ values @ torch.from_numpy(A)).trace() - 2 * values.diagonal().log().sum()
    (gradient,) = torch.autograd.grad(objective, values)
    assert gradient[torch.from_numpy(there)].abs().max() < 1e-10
    assert gradient[torch.from_numpy(np.tril(~there))].abs().max() > 1e-3  # only the places bind
    np.testing.assert_allclose((found @ A @ found.T).diagonal(), 1.0, rtol=1e-12)


def test_it_keeps_to_its_budget_and_more_entries_are_nearer():
    errors = []
    for n_entries in (30, 60, 120, 240, 465):
        found = factor_of(n_entries)
        assert found.nnz <= n_entries
        assert found.nnz >= min(n_entries, 0.8 * SPARSE.nnz / 2)
        errors.append(np.linalg.norm((found.T @ found).toarray() - INVERSE))
    assert all(after < 0.9 * before for before, after in pairwise(errors))
    assert errors[-1] < 1e-12


@pytest.mark.parametrize("n_entries", [1, 30])
def test_with_the_diagonal_alone_it_is_the_diagonal(n_entries):
    np.testing.assert_allclose(factor_of(n_entries).toarray(), np.diag(A.diagonal() ** -0.5), rtol=1e-12)


def test_entries_are_chosen_by_what_they_explain_beside_others():
    """The first and third of a chain correlate by way of the second alone, more than two others do with each other."""
    correlations = np.eye(5)
    for one, other, value in ((1, 0, 0.95), (2, 1, 0.95), (2, 0, 0.95**2), (4, 3, 0.5)):
        correlations[one, other] = correlations[other, one] = value
    found = factor_of(5 + 3, sp.csr_matrix(correlations))
    assert set(zip(*np.nonzero(np.tril(found.toarray(), -1)), strict=True)) == {(1, 0), (2, 1), (4, 3)}
    np.testing.assert_allclose((found.T @ found).toarray(), np.linalg.inv(correlations), rtol=0, atol=1e-12)


def test_the_size_of_blocks_and_the_order_of_indices_change_nothing(monkeypatch):
    expected = factor_of(120).toarray()
    shuffled = sp.csr_matrix(SPARSE)
    for start, stop in pairwise(shuffled.indptr):
        shuffled.indices[start:stop] = shuffled.indices[start:stop][::-1].copy()
        shuffled.data[start:stop] = shuffled.data[start:stop][::-1].copy()
    shuffled.has_sorted_indices = False
    kept = shuffled.indices.copy()
    np.testing.assert_allclose(factor_of(120, shuffled).toarray(), expected, rtol=1e-12, atol=1e-15)
    assert np.array_equal(shuffled.indices, kept)
    for name, value in (("_BLOCK_VALUES", 1), ("_CORNER", 7)):
        monkeypatch.setattr(f"recsys.models.sansa.{name}", value)
        np.testing.assert_allclose(factor_of(120).toarray(), expected, rtol=1e-12, atol=1e-15)


def test_a_matrix_that_is_not_definite_is_refused():
    with pytest.raises(torch.linalg.LinAlgError):
        factor_of(9, sp.csr_matrix(np.ones((3, 3))))
