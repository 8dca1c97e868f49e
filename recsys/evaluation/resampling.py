"""Bootstrap, sign-flip test and Holm's correction, on sums and counts of users.

Each user contributes a row of `sums` (n_users, n_models) and of `counts` (n_users,); a model's value is
Σ sums / Σ counts, or the root of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
RESAMPLES: Final = 10_000
"""Bootstrap samples and sign flips: enough to estimate a p-value of 0.05 to ± 0.002."""
_BLOCK: Final = 2**22
"""Draws in memory at a time."""


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return p-values corrected for multiple tests by Holm's step-down procedure (1979), in the same order."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def means(sums: Floats, counts: Floats, *, root: bool) -> Floats:
    """Return the values of sums (m, n_models) and counts (m,), (m, n_models)."""
    values: Floats = sums / counts[:, None]
    return np.sqrt(values.clip(0)) if root else values  # rounding may leave a sum of squares below 0


def resampled(sums: Floats, counts: Floats, resamples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return (resamples, n_models) sums and (resamples,) counts of users drawn with replacement."""
    n = len(counts)
    both = np.column_stack([sums, counts])
    drawn = np.empty((resamples, both.shape[1]))
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        places = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(places.ravel(), minlength=size * n).reshape(size, n)
        drawn[start : start + size] = times.astype(np.float64) @ both  # integers would take ten times as long
    return drawn[:, :-1], drawn[:, -1]


def p_values(
    sums: Floats,
    counts: Floats,
    pairs: Sequence[tuple[int, int]],
    resamples: int,
    rng: np.random.Generator,
    *,
    root: bool,
) -> Floats:
    """Return the p-value of each pair: how often swapping labels at random gives a difference as large."""
    left, right = (np.array(side) for side in zip(*pairs, strict=True))
    gaps, totals = sums[:, left] - sums[:, right], sums[:, left].sum(0) + sums[:, right].sum(0)

    def statistic(gap: Floats) -> Floats:
        one, other = (totals + gap) / 2, (totals - gap) / 2
        every = np.broadcast_to(counts.sum(), len(gap))
        result: Floats = np.abs(means(one, every, root=root) - means(other, every, root=root))
        return result

    observed = statistic(gaps.sum(0)[None])[0] * (1 - 1e-9)  # so that rounding does not separate equal differences
    reached, n = np.ones(len(pairs)), len(counts)
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        bits = np.unpackbits(rng.integers(0, 256, size=(size, -(-n // 8)), dtype=np.uint8), axis=1)[:, :n]
        reached += (statistic((2.0 * bits - 1.0) @ gaps) >= observed).sum(0)
    result: Floats = reached / (resamples + 1)
    return result


def interval(drawn: Floats, confidence: float) -> tuple[float, float]:
    """Return the percentile interval of drawn values, (n_resamples,)."""
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
