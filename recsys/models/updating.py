"""Yesterday's inverse made today's: the rows that differ are worked into it, exactly (Woodbury).

The linear autoencoders keep B = I − P diag(s) with s = (1 − b) / diag P. From B and diag P, P = M⁻¹ of M = G + diag Λ
is found again. Let the rows that came be those of V with sign 1, and those that went with sign −1, C the diagonal
matrix of signs. Of a row that changed, the earlier one went and the later one came. Then

    (M + Vᵀ C V)⁻¹ = P − W (I + C V W)⁻¹ C Wᵀ,   W = P Vᵀ,

which takes n_items² operations per row of V in place of n_items³. Where Λ depends on diag G (EDLAE and those after it)
its change is worked in too: V is then the identity's rows of all items that the changed rows hold, C the change of M
among them. That is also done where these are fewer than the rows. A new item begins with M_jj = Λ_j, P_jj = 1 / Λ_j.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.errors import ConfigError, warn
from recsys.models.warm_start import places_of
from recsys.sparse import row_digests

PAYS_BELOW = 0.25
"""Rank of the change, per item, up to which an update is faster than a full fit by a good margin (measured)."""
TOLERANCE: Final = {"float64": 1e-5, "float32": 1e-3}
"""Largest error of a weight, per largest weight, by `precision`; a full fit in float32 is no better."""
_CHECKED = 16
"""Columns in which the error is looked at."""
_BLOCK = 1024


class Gram(NamedTuple):
    """M = G + diag Λ, as the rows of which G is made and Λ."""

    rows: sp.csr_matrix
    """(n, n_items) float64, weighed."""
    penalty: Tensor
    """(n_items,) Λ, float64."""

    def times(self, table: Tensor) -> Tensor:
        """Return M @ table, float64."""
        product = self.rows.T @ (self.rows @ table.cpu().numpy())
        return torch.from_numpy(product) + self.penalty[:, None] * table.cpu()


def updated_inverse(model: Any, start: Any, matrix: sp.csr_matrix, gram: Gram) -> tuple[Tensor, int] | None:
    """Return P of the rows of a model that is being fitted, made of that of an earlier one; and how many rows differ.

    None where a full fit is to be made: the earlier model is another or has kept no rows, more differs than pays, or
    the result would not be exact enough. All but what does not pay is said in a warning.

    Args:
        model: of the linear family; it has its users, items and hyperparameters.
        start: fitted.
        matrix: (n_users, n_items) what the model is fitted to.
        gram: what P is the inverse of.

    Raises:
        ConfigError: `start` is a model of another class.
        DataError: nothing says which item is which.
    """
    if type(start) is not type(model):
        raise ConfigError(
            f"a {type(model).__name__} starts from a {type(model).__name__}, not a {type(start).__name__}"
        )
    if reason := _why_not(model, start):
        warn(f"{type(model).__name__} is fitted in full, not from the earlier model, {reason}")
        return None
    n = matrix.shape[1]
    places = places_of(model, start)["items"]
    gone = np.setdiff1d(np.arange(start.n_items_), places)
    source = np.concatenate([places, gone])
    earlier, later = _moved(start.rows_, source), _moved(matrix, np.arange(n), len(source))
    came, went = _difference(earlier, later)
    change = _change(model, earlier[went], later[came], earlier, gram)
    if change.rank > PAYS_BELOW * n:
        return None
    inverse = _inverse_of(start, source, change.before, model.torch_precision())
    _work_in(inverse, change)
    if len(gone):
        inverse = inverse[:n, :n].clone()
    error = _error(inverse, gram, change)
    if not error <= TOLERANCE[model.precision]:
        warn(
            f"{type(model).__name__} is fitted in full: an update of the earlier model would be off by {error:.1g} of "
            f"its largest weight (at most {TOLERANCE[model.precision]:g} is allowed)"
        )
        return None
    return inverse, len(came) + len(went)


def _why_not(model: Any, start: Any) -> str:
    if getattr(start, "rows_", None) is None:
        return "which has kept no rows to compare with: set keep_rows=True, and give no user_weights"
    ignored = {"device", "precision", "keep_rows"}
    if model.weighed_rows(start.rows_[:0]).shape != (0, start.n_items_):
        return f"as a {type(model).__name__} adds rows or columns of its own"
    own, theirs = model.params(), start.params()
    differ = [name for name in own if name not in ignored and own[name] != theirs[name]]
    if differ:
        return f"which has other hyperparameters ({', '.join(f'{name} {theirs[name]}' for name in differ)})"
    return ""


def _moved(matrix: sp.csr_matrix, source: npt.NDArray[np.int64], width: int | None = None) -> sp.csr_matrix:
    """Return rows whose column j is column source[j] of a matrix, none where that is -1."""
    width = len(source) if width is None else width
    place = np.full(matrix.shape[1], -1)
    place[source[source >= 0]] = np.flatnonzero(source >= 0)
    moved = sp.csr_matrix((matrix.data, place[matrix.indices], matrix.indptr), shape=(matrix.shape[0], width))
    moved.sort_indices()
    return moved


def _difference(earlier: sp.csr_matrix, later: sp.csr_matrix) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows of the second that the first lacks, and those of the first that the second lacks.

    Rows are compared by what they hold: nobody's name is needed, and an order means nothing.
    """
    digests = row_digests(later), row_digests(earlier)
    distinct, of = np.unique(np.concatenate(digests), return_inverse=True)
    parts = of[: len(digests[0])], of[len(digests[0]) :]
    counts = [np.bincount(part, minlength=len(distinct)) for part in parts]
    both = np.minimum(*counts)
    found = []
    for matrix, part, own in zip((later, earlier), parts, counts, strict=True):
        number = np.empty(len(part), np.int64)  # of equal rows, from 0
        number[np.argsort(part, kind="stable")] = np.arange(len(part)) - np.repeat(np.cumsum(own) - own, own)
        found.append(np.flatnonzero((number >= both[part]) & (np.diff(matrix.indptr) > 0)))
    return found[0], found[1]


