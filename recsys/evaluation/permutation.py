"""The permutation test of paired models: p-values of any size, for many pairs at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_BLOCK: Final = 2**22
"""Draws in memory at a time."""
_CACHED: Final = 2**18
"""Draws that a processor's cache holds as float64."""
_FEW: Final = 100
"""Swaps that must reach a difference for their share to be taken as its p-value: its standard error is a tenth."""
_TILTED: Final = 1_000
"""Least number of tilted swaps: the standard error of a p-value is a tenth of it, or less."""
_STEPS: Final = 8
_SHOWN: Final = 0.0001
"""Smallest p-value that is written as a number."""


def p_values(sums: Floats, pairs: Sequence[tuple[int, int]], resamples: int, rng: np.random.Generator) -> Floats:
    """Return the two-sided p-value of each pair: how often swapping labels at random gives a difference as large.

    The two labels of every user are swapped or not, with equal odds. What is compared are the differences of the sums:
    that of two means, or of their roots, grows with them. A share of `resamples` swaps cannot tell p-values below
    1 / resamples apart, which the correction for many pairs multiplies, so pairs that few of the swaps reach get
    their p-values from tilted ones (`_tails`).

    Args:
        sums: (n_users, n_models), of which a model's value is a growing function of the column's sum.
        pairs: places of models.
        resamples: number of swaps.
    """
    left, right = (np.array(side) for side in zip(*pairs, strict=True))
    totals, sizes = sums.sum(0), np.abs(sums).sum(0)
    # A little less than was observed, so that rounding does not separate equal differences.
    least = np.abs(totals[left] - totals[right]) - 1e-11 * (sizes[left] + sizes[right])
    reached, n = np.zeros(len(pairs)), len(sums)
    for rows in blocks(resamples, max(n, len(pairs))):
        bits = np.unpackbits(rng.integers(0, 256, size=(rows, -(-n // 8)), dtype=np.uint8), axis=1)[:, :n]
        swapped = (2.0 * bits - 1.0) @ sums  # a pair's is the difference of two columns
        reached += (np.abs(swapped[:, left] - swapped[:, right]) >= least).sum(0)
    p: Floats = (1 + reached) / (1 + resamples)  # the observed labels are one of the draws
    rare = [place for place, count in enumerate(reached) if count < _FEW]
    if rare:
        p[rare] = _tails(sums, [pairs[place] for place in rare], least[rare], max(_TILTED, resamples // 10), rng)
    return p


def p_in_words(p: float) -> str:
    """Return `p = 0.0123`, or `p < 0.0001` where four digits would show another value than it has."""
    return f"p = {p:.4f}" if p >= _SHOWN else f"p < {_SHOWN}"


def blocks(resamples: int, width: int) -> Iterator[int]:
    """Yield how many of the resamples to draw at a time, if each takes `width` numbers."""
    step = max(1, _BLOCK // width)
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def _tails(
    sums: Floats, pairs: Sequence[tuple[int, int]], least: Floats, draws: int, rng: np.random.Generator
) -> Floats:
    """Return the p-values of differences that are rarely reached, from swaps that favor the observed direction.

    A user whose two values differ by g keeps the direction of the whole difference with the odds exp(2t|g|). t makes
    that difference the expected one (exponential tilting, Siegmund 1976). A swap with the difference S counts by how
    much likelier it is under equal odds, exp(Σ log cosh(tg) − tS). That is importance sampling: no approximation, and
    right in the mean. About half of the swaps reach the difference however rare it is. The observed labels are one of
    the draws here too (Harrison 2012). By symmetry the other direction is as likely.
    """
    n, tilted = len(sums), [_tilt(_gaps(sums, pair), end) for pair, end in zip(pairs, least, strict=True)]
    tilts, norms = np.array(tilted).T
    counted = np.exp(norms - tilts * least)
    for rows in blocks(draws, n):
        uniform = rng.random((rows, n), dtype=np.float32)  # the same for all pairs
        for place, pair in enumerate(pairs):
            swapped = _tilted(_gaps(sums, pair), tilts[place], uniform)
            counted[place] += np.exp(norms[place] - tilts[place] * swapped[swapped >= least[place]]).sum()
    p: Floats = np.clip(2 * counted / (1 + draws), np.finfo(np.float64).tiny, 1.0)  # it is never 0
    return p


def _gaps(sums: Floats, pair: tuple[int, int]) -> Floats:
    """Return how much the values of each user differ."""
    return np.abs(sums[:, pair[0]] - sums[:, pair[1]])


def _tilted(gaps: Floats, tilt: float, uniform: npt.NDArray[np.float32]) -> Floats:
    """Return the differences of swaps that are drawn with a tilt, one for each row of uniform numbers."""
    likely = (1 / (1 + np.exp(-2 * tilt * gaps))).astype(np.float32)
    step = max(1, _CACHED // len(gaps))
    parts = (uniform[start : start + step] < likely for start in range(0, len(uniform), step))
    swapped: Floats = 2 * np.concatenate([part.astype(np.float64) @ gaps for part in parts]) - gaps.sum()
    return swapped


def _tilt(gaps: Floats, expected: float) -> tuple[float, float]:
    """Return t with Σ g tanh(tg) = `expected` for gaps g ≥ 0, and Σ log cosh(tg).

    The first sum is concave for t > 0, so Newton's method rises to the solution from where the tangent at 0 has it. A
    smaller t, where the differences are nearly all of one sign and t is infinite, is as right.
    """
    tilt = float(expected / (gaps @ gaps))
    for _ in range(_STEPS):
        mean = np.tanh(tilt * gaps)
        step = float((expected - gaps @ mean) / (gaps**2 @ (1 - mean**2)))
        tilt += step
        if step <= 1e-3 * tilt:
            break
    return tilt, float((np.logaddexp(tilt * gaps, -tilt * gaps) - np.log(2)).sum())
