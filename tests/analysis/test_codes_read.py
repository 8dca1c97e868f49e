"""Plain codes and the decoders that read codes, against closed forms and other ways to the same figures."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA

from recsys.analysis.plain_codes import ISOMAP_USERS, plain_codes, unit_rows
from recsys.analysis.read_out import softmax_nll, unexplained
from recsys.analysis.reduction import neighbors_kept


def some_rows(users=120, items=25, seed=0):
    made = np.random.default_rng(seed).poisson(0.5, (users, items)).astype(np.float32)
    made[:, 0] += 1  # no empty row
    return sp.csr_matrix(made)


def all_codes(rows, dimensions, seed=0):
    return {(code.method, code.dimension): code for code in plain_codes(rows, dimensions, seed)}


def test_unit_rows_have_length_one_and_empty_ones_stay():
    rows = sp.csr_matrix(np.array([[3, 0, 4], [0, 0, 0]], np.float32))
    assert unit_rows(rows).toarray() == pytest.approx(np.array([[0.6, 0, 0.8], [0, 0, 0]]))


def test_plain_codes_are_those_of_scikit_learn_cut_to_the_dimension():
    rows = unit_rows(some_rows())
    codes = all_codes(rows, [2, 5])
    dense = rows.toarray().astype(np.float64)
    exact = PCA(5, svd_solver="full").fit(dense).transform(dense)
    for (method, dimension), code in codes.items():
        assert code.encode(rows).shape == (120, dimension)
        assert code.encode(rows) == pytest.approx(codes[method, 5].encode(rows)[:, :dimension])
    assert np.abs(codes["PCA", 5].encode(rows)) == pytest.approx(np.abs(exact), abs=1e-8)
    right = np.linalg.svd(dense)[2][:5]
    assert np.abs(codes["truncated SVD", 5].encode(rows)) == pytest.approx(np.abs(dense @ right.T), abs=1e-8)
    assert set(codes) == {(name, d) for name in ("PCA", "truncated SVD", "Isomap") for d in (2, 5)}


def test_isomap_unrolls_a_sheet():
    rng = np.random.default_rng(0)
    turn, across = 1.5 * np.pi * (1 + 2 * rng.random(600)), 21 * rng.random(600)
    sheet = sp.csr_matrix(np.column_stack([turn * np.cos(turn), across, turn * np.sin(turn)]))
    code = all_codes(sheet, [2])["Isomap", 2].encode(sheet)
    along = [max(abs(np.corrcoef(column, turn)[0, 1]) for column in code.T)]
    assert along[0] > 0.97


def test_dimensions_that_rows_cannot_have_are_left_out():
    codes = all_codes(unit_rows(some_rows(40, 6)), [2, 6, 40])
    assert {d for _, d in codes} == {2}
    assert all_codes(unit_rows(some_rows(40, 6)), [6]) == {}
    assert ISOMAP_USERS >= 1000
    few = all_codes(unit_rows(some_rows(30, 60)), [2, 25, 29])
    assert ("PCA", 29) in few
    assert ("Isomap", 29) not in few, "the geodesic distances of 30 points have no 29 positive eigenvalues"
    assert ("Isomap", 2) in few


def test_pca_leaves_its_residual_and_no_code_less():
    rows = unit_rows(some_rows())
    dense = rows.toarray().astype(np.float64)
    pca = PCA(4, svd_solver="full").fit(dense)
    code = pca.transform(dense)
    left = unexplained(code, rows, code, rows)
    assert left == pytest.approx(1 - pca.explained_variance_ratio_.sum(), abs=1e-6)
    turned = code @ np.random.default_rng(1).normal(size=(4, 4)) + 5
    assert unexplained(turned, rows, turned, rows) == pytest.approx(left, abs=1e-6)
    for other in (np.tanh(dense[:, :4]), dense @ np.random.default_rng(2).normal(size=(25, 4)), dense[:, :4] ** 2):
        assert unexplained(other, rows, other, rows) > left


def test_the_affine_read_out_is_least_squares_on_training_users():
    rows, others = unit_rows(some_rows()), unit_rows(some_rows(30, seed=1))
    code, of = (np.tanh(part.toarray()[:, :3]).astype(np.float64) for part in (rows, others))
    whole = np.column_stack([code, np.ones(len(code))])
    weight = np.linalg.lstsq(whole, rows.toarray().astype(np.float64), rcond=None)[0]
    error = others.toarray() - np.column_stack([of, np.ones(len(of))]) @ weight
    centered = others.toarray() - rows.toarray().mean(0)
    assert unexplained(code, rows, of, others) == pytest.approx(np.square(error).sum() / np.square(centered).sum())
    doubled = [np.column_stack([part, part[:, 0]]) for part in (code, of)]  # a direction that says nothing
    assert unexplained(doubled[0], rows, doubled[1], others) == pytest.approx(unexplained(code, rows, of, others))


def test_the_softmax_finds_the_shares_of_groups_that_the_code_names():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(8), size=2)
    group = rng.integers(2, size=400)
    rows = sp.csr_matrix(np.stack([rng.multinomial(40, shares[g]) for g in group]).astype(np.float32))
    code = np.column_stack([np.eye(2)[group], np.zeros(400)])
    nll, further = softmax_nll(code, rows, code, [rows, 2 * rows], seed=0)
    assert nll.shape == (400,)
    assert further == pytest.approx(2 * nll)
    exact = -(rows.toarray() * np.log(shares[group])).sum(1)
    assert nll.sum() == pytest.approx(exact.sum(), rel=0.003)
    assert nll == pytest.approx(exact, rel=0.1)


def test_a_softmax_of_a_code_without_meaning_is_that_of_popularity():
    rows = some_rows(200)
    noise = np.random.default_rng(0).normal(size=(200, 2))
    (nll,) = softmax_nll(noise, rows, noise, [rows], seed=0)
    popular = np.asarray(rows.sum(0)).ravel() / rows.sum()
    assert nll.sum() == pytest.approx(-(rows @ np.log(popular)).sum(), rel=0.01)


def test_neighbors_kept_follows_the_definition():
    rows = some_rows(40)
    rows.data *= np.random.default_rng(4).uniform(0.9, 1.1, rows.nnz)  # no two distances are equal
    rows = unit_rows(rows)
    codes = np.random.default_rng(3).normal(size=(40, 2))
    k, n = 5, 40

    def order(points):
        distances = np.square(points[:, None] - points).sum(2)
        np.fill_diagonal(distances, -1)
        return np.argsort(distances, axis=1, kind="stable")

    def penalty(near, far):
        """Sum of rank − k over those among the k nearest of `near` that are not in `far`."""
        rank = np.argsort(far, axis=1)
        return sum(max(0, rank[i, j] - k) for i in range(n) for j in near[i, 1 : k + 1])

    dense = rows.toarray().astype(np.float64)
    scale = 2 / (n * k * (2 * n - 3 * k - 1))
    kept = neighbors_kept(rows, codes, k, 0)
    assert kept[0] == pytest.approx(1 - scale * penalty(order(codes), order(dense)))
    assert kept[1] == pytest.approx(1 - scale * penalty(order(dense), order(codes)))
    assert neighbors_kept(rows, dense, k, 0) == pytest.approx((1, 1))