class _Change(NamedTuple):
    """M_later − M_earlier = Vᵀ C V, over the items of both."""

    before: Gram
    rows: sp.csr_matrix
    """V, (rank, n_all) float64."""
    middle: Tensor
    """C, (rank, rank)."""
    touched: npt.NDArray[np.int64]
    """Items whose part of M changes."""

    @property
    def rank(self) -> int:
        return int(self.rows.shape[0])


def _change(model: Any, went: sp.csr_matrix, came: sp.csr_matrix, earlier: sp.csr_matrix, gram: Gram) -> _Change:
    weighed = [model.weighed_rows(rows) for rows in (came, went)]
    both = sp.csr_matrix(sp.vstack(weighed))
    signs = np.repeat([1.0, -1.0], [len(came.indptr) - 1, len(went.indptr) - 1])
    before_rows = model.weighed_rows(earlier)
    before = Gram(before_rows, model._penalty(energy_of(before_rows)))
    n_all, n = both.shape[1], len(gram.penalty)
    # Items that are gone keep Λ of nothing: their part of M is cut off in the end.
    after = torch.cat([gram.penalty, model._penalty(torch.zeros(n_all - n, dtype=torch.float64))])
    moved = (after - before.penalty).numpy()
    touched = np.union1d(both.indices, np.flatnonzero(moved)).astype(np.int64)
    if not moved.any() and both.shape[0] <= len(touched):
        return _Change(before, both, torch.diag(torch.from_numpy(signs)), touched)
    local = sp.csr_matrix(both[:, touched])
    middle = (local.T @ sp.diags_array(signs) @ local).toarray() + np.diag(moved[touched])
    unit = sp.csr_matrix((np.ones(len(touched)), (range(len(touched)), touched)), shape=(len(touched), n_all))
    return _Change(before, unit, torch.from_numpy(middle), touched)


def energy_of(rows: sp.csr_matrix) -> Tensor:
    """Return diag G of weighed rows, (n_items,) float64."""
    return torch.from_numpy(np.bincount(rows.indices, weights=rows.data**2, minlength=rows.shape[1]))


