"""Top-N against a brute-force sort of every row."""

from unittest import mock

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys import ranking
from recsys.ranking import NO_ID, NO_SCORE, select, top_n
from tests.contract import csr, random_cells

ORDINARY = [-1.5, -1.0, 0.0, 0.5, 1.0]
STRANGE = [*ORDINARY, np.nan, np.inf, -np.inf, np.finfo(np.float32).max, -np.finfo(np.float32).max]


def brute_force(scores, n, exclude=None, candidates=None, exclude_ids=()):
    """The specification, row by row: best first, ties by lower id, no excluded id, NaN or -inf; -1 in empty slots."""
    candidates = np.arange(scores.shape[1]) if candidates is None else candidates
    ids, values = np.full((len(scores), n), -1), np.full((len(scores), n), -np.finfo(np.float32).max, dtype=np.float32)
    for row, line in enumerate(scores):
        own = set() if exclude is None else set(exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]].tolist())
        kept = [
            (float(score), int(item))
            for score, item in zip(line, candidates, strict=True)
            if not np.isnan(score) and score > -np.inf and item not in own and item not in set(exclude_ids)
        ]
        order = np.lexsort(([item for _, item in kept], [-score for score, _ in kept]))[:n]
        ids[row, : len(order)] = [kept[place][1] for place in order]
        values[row, : len(order)] = [kept[place][0] for place in order]
    return ids, values


def ranked(scores, n, **options):
    """`top_n` over a table of scores, which is not changed."""
    table = torch.from_numpy(scores)
    return top_n(lambda rows, out: table[rows].clone(), len(scores), scores.shape[1], n, **options)


def agree(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert found[0].dtype == np.int32
    assert found[1].dtype == np.float32


@st.composite
def problems(draw):
    """Scores with many ties, a list length, and any combination of masks."""
    n_rows, n_ids = draw(st.integers(1, 5)), draw(st.integers(1, 14))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    candidates = None
    if draw(st.booleans()):
        candidates = np.sort(rng.choice(n_ids, size=draw(st.integers(1, n_ids)), replace=False)).astype(np.int64)
    width = n_ids if candidates is None else len(candidates)
    scores = rng.choice(draw(st.sampled_from([ORDINARY, STRANGE, [1.0]])), size=(n_rows, width)).astype(np.float32)
    options = {"candidates": candidates}
    if draw(st.booleans()):  # including stored zeros
        options["exclude"] = csr(random_cells(rng, n_rows, n_ids, draw(st.sampled_from([0.0, 0.3, 1.0])), counts=True))
    if draw(st.booleans()):
        options["exclude_ids"] = rng.choice(n_ids, size=draw(st.integers(0, n_ids)), replace=False).astype(np.int64)
    return scores, draw(st.integers(1, n_ids + 3)), options


@given(problem=problems(), score_bytes=st.sampled_from([1, 100, ranking.SCORE_BYTES]))
@settings(max_examples=300, deadline=None)
def test_lists_equal_a_brute_force_sort(problem, score_bytes):
    scores, n, options = problem
    with mock.patch.object(ranking, "SCORE_BYTES", score_bytes):
        found = ranked(scores, n, **options)
    agree(found, brute_force(scores, n, **{**options, "exclude_ids": options.get("exclude_ids", ())}))


def test_many_rows_with_ties_across_every_cut():
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 4, (50, 300)).astype(np.float32)
    exclude = csr(random_cells(rng, 50, 300, 0.2))
    for n in (1, 2, 74, 299, 300):
        agree(ranked(scores, n, exclude=exclude), brute_force(scores, n, exclude=exclude))


def test_blocks_are_no_larger_than_the_budget_and_cover_every_row_once():
    scores = np.random.default_rng(4).normal(size=(11, 6)).astype(np.float32)
    asked = []

    def block(rows, out):
        asked.append((rows.start, rows.stop))
        return torch.from_numpy(scores[rows])

    with mock.patch.object(ranking, "SCORE_BYTES", 4 * 6 * 3):
        found = top_n(block, 11, 6, 2, exclude=sp.csr_matrix((11, 6), dtype=np.float32))
    assert asked == [(0, 3), (3, 6), (6, 9), (9, 11)]
    agree(found, brute_force(scores, 2))


def test_a_stored_zero_is_excluded():
    ids, _ = ranked(np.array([[3.0, 2.0, 1.0]], dtype=np.float32), 3, exclude=csr([[0.0, np.nan, np.nan]]))
    assert ids.tolist() == [[1, 2, -1]]


def test_if_everything_is_excluded_all_slots_are_empty():
    scores = np.ones((2, 3), dtype=np.float32)
    for options in ({"exclude": csr(np.ones((2, 3)))}, {"exclude_ids": np.arange(3)}):
        ids, values = ranked(scores, 5, **options)
        assert (ids == NO_ID).all()
        assert (values == NO_SCORE).all()
    assert NO_ID == -1
    assert -np.finfo(np.float32).max == NO_SCORE


def test_scores_that_are_not_finite():
    scores = np.array([[np.nan, 1.0, np.inf, -np.inf, np.inf]], dtype=np.float32)
    ids, values = ranked(scores, 5)
    assert ids.tolist() == [[2, 4, 1, -1, -1]]
    assert values.tolist() == [[np.inf, np.inf, 1.0, NO_SCORE, NO_SCORE]]


def test_excluded_ids_outside_the_candidates_change_nothing():
    scores = np.array([[1.0, 2.0]], dtype=np.float32)
    candidates = np.array([2, 5])
    exclude = csr([[1.0, 1.0, np.nan, 1.0, 1.0, np.nan, np.nan, 1.0]])
    for extra in (np.array([0, 7]), np.array([], dtype=np.int64)):
        ids, _ = ranked(scores, 2, candidates=candidates, exclude=exclude, exclude_ids=extra)
        assert ids.tolist() == [[5, 2]]


@pytest.mark.parametrize(("rows", "candidates", "n"), [(0, 4, 2), (3, 0, 2), (3, 4, 0)])
def test_without_rows_candidates_or_slots_the_lists_are_empty(rows, candidates, n):
    ids, values = top_n(lambda *_: torch.zeros(rows, candidates), rows, candidates, n)
    assert ids.shape == values.shape == (rows, n)
    assert (ids == NO_ID).all()


@given(
    n_rows=st.integers(1, 4),
    n_columns=st.integers(1, 12),
    share=st.floats(0, 1),
    kinds=st.sampled_from([ORDINARY, STRANGE, [0.0, -0.0]]),
    seed=st.integers(0, 9999),
)
@settings(max_examples=200, deadline=None)
def test_select_equals_a_stable_sort(n_rows, n_columns, share, kinds, seed):
    scores = np.random.default_rng(seed).choice(kinds, size=(n_rows, n_columns)).astype(np.float32)
    n = max(1, round(share * n_columns))
    values, columns = select(torch.from_numpy(scores.copy()), n)
    floor = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-floor, axis=1, kind="stable")[:, :n]
    expected = np.take_along_axis(floor, order, axis=1)
    np.testing.assert_array_equal(values.numpy(), expected)
    filled = expected > -np.inf  # columns of -inf have no meaning
    np.testing.assert_array_equal(columns.numpy()[filled], order[filled])
