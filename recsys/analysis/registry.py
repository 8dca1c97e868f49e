"""The analyses by the names that `recsys analyze --what` takes."""

from __future__ import annotations

from typing import Final

from recsys.analysis import map_findings, reduction_findings
from recsys.analysis.findings import Analysis

ANALYSES: Final[dict[str, Analysis]] = {
    "reduction": Analysis(
        "reconstruction and neighbors kept by the code, beside PCA, truncated SVD and Isomap",
        reduction_findings.findings,
    ),
    "map": Analysis(
        "users and items in two dimensions, and walks from one user's taste to another's", map_findings.findings
    ),
}
"""In the order of the page."""