def _inverse_of(start: Any, source: npt.NDArray[np.int64], before: Gram, dtype: torch.dtype) -> Tensor:
    """Return P of an earlier model, its column j being that of item source[j]; of a new item (-1), 1 / Λ_j alone."""
    device, n = start.weights_.device, len(source)
    known = torch.from_numpy(np.flatnonzero(source >= 0)).to(device)
    at = torch.from_numpy(source[source >= 0]).to(device)
    own = torch.from_numpy(start.inverse_diagonal_).to(device)
    energy, penalty = (tensor.to(device)[known] for tensor in (energy_of(before.rows), before.penalty))
    own = own[at]
    share = start._share(start._diagonal(own, penalty, energy)) / own
    counts = np.maximum(np.bincount(start.rows_.indices, minlength=start.n_items_), 1) ** start.item_exponent
    scale = torch.from_numpy(counts).to(device)[at]
    inverse = torch.zeros(n, n, dtype=dtype, device=device)
    for first in range(0, len(known), _BLOCK):
        some = slice(first, first + _BLOCK)
        block = start.weights_[at[some]].index_select(1, at).double()
        # P_ij = −B_ij / s_j beside the diagonal, and the scores' B is D^α B D^−α.
        block.mul_(scale).div_(scale[some, None]).div_(-share)
        inverse[known[some][:, None], known] = block.to(dtype)
    for first in range(0, n, _BLOCK):  # B was rounded to float32: both halves tell of the same number
        some = slice(first, first + _BLOCK)
        mean = (inverse[some, first:] + inverse[first:, some].T) / 2
        inverse[some, first:] = mean
        inverse[first:, some] = mean.T
    diagonal = 1.0 / before.penalty.to(device)
    diagonal[known] = own
    inverse.diagonal().copy_(diagonal)
    return inverse


def _work_in(inverse: Tensor, change: _Change) -> None:
    """Work a change of M into P, in its own memory."""
    if not change.rank:
        return
    device, dtype = inverse.device, inverse.dtype
    offsets, columns = (torch.from_numpy(index.astype(np.int64)) for index in (change.rows.indptr, change.rows.indices))
    entries = (
        columns.to(device),
        offsets.to(device),
        torch.from_numpy(change.rows.data).to(device=device, dtype=dtype),
    )

    def through(table: Tensor) -> Tensor:
        """Return V @ table."""
        columns, offsets, values = entries
        return F.embedding_bag(columns, table, offsets, per_sample_weights=values, mode="sum", include_last_offset=True)

    turned = through(inverse)  # Wᵀ, P being symmetric
    middle = change.middle.to(device=device, dtype=dtype)
    inner = torch.eye(change.rank, dtype=dtype, device=device) + middle @ through(turned.T.contiguous())
    solved = torch.linalg.solve_ex(inner, middle @ turned).result  # of a singular matrix NaN, which is seen later
    for first in range(0, len(inverse), _BLOCK):
        some = slice(first, first + _BLOCK)
        inverse[some].addmm_(turned[:, some].T, solved, alpha=-1.0)


def _error(inverse: Tensor, gram: Gram, change: _Change) -> float:
    """Return the largest error of a weight in some columns, per largest weight there; NaN where P is not finite.

    With R = M P − I in these columns, P is off by P R, but for what is quadratic in the error.
    """
    n = len(inverse)
    most = change.touched[change.touched < n]
    chosen = np.union1d(
        np.linspace(0, n - 1, _CHECKED // 2).astype(np.int64), most[:: max(1, 2 * len(most) // _CHECKED)]
    )
    columns = inverse[:, torch.from_numpy(chosen).to(inverse.device)].cpu().double()
    place = torch.from_numpy(chosen), torch.arange(len(chosen))
    rest = gram.times(columns)
    rest[place] -= 1.0
    own = columns[place]
    off = (inverse @ rest.to(inverse)).cpu().double() / own
    weights = columns / own
    weights[place] = 0.0
    return float(off.abs().max() / weights.abs().max().clamp_min(1e-12))
