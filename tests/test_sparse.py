"""Sparse rows and batches against plain slicing of a dense array."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import DataError
from recsys.sparse import Batch, Rows, as_csr, row_digests

quick = settings(deadline=None, max_examples=50)


@st.composite
def matrices(draw):
    """Small CSR matrices with empty rows, stored zeros and negative values."""
    n_rows, n_columns = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    stored = np.array(draw(st.lists(st.booleans(), min_size=n_rows * n_columns, max_size=n_rows * n_columns)))
    rows, columns = np.nonzero(stored.reshape(n_rows, n_columns))
    values = np.array(
        draw(st.lists(st.sampled_from([0.0, -1.5, 2.0]), min_size=len(rows), max_size=len(rows))), dtype=np.float32
    )
    return sp.csr_matrix((values, (rows, columns)), shape=(n_rows, n_columns))


def dense(n_rows, segments, columns, values, n_columns, missing):
    """Scatter entries into a dense array filled with `missing`."""
    array = np.full((n_rows, n_columns), missing, dtype=np.float32)
    array[segments, columns] = values
    return array


def rows_of(matrix, missing):
    coo = sp.coo_matrix(matrix)
    return dense(matrix.shape[0], coo.row, coo.col, coo.data, matrix.shape[1], missing)


@quick
@given(matrices(), st.data())
def test_a_batch_is_the_dense_slice(matrix, draw):
    wanted = draw.draw(st.lists(st.integers(0, matrix.shape[0] - 1), max_size=8))  # any order, with repeats, or empty
    rows = Rows(matrix)
    batch = rows.batch(torch.tensor(wanted, dtype=torch.int64))
    expected = rows_of(matrix, missing=7)[wanted]
    found = dense(
        len(wanted), batch.segments.numpy(), batch.columns.numpy(), batch.values.numpy(), batch.n_columns, missing=7
    )
    np.testing.assert_array_equal(found, expected)

    assert len(batch) == len(wanted)
    assert batch.rows.tolist() == wanted
    counts = np.diff(matrix.indptr)[wanted]
    assert batch.offsets.tolist() == [0, *np.cumsum(counts).tolist()]
    assert batch.segments.tolist() == np.repeat(np.arange(len(wanted)), counts).tolist()
    assert batch.density == counts.sum() / max(1, len(wanted) * matrix.shape[1])
    assert {part.dtype for part in (batch.offsets, batch.columns, batch.segments)} == {torch.int64}
    assert batch.values.dtype == torch.float32


@quick
@given(matrices(), st.integers(0, 6), st.integers(0, 8))
def test_a_slice_is_the_batch_of_consecutive_rows(matrix, start, length):
    rows = Rows(matrix)
    start = min(start, len(rows))
    found = rows.slice(start, start + length)
    expected = rows.batch(torch.arange(start, min(start + length, len(rows))))
    for name in ("rows", "offsets", "columns", "values", "segments"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)


@quick
@given(matrices())
def test_the_entries_of_a_row_lie_between_its_offsets(matrix):
    batch = Rows(matrix).slice(0, matrix.shape[0])
    for row in range(matrix.shape[0]):
        here = slice(int(batch.offsets[row]), int(batch.offsets[row + 1]))
        assert batch.columns[here].tolist() == matrix[row].indices.tolist()
        assert batch.values[here].tolist() == matrix[row].data.tolist()


def test_rows_know_their_size():
    rows = Rows(sp.csr_matrix(np.array([[0, 1, 2], [0, 0, 0.0]])))
    assert (len(rows), rows.n_columns, rows.nnz) == (2, 3, 2)
    assert rows.device == torch.device("cpu")
    assert len(Rows(sp.csr_matrix((0, 3))).slice(0, 5)) == 0


def test_rows_accept_read_only_arrays():
    matrix = sp.csr_matrix(np.array([[0, 1, 2], [3, 0, 0]], dtype=np.float32))
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    assert Rows(matrix).slice(0, 2).values.tolist() == [1, 2, 3]


def test_the_checksum_sees_shape_structure_and_values():
    eye = np.eye(3, dtype=np.float32)
    values, structure = eye.copy(), eye[[1, 0, 2]]
    values[2, 2] = 2
    sums = [Rows(sp.csr_matrix(array)).checksum() for array in (eye, values, structure, np.eye(3, 4), np.eye(4, 3))]
    assert len(set(sums)) == len(sums)
    assert Rows(sp.csr_matrix(eye)).checksum() == sums[0]


def test_a_batch_cannot_be_changed():
    batch = Rows(sp.csr_matrix(np.eye(2, dtype=np.float32))).slice(0, 1)
    assert isinstance(batch, Batch)
    with pytest.raises(AttributeError):
        batch.values = torch.zeros(1)


# as_csr


def assert_canonical(csr, expected):
    assert isinstance(csr, sp.csr_matrix)
    assert (csr.dtype, csr.indices.dtype, csr.indptr.dtype) == (np.float32, np.int32, np.int32)
    assert sp.csr_matrix((csr.data, csr.indices, csr.indptr), shape=csr.shape).has_canonical_format
    np.testing.assert_array_equal(csr.toarray(), expected)


LAYOUTS = [sp.csr_matrix, sp.csr_array, sp.csc_matrix, sp.csc_array, sp.coo_matrix, sp.coo_array]
LAYOUTS += [sp.lil_matrix, sp.lil_array, sp.dok_matrix, sp.dok_array, sp.bsr_array, sp.dia_array]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int8, bool])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_as_csr_takes_every_format_and_type(layout, dtype):
    array = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 1]]).astype(dtype)
    assert_canonical(as_csr(layout(array)), array.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", [sp.csr_matrix, sp.csr_array])
@pytest.mark.parametrize(
    ("indices", "expected"),
    [([2, 0, 1], [[2, 0, 1], [0, 3, 0]]), ([1, 1, 0], [[0, 3, 0], [3, 0, 0]])],
    ids=["unsorted", "duplicates"],
)
def test_as_csr_sorts_and_merges_without_touching_the_matrix(layout, dtype, indices, expected):
    data = np.array([1, 2, 3], dtype=dtype)
    matrix = layout((data, np.array(indices, dtype=np.int32), np.array([0, 2, 3], dtype=np.int32)), shape=(2, 3))
    assert_canonical(as_csr(matrix), expected)
    assert matrix.data.tolist() == [1, 2, 3]
    assert matrix.indices.tolist() == indices
    assert matrix.indptr.tolist() == [0, 2, 3]
    assert matrix.dtype == dtype


@pytest.mark.parametrize("layout", [sp.csr_matrix, sp.csr_array])
def test_as_csr_narrows_long_indices(layout):
    matrix = layout(np.eye(3, dtype=np.float32))
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    assert_canonical(as_csr(matrix), np.eye(3))
    assert matrix.indices.dtype == np.int64


def test_as_csr_returns_what_needs_no_change():
    matrix = sp.csr_matrix(np.eye(3, dtype=np.float32))
    assert as_csr(matrix) is matrix


@quick
@given(matrices())
def test_as_csr_keeps_stored_zeros(matrix):
    for layout in (sp.csr_array, sp.csc_matrix, sp.coo_array):
        csr = as_csr(layout(matrix))
        assert csr.nnz == matrix.nnz
        np.testing.assert_array_equal(rows_of(csr, missing=7), rows_of(matrix, missing=7))


def test_as_csr_takes_one_row_of_a_sparse_array():
    array = sp.csr_array(np.array([[0, 1, 2], [3, 0, 0]], dtype=np.float32))
    assert array[0].ndim == 1
    assert_canonical(as_csr(array[0]), [[0, 1, 2]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_as_csr_refuses_values_that_are_not_finite(bad):
    with pytest.raises(DataError, match="item_users holds 2 stored values that are NaN or infinite"):
        as_csr(sp.coo_matrix(np.array([[bad, 1], [0, bad]])), name="item_users")


@pytest.mark.parametrize(
    "other", [np.eye(2), np.matrix([[1]]), [[1, 0]], None, torch.eye(2)], ids=lambda o: str(type(o))
)
def test_as_csr_refuses_what_is_not_sparse(other):
    with pytest.raises(
        DataError, match=rf"user_items must be a scipy sparse matrix .* got {type(other).__name__}; wrap"
    ):
        as_csr(other)


# Digests of rows


@given(matrices())
@settings(max_examples=60, deadline=None)
def test_rows_have_one_digest_if_and_only_if_they_are_equal(matrix):
    digests, rows = row_digests(matrix), [dict(zip(r.indices, r.data, strict=True)) for r in matrix]
    assert digests.dtype == np.uint64
    for one, digest in zip(rows, digests, strict=True):
        assert (digest == 0) == (not one)
        for other, another in zip(rows, digests, strict=True):
            assert (one == other) == (digest == another)


def test_a_digest_reads_columns_and_values_in_any_order():
    matrix = sp.csr_matrix(np.array([[1, 0, 2, 0], [2, 0, 1, 0], [0, 1, 2, 0], [1, 0, 2, 0]], dtype=np.float32))
    first, *others, again = row_digests(matrix)
    assert first == again
    assert len({first, *others}) == 3
    backwards = sp.csr_matrix((np.float32([2, 1]), [2, 0], [0, 2]), shape=(1, 4))
    assert row_digests(backwards) == first
    signs = sp.csr_matrix((np.float32([0, -0.0]), [1, 1], [0, 1, 2]), shape=(2, 4))
    assert len(set(row_digests(signs))) == 1


def test_a_row_has_the_same_digest_whatever_stands_beside_it():
    matrix = as_csr(sp.random(9000, 30, density=0.2, format="csr", random_state=0))
    whole = row_digests(matrix)
    np.testing.assert_array_equal(whole[5000:], row_digests(matrix[5000:]))
    np.testing.assert_array_equal(whole[::-1], row_digests(matrix[::-1]))
    assert len(set(whole)) > 8900
    assert row_digests(matrix[:0]).shape == (0,)
