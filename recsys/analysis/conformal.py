"""Scores with the influence of length taken out, and p-values of them against users known to be normal."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

NEIGHBORS: Final = 100
"""Reference users of the nearest lengths whose scores are what a score is held against."""
LEAST: Final = 20
"""Calibration users without which a stratum of lengths is not made."""


def standardized(scores: Floats, lengths: Floats, reference: Floats, reference_lengths: Floats) -> Floats:
    """Return (score − mean) / standard deviation of the reference scores of the nearest lengths, (n,).

    The nearest are `NEIGHBORS` by the logarithm of the length, or all if there are fewer: a regression of mean and
    spread on the length by nearest neighbors. Beyond the longest reference it goes on as a constant.
    """
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(NEIGHBORS, len(reference)))
    index.fit(np.log1p(reference_lengths)[:, None])
    distinct, place = np.unique(lengths, return_inverse=True)
    near = reference[index.kneighbors(np.log1p(distinct)[:, None], return_distance=False)]
    spread = near.std(axis=1)
    spread[spread <= 0] = max(float(reference.std()), np.finfo(np.float64).tiny)
    return np.asarray((scores - near.mean(axis=1)[place]) / spread[place])


def conformal_p(scores: Floats, calibration: Floats) -> Floats:
    """Return (1 + #{calibration ≥ score}) / (n + 1) of each score (Vovk et al. 2005; Bates et al. 2023).

    If a score and those of calibration are exchangeable, P(p ≤ α) ≤ α for every α. The least p is 1 / (n + 1).
    """
    ordered = np.sort(calibration)
    at_least = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1.0 + at_least) / (len(ordered) + 1.0))


def conformal_p_within(
    scores: Floats, lengths: Floats, calibration: Floats, calibration_lengths: Floats, strata: int
) -> Floats:
    """Return `conformal_p` of each score among the calibration users of its stratum of lengths.

    Strata are cut at quantiles of the calibration users' lengths. There are fewer where one would hold fewer than
    `LEAST`, since the least p is 1 / (users of the stratum + 1).
    """
    wanted = max(1, min(strata, len(calibration) // LEAST))
    shares = np.arange(1, wanted) / wanted
    cuts = np.unique(np.quantile(calibration_lengths, shares, method="inverted_cdf"))
    of_scores, of_calibration = (np.searchsorted(cuts, values) for values in (lengths, calibration_lengths))
    p = np.ones(len(scores))
    for stratum in np.unique(of_scores):
        own = calibration[of_calibration == stratum]
        if len(own) < LEAST:  # equal lengths may leave one nearly empty
            own = calibration
        members = of_scores == stratum
        p[members] = conformal_p(scores[members], own)
    return p


def adjusted(p: Floats) -> Floats:
    """Return the p-values of Benjamini and Hochberg (1995): those at most q are a list with a false share of about q.

    Conformal p-values of one calibration depend on each other positively, under which the bound holds (Bates et al.
    2023, theorem 2).
    """
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(p), dtype=np.float64) if len(p) else p
