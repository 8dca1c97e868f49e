"""The analyses by the names that `recsys analyze --what` takes."""

from __future__ import annotations

from typing import Final

from recsys.analysis import (
    density_findings,
    generate_findings,
    labels_findings,
    map_findings,
    oddness_findings,
    reduction_findings,
    representation_findings,
    segments_findings,
)
from recsys.analysis.findings import Analysis

ANALYSES: Final[dict[str, Analysis]] = {
    "reduction": Analysis(
        "reconstruction and neighbors kept by the code, beside PCA, truncated SVD and Isomap",
        reduction_findings.findings,
    ),
    "map": Analysis(
        "users and items in two dimensions, and walks from one user's taste to another's", map_findings.findings
    ),
    "generate": Analysis(
        "users drawn from the model: how real, how useful and how near to training users they are",
        generate_findings.findings,
    ),
    "density": Analysis("log-likelihood of held-out histories, beside popularity", density_findings.findings),
    "anomalies": Analysis("users and items that the model explains worse than their like", oddness_findings.findings),
    "segments": Analysis("clusters of users, their typical items, and the metrics of each", segments_findings.findings),
    "labels": Analysis("properties of users, such as age, predicted from rows and codes", labels_findings.findings),
    "coverage": Analysis("who is rare in the code, and how good the lists are there", representation_findings.findings),
}
"""In the order of the page."""
